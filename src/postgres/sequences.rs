//! Generated keys: sequences and identity columns of one side go on above the other's.

use tokio_postgres::Row;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::table::{TableMapping, TableName, quote_identifier};
use crate::postgres::session::Session;

/// Sequences with the columns that they give keys to: those that own them (`serial`, identity),
/// and those whose default asks them.
const SEQUENCES: &str = "\
    SELECT n.nspname::text, c.relname::text, o.nspname::text, t.relname::text, a.attname::text, \
        s.seqincrement > 0, pg_catalog.pg_sequence_last_value(c.oid), \
        pg_catalog.has_sequence_privilege(c.oid, 'UPDATE'), current_user::text \
    FROM pg_catalog.pg_sequence AS s \
    JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid AND c.relpersistence = 'p' \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    LEFT JOIN (SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS place \
            FROM pg_catalog.pg_depend AS d \
            WHERE d.classid = 'pg_catalog.pg_class'::regclass \
                AND d.refclassid = 'pg_catalog.pg_class'::regclass \
                AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') \
        UNION SELECT d.refobjid, f.adrelid, f.adnum FROM pg_catalog.pg_depend AS d \
            JOIN pg_catalog.pg_attrdef AS f ON f.oid = d.objid \
            WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass \
                AND d.refclassid = 'pg_catalog.pg_class'::regclass) AS u ON u.sequence = c.oid \
    LEFT JOIN pg_catalog.pg_class AS t ON t.oid = u.relation \
    LEFT JOIN pg_catalog.pg_namespace AS o ON o.oid = t.relnamespace \
    LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = u.relation AND a.attnum = u.place \
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'segue') ORDER BY 1, 2";

/// The same on CockroachDB, which keeps no such dependencies: each with no column.
const SEQUENCES_OF_COCKROACH: &str = "\
    SELECT s.schemaname::text, s.sequencename::text, NULL::text, NULL::text, NULL::text, \
        s.increment_by > 0, s.last_value, pg_catalog.has_sequence_privilege(c.oid, 'UPDATE'), \
        current_user::text \
    FROM pg_catalog.pg_sequences AS s \
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = s.schemaname \
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = s.sequencename \
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'segue') ORDER BY 1, 2";
/// Columns whose default asks a sequence, with the default.
const DEFAULTS_OF_COCKROACH: &str = "\
    SELECT n.nspname::text, t.relname::text, a.attname::text, \
        pg_catalog.pg_get_expr(d.adbin, d.adrelid) \
    FROM pg_catalog.pg_attrdef AS d JOIN pg_catalog.pg_class AS t ON t.oid = d.adrelid \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace \
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
    WHERE pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%'";

type Column = (TableName, String);

/// A sequence of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sequence {
    name: TableName,
    columns: Vec<Column>,
    ascends: bool,
    last: Option<i64>,
    may_set: bool,
    role: String,
}

impl Sequence {
    /// Of two numbers the one that lies further on its way.
    fn further(&self, one: Option<i64>, other: Option<i64>) -> Option<i64> {
        match (one, other) {
            (Some(one), Some(other)) if self.ascends => Some(one.max(other)),
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn has_passed(&self, wanted: i64) -> bool {
        self.last.is_some_and(|last| if self.ascends { last >= wanted } else { last <= wanted })
    }
}

/// Sets each sequence of `to` that gives keys to a migrated table, or has a namesake on `from`,
/// beyond what was given out on `from` and beyond what its own columns hold. One that is
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
        let mut wanted = None;
        for (table, column) in &sequence.columns {
            let mapping = mappings.iter().find(|mapping| mapping.on(to.side()) == table);
            let Some(mapping) = mapping else { continue };
            let held = outermost(to, table, column, sequence.ascends).await?;
            wanted = sequence.further(wanted, held);
            let theirs = (mapping.on(from.side()).clone(), column.clone());
            for twin in there.iter().filter(|twin| twin.columns.contains(&theirs)) {
                wanted = sequence.further(wanted, twin.last);
            }
        }
        for twin in there.iter().filter(|twin| twin.name == sequence.name) {
            wanted = sequence.further(wanted, twin.last);
        }
        let Some(wanted) = wanted.filter(|wanted| !sequence.has_passed(*wanted)) else { continue };
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
    let is_cockroach = session.facts().is_cockroach;
    let sql = if is_cockroach { SEQUENCES_OF_COCKROACH } else { SEQUENCES };
    let prepared = session.prepared(sql).await?;
    let rows = session.query(&prepared.statement, &[]).await.map_err(failed)?;
    let mut sequences: Vec<Sequence> = Vec::new();
    for row in &rows {
        let (found, column) = read(row).map_err(failed)?;
        // One row for each column, those of a sequence together.
        if sequences.last().is_none_or(|last| last.name != found.name) {
            sequences.push(found);
        }
        if let (Some(last), Some(column)) = (sequences.last_mut(), column) {
            last.columns.push(column);
        }
    }
    if is_cockroach {
        let rows = session.query(DEFAULTS_OF_COCKROACH, &[]).await.map_err(failed)?;
        for row in &rows {
            let read = || -> Result<(Column, String), tokio_postgres::Error> {
                let table = TableName { schema: row.try_get(0)?, name: row.try_get(1)? };
                Ok(((table, row.try_get(2)?), row.try_get(3)?))
            };
            let (column, default) = read().map_err(failed)?;
            let asked = sequences.iter_mut().find(|it| asks(&default, &it.name, &column.0));
            if let Some(asked) = asked {
                asked.columns.push(column);
            }
        }
    }
    Ok(sequences)
}

/// Whether a default, `nextval('schema.name'::REGCLASS)`, asks this sequence. Without a schema it
/// is one of the table's own; a database may stand before the schema.
fn asks(default: &str, sequence: &TableName, table: &TableName) -> bool {
    let Some(named) = default.split('\'').nth(1) else { return false };
    let bare = |part: &str| part.trim_matches('"').replace("\"\"", "\"");
    let mut parts = named.rsplit('.').map(bare);
    let (name, schema) = (parts.next(), parts.next());
    name.as_deref() == Some(&sequence.name)
        && schema.unwrap_or_else(|| table.schema.clone()) == sequence.schema
}

fn read(row: &Row) -> Result<(Sequence, Option<Column>), tokio_postgres::Error> {
    let column = match (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?) {
        (Some(schema), Some(name), Some(column)) => Some((TableName { schema, name }, column)),
        _ => None,
    };
    let sequence = Sequence {
        name: TableName { schema: row.try_get(0)?, name: row.try_get(1)? },
        columns: Vec::new(),
        ascends: row.try_get(5)?,
        last: row.try_get(6)?,
        may_set: row.try_get(7)?,
        role: row.try_get(8)?,
    };
    Ok((sequence, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_names_its_sequence() {
        let table = TableName::new("shop", "ticket");
        let sequence = |schema: &str, name: &str| TableName::new(schema, name);
        let is = |default: &str, sequence: TableName| asks(default, &sequence, &table);
        assert!(is("nextval('public.t_id_seq'::REGCLASS)", sequence("public", "t_id_seq")));
        assert!(is("nextval('db.public.t_id_seq'::REGCLASS)", sequence("public", "t_id_seq")));
        assert!(is("nextval('t_id_seq'::regclass)", sequence("shop", "t_id_seq")));
        assert!(is("nextval('\"S\".\"T\"\"s\"'::regclass)", sequence("S", "T\"s")));
        assert!(!is("nextval('t_id_seq'::regclass)", sequence("public", "t_id_seq")));
        assert!(!is("unique_rowid()", sequence("public", "t_id_seq")));
    }
}
