//! What is modelled: which rows there are, what the application may do, and what is broken.

use crate::state::{Image, KEYS, KeySet, Row, Rows, bit};

/// One change within a transaction of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Inserts the row or updates it: key, unique value (0 for `NULL`), parent.
    Put(u8, u8, Option<u8>),
    /// Deletes it.
    Delete(u8),
}

/// A transaction of the application.
pub(crate) type Transaction = Vec<Change>;

/// What is done wrong, to see that the model notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: the algorithm as it is.
    None,
    /// Both sides are read first, and the keys are locked then.
    ReadBeforeLock,
    /// Outbox rows are forgotten after the shadow was written, but before its commit.
    ForgetBeforeCommit,
    /// All outbox rows of the keys are forgotten, those too that came after the claim.
    ForgetWholeKey,
    /// The outbox rows are committed after the write that they belong to.
    CaptureApart,
    /// A row that stands in the way is written without its lock.
    ExtraWithoutLock,
    /// Keys that are folded are taken out in a transaction before the one that writes what stands
    /// for their table.
    FoldApart,
    /// Keys are folded into a row that stands for their table already, as long as it waits.
    FoldIntoOld,
    /// Ranges are folded into a row that stands for their table already, as long as it waits.
    CoarsenIntoOld,
    /// A pass through a range leaves out the key at its beginning.
    RangeTooNarrow,
}

/// One model to be explored.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Members of the fleet.
    pub(crate) members: usize,
    /// Sessions of the application.
    pub(crate) writers: usize,
    /// Transactions that they may begin, all together.
    pub(crate) writes: u8,
    /// What each of these may be.
    pub(crate) menu: Vec<Transaction>,
    /// Times that keys may be folded into their table.
    pub(crate) folds: u8,
    /// They are folded into ranges of the key first.
    pub(crate) ranges: bool,
    /// The rows at the beginning, equal on both sides.
    pub(crate) rows: Rows,
    /// References between rows are checked, on both sides.
    pub(crate) foreign_keys: bool,
    /// Constraints tie rows to each other. They keep the application's transactions from
    /// running side by side here, whatever their keys.
    pub(crate) constrained: bool,
    /// What is broken.
    pub(crate) flaw: Flaw,
}

// === impl Scenario ===

impl Scenario {
    /// Two rows, two members; inserts, updates, deletes.
    pub(crate) fn plain(writes: u8) -> Self {
        use Change::{Delete, Put};
        Self {
            members: 2,
            writers: 2,
            writes,
            folds: 0,
            ranges: false,
            menu: vec![
                vec![Put(0, 0, None)],
                vec![Delete(0)],
                vec![Put(1, 0, None)],
                vec![Put(0, 0, None), Delete(1)],
            ],
            rows: rows([Some((0, None)), None, None]),
            foreign_keys: false,
            constrained: false,
            flaw: Flaw::None,
        }
    }

    /// Keys are folded into their table, while claims are open and writes under way.
    pub(crate) fn folding(folds: u8, writes: u8) -> Self {
        use Change::{Delete, Put};
        Self {
            folds,
            writers: 1,
            menu: vec![vec![Put(0, 0, None)], vec![Delete(1)]],
            rows: rows([Some((0, None)), Some((0, None)), None]),
            ..Self::plain(writes)
        }
    }

    /// The same by ranges of the key, and from these into the table.
    pub(crate) fn ranges(folds: u8, writes: u8) -> Self {
        Self { ranges: true, ..Self::folding(folds, writes) }
    }

    /// A range of two keys, both of which change.
    pub(crate) fn wide_range() -> Self {
        use Change::{Delete, Put};
        Self {
            menu: vec![vec![Delete(1), Put(2, 0, None)], vec![Put(2, 0, None)]],
            members: 1,
            ..Self::ranges(1, 2)
        }
    }

    /// Values of a unique column are swapped, handed on and taken back.
    pub(crate) fn unique(writes: u8) -> Self {
        use Change::{Delete, Put};
        Self {
            members: 2,
            writers: 1,
            writes,
            folds: 0,
            ranges: false,
            menu: vec![
                vec![Put(0, 2, None), Put(1, 1, None)],
                vec![Put(0, 3, None)],
                vec![Put(1, 1, None)],
                vec![Delete(0)],
                vec![Put(0, 1, None)],
            ],
            rows: rows([Some((1, None)), Some((2, None)), None]),
            foreign_keys: false,
            constrained: true,
            flaw: Flaw::None,
        }
    }

    /// A row 0 and a row 1 that refers to it; references are checked on the shadow too.
    pub(crate) fn parents(writes: u8) -> Self {
        use Change::{Delete, Put};
        Self {
            members: 2,
            writers: 1,
            writes,
            folds: 0,
            ranges: false,
            menu: vec![
                vec![Put(0, 0, None)],
                vec![Put(1, 0, Some(0))],
                vec![Put(0, 0, None), Put(1, 0, Some(0))],
                vec![Delete(1)],
                vec![Delete(1), Delete(0)],
            ],
            rows: rows([None, None, None]),
            foreign_keys: true,
            constrained: true,
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

    /// The primary after a transaction, if its constraints allow it. Only whole
    /// transactions are judged, as if all constraints were deferred.
    pub(crate) fn after(&self, before: &Image, transaction: u8, number: u8) -> Option<Image> {
        let mut after = *before;
        for change in &self.menu[usize::from(transaction)] {
            let (key, row) = match *change {
                Change::Put(key, unique, parent) => {
                    (key, Some(Row { value: number, unique, parent }))
                }
                Change::Delete(key) => (key, None),
            };
            // What is not there is not deleted, and captures nothing.
            if row.is_none() && after.rows[usize::from(key)].is_none() {
                return None;
            }
            after.rows[usize::from(key)] = row;
            after.versions[usize::from(key)] = number;
        }
        self.holds(&after.rows).then_some(after)
    }

    /// Whether unique values are unique and parents there.
    pub(crate) fn holds(&self, rows: &Rows) -> bool {
        let present = rows.iter().flatten();
        let unique = |row: &Row| {
            row.unique == 0 || present.clone().filter(|r| r.unique == row.unique).count() == 1
        };
        let parent = |row: &Row| row.parent.is_none_or(|key| rows[usize::from(key)].is_some());
        present.clone().all(|row| unique(row) && (!self.foreign_keys || parent(row)))
    }
}

/// Rows by their unique value and parent.
pub(crate) fn rows(rows: [Option<(u8, Option<u8>)>; KEYS]) -> Rows {
    rows.map(|row| row.map(|(unique, parent)| Row { value: 0, unique, parent }))
}
