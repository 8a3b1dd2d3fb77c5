//! Sequences that columns take their numbers from, and how far the columns have come.

use std::collections::BTreeMap;

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::domain::table::quote_identifier;
use crate::postgres::survey::ask::Asker;
use crate::postgres::survey::constraints::{each, name_at};
use crate::preflight::describe::{Sequence, TableFacts};
use crate::preflight::is_plain_nextval;

/// Types that hold a sequence's numbers as they are.
const NUMERIC: [&str; 4] = ["int2", "int4", "int8", "numeric"];

/// By a default that names it, or as an identity.
const SEQUENCES: &str = "
WITH used (relid, attnum, seqid) AS (
    SELECT d.adrelid, d.adnum, p.refobjid FROM pg_catalog.pg_attrdef AS d
    JOIN pg_catalog.pg_depend AS p ON p.classid = 'pg_catalog.pg_attrdef'::regclass
        AND p.objid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::regclass
    WHERE d.adrelid = ANY ($1)
    UNION
    SELECT p.refobjid, p.refobjsubid, p.objid FROM pg_catalog.pg_depend AS p
    WHERE p.classid = 'pg_catalog.pg_class'::regclass
        AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.deptype = 'i'
        AND p.refobjid = ANY ($1)
)
SELECT u.relid, a.attname::text, n.nspname::text, c.relname::text,
    pg_catalog.format_type(s.seqtypid, NULL), s.seqstart, s.seqmin, s.seqmax, s.seqincrement,
    s.seqcycle,
    CASE WHEN pg_catalog.has_sequence_privilege(c.oid, 'USAGE')
            OR pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
        THEN pg_catalog.pg_sequence_last_value(c.oid) END,
    EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS o WHERE o.objid = c.oid AND o.refobjid = u.relid
        AND o.refobjsubid = u.attnum AND o.classid = 'pg_catalog.pg_class'::regclass
        AND o.refclassid = 'pg_catalog.pg_class'::regclass AND o.deptype IN ('a', 'i')),
    ARRAY(SELECT p FROM pg_catalog.unnest(ARRAY['SELECT', 'UPDATE']) AS w (p)
        WHERE NOT pg_catalog.has_sequence_privilege(c.oid, p))
FROM used AS u
JOIN pg_catalog.pg_class AS c ON c.oid = u.seqid AND c.relkind = 'S'
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = c.oid
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = u.relid AND a.attnum = u.attnum";

pub(super) async fn fill(
    asker: &mut Asker<'_>,
    tables: &mut BTreeMap<u32, TableFacts>,
) -> Result<(), SqlFault> {
    let oids: Vec<u32> = tables.keys().copied().collect();
    each(asker, "sequences (pg_sequence)", SEQUENCES, &[&oids], tables, |row, facts| {
        let column: String = row.try_get(1)?;
        let sequence = Sequence {
            name: name_at(row, 2)?,
            data_type: row.try_get(4)?,
            start: row.try_get(5)?,
            min: row.try_get(6)?,
            max: row.try_get(7)?,
            increment: row.try_get(8)?,
            cycles: row.try_get(9)?,
            last: row.try_get(10)?,
            largest: None,
            is_owned: row.try_get(11)?,
            missing_rights: row.try_get(12)?,
            is_plain: false,
        };
        let default = facts.table.column(&column).and_then(|column| column.default.as_deref());
        let is_alone = default.is_none_or(is_plain_nextval);
        if let Some(column) = facts.columns.get_mut(&column) {
            let is_numeric = NUMERIC.contains(&column.ty.base().name.as_str());
            column.sequence = Some(Sequence { is_plain: is_alone && is_numeric, ..sequence });
        }
        Ok(())
    })
    .await?;
    // The target's sequences are set by the cutover, whatever is in the table until then.
    if asker.lease().facts().side == Side::Source {
        largest(asker, tables).await?;
    }
    Ok(())
}

/// The largest number of each such column, where an index begins with it: elsewhere the whole
/// table would have to be read.
async fn largest(
    asker: &mut Asker<'_>,
    tables: &mut BTreeMap<u32, TableFacts>,
) -> Result<(), SqlFault> {
    for facts in tables.values_mut() {
        // What may not be read, or not all of it, is told already.
        if facts.hidden_rows || facts.missing_rights.iter().any(|right| right == "SELECT") {
            continue;
        }
        let key = facts.table.primary_key.iter().filter_map(|key| key.columns.first());
        let key = key.map(|column| column.name.clone());
        let indexes = facts.table.unique_indexes.iter().filter(|index| !index.partial);
        let first = indexes.filter_map(|index| index.columns.first().cloned().flatten());
        let indexed: Vec<String> = key.chain(first).collect();
        let quoted = facts.table.name.quoted();
        for (name, column) in &mut facts.columns {
            let is_indexed = indexed.contains(name);
            let Some(sequence) =
                column.sequence.as_mut().filter(|sequence| is_indexed && sequence.is_plain)
            else {
                continue;
            };
            // Numbers beyond its end it never gives.
            let (column, max) = (quote_identifier(name), sequence.max);
            let sql = format!(
                "SELECT pg_catalog.max(t.{column})::pg_catalog.int8 FROM {quoted} AS t \
                WHERE t.{column} <= ({max})"
            );
            let rows = asker.rows("the largest number of a column", &sql, &[]).await?;
            if let Some(row) = rows.first() {
                sequence.largest = row.try_get(0)?;
            }
        }
    }
    Ok(())
}
