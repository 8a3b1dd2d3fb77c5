//! The locks that make the reconciles of a key follow one another.
//!
//! The lock of a key is the row of its hash in `segue.key_lock` on the shadow: a bounded
//! table, in which collisions only serialise. Two texts of one key must hash alike, or the
//! lock would not hold; where that cannot be had, the whole table takes one lock.

use sha2::{Digest, Sha256};

use crate::postgres::mapping::canon::Canon;
use crate::postgres::outbox::RowKey;

/// Bits of a slot: a million rows at most.
const SLOT_BITS: u32 = 20;
/// First half of the advisory locks that stand for tables: `sg`, `tb` in ASCII.
pub const TABLE_LOCK_CLASS: i32 = 0x7367_7462;

/// Upserts in the order of the slots, so that two members never wait for each other.
pub const LOCK_KEYS: &str = "\
    INSERT INTO segue.key_lock AS l (slot, held) \
    SELECT s, 1 FROM pg_catalog.unnest($1::int4[]) AS u(s) ORDER BY s \
    ON CONFLICT (slot) DO UPDATE SET held = l.held + 1";

/// Shared by all reconciles of keys of these tables; a whole-table reconcile waits for them.
pub const SHARE_TABLES: &str = "\
    SELECT pg_catalog.pg_advisory_xact_lock_shared($1, t) \
    FROM (SELECT t FROM pg_catalog.unnest($2::int4[]) AS u(t) ORDER BY t) AS s";

/// Waits until every reconcile that may have read the table before has ended.
pub const PASS_TABLE: &str = "SELECT pg_catalog.pg_advisory_xact_lock($1, $2)";

/// The same where there are no such locks: a row stands for the table, which reconciles
/// of its keys read. One that has read it before it was changed cannot commit what a later one
/// has looked for and not found.
pub const SHARE_TABLES_BY_ROW: &str =
    "SELECT held FROM segue.key_lock WHERE slot = ANY ($1::int4[])";

/// The slot of a table's row: those of keys are not negative.
pub fn slot_of_table(table_id: i32) -> i32 {
    -table_id
}

/// See [`SHARE_TABLES_BY_ROW`].
pub const PASS_TABLE_BY_ROW: &str = "\
    INSERT INTO segue.key_lock AS l (slot, held) VALUES ($1::int4, 1) ON CONFLICT (slot) DO UPDATE SET held = l.held + 1";

/// The slot of a key. It must be the same in every member and every version of segue that
/// runs at the same time, so it is made by SHA-256 and not by the library's hasher.
pub fn slot(key: &RowKey, canons: &[Canon]) -> i32 {
    let mut hash = Sha256::new();
    hash.update(key.table_id.to_be_bytes());
    if !canons.contains(&Canon::None) {
        for (value, canon) in key.values.iter().zip(canons) {
            let text = canon.apply(value);
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
    }
    let digest = hash.finalize();
    let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    i32::try_from(head >> (u32::BITS - SLOT_BITS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot_of(values: &[&str], canons: &[Canon]) -> i32 {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        slot(&RowKey { table_id: 7, values }, canons)
    }

    #[test]
    fn texts_of_one_value_take_one_slot() {
        for (one, other) in [("1.50", "1.5"), ("2", "2.000"), ("-0.0", "0"), ("100", "100.0")] {
            assert_eq!(slot_of(&[one], &[Canon::Numeric]), slot_of(&[other], &[Canon::Numeric]));
        }
        assert_eq!(slot_of(&["ab  "], &[Canon::Padded]), slot_of(&["ab"], &[Canon::Padded]));
        assert_eq!(slot_of(&["A"], &[Canon::None]), slot_of(&["a"], &[Canon::None]));
        assert_ne!(slot_of(&["100"], &[Canon::Numeric]), slot_of(&["1"], &[Canon::Numeric]));
    }

    #[test]
    fn where_one_column_ends_matters() {
        let canons = [Canon::Text, Canon::Text];
        assert_ne!(slot_of(&["ab", "c"], &canons), slot_of(&["a", "bc"], &canons));
    }

    #[test]
    fn slots_never_change_between_versions() {
        assert_eq!(slot_of(&["1"], &[Canon::Text]), 618_214);
    }

    #[test]
    fn types_without_canonical_text_lock_their_table() {
        assert_eq!(Canon::of("citext", false, true), Canon::None);
        assert_eq!(Canon::of("text", false, false), Canon::None);
        assert_eq!(Canon::of("float8", false, true), Canon::None);
        assert_eq!(Canon::of("order_status", true, true), Canon::Text);
    }
}
