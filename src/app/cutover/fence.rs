//! What is done while writes are held.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{CutoverStep, LOOK, Run, Stop, verify};
use crate::domain::control::ControlRow;
use crate::domain::cutover::Stage;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::failpoint::FailPoint;
use crate::ports::ReconcileWaker;
use crate::postgres::cutover::figures;
use crate::postgres::cutover::{Exclusive, refuse_prepared};
use crate::postgres::drift::Look;
use crate::postgres::fence::writers;

/// One attempt at the exclusive lock: shorter than the time after which PostgreSQL looks for
/// deadlocks, so that writers that wait for each other behind it get through.
const ATTEMPT: Duration = Duration::from_millis(150);
/// A reconcile of which nothing is heard for so long belongs to a process that is stopped, cut
/// off or lost. To end it does no harm: its keys are due again.
const SILENCE_MAX: Duration = Duration::from_millis(500);
/// Keys of one transaction, of those that are copied by the cutover itself.
const KEYS_AT_ONCE: usize = 500;
/// Between two attempts.
const BREATH: Duration = Duration::from_millis(20);

/// Renews the pause until it is dropped.
pub(super) struct Renewing(JoinHandle<()>);

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Run<'_> {
    /// Keeps the pause from ending while we work on it.
    pub(super) fn keep_pause(&self) -> Renewing {
        let (pauses, side, id) = (self.parts.pauses.clone(), self.from(), self.pause.id);
        let lease = self.parts.config.cutover.pause_lease;
        Renewing(tokio::spawn(async move {
            loop {
                tokio::time::sleep(lease / 4).await;
                if let Err(fault) = pauses.renew(side, id, lease).await {
                    tracing::warn!(%fault, "the pause could not be renewed");
                }
            }
        }))
    }

    /// When the pause must be over.
    pub(super) fn limit(&self) -> Instant {
        self.held.unwrap_or_else(Instant::now) + self.request.pause_max
    }

    /// Members hold what is new and let end what is open.
    pub(super) async fn hold(&mut self, fence: &Exclusive) -> Result<(), Stop> {
        let begun = self.begin(CutoverStep::Pause).await;
        self.written_last = figures::pending(fence.session()).await?;
        self.held = Some(Instant::now());
        self.announce(Stage::Hold).await?;
        self.reach(FailPoint::CutoverAfterAnnouncing).await;
        match self.wait_for(Stage::Hold, self.limit()).await {
            Ok(members) => {
                self.done(CutoverStep::Pause, begun, format!("{members} members hold")).await;
                Ok(())
            }
            Err(fault) => Err(self.failed(CutoverStep::Pause, begun, fault).await),
        }
    }

    /// Nobody can write any more, however lost its process is.
    // Modelled as `Action::Fence` and `Action::Settle` in tests/model_cutover.
    pub(super) async fn fence(&mut self, fence: &Exclusive, row: &ControlRow) -> Result<(), Stop> {
        let begun = self.begin(CutoverStep::Fence).await;
        match self.raise_fence(fence, row.state.epoch).await {
            Ok(ended) => {
                self.written_last.extend(figures::pending(fence.session()).await?);
                let detail = match ended {
                    0 => "no writer is left".to_owned(),
                    ended => format!("{ended} sessions of lost members were ended"),
                };
                self.done(CutoverStep::Fence, begun, detail).await;
                Ok(())
            }
            Err(fault) => Err(self.failed(CutoverStep::Fence, begun, fault).await),
        }
    }

    async fn raise_fence(&self, fence: &Exclusive, epoch: u64) -> Result<u64, SqlFault> {
        let mut ended = 0;
        loop {
            let acquired = fence.acquire(epoch, ATTEMPT).await?;
            // Under the lock nobody of this epoch, and no captured transaction, is left.
            let writers = fence.writers().await?;
            let sessions: Vec<_> = writers.iter().filter(|it| it.is_session()).collect();
            if acquired && sessions.is_empty() {
                break;
            }
            // It ends by a command alone, and would be waited for in vain.
            if writers.iter().any(|it| it.is_prepared)
                && let Err(fault) = refuse_prepared(fence.session()).await
            {
                fence.release().await?;
                return Err(fault);
            }
            // Every member whose lease lasts has said that it has none left.
            if self.lagging(Stage::Hold).await?.is_ok() {
                for session in &sessions {
                    tracing::warn!(%session, "a session of a lost member is ended");
                    fence.terminate(session.pid).await?;
                    ended += 1;
                }
            }
            if Instant::now() >= self.limit() {
                fence.release().await?;
                let left: Vec<String> = writers.iter().map(ToString::to_string).collect();
                let message = match left.is_empty() {
                    true => "the primary has another epoch, or the fence of another cutover".into(),
                    false => format!("writers are left: {}", left.join("; ")),
                };
                return Err(SqlFault::new(FaultKind::Unavailable, Reason::CutoverWriters, message)
                    .on(fence.side())
                    .with_hint(
                        "a transaction is not ended for a cutover: let it end, then try again",
                    ));
            }
            if let Err(fault) = self.halt.unless_asked() {
                fence.release().await?;
                return Err(fault);
            }
            if !acquired {
                tokio::time::sleep(BREATH).await;
            }
        }
        refuse_prepared(fence.session()).await?;
        Ok(ended)
    }

    /// Decided by a plain read under the fence: a claim passes over what others have locked.
    // Modelled as `Action::Drain` in tests/model_cutover.
    pub(super) async fn drain(&self, fence: &Exclusive) -> Result<(), Stop> {
        let begun = self.begin(CutoverStep::Drain).await;
        match self.wait_until_drained(fence).await {
            Ok(most) => {
                self.done(CutoverStep::Drain, begun, format!("{most} keys were left to copy"))
                    .await;
                Ok(())
            }
            Err(fault) => Err(self.failed(CutoverStep::Drain, begun, fault).await),
        }
    }

    async fn wait_until_drained(&self, fence: &Exclusive) -> Result<u64, SqlFault> {
        let (mut most, mut looked, mut silent) = (0, Instant::now(), None);
        // What failed before need not wait for its turn.
        self.parts.outbox.retry(None).await?;
        loop {
            let left = fence.outbox_rows().await?;
            most = left.max(most);
            if left == 0 {
                return Ok(most);
            }
            if Instant::now() >= self.limit() {
                let message = format!("{left} keys are not on the {} yet", self.request.to);
                return Err(SqlFault::new(FaultKind::Unavailable, Reason::CutoverDrain, message)
                    .with_hint("see `segue outbox`: is the shadow reachable, is a key stuck?"));
            }
            if looked.elapsed() >= SILENCE_MAX {
                self.end_silent_copies(fence).await?;
                let stuck = silent == Some(left);
                if stuck && fence.is_mark() && self.copy_claimed(fence).await? {
                    return Ok(most);
                }
                silent = Some(left);
                looked = Instant::now();
            }
            self.halt.unless_asked()?;
            self.parts.replayer.wake();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Copies what waits, whoever has claimed it: CockroachDB has nobody end the session of a lost
    /// member. Under the fence nothing comes after it, so that what is left in the outbox then says
    /// nothing new. Answers whether that was all.
    async fn copy_claimed(&self, fence: &Exclusive) -> Result<bool, SqlFault> {
        let Some(keys) = figures::all_pending(fence.session()).await? else { return Ok(false) };
        let reconciler = self.parts.reconcilers.of(self.from());
        let keys: Vec<_> = keys.into_iter().collect();
        tracing::warn!(keys = keys.len(), "keys that make no progress are copied by the cutover");
        for some in keys.chunks(KEYS_AT_ONCE) {
            if Instant::now() >= self.limit() {
                return Ok(false);
            }
            let report = reconciler.reconcile(some.iter().cloned().collect()).await;
            if report.stopped.is_some() || !report.failed.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Frees the keys that lost members have claimed, on the one side, and locked, on the other.
    async fn end_silent_copies(&self, fence: &Exclusive) -> Result<(), SqlFault> {
        let shadow = self.parts.databases.own().of(self.request.to).get().await?;
        let claims = writers::claims(fence.session()).await?;
        for claim in claims.iter().filter(|it| it.is_silent_copy(SILENCE_MAX)) {
            tracing::warn!(%claim, "a claim of a lost member is ended");
            fence.terminate(claim.pid).await?;
        }
        let copies = writers::shared(&shadow).await?;
        for copy in copies.iter().filter(|it| it.is_silent_copy(SILENCE_MAX)) {
            tracing::warn!(%copy, "a reconcile of a lost member is ended");
            writers::terminate(&shadow, copy.pid).await?;
        }
        Ok(())
    }

    /// Rows that were written last, and how many there are.
    pub(super) async fn verify(&mut self, fence: &Exclusive) -> Result<(), Stop> {
        let begun = self.begin(CutoverStep::Verify).await;
        let keys = std::mem::take(&mut self.written_last);
        let verified = async {
            let own = self.parts.databases.own();
            let reconciler = self.parts.reconcilers.of(self.from());
            self.nothing_slipped_by().await?;
            let compared = verify::last_written(keys, reconciler).await?;
            let whole = self.verify_whole().await?;
            let (primary, shadow) = (own.of(self.from()), own.of(self.request.to));
            let rows_max = self.parts.config.cutover.count_rows_max;
            let counted = figures::counts(primary, shadow, &self.tables, rows_max).await?;
            // It is still ours: a lost fence is not found out by the flip alone.
            fence.outbox_rows().await?;
            Ok::<_, SqlFault>(format!(
                "{compared} keys written last are equal; {} tables hold as many rows, {} in all; {} \
                 too large to be counted{whole}",
                counted.tables, counted.rows, counted.left_out
            ))
        };
        match verified.await {
            Ok(detail) => {
                self.done(CutoverStep::Verify, begun, detail).await;
                Ok(())
            }
            Err(fault) => Err(self.failed(CutoverStep::Verify, begun, fault).await),
        }
    }

    /// Capture was not off since the gates have looked: a session that switches triggers off is
    /// not held by the fence. Another member may have noticed it first.
    async fn nothing_slipped_by(&self) -> Result<(), SqlFault> {
        self.parts.watch.look(Look::Thorough).await?;
        let Some(begun) = self.begun_at else { return Ok(()) };
        let Some(voided) = self.parts.watch.voided_since(begun).await? else { return Ok(()) };
        let message = format!("capture may have missed writes of {voided}");
        Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedCaptureOff, message)
            .with_hint("find out who did it, run `segue verify`, then try again"))
    }

    pub(super) async fn sequences(&self, fence: &Exclusive) -> Result<(), Stop> {
        let begun = self.begin(CutoverStep::Sequences).await;
        let advanced = self.advance_sequences().await;
        match advanced {
            Ok(set) => {
                fence.outbox_rows().await?;
                self.done(CutoverStep::Sequences, begun, format!("{set} were advanced")).await;
                Ok(())
            }
            Err(fault) => Err(self.failed(CutoverStep::Sequences, begun, fault).await),
        }
    }
}
