//! A member's part in a change of the primary: it holds what is new, lets end what is open,
//! gives up its locks and says so; and it lets all go on, on whichever side is the primary
//! then.
//!
//! *If whoever runs the cutover is lost*, the pause ends with its lease, and the member goes on
//! by the control row: before the flip as if nothing had been, after it on the other side.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::app::cutover::readers::Readers;
use crate::app::databases::Databases;
use crate::app::fleet::{Fleet, Refresher};
use crate::control::Control;
use crate::control::member::Membership;
use crate::domain::control::{ControlRow, ControlState};
use crate::domain::cutover::{Pause, Stage};
use crate::domain::fault::SqlFault;
use crate::domain::side::Sides;
use crate::failpoint::FailPoint;
use crate::ports::ControlView;
use crate::ports::control::{ControlChange, ControlStore};
use crate::postgres::control::ControlTable;
use crate::postgres::control::pause::PauseTable;
use crate::postgres::own_transactions::end_silent;
use crate::postgres::statements::transactions::PostgresTransactions;
use crate::telemetry::metrics::Metrics;

/// The name under which attempts at taking up the new primary are noted.
const TAKE_UP: &str = "take_up";
/// Between two looks while a pause is announced.
const CLOSE_LOOK: Duration = Duration::from_millis(5);
/// Connections to the other side that are opened ahead, of as many as the pool may have.
const WARM_MAX: usize = 16;
/// For one look at the pause.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// How it looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Params {
    /// Between two looks while nothing is announced.
    pub(super) look_interval: Duration,
    /// The longest that a call may be held.
    pub(super) hold_limit: Duration,
    /// Of this fleet's members.
    pub(super) lease: Duration,
}

/// Follows pauses.
#[derive(Clone)]
pub(super) struct Follower {
    pub(super) params: Params,
    pub(super) databases: Databases,
    pub(super) control: Control,
    pub(super) membership: Membership,
    pub(super) store: Arc<ControlTable>,
    pub(super) refresher: Refresher,
    pub(super) pauses: PauseTable,
    pub(super) readers: Readers,
    pub(super) transactions: Sides<PostgresTransactions>,
    pub(super) metrics: Metrics,
}

/// A pause that this member is in.
struct Within {
    pause: Pause,
    from: ControlState,
    reported: Option<Stage>,
    /// By our clock, from before it was asked: earlier than the database says.
    until: Instant,
}

impl Follower {
    pub(super) fn new(
        params: Params,
        databases: &Databases,
        fleet: &Fleet,
        transactions: Sides<PostgresTransactions>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            params,
            databases: databases.clone(),
            control: fleet.control.clone(),
            membership: fleet.membership.clone(),
            store: Arc::clone(&fleet.store),
            refresher: fleet.refresher(),
            pauses: PauseTable::new(databases.control()),
            readers: Readers::new(databases, &fleet.table, params.lease),
            transactions,
            metrics: metrics.clone(),
        }
    }

    /// Looks until it is told to stop. What is held then is let go.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(self.params.look_interval) => {}
            }
            let Some(pause) = self.look().await.filter(|pause| pause.left.is_some()) else {
                continue;
            };
            tokio::select! {
                () = self.follow(pause) => {}
                () = stop.cancelled() => {}
            }
            self.go_on().await;
        }
    }

    async fn look(&self) -> Option<Pause> {
        let side = self.control.current().phase.primary();
        match tokio::time::timeout(LOOK_LIMIT, self.pauses.read(side)).await {
            Ok(Ok(pause)) => pause,
            Ok(Err(fault)) => {
                tracing::debug!(%fault, "the pause cannot be read");
                None
            }
            Err(_) => None,
        }
    }

    /// Goes through a pause until it ends, one way or the other.
    async fn follow(&self, pause: Pause) {
        let from = self.control.current();
        let until = Instant::now() + pause.left.unwrap_or_default();
        let mut within = Within { pause, from, reported: None, until };
        loop {
            if let Err(fault) = self.advance(&mut within).await {
                tracing::warn!(%fault, "this member's part in the cutover has to wait");
            }
            sleep(CLOSE_LOOK).await;
            let asked = Instant::now();
            let (seen, ()) = tokio::join!(self.look(), self.refresher.refresh());
            if self.control.current().epoch > within.from.epoch {
                self.databases.failpoints().reach(FailPoint::MemberAfterFlip).await;
                return;
            }
            match seen {
                Some(seen) if seen.id == within.pause.id && seen.left.is_some() => {
                    within.until = asked + seen.left.unwrap_or_default();
                    within.pause = seen;
                }
                // Lifted, or another's.
                Some(_) => return,
                None if Instant::now() >= within.until => return,
                // Lifted as well, or the database is away: the lease says how long.
                None => {
                    if self.reaches_primary().await {
                        return;
                    }
                }
            }
        }
    }

    async fn reaches_primary(&self) -> bool {
        let side = self.control.current().phase.primary();
        let read = tokio::time::timeout(LOOK_LIMIT, self.pauses.read(side)).await;
        matches!(read, Ok(Ok(None)))
    }

    /// Does what the pause's stage asks for, and reports it once.
    async fn advance(&self, within: &mut Within) -> Result<(), SqlFault> {
        let stage = within.pause.stage;
        if within.reported >= Some(stage) || within.pause.epoch != within.from.epoch {
            return Ok(());
        }
        let primary = within.from.phase.primary();
        match stage {
            Stage::Prepare => {
                let other = self.databases.writes(primary.other());
                other.warm_up(WARM_MAX).await?;
                self.databases.failpoints().reach(FailPoint::MemberPrepared).await;
            }
            Stage::Hold => {
                self.membership.hold_writes(self.params.hold_limit);
                self.databases.failpoints().reach(FailPoint::MemberHolding).await;
                let open = self.transactions.of(primary).open_count();
                if self.membership.writes_in_progress() > 0 || open > 0 {
                    return Ok(());
                }
                let fence = self.databases.fence();
                fence.set(None);
                if fence.holders() > 0 {
                    return Ok(());
                }
                self.databases.failpoints().reach(FailPoint::MemberWithoutLocks).await;
            }
        }
        let (id, member) = (within.pause.id, self.membership.id());
        self.pauses.report(primary, id, member, stage).await?;
        within.reported = Some(stage);
        Ok(())
    }

    /// Lets everything go on, by what the control row says now.
    async fn go_on(&self) {
        let begun = Instant::now();
        while let Err(fault) = self.take_up().await {
            // Calls wait meanwhile, up to their limit; without the primary nothing can be done.
            self.metrics.fault("cutover_waits");
            self.metrics.retries().failed(TAKE_UP, "", &fault);
            tracing::warn!(%fault, "the new primary cannot be taken up yet");
            self.end_silent().await;
            sleep(CLOSE_LOOK * 10).await;
            self.refresher.refresh().await;
        }
        self.metrics.retries().went_well(TAKE_UP, "");
        self.membership.release_writes();
        let row = self.control.row();
        tracing::info!(
            phase = %row.state.phase,
            epoch = row.state.epoch,
            after_ms = begun.elapsed().as_millis(),
            "writes go on"
        );
    }

    /// Another process may have been stopped with what this one waits for.
    async fn end_silent(&self) {
        let primary = self.control.current().phase.primary();
        let ended = async {
            let session = self.databases.control().of(primary).get().await?;
            end_silent(&session, self.params.lease).await
        };
        match tokio::time::timeout(LOOK_LIMIT, ended).await {
            Ok(Ok(_)) => {}
            Ok(Err(fault)) => tracing::warn!(%fault, "what is in the way cannot be ended"),
            Err(_) => tracing::warn!("the new primary does not answer"),
        }
    }

    async fn take_up(&self) -> Result<(), SqlFault> {
        let row = self.control.row();
        // The others wait for this member to say that it has gone on.
        self.membership.renew_now().await?;
        raise(&self.store, &self.readers, &row).await?;
        self.databases.failpoints().reach(FailPoint::MemberAfterRaising).await;
        self.databases.fence().set(Some(self.control.current()));
        Ok(())
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("params", &self.params).finish_non_exhaustive()
    }
}

/// Brings the primary's own row up to the one that counts, where a flip on the other side is
/// all that names it yet. Whoever comes first does it.
// Modelled as `Action::BringUp` in tests/model_cutover.
pub(super) async fn raise(
    store: &ControlTable,
    readers: &Readers,
    row: &ControlRow,
) -> Result<bool, SqlFault> {
    let side = row.state.phase.primary();
    let found = store.read(side).await?.map(|row| row.version());
    if found.is_some_and(|found| found >= row.version()) {
        return Ok(false);
    }
    readers.have_moved(row).await;
    store.compare_and_set(side, found, ControlChange::to(row)).await
}
