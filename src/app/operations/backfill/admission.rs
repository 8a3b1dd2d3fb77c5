//! Whether a backfill may begin: what is asked of both sides before anything is copied.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::backfill::{Options, Waits};
use crate::app::operations::{identity, setup};
use crate::config::Config;
use crate::domain::control::Phase;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::Settled;
use crate::domain::identity::{Asked, Identity, Standing};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::domain::table::{TableMapping, TableName};
use crate::jobs::backfill::checkpoint;
use crate::ports::control::ControlStore;
use crate::ports::fleet::{FleetStore, OlderWriters};
use crate::postgres::backfill::admit::{self, Captured};
use crate::postgres::backfill::claims::Owner;
use crate::postgres::backfill::plan::{self, Plan};
use crate::postgres::control::ControlTable;
use crate::postgres::control::members::FleetTable;
use crate::postgres::control::older_writers::FenceTable;
use crate::postgres::pool::Pool;
use crate::postgres::schema::{self, Permission};
use crate::postgres::{capture, identity as identity_table};

fn refused(reason: Reason, message: impl Into<String>, way_out: &str) -> AppError {
    SqlFault::new(FaultKind::Refused, reason, message).with_hint(way_out).into()
}

/// Both databases for one run.
pub(super) struct Ground {
    pub(super) source: Pool,
    pub(super) target: Pool,
    pub(super) owner: Owner,
    /// Segue's tables are on the source: ids come from there, and rows can be reconciled.
    pub(super) registry: bool,
    /// They are on the target: claims can be kept there.
    pub(super) claims: bool,
    pub(super) captured: Option<Captured>,
}

pub(super) async fn ground(config: &Config, options: &Options) -> Result<Ground, AppError> {
    let workers = config.backfill.workers;
    let owner =
        Owner { id: uuid::Uuid::new_v4(), host: host(), workers, lease: config.backfill.lease };
    // Of a copy from an idle source, segue's tables may be the first thing on the target.
    let permission = if options.source_is_idle { Permission::Change } else { Permission::Look };
    let databases = Databases::open(config)?;
    let registry = admit::has_schema(&databases.own().source).await?;
    let found = identified(config, &databases, options, (registry, permission));
    let identity = Box::pin(found).await?;
    // Each worker has a snapshot open while it looks at the outbox, and reconciles by two more.
    let size = 3 * workers as usize + 4;
    let source = Databases::separate(config, Side::Source, size, None)?;
    let target = Databases::separate(config, Side::Target, size, Some(owner.application_name()))?;
    for pool in [&source, &target] {
        let expectation = pool.connector().expectation();
        identity.iter().for_each(|identity| expectation.set(pool.side(), identity));
    }
    let mut captured = None;
    if !options.source_is_idle {
        captured = Some(captured_now(&source, registry).await?);
    }
    if options.checkpoint.is_none() && !options.dry_run {
        let mut session = target.get().await?;
        match schema::migrate(session.driver_mut(), Side::Target, permission).await {
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

/// Before anything is written to what may be another database: both are the sides of one migration,
/// or, where the source is of none, the target is of none either.
async fn identified(
    config: &Config,
    databases: &Databases,
    options: &Options,
    (registry, permission): (bool, Permission),
) -> Result<Option<Identity>, AppError> {
    if registry && options.dry_run {
        return match identity::ask(config, Asked::ToGoOn).await?.standing {
            Standing::Agreed(identity) => Ok(Some(identity)),
            Standing::Refused { message, hint } => Err(identity::refused(message, hint)),
            Standing::TakeOn { .. } | Standing::NotYet => Ok(None),
        };
    }
    if registry {
        return identity::established(config, databases, permission).await;
    }
    let found = identity_table::read(&*databases.own().target.get().await?).await?;
    let Some(found) = found else { return Ok(None) };
    let names = identity::names(config);
    let message = format!("{} is {found}, and {} is of no migration", names.target, names.source);
    Err(refused(Reason::RefusedIdentity, message, "correct source.dsn or target.dsn"))
}

/// Capture must stand, and the phase rely on it: what is written while the history is copied
/// would be lost otherwise.
async fn captured_now(source: &Pool, registry: bool) -> Result<Captured, AppError> {
    let idle = "or use --source-is-idle if no one writes to the source until the copy has ended";
    if !registry {
        let message = "segue's tables are not on the source, or are of an older version";
        let way_out =
            format!("run `segue init`, start the sidecar and run `segue phase advance`, {idle}");
        return Err(refused(Reason::RefusedNotSetUp, message, &way_out));
    }
    let (phase, captured) = admit::state(source).await?;
    match phase {
        Some(phase) if admit::copies(phase) => Ok(captured),
        Some(phase) if phase != Phase::SourceOnly => {
            let message = format!("the phase is {phase}: the history is copied before the cutover");
            Err(refused(Reason::RefusedPhase, message, "see `segue phase`"))
        }
        phase => {
            let phase = phase.map_or("not known", Phase::as_str);
            let message = format!(
                "the phase is {phase}, and what is written during the copy would be lost: the \
                 history is copied in dual_write"
            );
            let way_out = format!("run `segue phase advance` while a sidecar runs, {idle}");
            Err(refused(Reason::RefusedPhase, message, &way_out))
        }
    }
}

/// Between two looks at whether the phase has settled.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Waits until every member works by the phase, and no session writes under an older one.
/// `told` hears of each look in vain; false where `stop` came first.
pub(super) async fn settled(
    config: &Config,
    ground: &Ground,
    stop: &CancellationToken,
    told: &impl Fn(Waits),
) -> Result<bool, AppError> {
    // A member that has died is waited for until its lease is over, and no longer.
    let patience = config.control.settle_wait.max(config.control.lease * 2);
    let until = Instant::now() + patience;
    loop {
        let waits_for = match whether_settled(ground).await? {
            Some(settled) if settled.is_yes() => return Ok(true),
            Some(settled) => settled.waits_for().to_vec(),
            None => {
                let message = "the phase was changed while the copy was being prepared";
                return Err(refused(Reason::RefusedPhase, message, "see segue phase"));
            }
        };
        if Instant::now() >= until {
            let message = format!(
                "the phase has not settled within {patience:?}, and what is written under an older \
                 one may be lost: {}",
                waits_for.join("; ")
            );
            let way_out = "stop the member that lags, or end its sessions on the source";
            return Err(refused(Reason::RefusedNotSettled, message, way_out));
        }
        told(Waits::Members(waits_for));
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// Whether the phase that the source's row names is what the whole fleet works by: every member
/// has acknowledged its epoch, and no session that writes under another one is left. `None`
/// where the history is not copied in it.
async fn whether_settled(ground: &Ground) -> Result<Option<Settled>, SqlFault> {
    let pools = Sides { source: ground.source.clone(), target: ground.target.clone() };
    let store = ControlTable::new(pools.clone());
    let state = async || {
        let row = store.read(Side::Source).await?;
        Ok::<_, SqlFault>(row.map(|row| row.state).filter(|it| admit::copies(it.phase)))
    };
    let Some(before) = state().await? else { return Ok(None) };
    let fleet = FleetTable::new(pools.clone()).fleet(Side::Source).await?;
    let mut settled = fleet.settled(before.epoch);
    if settled.is_yes() {
        let older = FenceTable::new(pools).before(Side::Source, before.epoch).await?;
        settled = settled.and(&Settled::WaitsFor(older));
    }
    // What settled meanwhile may be an older one.
    if state().await? != Some(before) {
        settled = Settled::WaitsFor(vec!["the phase is being changed".to_owned()]);
    }
    Ok(Some(settled))
}

/// The tables of the migration, or those that were named.
pub(super) async fn wanted_tables(
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
            return Err(refused(Reason::RefusedTable, message, way_out));
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
                return Err(refused(
                    Reason::RefusedTable,
                    message,
                    "see tables.map and tables.exclude",
                ));
            }
            _ => {
                let message = format!("table {wanted:?} is in several schemas");
                return Err(refused(Reason::RefusedTable, message, "write it as schema.table"));
            }
        }
    }
    chosen.dedup();
    Ok(chosen)
}

pub(super) async fn check_capture(
    ground: &Ground,
    mappings: &[TableMapping],
) -> Result<(), AppError> {
    if ground.captured.is_none() {
        return Ok(());
    }
    let session = ground.source.get().await?;
    let params = capture::Params::new(Side::Source);
    let drifts = capture::verify_installed(session.driver(), &params, mappings).await;
    let drifts = drifts.map_err(|error| session.fault(error, true))?;
    let Some(first) = drifts.first() else { return Ok(()) };
    let message = format!(
        "{} of the tables are not captured as they should be, the first is {}: {}",
        drifts.len(),
        first.table,
        first.what
    );
    Err(refused(Reason::RefusedNotCaptured, message, "run segue capture install"))
}

pub(super) async fn plan(
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
            Reason::RefusedTable,
            message,
            "run segue capture install, or leave it out",
        ));
    }
    let rows = config.backfill.chunk_rows;
    let plan = plan::plan(&ground.source, &ground.target, &tables, rows, options.load).await?;
    if plan.refused.is_empty() {
        return Ok(plan);
    }
    let line = |(table, reason): &(TableName, String)| format!("{table}: {reason}");
    let message = plan.refused.iter().map(line).collect::<Vec<_>>().join("; ");
    Err(refused(Reason::RefusedTable, message, "mend them, or leave them out by tables.exclude"))
}

pub(super) async fn empty_target(
    ground: &Ground,
    options: &Options,
    plan: &Plan,
) -> Result<(), AppError> {
    if ground.registry {
        let (phase, _) = admit::state(&ground.source).await?;
        if let Some(phase) = phase.filter(|phase| !admit::may_empty(*phase)) {
            let message = format!("callers are answered from the target in phase {phase}");
            let way_out = "go back to shadow_read first: run `segue phase back`";
            return Err(refused(Reason::RefusedEmptyTarget, message, way_out));
        }
    }
    if let Some(path) = &options.checkpoint
        && !checkpoint::known(path)?.is_empty()
    {
        let message =
            format!("{} knows of a copy to the tables that are to be emptied", path.display());
        return Err(refused(
            Reason::RefusedEmptyTarget,
            message,
            "remove it, or name another file",
        ));
    }
    match admit::empty_target(&ground.target, plan, ground.claims).await? {
        None => Ok(()),
        Some(host) => {
            let message = format!("a backfill runs at {host}");
            Err(refused(Reason::RefusedEmptyTarget, message, "stop it first"))
        }
    }
}

pub(super) async fn refuse_what_is_there(
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
    Err(refused(Reason::RefusedTargetNotEmpty, found.join("; "), way_out))
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "this machine" } else { name.trim() };
    format!("{name}, process {}", std::process::id())
}
