//! A change of the primary, and the way back: the same steps with the sides exchanged.
//!
//! gates → predict → prove → prepare → pause → fence → drain → verify → sequences → flip → release.
//! Nothing is changed before the flip: whatever fails up to there lifts the fence and the pause,
//! and callers have waited and that is all. After the flip every member finishes by itself.
//!
//! *If we crash here*: before the flip the fence ends with its session, and the pause with its
//! lease; after it the control row says so, and whoever reads it goes on.

mod fence;
mod flip;
mod foreign;
mod member;
mod prepare;
mod prove;
pub(super) mod read_only;
mod readers;
mod verify;
mod whole;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::cutover::read_only::ReadOnly;
use crate::app::databases::Databases;
use crate::app::fleet::{Fleet, Refresher};
use crate::app::halt::Halt;
use crate::app::workers;
use crate::config::Config;
use crate::control::Control;
use crate::control::steps::Steps;
use crate::domain::control::ControlRow;
use crate::domain::cutover::{
    CutoverEnd, CutoverEvent, CutoverRequest, CutoverStep, Pause, Stage, StepState,
};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::operation::OperationId;
use crate::domain::reason::Reason;
use crate::domain::rounded::rounded;
use crate::domain::side::{Side, Sides};
use crate::domain::status::TableProven;
use crate::domain::table::TableMapping;
use crate::failpoint::FailPoint;
use crate::jobs::outbox_worker::Replayer;
use crate::ports::ControlView;
use crate::ports::admin::OutboxAdmin;
use crate::postgres::control::ControlTable;
use crate::postgres::control::members::FleetTable;
use crate::postgres::control::pause::PauseTable;
use crate::postgres::cutover::Exclusive;
use crate::postgres::drift::CaptureWatch;
use crate::postgres::fence::fence_lost;
use crate::postgres::foreign_writes::ForeignNotes;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::Reconciler;
use crate::postgres::statements::transactions::PostgresTransactions;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::retries::Retries;

/// Events that wait for whoever watches.
const EVENTS_MAX: usize = 256;
/// The fence's session is heard of so often in a lease.
const HEARD_SHARE: u32 = 5;
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// Runs cutovers, one at a time.
#[derive(Clone)]
pub(super) struct Cutovers {
    parts: Arc<Parts>,
    running: Arc<Mutex<()>>,
    tasks: TaskTracker,
}

/// What a cutover looks at and changes.
struct Parts {
    config: Config,
    databases: Databases,
    control: Control,
    store: Arc<ControlTable>,
    fleet: Arc<FleetTable>,
    refresher: Refresher,
    pauses: PauseTable,
    readers: readers::Readers,
    steps: Steps,
    outbox: Arc<dyn OutboxAdmin>,
    replayer: Replayer,
    read_only: ReadOnly,
    reconcilers: Sides<Arc<Reconciler>>,
    watch: CaptureWatch,
    foreign: ForeignNotes,
}

/// Why a cutover ended before its flip.
enum Stop {
    Refused(CutoverEnd),
    Off(Box<SqlFault>),
}

impl From<SqlFault> for Stop {
    fn from(fault: SqlFault) -> Self {
        Self::Off(Box::new(fault))
    }
}

/// One cutover under way.
struct Run<'a> {
    parts: &'a Parts,
    request: CutoverRequest,
    halt: Halt,
    events: mpsc::Sender<CutoverEvent>,
    pause: Pause,
    /// Since when writes are held, and until when they may be.
    held: Option<Instant>,
    written_last: BTreeSet<RowKey>,
    tables: Vec<TableMapping>,
    /// When the gates were judged, by the primary's clock.
    begun_at: Option<SystemTime>,
    /// Tables that are compared whole under the fence, where the configuration names any.
    whole: Option<whole::Whole>,
    /// Which table was proven when.
    proofs: Vec<TableProven>,
}

/// Starts the member's part, and gives what operators change the primary by.
pub(super) fn start(
    config: &Config,
    databases: &Databases,
    fleet: &Fleet,
    (transactions, read_only): (Sides<PostgresTransactions>, ReadOnly),
    (steps, outbox, replayer): (Steps, Arc<dyn OutboxAdmin>, Replayer),
    (tasks, stop, metrics): (&TaskTracker, &CancellationToken, &Metrics),
) -> Cutovers {
    let params = member::Params {
        look_interval: config.control.poll_interval.min(Duration::from_millis(250)),
        hold_limit: config.cutover.hold_limit,
        lease: config.control.lease,
    };
    let follower = member::Follower::new(params, databases, fleet, transactions, metrics);
    tasks.spawn(follower.run(stop.clone()));
    let dice: crate::postgres::reconcile::Dice = Arc::new(rand::random::<f64>);
    let reconciler =
        |primary| workers::reconciler(config, databases, primary, &dice, Retries::default());
    let parts = Parts {
        config: config.clone(),
        databases: databases.clone(),
        control: fleet.control.clone(),
        store: Arc::clone(&fleet.store),
        fleet: Arc::clone(&fleet.table),
        refresher: fleet.refresher(),
        pauses: PauseTable::new(databases.control()),
        readers: readers::Readers::new(databases, &fleet.table, config.control.lease),
        steps,
        outbox,
        replayer,
        read_only,
        watch: CaptureWatch::new(databases.own(), Arc::new(fleet.control.clone())),
        foreign: fleet.foreign(databases),
        reconcilers: Sides { source: reconciler(Side::Source), target: reconciler(Side::Target) },
    };
    Cutovers { parts: Arc::new(parts), running: Arc::default(), tasks: tasks.clone() }
}

impl Cutovers {
    /// Carries one out, to its end whether anybody listens or not; the last event says what became
    /// of it. The history names its switch by its id.
    pub(super) fn run(
        &self,
        request: CutoverRequest,
        id: OperationId,
        halt: Halt,
    ) -> BoxStream<'static, CutoverEvent> {
        let (events, watched) = mpsc::channel(EVENTS_MAX);
        let (parts, running) = (Arc::clone(&self.parts), Arc::clone(&self.running));
        self.tasks.spawn(async move {
            let _alone = running.lock().await;
            Run::new(&parts, request, (id, halt), events).carry_out().await;
        });
        ReceiverStream::new(watched).boxed()
    }
}

impl std::fmt::Debug for Cutovers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cutovers")
    }
}

// === impl Run ===

impl<'a> Run<'a> {
    fn new(
        parts: &'a Parts,
        request: CutoverRequest,
        (id, halt): (OperationId, Halt),
        events: mpsc::Sender<CutoverEvent>,
    ) -> Self {
        let pause = Pause { id: id.0, stage: Stage::Prepare, epoch: 0, left: None };
        let (written_last, tables, proofs) = (BTreeSet::new(), Vec::new(), Vec::new());
        Self {
            parts,
            request,
            halt,
            events,
            pause,
            held: None,
            written_last,
            tables,
            begun_at: None,
            whole: None,
            proofs,
        }
    }

    fn from(&self) -> Side {
        self.request.to.other()
    }

    async fn reach(&self, point: FailPoint) {
        self.parts.databases.failpoints().reach(point).await;
    }

    async fn carry_out(mut self) {
        let end = self.up_to_end().await;
        let paused = self.held.map(|held| held.elapsed()).unwrap_or_default();
        let end = match end {
            Ok(end) => end,
            Err(Stop::Refused(end)) => end,
            Err(Stop::Off(fault)) => {
                let hint = if fault.hint.is_empty() { "" } else { "; " };
                let why = format!("{fault}{hint}{}", fault.hint);
                tracing::warn!(why, "the cutover was called off; nothing has changed");
                CutoverEnd::CalledOff { why }
            }
        };
        let state = self.parts.control.current();
        let (phase, epoch) = (state.phase, state.epoch);
        let proofs = std::mem::take(&mut self.proofs);
        self.tell(CutoverEvent::End { end, paused, phase, epoch, proofs }).await;
    }

    async fn up_to_end(&mut self) -> Result<CutoverEnd, Stop> {
        self.halt.unless_asked()?;
        let row = self.gates().await?;
        self.reach(FailPoint::CutoverAfterGates).await;
        if row.state.phase.primary() == self.request.to {
            return Ok(CutoverEnd::Done);
        }
        self.pause.epoch = row.state.epoch;
        self.predict(&row).await?;
        self.prove().await?;
        self.note_proofs().await?;
        self.halt.unless_asked()?;
        self.prepare().await?;
        self.reach(FailPoint::CutoverAfterPrepare).await;
        let renewing = self.keep_pause();
        let ended = self.under_pause(&row).await;
        drop(renewing);
        // Lifted also after the flip: then nobody looks for it there any more.
        let lifted = self.parts.pauses.lift(self.from(), self.pause.id).await;
        if let Err(fault) = lifted {
            tracing::warn!(%fault, "the pause could not be lifted; it ends with its lease");
        }
        self.parts.refresher.refresh().await;
        ended
    }

    /// From the first held write to the last released one. The fence is lifted with its session.
    async fn under_pause(&mut self, row: &ControlRow) -> Result<CutoverEnd, Stop> {
        let config = &self.parts.config;
        let lease = config.cutover.pause_lease.min(config.control.lease);
        let fence = self.parts.databases.exclusive(self.from(), lease).await?;
        tokio::select! {
            ended = self.under_fence(&fence, row) => {
                if ended.is_err() && fence.is_mark() {
                    // A lock would go with the session; a flip in doubt that comes late finds no
                    // mark. Where this fails, members take the mark off when it has lapsed.
                    let lifted = tokio::time::timeout(lease, fence.release()).await;
                    tracing::info!(?lifted, "the fence is lifted");
                }
                ended
            }
            // It never ends: this process being stopped is what the server is to notice.
            () = fence.be_heard(lease / HEARD_SHARE) => Ok(CutoverEnd::Done),
        }
    }

    async fn under_fence(
        &mut self,
        fence: &Exclusive,
        row: &ControlRow,
    ) -> Result<CutoverEnd, Stop> {
        self.hold(fence).await?;
        self.reach(FailPoint::CutoverAfterPause).await;
        self.fence(fence, row).await?;
        self.reach(FailPoint::CutoverAfterFence).await;
        self.drain(fence).await?;
        self.reach(FailPoint::CutoverAfterDrain).await;
        self.verify(fence).await?;
        self.reach(FailPoint::CutoverAfterVerify).await;
        self.sequences(fence).await?;
        self.reach(FailPoint::CutoverAfterSequences).await;
        self.within_limit()?;
        if self.request.rehearse {
            if !fence.release().await? {
                return Err(fence_lost(self.from()).into());
            }
            self.note_rehearsal(row).await?;
            return Ok(CutoverEnd::Rehearsed);
        }
        if !self.halt.close() {
            self.halt.unless_asked()?;
        }
        let row = self.flip(fence, row).await?;
        self.reach(FailPoint::CutoverAfterFlip).await;
        self.release(&row).await;
        self.reach(FailPoint::CutoverAfterRelease).await;
        Ok(CutoverEnd::Done)
    }

    fn held_for(&self) -> Duration {
        self.held.map(|held| held.elapsed()).unwrap_or_default()
    }

    fn within_limit(&self) -> Result<(), SqlFault> {
        self.halt.unless_asked()?;
        let (held, limit) = (self.held_for(), self.request.pause_max);
        if held <= limit {
            return Ok(());
        }
        let message = format!("writes have been held for {}, longer than {limit:?}", rounded(held));
        Err(SqlFault::new(FaultKind::DeadlineExceeded, Reason::CutoverPause, message)
            .with_hint("try again at a quieter time, or raise --max-pause"))
    }

    async fn begin(&self, step: CutoverStep) -> Instant {
        let (state, took, detail) = (StepState::Begun, Duration::ZERO, String::new());
        self.tell(CutoverEvent::Step { step, state, took, detail }).await;
        Instant::now()
    }

    async fn done(&self, step: CutoverStep, begun: Instant, detail: String) {
        let (state, took) = (StepState::Done, begun.elapsed());
        tracing::info!(%step, took_ms = took.as_millis(), detail, "a step of the cutover is done");
        self.tell(CutoverEvent::Step { step, state, took, detail }).await;
    }

    async fn failed(&self, step: CutoverStep, begun: Instant, fault: SqlFault) -> Stop {
        let (state, took, detail) = (StepState::Failed, begun.elapsed(), fault.to_string());
        self.tell(CutoverEvent::Step { step, state, took, detail }).await;
        fault.into()
    }

    /// Nobody who does not watch, or not fast enough, holds a cutover up.
    async fn tell(&self, event: CutoverEvent) {
        // The watcher may have gone.
        let _ = self.events.try_send(event);
    }
}
