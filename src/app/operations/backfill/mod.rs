//! `segue backfill`: looks whether it may begin, and puts its parts together.

mod admission;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::check;
use crate::config::Config;
use crate::domain::backfill::{Load, TablePlan};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::pace::ThrottleLimits;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::failpoint::FailPoints;
use crate::jobs::backfill::checkpoint::{Checkpoint, CheckpointError};
use crate::jobs::backfill::{self, BackfillError, Dice, Ending, Observer, Parts};
use crate::ports::backfill::{ChunkStore, KeySplitter};
use crate::postgres::backfill::admit;
use crate::postgres::backfill::claims::Claims;
use crate::postgres::backfill::copier::{self, Copier};
use crate::postgres::backfill::plan::Plan;
use crate::postgres::backfill::split::Splitter;
use crate::postgres::backfill::watch::Watch;
use crate::postgres::memory::RowMemory;
use crate::postgres::reconcile::session::ForeignKeys;
use crate::postgres::reconcile::{self, Reconciler};
use crate::preflight::{Code, Finding, Pace, Report};
use crate::telemetry::retries::Retries;
use admission::Ground;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these tables of the source, as `schema.table` or by a name that is unique.
    pub tables: Vec<String>,
    /// The state is kept in this file, and not on the target.
    pub checkpoint: Option<PathBuf>,
    /// Nobody writes to the source, so that nothing need be captured.
    pub source_is_idle: bool,
    /// The target's tables are emptied first.
    pub empty_target: bool,
    /// Nothing is changed.
    pub dry_run: bool,
    /// How rows are written where the target is PostgreSQL.
    pub load: Load,
    /// Findings of the preflight that the operator knows of and passes over.
    pub accepted: Vec<Code>,
}

/// What is told before a copy begins.
#[derive(Debug)]
pub enum Told<'a> {
    /// What the preflight found; first of all.
    Checked {
        /// All of it.
        report: &'a Report,
        /// Nothing is begun for it.
        refuses: bool,
    },
    /// What must end, or come about, before the copy may begin.
    WaitsFor(&'a Waits),
}

/// What must end, or come about, before the copy may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// Members, or their sessions, that work by an older epoch.
    Members(Vec<String>),
    /// The oldest transaction that wrote before capture stood.
    Transaction(String),
}

/// What became of the preparations.
#[derive(Debug)]
pub enum Prepared {
    /// The copy may begin.
    Ready(Box<Backfill>),
    /// The preflight has found what blocks it, and has told so.
    Refused,
    /// It was asked to stop first.
    Stopped,
}

/// A backfill that may begin.
pub struct Backfill {
    /// What there is to copy, parents before children.
    pub plans: Vec<TablePlan>,
    /// How far it is.
    pub store: Arc<dyn ChunkStore>,
    params: backfill::Params,
    running_parts: (Arc<Copier>, Arc<Watch>),
}

impl std::fmt::Debug for Backfill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backfill").field("plans", &self.plans).finish_non_exhaustive()
    }
}

impl From<CheckpointError> for AppError {
    fn from(error: CheckpointError) -> Self {
        let kind = match error {
            CheckpointError::File { .. } => FaultKind::Internal,
            CheckpointError::InUse { .. } | CheckpointError::Unfit { .. } => FaultKind::Refused,
        };
        SqlFault::new(kind, Reason::RefusedCheckpoint, error.to_string()).into()
    }
}

/// Looks whether the backfill may begin, and prepares it: with `empty_target` the target's tables
/// are empty afterwards. `told` hears what the preflight finds, and what is waited for.
///
/// # Errors
///
/// [`AppError`]: what else stands against it, with the way out.
pub async fn prepare(
    config: &Config,
    options: &Options,
    stop: &CancellationToken,
    told: impl Fn(Told<'_>),
) -> Result<Prepared, AppError> {
    if !checked(config, options, &told).await? {
        return Ok(Prepared::Refused);
    }
    let ground = admission::ground(config, options).await?;
    let mappings = admission::wanted_tables(config, options, ground.registry).await?;
    admission::check_capture(&ground, &mappings).await?;
    let plan = admission::plan(config, options, &ground, &mappings).await?;
    if ground.captured.is_some() && !options.dry_run {
        let waits = |waits: Waits| told(Told::WaitsFor(&waits));
        if !admission::settled(config, &ground, stop, &waits).await? {
            return Ok(Prepared::Stopped);
        }
        let transaction = |who: &str| waits(Waits::Transaction(who.to_owned()));
        if !admit::old_transactions_ended(&ground.source, stop, transaction).await? {
            return Ok(Prepared::Stopped);
        }
    }
    if options.empty_target && !options.dry_run {
        admission::empty_target(&ground, options, &plan).await?;
    }
    // What is to be emptied is no reason to refuse.
    if !options.empty_target {
        admission::refuse_what_is_there(&ground, options, &plan).await?;
    }
    Ok(Prepared::Ready(Box::new(assemble(config, options, ground, plan).await?)))
}

/// Runs the preflight of `segue check` before anything is changed. Says whether the copy may begin.
async fn checked(
    config: &Config,
    options: &Options,
    told: &impl Fn(Told<'_>),
) -> Result<bool, AppError> {
    if !options.tables.is_empty() {
        // A name that is wrong is told before what is wrong with the others.
        admission::wanted_tables(config, options, true).await?;
    }
    let ceiling = |number: u64, unit: f64, usual: f64| match number {
        0 => usual,
        number => usual.min(number as f64 * unit),
    };
    let usual = Pace::default();
    let pace = Pace {
        chunk_rows: config.backfill.chunk_rows,
        rows_per_s: ceiling(config.backfill.max_rows_per_s, 1.0, usual.rows_per_s),
        bytes_per_s: ceiling(config.backfill.max_mb_per_s, 1e6, usual.bytes_per_s),
    };
    let params = check::Params { tables: options.tables.clone(), pace };
    let report = check::check(config, &Databases::open(config)?, &params).await?;
    let refuses = report.refuses_but(|finding| options.passes_over(finding));
    told(Told::Checked { report: &report, refuses });
    Ok(!refuses)
}

async fn assemble(
    config: &Config,
    options: &Options,
    ground: Ground,
    plan: Plan,
) -> Result<Backfill, AppError> {
    let dice: Dice = Arc::new(rand::random::<f64>);
    let Ground { source, target, owner, registry, claims, captured } = ground;
    let gaps = captured.map(|captured| captured.gaps);
    let splitter: Arc<dyn KeySplitter> =
        Arc::new(Splitter::new(source.clone(), plan.tables.clone()));
    let store: Arc<dyn ChunkStore> = match &options.checkpoint {
        Some(path) => {
            let name = |side| {
                let database = config.database(side);
                format!("{}/{}", database.dsn.places(), database.dsn.database)
            };
            let between = format!("{} to {}", name(Side::Source), name(Side::Target));
            Arc::new(Checkpoint::open(path, &between, gaps, owner.workers, splitter)?)
        }
        None => {
            let ids = plan.plans.iter().map(|table| table.table_id).collect();
            Arc::new(Claims::new(target.clone(), splitter, owner.clone(), ids, gaps))
        }
    };
    let foreign_keys = ForeignKeys::on(target.get().await?.dialect());
    // A process of its own, or a part of one that copies nothing beside it.
    let memory = RowMemory::new(config.limits.memory);
    let row_bytes_max = config.limits.row_bytes_max;
    let reconciler = (registry && claims).then(|| {
        let params = reconcile::Params {
            deadline: config.outbox.deadline,
            foreign_keys,
            memory: memory.clone(),
            row_bytes_max,
            ..reconcile::Params::new(Arc::clone(&dice))
        };
        Arc::new(Reconciler::new(source.clone(), target.clone(), Side::Source, params))
    });
    let params = copier::Params {
        captured,
        foreign_keys,
        fenced: claims,
        memory,
        row_bytes_max,
        failpoints: FailPoints::of(&config.failpoints),
    };
    let copier = Copier::new(source.clone(), target, plan.tables, reconciler, params);
    let watch = Watch::new(source, owner.id, captured.is_some());
    Ok(Backfill {
        plans: plan.plans,
        store,
        params: params_of(config, dice),
        running_parts: (Arc::new(copier), Arc::new(watch)),
    })
}

fn params_of(config: &Config, dice: Dice) -> backfill::Params {
    let limits = ThrottleLimits {
        source_latency: config.backfill.source_latency_max,
        outbox_age: config.backfill.outbox_age_max,
        target_latency: config.backfill.target_latency_max,
    };
    let ceiling = |number: u64, unit: f64| (number > 0).then_some(number as f64 * unit);
    backfill::Params {
        rows_per_s_max: ceiling(config.backfill.max_rows_per_s, 1.0),
        bytes_per_s_max: ceiling(config.backfill.max_mb_per_s, 1e6),
        ..backfill::Params::new(config.backfill.workers, limits, dice)
    }
}

// === impl Options ===

/// What only capture, and the way back, ask of the source.
const OF_CAPTURE: [Code; 4] =
    [Code::TooOld, Code::ReplicationRole, Code::SegueSchema, Code::TableRights];

impl Options {
    fn passes_over(&self, finding: &Finding) -> bool {
        let uncaptured = self.source_is_idle && finding.side == Side::Source;
        self.accepted.contains(&finding.code) || uncaptured && OF_CAPTURE.contains(&finding.code)
    }
}

// === impl Backfill ===

impl Backfill {
    /// Copies until all is done or `stop` is cancelled.
    ///
    /// # Errors
    ///
    /// [`BackfillError`]; what was done stands.
    pub async fn run(
        self,
        observer: Arc<Observer>,
        stop: CancellationToken,
    ) -> Result<Ending, BackfillError> {
        self.store.plan(&self.plans).await.map_err(BackfillError::Store)?;
        let (copier, watch) = self.running_parts;
        let retries = Retries::default();
        let parts = Parts { store: self.store, copier, watch, observer, retries };
        backfill::run(self.params, parts, stop).await
    }
}
