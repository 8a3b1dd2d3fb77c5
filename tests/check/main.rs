//! `segue check` on real servers: faults that were planted, roles with too few rights, the way
//! to a database.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod callers;
mod faults;
mod limits;
mod rights;

use std::process::Output;

use segue::preflight::codes;
use serde_json::Value;
use support::{Bouncer, Major, Pair, PoolMode, Segue, shared};

const ONE: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text)";

fn text(output: &Output) -> String {
    let (told, failed) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(told), String::from_utf8_lossy(failed))
}

/// The document of a check, and its exit code.
fn document(output: &Output) -> (Value, Option<i32>) {
    let document = serde_json::from_slice(&output.stdout);
    (document.unwrap_or_else(|error| panic!("{error}: {}", text(output))), output.status.code())
}

/// `code side place` of each finding, sorted.
fn found(document: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut found: Vec<String> = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let parts = [text(&it["table"]), text(&it["object"])];
            let place = parts.into_iter().flatten().collect::<Vec<_>>().join(".");
            format!("{} {} {place}", it["code"].as_str().unwrap(), it["side"].as_str().unwrap())
        })
        .collect();
    found.sort();
    found
}

fn sorted<'a>(lists: &[&'a [&'a str]]) -> Vec<&'a str> {
    let mut all = lists.concat();
    all.sort_unstable();
    all
}

fn prepare(pair: &Pair, sections: &str) -> Segue {
    Segue::prepare(pair.source.dsn(), pair.target.dsn(), sections)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_planted_fault_is_found_and_nothing_else() {
    let pair = Pair::fresh(faults::SOURCE, faults::TARGET).await;
    let exclude = "[tables]\nexclude = [\"shop.country\"]";
    let segue = prepare(&pair, exclude);
    let (document, code) = document(&segue.run(&["check", "--json"]));
    let wanted = sorted(&[faults::WANTED, &faults::OF_SERVERS]);
    let found = found(&document);
    let missed: Vec<_> = wanted.iter().filter(|it| !found.iter().any(|f| f == *it)).collect();
    let unexpected: Vec<_> = found.iter().filter(|it| !wanted.contains(&it.as_str())).collect();
    assert!(
        missed.is_empty() && unexpected.is_empty() && found.len() == wanted.len(),
        "missed {missed:#?}\nunexpected {unexpected:#?}\n{document:#}"
    );
    assert_eq!(code, Some(4));
    assert_eq!(document["refused"], true);
    let page = segue.run(&["check"]);
    let told = text(&page);
    assert_eq!(page.status.code(), Some(4), "{told}");
    for part in [
        "blocks the migration (",
        "ALTER TABLE \"shop\".\"things\" ALTER COLUMN \"wide\" TYPE bigint; -- on the target",
        "ALTER TYPE shop.status ADD VALUE 'lost'; -- on the target",
        "ALTER TABLE shop.fired ENABLE TRIGGER always_here; -- on the source",
        "SELECT pg_catalog.setval('\"shop\".\"behind_id_seq\"', 7); -- on the source",
        "block the migration",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_order_passes_with_how_much_was_looked_at() {
    let pair = Pair::fresh(ONE, ONE).await;
    pair.source
        .run("INSERT INTO orders SELECT n, 'x' FROM generate_series(1, 25000) AS n; ANALYZE")
        .await;
    let segue = prepare(&pair, "");
    let (document, code) = document(&segue.run(&["check", "--json", "--rows-per-s", "1000"]));
    assert_eq!(code, Some(0));
    assert_eq!(found(&document), sorted(&[&faults::OF_SERVERS]));
    assert_eq!(document["looked_at"]["columns"], 2);
    let table = &document["tables"][0];
    assert_eq!((&table["rows"], &table["chunks"]), (&25_000.into(), &3.into()), "{table}");
    assert_eq!(table["seconds"], 25.0);
    assert!(table["bytes"].as_u64().unwrap() > 500_000, "{table}");
    let told = segue.succeed(&["check", "--chunk-rows", "100"]);
    for part in [
        "looked at 1 table, 2 columns",
        "250",
        "chunks of 100 rows",
        "0 block, 6 warnings, 2 notes",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let made = "SELECT nspname FROM pg_namespace WHERE nspname = 'segue'";
    for side in [&pair.source, &pair.target] {
        assert!(side.rows(made).await.is_empty(), "a check changes nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn some_tables_alone_and_wrong_usage() {
    let source = format!("{ONE}; CREATE TABLE log (line text)");
    let pair = Pair::fresh(&source, &source).await;
    let segue = prepare(&pair, "");
    let refused = segue.run(&["check"]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused));
    assert!(text(&refused).contains("public.log"), "{}", text(&refused));
    let alone = segue.succeed(&["check", "--table", "public.orders"]);
    assert!(!alone.contains("public.log"), "{alone}");
    let unknown = segue.run(&["check", "--table", "ordres"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown));
    assert!(text(&unknown).contains("table ordres is not of the migration"), "{}", text(&unknown));
    assert_eq!(segue.run(&["check", "--chunk-rows", "0"]).status.code(), Some(2));
    let away = Segue::prepare("postgres://x@127.0.0.1:1/x", pair.target.dsn(), "");
    let away = away.run(&["check"]);
    assert_eq!(away.status.code(), Some(1), "{}", text(&away));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_connection_strings_do_without_a_configuration() {
    let pair = Pair::fresh(ONE, "").await;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_segue"))
        .args(["check", "--json", "--source", pair.source.dsn(), "--target", pair.target.dsn()])
        .current_dir(std::env::temp_dir())
        .env_remove("SEGUE_CONFIG")
        .output()
        .unwrap();
    let (document, code) = document(&output);
    assert_eq!(code, Some(4), "{document:#}");
    let wanted = sorted(&[&faults::OF_SERVERS, &["table.missing target public.orders"]]);
    assert_eq!(found(&document), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_pooler_on_the_way_is_a_finding() {
    let pair = Pair::fresh(ONE, ONE).await;
    let server = shared(Major::V15);
    let bouncer = Bouncer::start(server, PoolMode::Transaction);
    let dsn = server.dsn_by_port(pair.source.name(), bouncer.port());
    let segue = Segue::prepare(&dsn, pair.target.dsn(), "");
    let (document, code) = document(&segue.run(&["check", "--json"]));
    assert_eq!((code, found(&document)), (Some(4), vec!["server.pooler source ".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_of_itself_is_found() {
    let pair = Pair::fresh(ONE, ONE).await;
    let name = pair.source.name().to_owned();
    let target = pair.target.name();
    pair.source
        .run(&format!(
            "BEGIN; INSERT INTO orders VALUES (1); PREPARE TRANSACTION 'p_{name}';
             ALTER DATABASE {name} SET synchronous_commit = off"
        ))
        .await;
    for setting in ["timezone = 'Asia/Tokyo'", "search_path = app, public"] {
        pair.target.run(&format!("ALTER DATABASE {target} SET {setting}")).await;
    }
    let segue = prepare(&pair, "");
    let first = document(&segue.run(&["check", "--json"])).0;
    pair.target
        .run(&format!("ALTER DATABASE {target} SET default_transaction_read_only = on"))
        .await;
    let second = document(&segue.run(&["check", "--json"])).0;
    pair.source.run(&format!("ROLLBACK PREPARED 'p_{name}'")).await;
    let prepared = format!("server.prepared_open source p_{name}");
    let both: [&str; 4] = [
        &prepared,
        "server.async_commit source synchronous_commit",
        "server.setting target TimeZone",
        "server.setting target search_path",
    ];
    assert_eq!(found(&first), sorted(&[&faults::OF_SERVERS, &both]), "{first:#}");
    let read_only = ["server.read_only target default_transaction_read_only"];
    assert_eq!(found(&second), sorted(&[&faults::OF_SERVERS, &both, &read_only]), "{second:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_gives_what_is_known_of_it() {
    let source = include_str!("../corpus/schema_source.sql");
    let pair = Pair::fresh(source, include_str!("../corpus/schema_target.sql")).await;
    let map = |table: &str, target: &str| {
        format!("[[tables.map]]\nsource = \"public.{table}\"\ntarget = \"{target}.{table}\"\n")
    };
    let tables = ["customers", "orders", "events", "tickets"].map(|table| map(table, "public"));
    let segue = prepare(&pair, &(tables.concat() + &map("audit_log", "store")));
    let (document, code) = document(&segue.run(&["check", "--json"]));
    let wanted = [
        "server.setting target search_path",
        "server.extension_missing target citext",
        // Integers, texts and exact numbers without a limit on the target.
        "column.wider source public.audit_log.id",
        "column.wider source public.customers.id",
        "column.wider source public.customers.credit",
        "column.wider source public.customers.rating",
        "column.wider source public.customers.grid",
        "column.wider source public.customers.code",
        "column.wider source public.events.order_id",
        "column.wider source public.events.amounts",
        "column.wider source public.orders.id",
        "column.wider source public.orders.customer_id",
        "column.wider source public.orders.qty",
        "column.wider source public.orders.unit_price",
        "column.wider source public.tickets.id",
        // Coarser, or in another spelling.
        "column.coarser target public.customers.code",
        "column.coarser target public.customers.prefs",
        "column.coarser target public.customers.created_at",
        "column.coarser target public.customers.birth_local",
        "column.coarser target public.orders.lead_time",
        "column.coarser target public.orders.pickup",
        "column.coarser target public.events.at",
        "column.coarser_unique target public.orders.placed_at",
        "column.json target public.customers.prefs",
        "column.infinity source public.orders.lead_time",
        // A JSON of the target keeps what a JSONB of the source does not.
        "column.finer source public.customers.profile",
        "column.collation target public.customers.email",
        "column.collation target public.customers.name",
        // Money has more digits than numeric(12,2).
        "column.narrower target public.orders.total",
        // unique_rowid() does not fit into a serial.
        "column.default_too_big source public.orders.id",
        "column.default_too_big source public.tickets.id",
        "foreign_key.differs target public.orders.orders_customer_id_fkey",
        "trigger.added target public.orders.trigger orders_retry",
    ];
    assert_eq!(found(&document), sorted(&[&faults::OF_SERVERS, &wanted]), "{document:#}");
    assert_eq!(code, Some(4));
}

/// Regenerate with `segue check --list`.
#[test]
fn the_documentation_lists_every_finding_as_it_is() {
    let page = std::fs::read_to_string("docs/reference/check.md").unwrap();
    let (_, list) = page.split_once("## All findings").unwrap();
    assert_eq!(list.trim(), codes::markdown().trim());
}
