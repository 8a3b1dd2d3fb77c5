//! The role of callers' statements, asked in a session of its own.

use std::collections::BTreeMap;

use super::ask::Asker;
use super::server;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::table::TableName;
use crate::postgres::pool::Pool;
use crate::postgres::schema;
use crate::postgres::session::settings::{BEGIN_LOOK_AT_ONE_STATE, Purpose};
use crate::preflight::compared_settings;
use crate::preflight::describe::{Callers, Catalogue, TableFacts};

/// Of the role that a session is, and of the one that has logged in.
const ROLE: &str = "\
    SELECT current_user::text, session_user::text, r.rolsuper, \
        r.rolcreaterole AND pg_catalog.current_setting('server_version_num')::int4 < 160000, \
        (SELECT s.reset_val = 'on' FROM pg_catalog.pg_settings AS s \
            WHERE s.name = 'default_transaction_read_only') \
    FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user";
/// What it may do to segue's own tables.
const OWN_TABLES: &str = "\
    SELECT c.relname::text, pg_catalog.string_agg(p.name, ', ') \
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace, \
        pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) \
            AS p(name) \
    WHERE n.nspname = 'segue' AND c.relkind IN ('r', 'p') \
        AND pg_catalog.has_table_privilege(c.oid, p.name) \
        AND NOT (c.relname::text || ' ' || p.name) = ANY ($1) \
    GROUP BY c.relname ORDER BY c.relname = 'copy_token' DESC, c.relname";
/// Named so many times; the others are counted.
const TABLES_NAMED: usize = 3;

/// What it may do to the application's tables: whether it sees all rows of one whose row security
/// is on, whether it owns it, and what it lacks. A right on some columns is one on these.
const TABLES: &str = "\
    SELECT w.schema, w.name, \
        c.relrowsecurity AND (EXISTS (SELECT 1 FROM pg_catalog.pg_roles AS r \
                WHERE r.rolname = current_user AND (r.rolsuper OR r.rolbypassrls)) \
            OR NOT c.relforcerowsecurity AND pg_catalog.pg_has_role(c.relowner, 'USAGE')), \
        pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
        ARRAY(SELECT CASE WHEN u.p IN ('SELECT', 'INSERT', 'UPDATE') \
                AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
                AND pg_catalog.has_any_column_privilege(c.oid, u.p) \
            THEN pg_catalog.concat(u.p, ' (', (SELECT pg_catalog.string_agg(a.attname::text, ', ' \
                    ORDER BY a.attname) FROM pg_catalog.pg_attribute AS a \
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                    AND (pg_catalog.to_jsonb(a) ->> 'attishidden') IS DISTINCT FROM 'true' \
                    AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, u.p)), ')') \
            ELSE u.p END \
            FROM pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS u(p) \
            WHERE NOT pg_catalog.has_table_privilege(c.oid, u.p) \
            UNION ALL SELECT 'USAGE of the schema' \
            WHERE NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
            UNION ALL SELECT 'USAGE of the sequence of ' || a.attname::text \
            FROM pg_catalog.pg_depend AS d \
            JOIN pg_catalog.pg_class AS q ON q.oid = d.objid \
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid \
                AND d.deptype = 'a' AND CASE WHEN q.relkind = 'S' \
                    THEN NOT pg_catalog.has_sequence_privilege(q.oid, 'USAGE') ELSE false END) \
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS w(schema, name) \
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema \
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name";

/// What a session of callers says of itself and of the tables.
#[derive(Debug, Default)]
pub(super) struct Asked {
    name: String,
    login: String,
    cannot_log_in: Option<String>,
    superuser: bool,
    makes_roles: bool,
    read_only: bool,
    over_segues_tables: Option<String>,
    settings: BTreeMap<String, String>,
    tables: Vec<OnTable>,
    not_asked: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct OnTable {
    name: TableName,
    sees_all: bool,
    owns: bool,
    lacks: Vec<String>,
}

/// Asks in a session of its own, for which nobody waits: those of the pool may all be at work.
///
/// # Errors
///
/// A way to the database that is refused, or a connection that is lost.
pub(super) async fn ask(pool: &Pool, names: &[TableName]) -> Result<Asked, SqlFault> {
    let session = match pool.connector().connect(Purpose::Read).await {
        Ok(session) => session,
        Err(fault) if fault.kind == FaultKind::Refused => return Err(fault),
        Err(fault) => {
            return Ok(Asked { cannot_log_in: Some(fault.message), ..Asked::default() });
        }
    };
    session.batch_execute(BEGIN_LOOK_AT_ONE_STATE).await?;
    let mut asker = Asker::new(&session);
    let mut asked = Asked::default();
    let compared: Vec<&str> = compared_settings().collect();
    server::settings(&mut asker, &compared, &mut asked.settings).await?;
    role(&mut asker, &mut asked).await?;
    asked.over_segues_tables = over_segues_tables(&mut asker).await?;
    on_tables(&mut asker, names, &mut asked.tables).await?;
    asked.not_asked = asker.not_asked;
    Ok(asked)
}

/// Fills in what was asked. Who asks as segue's role has a transaction open.
pub(super) async fn fill(
    asked: Asked,
    own: &mut Asker<'_>,
    catalogue: &mut Catalogue,
    tables: &mut BTreeMap<u32, TableFacts>,
) -> Result<(), SqlFault> {
    catalogue.server.settings.extend(asked.settings);
    own.not_asked.extend(asked.not_asked);
    for it in asked.tables {
        if let Some(facts) = tables.values_mut().find(|facts| facts.table.name == it.name) {
            facts.callers_see_all = it.sees_all;
            facts.callers_own = it.owns;
            facts.callers_lack = it.lacks;
        }
    }
    let is_own = asked.name == catalogue.role.name;
    let callers = &mut catalogue.callers;
    callers.cannot_log_in = asked.cannot_log_in;
    callers.name = asked.name;
    callers.is_own = is_own;
    if is_own || callers.name.is_empty() {
        return Ok(());
    }
    // Of a role that is segue's own the same has been said.
    callers.read_only = asked.read_only;
    let between = between(own, &catalogue.role.name, &asked.login, callers).await?;
    if asked.superuser {
        callers.powers.push("is a superuser".to_owned());
        return Ok(());
    }
    if between {
        let own = &catalogue.role.name;
        callers.powers.push(format!("is a member of segue's role, {own}"));
    }
    if asked.makes_roles {
        callers.powers.push("has CREATEROLE, and can make itself a member of segue's".to_owned());
    }
    callers.powers.extend(asked.over_segues_tables);
    Ok(())
}

/// The role itself.
async fn role(asker: &mut Asker<'_>, asked: &mut Asked) -> Result<(), SqlFault> {
    let rows = asker.rows("the role of callers' statements", ROLE, &[]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let mut read = || -> Result<(), SqlFault> {
        (asked.name, asked.login) = (row.try_get(0)?, row.try_get(1)?);
        (asked.superuser, asked.makes_roles) = (row.try_get(2)?, row.try_get(3)?);
        asked.read_only = row.try_get::<_, Option<bool>>(4)? == Some(true);
        Ok(())
    };
    read()
}

async fn over_segues_tables(asker: &mut Asker<'_>) -> Result<Option<String>, SqlFault> {
    let allowed = asker.lease().dialect().used_by_callers();
    let rows = asker.rows("rights on segue's tables", OWN_TABLES, &[&allowed]).await?;
    let mut named = Vec::new();
    for row in rows.iter().take(TABLES_NAMED) {
        let read = || Ok((row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?));
        let (table, rights) = read()?;
        named.push(format!("{rights} on segue.{table}"));
    }
    if rows.len() > TABLES_NAMED {
        named.push(format!("the like on {} more", rows.len() - TABLES_NAMED));
    }
    Ok((!named.is_empty()).then(|| format!("has {}", named.join(", "))))
}

async fn on_tables(
    asker: &mut Asker<'_>,
    names: &[TableName],
    found: &mut Vec<OnTable>,
) -> Result<(), SqlFault> {
    let schemas: Vec<&str> = names.iter().map(|table| table.schema.as_str()).collect();
    let relations: Vec<&str> = names.iter().map(|table| table.name.as_str()).collect();
    let question = "what callers may do on tables";
    for row in asker.rows(question, TABLES, &[&schemas, &relations]).await? {
        let read = || -> Result<OnTable, SqlFault> {
            let name = TableName::new(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?);
            let (sees_all, owns) = (row.try_get(2)?, row.try_get(3)?);
            Ok(OnTable { name, sees_all, owns, lacks: row.try_get(4)? })
        };
        found.push(read()?);
    }
    Ok(())
}

/// Which other roles may write to these tables, and would be refused by capture's trigger there.
pub(super) async fn fill_writers(
    own: &mut Asker<'_>,
    catalogue: &mut Catalogue,
    tables: &BTreeMap<u32, TableFacts>,
) -> Result<(), SqlFault> {
    let dialect = own.lease().dialect();
    let Some(asked) = dialect.writers_without_capture() else { return Ok(()) };
    let rows = own.rows("whether segue is set up", dialect.is_set_up_for_callers(), &[]).await?;
    let is_set_up = rows.first().map(|row| row.try_get::<_, bool>(0)).transpose();
    if is_set_up? != Some(true) {
        return Ok(());
    }
    let oids: Vec<u32> = tables.keys().copied().collect();
    for row in own.rows("who writes to tables (pg_roles)", asked, &[&oids]).await? {
        let role: String = row.try_get(0)?;
        // Of callers' role the same has been said, and segue's own owns the schema.
        if role != catalogue.callers.name && role != catalogue.role.name {
            let grants = dialect.grants_for_capture(&role);
            catalogue.capture_lacks.push((role, grants));
        }
    }
    Ok(())
}

/// What stands between the two roles; answers whether callers' may become segue's.
async fn between(
    own: &mut Asker<'_>,
    own_role: &str,
    login: &str,
    callers: &mut Callers,
) -> Result<bool, SqlFault> {
    let session = own.lease();
    let dialect = session.dialect();
    let rows = own.rows("whether segue is set up", dialect.is_set_up_for_callers(), &[]).await?;
    if let Some(row) = rows.first()
        && row.try_get::<_, bool>(0)?
    {
        let lacks = schema::callers_lack(session.driver(), &callers.name, dialect).await;
        if lacks.map_err(|error| session.fault(error, true))? {
            callers.lacks = Some(dialect.for_callers(&callers.name));
        }
    }
    let question = "what is between segue's role and that of callers";
    let rows = own.rows(question, dialect.between_roles(), &[&login, &callers.name]).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    let read = || Ok((row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(1)?));
    let (becomes, may_end) = read()?;
    if !may_end {
        callers.cannot_be_ended = Some(schema::membership(own_role, login));
    }
    Ok(becomes)
}
