//! What works off the outbox: the replayer with its worker, and the janitor.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::app::crash;
use crate::app::databases::Databases;
use crate::config::Config;
use crate::control::Control;
use crate::domain::fault::SqlFault;
use crate::domain::status::OutboxStatus;
use crate::jobs::janitor;
use crate::jobs::replayer::{self, Replayer, Running};
use crate::ports::ControlView;
use crate::ports::admin::{BackfillAdmin, OutboxAdmin, ProofStatus};
use crate::ports::reconcile::{BatchDone, OutboxWork};
use crate::postgres::backfill::progress::BackfillStatus;
use crate::postgres::outbox::Outbox;
use crate::postgres::outbox::backoff::Backoff;
use crate::postgres::outbox::list::OutboxOperations;
use crate::postgres::outbox::servers::Servers;
use crate::postgres::outbox::upkeep::{OutboxUpkeep, UpkeepParams};
use crate::postgres::reconcile::batch::{BatchParams, OutboxWorker};
use crate::postgres::reconcile::{self, Dice, Reconciler};
use crate::postgres::verify::proof::ProofTable;
use crate::telemetry::metrics::{Metrics, OutboxState};
use crate::telemetry::spans::Writers;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How soon a server that was restarted or replaced is noticed.
const SERVERS_LOOK: Duration = Duration::from_secs(2);
const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const RING_LOCK_WAIT: Duration = Duration::from_millis(100);
const EXPIRED_ROWS_MAX: i64 = 10_000;
/// Between two looks at the outbox for the metrics.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// The running replayer and what is asked about it.
pub(super) struct Reconciling {
    pub(super) replayer: Replayer,
    pub(super) running: Running,
    pub(super) admin: Arc<dyn OutboxAdmin>,
    pub(super) backfill: Arc<dyn BackfillAdmin>,
}

/// Works only in the phases that have a shadow: in the others the outbox keeps what it has.
struct WhileCaptured {
    control: Control,
    inner: OutboxWorker,
}

impl OutboxWork for WhileCaptured {
    fn work(&self) -> BoxFuture<'_, Result<BatchDone, SqlFault>> {
        if self.control.current().phase.captures() {
            self.inner.work()
        } else {
            Box::pin(async { Ok(BatchDone::default()) })
        }
    }
}

/// Starts them between the primary of now and its shadow.
pub(super) fn start(
    config: &Config,
    databases: &Databases,
    control: &Control,
    telling: (&Metrics, &Arc<Writers>),
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Reconciling {
    let (metrics, writers) = telling;
    let primary = control.current().phase.primary();
    let own = databases.own();
    let outbox = Outbox::new(own.of(primary).clone()).stuck_after(config.outbox.stuck_after);
    let dice: Dice = Arc::new(rand::random::<f64>);

    let params = reconcile::Params {
        deadline: config.outbox.deadline,
        crash: crash::points(),
        ..reconcile::Params::new(Arc::clone(&dice))
    };
    let shadow = own.of(primary.other()).clone();
    let reconciler = Reconciler::new(own.of(primary).clone(), shadow, primary, params);
    let batches = BatchParams {
        keys_max: config.outbox.batch_keys_max,
        backoff: Backoff { first: config.outbox.backoff_min, max: config.outbox.backoff_max },
        ..BatchParams::default()
    };
    let worker = OutboxWorker::new(outbox.clone(), Arc::new(reconciler), batches)
        .linked_to(Arc::clone(writers));
    let work = WhileCaptured { control: control.clone(), inner: worker };
    let (replayer, running) = Replayer::start(
        replayer::Params {
            concurrency: config.outbox.concurrency,
            poll: config.outbox.poll_interval,
            away_max: config.outbox.backoff_max,
            ..replayer::Params::new(dice)
        },
        Arc::new(work),
        observer(metrics.clone()),
    );
    start_janitor(config, outbox.clone(), metrics.clone(), tasks, stop);
    let servers = Servers::new(own.of(primary).clone(), own.of(primary.other()).clone());
    let look = move || {
        let servers = servers.clone();
        async move { servers.check().await }.boxed()
    };
    tasks.spawn(janitor::repeat("check_servers", SERVERS_LOOK, look, stop.clone()));
    let asked = replayer.clone();
    let totals = Arc::new(move || {
        let stats = asked.stats();
        (stats.reconciled, stats.failed)
    });
    let admin: Arc<dyn OutboxAdmin> =
        Arc::new(OutboxOperations::new(outbox, config.outbox.max_bytes, totals));
    let proofs = ProofTable::new(own.of(primary).clone());
    let backfill: Arc<dyn BackfillAdmin> = Arc::new(BackfillStatus::new(own.target));
    let (copy, told) = (Arc::clone(&backfill), metrics.clone());
    let measured = move || measure_backfill(Arc::clone(&copy), told.clone());
    tasks.spawn(again_and_again(measured, stop.clone()));
    let (seen, told) = (Arc::clone(&admin), metrics.clone());
    let measured = move || measure(Arc::clone(&seen), proofs.clone(), told.clone());
    tasks.spawn(again_and_again(measured, stop.clone()));
    Reconciling { replayer, running, admin, backfill }
}

/// Keeps the outbox's figures for the scrape, which must not wait for a database.
async fn measure(outbox: Arc<dyn OutboxAdmin>, proofs: ProofTable, metrics: Metrics) {
    match outbox.status().await {
        Ok(OutboxStatus { pending, stuck, oldest_age_s, bytes, .. }) => {
            metrics.outbox(OutboxState { pending, stuck, oldest_age_s, bytes });
        }
        // The proofs are in the same database.
        Err(_) => return metrics.fault("outbox_unreadable"),
    }
    match proofs.status().await {
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

fn observer(metrics: Metrics) -> Arc<replayer::Observer> {
    Arc::new(move |done, elapsed| match done {
        Ok(done) if done.keys == 0 => {}
        Ok(done) => {
            metrics.reconciled(done.reconciled, done.changed, elapsed);
            for _ in 0..done.failed {
                metrics.reconcile_failed("key");
            }
        }
        Err(fault) if fault.sqlstate.is_empty() => metrics.reconcile_failed("away"),
        Err(fault) => metrics.reconcile_failed(&fault.sqlstate),
    })
}

fn start_janitor(
    config: &Config,
    outbox: Outbox,
    metrics: Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let upkeep = OutboxUpkeep::new(
        outbox,
        UpkeepParams {
            window: config.outbox.forgotten_window,
            lock_wait: RING_LOCK_WAIT,
            bytes_max: config.outbox.max_bytes,
            idempotency_kept: IDEMPOTENCY_KEPT,
            rows_max: EXPIRED_ROWS_MAX,
        },
    );
    let given_up = Arc::new(move |_bytes| metrics.fault("copy_given_up"));
    tasks.spawn(janitor::run(janitor::Params::default(), Arc::new(upkeep), given_up, stop.clone()));
}
