//! Rows that the backfill has not come to yet: missing on the shadow, but not lost.

use tokio_postgres::types::ToSql;

use crate::domain::key_range::KeyRange;
use crate::domain::side::Side;
use crate::domain::verify::{Discrepancy, Finding};
use crate::postgres::chunk::{KeySql, Order};
use crate::postgres::mapping::table::Role;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::session::asked::Row;
use crate::postgres::verify::{Table, Verifier};

/// Chunks that are not done, and what is not cut yet.
const UNCOPIED: &str = "\
    SELECT after_key, until_key FROM segue.backfill WHERE table_id = $1 AND state <> 'done' \
    UNION ALL SELECT split_after, NULL FROM segue.backfill_table \
    WHERE table_id = $1 AND NOT split_done";

// === impl Verifier ===

impl Verifier {
    /// The ranges of a table that its backfill has not copied, in the order of the source's own
    /// key. None where no copy of it was begun on the target, and once it has followed.
    ///
    /// To be asked before the rows are read: a row that is missing afterwards in a range that was
    /// copied before is missing.
    pub(super) async fn uncopied(&self, table: &Table) -> Result<Vec<KeyRange>, Halt> {
        let shadow = self.reconciler.pool(Role::Shadow);
        if shadow.side() != Side::Target {
            return Ok(Vec::new());
        }
        let client = shadow.get().await.map_err(Halt::Away)?;
        let look = client.prepared(UNCOPIED).await.map_err(of_fault)?;
        let rows = client.query(&look.statement, &[&table.shape.table_id]).await;
        let range = |row: &Row| Ok(KeyRange { after: row.try_get(0)?, until: row.try_get(1)? });
        let ranges: Result<_, _> = rows?.iter().map(range).collect();
        ranges
    }

    /// Tells missing rows of these ranges as what they are.
    pub(super) async fn tell_uncopied(
        &self,
        table: &Table,
        ranges: &[KeyRange],
        findings: &mut [Finding],
    ) -> Result<(), Halt> {
        let mut missing: Vec<&mut Finding> =
            findings.iter_mut().filter(|it| it.what == Discrepancy::Missing).collect();
        if ranges.is_empty() || missing.is_empty() {
            return Ok(());
        }
        let transaction =
            Transaction::open_reading(self.reconciler.pool(Role::Primary), self.params.deadline)
                .await?;
        let arrays: Vec<Vec<&str>> = (0..table.shape.key.len())
            .map(|column| missing.iter().map(|it| it.key[column].as_str()).collect())
            .collect();
        let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
        let rows = transaction.client()?.query(&among(table, ranges), &params).await?;
        for row in rows {
            let place: i64 = row.try_get(0)?;
            let place = usize::try_from(place - 1).ok().and_then(|place| missing.get_mut(place));
            if let Some(finding) = place {
                finding.what = Discrepancy::Uncopied;
            }
        }
        transaction.end("ROLLBACK").await
    }
}

/// The places of the keys whose row lies in one of the ranges.
fn among(table: &Table, ranges: &[KeyRange]) -> String {
    let own = KeySql::new(&table.shape, Role::Primary, Order::Own);
    let within: Vec<String> =
        ranges.iter().map(|range| format!("({})", own.rows_within(range))).collect();
    format!(
        "SELECT k.n FROM {} JOIN {} AS t ON {} WHERE {}",
        table.shape.key_source(),
        table.shape.quoted(Role::Primary),
        table.shape.key_match(Role::Primary, |index| format!("k.k{}", index + 1)),
        within.join(" OR ")
    )
}
