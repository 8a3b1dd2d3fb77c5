//! CockroachDB's catalogue where it has other values than PostgreSQL's: views that have them, in a
//! schema of their own, which statements are pointed to.

use super::facts::Facts;

/// Where the views are.
pub const SCHEMA: &str = "cockroach_catalog";
const OF: &str = "pg_catalog.";
/// What is otherwise within the server.
const PLAYED: &str = include_str!("played.sql");

/// What a column that has one value in all rows has, as SQL over the table `t`.
const CONSTANT: [(&str, &str); 5] = [
    ("pg_constraint.condeferrable", "false"),
    // Whatever was asked for but being disabled.
    ("pg_trigger.tgenabled", "CASE t.tgenabled WHEN 'D' THEN t.tgenabled ELSE 'A' END"),
    ("pg_trigger.tgattr", "''::int2vector"),
    ("pg_index.indnullsnotdistinct", "false"),
    ("pg_index.indclass", "rtrim(repeat('0 ', t.indnatts))::oidvector"),
];

/// Columns that PostgreSQL has not, of a table `t`, with what they have.
const ADDED: [(&str, &str, &str); 1] = [(
    "pg_attribute",
    "attishidden",
    // Those that nobody declared are told by this (`played.sql`).
    "coalesce(pg_catalog.col_description(t.attrelid, t.attnum) = 'hidden', false)",
)];

/// Tables of which something is another, by their names.
fn tables(facts: &Facts) -> impl Iterator<Item = (&str, &super::facts::Table)> {
    let tables = facts.catalog.tables.iter();
    let tables = tables.filter_map(|(name, table)| Some((name.strip_prefix(OF)?, table)));
    tables.filter(|(name, it)| {
        let has_more = ADDED.iter().any(|(table, ..)| table == name);
        it.empty || has_more || !it.always_null.is_empty() || !it.constant.is_empty()
    })
}

/// Makes the views, and what else is otherwise within the server, as SQL.
pub fn made() -> String {
    let facts = Facts::known();
    let mut sql = format!("CREATE SCHEMA {SCHEMA}; GRANT USAGE ON SCHEMA {SCHEMA} TO public;");
    for (name, table) in tables(facts) {
        let nulls: Vec<_> = table.always_null.iter().map(|it| format!("'{it}'")).collect();
        let constants: Vec<_> = table
            .constant
            .keys()
            .map(|column| {
                let full = format!("{name}.{column}");
                let known = CONSTANT.iter().find(|(of, _)| *of == full);
                let value = known.unwrap_or_else(|| panic!("{full}: say its value in SQL")).1;
                format!("WHEN '{column}' THEN {}", quoted(value))
            })
            .collect();
        let constant = match constants.is_empty() {
            true => String::new(),
            false => format!("CASE a.attname {} END", constants.join(" ")),
        };
        let constant = if constant.is_empty() { "NULL" } else { &constant };
        let added = ADDED.iter().filter(|(table, ..)| *table == name);
        let added: String = added.map(|(_, it, value)| format!(", {value} AS {it}")).collect();
        sql += &format!(
            "DO $make$ DECLARE columns text; BEGIN
                SELECT string_agg(format('%s::%s AS %I', CASE
                        WHEN a.attname = ANY (ARRAY[{nulls}]::text[]) THEN 'NULL'
                        ELSE coalesce({constant}, format('t.%I', a.attname)) END,
                    -- A view can have no column of a type that stands for others.
                    replace(format_type(a.atttypid, a.atttypmod), 'anyarray', 'text'),
                    a.attname), ', ' ORDER BY a.attnum)
                INTO columns FROM pg_attribute AS a
                WHERE a.attrelid = to_regclass('pg_catalog.{name}') AND a.attnum > 0;
                IF columns IS NOT NULL THEN
                    EXECUTE 'CREATE VIEW {SCHEMA}.{name} AS SELECT ' || columns
                        || {added} || ' FROM pg_catalog.{name} AS t WHERE {there}';
                END IF;
            END $make$;",
            nulls = nulls.join(", "),
            added = quoted(&added),
            there = !table.empty,
        );
    }
    sql + &format!("GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO public;") + PLAYED
}

fn quoted(sql: &str) -> String {
    format!("'{}'", sql.replace('\'', "''"))
}

/// Whether a table of the catalogue has a view in its place.
pub fn is_view(facts: &Facts, table: &str) -> bool {
    tables(facts).any(|(name, _)| name == table)
}

/// A function's body that reads the views, where it names their tables with their schema. A name
/// in quotes is left alone.
pub fn pointed(facts: &Facts, sql: &str) -> String {
    let names: Vec<&str> = tables(facts).map(|(name, _)| name).collect();
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(OF) {
        let (before, from) = rest.split_at(at);
        let name = &from[OF.len()..];
        let end = name.find(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
        let (name, after) = name.split_at(end.unwrap_or(name.len()));
        out += before;
        let is_table = !before.ends_with(['\'', '"']) && !after.starts_with('(');
        match is_table && names.contains(&name) {
            true => out += &format!("{SCHEMA}.{name}"),
            false => out += &format!("{OF}{name}"),
        }
        rest = after;
    }
    out + rest
}
