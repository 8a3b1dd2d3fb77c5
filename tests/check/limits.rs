//! Settings and limits of segue's role and database: named, overridden where segue relies on
//! another value, and refused where they hold.

use std::time::Duration;

use serde_json::Value;

use super::support::{Database, Major, Pair, Proxy, Segue, shared};
use super::{document, faults, found, sorted};

const ONE: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text)";
/// As strict as a platform may have them, and odd: none of them keeps segue from its work.
const ROLE: [(&str, &str); 10] = [
    ("array_nulls", "off"),
    ("default_transaction_isolation", "serializable"),
    ("enable_indexscan", "off"),
    ("enable_seqscan", "off"),
    ("idle_in_transaction_session_timeout", "2s"),
    ("idle_session_timeout", "2s"),
    ("lock_timeout", "1ms"),
    ("plan_cache_mode", "force_generic_plan"),
    ("quote_all_identifiers", "on"),
    ("transaction_timeout", "2s"),
];

/// Makes a superuser of each side, with these settings.
async fn with_role(pair: &Pair, settings: &[(&str, &str)]) -> Segue {
    let role = format!("limited_{}", pair.source.name());
    for side in [&pair.source, &pair.target] {
        side.run(&format!("CREATE ROLE {role} LOGIN SUPERUSER")).await;
        for (name, value) in settings {
            let known = format!("SELECT 1 FROM pg_settings WHERE name = '{name}'");
            if !side.rows(&known).await.is_empty() {
                side.run(&format!("ALTER ROLE {role} SET {name} = '{value}'")).await;
            }
        }
    }
    let as_role = |side: &Database| side.dsn_with("postgres@", &format!("{role}@"));
    Segue::prepare(&as_role(&pair.source), &as_role(&pair.target), "")
}

fn finding<'a>(document: &'a Value, side: &str, object: &str) -> &'a Value {
    let of =
        |it: &&Value| it["code"] == "role.setting" && it["side"] == side && it["object"] == object;
    document["findings"].as_array().unwrap().iter().find(of).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_role_are_named_and_segue_works_with_its_own() {
    let pair = Pair::fresh(ONE, ONE).await;
    pair.source.run("INSERT INTO orders SELECT n, 'x' FROM generate_series(1, 3000) AS n").await;
    let segue = with_role(&pair, &ROLE).await;
    let database = pair.target.name();
    pair.target.run(&format!("ALTER DATABASE {database} SET statement_timeout = '2s'")).await;
    let (checked, code) = document(&segue.run(&["check", "--json"]));
    let mut wanted = vec!["role.setting target statement_timeout".to_owned()];
    for (side, name) in [(&pair.source, "source"), (&pair.target, "target")] {
        for (setting, _) in ROLE {
            let known = format!("SELECT 1 FROM pg_settings WHERE name = '{setting}'");
            if !side.rows(&known).await.is_empty() {
                wanted.push(format!("role.setting {name} {setting}"));
            }
        }
    }
    // What callers notice is told as before: they run as this role.
    let mut found = found(&checked);
    found.retain(|it| it.starts_with("role."));
    wanted.sort();
    assert_eq!(found, wanted, "{checked:#}");
    assert_eq!(code, Some(0), "{checked:#}");
    let told = |side, object| finding(&checked, side, object)["found"].as_str().unwrap();
    let limit = told("target", "statement_timeout");
    assert!(limit.starts_with("\"2s\" for database "), "{limit}");
    assert!(limit.ends_with("segue's sessions have \"1min\""), "{limit}");
    let isolation = told("source", "default_transaction_isolation");
    assert!(isolation.contains("\"serializable\" for role limited_"), "{isolation}");
    assert!(isolation.ends_with("segue's sessions have \"read committed\""), "{isolation}");
    // And it is so: the copy is made and proven by a role that could not do it otherwise.
    segue.init_in("dual_write").await;
    segue.succeed(&["backfill"]);
    segue.succeed(&["verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_segue_keeps_is_told_with_what_takes_it_off() {
    let pair = Pair::fresh(ONE, ONE).await;
    let segue = with_role(&pair, &[("temp_file_limit", "1MB"), ("work_mem", "1MB")]).await;
    let (checked, code) = document(&segue.run(&["check", "--json"]));
    let kept = ["source", "target"].map(|side| format!("role.setting_kept {side} temp_file_limit"));
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    assert_eq!(found(&checked), sorted(&[&faults::OF_SERVERS, &kept]), "{checked:#}");
    assert_eq!(code, Some(0));
    run_what_is_told(&checked, &pair).await;
    let (mended, _) = document(&segue.run(&["check", "--json"]));
    assert_eq!(found(&mended), sorted(&[&faults::OF_SERVERS]), "{mended:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_sessions_than_a_sidecar_opens_block_until_the_limit_is_raised() {
    let pair = Pair::fresh(ONE, ONE).await;
    let segue = with_role(&pair, &[]).await;
    let role = format!("limited_{}", pair.source.name());
    let (database, source) = (pair.target.name(), &pair.source);
    // Nobody counts the sessions of a superuser.
    source.run(&format!("ALTER ROLE {role} CONNECTION LIMIT 8")).await;
    let (passed, code) = document(&segue.run(&["check", "--json"]));
    assert_eq!((found(&passed), code), (found_of_servers(), Some(0)), "{passed:#}");
    for side in [&pair.source, &pair.target] {
        side.run(&format!(
            "ALTER ROLE {role} NOSUPERUSER BYPASSRLS; ALTER TABLE orders OWNER TO {role}; \
             ALTER DATABASE {} OWNER TO {role}",
            side.name()
        ))
        .await;
    }
    pair.target.run(&format!("ALTER DATABASE {database} CONNECTION LIMIT 9")).await;
    let (refused, code) = document(&segue.run(&["check", "--json"]));
    let of_sessions = |document: &Value| -> Vec<String> {
        let mut found = found(document);
        found.retain(|it| it.starts_with("role.sessions"));
        found
    };
    let wanted = [
        "role.sessions source connection limit of the role",
        "role.sessions target connection limit of the database",
    ];
    assert_eq!(of_sessions(&refused), wanted, "{refused:#}");
    assert_eq!(code, Some(4));
    run_what_is_told(&refused, &pair).await;
    let (mended, _) = document(&segue.run(&["check", "--json"]));
    assert_eq!(of_sessions(&mended), Vec::<String>::new(), "{mended:#}");
}

/// Each side's catalogue is asked in a transaction of its own, and one is idle while the other takes
/// its time: longer than half a lease, which is what a transaction that others wait for may be idle.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_takes_its_time_costs_a_look_at_the_other_nothing() {
    let pair = Pair::fresh(ONE, ONE).await;
    let target = Proxy::start(shared(Major::V18).port());
    let dsn = pair
        .target
        .dsn_with(&format!(":{}/", shared(Major::V18).port()), &format!(":{}/", target.port()));
    let sections = "[control]\nlease = \"1s\"\npoll_interval = \"250ms\"\n";
    let segue = Segue::prepare(pair.source.dsn(), &dsn, sections);
    segue.init_in("dual_write").await;
    target.delay(Duration::from_millis(20));
    let (checked, code) = document(&segue.run(&["check", "--json"]));
    assert_eq!((found(&checked), code), (found_of_servers(), Some(0)), "{checked:#}");
}

fn found_of_servers() -> Vec<String> {
    sorted(&[&faults::OF_SERVERS]).into_iter().map(str::to_owned).collect()
}

/// The statements that the findings on roles come with.
async fn run_what_is_told(document: &Value, pair: &Pair) {
    for finding in document["findings"].as_array().unwrap() {
        if !finding["code"].as_str().unwrap().starts_with("role.") {
            continue;
        }
        let side = if finding["side"] == "source" { &pair.source } else { &pair.target };
        for sql in finding["sql"].as_array().unwrap() {
            side.run(sql.as_str().unwrap()).await;
        }
    }
}
