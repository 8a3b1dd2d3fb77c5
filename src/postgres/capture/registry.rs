//! `segue.migrated_table`: the small ids that the outbox names tables by.

use tokio_postgres::{Error, GenericClient, Row};

use super::form::FUNCTION_PREFIX;
use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName};

/// The id of each mapped table; `None` where it has none yet.
pub(super) async fn ids<C: GenericClient>(
    client: &C,
    side: Side,
    mappings: &[TableMapping],
) -> Result<Vec<Option<i32>>, Error> {
    let rows = client
        .query(
            "SELECT table_id, source_schema, source_name, target_schema, target_name
             FROM segue.migrated_table",
            &[],
        )
        .await?;
    let (schema, name) = match side {
        Side::Source => (1, 2),
        Side::Target => (3, 4),
    };
    let mut ids = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        let table = super::on_side(mapping, side);
        let mut id = None;
        for row in &rows {
            if row.try_get::<_, &str>(schema)? == table.schema
                && row.try_get::<_, &str>(name)? == table.name
            {
                id = Some(row.try_get(0)?);
            }
        }
        ids.push(id);
    }
    Ok(ids)
}

/// The tables of a side that are part of the migration.
///
/// # Errors
///
/// Whatever the database says.
pub async fn registered<C: GenericClient>(client: &C, side: Side) -> Result<Vec<TableName>, Error> {
    let sql = "SELECT source_schema, source_name, target_schema, target_name
        FROM segue.migrated_table";
    let (schema, name) = match side {
        Side::Source => (0, 1),
        Side::Target => (2, 3),
    };
    let rows = client.query(sql, &[]).await?;
    let table = |row: &Row| {
        Ok(TableName::new(row.try_get::<_, &str>(schema)?, row.try_get::<_, &str>(name)?))
    };
    rows.iter().map(table).collect()
}

/// The tables that are part of the migration, `segue.idempotency` first.
///
/// # Errors
///
/// Whatever the database says.
pub async fn registered_mappings<C: GenericClient>(client: &C) -> Result<Vec<TableMapping>, Error> {
    let sql = "SELECT source_schema, source_name, target_schema, target_name
        FROM segue.migrated_table ORDER BY source_schema <> 'segue', 1, 2";
    let rows = client.query(sql, &[]).await?;
    let name = |row: &Row, schema: usize, name: usize| -> Result<TableName, Error> {
        Ok(TableName::new(row.try_get::<_, &str>(schema)?, row.try_get::<_, &str>(name)?))
    };
    let mapping = |row| Ok(TableMapping { source: name(row, 0, 1)?, target: name(row, 2, 3)? });
    rows.iter().map(mapping).collect()
}

/// Gives a table its id, or keeps the one that it has, under another name too; the caller holds
/// the setup lock.
/// An id is never given to another table, since outbox rows may still name it.
pub(super) async fn register<C: GenericClient>(
    client: &C,
    side: Side,
    mapping: &TableMapping,
    key_columns: &[&str],
    renamed: Option<i32>,
) -> Result<i32, Error> {
    let known = ids(client, side, std::slice::from_ref(mapping)).await?;
    let values: [&str; 4] = [
        &mapping.source.schema,
        &mapping.source.name,
        &mapping.target.schema,
        &mapping.target.name,
    ];
    let row = if let Some(id) = known.first().copied().flatten().or(renamed) {
        client
            .query_one(
                "UPDATE segue.migrated_table SET source_schema = $2, source_name = $3,
                    target_schema = $4, target_name = $5, key_columns = $6
                 WHERE table_id = $1 RETURNING table_id",
                &[&id, &values[0], &values[1], &values[2], &values[3], &key_columns],
            )
            .await?
    } else {
        client
            .query_one(
                "INSERT INTO segue.migrated_table
                 SELECT coalesce(pg_catalog.max(known.table_id), 0) + 1, $1, $2, $3, $4, $5
                 FROM (SELECT table_id FROM segue.migrated_table
                    UNION ALL SELECT table_id FROM segue.retired_table) AS known
                 RETURNING table_id",
                &[&values[0], &values[1], &values[2], &values[3], &key_columns],
            )
            .await?
    };
    row.try_get(0)
}

/// The id of a table that was renamed: capture's triggers stand on the relation, and no table has
/// the name any more that the registry knows.
pub(super) async fn renamed<C: GenericClient>(
    client: &C,
    side: Side,
    relation: u32,
) -> Result<Option<(i32, TableName)>, Error> {
    let side = side.as_str();
    let sql = format!(
        "SELECT DISTINCT m.table_id, m.{side}_schema, m.{side}_name
         FROM segue.migrated_table AS m
         JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = $1
         JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
            AND pg_catalog.strpos(p.proname::text,
                pg_catalog.concat('{FUNCTION_PREFIX}', m.table_id, '_')) = 1
         JOIN pg_catalog.pg_namespace AS s ON s.oid = p.pronamespace AND s.nspname = 'segue'
         WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c
            JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = m.{side}_schema AND c.relname = m.{side}_name)"
    );
    let rows = client.query(&sql, &[&relation]).await?;
    let found = |row: &Row| {
        Ok((row.try_get(0)?, TableName { schema: row.try_get(1)?, name: row.try_get(2)? }))
    };
    rows.first().map(found).transpose()
}

/// Whether the registry has this mapping and key for the id.
pub(super) async fn is_current<C: GenericClient>(
    client: &C,
    id: i32,
    mapping: &TableMapping,
    key_columns: &[&str],
) -> Result<bool, Error> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM segue.migrated_table WHERE table_id = $1
                AND source_schema = $2 AND source_name = $3
                AND target_schema = $4 AND target_name = $5 AND key_columns = $6)",
            &[
                &id,
                &mapping.source.schema,
                &mapping.source.name,
                &mapping.target.schema,
                &mapping.target.name,
                &key_columns,
            ],
        )
        .await?;
    row.try_get(0)
}
