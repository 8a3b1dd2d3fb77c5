//! What the model knows: two databases, the outbox, writers and members.

/// Rows that a model may have, over all tables.
pub(crate) const KEYS: usize = 3;

/// Keys as bits.
pub(crate) type KeySet = u8;

/// Outbox rows as bits.
pub(crate) type EntrySet = u16;

/// One row of an application's table. Every write gives another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row {
    /// Number of the write that made it.
    pub(crate) value: u8,
    /// The value of its unique column; 0 is `NULL`.
    pub(crate) unique: u8,
    /// The row that it refers to.
    pub(crate) parent: Option<u8>,
}

/// Rows by key.
pub(crate) type Rows = [Option<Row>; KEYS];

/// A committed state of a database, or what was read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Image {
    /// What is there.
    pub(crate) rows: Rows,
    /// The number of the last write to each key, deletes included. No database has these:
    /// they are here so that properties can speak of older and newer.
    pub(crate) versions: [u8; KEYS],
}

/// Stands for a whole table in the place of a key. All rows are of one table here.
pub(crate) const WHOLE: u8 = 7;

/// Stand for ranges of the key, likewise: the first of them for key 0, the other for the rest.
pub(crate) const RANGES: [u8; 2] = [5, 6];

/// The keys that an outbox row with this in the place of a key stands for, if it names none.
pub(crate) fn stands_for(key: u8) -> Option<KeySet> {
    match key {
        5 => Some(0b001),
        6 => Some(0b110),
        WHOLE => Some(0b111),
        _ => None,
    }
}

/// A row of `segue.outbox`. Rows are never taken out, so that properties can see them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Entry {
    /// The key that was touched.
    pub(crate) key: u8,
    /// The number of the write that touched it.
    pub(crate) version: u8,
    /// `forgotten_at` is set.
    pub(crate) forgotten: bool,
    /// It was taken out when its key was folded, or its range.
    pub(crate) folded: bool,
}

// === impl Entry ===

impl Entry {
    /// It waits for its reconcile.
    pub(crate) fn waits(&self) -> bool {
        !self.forgotten && !self.folded
    }

    /// It names this key, or stands for it.
    pub(crate) fn covers(&self, key: u8) -> bool {
        self.key == key || stands_for(self.key).is_some_and(|keys| keys & (1 << key) != 0)
    }
}

/// What a writer of the application is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Writer {
    /// Nothing.
    #[default]
    Idle,
    /// It has run this transaction of the menu, with this number, and not ended it.
    Open(u8, u8),
    /// It has committed, and its keys are not in the outbox yet. Only a flaw gets here.
    Uncaptured(u8, u8),
}

/// How far a member's batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Step {
    /// No batch.
    #[default]
    Idle,
    /// A transaction on the shadow is open, or about to be; it takes locks.
    Locking,
    /// Both sides were read.
    Read,
    /// Children of what goes out were looked for, and the set has them.
    Planned,
    /// The shadow was written.
    Applied,
    /// Rolled back after a unique violation; holders are to be looked for.
    Unique,
    /// Rolled back after a violation of a foreign key; parents are to be looked for.
    ForeignKey,
    /// The shadow has committed.
    Committed,
}

/// A member's batch. Members are alike, so a state lists them in order of what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Member {
    /// How far it is.
    pub(crate) step: Step,
    /// Outbox rows that its transaction on the primary has locked.
    pub(crate) claims: EntrySet,
    /// That transaction is gone, and the member does not know.
    pub(crate) claim_lost: bool,
    /// The keys that this attempt is for.
    pub(crate) set: KeySet,
    /// Keys that a pass through the whole table has before it.
    pub(crate) rest: KeySet,
    /// Keys that stood in the way and joined it.
    pub(crate) extra: KeySet,
    /// Rows that give up a unique value are taken out first.
    pub(crate) holders_first: bool,
    /// Locks in `segue.key_lock` that its transaction on the shadow holds.
    pub(crate) locks: KeySet,
    /// What it read on the primary.
    pub(crate) primary: Image,
    /// What it read on the shadow.
    pub(crate) shadow: Rows,
    /// Rows that are taken out because their parent is.
    pub(crate) forced: KeySet,
    /// Rows that its transaction has written on the shadow.
    pub(crate) written: KeySet,
    /// Of these, the ones that were taken out, to be put back or not.
    pub(crate) out: KeySet,
}

// === impl Member ===

impl Member {
    /// All keys of the attempt.
    pub(crate) fn all(&self) -> KeySet {
        self.set | self.extra
    }

    /// The shadow's transaction is rolled back; what was learned stays.
    pub(crate) fn again(&self) -> Self {
        Self {
            step: Step::Locking,
            claims: self.claims,
            claim_lost: self.claim_lost,
            set: self.set,
            rest: self.rest,
            extra: self.extra,
            holders_first: self.holders_first,
            ..Self::default()
        }
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The source of truth.
    pub(crate) primary: Image,
    /// What follows it.
    pub(crate) shadow: Image,
    /// The primary's outbox, in the order of commits.
    pub(crate) outbox: Vec<Entry>,
    /// The application.
    pub(crate) writers: Vec<Writer>,
    /// Writes that were begun, up to the scenario's limit.
    pub(crate) writes: u8,
    /// Folds that were begun, up to the scenario's limit.
    pub(crate) folds: u8,
    /// Only a flaw gets here: keys are taken out, and what stands for them is not there yet.
    pub(crate) fold_open: bool,
    /// Segue.
    pub(crate) members: Vec<Member>,
    /// A commit on the shadow has put an older state of a key over a newer one.
    pub(crate) went_back: bool,
}

// === impl State ===

impl State {
    /// Outbox rows that are waiting and that nobody has locked: what `SKIP LOCKED` leaves.
    pub(crate) fn due(&self) -> EntrySet {
        let held = self.members.iter().fold(0, |held, member| held | member.claims);
        let waiting = self.outbox.iter().enumerate().filter(|(_, entry)| entry.waits());
        waiting.fold(0, |due, (index, _)| due | 1 << index) & !held
    }

    /// Of these, the ones that name a key.
    pub(crate) fn foldable(&self) -> EntrySet {
        let keys = |index: &usize| stands_for(self.outbox[*index].key).is_none();
        (0..self.outbox.len()).filter(keys).fold(0, |set, index| set | 1 << index) & self.due()
    }

    /// Of those that are due, the ones that stand for ranges.
    pub(crate) fn coarsenable(&self) -> EntrySet {
        let ranges = |index: &usize| RANGES.contains(&self.outbox[*index].key);
        (0..self.outbox.len()).filter(ranges).fold(0, |set, index| set | 1 << index) & self.due()
    }

    /// Nothing is under way: no transaction, no batch, and the outbox is empty.
    pub(crate) fn at_rest(&self) -> bool {
        self.writers.iter().all(|writer| *writer == Writer::Idle)
            && self.members.iter().all(|member| member.step == Step::Idle)
            && !self.outbox.iter().any(Entry::waits)
    }
}

/// The keys of a set, ascending.
pub(crate) fn keys(set: KeySet) -> impl Iterator<Item = usize> + Clone {
    (0..KEYS).filter(move |key| set & (1 << key) != 0)
}

/// The set of one key.
pub(crate) fn bit(key: usize) -> KeySet {
    1 << key
}
