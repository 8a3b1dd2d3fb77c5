//! Generated keys: sequences and identity columns of one side go on above the other's.

use tokio_postgres::Row;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::table::{TableMapping, TableName, quote_identifier};
use crate::postgres::session::Session;

/// Sequences with their owners: of `serial` and of identity columns.
const SEQUENCES: &str = "\
    SELECT n.nspname::text, c.relname::text, o.nspname::text, t.relname::text, a.attname::text, \
        s.seqincrement > 0, s.seqcycle, pg_catalog.pg_sequence_last_value(c.oid), \
        pg_catalog.has_sequence_privilege(c.oid, 'UPDATE'), current_user::text \
    FROM pg_catalog.pg_sequence AS s \
    JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid AND c.relpersistence = 'p' \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    LEFT JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_class'::regclass \
        AND d.objid = c.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass \
        AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') \
    LEFT JOIN pg_catalog.pg_class AS t ON t.oid = d.refobjid \
    LEFT JOIN pg_catalog.pg_namespace AS o ON o.oid = t.relnamespace \
    LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'segue') ORDER BY 1, 2";

/// A sequence of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sequence {
    name: TableName,
    owner: Option<(TableName, String)>,
    ascends: bool,
    last: Option<i64>,
    may_set: bool,
    role: String,
}

/// Sets each sequence of `to` that belongs to a migrated table, or has a namesake on `from`,
/// beyond what was given out on `from` and beyond what its own column holds. One that is
/// beyond already stays. Answers how many were set.
///
/// Safe to repeat. *If we crash here*, some keys are skipped.
///
/// # Errors
///
/// What a database reports, or the sequence that may not be set.
pub async fn advance(
    from: &Session,
    to: &Session,
    mappings: &[TableMapping],
) -> Result<u64, SqlFault> {
    let (there, here) = (list(from).await?, list(to).await?);
    let mut set = 0;
    for sequence in &here {
        let owner = sequence.owner.as_ref().and_then(|(table, column)| {
            let mapping = mappings.iter().find(|mapping| mapping.on(to.side()) == table)?;
            Some((mapping.on(from.side()), column))
        });
        let twin = there.iter().find(|other| match (&owner, &other.owner) {
            (Some((table, column)), Some((their_table, their_column))) => {
                *table == their_table && *column == their_column
            }
            _ => false,
        });
        let twin = twin.or_else(|| there.iter().find(|other| other.name == sequence.name));
        if twin.is_none() && owner.is_none() {
            continue;
        }
        let held = match (&sequence.owner, &owner) {
            (Some((table, column)), Some(_)) => {
                outermost(to, table, column, sequence.ascends).await?
            }
            _ => None,
        };
        let given = twin.and_then(|twin| twin.last);
        let wanted = if sequence.ascends { given.max(held) } else { least(given, held) };
        let beyond = |wanted: i64| {
            let Some(last) = sequence.last else { return false };
            if sequence.ascends { last >= wanted } else { last <= wanted }
        };
        let Some(wanted) = wanted.filter(|wanted| !beyond(*wanted)) else { continue };
        if !sequence.may_set {
            let (name, role) = (sequence.name.quoted(), quote_identifier(&sequence.role));
            let message = format!("sequence {} may not be set", sequence.name);
            return Err(SqlFault::new(FaultKind::Precondition, "refused.sequence", message)
                .with_hint(format!("run GRANT UPDATE ON SEQUENCE {name} TO {role}"))
                .on(to.side()));
        }
        let sql = "SELECT pg_catalog.setval($1::text::pg_catalog.regclass, $2, true)";
        let prepared = to.prepared(sql).await?;
        let done = to.query(&prepared.statement, &[&sequence.name.quoted(), &wanted]).await;
        done.map_err(|error| to.fault(error, true))?;
        set += 1;
    }
    Ok(set)
}

fn least(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What a column holds at the end that its sequence goes to.
async fn outermost(
    session: &Session,
    table: &TableName,
    column: &str,
    ascends: bool,
) -> Result<Option<i64>, SqlFault> {
    let (column, end) = (quote_identifier(column), if ascends { "max" } else { "min" });
    let sql = format!("SELECT pg_catalog.{end}({column})::pg_catalog.int8 FROM {}", table.quoted());
    let row = session.query_one(&sql, &[]).await.map_err(|error| session.fault(error, false))?;
    row.try_get(0).map_err(|error| session.fault(error, false))
}

async fn list(session: &Session) -> Result<Vec<Sequence>, SqlFault> {
    let failed = |error| session.fault(error, false);
    let prepared = session.prepared(SEQUENCES).await?;
    let rows = session.query(&prepared.statement, &[]).await.map_err(failed)?;
    let read = |row: &Row| -> Result<Sequence, tokio_postgres::Error> {
        let owner = match (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?) {
            (Some(schema), Some(name), Some(column)) => Some((TableName { schema, name }, column)),
            _ => None,
        };
        Ok(Sequence {
            name: TableName { schema: row.try_get(0)?, name: row.try_get(1)? },
            owner,
            ascends: row.try_get(5)?,
            last: row.try_get(7)?,
            may_set: row.try_get(8)?,
            role: row.try_get(9)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
}
