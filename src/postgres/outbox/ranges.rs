//! Ranges of a table's key that rows of the outbox stand for.
//!
//! A row without a key stands for its whole table, unless its `write_id` names a range in
//! `segue.key_range`: then for the keys of that range alone. Whoever does not know of ranges
//! takes it for the whole table, which is more than needed and never too little.
//!
//! A table's key is cut once, when its keys are folded first: at the chunks that verify knows, or
//! at the keys of a sample of its rows. The ranges meet without a gap, and stay until nothing is
//! pending of the table. They are in the order of the key's values, of texts by their bytes, as
//! verify's chunks are; `key_form` says of which columns and types, and where these have changed
//! the ranges are no longer gone by.

use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::domain::key_range::KeyRange;
use crate::domain::side::Side;
use crate::domain::table::{quote_identifier, quote_literal};
use crate::postgres::outbox::KEY_TEXTS;
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;

/// Ranges of one table: enough that a batch job of one part of a table leaves the others alone,
/// and few enough that the rows that stand for them take next to nothing.
const RANGES_MAX: i64 = 256;
/// Rows of a range, at least: as many are gone through in well under a second.
const RANGE_ROWS_MIN: i64 = 1000;
/// Blocks of a table that are read to learn how its keys lie.
const SAMPLE_BLOCKS: f64 = 300.0;

/// A range that rows of the outbox stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedRange {
    /// Its keys.
    pub range: KeyRange,
    /// The key's columns and their types on the primary, in order, when it was cut.
    pub key_form: Vec<String>,
}

/// The order in which a table's key was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyOrder {
    key_form: Vec<String>,
    columns: Vec<KeyColumn>,
    /// The table, quoted.
    table: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyColumn {
    name: String,
    cast: String,
    is_text: bool,
}

/// What a fold may need of the primary's catalogue and of the application's table. READ COMMITTED:
/// a cut that another member has begun is waited for, and seen.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off; \
    SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '5s'";

const GIVE_WAY: &str = "SET LOCAL lock_timeout = '200ms'";

/// One cut of a table's key at a time: two of them would not meet.
const ALONE: &str = "SELECT 1 FROM segue.migrated_table WHERE table_id = $1 FOR UPDATE";
const IS_WHOLE: &str = "\
    SELECT EXISTS (SELECT 1 FROM segue.outbox AS o WHERE o.table_id = $1 AND o.key IS NULL \
        AND o.forgotten_at IS NULL AND NOT EXISTS ( \
            SELECT 1 FROM segue.key_range AS r WHERE r.range_id = o.write_id))";
const KNOWN: &str = "SELECT key_form FROM segue.key_range WHERE table_id = $1 LIMIT 1";
const NOTED: &str = "SELECT after_key, until_key, key_form FROM segue.key_range \
    WHERE table_id = $1 AND range_id = $2::text::uuid";

/// The key's columns, in order. A text whose own order is not that of its bytes has an index that
/// does not serve for ranges which mean the same on both sides.
const KEY: &str = "\
    SELECT a.attname::text, pg_catalog.format_type(a.atttypid, -1), l.oid IS NOT NULL, \
        l.oid IS NULL OR l.collprovider::text = 'b' \
            OR (l.collprovider::text = 'c' AND l.collcollate IN ('C', 'POSIX')) \
            OR (l.collprovider::text = 'd' AND d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') \
                AND coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'), \
        pg_catalog.format('%I.%I', n.nspname, c.relname), \
        pg_catalog.cardinality(m.key_columns) \
    FROM segue.migrated_table AS m \
    JOIN pg_catalog.pg_namespace AS n \
        ON n.nspname = CASE WHEN $2 THEN m.source_schema ELSE m.target_schema END \
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid \
        AND c.relname = CASE WHEN $2 THEN m.source_name ELSE m.target_name END \
    CROSS JOIN LATERAL pg_catalog.unnest(m.key_columns) WITH ORDINALITY AS k(name, n) \
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = k.name \
        AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation \
    JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database() \
    WHERE m.table_id = $1 ORDER BY k.n";
const BLOCKS: &str = "\
    SELECT (pg_catalog.sum(pg_catalog.pg_relation_size(p.relid)) \
        / pg_catalog.current_setting('block_size')::int8)::float8 \
    FROM pg_catalog.pg_partition_tree($1::text::pg_catalog.regclass) AS p WHERE p.isleaf";
const OF_VERIFY: &str =
    "SELECT v.until_key FROM segue.verify AS v WHERE v.table_id = $1 AND v.until_key IS NOT NULL";

// === impl KeyOrder ===

impl KeyOrder {
    /// What to order keys of the outbox by, such as `m.key`.
    pub(super) fn by(&self, key: &str) -> String {
        let columns = self.columns.iter().enumerate().map(|(index, column)| {
            let collate = if column.is_text { " COLLATE pg_catalog.\"C\"" } else { "" };
            format!("({key})[{}]::{}{collate}", index + 1, column.cast)
        });
        columns.collect::<Vec<_>>().join(", ")
    }

    /// How many columns a key has.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The key's columns and types as SQL, as ranges of it have them.
    pub(super) fn form(&self) -> String {
        let columns: Vec<String> = self.key_form.iter().map(|it| quote_literal(it)).collect();
        format!("ARRAY[{}]::text[]", columns.join(", "))
    }

    fn texts(&self) -> String {
        let name =
            |column: &KeyColumn| format!("t.{}::pg_catalog.text", quote_identifier(&column.name));
        self.columns.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// What a row of the outbox without a key stands for, where it is a range.
///
/// # Errors
///
/// What the database reports.
pub async fn noted(
    client: &Lease,
    table_id: i32,
    range: WriteId,
) -> Result<Option<NotedRange>, SqlFault> {
    let noted = client.prepared(NOTED).await?;
    let row = client.query_opt(&noted.statement, &[&table_id, &range.to_string()]).await?;
    let read = |row: &Row| -> Result<NotedRange, SqlFault> {
        let range = KeyRange { after: row.try_get(0)?, until: row.try_get(1)? };
        Ok(NotedRange { range, key_form: row.try_get(2)? })
    };
    row.as_ref().map(read).transpose()
}

/// Cuts a table's key into ranges, unless it is cut already. `None` where it cannot be, or need
/// not: the table is small, is pending as a whole, or its key's order is not the same everywhere.
///
/// If we crash here, the table is cut when its keys are folded next.
pub(super) async fn cut(client: &Lease, side: Side, table_id: i32) -> Option<KeyOrder> {
    if !client.dialect().samples_pages() {
        return None;
    }
    let begun = client.batch_execute(&format!("{BEGIN}; {KEY_TEXTS}")).await;
    let order = match begun {
        Ok(()) => cut_here(client, side, table_id).await,
        Err(error) => Err(error),
    };
    let end = if order.is_ok() { "COMMIT" } else { "ROLLBACK" };
    match client.batch_execute(end).await.and(order) {
        Ok(order) => order,
        Err(error) => {
            tracing::warn!(
                table_id, %error,
                "a table cannot be cut into ranges of its key; it is tracked as a whole"
            );
            None
        }
    }
}

async fn cut_here(client: &Lease, side: Side, table_id: i32) -> Result<Option<KeyOrder>, SqlFault> {
    client.query(ALONE, &[&table_id]).await?;
    if client.query_one(IS_WHOLE, &[&table_id]).await?.try_get(0)? {
        return Ok(None);
    }
    let Some(order) = order(client, side, table_id).await? else { return Ok(None) };
    if let Some(known) = client.query_opt(KNOWN, &[&table_id]).await? {
        // Keys of another primary key: the whole table is to be compared anyway.
        return Ok((known.try_get::<_, Vec<String>>(0)? == order.key_form).then_some(order));
    }
    let of_verify = insert(&order, OF_VERIFY, 1);
    let params: [&(dyn ToSql + Sync); 2] = [&table_id, &order.key_form];
    if client.execute(&of_verify, &params).await? > 0 {
        return Ok(Some(order));
    }
    let blocks: Option<f64> = client.query_one(BLOCKS, &[&order.table]).await?.try_get(0)?;
    // Whoever changes the table now is not to find segue in the way.
    client.batch_execute(GIVE_WAY).await?;
    let share = (SAMPLE_BLOCKS / blocks.unwrap_or(0.0).max(1.0)).min(1.0);
    let sample = format!(
        "SELECT ARRAY[{}] FROM {} AS t TABLESAMPLE SYSTEM ({})",
        order.texts(),
        order.table,
        share * 100.0
    );
    let rows_min = (RANGE_ROWS_MIN as f64 * share).ceil() as i64;
    let ranges = client.execute(&insert(&order, &sample, rows_min), &params).await?;
    Ok((ranges > 0).then_some(order))
}

async fn order(client: &Lease, side: Side, table_id: i32) -> Result<Option<KeyOrder>, SqlFault> {
    let rows = client.query(KEY, &[&table_id, &(side == Side::Source)]).await?;
    let mut order = KeyOrder { key_form: Vec::new(), columns: Vec::new(), table: String::new() };
    let mut width = 0;
    for row in &rows {
        let (name, cast): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if !row.try_get::<_, bool>(3)? {
            return Ok(None);
        }
        order.table = row.try_get(4)?;
        width = row.try_get(5)?;
        order.key_form.push(form(&quote_identifier(&name), &cast));
        order.columns.push(KeyColumn { name, cast, is_text: row.try_get(2)? });
    }
    let is_whole = width > 0 && usize::try_from(width).is_ok_and(|width| width == rows.len());
    Ok(is_whole.then_some(order))
}

/// A column of a key as `key_form` has it.
pub fn form(quoted: &str, cast: &str) -> String {
    format!("{quoted} {cast}")
}

/// Cuts at some of the candidates: every so-many-th of them, in order.
fn insert(order: &KeyOrder, candidates: &str, every_min: i64) -> String {
    format!(
        "INSERT INTO segue.key_range (range_id, table_id, place, after_key, until_key, key_form) \
         WITH numbered AS (SELECT m.key, pg_catalog.row_number() OVER (ORDER BY {by}) AS n, \
             pg_catalog.count(*) OVER () AS found FROM ({candidates}) AS m(key) \
             WHERE pg_catalog.cardinality(m.key) = {width}), \
         cuts AS (SELECT c.key, pg_catalog.row_number() OVER (ORDER BY c.n) AS n FROM numbered AS c \
             WHERE c.n < c.found AND pg_catalog.mod(c.n, greatest({every_min}, \
                 pg_catalog.ceil(c.found / {RANGES_MAX}.0)::int8)) = 0), \
         bounds AS (SELECT c.n, pg_catalog.lag(c.key) OVER (ORDER BY c.n) AS low, c.key AS high \
             FROM cuts AS c \
             UNION ALL SELECT pg_catalog.count(*) + 1, \
                 (SELECT l.key FROM cuts AS l ORDER BY l.n DESC LIMIT 1), NULL \
             FROM cuts HAVING pg_catalog.count(*) > 0) \
         SELECT pg_catalog.gen_random_uuid(), $1, (b.n - 1)::int4, b.low, b.high, $2 \
         FROM bounds AS b",
        by = order.by("m.key"),
        width = order.width(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_ordered_by_their_bytes_and_other_types_as_they_are() {
        let column = |name: &str, cast: &str, is_text| KeyColumn {
            name: name.to_owned(),
            cast: cast.to_owned(),
            is_text,
        };
        let order = KeyOrder {
            key_form: Vec::new(),
            columns: vec![column("a", "text", true), column("b c", "integer", false)],
            table: "public.t".to_owned(),
        };
        assert_eq!(
            order.by("m.key"),
            "(m.key)[1]::text COLLATE pg_catalog.\"C\", (m.key)[2]::integer"
        );
        assert_eq!(order.texts(), "t.\"a\"::pg_catalog.text, t.\"b c\"::pg_catalog.text");
    }
}
