//! What the model of backfill knows.

use crate::scenario::{Change, Transaction, rows};
use crate::state::{Entry, EntrySet, Image, KeySet, Rows, Writer, bit};

/// What is done wrong, to see that the model notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: the algorithm as it is.
    None,
    /// The outbox is not read again after the chunk was written.
    NoRecheck,
    /// Reconcile reads the rows first, and locks their keys then.
    ReadBeforeLock,
    /// A chunk that is begun again still takes what it can see in the outbox for its A.
    NotesKept,
    /// The chunk is written whoever has its claim by now.
    NoGeneration,
    /// The claim's generation is looked at, but its row is not locked until the commit.
    GenerationNotLocked,
    /// The second reading of the outbox leaves out what was forgotten meanwhile.
    ForgottenPassedOver,
}

/// One model to be explored.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Workers that copy.
    pub(crate) workers: usize,
    /// Members that reconcile.
    pub(crate) members: usize,
    /// Sessions of the application.
    pub(crate) writers: usize,
    /// Transactions that they may begin, all together.
    pub(crate) writes: u8,
    /// How often the chunk may be claimed, the first time included.
    pub(crate) claims: u8,
    /// What a transaction may be.
    pub(crate) menu: Vec<Transaction>,
    /// The primary's rows at the beginning; the shadow has none.
    pub(crate) rows: Rows,
    /// What is broken.
    pub(crate) flaw: Flaw,
}

// === impl Scenario ===

impl Scenario {
    /// Two rows of which one is there; two workers, one member, two writes, two claims.
    pub(crate) fn small() -> Self {
        use Change::{Delete, Put};
        Self {
            workers: 2,
            members: 1,
            writers: 1,
            writes: 2,
            claims: 2,
            menu: vec![vec![Put(0, 0, None)], vec![Delete(0)], vec![Put(1, 0, None), Delete(0)]],
            rows: rows([Some((0, None)), None, None]),
            flaw: Flaw::None,
        }
    }

    /// The same with something broken.
    pub(crate) fn with(self, flaw: Flaw) -> Self {
        Self { flaw, ..self }
    }

    /// Keys that a transaction touches.
    pub(crate) fn touched(&self, transaction: u8) -> KeySet {
        self.menu[usize::from(transaction)].iter().fold(0, |set, change| match change {
            Change::Put(key, ..) | Change::Delete(key) => set | bit(usize::from(*key)),
        })
    }
}

/// One reconcile: of a member's claimed keys, or of those that a worker found after its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Attempt {
    /// Its keys.
    pub(crate) set: KeySet,
    /// Locks in `segue.key_lock` that it holds.
    pub(crate) locks: KeySet,
    /// What it read: the primary's rows, and the shadow's.
    pub(crate) read: Option<(Rows, Rows)>,
}

/// A member's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Member {
    /// Outbox rows that it has claimed; none is no batch.
    pub(crate) claims: EntrySet,
    /// Its reconcile.
    pub(crate) attempt: Attempt,
    /// The shadow has committed.
    pub(crate) committed: bool,
}

/// How far a worker's chunk has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Stage {
    /// No chunk.
    #[default]
    Idle,
    /// It has the claim.
    Claimed,
    /// A is noted, and the rows are read.
    Read,
    /// Only with [`Flaw::GenerationNotLocked`]: the claim was looked at.
    Looked,
    /// A transaction on the shadow has written the rows.
    Written,
    /// It has committed.
    Committed,
    /// The keys of B − A are known, and are reconciled.
    Rechecking,
}

/// A worker. Workers are alike, so a state lists them in order of what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Worker {
    /// How far it is.
    pub(crate) stage: Stage,
    /// The generation that its claim had.
    pub(crate) generation: u8,
    /// A: the outbox rows that it saw before it read.
    pub(crate) noted: EntrySet,
    /// What it read on the primary.
    pub(crate) image: Rows,
    /// Rows that its open transaction has inserted.
    pub(crate) inserted: KeySet,
    /// Its reconcile, after the write.
    pub(crate) attempt: Attempt,
}

/// The chunk's row of `segue.backfill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Chunk {
    /// Rises with every claim.
    pub(crate) generation: u8,
    /// It is copied, and needs nobody any more.
    pub(crate) done: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The source of truth.
    pub(crate) primary: Image,
    /// What follows it.
    pub(crate) shadow: Rows,
    /// The primary's outbox, in the order of commits.
    pub(crate) outbox: Vec<Entry>,
    /// The application.
    pub(crate) writers: Vec<Writer>,
    /// Writes that were begun.
    pub(crate) writes: u8,
    /// What reconciles.
    pub(crate) members: Vec<Member>,
    /// What copies.
    pub(crate) workers: Vec<Worker>,
    /// What is to be copied.
    pub(crate) chunk: Chunk,
}

// === impl State ===

impl State {
    /// Outbox rows that wait and that nobody has claimed.
    pub(crate) fn due(&self) -> EntrySet {
        let held = self.members.iter().fold(0, |held, member| held | member.claims);
        let waiting = self.outbox.iter().enumerate().filter(|(_, entry)| !entry.forgotten);
        waiting.fold(0, |due, (index, _)| due | 1 << index) & !held
    }

    /// Locks of `segue.key_lock` that somebody holds.
    pub(crate) fn locked(&self) -> KeySet {
        let of_members = self.members.iter().map(|member| member.attempt.locks);
        let of_workers = self.workers.iter().map(|worker| worker.attempt.locks);
        of_members.chain(of_workers).fold(0, |locked, locks| locked | locks)
    }

    /// Rows that open transactions of chunks have inserted on the shadow.
    pub(crate) fn being_inserted(&self) -> KeySet {
        self.workers.iter().fold(0, |set, worker| set | worker.inserted)
    }

    /// The chunk is copied, nothing is under way, and the outbox is empty.
    pub(crate) fn at_rest(&self) -> bool {
        self.chunk.done
            && self.writers.iter().all(|writer| *writer == Writer::Idle)
            && self.members.iter().all(|member| *member == Member::default())
            && self.workers.iter().all(|worker| worker.stage == Stage::Idle)
            && self.outbox.iter().all(|entry| entry.forgotten)
    }
}
