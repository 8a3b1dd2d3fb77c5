//! Law 1, attacked: whatever the tables are like, a key is equal on the shadow or waits in
//! the outbox with its reason. It is never forgotten while it differs.

use std::time::{Duration, Instant};

use segue::dialect::Dialect;
use segue::domain::side::Side;
use segue::domain::table::{TableMapping, TableName};
use segue::ports::reconcile::OutboxWork;
use segue::postgres::capture;
use segue::postgres::reconcile::batch::BatchParams;
use segue::postgres::schema::script;

use crate::support::{Database, Major, Pair, shared};
use crate::world::{self, Way, drain, waiting};

/// Two databases with segue's tables, and the real capture on these tables of the source.
async fn captured(source: &str, target: &str, tables: &[&str]) -> Pair {
    let pair = Pair::fresh(&with_segue(source), &with_segue(target)).await;
    install(&pair, tables).await;
    pair
}

fn with_segue(tables: &str) -> String {
    format!("{tables};{}", script(Side::Source, Dialect::POSTGRESQL))
}

async fn install(pair: &Pair, tables: &[&str]) {
    let mappings: Vec<TableMapping> = tables
        .iter()
        .map(|name| {
            let name = TableName::new("public", *name);
            TableMapping { source: name.clone(), target: name }
        })
        .collect();
    let mut client = pair.source.client().await;
    let report =
        capture::install(&mut client, &capture::Params::new(Side::Source), &mappings).await;
    assert_eq!(report.unwrap().refused, []);
}

async fn due_again(pair: &Pair) {
    pair.source
        .run("UPDATE segue.outbox SET next_attempt_at = now() WHERE forgotten_at IS NULL")
        .await;
}

async fn same(pair: &Pair, sql: &str) {
    let (source, target) = (pair.source.rows(sql).await, pair.target.rows(sql).await);
    for (one, other) in source.iter().zip(&target) {
        assert_eq!(one, other);
    }
    assert_eq!(source.len(), target.len());
}

const BLIND: &str = "CREATE COLLATION blind \
    (provider = icu, locale = 'und-u-ks-level2', deterministic = false);";

#[tokio::test]
async fn keys_that_are_two_on_the_source_and_one_on_the_target_are_stuck() {
    let source = "CREATE TABLE t (id text PRIMARY KEY, v int)";
    let target = format!("{BLIND} CREATE TABLE t (id text COLLATE blind PRIMARY KEY, v int)");
    // ICU came with Debian's server only.
    let pair = Pair {
        source: Database::create(shared(Major::V18), &with_segue(source)).await,
        target: Database::create(shared(Major::V15), &with_segue(&target)).await,
    };
    install(&pair, &["t"]).await;
    pair.source.run("INSERT INTO t VALUES ('a', 1), ('A', 2)").await;
    let worker = Way::forth(&pair).worker();
    drain(&worker).await;
    let stuck = waiting(&pair.source).await;
    assert_eq!(stuck.len(), 2, "{stuck:?}");
    assert!(stuck.iter().all(|row| row.contains("do not name the same keys")), "{stuck:?}");
}

#[tokio::test]
async fn a_value_that_the_target_would_round_or_cut_is_stuck() {
    let pair = captured(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric, s text, list numeric[])",
        "CREATE TABLE t (id int PRIMARY KEY, n numeric(10,2), s varchar(3), list numeric(6,1)[])",
        &["t"],
    )
    .await;
    pair.source
        .run(
            "INSERT INTO t VALUES (1, 1.005, 'abc'), (2, 1.5000, 'abc'), (3, 1, 'abc  '), \
             (4, 1, 'abcd'), (5, 'NaN', 'äöü'); \
             INSERT INTO t VALUES (6, 1, 'a', '{1.55}'), (7, 1, 'a', '{1.50,NULL}')",
        )
        .await;
    let worker = Way::forth(&pair).worker();
    drain(&worker).await;
    let stuck = waiting(&pair.source).await;
    let keys: Vec<&str> = stuck.iter().filter_map(|row| row.split('|').nth(1)).collect();
    assert_eq!(keys, ["{1}", "{3}", "{4}", "{6}"], "{stuck:?}");
    assert!(stuck[0].contains("round"), "{stuck:?}");
    let there = pair.target.rows("SELECT id FROM t ORDER BY id").await;
    assert_eq!(there, ["2", "5", "7"]);
}

#[tokio::test]
async fn a_whole_table_with_keys_of_an_extensions_type_is_walked_without_gaps() {
    let table = "CREATE EXTENSION citext; CREATE TABLE t (id citext, n int, PRIMARY KEY (id, n))";
    let pair = captured(table, table, &["t"]).await;
    pair.source
        .run(
            "INSERT INTO t SELECT CASE n % 2 WHEN 0 THEN 'Key' ELSE 'key' END || \
                 pg_catalog.lpad((n / 3)::text, 5, '0'), n % 3 FROM generate_series(0, 2999) AS n; \
             TRUNCATE segue.outbox; \
             INSERT INTO segue.outbox (slot, table_id, key) VALUES (0, 1, NULL)",
        )
        .await;
    assert_eq!(drain(&Way::forth(&pair).worker()).await.failed, 0);
    same(&pair, "SELECT id::text COLLATE \"C\", n FROM t ORDER BY 1, 2").await;
    assert_eq!(pair.target.rows("SELECT count(*) FROM t").await, ["3000"]);
}

#[tokio::test]
async fn a_table_larger_than_one_turn_is_gone_through_in_several() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY)";
    let pair = captured(table, table, &["t", "u"]).await;
    pair.source
        .run(
            "INSERT INTO t SELECT n, n FROM generate_series(1, 6000) AS n; TRUNCATE segue.outbox; \
             INSERT INTO segue.outbox (slot, table_id, key) VALUES (0, 1, NULL); \
             INSERT INTO u VALUES (1)",
        )
        .await;
    let batch = BatchParams { whole_table_max: Duration::from_millis(1), ..world::batch() };
    let worker = Way::forth(&pair).worker_with(world::params(), batch);
    let mut turns = 0;
    while !waiting(&pair.source).await.is_empty() {
        turns += 1;
        assert!(turns < 200, "it begins again and again: {:?}", waiting(&pair.source).await);
        assert_eq!(worker.work().await.unwrap().failed, 0);
        // Another TRUNCATE in between counts from its own beginning.
        if turns == 4 {
            let others = pair.target.rows("SELECT count(*) FROM u").await;
            assert_eq!(others, ["1"], "rows behind a whole table must not wait for its end");
            pair.source
                .run("BEGIN; TRUNCATE t; INSERT INTO t SELECT n, 1 FROM generate_series(1, 3000) AS n; COMMIT")
                .await;
        }
    }
    assert!(turns > 4);
    same(&pair, "SELECT * FROM t ORDER BY id").await;
}

#[tokio::test]
async fn what_was_mended_on_the_target_is_seen_by_the_running_member() {
    let pair = captured(
        "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE late (id int PRIMARY KEY)",
        "CREATE TABLE t (id int PRIMARY KEY)",
        &["t", "late"],
    )
    .await;
    pair.source.run("INSERT INTO t VALUES (1, 1); INSERT INTO late VALUES (1)").await;
    let worker = Way::forth(&pair).worker();
    drain(&worker).await;
    let stuck = waiting(&pair.source).await;
    assert_eq!(stuck.len(), 2, "{stuck:?}");
    pair.target.run("ALTER TABLE t ADD v int; CREATE TABLE late (id int PRIMARY KEY)").await;
    let begun = Instant::now();
    while !waiting(&pair.source).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", waiting(&pair.source).await);
        due_again(&pair).await;
        drain(&worker).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(pair.target.rows("SELECT v FROM t").await, ["1"]);
}

#[tokio::test]
async fn a_table_registered_later_and_another_key_are_seen_by_the_running_member() {
    let tables = "CREATE TABLE t (a int NOT NULL UNIQUE, b int NOT NULL UNIQUE, v int, \
        CONSTRAINT t_key PRIMARY KEY (a)); CREATE TABLE late (id int PRIMARY KEY)";
    let pair = captured(tables, tables, &["t"]).await;
    let worker = Way::forth(&pair).worker();
    pair.source.run("INSERT INTO t VALUES (1, 2, 0), (2, 1, 0)").await;
    drain(&worker).await;
    install(&pair, &["t", "late"]).await;
    pair.source.run("INSERT INTO late VALUES (1)").await;
    let begun = Instant::now();
    while !waiting(&pair.source).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", waiting(&pair.source).await);
        due_again(&pair).await;
        drain(&worker).await;
    }
    let other = "ALTER TABLE t DROP CONSTRAINT t_key; ALTER TABLE t ADD PRIMARY KEY (b)";
    pair.source.run(other).await;
    pair.target.run(other).await;
    install(&pair, &["t"]).await;
    pair.source.run("UPDATE t SET v = 7 WHERE b = 1").await;
    while !waiting(&pair.source).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", waiting(&pair.source).await);
        due_again(&pair).await;
        drain(&worker).await;
    }
    same(&pair, "SELECT * FROM t ORDER BY a").await;
}

#[tokio::test]
async fn texts_that_are_one_key_are_one_row() {
    let table = "CREATE TABLE t (id numeric PRIMARY KEY, v int)";
    let pair = captured(table, table, &["t"]).await;
    pair.source
        .run(
            "INSERT INTO t SELECT n, n FROM generate_series(1, 400) AS n; \
              UPDATE t SET id = id + 0.00",
        )
        .await;
    let worker = Way::forth(&pair).worker();
    let begun = Instant::now();
    assert_eq!(drain(&worker).await.failed, 0);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    pair.source.run("UPDATE t SET id = id + 0.0000; DELETE FROM t WHERE id > 100").await;
    assert_eq!(drain(&worker).await.failed, 0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    same(&pair, "SELECT trim_scale(id), v FROM t ORDER BY id").await;
}

/// What makes a table of the target unfit, and what the reason says. All of a batch's keys
/// must fail at once: halving until each stands alone would take minutes.
#[tokio::test]
async fn an_unfit_target_is_named_as_the_reason() {
    for (change, reason) in [
        ("ALTER TABLE t ADD own int NOT NULL", "\"own\""),
        (
            "CREATE RULE r AS ON INSERT TO t DO INSTEAD NOTHING; ALTER TABLE t ENABLE ALWAYS RULE r",
            "rule",
        ),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN NEW.v = 0; RETURN NEW; END'; \
             CREATE TRIGGER busy BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); \
             ALTER TABLE t ENABLE ALWAYS TRIGGER busy",
            "busy",
        ),
        ("ALTER TABLE t SET UNLOGGED", "unlogged"),
        ("ALTER TABLE t RENAME TO gone", "t"),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", "primary key"),
        ("ALTER TABLE t ADD CHECK (v < 0)", "23514"),
    ] {
        let table = "CREATE TABLE t (id int PRIMARY KEY, v int)";
        let pair = captured(table, table, &["t"]).await;
        pair.target.run(change).await;
        pair.source.run("INSERT INTO t SELECT n, n FROM generate_series(1, 300) AS n").await;
        let begun = Instant::now();
        Way::forth(&pair).worker().work().await.unwrap();
        let stuck = waiting(&pair.source).await;
        assert_eq!(stuck.len(), 300, "{change}");
        let failed = stuck.iter().filter(|row| row.contains("|1|")).count();
        assert!(stuck[0].contains(reason), "{change}: {}", stuck[0]);
        eprintln!("{failed} of 300 in {:?}: {change}: {}", begun.elapsed(), stuck[0]);
        assert!(begun.elapsed() < Duration::from_secs(40), "{change}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn values_are_exchanged_under_exclusion_and_under_an_extensions_equality() {
    let tables = "CREATE EXTENSION citext; CREATE EXTENSION btree_gist; \
        CREATE TABLE room (id int PRIMARY KEY, room int, during int4range, \
            EXCLUDE USING gist (room WITH =, during WITH &&)); \
        CREATE TABLE person (id int PRIMARY KEY, name citext UNIQUE); \
        CREATE TABLE ring (id int PRIMARY KEY, n int UNIQUE DEFERRABLE INITIALLY DEFERRED)";
    let pair = captured(tables, tables, &["room", "person", "ring"]).await;
    pair.source
        .run(
            "INSERT INTO room VALUES (1, 1, '[1,5)'), (2, 2, '[1,5)'); \
             INSERT INTO person VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cid'); \
             INSERT INTO ring VALUES (1, 1), (2, 2), (3, 3)",
        )
        .await;
    let worker = Way::forth(&pair).worker();
    drain(&worker).await;
    pair.source
        .run(
            "BEGIN; UPDATE room SET room = 9 WHERE id = 1; UPDATE room SET room = 1 WHERE id = 2; \
             UPDATE room SET room = 2, during = '[2,6)' WHERE id = 1; COMMIT; \
             BEGIN; UPDATE person SET name = 'x' WHERE id = 1; \
             UPDATE person SET name = 'ANN' WHERE id = 2; UPDATE person SET name = 'BOB' WHERE id = 3; \
             UPDATE person SET name = 'CID' WHERE id = 1; COMMIT; \
             UPDATE ring SET n = n % 3 + 1",
        )
        .await;
    // One key of each ring alone: the others must be found and taken into the set.
    pair.source
        .run(
            "UPDATE segue.outbox SET next_attempt_at = 'infinity' \
             WHERE forgotten_at IS NULL AND key <> '{1}'",
        )
        .await;
    let begun = Instant::now();
    let done = drain(&worker).await;
    assert_eq!(done.failed, 0, "{:?}", waiting(&pair.source).await);
    assert!(begun.elapsed() < Duration::from_secs(5));
    due_again(&pair).await;
    assert_eq!(drain(&worker).await.failed, 0);
    for table in ["room", "person", "ring"] {
        same(&pair, &format!("SELECT * FROM {table} ORDER BY id")).await;
    }
}

/// Source type, target type, values: equal after one reconcile, and the second writes nothing.
#[tokio::test]
async fn converted_values_settle_after_one_reconcile() {
    let cases: [(&str, &str, &[&str]); 11] = [
        ("text", "varchar(20)", &["'x'", "''", "'ä '"]),
        (
            "timestamptz",
            "timestamptz(3)",
            &["'infinity'", "'2024-01-01 00:00:00.9995+00'", "'0044-03-15 BC'"],
        ),
        ("timestamp", "timestamp(0)", &["'-infinity'", "'2024-01-01 00:00:00.5'"]),
        ("json", "jsonb", &["'{\"a\":1,\"a\":2}'", "'[1.10, 1e2]'", "'null'"]),
        ("smallint[]", "int8[]", &["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'"]),
        ("float4", "float8", &["'NaN'", "'-0'", "1.1", "'Infinity'"]),
        ("numeric", "numeric(20,5)", &["1.50", "'NaN'", "0.00001"]),
        ("char(5)", "text", &["'ab'", "''"]),
        ("interval", "interval", &["'1 mon 2 days'", "'24:00:00'", "'1 day'"]),
        ("int4", "numeric", &["0", "-7"]),
        ("bytea", "bytea", &["'\\x00ff'", "''"]),
    ];
    let mut tables = (String::new(), String::new());
    let mut names = Vec::new();
    for (index, (from, to, _)) in cases.iter().enumerate() {
        tables.0 += &format!("CREATE TABLE c{index} (id int PRIMARY KEY, v {from});");
        tables.1 += &format!("CREATE TABLE c{index} (id int PRIMARY KEY, v {to});");
        names.push(format!("c{index}"));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pair = captured(&tables.0, &tables.1, &names).await;
    for (index, (_, _, values)) in cases.iter().enumerate() {
        for (id, value) in values.iter().enumerate() {
            pair.source.run(&format!("INSERT INTO c{index} VALUES ({id}, {value})")).await;
        }
        pair.source.run(&format!("INSERT INTO c{index} VALUES (99, NULL)")).await;
    }
    let worker = Way::forth(&pair).worker();
    drain(&worker).await;
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    for (index, case) in cases.iter().enumerate() {
        pair.source.run(&format!("UPDATE c{index} SET v = v")).await;
        let again = drain(&worker).await;
        assert_eq!((again.changed, again.failed), (0, 0), "{case:?} never settles");
    }
}

/// What its reason says is enough: the row has another key, or is gone on both sides.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_no_session_can_read_is_done_when_neither_side_has_its_row() {
    let with = with_segue("CREATE TABLE t (k text, n int, v int, PRIMARY KEY (k, n))");
    let source = Database::create_ascii(shared(Major::V15), &with).await;
    let target = Database::create_ascii(shared(Major::V18), &with).await;
    let pair = Pair { source, target };
    install(&pair, &["t"]).await;
    let odd = "convert_from('\\x6bff'::bytea, 'SQL_ASCII')";
    let rows = format!("INSERT INTO t VALUES ({odd}, 1, 0), ({odd}, 2, 0), ('k', 1, 0)");
    pair.source.run(&rows).await;
    pair.target.run_as_copy(&format!("INSERT INTO t VALUES ({odd}, 2, 0)")).await;
    let worker = Way::forth(&pair).worker();
    let tried_again = || async {
        pair.source.run("UPDATE segue.outbox SET next_attempt_at = now()").await;
        for _ in 0..4 {
            worker.work().await.unwrap();
        }
        pair.source.rows("SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL").await
    };
    assert_eq!(tried_again().await, ["2"], "both rows are there");
    pair.source.run("UPDATE t SET k = 'read' WHERE n = 1 AND k <> 'k'").await;
    assert_eq!(tried_again().await, ["1"], "the one that has another key is done");
    pair.source.run("DELETE FROM t WHERE n = 2").await;
    assert_eq!(tried_again().await, ["2"], "the target has it still");
    pair.target.run_as_copy("DELETE FROM t WHERE n = 2").await;
    assert_eq!(tried_again().await, Vec::from(["0"]));
    assert_eq!(pair.target.rows("SELECT k, n FROM t ORDER BY k").await, ["k|1", "read|1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_no_session_can_read_stands_alone_and_holds_up_nobody() {
    let with = with_segue("CREATE TABLE t (k text PRIMARY KEY, v int)");
    let source = Database::create_ascii(shared(Major::V15), &with).await;
    let target = Database::create_ascii(shared(Major::V18), &with).await;
    let pair = Pair { source, target };
    install(&pair, &["t"]).await;
    pair.source
        .run(
            "INSERT INTO t SELECT 'k' || n, n FROM generate_series(1, 50) AS n; \
             INSERT INTO t VALUES (convert_from('\\x6bff'::bytea, 'SQL_ASCII'), 0); \
             INSERT INTO t VALUES (convert_from('\\xc3a4'::bytea, 'SQL_ASCII'), 1); \
             INSERT INTO t SELECT 'l' || n, n FROM generate_series(1, 50) AS n",
        )
        .await;
    let worker = Way::forth(&pair).worker();
    let mut failed = 0;
    let mut reconciled = 0;
    for _ in 0..4 {
        let done = worker.work().await.unwrap();
        (failed, reconciled) = (failed + done.failed, reconciled + done.reconciled);
    }
    assert!(failed >= 1 && reconciled == 101, "{failed} failed, {reconciled} reconciled");
    assert_eq!(pair.target.rows("SELECT count(*) FROM t").await, ["101"]);
    // It is named, with its reason, and waits as long as it must.
    let listed = Way::forth(&pair).outbox().list(&world::first(10), false).await.unwrap().items;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].key.values, Some(vec!["0x6bff".to_owned()]));
    assert!(listed[0].last_error.contains("no UTF-8") && listed[0].attempts >= 1, "{listed:?}");
    // Others go by it, whenever it is tried again.
    pair.source.run("UPDATE t SET v = 2 WHERE k = 'k1'").await;
    let mut reconciled = 0;
    for _ in 0..3 {
        reconciled += worker.work().await.unwrap().reconciled;
    }
    assert_eq!(reconciled, 1);
}
