//! What one member does for all: it notes when an epoch has settled, moves the share of the
//! target's reads, brings the other side's control row up, and forgets who is long gone.
//!
//! Two leaders at a time do no harm: each change is a compare-and-set of what was looked at.
//! *If we crash*, the next leader looks at the same tables and goes on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::control::change::{Change, bring_up, change, standing};
use crate::control::member::Membership;
use crate::control::{Control, figures, timed};
use crate::domain::control::{ControlRow, Percentage, Phase};
use crate::domain::fault::SqlFault;
use crate::domain::fleet::Fleet;
use crate::domain::history::{Event, EventKind, Figures};
use crate::domain::lag::Lag;
use crate::domain::routing::{Decision, Routing, nothing_is_folded};
use crate::domain::side::Side;
use crate::ports::admin::{ForeignAdmin, OutboxAdmin};
use crate::ports::control::ControlStore;
use crate::ports::fleet::{FleetStore, OlderWriters};
use crate::telemetry::spans;

/// Members whose lease ended so long ago are taken off the list.
const LAPSED_KEPT: Duration = Duration::from_secs(3600);
/// Who changes what nobody asked for.
const WHO: &str = "segue";

/// How the leader works.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// How often it looks.
    pub interval: Duration,
    /// How long a database may take to answer it.
    pub timeout: Duration,
    /// How long a member may act without being heard of.
    pub lease: Duration,
    /// How reads are shifted.
    pub routing: Routing,
}

/// What it looks at and changes.
#[derive(Clone)]
pub struct Parts {
    /// The control row as this member knows it.
    pub control: Control,
    /// Whether this member leads.
    pub membership: Membership,
    /// The control rows.
    pub store: Arc<dyn ControlStore>,
    /// The members.
    pub fleet: Arc<dyn FleetStore>,
    /// Sessions that outlive the lease of their member.
    pub older: Arc<dyn OlderWriters>,
    /// The primary's outbox.
    pub outbox: Arc<dyn OutboxAdmin>,
    /// What other programs wrote on the target.
    pub foreign: Arc<dyn ForeignAdmin>,
}

/// Leads while its member has the lead.
#[derive(Clone)]
pub struct Leader {
    params: Params,
    parts: Parts,
    lag: Arc<Mutex<Lag>>,
}

// === impl Leader ===

impl Leader {
    /// A leader that goes by these.
    pub fn new(params: Params, parts: Parts) -> Self {
        Self { params, parts, lag: Arc::default() }
    }

    /// Looks at intervals until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let lead = async {
            let mut well = true;
            let mut ticks = self.ticks();
            loop {
                ticks.tick().await;
                if !self.parts.membership.leads() {
                    continue;
                }
                let looked = self.look().await;
                self.parts.control.retries().note("lead", "", &looked);
                if let Err(fault) = &looked {
                    self.parts.control.metrics.fault("fleet_unreadable");
                    if well {
                        tracing::warn!(%fault, "the fleet cannot be led; all stays as it is");
                    }
                }
                well = looked.is_ok();
            }
        };
        // On its own: a shadow that hangs must not keep the leader from putting reads back.
        let repair = async {
            let mut ticks = self.ticks();
            loop {
                ticks.tick().await;
                if self.parts.membership.leads() {
                    self.bring_other_up().await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            ((), ()) = async { tokio::join!(lead, repair) } => {}
        }
    }

    fn ticks(&self) -> tokio::time::Interval {
        let mut ticks = interval(self.params.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// One look, and what follows from it.
    pub(super) async fn look(&self) -> Result<(), SqlFault> {
        let Parts { store, fleet, .. } = &self.parts;
        let side = self.parts.control.row().state.phase.primary();
        let limit = self.params.timeout;
        let asked = tokio::time::Instant::now();
        let row = timed(side, limit, store.read(side)).await?;
        let Some(row) = row.filter(|row| row.state.phase.primary() == side) else {
            return Ok(());
        };
        self.parts.control.offer(side, &row, asked);
        let members = timed(side, limit, fleet.fleet(side)).await?;
        if row.settled_at.is_none() {
            self.settle(&row, &members).await?;
        } else if row.state.phase == Phase::Shift {
            self.route(&row, &members).await?;
        }
        timed(side, limit, fleet.forget_lapsed(side, LAPSED_KEPT)).await?;
        Ok(())
    }

    /// A target that does not answer is not waited for elsewhere: `shift` does not settle for now.
    async fn no_foreign_write_is_left(&self, epoch: u64) -> bool {
        let left = self.parts.foreign.none_left(epoch);
        let left = timed(Side::Target, self.params.timeout, left).await;
        self.parts.control.retries().note("settle_shift", "", &left);
        left.unwrap_or(false)
    }

    async fn settle(&self, row: &ControlRow, fleet: &Fleet) -> Result<(), SqlFault> {
        let (side, epoch) = (row.state.phase.primary(), row.state.epoch);
        let limit = self.params.timeout;
        if !fleet.settled(epoch).is_yes() {
            return Ok(());
        }
        let older = timed(side, limit, self.parts.older.before(side, epoch)).await?;
        if !older.is_empty() {
            // All members have acknowledged: what is left, and silent, belongs to one whose
            // lease is over. Whatever it has sent is committed or rolled back with its session.
            let lease = self.params.lease;
            let ended = self.parts.older.end_lost(side, epoch, lease);
            for session in timed(side, limit, ended).await? {
                tracing::warn!(%side, epoch, session, "a session of a lost member is ended");
            }
            return Ok(());
        }
        // Reads of the target are to be of a state that the primary had: what other programs wrote
        // there before it refused them must be in the outbox, as old as what else is waited for.
        if row.state.phase == Phase::Shift && !self.no_foreign_write_is_left(epoch).await {
            return Ok(());
        }
        let members = fleet.alive().count();
        let event = Event {
            id: Uuid::new_v4().as_u128(),
            kind: EventKind::Settled,
            from: standing(row),
            to: standing(row),
            epoch,
            forced: false,
            changed_by: WHO.to_owned(),
            reason: format!("all {members} members work by it"),
            figures: Figures::default(),
        };
        if timed(side, limit, self.parts.store.note_settled(side, epoch, event)).await? {
            tracing::info!(phase = %row.state.phase, epoch, members, "the epoch has settled");
        }
        Ok(())
    }

    async fn route(&self, row: &ControlRow, fleet: &Fleet) -> Result<(), SqlFault> {
        let side = row.state.phase.primary();
        let outbox = timed(side, self.params.timeout, self.parts.outbox.status()).await;
        let folded = outbox.as_ref().map_or(Ok(()), nothing_is_folded);
        let waiting = outbox.ok().map(|outbox| {
            let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
            lag.seen(Instant::now(), outbox.waiting())
        });
        let merged = figures::merged(fleet, row.revision);
        let decision = match folded {
            Err(why) if row.target_percentage == Percentage::ZERO => Decision::Hold(why),
            Err(why) => Decision::RollBack(why),
            Ok(()) => self.params.routing.decide(row, fleet.now, &merged, waiting),
        };
        let (percentage, held, kind, reason) = match decision {
            Decision::Hold(_) => return Ok(()),
            Decision::Move(to, reason) => (to, false, "step", reason),
            Decision::RollBack(reason) => (Percentage::ZERO, true, "rollback", reason),
        };
        let moved = Change {
            phase: row.state.phase,
            percentage,
            held,
            forced: false,
            changed_by: WHO.to_owned(),
            reason: reason.clone(),
            figures: figures::record(&merged),
        };
        timed(side, self.params.timeout, change(self.parts.store.as_ref(), row, moved)).await?;
        self.parts.control.metrics.shift_changed(kind);
        let (from, to) = (row.target_percentage.percent(), percentage.percent());
        spans::shift_changed(from, to, kind, &reason);
        if kind == "rollback" {
            tracing::error!(from, to, reason, "reads go back to the source; the schedule waits");
        } else {
            tracing::info!(from, to, reason, "more reads go to the target");
        }
        Ok(())
    }

    async fn bring_other_up(&self) {
        let row = self.parts.control.row();
        let other = row.state.phase.primary().other();
        let work = bring_up(self.parts.store.as_ref(), other, &row);
        // The follower tells when a side cannot be read; the next look tries again.
        let done = timed(other, self.params.timeout, work).await;
        self.parts.control.retries().note("other_control_row", "", &done);
        if let Err(fault) = done {
            tracing::debug!(%fault, "the other side's control row waits");
        }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl std::fmt::Debug for Leader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader").field("params", &self.params).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::control::fakes::Rows;
    use crate::control::member;
    use crate::control::{PhaseChange, set_phase};
    use crate::domain::fleet::MemberId;
    use crate::domain::foreign::ForeignWrites;
    use crate::domain::page::{Page, PageRequest};
    use crate::domain::routing::{Step, Trigger};
    use crate::domain::status::{OutboxEntry, OutboxStatus};
    use crate::domain::table::TableName;
    use crate::ports::ControlView;
    use crate::ports::fleet::LeasesAlone;
    use crate::telemetry::metrics::{Metrics, Purpose};

    const HOUR: Duration = Duration::from_secs(3600);

    /// What waits, which is nothing at first.
    #[derive(Default)]
    struct Waits(Mutex<OutboxStatus>);

    impl OutboxAdmin for Waits {
        fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, SqlFault>> {
            let status = self.0.lock().unwrap().clone();
            Box::pin(async { Ok(status) })
        }
        fn list(
            &self,
            _: PageRequest,
            _: bool,
        ) -> BoxFuture<'_, Result<Page<OutboxEntry>, SqlFault>> {
            Box::pin(async { Ok(Page { items: Vec::new(), next: None }) })
        }
        fn retry(&self, _: Option<TableName>) -> BoxFuture<'_, Result<u64, SqlFault>> {
            Box::pin(async { Ok(0) })
        }
    }

    /// No other program writes on the target.
    struct NoneLeft;

    impl ForeignAdmin for NoneLeft {
        fn writes(&self, _: bool) -> BoxFuture<'_, Result<ForeignWrites, SqlFault>> {
            Box::pin(async { Ok(ForeignWrites::default()) })
        }

        fn none_left(&self, _: u64) -> BoxFuture<'_, Result<bool, SqlFault>> {
            Box::pin(async { Ok(true) })
        }

        fn resolve(
            &self,
            _: Option<String>,
            _: String,
            _: String,
        ) -> BoxFuture<'_, Result<u64, SqlFault>> {
            Box::pin(async { Ok(0) })
        }
    }

    /// A session of an older epoch, as long as it is there.
    struct Straggler(std::sync::Mutex<Vec<String>>);

    impl OlderWriters for Straggler {
        fn before(&self, _: Side, _: u64) -> BoxFuture<'_, Result<Vec<String>, SqlFault>> {
            let left = self.0.lock().unwrap().clone();
            Box::pin(async move { Ok(left) })
        }

        fn end_lost(
            &self,
            _: Side,
            _: u64,
            _: Duration,
        ) -> BoxFuture<'_, Result<Vec<String>, SqlFault>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    struct World {
        rows: Arc<Rows>,
        metrics: Metrics,
        waits: Arc<Waits>,
        leader: Leader,
    }

    fn routing() -> Routing {
        let percent = |percent| Percentage::of(percent).unwrap();
        Routing {
            target_percentage: percent(5.0),
            escalation_schedule: [20.0, 100.0]
                .map(|to| Step { after: HOUR * 24, percentage: percent(to) })
                .to_vec(),
            rollback_trigger: Trigger {
                error_rate_threshold: 0.001,
                latency_p99_threshold: Duration::from_millis(500),
                mismatch_rate_threshold: 0.0,
                outbox_age_threshold: Duration::from_secs(30),
                window: HOUR,
                min_samples: 10,
            },
        }
    }

    async fn world(older: Arc<dyn OlderWriters>) -> World {
        let rows = Arc::new(Rows::default());
        let change = PhaseChange {
            phase: Phase::Shift,
            reason: "a test".to_owned(),
            changed_by: "me".to_owned(),
        };
        set_phase(rows.as_ref(), &change).await.unwrap();
        // The target has been brought to a state of the primary.
        let mut row = rows.read(Side::Source).await.unwrap().unwrap();
        row.reads_off = None;
        rows.set_row(Side::Source, row);
        let metrics = Metrics::new();
        let params = crate::control::Params { poll_interval: HOUR, read_timeout: HOUR };
        let store: Arc<dyn ControlStore> = Arc::<Rows>::clone(&rows);
        let (control, _) = Control::start(params, store, metrics.clone()).await.unwrap();
        let params = member::Params {
            id: MemberId(1),
            name: "one".to_owned(),
            address: String::new(),
            version: String::new(),
            lease: HOUR * 1000,
            renew_interval: HOUR,
            window: HOUR,
        };
        let fleet: Arc<dyn FleetStore> = Arc::<Rows>::clone(&rows);
        let membership = Membership::join(params, control.clone(), fleet).await.unwrap();
        let params = Params { interval: HOUR, timeout: HOUR, lease: HOUR, routing: routing() };
        let waits = Arc::<Waits>::default();
        let parts = Parts {
            control,
            membership,
            store: Arc::<Rows>::clone(&rows) as _,
            fleet: Arc::<Rows>::clone(&rows) as _,
            older,
            outbox: Arc::<Waits>::clone(&waits) as _,
            foreign: Arc::new(NoneLeft),
        };
        World { rows, metrics, waits, leader: Leader::new(params, parts) }
    }

    impl World {
        /// An hour of calls on the target, then a look.
        async fn hour(&self, failed: bool) -> f64 {
            for _ in 0..20 {
                let took = Duration::from_millis(1);
                self.metrics.statement_ended(Side::Target, Purpose::Read, took, failed);
            }
            self.rows.pass(HOUR);
            self.leader.parts.membership.renew().await.unwrap();
            self.leader.look().await.unwrap();
            self.leader.parts.control.row().shifted().percent()
        }
    }

    #[tokio::test]
    async fn days_of_a_schedule_and_a_rollback_run_by_the_databases_clock() {
        let world = world(Arc::new(LeasesAlone)).await;
        let mut shares = Vec::new();
        for _ in 0..60 {
            shares.push(world.hour(false).await);
        }
        shares.dedup();
        assert_eq!(shares, [0.0, 5.0, 20.0, 100.0]);
        assert_eq!(world.hour(true).await, 100.0, "the row of this look is told at the next");
        assert_eq!(world.hour(false).await, 0.0);
        for _ in 0..48 {
            assert_eq!(world.hour(false).await, 0.0, "the schedule waits for an operator");
        }
        let history = world.rows.history(Side::Source, 100).await.unwrap();
        let last = &history[0];
        assert_eq!(last.event.to.percentage, Percentage::ZERO);
        assert!(last.event.reason.contains("of the target's reads failed"), "{last:?}");
        assert_eq!(history.iter().filter(|it| it.event.kind == EventKind::Settled).count(), 1);
        assert_eq!(history.iter().filter(|it| it.event.kind == EventKind::Percentage).count(), 4);
    }

    #[tokio::test]
    async fn a_clock_that_is_set_forward_while_keys_wait_puts_no_read_back() {
        let world = world(Arc::new(LeasesAlone)).await;
        for _ in 0..30 {
            world.hour(false).await;
        }
        assert_eq!(world.hour(false).await, 20.0);
        // Longer than the trigger allows, by the server's clock alone.
        let written = std::time::SystemTime::now();
        for oldest_age_s in [0.1, 3600.0, 3600.0] {
            *world.waits.0.lock().unwrap() =
                OutboxStatus { oldest_age_s, oldest_at: Some(written), ..OutboxStatus::default() };
            assert_eq!(world.hour(false).await, 20.0, "{oldest_age_s}");
        }
    }

    #[tokio::test]
    async fn an_epoch_does_not_settle_while_a_session_of_an_older_one_is_left() {
        let straggler = Arc::new(Straggler(std::sync::Mutex::new(vec!["pid 7".to_owned()])));
        let world = world(Arc::<Straggler>::clone(&straggler)).await;
        for _ in 0..3 {
            assert_eq!(world.hour(false).await, 0.0);
        }
        assert_eq!(world.leader.parts.control.row().settled_at, None);
        straggler.0.lock().unwrap().clear();
        world.hour(false).await;
        world.hour(false).await;
        assert!(world.leader.parts.control.row().settled_at.is_some());
        assert_eq!(world.leader.parts.control.current().phase, Phase::Shift);
    }

    #[tokio::test]
    async fn the_other_row_is_brought_up_with_its_history() {
        let world = world(Arc::new(LeasesAlone)).await;
        for _ in 0..4 {
            world.hour(false).await;
        }
        world.leader.bring_other_up().await;
        let (source, target) = (world.rows.read(Side::Source), world.rows.read(Side::Target));
        let (source, target) = (source.await.unwrap().unwrap(), target.await.unwrap().unwrap());
        assert_eq!(source.version(), target.version());
        assert_eq!(source.target_percentage, target.target_percentage);
        let (source, target) =
            (world.rows.history(Side::Source, 9), world.rows.history(Side::Target, 9));
        let ids = |found: Vec<crate::domain::history::Recorded>| {
            let mut ids: Vec<_> = found.into_iter().map(|it| it.event.id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(source.await.unwrap()), ids(target.await.unwrap()));
    }
}
