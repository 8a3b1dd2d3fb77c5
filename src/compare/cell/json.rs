//! JSON documents by their meaning, and what in their spelling differed.

use crate::compare::cell::text::instant;
use crate::compare::cell::{CellVerdict, ColumnPair};
use crate::value::{Datum, Json};

pub(super) fn judge(
    pair: &ColumnPair,
    one_cell: &[u8],
    other_cell: &[u8],
    one: &Datum,
    other: &Datum,
) -> CellVerdict {
    let (Datum::Json(one), Datum::Json(other)) = (one, other) else {
        return CellVerdict::Different;
    };
    if one == other {
        return CellVerdict::Normalized(spelling(one_cell, other_cell));
    }
    // What the database itself put into the document it may have spelt in its own way.
    CellVerdict::by("json_timestamp", !pair.stored && same_but_for_zones(one, other))
}

fn same_but_for_zones(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::String(a), Json::String(b)) => {
            a == b || matches!((instant(a), instant(b)), (Some(a), Some(b)) if a == b)
        }
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_but_for_zones(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((key_a, a), (key_b, b))| key_a == key_b && same_but_for_zones(a, b))
        }
        _ => one == other,
    }
}

/// The rule that two spellings of one document need.
fn spelling(one: &[u8], other: &[u8]) -> &'static str {
    let (one, other) = (outline(one), outline(other));
    if one.keys != other.keys {
        "json_key_order"
    } else if one.compact != other.compact {
        "json_number"
    } else {
        "json_format"
    }
}

/// A document's keys in the order they stand, and its text without white space.
#[derive(Default)]
struct Outline {
    keys: Vec<Vec<u8>>,
    compact: Vec<u8>,
}

fn outline(cell: &[u8]) -> Outline {
    let mut found = Outline::default();
    let mut string_start = 0;
    let (mut in_string, mut escaped) = (false, false);
    for byte in cell {
        if in_string {
            found.compact.push(*byte);
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        match byte {
            // The version byte of `jsonb` goes with the white space.
            0..=b' ' => continue,
            b'"' => {
                string_start = found.compact.len();
                in_string = true;
            }
            b':' => found.keys.push(found.compact.get(string_start..).unwrap_or_default().to_vec()),
            _ => {}
        }
        found.compact.push(*byte);
    }
    found
}
