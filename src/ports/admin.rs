//! What the operators' calls ask of the world.

use futures_util::future::BoxFuture;

use crate::domain::backfill::BackfillProgress;
use crate::domain::control::Phase;
use crate::domain::fault::SqlFault;
use crate::domain::foreign::ForeignWrites;
use crate::domain::gate::Progress;
use crate::domain::history::Recorded;
use crate::domain::page::{Page, PageRequest};
use crate::domain::status::{
    FleetStatus, OutboxEntry, OutboxStatus, SamplingStatus, StatusReport, VerifyStatus,
};
use crate::domain::step::{Asked, PhaseReport, Step, Stepped};
use crate::domain::table::TableName;

/// Everything an operator asks for first, in one look.
pub trait StatusSource: Send + Sync + 'static {
    /// The status now. What cannot be found out stands in its warnings.
    fn status(&self) -> BoxFuture<'_, StatusReport>;
}

/// The outbox, seen by an operator.
pub trait OutboxAdmin: Send + Sync + 'static {
    /// Its figures.
    fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, SqlFault>>;
    /// Pending keys, oldest first; those alone that have failed where `failed_only`.
    fn list(
        &self,
        page: PageRequest,
        failed_only: bool,
    ) -> BoxFuture<'_, Result<Page<OutboxEntry>, SqlFault>>;
    /// Makes pending keys due now: of one table of the primary, or of all. Answers how many.
    fn retry(&self, table: Option<TableName>) -> BoxFuture<'_, Result<u64, SqlFault>>;
}

/// The copy of the history, seen by an operator.
pub trait BackfillAdmin: Send + Sync + 'static {
    /// How far it is; empty where none was begun.
    fn progress(&self) -> BoxFuture<'_, Result<BackfillProgress, SqlFault>>;
}

/// What verify has proven, seen by an operator.
pub trait ProofStatus: Send + Sync + 'static {
    /// How much, and how long ago.
    fn status(&self) -> BoxFuture<'_, Result<VerifyStatus, SqlFault>>;
}

/// The sampling of reads, which can be changed while segue runs.
pub trait SamplingControl: Send + Sync + 'static {
    /// Rate and counts.
    fn status(&self) -> SamplingStatus;
    /// Sets the rate, 0 to 1, and answers what it was.
    fn set_rate(&self, rate: f64) -> f64;
}

/// The phases, behind their gates.
pub trait PhaseAdmin: Send + Sync + 'static {
    /// Where the migration stands, and the gates to the next phase.
    fn report(&self) -> BoxFuture<'_, Result<PhaseReport, SqlFault>>;
    /// The same in short, with the fleet and what it measured.
    fn status(&self) -> BoxFuture<'_, Result<FleetStatus, SqlFault>>;
    /// Makes a step, if its gates allow it.
    fn step(&self, step: Step, asked: Asked) -> BoxFuture<'_, Result<Stepped, SqlFault>>;
    /// What was changed, latest first.
    fn history(&self, page: PageRequest) -> BoxFuture<'_, Result<Page<Recorded>, SqlFault>>;
}

/// What a phase needs beside the control row.
pub trait PhaseHooks: Send + Sync + 'static {
    /// Tables that cannot be captured or copied, each with its reason.
    fn unfit(&self) -> BoxFuture<'_, Result<Vec<String>, SqlFault>>;
    /// Before the control row names the phase: capture stands before any phase relies on it.
    /// Safe to repeat.
    fn before(&self, phase: Phase) -> BoxFuture<'_, Result<(), SqlFault>>;
    /// After the control row has named it: capture goes after the last phase that relied on it.
    /// Safe to repeat.
    fn after(&self, phase: Phase) -> BoxFuture<'_, Result<(), SqlFault>>;
}

/// How far the copy of the history, and the proof of it, have come.
pub trait CopyProgress: Send + Sync + 'static {
    /// The copy.
    fn backfill(&self) -> BoxFuture<'_, Progress>;
    /// The proof; `anew` where something is decided by it, so that capture is looked at first.
    fn verify(&self, anew: bool) -> BoxFuture<'_, Progress>;
}

/// Writes on the side that follows that are not segue's.
pub trait ForeignAdmin: Send + Sync + 'static {
    /// Who wrote; `anew` where something is decided by it, so that nothing is left in between.
    fn writes(&self, anew: bool) -> BoxFuture<'_, Result<ForeignWrites, SqlFault>>;
    /// Whether the target, as the control row of this epoch has it, refuses such writes by now, no
    /// transaction that made one before is open, and all notes of them are keys of the primary's
    /// outbox.
    fn none_left(&self, epoch: u64) -> BoxFuture<'_, Result<bool, SqlFault>>;
    /// Takes the writer with this id off the gate, or all where none is named, recorded with who
    /// and why. Answers how many.
    fn resolve(
        &self,
        id: Option<String>,
        by: String,
        reason: String,
    ) -> BoxFuture<'_, Result<u64, SqlFault>>;
}
