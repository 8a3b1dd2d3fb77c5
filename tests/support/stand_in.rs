//! A stand-in for CockroachDB. Where `COCKROACH_URL` names one, that is used. The other is PostgreSQL that says it is one, whose
//! transactions are serializable, and which lacks what CockroachDB lacks, as far as that can be
//! taken away. What CockroachDB's parser or its public texts refuse is refused on the way there
//! ([`Dialect`]). What runs is run by PostgreSQL: what passes here may still be wrong about that.

use super::cockroach::{Dialect, Recorder, Rules, Wire, catalog};
use super::database::cockroach;
use super::{Database, Proxy, Server};

/// Functions that CockroachDB does not have, of those that segue calls on PostgreSQL.
const ABSENT: [&str; 11] = [
    "pg_notify",
    "pg_partition_tree",
    "pg_terminate_backend",
    "pg_current_xact_id",
    "pg_xact_status",
    "pg_current_wal_lsn",
    "pg_current_wal_insert_lsn",
    "pg_walfile_name",
    "record_image_ne",
    "pg_sequence_last_value",
    "make_interval",
];

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
        if let Some(database) = cockroach(sql).await {
            let dsn = database.dsn().to_owned();
            return Self { database, dsn, proxy: None };
        }
        let judge = Some(Box::new(Dialect::latest()) as _);
        let rules = Rules { recorder: Recorder::asked_for(), judge, ..Rules::default() };
        Self::stand_in(server, sql, rules).await
    }

    /// Makes a database in this server, with rules of the test's own for what is sent there.
    pub async fn stand_in(server: &Server, sql: &str, rules: Rules) -> Self {
        let database = Database::create(server, sql).await;
        database.run(&catalog::made()).await;
        database.run(&made_of(database.name())).await;
        let reported = Some(("crdb_version", "a stand-in for CockroachDB"));
        let proxy = Proxy::before(Wire::start(server.port(), Rules { reported, ..rules }));
        let dsn = server.dsn_by_port(database.name(), proxy.port());
        Self { database, dsn, proxy: Some(proxy) }
    }
}

/// Makes a database of PostgreSQL into one, as its superuser. Whoever connects by the proxy is
/// told so at login.
fn made_of(database: &str) -> String {
    let absent = ABSENT.map(|name| format!("'{name}'")).join(", ");
    format!(
        "
ALTER DATABASE {database} SET default_transaction_isolation = 'serializable';
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
