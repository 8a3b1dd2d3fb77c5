//! What works off the outbox: the replayer with its worker, and the janitor.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::app::Background;
use crate::app::databases::Databases;
use crate::app::directed::Directed;
use crate::app::fleet::Fleet;
use crate::config::Config;
use crate::control::Control;
use crate::domain::fault::SqlFault;
use crate::domain::fleet::MemberId;
use crate::domain::side::{Side, Sides};
use crate::domain::status::OutboxStatus;
use crate::jobs::janitor;
use crate::jobs::outbox_worker::{self, Replayer, Running};
use crate::jobs::settled_writes::{self, Settling};
use crate::ports::ControlView;
use crate::ports::ReconcileWaker;
use crate::ports::admin::{BackfillAdmin, OutboxAdmin, ProofStatus};
use crate::ports::reconcile::{BatchDone, OutboxSize, OutboxWork, Upkeep};
use crate::postgres::backfill::progress::BackfillStatus;
use crate::postgres::outbox::Outbox;
use crate::postgres::outbox::backoff::Backoff;
use crate::postgres::outbox::list::{OutboxOperations, Totals};
use crate::postgres::outbox::lookup::Lookup;
use crate::postgres::outbox::servers::Servers;
use crate::postgres::outbox::upkeep::{OutboxUpkeep, UpkeepParams};
use crate::postgres::reconcile::batch::{BatchParams, OutboxWorker};
use crate::postgres::reconcile::consistent::{ConsistentParams, ConsistentWorker};
use crate::postgres::reconcile::{self, Dice, Reconciler};
use crate::postgres::verify::proven::ProofTable;
use crate::telemetry::metrics::{Metrics, OutboxState};
use crate::telemetry::retries::Retries;
use crate::telemetry::spans::Writers;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How soon a server that has crashed or was replaced is noticed.
const SERVERS_LOOK: Duration = Duration::from_secs(2);
const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const RING_LOCK_WAIT: Duration = Duration::from_millis(100);
const EXPIRED_ROWS_MAX: i64 = 10_000;
/// A snapshot that is applied as a whole may have the keys of so many batches: those of a large
/// transaction, in about the time that a lease leaves.
const BATCHES_AT_ONCE: usize = 10;
/// The server ends a batch of which nothing is heard for this part of a lease.
const LEASE_SHARE: u32 = 2;
/// Between two looks at whether a member that works in steps is lost.
const OTHERS_LOOK: Duration = Duration::from_secs(1);
/// Between two looks at the outbox for the metrics.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// The running replayer and what is asked about it.
pub(super) struct Reconciling {
    pub(super) replayer: Replayer,
    pub(super) running: Running,
    pub(super) admin: Arc<dyn OutboxAdmin>,
    pub(super) backfill: Arc<dyn BackfillAdmin>,
    pub(super) proofs: Arc<dyn ProofStatus>,
    pub(super) settling: Settling,
}

/// Starts them in both directions: the control row says which one it is.
pub(super) fn start(
    config: &Config,
    databases: &Databases,
    fleet: &Fleet,
    telling: (&Metrics, &Arc<Writers>),
    background: &Background,
) -> Reconciling {
    let (metrics, writers) = telling;
    let control = &fleet.control;
    let Background { tasks, stop } = background;
    let lookup = Lookup::new(databases.control(), Arc::new(control.clone()));
    let (settling, asking) = settled_writes::settling(Arc::new(lookup));
    tasks.spawn(asking.run(stop.clone()));
    let dice: Dice = Arc::new(rand::random::<f64>);
    let outboxes = each(|side| outbox(config, databases, side));
    let of = |side: Side| outboxes.of(side).clone();
    let work = each(|primary| worker(config, databases, fleet, of(primary), (&dice, writers)));
    let (replayer, running) = Replayer::start(
        outbox_worker::Params {
            concurrency: config.outbox.concurrency,
            poll: config.outbox.poll_interval,
            away_max: config.outbox.backoff_max,
            ..outbox_worker::Params::new(dice)
        },
        Arc::new(Directed::primary(control, work)),
        observer(metrics.clone(), settling.clone()),
    );
    wake_on_changes(&replayer, control, tasks, stop);
    start_janitor(config, &outboxes, control, metrics.clone(), background);
    watch_servers(databases, control, metrics, background);
    let asked = replayer.clone();
    let totals: Arc<Totals> = Arc::new(move || {
        let stats = asked.stats();
        (stats.reconciled, stats.failed)
    });
    let admins = each(|side| {
        let outbox = of(side);
        let totals = Arc::clone(&totals);
        let admin = OutboxOperations::new(outbox, config.outbox.max_bytes, totals);
        Arc::new(admin) as Arc<dyn OutboxAdmin>
    });
    let admin: Arc<dyn OutboxAdmin> = Arc::new(Directed::primary(control, admins));
    let proofs = each(|side| {
        Arc::new(ProofTable::new(databases.own().of(side).clone())) as Arc<dyn ProofStatus>
    });
    let proofs: Arc<dyn ProofStatus> = Arc::new(Directed::primary(control, proofs));
    let backfill: Arc<dyn BackfillAdmin> = Arc::new(BackfillStatus::new(databases.own().target));
    let (copy, told) = (Arc::clone(&backfill), metrics.clone());
    let measured = move || measure_backfill(Arc::clone(&copy), told.clone());
    tasks.spawn(again_and_again(measured, stop.clone()));
    let (seen, proven, told) = (Arc::clone(&admin), Arc::clone(&proofs), metrics.clone());
    let measured = move || measure(Arc::clone(&seen), Arc::clone(&proven), told.clone());
    tasks.spawn(again_and_again(measured, stop.clone()));
    Reconciling { replayer, running, admin, backfill, proofs, settling }
}

fn each<T>(of: impl Fn(Side) -> T) -> Sides<T> {
    Sides { source: of(Side::Source), target: of(Side::Target) }
}

fn outbox(config: &Config, databases: &Databases, side: Side) -> Outbox {
    Outbox::new(databases.own().of(side).clone()).stuck_after(config.outbox.stuck_after)
}

/// The outbox is looked at when the control row changes: an epoch that settles lets reads on the
/// target, as soon as all that waits is applied.
fn wake_on_changes(
    replayer: &Replayer,
    control: &Control,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let (replayer, mut changes, stop) = (replayer.clone(), control.subscribe(), stop.clone());
    tasks.spawn(async move {
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            changes.mark_unchanged();
            replayer.wake();
        }
    });
}

/// Makes the other side's rows equal to those of `primary`: key by key, and by whole snapshots
/// in the phases in which reads are shifted there.
fn worker(
    config: &Config,
    databases: &Databases,
    fleet: &Fleet,
    outbox: Outbox,
    (dice, writers): (&Dice, &Arc<Writers>),
) -> Arc<dyn OutboxWork> {
    let retries = fleet.control.retries().clone();
    let reconciler = reconciler(config, databases, outbox.side(), dice, retries);
    let batches = BatchParams {
        keys_max: config.outbox.batch_keys_max,
        backoff: Backoff { first: config.outbox.backoff_min, max: config.outbox.backoff_max },
        ..BatchParams::default()
    };
    let worker = OutboxWorker::new(outbox, Arc::clone(&reconciler), batches);
    let worker = worker.linked_to(Arc::clone(writers));
    let params = ConsistentParams {
        keys_max: config.outbox.batch_keys_max.saturating_mul(BATCHES_AT_ONCE),
        idle_max: config.outbox.deadline.min(config.control.lease / LEASE_SHARE),
    };
    let consistent = ConsistentWorker::new(reconciler, worker, fleet.target_reads(config), params);
    let consistent = consistent.linked_to(Arc::clone(writers));
    let (control, member) = (fleet.control.clone(), fleet.membership.id());
    Arc::new(ByPhase { control, member, looked: Mutex::default(), consistent })
}

/// Whole snapshots while reads are shifted, and key by key otherwise. A member that is late is
/// told by the database: each way looks at the phase in the snapshot that it copies.
struct ByPhase {
    control: Control,
    member: MemberId,
    /// When another member's steps were last looked at.
    looked: Mutex<Option<Instant>>,
    consistent: ConsistentWorker,
}

impl ByPhase {
    /// Another member has reads off and works in steps: it is looked now and then whether it is
    /// lost, and left alone otherwise.
    fn leaves_it_to_another(&self) -> bool {
        let by = self.control.row().reads_off.and_then(|off| off.by);
        if by.is_none_or(|by| by == self.member) {
            return false;
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = looked.is_some_and(|at| at.elapsed() < OTHERS_LOOK);
        if !lately {
            *looked = Some(Instant::now());
        }
        lately
    }
}

impl OutboxWork for ByPhase {
    fn work(&self) -> BoxFuture<'_, Result<BatchDone, SqlFault>> {
        match self.control.current().phase.shifts() {
            true if self.leaves_it_to_another() => {
                std::future::ready(Ok(BatchDone::default())).boxed()
            }
            true => self.consistent.work(),
            false => self.consistent.key_by_key().boxed(),
        }
    }
}

/// The primitive, from `primary` to the other side.
pub(super) fn reconciler(
    config: &Config,
    databases: &Databases,
    primary: Side,
    dice: &Dice,
    retries: Retries,
) -> Arc<Reconciler> {
    let own = databases.own();
    let params = reconcile::Params {
        deadline: config.outbox.deadline,
        failpoints: databases.failpoints().clone(),
        memory: databases.memory(),
        row_bytes_max: config.limits.row_bytes_max,
        retries,
        ..reconcile::Params::new(Arc::clone(dice))
    };
    let (source, shadow) = (own.of(primary).clone(), own.of(primary.other()).clone());
    Arc::new(Reconciler::new(source, shadow, primary, params))
}

fn watch_servers(
    databases: &Databases,
    control: &Control,
    metrics: &Metrics,
    Background { tasks, stop }: &Background,
) {
    let (own, control) = (databases.own(), control.clone());
    let look = move || {
        let primary = control.current().phase.primary();
        let servers = Servers::new(own.of(primary).clone(), own.of(primary.other()).clone());
        async move { servers.check().await }.boxed()
    };
    let (retries, stop) = (metrics.retries().clone(), stop.clone());
    tasks.spawn(janitor::repeat("check_servers", SERVERS_LOOK, look, retries, stop));
}

/// Keeps the outbox's figures for the scrape, which must not wait for a database.
async fn measure(outbox: Arc<dyn OutboxAdmin>, proofs: Arc<dyn ProofStatus>, metrics: Metrics) {
    let read = outbox.status().await;
    metrics.retries().note("outbox_figures", "", &read);
    match read {
        Ok(OutboxStatus { pending, stuck, oldest_age_s, bytes, pending_bytes, folded, .. }) => {
            metrics.outbox(OutboxState { pending, stuck, oldest_age_s, bytes, pending_bytes });
            metrics.folded(&folded);
        }
        // The proofs are in the same database.
        Err(_) => return metrics.fault("outbox_unreadable"),
    }
    let proven = proofs.status().await;
    metrics.retries().note("proof_figures", "", &proven);
    match proven {
        Ok(proven) => metrics.verified(&proven),
        Err(fault) => tracing::debug!(%fault, "what is proven cannot be read"),
    }
}

/// The same of the copy of the history.
async fn measure_backfill(backfill: Arc<dyn BackfillAdmin>, metrics: Metrics) {
    // The target may be away, or not set up yet.
    if let Ok(progress) = backfill.progress().await {
        metrics.backfill(&progress);
    }
}

async fn again_and_again<F: Future<Output = ()>>(work: impl Fn() -> F, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(MEASURE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let measuring = async {
        loop {
            ticks.tick().await;
            work().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = measuring => {}
    }
}

fn observer(metrics: Metrics, settling: Settling) -> Arc<outbox_worker::Observer> {
    Arc::new(move |done, elapsed| {
        metrics.retries().note("reconcile", "", done);
        match done {
            Ok(done) if done.keys == 0 => {}
            Ok(done) => {
                metrics.reconciled(done.reconciled, done.changed, elapsed);
                settling.reconciled();
                for _ in 0..done.failed {
                    metrics.reconcile_failed("key");
                }
            }
            Err(fault) if fault.sqlstate.is_empty() => metrics.reconcile_failed("away"),
            Err(fault) => metrics.reconcile_failed(&fault.sqlstate),
        }
    })
}

fn start_janitor(
    config: &Config,
    outboxes: &Sides<Outbox>,
    control: &Control,
    metrics: Metrics,
    Background { tasks, stop }: &Background,
) {
    let upkeeps = each(|side| {
        let params = UpkeepParams {
            window: config.outbox.forgotten_window,
            lock_wait: RING_LOCK_WAIT,
            bytes_max: config.outbox.max_bytes,
            idempotency_kept: IDEMPOTENCY_KEPT,
            rows_max: EXPIRED_ROWS_MAX,
        };
        Arc::new(OutboxUpkeep::new(outboxes.of(side).clone(), params)) as Arc<dyn Upkeep>
    });
    let upkeep = Arc::new(Directed::primary(control, upkeeps));
    let retries = metrics.retries().clone();
    let sized = Arc::new(move |found: OutboxSize| {
        if found.window_shrunk {
            metrics.fault("outbox_window_shrunk");
        }
        if found.folded > 0 {
            metrics.fault("outbox_folded");
        }
    });
    let params = janitor::Params::default();
    tasks.spawn(janitor::run(params, upkeep, sized, retries, stop.clone()));
}
