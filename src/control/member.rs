//! This member's acknowledgement and lease, and what they let in.
//!
//! The lease is kept in the primary's database by that database's clock. The member measures
//! it by its own monotonic clock from before the renewal was sent, and gives a part of it
//! away for clocks that run apart: it stops before the database says so. When it has stopped,
//! callers' writes fail at once, surely not applied, until a renewal succeeds.
//!
//! An epoch is acknowledged when no write that was let in under an older one is in progress.
//!
//! *If we crash*, the lease ends by the database's clock, and the fleet goes on without us.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::control::figures::Windows;
use crate::control::lease::Lease;
use crate::control::target_passes::TargetPasses;
use crate::domain::control::{ControlState, Percentage, Version};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::MemberId;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::ports::fleet::{FleetStore, Renewal, Renewed};
use crate::ports::relations::Relations;
use crate::ports::{ControlView, Entering, TargetPass, WritePass};

/// Part of a lease that is given away for clocks that run apart.
const DRIFT: u32 = 20;
/// Part of a lease that one renewal may take, so that there is time for another.
const ATTEMPT: u32 = 3;

/// Who the member is, and how it keeps its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Names this run of the sidecar.
    pub id: MemberId,
    /// The name that it goes by.
    pub name: String,
    /// Where operators call it.
    pub address: String,
    /// The version of segue.
    pub version: String,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew_interval: Duration,
    /// How much of its latest figures the member tells.
    pub window: Duration,
}

impl Params {
    fn told(&self) -> (&str, Duration) {
        (&self.name, self.lease)
    }
}

/// This member. Cloning shares it.
#[derive(Clone)]
pub struct Membership {
    inner: Arc<Inner>,
}

struct Inner {
    params: Params,
    control: Control,
    store: Arc<dyn FleetStore>,
    windows: Mutex<Windows>,
    lease: Mutex<Lease>,
    /// Writes in progress, by the epoch that they were let in under.
    in_progress: Mutex<BTreeMap<u64, u64>>,
    target_reads: Arc<TargetPasses>,
    acknowledge: Arc<Notify>,
    hold: watch::Sender<Option<Instant>>,
}

// === impl Membership ===

impl Membership {
    /// Registers with the primary. Without that nothing can be served.
    ///
    /// # Errors
    ///
    /// Whatever the primary says.
    pub async fn join(
        params: Params,
        control: Control,
        store: Arc<dyn FleetStore>,
    ) -> Result<Self, SqlFault> {
        let acknowledge = Arc::<Notify>::default();
        let windows = Windows::new(control.metrics.clone(), params.window);
        let inner = Inner {
            params,
            control,
            store,
            windows: Mutex::new(windows),
            lease: Mutex::default(),
            in_progress: Mutex::default(),
            target_reads: Arc::new(TargetPasses::new(Arc::clone(&acknowledge))),
            acknowledge,
            hold: watch::Sender::new(None),
        };
        let membership = Self { inner: Arc::new(inner) };
        membership.renew().await?;
        tracing::info!(member = %membership.id(), name = membership.inner.params.name, "joined the fleet");
        Ok(membership)
    }

    /// Tells the fleet with each renewal which statements touch tables that are not migrated.
    pub fn tell(&self, relations: Arc<dyn Relations>) {
        self.inner.windows.lock().unwrap_or_else(PoisonError::into_inner).tell(relations);
    }

    /// Renews the lease until it is told to stop. The lease stays then: what is in progress
    /// may end under it, and [`Membership::leave`] gives it up.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(self.inner.params.renew_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.inner.control.subscribe();
        let mut well = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                _ = changes.changed() => {}
                () = self.inner.acknowledge.notified() => {}
            }
            let renewed = tokio::select! {
                renewed = self.renew() => renewed,
                () = stop.cancelled() => return,
            };
            self.inner.control.retries().note("lease", "", &renewed);
            if let Err(fault) = &renewed {
                self.inner.control.metrics.fault("lease_unrenewed");
                if well {
                    tracing::warn!(%fault, "the lease could not be renewed; writes stop when it ends");
                }
            } else if !well {
                tracing::info!("the lease is renewed again");
            }
            well = renewed.is_ok();
        }
    }

    /// Gives the lease up. Nothing may be in progress any more.
    pub async fn leave(&self) {
        let (side, limit) = (self.primary(), self.inner.params.lease / ATTEMPT);
        self.lease().held = None;
        let left = tokio::time::timeout(limit, self.inner.store.leave(side, self.id())).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!("the fleet could not be told; it waits until this member's lease ends");
        }
    }

    /// Its id.
    pub fn id(&self) -> MemberId {
        self.inner.params.id
    }

    /// Whether it leads the fleet now.
    pub fn leads(&self) -> bool {
        let primary = self.primary();
        let lease = self.lease();
        lease.leads && lease.holds(primary, Instant::now())
    }

    /// From now on new writes and transactions wait, until they are released or `limit` has
    /// passed; then they fail, not applied, and can be tried again.
    pub fn hold_writes(&self, limit: Duration) {
        self.inner.hold.send_replace(Some(Instant::now() + limit));
    }

    /// Lets what waits go on, under the state of the moment.
    pub fn release_writes(&self) {
        self.inner.hold.send_replace(None);
    }

    /// Renews the lease now, on the database that is the primary now.
    ///
    /// # Errors
    ///
    /// Whatever the primary says.
    pub async fn renew_now(&self) -> Result<(), SqlFault> {
        self.renew().await
    }

    /// Writes that were let in and have not ended, statements of open transactions included.
    pub fn writes_in_progress(&self) -> u64 {
        self.in_progress().values().sum()
    }

    /// One renewal: what the fleet is told, and what the answer means.
    pub(super) async fn renew(&self) -> Result<(), SqlFault> {
        let inner = &self.inner;
        let side = self.primary();
        let acknowledged = self.acknowledged();
        let renewal = self.renewal(acknowledged);
        // Before it is sent: the database's lease begins later than ours.
        let begun = Instant::now();
        let limit = begun + inner.params.lease / ATTEMPT;
        let renewed = match timeout_at(limit, inner.store.renew(side, renewal)).await {
            Ok(renewed) => renewed,
            Err(_) => {
                let message = "the primary did not answer a lease's renewal in time";
                let kind = FaultKind::DeadlineExceeded;
                Err(SqlFault::new(kind, Reason::LeaseTimeout, message).on(side))
            }
        };
        match renewed {
            Ok(Renewed { row, leads }) => {
                // The row first, the lease after: nothing is let in under a state that the
                // fleet left while this member was not counted.
                if let Some(row) = row {
                    inner.control.offer(side, &row, begun);
                }
                let until = begun + inner.params.lease - inner.params.lease / DRIFT;
                let mut lease = self.lease();
                if leads != lease.leads {
                    tracing::info!(leads, "leadership of the fleet changed");
                }
                *lease = Lease { held: Some((side, until)), leads, last_fault: None };
                drop(lease);
                if self.acknowledged() > acknowledged {
                    inner.acknowledge.notify_one();
                }
                Ok(())
            }
            Err(fault) => {
                self.lease().last_fault = Some(fault.to_string());
                Err(fault)
            }
        }
    }

    fn renewal(&self, acknowledged: Version) -> Renewal {
        let Params { id, name, address, version, lease, .. } = self.inner.params.clone();
        let mut windows = self.inner.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = windows.told(self.inner.control.row().revision, Instant::now());
        Renewal { id, name, address, version, acknowledged, lease, figures }
    }

    /// What the member works by alone. Under the locks that let writes and reads in: whoever
    /// comes later finds the new row.
    fn acknowledged(&self) -> Version {
        let in_progress = self.in_progress();
        let present = self.inner.control.row().version();
        let epoch = in_progress.keys().next().copied().unwrap_or(present.epoch);
        let known = || self.inner.control.row().revision.min(present.revision);
        let revision = self.inner.target_reads.acknowledged(known);
        Version { epoch: epoch.min(present.epoch), revision }
    }

    fn enter(&self) -> Result<WritePass, SqlFault> {
        let mut in_progress = self.in_progress();
        let control = self.inner.control.current();
        self.lease().check(control.phase.primary(), self.inner.params.told())?;
        *in_progress.entry(control.epoch).or_default() += 1;
        let entered = Entered { inner: Arc::clone(&self.inner), epoch: control.epoch };
        Ok(WritePass::counted(control, Arc::new(entered)))
    }

    /// Waits while new writes are held.
    async fn wait_for_release(&self, deadline: Option<Instant>) -> Result<(), SqlFault> {
        let mut hold = self.inner.hold.subscribe();
        loop {
            let Some(limit) = *hold.borrow_and_update() else { return Ok(()) };
            let until = deadline.map_or(limit, |deadline| deadline.min(limit));
            // The sender lives as long as this member: an error cannot come.
            if timeout_at(until, hold.changed()).await.is_err() {
                let message = "writes are held for a change of the primary that takes too long";
                return Err(SqlFault::new(
                    FaultKind::Unavailable,
                    Reason::UnavailableHeld,
                    message,
                )
                .with_hint("nothing was applied; try again")
                .retryable());
            }
        }
    }

    fn primary(&self) -> Side {
        self.inner.control.current().phase.primary()
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.inner.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_progress(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.inner.in_progress()
    }
}

impl ControlView for Membership {
    fn current(&self) -> ControlState {
        self.inner.control.current()
    }

    /// Under a lease the row is what the fleet goes by. Without one, no share may go to the
    /// target any more; the primary is still asked as long as its own row named it lately. That
    /// keeps reads up where nothing can be written, as on a full disk. It is no leave that others
    /// know of: whoever changes the primary ends the session that such a read is sent on, and one
    /// that is opened afterwards finds the change. Where that cannot be done, there is no such read.
    fn admit_read(&self) -> Result<(ControlState, Percentage), SqlFault> {
        let (state, shifted) = {
            let row = self.inner.control.row.borrow();
            (row.state, row.shifted())
        };
        let (primary, now) = (state.phase.primary(), Instant::now());
        let lease = self.lease();
        if lease.holds(primary, now) {
            return Ok((state, shifted));
        }
        let params = &self.inner.params;
        let lately = self.inner.control.seen() + params.lease - params.lease / DRIFT > now;
        if lately && self.inner.store.ends_readers(primary) {
            return Ok((state, Percentage::ZERO));
        }
        Err(lease.ended(primary, params.told()))
    }

    fn admit_target_read(&self, under: ControlState) -> Option<TargetPass> {
        self.inner.target_reads.enter(|| {
            let row = self.inner.control.row();
            let may = row.state == under
                && row.shifted() > Percentage::ZERO
                && self.lease().holds(row.state.phase.primary(), Instant::now());
            may.then_some(row.revision)
        })
    }

    fn admit_write(
        &self,
        entering: Entering,
        deadline: Option<std::time::Instant>,
    ) -> BoxFuture<'_, Result<WritePass, SqlFault>> {
        let held = entering == Entering::New && self.inner.hold.borrow().is_some();
        if !held {
            let entered = self.enter();
            return Box::pin(async move { entered });
        }
        Box::pin(async move {
            self.wait_for_release(deadline.map(Instant::from_std)).await?;
            self.enter()
        })
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("params", &self.inner.params).finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    fn in_progress(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.in_progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One write that was let in.
struct Entered {
    inner: Arc<Inner>,
    epoch: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut in_progress = self.inner.in_progress();
        let Some(count) = in_progress.get_mut(&self.epoch) else { return };
        *count -= 1;
        if *count == 0 {
            in_progress.remove(&self.epoch);
            let present = self.inner.control.current().epoch;
            drop(in_progress);
            if self.epoch < present {
                self.inner.acknowledge.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fakes::Rows;
    use crate::control::{Control, PhaseChange, set_phase};
    use crate::domain::control::{Phase, ReadsOff};
    use crate::domain::fault::Outcome;
    use crate::ports::control::ControlStore;
    use crate::telemetry::metrics::Metrics;

    const LEASE: Duration = Duration::from_secs(10);

    async fn member(rows: &Arc<Rows>, id: u128) -> Membership {
        let params = crate::control::Params { poll_interval: LEASE, read_timeout: LEASE };
        let store: Arc<dyn ControlStore> = Arc::<Rows>::clone(rows);
        let (control, _) = Control::start(params, store, Metrics::new()).await.unwrap();
        let params = Params {
            id: MemberId(id),
            name: format!("member {id}"),
            address: String::new(),
            version: String::new(),
            lease: LEASE,
            renew_interval: Duration::from_secs(1),
            window: LEASE,
        };
        Membership::join(params, control, Arc::<Rows>::clone(rows) as _).await.unwrap()
    }

    async fn rows(phase: Phase) -> Arc<Rows> {
        let rows = Arc::new(Rows::default());
        to(&rows, phase).await;
        rows
    }

    async fn to(rows: &Rows, phase: Phase) {
        let (reason, changed_by) = ("a test".to_owned(), "me".to_owned());
        set_phase(rows, &PhaseChange { phase, reason, changed_by }).await.unwrap();
    }

    async fn write(member: &Membership) -> Result<WritePass, SqlFault> {
        member.admit_write(Entering::New, None).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_ends_early_and_says_why() {
        let rows = rows(Phase::DualWrite).await;
        let member = member(&rows, 1).await;
        write(&member).await.unwrap();
        rows.set_away(true);
        assert!(member.renew().await.is_err());
        tokio::time::advance(Duration::from_millis(9_499)).await;
        write(&member).await.unwrap();
        assert!(member.admit_read().is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        let fault = write(&member).await.unwrap_err();
        assert_eq!((fault.kind, fault.reason), (FaultKind::Unavailable, Reason::UnavailableLease));
        assert!(fault.retryable && fault.outcome == Outcome::NotApplied);
        assert!(fault.message.contains("connection refused"), "{fault}");
        assert!(member.admit_write(Entering::Continuing, None).await.is_err());
        assert!(member.admit_read().is_err(), "another database may be the primary by now");
        assert!(!member.leads());
        rows.set_away(false);
        member.renew().await.unwrap();
        write(&member).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn reads_go_on_at_the_primary_while_its_row_names_it() {
        let rows = rows(Phase::Shift).await;
        let member = member(&rows, 1).await;
        let mut row = rows.read(Side::Source).await.unwrap().unwrap();
        row.target_percentage = Percentage::ALL;
        row.settled_at = Some(row.changed_at);
        row.reads_off = None;
        rows.set_row(Side::Source, row.clone());
        member.renew().await.unwrap();
        assert_eq!(member.admit_read().unwrap().1, Percentage::ALL);
        // Reading works and renewing does not, as on a full disk.
        tokio::time::advance(LEASE).await;
        member.inner.control.offer(Side::Source, &row, Instant::now());
        assert!(write(&member).await.is_err());
        assert_eq!(member.admit_read().unwrap().1, Percentage::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobodys_session_can_be_ended_reads_need_a_lease() {
        let rows = rows(Phase::Shift).await;
        let member = member(&rows, 1).await;
        rows.keep_readers();
        assert!(member.admit_read().is_ok());
        let row = rows.read(Side::Source).await.unwrap().unwrap();
        tokio::time::advance(LEASE).await;
        member.inner.control.offer(Side::Source, &row, Instant::now());
        let fault = member.admit_read().unwrap_err();
        assert!(fault.reason == Reason::UnavailableLease && fault.retryable, "{fault}");
        member.renew().await.unwrap();
        assert!(member.admit_read().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn that_reads_are_off_is_acknowledged_when_the_target_answers_those_that_were_sent() {
        let rows = rows(Phase::Shift).await;
        let member = member(&rows, 1).await;
        let under = member.current();
        assert!(member.admit_target_read(under).is_none(), "shift has just begun");
        let mut row = rows.read(Side::Source).await.unwrap().unwrap();
        row.target_percentage = Percentage::ALL;
        row.settled_at = Some(row.changed_at);
        row.reads_off = None;
        row.revision += 1;
        rows.set_row(Side::Source, row.clone());
        member.renew().await.unwrap();
        let on_its_way = member.admit_target_read(under).unwrap();
        let on = row.revision;
        row.revision += 1;
        row.reads_off = Some(ReadsOff::at_the_beginning());
        rows.set_row(Side::Source, row.clone());
        member.renew().await.unwrap();
        assert!(member.admit_target_read(under).is_none());
        member.renew().await.unwrap();
        assert_eq!(member.acknowledged().revision, on, "one may still take its snapshot there");
        drop(on_its_way);
        assert_eq!(member.acknowledged().revision, row.revision);
    }

    #[tokio::test(start_paused = true)]
    async fn an_epoch_is_acknowledged_when_the_last_write_of_an_older_one_has_ended() {
        let rows = rows(Phase::DualWrite).await;
        let member = member(&rows, 1).await;
        let old = write(&member).await.unwrap();
        let shared = old.clone();
        to(&rows, Phase::ShadowRead).await;
        member.renew().await.unwrap();
        assert_eq!((old.control.epoch, member.current().epoch), (1, 2));
        let new = write(&member).await.unwrap();
        assert_eq!((new.control.epoch, member.acknowledged().epoch), (2, 1));
        drop(old);
        assert_eq!(member.acknowledged().epoch, 1, "its clone is in progress");
        drop(shared);
        assert_eq!(member.acknowledged().epoch, 2);
        member.renew().await.unwrap();
        let fleet = rows.fleet(Side::Source).await.unwrap();
        assert!(fleet.settled(2).is_yes() && !fleet.settled(3).is_yes());
        drop(new);
        assert_eq!(member.writes_in_progress(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_wakes_up_takes_the_new_state_before_it_writes() {
        let rows = rows(Phase::DualWrite).await;
        let member = member(&rows, 1).await;
        tokio::time::advance(LEASE * 2).await;
        rows.pass(LEASE * 2);
        to(&rows, Phase::ShadowRead).await;
        let fleet = rows.fleet(Side::Source).await.unwrap();
        assert!(fleet.settled(2).is_yes(), "it cannot act any more");
        assert!(write(&member).await.is_err());
        member.renew().await.unwrap();
        assert_eq!(write(&member).await.unwrap().control.epoch, 2);
        let fleet = rows.fleet(Side::Source).await.unwrap();
        assert!(!fleet.settled(2).is_yes(), "it counts again, and has not said that it knows");
        member.renew().await.unwrap();
        assert!(rows.fleet(Side::Source).await.unwrap().settled(2).is_yes());
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_a_lost_leader_is_replaced() {
        let rows = rows(Phase::DualWrite).await;
        let (one, two) = (member(&rows, 1).await, member(&rows, 2).await);
        assert!(one.leads() && !two.leads());
        rows.pass(LEASE / 2);
        two.renew().await.unwrap();
        assert!(!two.leads());
        rows.pass(LEASE);
        tokio::time::advance(LEASE + LEASE / 2).await;
        assert!(!one.leads());
        two.renew().await.unwrap();
        one.renew().await.unwrap();
        assert!(two.leads() && !one.leads());
        two.leave().await;
        one.renew().await.unwrap();
        assert!(one.leads());
        assert!(write(&two).await.is_err(), "who has left does not write");
    }

    #[tokio::test(start_paused = true)]
    async fn held_writes_wait_and_open_transactions_go_on() {
        let rows = rows(Phase::DualWrite).await;
        let member = member(&rows, 1).await;
        member.hold_writes(Duration::from_secs(5));
        let waiting = tokio::spawn({
            let member = member.clone();
            async move { write(&member).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        member.admit_write(Entering::Continuing, None).await.unwrap();
        to(&rows, Phase::ShadowRead).await;
        member.renew().await.unwrap();
        member.release_writes();
        assert_eq!(waiting.await.unwrap().unwrap().control.epoch, 2, "the state of its release");

        member.hold_writes(Duration::from_secs(5));
        let deadline = std::time::Instant::now() + Duration::from_secs(1);
        for deadline in [None, Some(deadline)] {
            let fault = member.admit_write(Entering::New, deadline).await.unwrap_err();
            assert_eq!(
                (fault.kind, fault.reason),
                (FaultKind::Unavailable, Reason::UnavailableHeld)
            );
            assert!(fault.retryable && fault.outcome == Outcome::NotApplied);
        }
    }
}
