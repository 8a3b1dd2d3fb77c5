//! A role with too few rights gets what to run, and running it makes the check pass.

use super::support::{Database, Pair, Segue};
use super::{document, faults, found, sorted, text};

const TABLES: &str =
    "CREATE SCHEMA app; CREATE TABLE app.orders (id serial PRIMARY KEY, note text);
    ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY";

fn with_role(side: &Database, role: &str) -> String {
    side.dsn_with("postgres@", &format!("{role}@"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_that_are_told_are_enough() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let role = format!("role_{}", pair.source.name());
    for side in [&pair.source, &pair.target] {
        side.run(&format!("CREATE ROLE {role} LOGIN")).await;
    }
    let segue =
        Segue::prepare(&with_role(&pair.source, &role), &with_role(&pair.target, &role), "");
    let (refused, code) = document(&segue.run(&["check", "--json"]));
    assert_eq!(code, Some(4));
    let both =
        |code: &str, place: &str| ["source", "target"].map(|side| format!("{code} {side} {place}"));
    let wanted: Vec<String> = [
        both("role.always_rights", "segue.enable_always"),
        both("role.replication_role", "session_replication_role"),
        both("role.schema", "segue"),
        both("role.schema_usage", "app"),
        both("role.table_rights", "app.orders"),
        both("role.row_security", "app.orders"),
        both("role.sequence_rights", "app.orders.id"),
    ]
    .concat();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    assert_eq!(found(&refused), sorted(&[&faults::OF_SERVERS, &wanted]), "{refused:#}");

    for finding in refused["findings"].as_array().unwrap() {
        if !finding["code"].as_str().unwrap().starts_with("role.") {
            continue;
        }
        let side = if finding["side"] == "source" { &pair.source } else { &pair.target };
        for sql in finding["sql"].as_array().unwrap() {
            side.run(sql.as_str().unwrap()).await;
        }
    }
    let (passed, code) = document(&segue.run(&["check", "--json"]));
    let unprotected =
        ["callers.unprotected source app.orders", "callers.unprotected target app.orders"];
    assert_eq!(found(&passed), sorted(&[&faults::OF_SERVERS, &unprotected]), "{passed:#}");
    assert_eq!(code, Some(0));
    // And what the check says can be done is done.
    segue.init_in("dual_write").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_asked_is_said() {
    let one = "CREATE TABLE orders (id int PRIMARY KEY)";
    let pair = Pair::fresh(one, one).await;
    let role = format!("role_{}", pair.target.name());
    pair.target
        .run(&format!(
            "CREATE ROLE {role} LOGIN; CREATE SCHEMA segue AUTHORIZATION {role};
             GRANT SET ON PARAMETER session_replication_role TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON orders TO {role};
             ALTER TABLE orders OWNER TO {role};
             REVOKE SELECT ON pg_catalog.pg_prepared_xacts, pg_catalog.pg_publication_tables \
                 FROM PUBLIC"
        ))
        .await;
    let segue = Segue::prepare(pair.source.dsn(), &with_role(&pair.target, &role), "");
    let output = segue.run(&["check", "--json"]);
    let (said, code) = document(&output);
    let wanted = [
        "server.not_asked target prepared transactions (pg_prepared_xacts)",
        "server.not_asked target publications (pg_publication)",
    ];
    assert_eq!(found(&said), sorted(&[&faults::OF_SERVERS, &wanted]), "{}", text(&output));
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_may_not_be_read_is_refused() {
    let one = "CREATE TABLE orders (id int PRIMARY KEY)";
    let pair = Pair::fresh(one, one).await;
    let role = format!("role_{}", pair.target.name());
    pair.target
        .run(&format!(
            "CREATE ROLE {role} LOGIN; REVOKE SELECT ON pg_catalog.pg_rewrite FROM PUBLIC"
        ))
        .await;
    let segue = Segue::prepare(pair.source.dsn(), &with_role(&pair.target, &role), "");
    let (said, code) = document(&segue.run(&["check", "--json"]));
    assert_eq!((code, found(&said)), (Some(4), vec!["server.unreadable target ".to_owned()]));
}
