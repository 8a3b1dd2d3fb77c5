//! What the model of applying whole snapshots knows: two accounts, and transfers between them.

/// Balances of both accounts.
pub(crate) type Rows = [i8; 2];

/// A party's place.
pub(crate) type Who = usize;

/// What is done wrong, to see that the model notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: the algorithm as it is.
    None,
    /// The second row is read when the batch is written, and not in the snapshot.
    RowsOutsideTheSnapshot,
    /// The snapshot is taken before the turn.
    SnapshotBeforeTheTurn,
    /// All outbox rows of the keys are forgotten, not only those of the snapshot.
    ForgetMore,
    /// Two appliers at once.
    NoTurn,
    /// A late reconcile of a key neither shares the turn nor looks at the phase.
    KeysOverlap,
    /// Steps begin before every member has taken that reads are off.
    StepsAtOnce,
    /// Reads are let on whatever has happened to the control row since the snapshot.
    LetOnWhatever,
    /// A key that does not go in is left out of its batch.
    StuckKeyLeftOut,
}

/// One model to be explored.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Members that apply.
    pub(crate) appliers: usize,
    /// Transactions of the application.
    pub(crate) writes: u8,
    /// The second row does not go in until somebody has mended the target.
    pub(crate) stuck: bool,
    /// A reconcile of a key by a member that is late.
    pub(crate) late: bool,
    /// What is broken.
    pub(crate) flaw: Flaw,
}

/// An outbox row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    /// Its key.
    pub(crate) key: usize,
    /// The shadow has it.
    pub(crate) forgotten: bool,
}

/// The control row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Control {
    /// Rises with every change.
    pub(crate) version: u8,
    /// The phase is `shift`.
    pub(crate) shift: bool,
    /// Reads are off, and who has them off.
    pub(crate) off: Option<Option<Who>>,
}

impl Control {
    /// Whether reads go to the target.
    pub(crate) fn reads(self) -> bool {
        self.shift && self.off.is_none()
    }
}

/// A snapshot of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Snapshot {
    /// The primary's rows.
    pub(crate) rows: Rows,
    /// Outbox rows that are visible and not forgotten, by their place.
    pub(crate) entries: u16,
    /// The control row.
    pub(crate) control: Control,
}

/// How far an applier has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Nothing is under way.
    Idle,
    /// It has the turn.
    Turn,
    /// The snapshot is open; whether it had leave for steps under its control row.
    Snapshot(Snapshot, bool),
    /// The shadow has committed all of it.
    Committed(Snapshot, bool),
    /// It is forgotten, and reads may be let on.
    Forgotten(Snapshot, bool),
    /// Reads were put off by this version, and members are waited for.
    PuttingOff(u8),
    /// One key of a step is read, under the shared turn.
    Step(Snapshot, usize),
}

/// A member that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Applier {
    /// How far it is.
    pub(crate) stage: Stage,
    /// Leave for steps, under this version.
    pub(crate) leave: Option<u8>,
    /// Its transaction on the shadow is open, and with it its turn.
    pub(crate) open: bool,
}

/// A reconcile of one key by a member that has not heard of the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Late {
    /// It has not begun.
    Idle,
    /// It shares the turn, and has not read.
    Sharing(usize),
    /// It has read the primary.
    Read(usize, Snapshot),
    /// It has ended.
    Over,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Every state that the primary had, the present one last.
    pub(crate) history: Vec<Rows>,
    /// What follows it.
    pub(crate) target: Rows,
    /// The primary's outbox.
    pub(crate) outbox: Vec<Entry>,
    /// The primary's control row.
    pub(crate) control: Control,
    /// The control row as a member that reads knows it.
    pub(crate) known: Control,
    /// Members that apply.
    pub(crate) appliers: Vec<Applier>,
    /// A late reconcile.
    pub(crate) late: Late,
    /// The second row does not go in.
    pub(crate) stuck: bool,
}

// === impl State ===

impl State {
    /// The primary's rows.
    pub(crate) fn primary(&self) -> Rows {
        *self.history.last().unwrap_or(&[0, 0])
    }

    /// A snapshot of this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let waiting = self.outbox.iter().enumerate().filter(|(_, entry)| !entry.forgotten);
        let entries = waiting.fold(0, |set, (place, _)| set | 1 << place);
        Snapshot { rows: self.primary(), entries, control: self.control }
    }

    /// Keys of these outbox rows.
    pub(crate) fn keys(&self, entries: u16) -> Vec<usize> {
        (0..2)
            .filter(|key| {
                self.outbox
                    .iter()
                    .enumerate()
                    .any(|(place, entry)| entries & (1 << place) != 0 && entry.key == *key)
            })
            .collect()
    }

    /// Whether somebody has the turn alone.
    pub(crate) fn taken(&self) -> bool {
        self.appliers.iter().any(|it| it.open && !matches!(it.stage, Stage::Step(..)))
    }

    /// Whether somebody shares it.
    pub(crate) fn shared(&self, flaw: Flaw) -> bool {
        let late = matches!(self.late, Late::Sharing(_) | Late::Read(..));
        let step = |it: &Applier| it.open && matches!(it.stage, Stage::Step(..));
        (late && flaw != Flaw::KeysOverlap) || self.appliers.iter().any(step)
    }
}
