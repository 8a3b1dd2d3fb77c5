//! Types and collations of columns.

use std::collections::BTreeMap;

use crate::domain::fault::SqlFault;
use crate::postgres::session::Session;
use crate::postgres::survey::server::provider_name;
use crate::postgres::survey::types;
use crate::preflight::describe::{Collation, ColumnFacts, TableFacts};

/// CockroachDB has names alone: the default there is by bytes, as `C` is, and others are by locale.
const COLLATIONS: &str = "
SELECT a.attrelid, a.attname::text, coalesce(c.collprovider::text,
        CASE WHEN c.collname IN ('default', 'C', 'POSIX') THEN 'c' ELSE 'i' END),
    coalesce(pg_catalog.to_jsonb(c) ->> 'colllocale', pg_catalog.to_jsonb(c) ->> 'colliculocale',
        c.collcollate, CASE WHEN c.collprovider IS NOT NULL THEN ''
            WHEN c.collname IN ('default', 'C', 'POSIX') THEN 'C' ELSE c.collname::text END)
        || coalesce(' ' || (pg_catalog.to_jsonb(c) ->> 'collicurules'), ''),
    NOT coalesce(c.collisdeterministic, true)
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_collation AS c ON c.oid = a.attcollation
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
    AND (pg_catalog.to_jsonb(a) ->> 'attishidden') IS DISTINCT FROM 'true'";

/// Fills the columns' facts; `default` is the database's collation.
pub(super) async fn fill(
    client: &Session,
    default: &Collation,
    tables: &mut BTreeMap<u32, TableFacts>,
) -> Result<(), SqlFault> {
    let oids: Vec<u32> = tables.keys().copied().collect();
    let mut types = types::load(client, &oids).await?;
    let mut collations: BTreeMap<(u32, String), Collation> = BTreeMap::new();
    for row in client.query(COLLATIONS, &[&oids]).await? {
        let provider: &str = row.try_get(2)?;
        let collation = match provider {
            "d" => default.clone(),
            letter => Collation {
                provider: provider_name(letter),
                locale: row.try_get(3)?,
                is_blind: row.try_get(4)?,
            },
        };
        collations.insert((row.try_get(0)?, row.try_get(1)?), collation);
    }
    for (oid, table) in tables {
        for column in &table.table.columns {
            let domains = types.domains(column.type_oid);
            let facts = ColumnFacts {
                ty: types.get(column.type_oid),
                collation: collations.remove(&(*oid, column.name.clone())),
                domain_checks: domains.checks,
                domain_not_null: domains.not_null,
                extension: types.extension(column.type_oid),
                sequence: None,
            };
            table.columns.insert(column.name.clone(), facts);
        }
    }
    Ok(())
}
