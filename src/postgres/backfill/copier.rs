//! One chunk, from its snapshot to its last reconcile.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::backfill::{Chunk, Copied, Load, Way};
use crate::failpoint::{FailPoint, FailPoints, Lost};
use crate::ports::backfill::{ChunkCopier, CopyHalt, Meter};
use crate::postgres::backfill::admit::Captured;
use crate::postgres::backfill::by_keys::{self, Reconciled};
use crate::postgres::backfill::changed::{self, Changed};
use crate::postgres::backfill::insert::{self, NotLoaded};
use crate::postgres::backfill::snapshot::{self, Snapshot, Unusable};
use crate::postgres::backfill::table::{CopyTable, Written};
use crate::postgres::backfill::write::{self, NotWritten};
use crate::postgres::memory::RowMemory;
use crate::postgres::pool::Pool;
use crate::postgres::reconcile::Reconciler;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::session::ForeignKeys;

/// What a copier needs to know.
#[derive(Clone)]
pub struct Params {
    /// What must hold for what is captured; `None` where nobody writes to the source.
    pub captured: Option<Captured>,
    /// What foreign keys of the target mean.
    pub foreign_keys: ForeignKeys,
    /// The target has a control row: chunks are written under its lock of copies.
    pub fenced: bool,
    /// Memory for rows on their way, of the whole process.
    pub memory: RowMemory,
    /// A chunk with a larger row goes row by row.
    pub row_bytes_max: u64,
    /// Places where tests hold a chunk up, or end it as if its process had ended.
    pub failpoints: FailPoints,
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params").field("captured", &self.captured).finish_non_exhaustive()
    }
}

/// Copies chunks of the planned tables.
pub struct Copier {
    source: Pool,
    target: Pool,
    tables: HashMap<i32, Arc<CopyTable>>,
    reconciler: Option<Arc<Reconciler>>,
    params: Params,
}

impl fmt::Debug for Copier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copier").field("tables", &self.tables.len()).finish_non_exhaustive()
    }
}

impl Copier {
    /// A copier of the tables that were planned. Without a reconciler, rows that no `COPY` takes
    /// cannot be copied.
    pub fn new(
        source: Pool,
        target: Pool,
        tables: super::plan::Tables,
        reconciler: Option<Arc<Reconciler>>,
        params: Params,
    ) -> Self {
        Self { source, target, tables: tables.0, reconciler, params }
    }

    async fn chunk(&self, chunk: &Chunk, meter: &dyn Meter) -> Result<Copied, CopyHalt> {
        let table = self.tables.get(&chunk.id.table_id).ok_or_else(|| {
            CopyHalt::Void(format!("table id {} is not part of this copy", chunk.id.table_id))
        })?;
        let mut reconciled = Reconciled::default();
        let snapshot = snapshot::take(&self.source, self.params.captured).await?;
        self.pass(FailPoint::AfterSnapshot).await?;
        let written = self.write(&snapshot, table, chunk, meter).await;
        let seen = snapshot.seen;
        let (way, written) = match written {
            Ok(written) => {
                let ended = snapshot.transaction.end_after("COMMIT", written.1.largest).await;
                ended.map_err(of_halt)?;
                written
            }
            // Nothing was committed, and no row of the chunk can be told from the others.
            Err(Refused::ByRow(reason)) => {
                drop(snapshot.transaction);
                reconciled = self.all_by_keys(table, chunk, reason).await?;
                let rows = reconciled.keys + reconciled.failed.len() as u64;
                (Way::ByKeys, Written { rows, ..Written::default() })
            }
            Err(Refused::Halt(halt)) => return Err(halt),
        };
        self.pass(FailPoint::AfterChunkCommit).await?;
        let mut keys = written.held;
        // Otherwise nobody writes, and there is nothing to look for.
        if let (Some(seen), Some(captured)) = (seen, self.params.captured) {
            let looked = changed::read(&self.source, chunk, &table.shape, &seen, captured).await;
            match looked.map_err(of_halt)? {
                Changed::Keys(more) => keys.extend(more),
                Changed::Void(reason) => return Err(CopyHalt::Void(reason)),
                Changed::Unknown => reconciled.add(self.whole_range(table, chunk).await?),
            }
        }
        // What failed a moment ago would get a second row with the same reason.
        keys.retain(|key| !reconciled.failed.contains(key));
        reconciled.add(self.reconcile(keys).await?);
        self.pass(FailPoint::BeforeChunkDone).await?;
        Ok(Copied {
            way,
            rows: written.rows,
            bytes: written.bytes,
            reconciled: reconciled.keys,
            failed: reconciled.failed.len() as u64,
        })
    }

    /// Writes and commits, straight in where the range is empty. If somebody has put a row there
    /// meanwhile, nothing was committed, and the same snapshot is written the other way.
    async fn write(
        &self,
        snapshot: &Snapshot,
        table: &CopyTable,
        chunk: &Chunk,
        meter: &dyn Meter,
    ) -> Result<(Way, Written), Refused> {
        let mut chosen = None;
        let largest = write::largest(&snapshot.transaction, table, chunk).await.map_err(of_halt)?;
        if largest > self.params.row_bytes_max {
            return Err(Refused::ByRow(format!(
                "a row has about {} MiB, more than the {} MiB of limits.row_bytes_max",
                largest >> 20,
                self.params.row_bytes_max >> 20
            )));
        }
        // Before anything is locked on the target. It is given up before keys are reconciled, which
        // ask for memory of their own.
        let memory = &self.params.memory;
        let _held = memory.hold(write::memory(table.load, memory, largest)).await;
        let metered = (meter, insert::batch_bytes(memory));
        loop {
            let Params { foreign_keys, fenced, .. } = self.params;
            let target = match write::begin(&self.target, chunk, foreign_keys, fenced).await {
                Ok(target) => target,
                Err(NotWritten::Lost) => return Err(Refused::Halt(CopyHalt::Lost)),
                Err(NotWritten::Halt(halt)) => return Err(Refused::Halt(of_halt(*halt))),
            };
            let way = match chosen {
                Some(way) => way,
                None => write::way(&target, table, chunk).await.map_err(of_halt)?,
            };
            let from = &snapshot.transaction;
            let written = write::write(from, &target, table, chunk, way, metered).await;
            let done = match written {
                Ok(written) => {
                    self.pass(FailPoint::BeforeChunkCommit).await?;
                    target.end_after("COMMIT", written.largest).await.map(|()| written)
                }
                // Whichever row it is, it can be told from the others.
                Err(NotLoaded::NotTaken(Halt::Set(_)))
                    if way == Way::Straight && table.load == Load::Insert =>
                {
                    chosen = Some(Way::Staged);
                    continue;
                }
                Err(not) => Err(not.into()),
            };
            match done {
                Ok(written) => return Ok((way, written)),
                Err(Halt::Unique(_) | Halt::ForeignKey(_)) if way == Way::Straight => {
                    chosen = Some(Way::Staged);
                }
                Err(Halt::Unique(fault) | Halt::ForeignKey(fault)) => {
                    return Err(Refused::ByRow(fault.to_string()));
                }
                Err(Halt::Set(reason)) => return Err(Refused::ByRow(reason)),
                Err(halt) => return Err(Refused::Halt(of_halt(halt))),
            }
        }
    }

    async fn all_by_keys(
        &self,
        table: &CopyTable,
        chunk: &Chunk,
        reason: String,
    ) -> Result<Reconciled, CopyHalt> {
        let Some(reconciler) = &self.reconciler else { return Err(CopyHalt::Again(reason)) };
        tracing::warn!(
            table = %table.shape.primary, chunk = %chunk.id, format = table.columns.format.as_str(),
            "a chunk cannot be copied as a whole, and goes row by row"
        );
        tracing::debug!(reason, "why");
        by_keys::of_source(reconciler, &self.source, table, chunk).await.map_err(of_halt)
    }

    async fn whole_range(&self, table: &CopyTable, chunk: &Chunk) -> Result<Reconciled, CopyHalt> {
        let Some(reconciler) = &self.reconciler else { return Ok(Reconciled::default()) };
        by_keys::of_both(reconciler, &self.source, &self.target, table, chunk)
            .await
            .map_err(of_halt)
    }

    async fn reconcile(
        &self,
        keys: BTreeSet<crate::postgres::outbox::RowKey>,
    ) -> Result<Reconciled, CopyHalt> {
        let Some(first) = keys.first() else { return Ok(Reconciled::default()) };
        let Some(reconciler) = &self.reconciler else {
            return Err(CopyHalt::Again(format!(
                "{} rows do not fit the target or are held back by other rows there, the first has \
                 the key {}; mend the target, or copy with capture installed",
                keys.len(),
                first.values.join("|")
            )));
        };
        by_keys::reconcile(reconciler, &self.source, keys).await.map_err(of_halt)
    }

    async fn pass(&self, point: FailPoint) -> Result<(), CopyHalt> {
        let passed = self.params.failpoints.pass(point).await;
        passed.map_err(|Lost(point)| CopyHalt::Again(format!("ended at {point}")))
    }
}

/// Why a chunk's rows were not written.
enum Refused {
    /// Some row of it does not go in.
    ByRow(String),
    Halt(CopyHalt),
}

impl From<CopyHalt> for Refused {
    fn from(halt: CopyHalt) -> Self {
        Self::Halt(halt)
    }
}

impl From<Unusable> for CopyHalt {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Halt(halt) => of_halt(*halt),
            Unusable::Void(reason) => Self::Void(reason),
        }
    }
}

fn of_halt(halt: Halt) -> CopyHalt {
    match halt {
        Halt::Away(fault) => CopyHalt::Away(Box::new(fault)),
        Halt::Table(reason) => CopyHalt::Void(reason),
        Halt::Stale(fault) => CopyHalt::Void(format!(
            "{fault}; a table was altered since the backfill began: run it again, it goes on from here"
        )),
        Halt::Again(fault) | Halt::Unique(fault) | Halt::ForeignKey(fault) => {
            CopyHalt::Again(fault.to_string())
        }
        Halt::Set(reason) => CopyHalt::Again(reason),
        Halt::Late => CopyHalt::Again("it was not done in time".to_owned()),
        other => CopyHalt::Again(format!("{other:?}")),
    }
}

impl ChunkCopier for Copier {
    fn copy<'a>(
        &'a self,
        chunk: &'a Chunk,
        meter: &'a dyn Meter,
    ) -> BoxFuture<'a, Result<Copied, CopyHalt>> {
        self.chunk(chunk, meter).boxed()
    }
}
