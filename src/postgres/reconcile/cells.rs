//! Cells of one side against cells of the other: judged, and carried over.

use crate::compare::cell::{CellVerdict, ColumnPair, judge};
use crate::compare::rules::ColumnRules;
use crate::domain::pg_type::{Column, TypeKind};
use crate::postgres::param::RawParam;
use crate::postgres::reconcile::image::Image;
use crate::postgres::reconcile::shape::Pair;
use crate::value::{self, Parameter};

/// Added to every length and scale in `atttypmod`.
const MODIFIER_BASE: i32 = 4;

/// Pairs two columns of stored data.
pub fn pair(primary: Column, shadow: Column) -> ColumnPair {
    ColumnPair { primary, shadow, stored: true, rules: ColumnRules::default() }
}

/// Whether the shadow's cell needs no write: it is the primary's value, or as much of it as
/// the shadow's column can hold.
pub fn equal(pair: &Pair, primary: Option<&[u8]>, shadow: Option<&[u8]>) -> bool {
    judge(&pair.judged, primary, shadow) != CellVerdict::Different
}

/// The primary's cell as a parameter for the shadow's column.
///
/// # Errors
///
/// Where the value does not fit, in words for the outbox.
pub fn carry(pair: &Pair, cell: Option<&[u8]>) -> Result<RawParam, String> {
    let Some(cell) = cell else {
        return Ok(RawParam(Parameter::NULL));
    };
    let name = &pair.judged.primary.name;
    fits(pair, cell).map_err(|why| format!("column {name:?}: {why}"))?;
    value::transcode(&pair.judged.primary.ty, &pair.judged.shadow.ty, cell)
        .map(RawParam)
        .map_err(|error| format!("column {name:?}: {error}"))
}

/// A large cell is not copied on its way where both columns have the same type.
const SHARED_BYTES: usize = 64 << 10;

/// The primary's cell of a row as a parameter for the shadow's column.
///
/// # Errors
///
/// Where the value does not fit, in words for the outbox.
pub fn carry_from(pair: &Pair, image: &Image) -> Result<RawParam, String> {
    let cell = image.cell(pair.primary);
    if cell.is_some_and(|cell| cell.len() >= SHARED_BYTES)
        && pair.same_type()
        && let Some(cell) = image.share(pair.primary)
    {
        return Ok(RawParam(Parameter::binary(cell)));
    }
    carry(pair, cell)
}

/// What the shadow's column would round or cut without a word. Times are not among it: a
/// coarser time is the same one by the rules of comparing.
fn fits(pair: &Pair, cell: &[u8]) -> Result<(), String> {
    let modifier = pair.judged.shadow.type_modifier;
    if modifier < MODIFIER_BASE {
        return Ok(());
    }
    let shadow = &pair.judged.shadow.ty;
    let (base, element) = match &shadow.kind {
        TypeKind::Array(element) => (element.name.as_str(), true),
        _ => (shadow.name.as_str(), false),
    };
    if base != "numeric" && base != "varchar" {
        return Ok(());
    }
    // Where the text cannot be had, the value itself cannot be carried, which is told better.
    let Ok(text) = value::to_text(&pair.judged.primary.ty, cell) else { return Ok(()) };
    let limit = modifier - MODIFIER_BASE;
    match base {
        // PostgreSQL cuts spaces that are too many, and refuses other characters by itself.
        "varchar" if !element && text.chars().count() > usize::try_from(limit).unwrap_or(0) => Err(
            format!("{} characters are too many for {}", text.chars().count(), pair.shadow_type),
        ),
        "numeric" => {
            let numbers = text.split([',', '{', '}']);
            match numbers.max_by_key(|number| digits(number)) {
                Some(number) if digits(number) > scale(limit) => {
                    Err(format!("{number} would be rounded by {}", pair.shadow_type))
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Digits after the point that say something.
fn digits(number: &str) -> i32 {
    let after = number.split_once('.').map_or("", |(_, after)| after.trim_end_matches('0'));
    i32::try_from(after.len()).unwrap_or(i32::MAX)
}

/// The scale in the lower eleven bits, which may be negative.
fn scale(limit: i32) -> i32 {
    ((limit & 0x7ff) ^ 1024) - 1024
}

/// A cell of the shadow put back as it was.
pub fn keep(cell: Option<&[u8]>) -> RawParam {
    RawParam(cell.map_or(Parameter::NULL, |bytes| Parameter::binary(bytes.to_vec())))
}
