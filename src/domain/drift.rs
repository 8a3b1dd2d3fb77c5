//! Writes that capture did not see: what gives them away. Pure.
//!
//! Capture that was off for a moment leaves no gap that anybody could see afterwards, but the
//! catalogue remembers: the rows of triggers, of functions and of partitions have another version
//! than before, also where their content is what it was. And the server counts the rows that were
//! changed, whoever saw it.

use crate::domain::side::Side;
use crate::domain::table::TableName;

/// What was seen of one table on one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Versions of capture's triggers; empty where there are none.
    pub triggers: String,
    /// Each relation of the table has all its triggers, and none is switched off.
    pub is_on: bool,
    /// The phase relies on capture on this side.
    pub is_needed: bool,
    /// Versions of the functions that they call.
    pub functions: String,
    /// The table and its partitions, and since when they belong together.
    pub partitions: String,
    /// Versions of the columns.
    pub columns: String,
    /// What the server counted; `None` where it cannot be relied on.
    pub counted: Option<Counted>,
}

/// Counters of a table, its partitions included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows that were inserted, updated or deleted, also in transactions that were rolled back.
    pub changes: i64,
    /// Rows that committed transactions changed since the statistics were last gathered.
    pub committed: i64,
    /// How often statistics were gathered.
    pub analyzed: i64,
}

/// Something that makes the proofs of a table worthless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noticed {
    /// Where.
    pub side: Side,
    /// Of which table, by its name on the source.
    pub table: TableName,
    /// What was noticed.
    pub why: String,
}

/// Why the proofs of a table are worth nothing, given what was seen before and what is seen now;
/// `None` where nothing is against them. `captured` tells whether capture saw a write in between.
/// On a side that does not need capture yet its triggers may come, not go.
pub fn judge(before: &Seen, now: &Seen, captured: bool) -> Option<String> {
    if now.is_needed && !now.is_on {
        return Some("capture is switched off, or not all of its triggers are there".to_owned());
    }
    let put_on = before.triggers.is_empty() && !before.is_needed;
    if before.partitions != now.partitions {
        return Some(
            "a partition was attached, detached or made, or the table replaced".to_owned(),
        );
    }
    if !put_on && (before.triggers != now.triggers || before.is_on != now.is_on) {
        return Some("triggers of capture were switched off and on, or replaced".to_owned());
    }
    if !put_on && before.functions != now.functions {
        return Some("functions of capture were replaced".to_owned());
    }
    if before.columns != now.columns {
        return Some(
            "columns were changed, which may rewrite rows that no trigger captures".to_owned(),
        );
    }
    let (before, now) = (before.counted?, now.counted?);
    if now.changes < before.changes {
        let why = "the server's counters of changed rows went backwards: they were reset, or lost";
        return Some(why.to_owned());
    }
    match before.uncaptured(now) {
        true if !captured => Some(format!(
            "the server counted {} changed rows, and capture saw none",
            now.changes - before.changes
        )),
        _ => None,
    }
}

// === impl Seen ===

impl Seen {
    /// Whether the catalogue says the same, whatever was counted.
    pub fn is_of_the_same_catalogue(&self, other: &Self) -> bool {
        let without = |seen: &Self| Self { counted: None, is_needed: false, ..seen.clone() };
        without(self) == without(other)
    }
}

// === impl Counted ===

impl Counted {
    /// Whether committed transactions have changed rows since, as far as the counters tell. Rows
    /// that were rolled back are not among them, unless statistics were gathered in between.
    fn uncaptured(self, now: Self) -> bool {
        if now.analyzed == self.analyzed {
            now.committed > self.committed
        } else {
            now.changes > self.changes
        }
    }

    /// Whether anything was counted since.
    pub fn moved(self, now: Self) -> bool {
        now.changes != self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen {
            triggers: "t1".to_owned(),
            is_on: true,
            is_needed: true,
            functions: "f1".to_owned(),
            partitions: "p1".to_owned(),
            columns: "c1".to_owned(),
            counted: Some(Counted { changes: 100, committed: 10, analyzed: 2 }),
        }
    }

    fn counted(changes: i64, committed: i64, analyzed: i64) -> Seen {
        Seen { counted: Some(Counted { changes, committed, analyzed }), ..seen() }
    }

    #[test]
    fn whatever_is_another_than_before_is_noticed_once_and_says_what() {
        assert_eq!(judge(&seen(), &seen(), false), None);
        let changed = [
            (Seen { triggers: "t2".to_owned(), ..seen() }, "triggers of capture"),
            (Seen { functions: "f2".to_owned(), ..seen() }, "functions of capture"),
            (Seen { partitions: "p2".to_owned(), ..seen() }, "partition"),
            (Seen { columns: "c2".to_owned(), ..seen() }, "columns"),
            (Seen { is_on: false, ..seen() }, "switched off"),
        ];
        for (now, part) in changed {
            assert!(!now.is_of_the_same_catalogue(&seen()), "{part}");
            let why = judge(&seen(), &now, true).unwrap();
            assert!(why.contains(part), "{why}");
            assert!(judge(&now, &seen(), true).is_some(), "and back: {part}");
        }
    }

    #[test]
    fn triggers_may_come_where_nobody_relied_on_them() {
        let not_yet = |seen: Seen| Seen { is_needed: false, ..seen };
        let none =
            Seen { triggers: String::new(), is_on: false, functions: String::new(), ..seen() };
        assert_eq!(judge(&not_yet(none.clone()), &not_yet(seen()), false), None);
        assert_eq!(judge(&not_yet(none.clone()), &not_yet(none.clone()), false), None);
        assert_eq!(judge(&not_yet(none.clone()), &seen(), false), None, "with the phase");
        assert!(judge(&not_yet(seen()), &not_yet(none.clone()), false).is_some(), "they have gone");
        assert!(judge(&none, &seen(), false).is_some(), "they were needed all the time");
        assert!(judge(&none, &none, false).is_some());
    }

    /// One-sided: what capture may have seen is never held against it.
    #[test]
    fn counted_rows_that_capture_did_not_see_are_noticed() {
        let of = |now: &Seen, captured| judge(&seen(), now, captured);
        assert!(of(&counted(105, 15, 2), false).unwrap().contains("5 changed rows"));
        assert_eq!(of(&counted(105, 15, 2), true), None);
        // Rolled back: counted, and no committed transaction changed anything.
        assert_eq!(of(&counted(105, 10, 2), false), None);
        // Statistics were gathered in between, which forgets how many were committed.
        assert!(of(&counted(105, 0, 3), false).is_some());
        assert_eq!(of(&counted(100, 0, 3), false), None);
        assert!(of(&counted(3, 3, 2), true).unwrap().contains("backwards"));
        assert_eq!(of(&Seen { counted: None, ..seen() }, false), None);
    }
}
