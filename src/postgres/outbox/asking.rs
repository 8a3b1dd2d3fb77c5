//! Outbox rows that segue writes itself: for keys that somebody wants to be made equal.

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::fault::SqlFault;
use crate::postgres::outbox::{RowKey, SLOT_NOW};
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;

/// Writes a row for each key, all of one write.
///
/// # Errors
///
/// What the database reports.
pub async fn ask_for(client: &Lease, keys: &BTreeSet<RowKey>, write: Uuid) -> Result<(), SqlFault> {
    let sql = format!(
        "INSERT INTO segue.outbox (slot, table_id, key, write_id) \
         VALUES ({SLOT_NOW}, $1, $2, $3::text::uuid)"
    );
    let insert = client.prepared(&sql).await?;
    let write = write.to_string();
    let inserts = keys.iter().map(|key| async {
        let params: [&(dyn ToSql + Sync); 3] = [&key.table_id, &key.values, &write];
        client.execute(&insert.statement, &params).await
    });
    futures_util::future::try_join_all(inserts).await.map(drop)
}

/// Keys of the write whose rows are not forgotten yet.
///
/// # Errors
///
/// What the database reports.
pub async fn still_asked(client: &Lease, write: Uuid) -> Result<BTreeSet<RowKey>, SqlFault> {
    let look = client
        .prepared(
            "SELECT table_id, key FROM segue.outbox \
             WHERE write_id = $1::text::uuid AND forgotten_at IS NULL AND key IS NOT NULL",
        )
        .await?;
    let rows = client.query(&look.statement, &[&write.to_string()]).await?;
    let key = |row: &Row| -> Result<RowKey, SqlFault> {
        Ok(RowKey { table_id: row.try_get(0)?, values: row.try_get(1)? })
    };
    rows.iter().map(key).collect::<Result<_, _>>()
}
