//! On CockroachDB trigger functions run as whoever fires them, so that the application's role needs
//! tables there; shown on the stand-in.

use crate::support::cockroach::facts::Release;
use crate::support::cockroach::{Dialect, Rules};
use crate::support::stand_in::Cockroach;
use crate::support::{Database, Major, Segue, shared};

const ONE: &str = "CREATE TABLE plain (id int8 PRIMARY KEY, v text)";

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_role_gets_the_tables_that_capture_needs_and_no_other() {
    let source = Database::create(shared(Major::V15), ONE).await;
    let target = Cockroach::create(shared(Major::V18), ONE).await;
    let app = format!("app_{}", source.name());
    for side in [&source, &target.database] {
        side.run(&format!("CREATE ROLE {app} LOGIN; GRANT SELECT, INSERT ON plain TO {app}")).await;
    }
    let login = |dsn: &str| format!("dsn = \"{dsn}\"\napplication = \"user={app}\"");
    let segue = Segue::prepare_with(&login(source.dsn()), &login(&target.dsn), "");
    let told = segue.succeed(&["init"]);
    assert!(told.contains(&format!("target: granted segue's functions to {app}")), "{told}");
    assert!(
        segue.succeed(&["init"]).contains(&format!("target: callers' statements run as {app}"))
    );
    let rights = format!(
        "SELECT c.relname || ' ' || p FROM pg_class AS c, \
            unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p \
         WHERE c.relnamespace = 'segue'::regnamespace AND c.relkind IN ('r', 'p') \
            AND has_table_privilege('{app}', c.oid, p) ORDER BY 1"
    );
    let wanted = [
        "control SELECT",
        "idempotency INSERT",
        "idempotency SELECT",
        "idempotency UPDATE",
        "identity SELECT",
        "outbox INSERT",
        "outbox SELECT",
    ];
    assert_eq!(target.database.rows(&rights).await, wanted);
    assert_eq!(source.rows(&rights).await, [""; 0]);
    let checked = segue.run(&["check"]);
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!told.contains("callers.powers"), "what it must have is no fault: {told}");
}

/// Before 26.1 nothing says there that rows are hidden from segue: it asks for itself, and begins
/// nothing with such a role.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_rows_may_be_hidden_from_is_refused_where_the_server_says_nothing() {
    for release in [Release::OLDEST, Release::LATEST] {
        let source = Database::create(shared(Major::V15), ONE).await;
        let judge = Some(Box::new(Dialect::of(release)) as Box<_>);
        let rules = Rules { judge, ..Rules::default() };
        let target = Cockroach::stand_in(shared(Major::V18), ONE, rules).await;
        let own = format!("own_{}", source.name());
        let name = target.database.name();
        let made = format!(
            "CREATE ROLE {own} LOGIN; GRANT ALL ON plain TO {own};
             GRANT CREATE ON DATABASE {name} TO {own};
             INSERT INTO plain VALUES (1, 'hidden');
             ALTER TABLE plain ENABLE ROW LEVEL SECURITY;
             CREATE POLICY nobody ON plain USING (false)"
        );
        target.database.run(&made).await;
        let login = target.dsn.replace("postgres@", &format!("{own}@"));
        let segue = Segue::prepare(source.dsn(), &login, "");
        let checked = segue.run(&["check"]);
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(checked.status.code(), Some(4), "{release}: {told}");
        assert!(told.contains("role.row_security"), "{release}: {told}");
        let mended = format!("ALTER ROLE {own} BYPASSRLS");
        target.database.run(&mended).await;
        let checked = segue.run(&["check"]);
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(!told.contains("role.row_security"), "{release}: {told}");
        target.database.run(&format!("DROP OWNED BY {own}; DROP ROLE {own}")).await;
    }
}
