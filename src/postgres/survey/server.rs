//! The server, its database, and segue's role.

use std::collections::BTreeMap;

use crate::domain::fault::SqlFault;
use crate::domain::table::TableName;
use crate::postgres::schema;
use crate::postgres::session::asked::Row;
use crate::postgres::survey::ask::Asker;
use crate::preflight::describe::{Collation, Role, SegueSchema, Server};

const DATABASE: &str = "SELECT d.datname::text, pg_catalog.pg_encoding_to_char(d.encoding)::text, \
    d.datcollate::text, coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c'), \
    coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale', '') \
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()";

/// What a session begins with, and not what segue has set in this one.
const SETTINGS: &str =
    "SELECT name, coalesce(reset_val, '') FROM pg_catalog.pg_settings WHERE name = ANY ($1)";

/// Settings of the server that are judged by themselves.
const OWN_SETTINGS: [&str; 4] =
    ["synchronous_commit", "fsync", "full_page_writes", "max_prepared_transactions"];

const SCHEMA: &str = "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'), \
    (SELECT pg_catalog.pg_has_role(n.nspowner, 'USAGE') \
        OR pg_catalog.has_schema_privilege(n.oid, 'USAGE, CREATE') \
        FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'segue')";

/// Whether the role can say of each table's triggers that they fire in every session: as an
/// owner, or by the function that does it for a role that is none.
const MAY_FIRE_ALWAYS: &str = "
SELECT coalesce(pg_catalog.bool_and(pg_catalog.pg_has_role(c.relowner, 'USAGE')), true)
    OR EXISTS (SELECT FROM pg_catalog.pg_proc AS p
        JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname = 'segue' AND p.proname = 'enable_always'
            AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE'))
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]))
    AS t (schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name";
const CLOSED_SCHEMAS: &str = "SELECT n.nspname::text FROM pg_catalog.pg_namespace AS n \
    WHERE n.nspname = ANY ($1) AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1";

const AS_REPLICA: &str = "SET LOCAL session_replication_role = replica";

/// What is read of rows, where nothing else tells of which type its error is.
fn of<T>(read: impl FnOnce() -> Result<T, SqlFault>) -> Result<T, SqlFault> {
    read()
}

pub(super) async fn server(asker: &mut Asker<'_>) -> Result<Server, SqlFault> {
    let facts = asker.lease().facts().clone();
    let mut server = Server {
        dialect: facts.dialect,
        in_recovery: facts.in_recovery,
        read_only: facts.read_only,
        ..Server::default()
    };
    let rows = asker.rows("encoding and collation (pg_database)", DATABASE, &[]).await?;
    if let Some(row) = rows.first() {
        of(|| {
            server.database = row.try_get(0)?;
            server.encoding = row.try_get(1)?;
            server.collation = collation(row)?;
            Ok(())
        })?;
    }
    settings(asker, &OWN_SETTINGS, &mut server.settings).await?;
    Ok(server)
}

/// Settings by name, as sessions of who asks begin with them.
pub(super) async fn settings(
    asker: &mut Asker<'_>,
    names: &[&str],
    found: &mut BTreeMap<String, String>,
) -> Result<(), SqlFault> {
    for row in asker.rows("settings (pg_settings)", SETTINGS, &[&names]).await? {
        let (name, value) = of(|| Ok((row.try_get(0)?, row.try_get(1)?)))?;
        found.insert(name, value);
    }
    Ok(())
}

fn collation(row: &Row) -> Result<Collation, SqlFault> {
    let (libc, provider, other): (String, &str, String) =
        (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
    let locale = if provider == "c" { libc } else { other };
    Ok(Collation { provider: provider_name(provider), locale, is_blind: false })
}

/// `pg_collation.collprovider` in words.
pub(super) fn provider_name(letter: &str) -> String {
    match letter {
        "c" => "libc",
        "i" => "icu",
        "b" => "builtin",
        other => other,
    }
    .to_owned()
}

pub(super) async fn role(asker: &mut Asker<'_>, tables: &[TableName]) -> Result<Role, SqlFault> {
    let mut role = Role::default();
    let rows = asker.rows("the role's name", "SELECT current_user::text", &[]).await?;
    if let Some(row) = rows.first() {
        role.name = of(|| row.try_get(0))?;
    }
    if asker.lease().dialect().has_replication_role() {
        role.may_be_replica = asker.is_allowed(AS_REPLICA).await?;
    }
    let rows = asker.rows("segue's schema (pg_namespace)", SCHEMA, &[]).await?;
    if let Some(row) = rows.first() {
        let (may_create, usable): (bool, Option<bool>) =
            of(|| Ok((row.try_get(0)?, row.try_get(1)?)))?;
        role.schema = match usable {
            Some(true) => SegueSchema::Usable,
            Some(false) => SegueSchema::OfAnother,
            None if may_create => SegueSchema::Usable,
            None => SegueSchema::CannotBeMade,
        };
    }
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    if asker.lease().dialect().tells_when_triggers_fire() {
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let question = "owners of tables (pg_class)";
        let rows = asker.rows(question, MAY_FIRE_ALWAYS, &[&schemas, &names]).await?;
        if let Some(row) = rows.first()
            && !of(|| row.try_get::<_, bool>(0))?
        {
            role.always_missing = Some(schema::always_for(&role.name));
        }
    }
    let question = "rights on schemas (has_schema_privilege)";
    for row in asker.rows(question, CLOSED_SCHEMAS, &[&schemas]).await? {
        role.closed_schemas.push(of(|| row.try_get(0))?);
    }
    Ok(role)
}

pub(super) async fn extensions(
    asker: &mut Asker<'_>,
) -> Result<BTreeMap<String, String>, SqlFault> {
    let sql = "SELECT extname::text, extversion FROM pg_catalog.pg_extension";
    let rows = asker.rows("extensions (pg_extension)", sql, &[]).await?;
    of(|| rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect())
}

pub(super) async fn prepared(asker: &mut Asker<'_>) -> Result<Vec<String>, SqlFault> {
    let sql = "SELECT gid FROM pg_catalog.pg_prepared_xacts \
        WHERE database = pg_catalog.current_database() ORDER BY gid";
    let rows = asker.rows("prepared transactions (pg_prepared_xacts)", sql, &[]).await?;
    of(|| rows.iter().map(|row| row.try_get(0)).collect())
}

pub(super) async fn has_large_objects(asker: &mut Asker<'_>) -> Result<bool, SqlFault> {
    if !asker.lease().dialect().has_large_objects() {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_largeobject_metadata)";
    let rows = asker.rows("large objects (pg_largeobject_metadata)", sql, &[]).await?;
    match rows.first() {
        Some(row) => of(|| row.try_get(0)),
        None => Ok(false),
    }
}
