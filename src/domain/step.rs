//! What an operator asks for of the phases, and what becomes of it.

use crate::domain::control::{ControlRow, Percentage, Phase};
use crate::domain::fleet::Settled;
use crate::domain::gate::{Gate, Mark};

/// Where the migration stands, and what the next step asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseReport {
    /// The control row.
    pub row: ControlRow,
    /// Whether its epoch is what the whole fleet works by.
    pub settled: Settled,
    /// The gates to the next phase.
    pub gates: Vec<Gate>,
}

/// Who asks, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A change that an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To the next phase.
    Advance {
        /// The phase that the operator thinks is next.
        to: Option<Phase>,
        /// Whatever the gates say.
        force: bool,
    },
    /// To the phase before.
    Back {
        /// The copy may be given up by it.
        give_up_copy: bool,
    },
    /// So many reads to the target, and the schedule waits.
    Percentage(Percentage),
    /// The schedule goes on from where it is.
    Resume,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Stepped {
    /// It was made, or stood already.
    Done(ControlRow),
    /// A gate refused it, or could not tell.
    Refused {
        /// [`Mark::Fail`] or [`Mark::Inconclusive`].
        mark: Mark,
        /// All gates, judged.
        gates: Vec<Gate>,
    },
}
