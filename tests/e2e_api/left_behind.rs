//! What an application's function leaves in a session that callers share.

use std::time::Duration;

use tonic::Code;

use crate::calls::{Bench, SCHEMA, batch, client, detail, execute, query, rows, text};
use crate::support::{Pair, Segue, eventually};
use segue::grpc::proto;
use segue::grpc::proto::value::Kind;

const WAIT: Duration = Duration::from_secs(20);

const TRAPS: &str = "
    CREATE SCHEMA other;
    CREATE TABLE other.note (id int4 PRIMARY KEY, body text);
    CREATE FUNCTION import() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        SET session_replication_role = replica;
        INSERT INTO public.note VALUES (100, 'by the function');
    END $$;
    CREATE FUNCTION temporary() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        CREATE TEMP TABLE note (id int4 PRIMARY KEY, body text);
    END $$;
    CREATE FUNCTION path() RETURNS text LANGUAGE sql
        AS $$ SELECT set_config('search_path', 'other, public', false) $$;
    CREATE FUNCTION set_tenant(it text) RETURNS text LANGUAGE sql
        AS $$ SELECT set_config('app.tenant', it, false) $$;
    CREATE FUNCTION tenant() RETURNS text LANGUAGE sql
        AS $$ SELECT coalesce(current_setting('app.tenant', true), '') $$;
    CREATE FUNCTION role() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET ROLE pg_monitor; END $$;
    CREATE FUNCTION become() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        SET SESSION AUTHORIZATION pg_monitor;
    END $$;
    CREATE FUNCTION lock_it() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(77) $$;
    CREATE FUNCTION unlock_all() RETURNS int LANGUAGE sql
        AS $$ SELECT pg_advisory_unlock_all(); SELECT pg_backend_pid() $$;
    CREATE FUNCTION listen() RETURNS void LANGUAGE plpgsql AS $$ BEGIN LISTEN somebody; END $$;
    CREATE FUNCTION cursor_held() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT id FROM public.note';
    END $$;
    CREATE FUNCTION prepare() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        FOR i IN 0..300 LOOP
            BEGIN EXECUTE format('PREPARE s%s AS SELECT 7', i);
            EXCEPTION WHEN duplicate_prepared_statement THEN END;
        END LOOP;
    END $$;
    CREATE FUNCTION prepare_one() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        PREPARE mine AS SELECT 7;
    END $$;
    CREATE TABLE numbered (id serial PRIMARY KEY, body text);
    CREATE FUNCTION last() RETURNS bigint LANGUAGE sql AS $$ SELECT lastval() $$;
    CREATE FUNCTION state() RETURNS text LANGUAGE sql AS $$
        SELECT concat_ws('|', current_user, session_user, current_setting('search_path'),
            current_setting('statement_timeout'), current_setting('session_replication_role'),
            (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors),
            (SELECT count(*) FROM pg_prepared_statements WHERE from_sql),
            (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
            (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND objid = 77),
            coalesce(current_setting('app.tenant', true), '')) $$;
    CREATE FUNCTION limits() RETURNS text LANGUAGE sql
        AS $$ SELECT set_config('statement_timeout', '98765', false) $$;";

/// One session for writes and as few for reads as may be, so that callers meet in them.
async fn bench() -> Bench {
    bench_with("").await
}

/// With more of the application's on both sides.
async fn bench_with(more: &str) -> Bench {
    let sql = format!("{SCHEMA} {TRAPS} {more}");
    let pair = Pair::fresh(&sql, &sql).await;
    let source = format!(
        "dsn = \"{}\"\nwrite_pool_max = 2\nread_pool_max = 2\npool_wait_max = \"20s\"",
        pair.source.dsn()
    );
    let target = format!("dsn = \"{}\"", pair.target.dsn());
    let mut segue = Segue::prepare_with(&source, &target, "[transactions]\nopen_max = 1");
    segue.init_in("shadow_read").await;
    segue.serve().await;
    Bench { sql: client(&segue).await, segue, pair }
}

/// What a call finds in its session, as text; more than once, so that each session is met.
async fn states(bench: &mut Bench) -> Vec<Vec<Kind>> {
    let mut found = Vec::new();
    for _ in 0..6 {
        let answer = bench.sql.execute(execute("SELECT state()")).await.unwrap().into_inner();
        found.extend(returned(&answer));
        found.extend(rows(&mut bench.sql, query("SELECT state()", vec![])).await.unwrap());
    }
    found.sort_by_key(|row| format!("{row:?}"));
    found.dedup();
    found
}

fn returned(answer: &proto::ExecuteResponse) -> Vec<Vec<Kind>> {
    let rows = answer.typed_rows();
    let kinds = |row: proto::Row| row.values.into_iter().map(|it| it.kind.unwrap()).collect();
    rows.into_iter().map(kinds).collect()
}

async fn insert(bench: &mut Bench, ids: std::ops::Range<i32>) {
    for id in ids {
        let write = format!("INSERT INTO note VALUES ({id}, 'by another caller')");
        bench.sql.execute(execute(&write)).await.unwrap_or_else(|error| panic!("{id}: {error:?}"));
    }
}

async fn count(bench: &Bench, table: &str) -> String {
    bench.pair.source.rows(&format!("SELECT count(*) FROM {table}")).await.remove(0)
}

/// Capture must not be something that a setting takes off.
#[tokio::test]
async fn a_function_that_sets_replica_mode_keeps_no_write_from_capture() {
    let mut bench = bench().await;
    for round in 0..4 {
        bench.sql.execute(execute("DELETE FROM note WHERE id = 100")).await.unwrap();
        bench.sql.execute(execute("SELECT import()")).await.unwrap();
        insert(&mut bench, round * 4..round * 4 + 4).await;
    }
    let missed = "SELECT id FROM note WHERE NOT EXISTS
        (SELECT FROM segue.outbox AS o WHERE o.key = ARRAY[note.id::text])";
    assert_eq!(bench.pair.source.rows(missed).await, [""; 0]);
}

#[tokio::test]
async fn writes_go_to_the_real_table_whatever_a_function_left_before() {
    let mut bench = bench().await;
    for (round, trap) in ["temporary", "path", "temporary", "role"].into_iter().enumerate() {
        let call = format!("SELECT {trap}()");
        bench.sql.execute(execute(&call)).await.unwrap();
        let from = i32::try_from(round).unwrap() * 10;
        insert(&mut bench, from..from + 10).await;
        assert_eq!(count(&bench, "public.note").await, (from + 10).to_string(), "{trap}");
    }
    assert_eq!(count(&bench, "other.note").await, "0");
}

/// Each by Execute and by Query, and in a transaction that spans calls, committed or not.
#[tokio::test]
async fn nothing_of_a_callers_session_is_found_by_the_next() {
    let mut bench = bench().await;
    let first = states(&mut bench).await;
    assert_eq!(first.len(), 1, "{first:?}");
    let traps = [
        "SELECT temporary()",
        "SELECT path()",
        "SELECT set_tenant('5')",
        "SELECT role()",
        "SELECT become()",
        "SELECT lock_it()",
        "SELECT listen()",
        "SELECT cursor_held()",
        "SELECT prepare()",
        "SELECT prepare_one()",
        "SELECT limits()",
    ];
    for trap in traps {
        bench.sql.execute(execute(trap)).await.unwrap_or_else(|error| panic!("{trap}: {error:?}"));
        assert_eq!(states(&mut bench).await, first, "{trap}");
        // What a read may not do it is refused.
        let _ = rows(&mut bench.sql, query(trap, vec![])).await;
        assert_eq!(states(&mut bench).await, first, "{trap} by Query");
        let _ = bench.sql.batch(batch(&[trap, "SELECT 1"])).await;
        assert_eq!(states(&mut bench).await, first, "{trap} in a batch");
        for commits in [true, false] {
            let id = bench.sql.begin(proto::BeginRequest::default()).await.unwrap();
            let id = id.into_inner().transaction_id;
            let inside = proto::ExecuteRequest {
                transaction: proto::TransactionSelector::open(id.clone()),
                ..execute(trap)
            };
            let _ = bench.sql.execute(inside).await;
            if commits {
                let _ = bench
                    .sql
                    .commit(proto::CommitRequest { transaction_id: id, ..Default::default() })
                    .await;
            } else {
                let end = proto::RollbackRequest { transaction_id: id };
                bench.sql.rollback(end).await.unwrap();
            }
            assert_eq!(states(&mut bench).await, first, "{trap} in a transaction, {commits}");
        }
    }
    insert(&mut bench, 0..20).await;
    assert_eq!(count(&bench, "public.note").await, "20");
}

/// Whoever has given the fence's lock up may not write any more: nobody knows what the control
/// row was meanwhile.
#[tokio::test]
async fn a_session_that_gave_the_fences_lock_up_is_closed() {
    let mut bench = bench().await;
    let answer = bench.sql.execute(execute("SELECT unlock_all()")).await.unwrap().into_inner();
    let [Kind::Int64(pid)] = returned(&answer).concat()[..] else { panic!("no process") };
    eventually("its process has ended", WAIT, || async {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE pid = {pid}");
        bench.pair.source.rows(&sql).await.is_empty().then_some(())
    })
    .await;
    insert(&mut bench, 0..5).await;
    // Those that follow hold it: no reset has given it up.
    bench.sql.execute(execute("SELECT set_tenant('5')")).await.unwrap();
    insert(&mut bench, 5..10).await;
    let lacking = "SELECT a.pid FROM pg_stat_activity AS a WHERE a.datname = current_database()
        AND a.query LIKE '%segue.write_id%' AND a.pid <> pg_backend_pid()
        AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype = 'advisory'
            AND l.classid = 1936156270 AND l.granted)";
    assert_eq!(bench.pair.source.rows(lacking).await, [""; 0]);
}

#[tokio::test]
async fn sequences_tell_no_caller_another_ones_value() {
    let mut bench = bench().await;
    bench.sql.execute(execute("INSERT INTO numbered (body) VALUES ('a')")).await.unwrap();
    for sql in ["SELECT lastval()", "SELECT currval('numbered_id_seq')"] {
        let refused = rows(&mut bench.sql, query(sql, vec![])).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert_eq!(detail(&refused).reason, "refused.sequence_state");
        let refused = bench.sql.execute(execute(sql)).await.unwrap_err();
        assert_eq!(detail(&refused).reason, "refused.sequence_state");
    }
    // A function can ask; there is nothing to be told.
    for _ in 0..4 {
        bench.sql.execute(execute("INSERT INTO numbered (body) VALUES ('a')")).await.unwrap();
        let refused = bench.sql.execute(execute("SELECT last()")).await.unwrap_err();
        assert_eq!(detail(&refused).sqlstate, "55000", "{refused:?}");
    }
    // A batch keeps its session, and a row can tell its own.
    let both = ["INSERT INTO numbered (body) VALUES ('b')", "SELECT lastval()"];
    bench.sql.batch(batch(&both)).await.unwrap();
    let own = "INSERT INTO numbered (body) VALUES ('c') RETURNING id = lastval()";
    let answer = bench.sql.execute(execute(own)).await.unwrap().into_inner();
    assert_eq!(returned(&answer), [[Kind::Bool(true)]]);
}

/// Statements that are known to leave nothing cost their session no reset.
#[tokio::test]
async fn harmless_reads_are_not_reset() {
    let mut bench = bench().await;
    for id in 0..20 {
        let sql = format!("SELECT body FROM note WHERE id = {id}");
        rows(&mut bench.sql, query(&sql, vec![])).await.unwrap();
    }
    let reset = "SELECT query FROM pg_stat_activity WHERE datname = current_database()
        AND pid <> pg_backend_pid() AND query LIKE 'SELECT EXISTS%pg_prepared_statements AS p%'";
    assert_eq!(bench.pair.source.rows(reset).await, [""; 0]);
    rows(&mut bench.sql, query("SELECT tenant()", vec![])).await.unwrap();
    eventually("a function's session is reset", WAIT, || async {
        (!bench.pair.source.rows(reset).await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(rows(&mut bench.sql, query("SELECT tenant()", vec![])).await.unwrap(), [[text("")]]);
}

/// Sessions of reads are shared as long as a read leaves nothing, which its text alone does not
/// tell.
#[tokio::test]
async fn what_a_view_or_an_operator_runs_is_left_to_nobody() {
    const HIDDEN: &str = "
        CREATE FUNCTION leaves(it text) RETURNS boolean LANGUAGE sql STABLE AS $$
            SELECT set_config('app.tenant', it, false) = it $$;
        CREATE FUNCTION leaves_for(text, text) RETURNS boolean LANGUAGE sql STABLE AS $$
            SELECT set_config('app.tenant', $2, false) = $2 $$;
        CREATE OPERATOR <~> (LEFTARG = text, RIGHTARG = text, FUNCTION = leaves_for);
        CREATE VIEW seen AS SELECT leaves('by a view') AS it;
        CREATE VIEW seen_twice AS SELECT * FROM seen;
        CREATE VIEW built_in AS SELECT set_config('app.tenant', 'by a view', false) AS it;
        CREATE VIEW tenant_now AS SELECT coalesce(current_setting('app.tenant', true), '') AS it;";
    let mut bench = bench_with(HIDDEN).await;
    for read in [
        "SELECT it FROM seen",
        "SELECT it FROM seen_twice",
        "SELECT it FROM built_in",
        "SELECT 'a'::text <~> 'by an operator'",
    ] {
        for _ in 0..4 {
            rows(&mut bench.sql, query(read, vec![])).await.unwrap();
            for _ in 0..4 {
                let tenant = query("SELECT it FROM tenant_now", vec![]);
                let found = rows(&mut bench.sql, tenant).await.unwrap();
                assert_eq!(found, [[text("")]], "{read}");
            }
        }
    }
}
