//! The queries behind [`Table`].

use std::collections::HashMap;

use tokio_postgres::{Error, GenericClient, Row};

use super::{
    Column, ForeignKey, Generated, Identity, KeyColumn, Partition, Persistence, PrimaryKey,
    RowSecurity, Rule, Table, TableKind, Trigger, UniqueIndex,
};
use crate::domain::relation::text_equality;
use crate::domain::table::TableName;
use crate::postgres::schema;

const TABLES: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
    pg_catalog.pg_get_userbyid(c.relowner)::text, coalesce(c.relispartition, false),
    EXISTS (SELECT 1 FROM pg_catalog.pg_inherits AS i
        JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent
        WHERE (i.inhrelid = c.oid OR i.inhparent = c.oid) AND p.relkind <> 'p'),
    EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
    EXISTS (SELECT 1 FROM pg_catalog.pg_subscription_rel AS s WHERE s.srrelid = c.oid),
    c.relrowsecurity, c.relforcerowsecurity
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
";

// Several arguments make of `unnest` a form of the grammar, which takes no schema and which
// no function of an application can shadow.
const NAMED: &str = "
WHERE EXISTS (SELECT 1 FROM unnest($1::text[], $2::text[]) AS w (schema, name)
    WHERE w.schema = n.nspname AND w.name = c.relname)
ORDER BY 2, 3";

const ALL: &str = "
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('information_schema', 'crdb_internal', 'segue')
    AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY 2, 3";

// CockroachDB has columns that nobody declared and `SELECT *` leaves out: of rows without a key, of
// hash shards, regions and expiry. PostgreSQL does not know the word.
const COLUMNS: &str = "
WITH RECURSIVE under (type, oid, typmod, depth) AS (
    SELECT DISTINCT b.atttypid, b.atttypid, -1, 0
    FROM pg_catalog.pg_attribute AS b WHERE b.attrelid = ANY ($1)
    UNION ALL
    SELECT under.type, t.typbasetype, coalesce(nullif(t.typtypmod, -1), under.typmod),
        under.depth + 1
    FROM under JOIN pg_catalog.pg_type AS t ON t.oid = under.oid AND t.typtype = 'd'
), base AS (
    SELECT DISTINCT ON (type) type, oid, nullif(typmod, -1) AS typmod FROM under
    ORDER BY type, depth DESC
)
SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid,
    pg_catalog.format_type(a.atttypid, a.atttypmod), b.typname::text, bn.nspname::text,
    coalesce(nullif(a.atttypmod, -1), u.typmod, -1)::int4, a.attnotnull, a.attgenerated::text,
    a.attidentity::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid),
    coalesce(l.collisdeterministic, true), b.typtype = 'e'
FROM pg_catalog.pg_attribute AS a
JOIN base AS u ON u.type = a.atttypid
JOIN pg_catalog.pg_type AS b ON b.oid = u.oid
JOIN pg_catalog.pg_namespace AS bn ON bn.oid = b.typnamespace
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
    AND (pg_catalog.to_jsonb(a) ->> 'attishidden') IS DISTINCT FROM 'true'
ORDER BY a.attrelid, a.attnum";

const INDEXES: &str = "
SELECT i.indrelid, i.indisprimary, c.relname::text,
    ARRAY(SELECT att.attname::text
        FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k (position)
        LEFT JOIN pg_catalog.pg_attribute AS att
            ON att.attrelid = i.indrelid AND att.attnum = i.indkey[k.position]
        WHERE (pg_catalog.to_jsonb(att) ->> 'attishidden') IS DISTINCT FROM 'true'
        ORDER BY k.position),
    i.indpred IS NOT NULL, coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false),
    pg_catalog.pg_get_indexdef(i.indexrelid), NOT i.indimmediate
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON {is_index}
WHERE i.indrelid = ANY ($1) AND i.indisunique AND i.indisvalid
ORDER BY i.indrelid, c.relname";

const FOREIGN_KEYS: &str = "
SELECT k.conrelid, k.conname::text, n.nspname::text, c.relname::text,
    ARRAY(SELECT a.attname::text FROM pg_catalog.generate_series(1, pg_catalog.array_length(k.conkey, 1)) AS p (i)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[p.i]
        ORDER BY p.i),
    ARRAY(SELECT a.attname::text FROM pg_catalog.generate_series(1, pg_catalog.array_length(k.confkey, 1)) AS p (i)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = k.confkey[p.i]
        ORDER BY p.i),
    k.condeferrable
FROM pg_catalog.pg_constraint AS k
JOIN pg_catalog.pg_class AS c ON c.oid = k.confrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE k.conrelid = ANY ($1) AND k.contype = 'f'
ORDER BY k.conrelid, k.conname";

const PARTITIONS: &str = "
WITH RECURSIVE below (root, oid) AS (
    SELECT i.inhparent, i.inhrelid FROM pg_catalog.pg_inherits AS i
    JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'p'
    WHERE i.inhparent = ANY ($1)
    UNION ALL
    SELECT below.root, i.inhrelid FROM below
    JOIN pg_catalog.pg_inherits AS i ON i.inhparent = below.oid
)
SELECT below.root, c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text
FROM below JOIN pg_catalog.pg_class AS c ON c.oid = below.oid AND c.relkind IN ('r', 'p', 'f')
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
ORDER BY 1, 3, 4";

const TRIGGERS: &str = "
SELECT t.tgrelid, t.tgname::text, {enabled}, {definition}
FROM pg_catalog.pg_trigger AS t
WHERE t.tgrelid = ANY ($1) AND NOT t.tgisinternal ORDER BY t.tgrelid, t.tgname";

const RULES: &str = "
SELECT r.ev_class, r.rulename::text, pg_catalog.pg_get_ruledef(r.oid)
FROM pg_catalog.pg_rewrite AS r
WHERE r.ev_class = ANY ($1) AND r.rulename <> '_RETURN' ORDER BY r.ev_class, r.rulename";

/// The tables of these names, ordered by name; a name that is not there is left out.
///
/// # Errors
///
/// Whatever the database says.
pub async fn load<C: GenericClient>(client: &C, names: &[TableName]) -> Result<Vec<Table>, Error> {
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let relations: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    let rows = client.query(&format!("{TABLES}{NAMED}"), &[&schemas, &relations]).await?;
    complete(client, &rows).await
}

/// All permanent, unlogged and foreign tables outside of the system's schemas and segue's.
///
/// # Errors
///
/// Whatever the database says.
pub async fn all<C: GenericClient>(client: &C) -> Result<Vec<Table>, Error> {
    let rows = client.query(&format!("{TABLES}{ALL}"), &[]).await?;
    complete(client, &rows).await
}

/// The names of all such tables, but those that are partitions or came with an extension.
///
/// # Errors
///
/// Whatever the database says.
pub async fn names<C: GenericClient>(client: &C) -> Result<Vec<TableName>, Error> {
    let rows = client.query(&format!("{TABLES}{ALL}"), &[]).await?;
    let tables = rows.iter().map(table_of).collect::<Result<Vec<_>, _>>()?;
    let own = tables.into_iter().filter(|table| !table.is_partition && !table.of_extension);
    Ok(own.map(|table| table.name).collect())
}

async fn complete<C: GenericClient>(client: &C, rows: &[Row]) -> Result<Vec<Table>, Error> {
    let mut tables = rows.iter().map(table_of).collect::<Result<Vec<_>, _>>()?;
    let place: HashMap<u32, usize> =
        tables.iter().enumerate().map(|(index, table)| (table.oid, index)).collect();
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let at = |row: &Row| -> Result<Option<usize>, Error> {
        Ok(place.get(&row.try_get::<_, u32>(0)?).copied())
    };
    let mut enums: Vec<(usize, String)> = Vec::new();
    for row in client.query(COLUMNS, &[&oids]).await? {
        let Some(index) = at(&row)? else { continue };
        let column = column_of(&row)?;
        if row.try_get(13)? {
            enums.push((index, column.name.clone()));
        }
        tables[index].columns.push(column);
    }
    let dialect = schema::dialect(client).await?;
    let indexes = INDEXES.replace("{is_index}", &dialect.is_index("c.oid", "i.indexrelid"));
    for row in client.query(&indexes, &[&oids]).await? {
        let Some(index) = at(&row)? else { continue };
        add_index(&mut tables[index], &row, |name| {
            enums.iter().any(|(table, column)| *table == index && column == name)
        })?;
    }
    for row in client.query(FOREIGN_KEYS, &[&oids]).await? {
        let Some(index) = at(&row)? else { continue };
        tables[index].foreign_keys.push(ForeignKey {
            name: row.try_get(1)?,
            columns: row.try_get(4)?,
            referenced: name_at(&row, 2)?,
            referenced_columns: row.try_get(5)?,
            deferrable: row.try_get(6)?,
        });
    }
    for row in client.query(PARTITIONS, &[&oids]).await? {
        let Some(index) = at(&row)? else { continue };
        tables[index].partitions.push(Partition {
            oid: row.try_get(1)?,
            name: name_at(&row, 2)?,
            kind: kind_of(row.try_get(4)?),
            persistence: persistence_of(row.try_get(5)?),
        });
    }
    let triggers = TRIGGERS
        .replace("{enabled}", dialect.trigger_enabled())
        .replace("{definition}", dialect.trigger_definition());
    for row in client.query(&triggers, &[&oids]).await? {
        let Some(index) = at(&row)? else { continue };
        let enabled: &str = row.try_get(2)?;
        tables[index].triggers.push(Trigger {
            name: row.try_get(1)?,
            enabled: enabled.chars().next().unwrap_or('O'),
            definition: row.try_get(3)?,
        });
    }
    if !dialect.has_rules() {
        return Ok(tables);
    }
    for row in client.query(RULES, &[&oids]).await? {
        let Some(index) = at(&row)? else { continue };
        tables[index].rules.push(Rule { name: row.try_get(1)?, definition: row.try_get(2)? });
    }
    Ok(tables)
}

fn name_at(row: &Row, column: usize) -> Result<TableName, Error> {
    Ok(TableName { schema: row.try_get(column)?, name: row.try_get(column + 1)? })
}

fn kind_of(relkind: &str) -> TableKind {
    match relkind {
        "r" => TableKind::Ordinary,
        "p" => TableKind::Partitioned,
        "f" => TableKind::Foreign,
        "v" | "m" => TableKind::View,
        _ => TableKind::Other,
    }
}

fn persistence_of(relpersistence: &str) -> Persistence {
    match relpersistence {
        "u" => Persistence::Unlogged,
        "t" => Persistence::Temporary,
        _ => Persistence::Permanent,
    }
}

fn table_of(row: &Row) -> Result<Table, Error> {
    Ok(Table {
        oid: row.try_get(0)?,
        name: name_at(row, 1)?,
        kind: kind_of(row.try_get(3)?),
        persistence: persistence_of(row.try_get(4)?),
        owner: row.try_get(5)?,
        is_partition: row.try_get(6)?,
        inherits: row.try_get(7)?,
        of_extension: row.try_get(8)?,
        subscribed: row.try_get(9)?,
        row_security: match (row.try_get(10)?, row.try_get(11)?) {
            (false, _) => RowSecurity::Off,
            (true, false) => RowSecurity::On,
            (true, true) => RowSecurity::Forced,
        },
        columns: Vec::new(),
        primary_key: None,
        unique_indexes: Vec::new(),
        foreign_keys: Vec::new(),
        partitions: Vec::new(),
        triggers: Vec::new(),
        rules: Vec::new(),
    })
}

fn column_of(row: &Row) -> Result<Column, Error> {
    Ok(Column {
        number: row.try_get(1)?,
        name: row.try_get(2)?,
        type_oid: row.try_get(3)?,
        type_sql: row.try_get(4)?,
        base_type: row.try_get(5)?,
        base_schema: row.try_get(6)?,
        type_modifier: row.try_get(7)?,
        not_null: row.try_get(8)?,
        generated: match row.try_get(9)? {
            "s" => Some(Generated::Stored),
            "v" => Some(Generated::Virtual),
            _ => None,
        },
        identity: match row.try_get(10)? {
            "a" => Some(Identity::Always),
            "d" => Some(Identity::ByDefault),
            _ => None,
        },
        default: row.try_get(11)?,
        deterministic: row.try_get(12)?,
    })
}

fn add_index(table: &mut Table, row: &Row, is_enum: impl Fn(&str) -> bool) -> Result<(), Error> {
    let columns: Vec<Option<String>> = row.try_get(3)?;
    if !row.try_get::<_, bool>(1)? {
        table.unique_indexes.push(UniqueIndex {
            name: row.try_get(2)?,
            columns,
            partial: row.try_get(4)?,
            nulls_not_distinct: row.try_get(5)?,
            definition: row.try_get(6)?,
        });
        return Ok(());
    }
    let key_columns: Vec<_> = columns
        .iter()
        .flatten()
        .filter_map(|name| table.column(name))
        .map(|column| KeyColumn {
            name: column.name.clone(),
            base_type: column.base_type.clone(),
            base_schema: column.base_schema.clone(),
            text_equality: text_equality(
                &column.base_schema,
                &column.base_type,
                is_enum(&column.name),
                column.deterministic,
            ),
        })
        .collect();
    // One that nobody declared is over a hidden column, whose values no other side has.
    if key_columns.is_empty() {
        return Ok(());
    }
    table.primary_key = Some(PrimaryKey {
        name: row.try_get(2)?,
        columns: key_columns,
        deferrable: row.try_get(7)?,
    });
    Ok(())
}
