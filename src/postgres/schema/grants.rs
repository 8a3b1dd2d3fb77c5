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
         GRANT SET ON PARAMETER session_replication_role TO {role};\n",
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
    sql
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
