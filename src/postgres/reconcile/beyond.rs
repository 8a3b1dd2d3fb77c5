//! Keys that failed, and for which there is nothing to be done: their table is retired, or the
//! primary no longer has the row and the shadow cannot have it; or nobody can read the key, and
//! neither side has its row.

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::sqlstate::class;
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::select::{presence, presence_of_bytes};
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::{Reconciler, Report};

const RETIRED: &str = "SELECT table_id FROM segue.retired_table WHERE table_id = ANY ($1)";

/// How a side answers to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Row,
    NoRow,
    /// The key's texts are no values of its type there.
    NoValue,
}

impl Reconciler {
    /// Takes keys that failed for done where nothing is to be done for them.
    pub(super) async fn take_settled(&self, report: &mut Report) -> Result<(), Halt> {
        let shapes = self.shapes().await?;
        // What is known of the tables may be older than the retirement.
        let retired =
            self.retired(report.failed.iter().map(|(key, _)| key.table_id).collect()).await?;
        let mut failed = Vec::with_capacity(report.failed.len());
        for (key, reason) in std::mem::take(&mut report.failed) {
            let is_settled = retired.contains(&key.table_id) || self.is_nothing(&key).await?;
            if is_settled {
                report.done.insert(key);
                continue;
            }
            if let Some(Ok(shape)) = shapes.get(&key.table_id)
                && !key.values.is_empty()
                && shape.key.len() != key.values.len()
            {
                report.outdated.insert(key.clone());
            }
            failed.push((key, reason));
        }
        report.failed = failed;
        Ok(())
    }

    /// Those of the tables that are retired. What was noted of them before is not to be copied.
    pub(super) async fn retired(&self, ids: BTreeSet<i32>) -> Result<BTreeSet<i32>, Halt> {
        let session = self.primary.get().await.map_err(Halt::Away)?;
        let retired = session.prepared(RETIRED).await.map_err(of_fault)?;
        let ids: Vec<i32> = ids.into_iter().collect();
        let rows = session.query(&retired.statement, &[&ids]).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, SqlFault>>()?)
    }

    /// Whether the shadow can have no row of this key, and the primary has none.
    ///
    /// The shadow is asked first, and its type is what it is; the primary then says what is to be
    /// there. A row that it gets after that has an outbox row of its own.
    pub(super) async fn is_nothing(&self, key: &RowKey) -> Result<bool, Halt> {
        let shapes = self.shapes().await?;
        let Some(Ok(shape)) = shapes.get(&key.table_id) else { return Ok(false) };
        if shape.key.len() != key.values.len() {
            return Ok(false);
        }
        Ok(self.look(shape, Role::Shadow, key).await? == Found::NoValue
            && self.look(shape, Role::Primary, key).await? != Found::Row)
    }

    async fn look(&self, shape: &TableShape, role: Role, key: &RowKey) -> Result<Found, Halt> {
        let columns: Vec<[&str; 1]> = key.values.iter().map(|value| [value.as_str()]).collect();
        let columns: Vec<&[&str]> = columns.iter().map(<[&str; 1]>::as_slice).collect();
        let params: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|it| it as _).collect();
        self.ask(role, &presence(shape, role), &params).await
    }

    /// Whether neither side has a row of a key that no session can read, whose values are given as
    /// bytes in hexadecimal digits.
    ///
    /// The rows of the outbox that name it are claimed before, and the shadow is asked first: a row
    /// that the primary gets after that has an outbox row of its own.
    pub(super) async fn is_gone(&self, table_id: i32, key: &[String]) -> Result<bool, Halt> {
        let shapes = self.shapes().await?;
        let Some(Ok(shape)) = shapes.get(&table_id) else { return Ok(false) };
        if shape.key.len() != key.len() {
            return Ok(false);
        }
        let params: Vec<&(dyn ToSql + Sync)> = key.iter().map(|it| it as _).collect();
        for role in [Role::Shadow, Role::Primary] {
            let found = self.ask(role, &presence_of_bytes(shape, role), &params).await?;
            if found == Found::Row {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn ask(
        &self,
        role: Role,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Found, Halt> {
        let transaction = Transaction::open_reading(self.pool(role), self.params.deadline).await?;
        let client = transaction.client()?;
        let select = client.prepared(sql).await.map_err(of_fault)?;
        let found = match client.query(&select.statement, params).await {
            Ok(rows) if rows.is_empty() => Found::NoRow,
            Ok(_) => Found::Row,
            Err(fault) if is_no_value(&fault) => Found::NoValue,
            Err(fault) => return Err(fault.into()),
        };
        transaction.end("ROLLBACK").await?;
        Ok(found)
    }
}

fn is_no_value(fault: &SqlFault) -> bool {
    fault.sqlstate.starts_with(class::DATA_EXCEPTION)
}
