//! On CockroachDB trigger functions run as whoever fires them, so that the application's role needs
//! tables there; shown on the stand-in.

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
