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

/// What is known of the changes that the counters may have in them since they were kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounted {
    /// Nothing: a whole table or range was asked for, or rows of the outbox are gone.
    Unknown,
    /// On the primary: so many keys were captured by committed transactions.
    Captured(i64),
    /// On the side that follows: committed transactions of segue's own, and those that are noted,
    /// changed so many rows there.
    Copied(i64),
}

/// Rows that were tried for each one that was captured, where most are rolled back or fail (an
/// application that inserts and leaves it to the unique index to refuse).
const TRIED_BY_FAR: i64 = 10;
/// And so many beside: a batch that fails is tried with less, an import has more.
const TRIED_MIN: i64 = 500;

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
/// `None` where nothing is against them. `accounted` is at least what triggers saw in between: never
/// less, so that no captured write is taken for one that was not. On a side that does not need
/// capture yet its triggers may come, not go.
pub fn judge(before: &Seen, now: &Seen, accounted: Accounted) -> Option<String> {
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
    let (counted, seen) = before.unseen(now, accounted)?;
    let seen = if seen == 0 { "none".to_owned() } else { seen.to_string() };
    Some(match accounted {
        Accounted::Copied(_) => format!(
            "the server counted {counted} changed rows, and of segue's own or noted are {seen}"
        ),
        _ => format!("the server counted {counted} changed rows, and capture saw {seen}"),
    })
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
    /// The rows that committed transactions have changed since, and the fewer that triggers saw;
    /// `None` where these may be all.
    pub fn unseen(self, now: Self, accounted: Accounted) -> Option<(i64, i64)> {
        let counted = self.changed_at_least(now, accounted);
        match accounted {
            Accounted::Captured(seen) | Accounted::Copied(seen) if seen < counted => {
                Some((counted, seen))
            }
            _ => None,
        }
    }

    /// So many rows have committed transactions changed since, or more. Gathering statistics
    /// forgets how many they were: then what was tried is left, with what was rolled back or failed
    /// in it, and only what stands out of that by far is taken for committed. The side that follows
    /// tries again what fails, so that there nothing is made of it.
    fn changed_at_least(self, now: Self, accounted: Accounted) -> i64 {
        // Also where statistics of a partition were gathered: those of the others go on.
        let certain = now.committed - self.committed;
        if now.analyzed == self.analyzed {
            return certain;
        }
        let tried = now.changes - self.changes;
        match accounted {
            Accounted::Captured(0) => tried,
            Accounted::Captured(seen)
                if tried >= seen.saturating_mul(TRIED_BY_FAR).saturating_add(TRIED_MIN) =>
            {
                tried
            }
            _ => certain,
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

    const NONE: Accounted = Accounted::Captured(0);
    const SOME: Accounted = Accounted::Captured(5);

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
        assert_eq!(judge(&seen(), &seen(), NONE), None);
        let changed = [
            (Seen { triggers: "t2".to_owned(), ..seen() }, "triggers of capture"),
            (Seen { functions: "f2".to_owned(), ..seen() }, "functions of capture"),
            (Seen { partitions: "p2".to_owned(), ..seen() }, "partition"),
            (Seen { columns: "c2".to_owned(), ..seen() }, "columns"),
            (Seen { is_on: false, ..seen() }, "switched off"),
        ];
        for (now, part) in changed {
            assert!(!now.is_of_the_same_catalogue(&seen()), "{part}");
            let why = judge(&seen(), &now, SOME).unwrap();
            assert!(why.contains(part), "{why}");
            assert!(judge(&now, &seen(), SOME).is_some(), "and back: {part}");
        }
    }

    #[test]
    fn triggers_may_come_where_nobody_relied_on_them() {
        let not_yet = |seen: Seen| Seen { is_needed: false, ..seen };
        let none =
            Seen { triggers: String::new(), is_on: false, functions: String::new(), ..seen() };
        assert_eq!(judge(&not_yet(none.clone()), &not_yet(seen()), NONE), None);
        assert_eq!(judge(&not_yet(none.clone()), &not_yet(none.clone()), NONE), None);
        assert_eq!(judge(&not_yet(none.clone()), &seen(), NONE), None, "with the phase");
        assert!(judge(&not_yet(seen()), &not_yet(none.clone()), NONE).is_some(), "they have gone");
        assert!(judge(&none, &seen(), NONE).is_some(), "they were needed all the time");
        assert!(judge(&none, &none, NONE).is_some());
    }

    /// One-sided: what capture may have seen is never held against it.
    #[test]
    fn counted_rows_that_capture_did_not_see_are_noticed() {
        let of = |now: &Seen, accounted| judge(&seen(), now, accounted);
        assert!(of(&counted(105, 15, 2), NONE).unwrap().contains("5 changed rows"));
        assert_eq!(of(&counted(105, 15, 2), SOME), None);
        assert_eq!(of(&counted(105, 15, 2), Accounted::Captured(9)), None, "of the minute before");
        assert!(of(&counted(105, 15, 2), Accounted::Captured(4)).unwrap().contains("saw 4"));
        assert_eq!(of(&counted(5000, 4910, 2), Accounted::Unknown), None);
        // Rolled back: counted, and no committed transaction changed anything.
        assert_eq!(of(&counted(105, 10, 2), NONE), None);
        assert_eq!(of(&counted(5000, 15, 2), SOME), None);
        assert!(of(&counted(3, 3, 2), SOME).unwrap().contains("backwards"));
        assert_eq!(of(&Seen { counted: None, ..seen() }, NONE), None);
    }

    /// Statistics were gathered in between, which forgets how many were committed.
    #[test]
    fn an_import_beside_captured_writes_is_noticed_though_statistics_were_gathered() {
        let of = |now: &Seen, accounted| judge(&seen(), now, accounted);
        assert!(of(&counted(105, 0, 3), NONE).is_some());
        assert_eq!(of(&counted(100, 0, 3), NONE), None);
        assert!(of(&counted(650, 0, 3), SOME).unwrap().contains("550 changed rows"));
        // What is left of the application's own failures.
        assert_eq!(of(&counted(649, 0, 3), SOME), None);
        // Of one partition: what the others have more than before is known for certain, and what they
        // had before is not new.
        assert!(of(&counted(106, 16, 3), SOME).unwrap().contains("6 changed rows"));
        assert_eq!(of(&counted(106, 9, 3), SOME), None);
    }

    #[test]
    fn counted_rows_on_the_side_that_follows_are_held_against_what_was_written_there() {
        let of = |now: &Seen, accounted| judge(&seen(), now, accounted);
        assert_eq!(of(&counted(105, 15, 2), Accounted::Copied(5)), None);
        let why = of(&counted(105, 15, 2), Accounted::Copied(2)).unwrap();
        assert!(why.contains("5 changed rows, and of segue's own or noted are 2"), "{why}");
        assert!(of(&counted(105, 15, 2), Accounted::Copied(0)).unwrap().contains("are none"));
        // Copies that failed are tried again.
        assert_eq!(of(&counted(90_000, 0, 3), Accounted::Copied(0)), None);
    }
}
