//! Every statement that is refused, with its reason and the way out, and a few that are not.

use tonic::Code;

use crate::calls::{Bench, SCHEMA, batch, detail, execute, query, rows};
use crate::support::{Bouncer, Database, Major, Pair, PoolMode, Segue, Server, shared};
use segue::grpc::proto;

#[tokio::test]
async fn each_kind_is_refused_with_a_reason_and_a_way_out() {
    let mut bench = Bench::new("").await;
    for (sql, reason) in [
        ("CREATE TABLE x (id int)", "refused.ddl"),
        ("ALTER TABLE note ADD COLUMN x int", "refused.ddl"),
        ("DROP TABLE note", "refused.ddl"),
        ("CREATE INDEX ON note (body)", "refused.ddl"),
        ("CREATE TEMP TABLE x (id int)", "refused.ddl"),
        ("SELECT * INTO x FROM note", "refused.ddl"),
        ("CREATE TABLE x AS SELECT * FROM note", "refused.ddl"),
        ("GRANT SELECT ON note TO public", "refused.ddl"),
        ("PREPARE TRANSACTION 'x'", "refused.two_phase"),
        ("COMMIT PREPARED 'x'", "refused.two_phase"),
        ("ROLLBACK PREPARED 'x'", "refused.two_phase"),
        ("SET work_mem = '1MB'", "refused.set"),
        ("RESET ALL", "refused.set"),
        ("SET ROLE postgres", "refused.set"),
        ("SELECT set_config('work_mem', '1MB', false)", "refused.set"),
        ("SET LOCAL work_mem = '1MB'", "refused.outside_transaction"),
        ("SAVEPOINT a", "refused.outside_transaction"),
        ("LISTEN x", "refused.listen"),
        ("UNLISTEN *", "refused.listen"),
        ("NOTIFY x", "refused.listen"),
        ("DISCARD ALL", "refused.discard"),
        ("DISCARD PLANS", "refused.discard"),
        ("SELECT pg_advisory_lock(1)", "refused.advisory_lock"),
        ("SELECT pg_try_advisory_lock_shared(1)", "refused.advisory_lock"),
        ("SELECT pg_advisory_unlock_all()", "refused.advisory_lock"),
        ("SELECT pg_catalog.pg_advisory_unlock_all()", "refused.advisory_lock"),
        ("COPY note FROM STDIN", "refused.copy"),
        ("COPY note TO STDOUT", "refused.copy"),
        ("COPY (SELECT 1) TO PROGRAM 'id'", "refused.copy"),
        ("SELECT 1; SELECT 2", "refused.multiple"),
        ("DELETE FROM note; COMMIT; DROP TABLE note", "refused.multiple"),
        ("", "refused.empty"),
        ("-- nothing", "refused.empty"),
        ("BEGIN", "refused.transaction_control"),
        ("COMMIT", "refused.transaction_control"),
        ("ROLLBACK", "refused.transaction_control"),
        ("PREPARE x AS SELECT 1", "refused.prepare"),
        ("DEALLOCATE ALL", "refused.prepare"),
        ("VACUUM note", "refused.maintenance"),
        ("LOAD 'auto_explain'", "refused.load"),
        ("DO $$BEGIN EXECUTE 'DROP TABLE note'; END$$", "refused.do"),
        ("SELECT lo_create(0)", "refused.large_object"),
        ("EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1", "refused.ddl"),
        ("SELECT set_config('session_replication_role', 'replica', true)", "refused.capture"),
    ] {
        let status = bench.sql.execute(execute(sql)).await.expect_err(sql);
        assert_eq!(status.code(), Code::FailedPrecondition, "{sql}: {status:?}");
        let error = detail(&status);
        assert_eq!(error.reason, reason, "{sql}: {error:?}");
        assert!(!error.hint.is_empty() && !error.message.is_empty(), "{sql}: {error:?}");
        assert_eq!(error.outcome(), proto::Outcome::NotApplied, "{sql}");
        assert!(!error.retryable, "{sql}");
    }
    let status = bench.sql.query(query("DELETE FROM note", vec![])).await.unwrap_err();
    assert_eq!(detail(&status).reason, "refused.write_in_query");
    let metrics = bench.segue.admin_address();
    let metrics = crate::hostile::http_get(&metrics, "/metrics").await;
    assert!(metrics.contains("refused.two_phase"), "refusals are counted by reason");
    // The list of refusals has changed nothing.
    assert_eq!(rows(&mut bench.sql, query("SELECT id FROM note", vec![])).await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_is_fine_is_not_refused() {
    let mut bench = Bench::new("").await;
    bench.sql.execute(execute("INSERT INTO note VALUES (1, 'a'), (2, 'b')")).await.unwrap();
    for sql in [
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_notify('x', 'y')",
        "WITH gone AS (DELETE FROM note WHERE id = 2 RETURNING id) INSERT INTO note SELECT 3, 'c' FROM gone",
        "UPDATE note SET body = 'a;b' WHERE id = 1;",
        "EXPLAIN ANALYZE UPDATE note SET body = 'd' WHERE id = 1",
        "DO $$BEGIN UPDATE note SET body = 'e' WHERE id = 1; END$$",
        "TRUNCATE note CASCADE",
    ] {
        bench.sql.execute(execute(sql)).await.unwrap_or_else(|status| panic!("{sql}: {status:?}"));
    }
    assert!(bench.notes().await.is_empty());
    // The truncation comes to the target as well.
    crate::support::eventually(
        "the target is empty",
        std::time::Duration::from_secs(20),
        || async {
            let left = bench.pair.target.rows("SELECT count(*) FROM note").await;
            let due = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
            (left == ["0"] && bench.pair.source.rows(due).await == ["0"]).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn a_batch_has_no_savepoints_and_is_all_or_none() {
    let mut bench = Bench::new("").await;
    let partly = batch(&[
        "INSERT INTO note VALUES (1, 'a')",
        "SAVEPOINT s",
        "INSERT INTO note VALUES (1, 'again')",
        "ROLLBACK TO SAVEPOINT s",
    ]);
    let status = bench.sql.batch(partly).await.unwrap_err();
    assert_eq!(detail(&status).reason, "refused.savepoint_in_batch", "{status:?}");
    let failing = batch(&[
        "INSERT INTO note VALUES (1, 'a')",
        "SET LOCAL work_mem = '4MB'",
        "INSERT INTO note VALUES (1, 'again')",
    ]);
    let status = bench.sql.batch(failing).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(detail(&status).outcome(), proto::Outcome::NotApplied);
    assert!(bench.notes().await.is_empty());
    let refused = bench.sql.batch(batch(&["DELETE FROM note", "SET work_mem = '1MB'"])).await;
    let status = refused.unwrap_err();
    assert!(status.message().contains("statement 2"), "{status:?}");
    let empty = bench.sql.batch(proto::BatchRequest::default()).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_transaction_pooler_is_refused_at_the_start() {
    let pair = Pair::fresh(SCHEMA, SCHEMA).await;
    let direct = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    direct.init_in("dual_write").await;
    let through = |server: &Server, database: &Database| {
        let bouncer = Bouncer::start(server, PoolMode::Transaction);
        let dsn = server.dsn_by_port(database.name(), bouncer.port());
        (bouncer, dsn)
    };
    let (_before_source, source) = through(shared(Major::V15), &pair.source);
    let (_before_target, target) = through(shared(Major::V18), &pair.target);
    for (source, target) in [(source.as_str(), pair.target.dsn()), (pair.source.dsn(), &target)] {
        let output = Segue::prepare(source, target, "").run(&["serve"]);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{printed}");
        assert!(printed.contains("transaction pooler"), "{printed}");
        assert!(printed.contains("pool_mode=session"), "{printed}");
    }
}

#[tokio::test]
async fn a_routing_key_and_a_token_are_taken_and_checked() {
    let mut bench = Bench::new("").await;
    let mut write = execute("INSERT INTO note VALUES (1, 'a')");
    write.consistency_tokens = vec![String::new()];
    bench.sql.execute(write.clone()).await.unwrap();
    let mut read = query("SELECT id FROM note", vec![]);
    read.routing_key = "customer 7".to_owned();
    let token = segue::domain::consistency::Token::of(segue::domain::key::WriteId(7));
    read.consistency_tokens = vec![String::new(), token.to_string()];
    assert_eq!(rows(&mut bench.sql, read.clone()).await.unwrap().len(), 1);
    read.consistency_tokens = vec!["of nobody".to_owned()];
    let status = rows(&mut bench.sql, read.clone()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    read.consistency_tokens = vec![token.to_string(); 1000];
    let status = rows(&mut bench.sql, read.clone()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    read.consistency_tokens = Vec::new();
    read.routing_key = "x".repeat(100_000);
    let status = rows(&mut bench.sql, read).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
}
