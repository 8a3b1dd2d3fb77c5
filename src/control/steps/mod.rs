//! Phases changed by an operator, one at a time, behind gates.
//!
//! A step begins where the fleet works by one epoch: members of at most two neighbouring
//! epochs are at work at any moment, and nothing can force that.

mod evidence;
mod order;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::control::change::{Change, change};
use crate::control::steps::order::{before_by_hand, next_by_hand, refused};
use crate::control::{Control, figures, timed};
use crate::domain::control::{ControlRow, Percentage, Phase};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::{Fleet, Settled};
use crate::domain::gate::{self, Evidence, Gate, Limits, Mark, gates};
use crate::domain::history::{Figures, Recorded};
use crate::domain::page::{Page, PageRequest};
use crate::domain::reason::Reason;
use crate::domain::routing::{nothing_is_folded, nothing_old_waits};
use crate::domain::side::Side;
use crate::domain::status::FleetStatus;
use crate::domain::step::{Asked, PhaseReport, Step, Stepped};
use crate::ports::MismatchStore;
use crate::ports::admin::{CopyProgress, ForeignAdmin, OutboxAdmin, PhaseAdmin, PhaseHooks};
use crate::ports::control::ControlStore;
use crate::ports::fleet::{FleetStore, OlderWriters};

/// What an epoch that all members work by still waits for.
const NOT_NOTED: &str = "the leader has not noted it yet: it waits until what other programs \
    wrote on the target past segue is undone or in the outbox, and their transactions have ended \
    (`segue drift` names who wrote; pg_stat_activity on the target shows who is still at it)";
/// Between two looks at whether the fleet has followed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Events that the status shows.
const EVENTS_SHOWN: u32 = 5;

/// How much a look at the evidence may cost: the status is asked every second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Short,
    Thorough,
}

/// How steps are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// What the gates ask for.
    pub limits: Limits,
    /// How long a database may take to answer.
    pub timeout: Duration,
    /// How long the fleet is waited for before a step is refused.
    pub settle_wait: Duration,
}

/// What a step looks at and changes.
#[derive(Clone)]
pub struct Parts {
    /// The control row as this member knows it.
    pub control: Control,
    /// The control rows.
    pub store: Arc<dyn ControlStore>,
    /// The members.
    pub fleet: Arc<dyn FleetStore>,
    /// Sessions that outlive the lease of their member.
    pub older: Arc<dyn OlderWriters>,
    /// What phases need beside the row.
    pub hooks: Arc<dyn PhaseHooks>,
    /// Backfill and verify.
    pub progress: Arc<dyn CopyProgress>,
    /// What samples found.
    pub mismatches: Arc<dyn MismatchStore>,
    /// The primary's outbox.
    pub outbox: Arc<dyn OutboxAdmin>,
    /// Writes on the side that follows that are not segue's.
    pub foreign: Arc<dyn ForeignAdmin>,
}

/// Makes the operators' steps.
#[derive(Clone)]
pub struct Steps {
    params: Params,
    parts: Parts,
}

// === impl Steps ===

impl Steps {
    /// Steps with these.
    pub fn new(params: Params, parts: Parts) -> Self {
        Self { params, parts }
    }

    /// The gates out of the present phase, judged by what can be found out now.
    ///
    /// # Errors
    ///
    /// A fault where the control row or the fleet cannot be read; what else cannot be read is
    /// inconclusive.
    pub async fn judged(&self) -> Result<PhaseReport, SqlFault> {
        let row = self.row().await?;
        let (fleet, settled) = self.fleet(&row).await?;
        let evidence = self.evidence(row, fleet, settled, Look::Thorough).await;
        let gates = gates(&self.params.limits, &evidence);
        Ok(PhaseReport { row: evidence.row, settled: evidence.settled, gates })
    }

    async fn whole(&self) -> Result<FleetStatus, SqlFault> {
        let row = self.row().await?;
        let side = row.state.phase.primary();
        let (fleet, settled) = self.fleet(&row).await?;
        let events = self.parts.store.history(side, EVENTS_SHOWN);
        let events = timed(side, self.params.timeout, events).await?;
        let figures = figures::merged(&fleet, row.revision);
        let evidence = self.evidence(row, fleet.clone(), settled, Look::Short).await;
        let gates = gates(&self.params.limits, &evidence);
        let Evidence { row, settled, backfill, verify, unmigrated, foreign, .. } = evidence;
        let foreign = foreign.unwrap_or_default().open().cloned().collect();
        let report = PhaseReport { row, settled, gates };
        Ok(FleetStatus { report, fleet, figures, backfill, verify, unmigrated, foreign, events })
    }

    async fn make(&self, step: Step, asked: &Asked) -> Result<Stepped, SqlFault> {
        match step {
            Step::Advance { to, force } => self.advance(to, force, asked).await,
            Step::Back { give_up_copy } => self.back(give_up_copy, asked).await,
            Step::Percentage(percentage) => self.shift(Some(percentage), asked).await,
            Step::Resume => self.shift(None, asked).await,
        }
    }

    async fn advance(
        &self,
        to: Option<Phase>,
        force: bool,
        asked: &Asked,
    ) -> Result<Stepped, SqlFault> {
        let row = self.row().await?;
        if to == Some(row.state.phase) {
            return Ok(Stepped::Done(row));
        }
        let next = next_by_hand(row.state.phase, to)?;
        if let Some(to) = to.filter(|to| *to != next) {
            let message = format!("the phase after {} is {next}, not {to}", row.state.phase);
            return Err(refused(
                Reason::RefusedPhaseOrder,
                message,
                "phases are taken one at a time",
            ));
        }
        if force && asked.reason.trim().is_empty() {
            let message = "a gate is forced without a reason";
            return Err(refused(
                Reason::RefusedNoReason,
                message,
                "say why with --reason; it is recorded",
            ));
        }
        let (fleet, settled) = self.wait_until_settled(&row).await?;
        let evidence = self.evidence(row, fleet, settled, Look::Thorough).await;
        let gates = gates(&self.params.limits, &evidence);
        let mark = Mark::of(&gates);
        if mark != Mark::Pass && !(force && evidence.settled.is_yes()) {
            return Ok(Stepped::Refused { mark, gates });
        }
        self.parts.hooks.before(next).await?;
        let reason = match asked.reason.trim() {
            "" => "all gates passed",
            reason => reason,
        };
        let to = Change {
            forced: mark != Mark::Pass,
            figures: figures_of(&gates),
            ..Change::phase(next, &asked.by, reason)
        };
        let row = self.change(&evidence.row, to).await?;
        self.parts.hooks.after(next).await?;
        Ok(Stepped::Done(row))
    }

    async fn back(&self, give_up_copy: bool, asked: &Asked) -> Result<Stepped, SqlFault> {
        let row = self.row().await?;
        if row.state.phase == Phase::SourceOnly && give_up_copy {
            // A step that was cut short after the row may have left capture on.
            self.parts.hooks.after(Phase::SourceOnly).await?;
            return Ok(Stepped::Done(row));
        }
        let before = before_by_hand(row.state.phase)?;
        if before == Phase::SourceOnly && !give_up_copy {
            let message = "back from dual_write the copy is given up: what changes from there on is \
                           not captured, and a later dual_write begins with a new backfill";
            return Err(refused(Reason::RefusedGivesUpCopy, message, "say so with --give-up-copy"));
        }
        let mut row = row;
        let (_, settled) = self.wait_until_settled(&row).await?;
        if !settled.is_yes() {
            return Ok(not_settled(&row, &settled));
        }
        if row.state.phase == Phase::Shift && row.target_percentage != Percentage::ZERO {
            // Before any write stops awaiting its reconcile, no read may be on the target.
            let none =
                Change { held: true, ..Change::phase(Phase::Shift, &asked.by, &asked.reason) };
            row = self.change(&row, none).await?;
            let revision = row.revision;
            let taken = self.wait_for(&row, |fleet| fleet.has_taken(revision)).await?;
            if !taken.1.is_yes() {
                return Ok(not_settled(&row, &taken.1));
            }
        }
        let reason = match asked.reason.trim() {
            "" => "an operator went back",
            reason => reason,
        };
        let row = self.change(&row, Change::phase(before, &asked.by, reason)).await?;
        self.parts.hooks.after(before).await?;
        Ok(Stepped::Done(row))
    }

    async fn shift(&self, to: Option<Percentage>, asked: &Asked) -> Result<Stepped, SqlFault> {
        let row = self.row().await?;
        let phase = row.state.phase;
        if phase != Phase::Shift {
            let message = format!("reads are shifted in the phase shift, and this is {phase}");
            return Err(refused(
                Reason::RefusedNotShift,
                message,
                "`segue phase` shows the way there",
            ));
        }
        if row.settled_at.is_none() {
            let (_, settled) = self.fleet(&row).await?;
            let none = Settled::WaitsFor(vec![NOT_NOTED.to_owned()]);
            return Ok(not_settled(&row, if settled.is_yes() { &none } else { &settled }));
        }
        if row.target_percentage == Percentage::ZERO && to.is_some_and(|to| to > Percentage::ZERO) {
            self.nothing_old_waits(&row).await?;
        }
        let to = Change {
            percentage: to.unwrap_or(row.target_percentage),
            held: to.is_some(),
            ..Change::phase(phase, &asked.by, &asked.reason)
        };
        let row = self.change(&row, to).await?;
        self.parts.control.metrics.shift_changed("operator");
        Ok(Stepped::Done(row))
    }

    async fn nothing_old_waits(&self, row: &ControlRow) -> Result<(), SqlFault> {
        let side = row.state.phase.primary();
        let outbox = timed(side, self.params.timeout, self.parts.outbox.status()).await?;
        let old = nothing_old_waits(row, Some(outbox.waiting()));
        nothing_is_folded(&outbox).and(old).map_err(|why| {
            refused(
                Reason::RefusedOlderWrites,
                why,
                "reads would miss it on the target; wait until `segue outbox` shows that it is there",
            )
        })
    }

    async fn change(&self, row: &ControlRow, to: Change) -> Result<ControlRow, SqlFault> {
        let side = row.state.phase.primary();
        let version = change(self.parts.store.as_ref(), row, to).await?;
        let row = self.row_of(side).await?;
        if row.version() < version {
            let message = "the control row does not show the change that was made";
            return Err(SqlFault::new(FaultKind::Internal, Reason::ControlLost, message).on(side));
        }
        Ok(row)
    }

    async fn row(&self) -> Result<ControlRow, SqlFault> {
        self.row_of(self.parts.control.row().state.phase.primary()).await
    }

    async fn row_of(&self, side: Side) -> Result<ControlRow, SqlFault> {
        let asked = Instant::now();
        let row = timed(side, self.params.timeout, self.parts.store.read(side)).await?;
        let row = row.ok_or_else(|| {
            let message = "segue.control has no row there";
            SqlFault::new(FaultKind::Precondition, Reason::ControlAbsent, message).on(side)
        })?;
        self.parts.control.offer(side, &row, asked);
        Ok(row)
    }

    async fn fleet(&self, row: &ControlRow) -> Result<(Fleet, Settled), SqlFault> {
        let side = row.state.phase.primary();
        let fleet = timed(side, self.params.timeout, self.parts.fleet.fleet(side)).await?;
        let settled = self.older(row, fleet.settled(row.state.epoch)).await?;
        Ok((fleet, settled))
    }

    async fn older(&self, row: &ControlRow, settled: Settled) -> Result<Settled, SqlFault> {
        if !settled.is_yes() {
            return Ok(settled);
        }
        let side = row.state.phase.primary();
        let older = self.parts.older.before(side, row.state.epoch);
        let older = timed(side, self.params.timeout, older).await?;
        Ok(settled.and(&Settled::WaitsFor(older)))
    }

    /// Whether the row has settled, waited for a while. Somebody who changes it meanwhile is
    /// found by the change's compare-and-set.
    async fn wait_until_settled(&self, row: &ControlRow) -> Result<(Fleet, Settled), SqlFault> {
        let epoch = row.state.epoch;
        self.wait_for(row, |fleet| fleet.settled(epoch)).await
    }

    async fn wait_for(
        &self,
        row: &ControlRow,
        followed: impl Fn(&Fleet) -> Settled,
    ) -> Result<(Fleet, Settled), SqlFault> {
        let side = row.state.phase.primary();
        let until = Instant::now() + self.params.settle_wait;
        loop {
            let fleet = timed(side, self.params.timeout, self.parts.fleet.fleet(side)).await?;
            let settled = self.older(row, followed(&fleet)).await?;
            if settled.is_yes() || Instant::now() >= until {
                return Ok((fleet, settled));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

fn not_settled(row: &ControlRow, settled: &Settled) -> Stepped {
    let gate = Gate {
        name: "settled",
        mark: Mark::Inconclusive,
        found: settled.waits_for().join("; "),
        wanted: format!("every member works by epoch {}", row.state.epoch),
    };
    Stepped::Refused { mark: Mark::Inconclusive, gates: vec![gate] }
}

/// How each of them stood.
fn figures_of(gates: &[gate::Gate]) -> Figures {
    gates.iter().fold(Figures::default(), |figures, gate| figures.text(gate.name, gate.standing()))
}

impl PhaseAdmin for Steps {
    fn report(&self) -> BoxFuture<'_, Result<PhaseReport, SqlFault>> {
        self.judged().boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<FleetStatus, SqlFault>> {
        self.whole().boxed()
    }

    fn step(&self, step: Step, asked: Asked) -> BoxFuture<'_, Result<Stepped, SqlFault>> {
        async move { self.make(step, &asked).await }.boxed()
    }

    /// Of the side that counts; the other one has the same, and perhaps a moment later.
    fn history(&self, page: PageRequest) -> BoxFuture<'_, Result<Page<Recorded>, SqlFault>> {
        let side = self.parts.control.row().state.phase.primary();
        timed(side, self.params.timeout, self.parts.store.history_page(side, page)).boxed()
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").field("params", &self.params).finish_non_exhaustive()
    }
}
