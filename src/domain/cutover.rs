//! A change of the primary, step by step.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::control::Phase;
use crate::domain::gate::{Gate, Mark};
use crate::domain::side::Side;
use crate::domain::status::TableProven;

/// How far members are asked to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Look for the pause closely, and open connections to the new primary.
    Prepare,
    /// Hold new writes, let open transactions end, and give the writers' locks up.
    Hold,
}

/// A pause, announced in the primary.
#[derive(Debug, Clone, PartialEq)]
pub struct Pause {
    /// 128 random bits.
    pub id: u128,
    /// How far members are asked to go.
    pub stage: Stage,
    /// The epoch that it is to end.
    pub epoch: u64,
    /// How long it lasts without being renewed, by the database's clock; nothing where that is
    /// over.
    pub left: Option<Duration>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutoverRequest {
    /// The side that is to be the primary.
    pub to: Side,
    /// Everything but the flip.
    pub rehearse: bool,
    /// Whatever the gates say, but those without which there is no sound cutover.
    pub force: bool,
    /// The longest that a write may be held.
    pub pause_max: Duration,
    /// Who asks.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What is done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CutoverStep {
    /// The evidence, and the way back.
    Gates,
    /// Whether the pause will be short enough.
    Predict,
    /// What was written since its proof is proven again.
    Prove,
    /// Members come to attention.
    Prepare,
    /// Members hold new writes and finish what is open.
    Pause,
    /// Nobody can write any more.
    Fence,
    /// The outbox is empty.
    Drain,
    /// What was written last is equal, and rows are as many.
    Verify,
    /// Generated keys go on above those of the old primary.
    Sequences,
    /// The control row names the other side.
    Flip,
    /// The other side's row follows, and members release what they hold.
    Release,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// It runs.
    Begun,
    /// It is done.
    Done,
    /// It ended the cutover.
    Failed,
}

/// What became of a cutover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CutoverEnd {
    /// The other side is the primary.
    Done,
    /// Everything was done but the flip.
    Rehearsed,
    /// It was not begun: a gate is against it.
    Refused {
        /// The worst of them.
        mark: Mark,
        /// All of them.
        gates: Vec<Gate>,
    },
    /// It was called off before the flip; nothing has changed.
    CalledOff {
        /// Why, and what to do.
        why: String,
    },
}

/// Something to show.
#[derive(Debug, Clone, PartialEq)]
pub enum CutoverEvent {
    /// A step began or ended.
    Step {
        /// Which.
        step: CutoverStep,
        /// How it stands.
        state: StepState,
        /// How long it took.
        took: Duration,
        /// Figures and findings.
        detail: String,
    },
    /// The last event.
    End {
        /// What became of it.
        end: CutoverEnd,
        /// How long writes were held, from the first to the last member.
        paused: Duration,
        /// The phase that stands.
        phase: Phase,
        /// Its epoch.
        epoch: u64,
        /// Which table was proven when, as it stood before writes were held; empty where it did
        /// not come so far.
        proofs: Vec<TableProven>,
    },
}

// === impl Stage ===

impl Stage {
    /// The word in `segue.pause`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Hold => "hold",
        }
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Prepare, Self::Hold].into_iter().find(|it| it.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is no stage of a pause that this segue knows"))
    }
}

// === impl CutoverStep ===

impl CutoverStep {
    /// The word in lists and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gates => "gates",
            Self::Predict => "predict",
            Self::Prove => "prove",
            Self::Prepare => "prepare",
            Self::Pause => "pause",
            Self::Fence => "fence",
            Self::Drain => "drain",
            Self::Verify => "verify",
            Self::Sequences => "sequences",
            Self::Flip => "flip",
            Self::Release => "release",
        }
    }
}

impl fmt::Display for CutoverStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
