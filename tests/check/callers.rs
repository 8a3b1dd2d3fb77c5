//! The role of callers' statements: what it lacks, what it may do too much, and where the sides
//! differ.

use serde_json::Value;

use super::support::{Database, Pair, Segue};
use super::{document, faults, found, sorted, text};

const TABLES: &str =
    "CREATE SCHEMA app; CREATE TABLE app.orders (id serial PRIMARY KEY, note text);
    CREATE TABLE app.mine (id int PRIMARY KEY, who name);
    ALTER TABLE app.mine ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.mine USING (who = current_user)";

struct Bench {
    pair: Pair,
    segue: Segue,
    app: String,
}

impl Bench {
    /// Segue is the superuser; the application has all rights on both sides.
    async fn new() -> Self {
        let pair = Pair::fresh(TABLES, TABLES).await;
        let app = format!("app_{}", pair.source.name());
        for side in [&pair.source, &pair.target] {
            side.run(&format!(
                "CREATE ROLE {app} LOGIN; GRANT USAGE ON SCHEMA app TO {app};
                 GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA app TO {app};
                 GRANT USAGE ON ALL SEQUENCES IN SCHEMA app TO {app}"
            ))
            .await;
        }
        let login = |side: &Database, app: &str| {
            format!("dsn = \"{}\"\napplication = \"user={app}\"", side.dsn())
        };
        let (source, target) = (login(&pair.source, &app), login(&pair.target, &app));
        let segue = Segue::prepare_with(&source, &target, "");
        Self { pair, segue, app }
    }

    async fn run(&self, side: &Database, sql: &str) {
        side.run(&sql.replace("{app}", &self.app)).await;
    }

    fn check(&self) -> (Value, Option<i32>) {
        document(&self.segue.run(&["check", "--json"]))
    }

    /// Findings about callers alone.
    fn about_callers(&self) -> (Vec<String>, Option<i32>) {
        let (document, code) = self.check();
        let mut found = found(&document);
        found.retain(|it| it.starts_with("callers."));
        (found, code)
    }

    /// Runs the statements that a check gives as a way out of these.
    async fn mend(&self, code: &str) {
        let (document, _) = self.check();
        let mut mended = 0;
        for finding in document["findings"].as_array().unwrap() {
            if finding["code"] != code {
                continue;
            }
            let side =
                if finding["side"] == "source" { &self.pair.source } else { &self.pair.target };
            for sql in finding["sql"].as_array().unwrap() {
                side.run(sql.as_str().unwrap()).await;
                mended += 1;
            }
        }
        assert!(mended > 0, "{code} has no way out in {document:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_roles_that_are_in_order_are_not_told_of() {
    let bench = Bench::new().await;
    let (document, code) = bench.check();
    let servers = &faults::OF_SERVERS[2..];
    assert_eq!((found(&document), code), (sorted_strings(servers), Some(0)), "{document:#}");
    bench.segue.init_in("dual_write").await;
    let (document, code) = bench.check();
    assert_eq!((found(&document), code), (sorted_strings(servers), Some(0)), "{document:#}");
}

fn sorted_strings(list: &[&str]) -> Vec<String> {
    sorted(&[list]).into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_only_one_side_gives_are_named() {
    let bench = Bench::new().await;
    let target = &bench.pair.target;
    bench
        .run(
            target,
            "REVOKE INSERT, UPDATE ON app.orders FROM {app}; GRANT UPDATE (id) ON app.orders TO {app};
             REVOKE USAGE ON SEQUENCE app.orders_id_seq FROM {app}",
        )
        .await;
    let (document, code) = bench.check();
    let told = document["findings"].as_array().unwrap().iter();
    let told: Vec<&Value> = told.filter(|it| it["code"] == "callers.rights").collect();
    assert_eq!((told.len(), code), (1, Some(0)), "{document:#}");
    let sentence = told[0]["found"].as_str().unwrap();
    for right in ["INSERT", "UPDATE (note)", "USAGE of the sequence of id", "on the source"] {
        assert!(sentence.contains(right), "{right} is not in {sentence}");
    }
    assert_eq!(told[0]["table"], "app.orders");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_undo_the_roles_purpose_is_named() {
    let bench = Bench::new().await;
    bench.segue.succeed(&["init"]);
    let source = &bench.pair.source;
    bench
        .run(
            source,
            "ALTER ROLE {app} BYPASSRLS; ALTER ROLE {app} SET default_transaction_read_only = on;
             GRANT pg_read_all_data TO {app}; GRANT INSERT ON segue.outbox TO {app};
             ALTER TABLE app.orders OWNER TO {app};
             REVOKE EXECUTE ON FUNCTION segue.control_state() FROM {app}",
        )
        .await;
    let (found, code) = bench.about_callers();
    let wanted = [
        "callers.functions source segue",
        "callers.owner source app.orders",
        "callers.powers source ",
        "callers.read_only source default_transaction_read_only",
        "callers.unprotected source app.mine",
    ];
    assert_eq!((found, code), (wanted.map(str::to_owned).to_vec(), Some(4)));
    let page = text(&bench.segue.run(&["check"]));
    assert!(page.contains("has SELECT on segue.copy_token"), "{page}");
    for code in ["callers.functions", "callers.read_only"] {
        bench.mend(code).await;
    }
    bench
        .run(
            source,
            "ALTER ROLE {app} NOBYPASSRLS; REVOKE pg_read_all_data FROM {app};
             REVOKE INSERT ON segue.outbox FROM {app}; ALTER TABLE app.orders OWNER TO postgres;
             GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON app.orders TO {app};
             GRANT USAGE ON SEQUENCE app.orders_id_seq TO {app}",
        )
        .await;
    assert_eq!(bench.about_callers(), (Vec::new(), Some(0)));
    bench.run(source, "GRANT postgres TO {app}").await;
    let (found, code) = bench.about_callers();
    assert!(found.contains(&"callers.powers source ".to_owned()), "{found:?}");
    assert_eq!(code, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_does_not_work_and_sessions_that_cannot_be_ended_are_told_of() {
    let bench = Bench::new().await;
    bench.run(&bench.pair.target, "ALTER ROLE {app} NOLOGIN").await;
    let (found, code) = bench.about_callers();
    assert_eq!((found, code), (vec!["callers.login target ".to_owned()], Some(4)));
    bench.run(&bench.pair.target, "ALTER ROLE {app} LOGIN").await;
    // A role of segue's that is no superuser.
    let own = format!("own_{}", bench.app);
    for side in [&bench.pair.source, &bench.pair.target] {
        side.run(&format!("CREATE ROLE {own} LOGIN")).await;
    }
    let login = |side: &Database| {
        let dsn = side.dsn_with("postgres@", &format!("{own}@"));
        format!("dsn = \"{dsn}\"\napplication = \"user={}\"", bench.app)
    };
    let (source, target) = (login(&bench.pair.source), login(&bench.pair.target));
    let bench = Bench { segue: Segue::prepare_with(&source, &target, ""), ..bench };
    let ending = ["callers.ending source ".to_owned(), "callers.ending target ".to_owned()];
    assert_eq!(bench.about_callers().0, ending);
    bench.mend("callers.ending").await;
    assert_eq!(bench.about_callers().0, [""; 0]);
}
