//! The sweep of the member that leads: what `segue verify --continuous` does, without a process of
//! its own.
//!
//! Two members that lead at a time do no harm: both note what they have read.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::Background;
use crate::app::fleet::Fleet;
use crate::app::operations::sweep;
use crate::app::operations::verify::{Event, Options, Pace};
use crate::config::Config;
use crate::control::member::Membership;
use crate::domain::backfill::{BackfillProgress, TableProgress};
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::domain::verify::{Discrepancy, Finding};
use crate::ports::ControlView;
use crate::ports::admin::BackfillAdmin;
use crate::telemetry::metrics::Metrics;

const CHUNK_ROWS: u64 = 10_000;
/// How long a row that waits to be reconciled is looked at again.
const PENDING_MAX: Duration = Duration::from_secs(30);
/// Between two looks at what was written since it was proven, when all is proven.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A chunk that is written all the time is read so often at most.
const OPEN_AFTER: Duration = Duration::from_secs(60);
/// Between two looks at whether there is anything to sweep yet.
const READY_LOOK: Duration = Duration::from_secs(5);

/// Sweeps as long as its member leads.
#[derive(Clone)]
struct Sweeper {
    config: Arc<Config>,
    membership: Membership,
    control: Arc<dyn ControlView>,
    backfill: Arc<dyn BackfillAdmin>,
    metrics: Metrics,
}

/// Starts it, where the configuration asks for it.
pub(super) fn start(
    config: &Config,
    fleet: &Fleet,
    backfill: &Arc<dyn BackfillAdmin>,
    metrics: &Metrics,
    background: &Background,
) {
    if !config.verify.sweep {
        return;
    }
    let sweeper = Sweeper {
        config: Arc::new(config.clone()),
        membership: fleet.membership.clone(),
        control: Arc::new(fleet.control.clone()),
        backfill: Arc::clone(backfill),
        metrics: metrics.clone(),
    };
    background.tasks.spawn(sweeper.run(background.stop.clone()));
}

// === impl Sweeper ===

impl Sweeper {
    async fn run(self, stop: CancellationToken) {
        let turns = async {
            loop {
                if self.leads() && self.is_ready().await {
                    self.turn(&stop).await;
                }
                tokio::time::sleep(READY_LOOK.min(self.config.control.lease)).await;
            }
        };
        tokio::select! {
            // The chunk under way is left where it is: it only reads.
            () = stop.cancelled() => {}
            () = turns => {}
        }
    }

    /// Sweeps until the lead is lost, or the shadow is another one or none. The chunk under way is
    /// ended.
    async fn turn(&self, stop: &CancellationToken) {
        tracing::info!("this member leads, and sweeps");
        let over = stop.child_token();
        let watched = over.clone();
        let begun = captures(self.control.current().phase);
        let watch = async {
            let mut ticks = tokio::time::interval(self.config.control.poll_interval);
            while self.leads() && captures(self.control.current().phase) == begun {
                ticks.tick().await;
            }
            watched.cancel();
            std::future::pending::<()>().await;
        };
        let options = Options {
            tables: Vec::new(),
            sample: 1.0,
            repair: false,
            chunk_rows: CHUNK_ROWS,
            workers: 1,
            pending_max: PENDING_MAX,
        };
        let pace = Pace {
            load: self.config.verify.load,
            again_after: self.config.verify.again_after,
            open_after: OPEN_AFTER,
            look_every: LOOK_EVERY,
        };
        let mut tell = |event: Event<'_>| self.tell(&event);
        let retries = self.metrics.retries();
        let swept = tokio::select! {
            swept = sweep::run(&self.config, &options, pace, (retries, &over), &mut tell) => swept,
            () = watch => return,
        };
        match swept {
            Ok(totals) => tracing::info!(chunks = totals.chunks, "the sweep has ended"),
            Err(error) => tracing::warn!(%error, "the sweep could not begin"),
        }
    }

    fn leads(&self) -> bool {
        self.membership.leads()
    }

    /// Whether the rows ought to be equal: while the history is being copied most of them are
    /// missing, and to read them one by one would be a load that proves nothing.
    async fn is_ready(&self) -> bool {
        let progress = self.backfill.progress().await;
        progress.is_ok_and(|progress| is_copied(self.control.current().phase, &progress))
    }

    /// One line a chunk; values are nobody's business here.
    fn tell(&self, event: &Event<'_>) {
        let Event::Chunk { table, done, .. } = event else { return };
        let open = |test: fn(&Discrepancy) -> bool| {
            done.findings.iter().find(move |it| it.is_open() && test(&it.what))
        };
        if let Some(Finding { key, what: Discrepancy::Unread { reason }, .. }) =
            open(Discrepancy::is_unread)
        {
            self.metrics.fault("sweep_unread");
            let key = key.join("|");
            tracing::error!(%table, key, reason, "a row cannot be read, so that it is not verified");
        }
        let Some(first) = open(Discrepancy::is_data) else { return };
        self.metrics.fault("sweep_difference");
        tracing::error!(
            %table,
            rows = done.findings.len(),
            first = first.key.join("|"),
            what = first.what.as_str(),
            "rows differ on the shadow: see `segue verify`"
        );
    }
}

/// From which side, where from any.
fn captures(phase: Phase) -> Option<Side> {
    phase.captures().then(|| phase.primary())
}

fn is_copied(phase: Phase, progress: &BackfillProgress) -> bool {
    let finished = progress.tables.iter().all(TableProgress::is_done);
    match phase {
        Phase::SourceOnly | Phase::TargetOnly => false,
        // Before anything was begun nothing is to be expected of the target.
        Phase::DualWrite => finished && !progress.tables.is_empty(),
        Phase::ShadowRead | Phase::Shift | Phase::Cutover | Phase::Reversed => finished,
    }
}
