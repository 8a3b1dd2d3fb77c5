//! What the model knows: two databases, connections of members, reconciles, a writer that goes
//! round segue, readers, and whoever runs the cutover.

use crate::reader::Reader;

/// The database that is primary at first.
pub(crate) const SOURCE: u8 = 0;
/// The other one.
pub(crate) const TARGET: u8 = 1;

/// Writes as bits: each adds its own to the one row there is, as an increment would.
pub(crate) type Writes = u8;

/// A control row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Control {
    /// Rises with every change.
    pub(crate) epoch: u8,
    /// Whom it names.
    pub(crate) primary: u8,
}

/// What one database has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    /// `segue.control`.
    pub(crate) control: Control,
    /// The sequence beside it: it has no versions, and is not rolled back.
    pub(crate) noted: u8,
    /// The application's row.
    pub(crate) data: Writes,
    /// Writes whose keys are in the outbox and not forgotten.
    pub(crate) outbox: Writes,
}

/// A member's connection for writes. While it is there it holds the shared lock of its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Session {
    pub(crate) side: u8,
    /// The member's, as old as the control row that it last heard of.
    pub(crate) epoch: u8,
    /// The control row was looked at under the lock, and said the same epoch: from here on it
    /// may commit at any moment.
    pub(crate) checked: bool,
    /// Its member has stopped to report.
    pub(crate) silent: bool,
}

/// How far a reconcile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum CopyStep {
    /// Rows of the outbox are claimed.
    Claimed,
    /// A transaction on the shadow holds the key, and that side's lock of reconciles.
    Locked,
    /// This was read on the primary.
    Read(Writes),
    /// The shadow has committed.
    Committed,
}

/// A reconcile in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Copy {
    /// The primary that it reads.
    pub(crate) from: u8,
    /// What it will forget.
    pub(crate) claimed: Writes,
    pub(crate) step: CopyStep,
}

/// A session that goes round segue, fenced by the trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outsider {
    Idle,
    /// Its transaction has begun: with the control row of its snapshot, where that is as old as
    /// itself.
    Begun(u8, Option<Control>),
    /// The trigger has the shared lock for the transaction.
    Locked(u8, Option<Control>),
    /// The trigger has found this side to be the primary: it may commit.
    Checked(u8),
    /// The trigger has found the other side to be.
    Refused,
}

/// Whoever runs the cutover, away from the side that is primary now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Coordinator {
    /// The control row that the cutover begins from.
    pub(crate) from: Control,
    /// It got the exclusive lock.
    pub(crate) fenced: bool,
    /// Its session has ended, and with it the lock. Only a flaw goes on from there.
    pub(crate) lost: bool,
    /// No writing session of an older epoch was left.
    pub(crate) settled: bool,
    /// The outbox was empty.
    pub(crate) drained: bool,
    /// The change of the row has begun: the sequence is set, and the row locked until it commits
    /// or is rolled back.
    pub(crate) flipping: bool,
}

/// The transaction in which somebody brings a side's row up to a flip: it holds the exclusive lock
/// of copies to that side. Its process may be stopped, and then does nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Promoter {
    /// The side that it makes the primary.
    pub(crate) side: u8,
    /// What it writes into the row.
    pub(crate) to: Control,
    pub(crate) stopped: bool,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) databases: [Database; 2],
    pub(crate) sessions: Vec<Option<Session>>,
    pub(crate) copies: Vec<Option<Copy>>,
    pub(crate) outsider: Outsider,
    pub(crate) coordinator: Option<Coordinator>,
    pub(crate) promoter: Option<Promoter>,
    /// A member that reads, where there is one.
    pub(crate) reader: Option<Reader>,
    /// The newest flip of which somebody has seen that all readers have moved.
    pub(crate) moved: u8,
    /// Writes committed, wherever.
    pub(crate) writes: u8,
}

// === impl Outsider ===

impl Outsider {
    /// The side on which its transaction holds the trigger's lock.
    pub(crate) fn locks(self) -> Option<u8> {
        match self {
            Self::Idle | Self::Begun(..) | Self::Refused => None,
            Self::Locked(side, _) | Self::Checked(side) => Some(side),
        }
    }
}

// === impl State ===

impl State {
    pub(crate) fn on(&self, side: u8) -> &Database {
        &self.databases[usize::from(side)]
    }

    pub(crate) fn on_mut(&mut self, side: u8) -> &mut Database {
        &mut self.databases[usize::from(side)]
    }

    /// The control row that counts: of the higher epoch.
    pub(crate) fn counts(&self) -> Control {
        let [source, target] = self.databases.map(|it| it.control);
        if target.epoch > source.epoch { target } else { source }
    }

    /// Somebody could commit a write of the application there now.
    pub(crate) fn accepts(&self, side: u8) -> bool {
        self.outsider == Outsider::Checked(side)
            || self.sessions.iter().flatten().any(|it| it.checked && it.side == side)
    }

    /// The epoch of the exclusive lock, where it is held on this side.
    pub(crate) fn fence(&self, side: u8) -> Option<u8> {
        let it = self.coordinator?;
        (it.fenced && !it.lost && it.from.primary == side).then_some(it.from.epoch)
    }

    /// A reconcile has a transaction open on this side.
    pub(crate) fn is_copied_onto(&self, side: u8) -> bool {
        self.copies
            .iter()
            .flatten()
            .any(|it| it.from != side && matches!(it.step, CopyStep::Locked | CopyStep::Read(_)))
    }
}
