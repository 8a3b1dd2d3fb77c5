//! `segue verify`: what is verified, in which direction, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::identity;
use crate::app::operations::sweep;
use crate::config::Config;
use crate::control;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::table::TableName;
use crate::domain::verify::{Discrepancy, Finding};
use crate::postgres::control::ControlTable;
use crate::postgres::reconcile::{self, Dice, Reconciler};
use crate::postgres::schema::Permission;
use crate::postgres::verify::chunk::ChunkDone;
use crate::postgres::verify::{self, Table, Verifier};
use crate::telemetry::spans;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tables of the source by `schema.name`, or by name where that says enough; none is all.
    pub tables: Vec<String>,
    /// The share of the chunks, 0 to 1.
    pub sample: f64,
    /// Reconcile what differs.
    pub repair: bool,
    /// Rows of a chunk.
    pub chunk_rows: u64,
    /// Chunks at once.
    pub workers: usize,
    /// How long a row that waits for the outbox is looked at again.
    pub pending_max: Duration,
}

/// How a background sweep goes on.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The share of the time in which chunks are read, 0 to 1.
    pub load: f64,
    /// A chunk that was not written since it was proven is read again after this.
    pub again_after: Duration,
    /// One that is not proven, or was written since, after this.
    pub open_after: Duration,
    /// Between two looks at what was written since.
    pub look_every: Duration,
}

/// What is told while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A table is begun.
    Begun {
        /// Its name on the primary.
        table: &'a TableName,
        /// Rows by the primary's statistics.
        rows_estimate: Option<u64>,
        /// No index gives its ranges.
        unserved: bool,
    },
    /// A chunk is verified.
    Chunk {
        /// Its table.
        table: &'a TableName,
        /// What it turned out to be.
        done: &'a ChunkDone,
        /// The table's figures up to now.
        totals: &'a Totals,
    },
    /// A table is done, or could not be.
    Ended {
        /// Its name on the primary.
        table: &'a TableName,
        /// Its figures.
        totals: &'a Totals,
        /// Why not all of it was verified.
        failed: Option<String>,
    },
}

/// Figures of a table, or of all of them.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Chunks that were verified.
    pub chunks: u64,
    /// Of these, the ones that were not equal at once.
    pub differing: u64,
    /// Rows of the primary in them.
    pub rows: u64,
    /// Rows that had to be read.
    pub rows_read: u64,
    /// Bytes of these, of both sides.
    pub bytes_read: u64,
    /// Differences of data that are open.
    pub data: u64,
    /// Rows that the backfill has not come to.
    pub uncopied: u64,
    /// Rows that wait to be reconciled, and did so for too long.
    pub pending: u64,
    /// Rows that could not be read, so that nobody knows whether they are equal.
    pub unread: u64,
    /// Rows that were written all the while, and reconciled in between.
    pub moving: u64,
    /// Rows that a repair has made equal.
    pub repaired: u64,
    /// Tables that could not be verified.
    pub failed: u64,
    /// Since the beginning.
    pub elapsed: Duration,
}

// === impl Totals ===

impl Totals {
    pub(super) fn add(&mut self, done: &ChunkDone) {
        self.chunks += 1;
        self.differing += u64::from(!done.findings.is_empty());
        self.rows += done.rows;
        self.rows_read += done.rows_read;
        self.bytes_read += done.bytes_read;
        self.moving += done.moving;
        let count = |test: &dyn Fn(&Finding) -> bool| {
            done.findings.iter().filter(|finding| test(finding)).count() as u64
        };
        self.data += count(&|it| it.is_open() && it.what.is_data());
        self.uncopied += count(&|it| it.is_open() && it.what == Discrepancy::Uncopied);
        self.unread += count(&|it| it.is_open() && it.what.is_unread());
        self.pending += count(&|it| matches!(it.what, Discrepancy::Pending { .. }) && it.is_open());
        self.repaired += count(&|it| !it.is_open());
    }

    fn sum(&mut self, more: &Self) {
        self.chunks += more.chunks;
        self.differing += more.differing;
        self.rows += more.rows;
        self.rows_read += more.rows_read;
        self.bytes_read += more.bytes_read;
        self.data += more.data;
        self.uncopied += more.uncopied;
        self.pending += more.pending;
        self.unread += more.unread;
        self.moving += more.moving;
        self.repaired += more.repaired;
        self.failed += more.failed;
    }

    /// Whether every row that was looked at is equal, or was while it was looked at.
    pub fn is_equal(&self) -> bool {
        !self.differs() && self.unread == 0
    }

    /// Whether a row was seen not to be equal.
    pub fn differs(&self) -> bool {
        self.data > 0 || self.uncopied > 0 || self.pending > 0
    }
}

/// Verifies as [`Options`] say; `tell` hears of every step. Ends early, with what it has, when
/// `stop` is cancelled.
///
/// # Errors
///
/// [`AppError`] where nothing could be verified at all, or a table is not migrated. A table
/// that cannot be verified is told of, counted, and does not keep the others from it.
pub async fn run(
    config: &Config,
    options: &Options,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<Totals, AppError> {
    let begun = Instant::now();
    let databases = Databases::open(config)?;
    identity::established(config, &databases, Permission::Look).await?;
    let verifier = open(config, &databases, options).await?;
    let tables = chosen(verifier.tables().await?, &options.tables)?;
    let span = spans::verify();
    let mut all = Totals::default();
    for (name, table) in tables {
        if stop.is_cancelled() {
            break;
        }
        let totals = match table {
            Ok(table) => {
                one(&verifier, &name, &table, options, stop, tell).instrument(span.clone()).await
            }
            Err(reason) => {
                let totals = Totals { failed: 1, ..Totals::default() };
                tell(Event::Ended { table: &name, totals: &totals, failed: Some(reason) });
                totals
            }
        };
        all.sum(&totals);
    }
    all.elapsed = begun.elapsed();
    Ok(all)
}

async fn one(
    verifier: &Verifier,
    name: &TableName,
    table: &Table,
    options: &Options,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Event<'_>) + Send),
) -> Totals {
    let begun = Instant::now();
    tell(Event::Begun {
        table: name,
        rows_estimate: table.rows_estimate,
        unserved: !table.index_serves(),
    });
    let mut totals = Totals::default();
    let whole = options.sample >= 1.0;
    let mut chunks = Vec::new();
    let standing = verifier.standing().await;
    let mut first = !whole;
    let wanted = |_: &_| {
        // A sample of a small table is not to be nothing.
        let taken = first || rand::random::<f64>() < options.sample;
        first = false;
        taken && !stop.is_cancelled()
    };
    let verified = verifier
        .table(table, wanted, |done| {
            totals.add(&done);
            totals.elapsed = begun.elapsed();
            tell(Event::Chunk { table: name, done: &done, totals: &totals });
            if whole {
                // What was found has been told.
                chunks.push(ChunkDone { findings: open_only(done.findings), ..done });
            }
        })
        .await;
    totals.elapsed = begun.elapsed();
    let kept = match (&verified, standing) {
        (Ok(()), Ok(standing)) if whole && !stop.is_cancelled() => {
            sweep::keep(verifier, table, &chunks, &standing).await
        }
        (_, Err(fault)) => Err(fault),
        _ => Ok(()),
    };
    let failed = verified.and(kept).err().map(|fault| fault.to_string());
    totals.failed = u64::from(failed.is_some());
    tell(Event::Ended { table: name, totals: &totals, failed });
    totals
}

/// One is enough to know that a chunk is not proven: one of data, where there is one, or else
/// one that could not be read.
fn open_only(findings: Vec<Finding>) -> Vec<Finding> {
    let mut open: Vec<Finding> = findings.into_iter().filter(Finding::is_open).collect();
    open.sort_by_key(|finding| (!finding.what.is_data(), !finding.what.is_unread()));
    open.truncate(1);
    open
}

/// A verifier of the primary of now and its shadow.
pub(super) async fn open(
    config: &Config,
    databases: &Databases,
    options: &Options,
) -> Result<Verifier, AppError> {
    let own = databases.own();
    let store = ControlTable::new(own.clone());
    let primary = control::read_once(&store).await?.state.phase.primary();
    let dice: Dice = Arc::new(rand::random::<f64>);
    let params = reconcile::Params {
        deadline: config.outbox.deadline,
        memory: databases.memory(),
        row_bytes_max: config.limits.row_bytes_max,
        ..reconcile::Params::new(dice)
    };
    let shadow = own.of(primary.other()).clone();
    let reconciler = Reconciler::new(own.of(primary).clone(), shadow, primary, params);
    // Each chunk takes a session on either side, and a reconcile takes another.
    let sessions = config.source.own_pool_max.min(config.target.own_pool_max);
    let params = verify::Params {
        chunk_rows: options.chunk_rows,
        workers: options.workers.min(sessions / 2).max(1),
        pending_max: options.pending_max,
        repair: options.repair,
        ..verify::Params::default()
    };
    Ok(Verifier::new(Arc::new(reconciler), params))
}

/// The tables that were asked for.
pub(super) fn chosen(
    tables: Vec<verify::Verifiable>,
    names: &[String],
) -> Result<Vec<verify::Verifiable>, SqlFault> {
    let named = |table: &TableName, name: &str| table.name == name || table.to_string() == name;
    for name in names {
        let found = tables.iter().filter(|(table, _)| named(table, name)).count();
        let message = match found {
            0 => format!("table {name:?} is not migrated; see tables.map and `segue init`"),
            1 => continue,
            _ => format!("there is a table {name:?} in more than one schema; write SCHEMA.TABLE"),
        };
        return Err(SqlFault::new(FaultKind::NotFound, Reason::VerifyTable, message));
    }
    let wanted = |(table, _): &verify::Verifiable| {
        names.is_empty() || names.iter().any(|name| named(table, name))
    };
    Ok(tables.into_iter().filter(wanted).collect())
}
