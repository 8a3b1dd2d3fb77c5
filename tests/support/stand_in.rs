//! A stand-in for CockroachDB. Where `COCKROACH_URL` names one, that is used. The other is
//! PostgreSQL that says it is one, whose transactions are serializable, and which lacks what CockroachDB lacks, as far as that can be
//! taken away. What CockroachDB's parser or its public texts refuse is refused on the way there
//! ([`Dialect`]). What runs is run by PostgreSQL: what passes here may still be wrong about that.

use std::time::Duration;

use super::cockroach::{Dialect, Recorder, Rules, Wire, catalog};
use super::database::{cockroach, connect};
use super::{Database, Major, Options, Proxy, Server, eventually};

/// Functions that CockroachDB does not have, of those that segue calls on PostgreSQL.
const ABSENT: [&str; 10] = [
    "pg_notify",
    "pg_partition_tree",
    "pg_terminate_backend",
    "pg_current_xact_id",
    "pg_xact_status",
    "pg_current_wal_lsn",
    "pg_current_wal_insert_lsn",
    "pg_walfile_name",
    "record_image_ne",
    "make_interval",
];

/// What it says of itself.
const VERSION: &str = "a stand-in for CockroachDB";

/// A database of one, and the way of segue to it.
#[derive(Debug)]
pub struct Cockroach {
    /// By itself.
    pub database: Database,
    /// As segue connects to it.
    pub dsn: String,
    /// Goes with the stand-in.
    pub proxy: Option<Proxy>,
}

impl Cockroach {
    /// Makes a database, on CockroachDB or in this server, and runs `sql` in it.
    pub async fn create(server: &Server, sql: &str) -> Self {
        Self::in_conflict(server, sql, 0).await
    }

    /// The same, where the stand-in fails one of so many commits, and now and then a statement
    /// before, since the transaction had met another one; none for 0.
    pub async fn in_conflict(server: &Server, sql: &str, one_of: u64) -> Self {
        if let Some(database) = cockroach(sql).await {
            let dsn = database.dsn().to_owned();
            return Self { database, dsn, proxy: None };
        }
        let rules = Rules {
            recorder: Recorder::asked_for(),
            judge: Some(Box::new(Dialect::asked_for().with_conflicts(one_of))),
            ..Rules::default()
        };
        Self::stand_in(server, sql, rules).await
    }

    /// Makes a database in this server, with rules of the test's own for what is sent there.
    pub async fn stand_in(server: &Server, sql: &str, rules: Rules) -> Self {
        make_template(server).await;
        let database = Database::create_like(server, TEMPLATE, "").await;
        database.run(&serializable(database.name())).await;
        database.run(sql).await;
        let reported = Some(("crdb_version", VERSION));
        let proxy = Proxy::before(Wire::start(server.port(), Rules { reported, ..rules }));
        let dsn = server.dsn_by_port(database.name(), proxy.port());
        Self { database, dsn, proxy: Some(proxy) }
    }
}

/// A stand-in as a server that is named by its URL: all of its databases pass for CockroachDB's, and
/// all that anyone sends there is judged.
#[derive(Debug)]
pub struct Served {
    _server: Server,
    wire: Wire,
}

const SERVED_WITHIN: Duration = Duration::from_secs(10);

impl Served {
    pub async fn start() -> Self {
        let server = Server::start(Major::V18, &Options::default());
        let template = connect(&server.dsn("template1")).await;
        let made = [
            catalog::made(),
            without_what_it_lacks(),
            "ALTER SYSTEM SET default_transaction_isolation = 'serializable'".to_owned(),
            "SELECT pg_reload_conf()".to_owned(),
        ];
        for sql in made {
            let run = template.batch_execute(&sql).await;
            run.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        drop(template);
        let admin = connect(&server.dsn("postgres")).await;
        // Nobody may be connected to what it is copied from.
        eventually("the template is left alone", SERVED_WITHIN, || async {
            admin.batch_execute("CREATE DATABASE defaultdb").await.ok()
        })
        .await;
        let rules = Rules {
            reported: Some(("crdb_version", VERSION)),
            judge: Some(Box::new(Dialect::asked_for())),
            ..Rules::default()
        };
        let wire = Wire::start(server.port(), rules);
        Self { _server: server, wire }
    }

    /// As it is named to the tests.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/defaultdb", self.wire.port())
    }
}
/// A database of a server that those of stand-ins are copied from: to make each anew takes longer.
const TEMPLATE: &str = "cockroach_template";

async fn make_template(server: &Server) {
    static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _making = MAKING.lock().await;
    let admin = connect(&server.dsn("postgres")).await;
    let known = "SELECT 1 FROM pg_database WHERE datname = $1";
    if admin.query_opt(known, &[&TEMPLATE]).await.expect("databases are listed").is_some() {
        return;
    }
    let made = admin.batch_execute(&format!("CREATE DATABASE {TEMPLATE}")).await;
    made.unwrap_or_else(|error| panic!("no database could be made: {error:?}"));
    let client = connect(&server.dsn(TEMPLATE)).await;
    for sql in [catalog::made(), without_what_it_lacks()] {
        let run = client.batch_execute(&sql).await;
        run.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

fn serializable(database: &str) -> String {
    format!("ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")
}

/// Makes a database of PostgreSQL into one, as its superuser. Whoever connects by the proxy is
/// told so at login.
fn without_what_it_lacks() -> String {
    let absent = ABSENT.map(|name| format!("'{name}'")).join(", ");
    format!(
        "
DO $$ DECLARE f record; BEGIN
    FOR f IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments,
            pg_get_function_result(p.oid) AS result
        FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace
            AND (p.proname IN ('version', {absent}) OR p.proname ~ '^pg_(try_)?advisory_')
    LOOP
        EXECUTE format('ALTER FUNCTION pg_catalog.%I(%s) RENAME TO %I',
            f.proname, f.arguments, 'postgres_' || f.proname);
        -- There they are, and do nothing.
        IF f.proname ~ 'advisory' THEN
            EXECUTE format('CREATE FUNCTION pg_catalog.%I(%s) RETURNS %s LANGUAGE sql AS %L',
                f.proname, f.arguments, f.result,
                CASE f.result WHEN 'void' THEN 'SELECT' ELSE 'SELECT true' END);
        END IF;
    END LOOP;
END $$;
CREATE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql AS
    $$ SELECT 'a stand-in for CockroachDB' $$;
"
    )
}
