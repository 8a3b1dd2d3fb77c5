//! `segue backfill`: looks whether it may begin, and puts its parts together.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::setup;
use crate::config::Config;
use crate::domain::backfill::TablePlan;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::pace::ThrottleLimits;
use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName};
use crate::jobs::backfill::checkpoint::{self, Checkpoint, CheckpointError};
use crate::jobs::backfill::{self, BackfillError, Dice, Ending, Observer, Parts};
use crate::ports::backfill::{ChunkStore, KeySplitter};
use crate::postgres::backfill::admit;
use crate::postgres::backfill::claims::{Claims, Owner};
use crate::postgres::backfill::copier::{self, Copier};
use crate::postgres::backfill::plan::{self, Plan};
use crate::postgres::backfill::snapshot::Captured;
use crate::postgres::backfill::split::Splitter;
use crate::postgres::backfill::watch::Watch;
use crate::postgres::capture;
use crate::postgres::pool::Pool;
use crate::postgres::reconcile::session::ForeignKeys;
use crate::postgres::reconcile::{self, Reconciler};
use crate::postgres::schema::{self, Permission};

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
        SqlFault::new(kind, "refused.checkpoint", error.to_string()).into()
    }
}

fn refused(reason: &'static str, message: impl Into<String>, way_out: &str) -> AppError {
    SqlFault::new(FaultKind::Refused, reason, message).with_hint(way_out).into()
}

/// Both databases for one run.
struct Ground {
    source: Pool,
    target: Pool,
    owner: Owner,
    /// Segue's tables are on the source: ids come from there, and rows can be reconciled.
    registry: bool,
    /// They are on the target: claims can be kept there.
    claims: bool,
    captured: Option<Captured>,
}

/// Looks whether the backfill may begin, and prepares it: with `empty_target` the target's tables
/// are empty afterwards. `told` hears what is waited for.
///
/// # Errors
///
/// [`AppError`]: what stands against it, with the way out. `None` where `stop` came first.
// The whole preflight of `segue check` belongs here, before anything is changed.
pub async fn prepare(
    config: &Config,
    options: &Options,
    stop: &CancellationToken,
    told: impl Fn(&str),
) -> Result<Option<Backfill>, AppError> {
    let ground = ground(config, options).await?;
    let mappings = wanted_tables(config, options, ground.registry).await?;
    check_capture(&ground, &mappings).await?;
    let plan = plan(config, options, &ground, &mappings).await?;
    if options.empty_target && !options.dry_run {
        empty_target(&ground, options, &plan).await?;
    }
    // What is to be emptied is no reason to refuse.
    if !options.empty_target {
        refuse_what_is_there(&ground, options, &plan).await?;
    }
    let waits = ground.captured.is_some() && !options.dry_run;
    if waits && !admit::old_transactions_ended(&ground.source, stop, told).await? {
        return Ok(None);
    }
    Ok(Some(assemble(config, options, ground, plan).await?))
}

async fn ground(config: &Config, options: &Options) -> Result<Ground, AppError> {
    let workers = config.backfill.workers;
    let owner =
        Owner { id: uuid::Uuid::new_v4(), host: host(), workers, lease: config.backfill.lease };
    // Each worker has a snapshot open while it looks at the outbox, and reconciles by two more.
    let size = 3 * workers as usize + 4;
    let source = Databases::separate(config, Side::Source, size, None)?;
    let target = Databases::separate(config, Side::Target, size, Some(owner.application_name()))?;
    let registry = admit::has_schema(&source).await?;
    let mut captured = None;
    if !options.source_is_idle {
        captured = Some(captured_now(&source, registry).await?);
    }
    if options.checkpoint.is_none() && !options.dry_run {
        // Of a copy from an idle source, segue's tables may be the first thing on the target.
        let permission = if options.source_is_idle { Permission::Change } else { Permission::Look };
        let mut session = target.get().await?;
        match schema::migrate(&mut session, Side::Target, permission).await {
            Err(schema::SetupError::Outdated { side, found, needed, .. }) => {
                return Err(AppError::NotSetUp { side, found, needed });
            }
            done => {
                done?;
            }
        }
    }
    let claims = admit::has_schema(&target).await?;
    Ok(Ground { source, target, owner, registry, claims, captured })
}

/// Capture must stand, and the phase rely on it: what is written while the history is copied
/// would be lost otherwise.
async fn captured_now(source: &Pool, registry: bool) -> Result<Captured, AppError> {
    let idle = "or say --source-is-idle if nobody writes to the source until the copy has ended";
    if !registry {
        let message = "segue's tables are not on the source, or are of an older version";
        let way_out = format!("run segue init --phase dual_write, {idle}");
        return Err(refused("refused.not_set_up", message, &way_out));
    }
    let (phase, captured) = admit::state(source).await?;
    match phase {
        Some(phase) if admit::copies(phase) => Ok(captured),
        phase => {
            let phase = phase.map_or("not known", crate::domain::control::Phase::as_str);
            let message = format!(
                "the phase is {phase}, and what is written during the copy would be lost: the \
                 history is copied in dual_write"
            );
            let way_out = format!("run segue init --phase dual_write, {idle}");
            Err(refused("refused.phase", message, &way_out))
        }
    }
}

/// The tables of the migration, or those that were named.
async fn wanted_tables(
    config: &Config,
    options: &Options,
    registry: bool,
) -> Result<Vec<TableMapping>, AppError> {
    let databases = Databases::open(config)?;
    let (mut mappings, unmapped) = setup::tables(config, &databases).await?;
    if !registry {
        // Segue's own table of answers is not there.
        mappings.retain(|mapping| mapping.source.schema != "segue");
    }
    if options.tables.is_empty() {
        if let Some(first) = unmapped.first() {
            let message = format!(
                "{} of the source's tables cannot be copied, the first is {}: {}",
                unmapped.len(),
                first.table,
                first.message
            );
            let way_out = "mend it, name it in tables.exclude, or name the others with --table";
            return Err(refused("refused.table", message, way_out));
        }
        return Ok(mappings);
    }
    let mut chosen = Vec::new();
    for wanted in &options.tables {
        let named = |mapping: &&TableMapping| {
            mapping.source.to_string() == *wanted || mapping.source.name == *wanted
        };
        let found: Vec<_> = mappings.iter().filter(named).collect();
        match found.as_slice() {
            [one] => chosen.push((*one).clone()),
            [] => {
                let message = format!("table {wanted:?} is not part of the migration");
                return Err(refused("refused.table", message, "see tables.map and tables.exclude"));
            }
            _ => {
                let message = format!("table {wanted:?} is in several schemas");
                return Err(refused("refused.table", message, "write it as schema.table"));
            }
        }
    }
    chosen.dedup();
    Ok(chosen)
}

async fn check_capture(ground: &Ground, mappings: &[TableMapping]) -> Result<(), AppError> {
    if ground.captured.is_none() {
        return Ok(());
    }
    let session = ground.source.get().await?;
    let params = capture::Params::new(Side::Source);
    let drifts = capture::verify_installed(&**session, &params, mappings).await;
    let drifts = drifts.map_err(|error| session.fault(error, true))?;
    let Some(first) = drifts.first() else { return Ok(()) };
    let message = format!(
        "{} of the tables are not captured as they should be, the first is {}: {}",
        drifts.len(),
        first.table,
        first.what
    );
    Err(refused("refused.not_captured", message, "run segue capture install"))
}

async fn plan(
    config: &Config,
    options: &Options,
    ground: &Ground,
    mappings: &[TableMapping],
) -> Result<Plan, AppError> {
    let (tables, missing) = if ground.registry {
        plan::registered(&ground.source, mappings).await?
    } else {
        let begun: HashMap<String, i32> = match &options.checkpoint {
            Some(path) => {
                checkpoint::known(path)?.into_iter().map(|(id, name)| (name, id)).collect()
            }
            None if ground.claims => plan::begun_ids(&ground.target).await?,
            None => HashMap::new(),
        };
        plan::numbered(&ground.source, begun, mappings).await?
    };
    if let Some(table) = missing.first() {
        let message = format!("table {table} is not registered, or has no primary key");
        return Err(refused(
            "refused.table",
            message,
            "run segue capture install, or leave it out",
        ));
    }
    let rows = config.backfill.chunk_rows;
    let plan = plan::plan(&ground.source, &ground.target, &tables, rows).await?;
    if plan.refused.is_empty() {
        return Ok(plan);
    }
    let line = |(table, reason): &(TableName, String)| format!("{table}: {reason}");
    let message = plan.refused.iter().map(line).collect::<Vec<_>>().join("; ");
    Err(refused("refused.table", message, "mend them, or leave them out by tables.exclude"))
}

async fn empty_target(ground: &Ground, options: &Options, plan: &Plan) -> Result<(), AppError> {
    if ground.registry {
        let (phase, _) = admit::state(&ground.source).await?;
        if let Some(phase) = phase.filter(|phase| !admit::may_empty(*phase)) {
            let message = format!("callers are answered from the target in phase {phase}");
            let way_out = "its tables can be emptied up to shadow_read";
            return Err(refused("refused.empty_target", message, way_out));
        }
    }
    if let Some(path) = &options.checkpoint
        && !checkpoint::known(path)?.is_empty()
    {
        let message =
            format!("{} knows of a copy to the tables that are to be emptied", path.display());
        return Err(refused("refused.empty_target", message, "remove it, or name another file"));
    }
    match admit::empty_target(&ground.target, plan, ground.claims).await? {
        None => Ok(()),
        Some(host) => {
            let message = format!("a backfill runs at {host}");
            Err(refused("refused.empty_target", message, "stop it first"))
        }
    }
}

async fn refuse_what_is_there(
    ground: &Ground,
    options: &Options,
    plan: &Plan,
) -> Result<(), AppError> {
    let known = match &options.checkpoint {
        Some(path) => Some(checkpoint::known(path)?.into_iter().map(|(id, _)| id).collect()),
        None if ground.claims => None,
        None => Some(Vec::new()),
    };
    let (source, target) = (&ground.source, &ground.target);
    let found = admit::target_refusals(source, target, plan, ground.captured, known).await?;
    if found.is_empty() {
        return Ok(());
    }
    let way_out = "with --empty-target the target's tables of this copy are emptied first, and \
                   copied anew";
    Err(refused("refused.target_not_empty", found.join("; "), way_out))
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
                let hosts: Vec<String> =
                    database.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
                format!("{}/{}", hosts.join(","), database.dbname)
            };
            let between = format!("{} to {}", name(Side::Source), name(Side::Target));
            Arc::new(Checkpoint::open(path, &between, gaps, owner.workers, splitter)?)
        }
        None => {
            let ids = plan.plans.iter().map(|table| table.table_id).collect();
            Arc::new(Claims::new(target.clone(), splitter, owner.clone(), ids, gaps))
        }
    };
    let foreign_keys = match target.get().await?.facts().is_cockroach {
        true => ForeignKeys::Active,
        false => ForeignKeys::Replica,
    };
    let reconciler = (registry && claims).then(|| {
        let params = reconcile::Params {
            deadline: config.outbox.deadline,
            foreign_keys,
            ..reconcile::Params::new(Arc::clone(&dice))
        };
        Arc::new(Reconciler::new(source.clone(), target.clone(), Side::Source, params))
    });
    let params = copier::Params { captured, foreign_keys, hook: None };
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

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "this machine" } else { name.trim() };
    format!("{name}, process {}", std::process::id())
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
        let parts = Parts { store: self.store, copier, watch, observer };
        backfill::run(self.params, parts, stop).await
    }
}
