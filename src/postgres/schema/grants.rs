//! The least that segue's role needs, as SQL to read and run.

use crate::domain::side::Side;
use crate::domain::table::{TableName, quote_identifier, quote_literal};

/// Who the grants are for.
#[derive(Debug, Clone, Copy)]
pub struct GrantParams<'a> {
    /// Which database.
    pub side: Side,
    /// The database's name.
    pub database: &'a str,
    /// Segue's role there.
    pub role: &'a str,
    /// The role of callers' statements there, where it is another one.
    pub callers: Option<&'a str>,
    /// The migrated tables there, `segue.idempotency` left out.
    pub tables: &'a [TableName],
}

/// Statements that give segue's role what it needs on one side and nothing else. The roles
/// of applications need no right on segue's schema: capture runs as its owner.
pub fn grants(params: &GrantParams<'_>) -> String {
    let role = quote_identifier(params.role);
    let mut sql = format!(
        "-- {side}: segue's role owns its schema.\n\
         CREATE SCHEMA IF NOT EXISTS segue AUTHORIZATION {role};\n\
         GRANT CONNECT ON DATABASE {database} TO {role};\n\
         -- Its own reads must see every row, also under row security.\n\
         ALTER ROLE {role} BYPASSRLS;\n\
         -- Rows are copied, not derived again: neither triggers nor foreign keys act on them\n\
         -- (PostgreSQL 15 and later; a superuser's right before that).\n\
         GRANT SET ON PARAMETER session_replication_role TO {role};\n\
         -- Not needed: errors of the server in English in segue's logs, whatever lc_messages says\n\
         -- (PostgreSQL 15 and later).\n\
         -- GRANT SET ON PARAMETER lc_messages TO {role};\n",
        side = params.side,
        database = quote_identifier(params.database),
    );
    let mut schemas: Vec<&str> = params.tables.iter().map(|table| table.schema.as_str()).collect();
    schemas.sort_unstable();
    schemas.dedup();
    for schema in schemas {
        sql.push_str(&format!("GRANT USAGE ON SCHEMA {} TO {role};\n", quote_identifier(schema)));
    }
    sql.push_str(
        "-- Reading and writing the rows, and putting triggers on. Taking triggers away needs\n\
         -- membership in the role that owns the table; segue empties their functions otherwise.\n",
    );
    for table in params.tables {
        sql.push_str(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON TABLE {} TO {role};\n",
            table.quoted()
        ));
    }
    sql.push_str(&always_for(params.role));
    if let Some(callers) = params.callers {
        sql.push_str(&ending_for(params.role, callers));
    }
    sql
}

/// What lets segue's role see and end sessions of the role of callers' statements.
fn ending_for(role: &str, callers: &str) -> String {
    format!(
        "-- Segue ends sessions of callers whose sidecar is lost, so that a cutover need not wait for\n\
         -- them. Members of a role may, and see what its sessions do.\n\
         {};\n",
        membership(role, callers)
    )
}

/// The statement that makes segue's role a member of the one that callers log in as.
pub fn membership(role: &str, callers: &str) -> String {
    format!("GRANT {} TO {}", quote_identifier(callers), quote_identifier(role))
}

/// A function that lets segue's triggers on a table fire in every session, for a role that does
/// not own the table. It runs as who makes it, and does nothing to any other trigger.
pub fn always_for(role: &str) -> String {
    format!(
        "-- Segue's triggers fire whatever session_replication_role says, which the owner of a table\n\
         -- must say of each. This says it for segue, as the role that runs this: one that owns the\n\
         -- tables, a member of their owners, or a superuser.\n\
         CREATE OR REPLACE FUNCTION segue.enable_always(relation pg_catalog.oid)\n\
         RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $segue$\n\
         DECLARE\n    \
             segue_trigger pg_catalog.name;\n\
         BEGIN\n    \
             FOR segue_trigger IN\n        \
                 SELECT t.tgname FROM pg_catalog.pg_trigger AS t\n        \
                 JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid\n        \
                 JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'segue'\n        \
                 WHERE t.tgrelid = relation AND NOT t.tgisinternal AND t.tgenabled <> 'A'\n            \
                     AND pg_catalog.starts_with(t.tgname::pg_catalog.text, 'segue_capture_')\n    \
             LOOP\n        \
                 EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I',\n            \
                     relation::pg_catalog.regclass, segue_trigger);\n    \
             END LOOP;\n\
         END $segue$;\n\
         REVOKE ALL ON FUNCTION segue.enable_always(pg_catalog.oid) FROM PUBLIC;\n\
         GRANT EXECUTE ON FUNCTION segue.enable_always(pg_catalog.oid) TO {role};\n",
        role = quote_identifier(role)
    )
}

/// What to run for a role that may not make the schema.
pub(super) fn schema_for(role: &str) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS segue AUTHORIZATION {};", quote_identifier(role))
}

/// What to run for a role that found the schema in other hands.
pub(super) fn owner_for(role: &str) -> String {
    format!(
        "-- who owns it now: SELECT nspowner::regrole FROM pg_namespace WHERE nspname = {};\n\
         ALTER SCHEMA segue OWNER TO {};",
        quote_literal("segue"),
        quote_identifier(role)
    )
}
