//! Cells of one side against cells of the other: judged, and carried over.

use crate::compare::cell::{CellVerdict, ColumnPair, judge};
use crate::compare::common::Form;
use crate::compare::rules::ColumnRules;
use crate::domain::pg_type::{Column, PgType, TypeKind};
use crate::postgres::mapping::image::Image;
use crate::postgres::mapping::table::{Pair, Role, TableShape};
use crate::postgres::session::param::{ONE_DIMENSION, RawParam, is_numeric};
use crate::value::{self, Format, Parameter};

/// Added to every length and scale in `atttypmod`.
const MODIFIER_BASE: i32 = 4;

/// Pairs two columns of stored data.
pub fn pair(primary: Column, shadow: Column) -> ColumnPair {
    ColumnPair { primary, shadow, stored: true, rules: ColumnRules::default() }
}

/// Whether both rows have the same stored image in a column: reconcile, verify, repair and the
/// way back all ask here. A finer value of the shadow's own is the same in the coarser type, and
/// is left alone.
pub fn equal(shape: &TableShape, pair: &Pair, primary: &Image, shadow: &Image) -> bool {
    let (one, other) = (primary.cell(pair.primary), shadow.cell(pair.shadow));
    if shape.across() {
        return printed_alike(pair, one, other);
    }
    let Some(place) = pair.compared else { return one == other };
    match (primary.compared(place), shadow.compared(place)) {
        (Ok(one), Ok(other)) => one == other,
        // A value that has no image in the coarser type is none of its values.
        _ => one.is_none() && other.is_none(),
    }
}

/// Between PostgreSQL and CockroachDB the same image may be sent as other bytes. Of columns of
/// one type the text decides, which both print alike; of others, of documents and of times, which
/// CockroachDB keeps in another form, the rules of stored columns.
fn printed_alike(pair: &Pair, one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    let (Some(a), Some(b)) = (one, other) else { return one.is_none() && other.is_none() };
    let (first, second) = (&pair.judged.primary.ty, &pair.judged.shadow.ty);
    match &pair.form {
        Form::Own(name) if !name.contains("json") && !name.contains("timestamp") => {
            let texts = (value::to_text(first, a), value::to_text(second, b));
            a == b || matches!(texts, (Ok(a), Ok(b)) if a == b)
        }
        _ => judge(&pair.judged, one, other) != CellVerdict::Different,
    }
}

/// A cell of a column as text; of a type that segue cannot write out, as what it is.
pub fn text(shape: &TableShape, role: Role, column: usize, cell: &[u8]) -> Result<String, String> {
    let Some(found) = shape.columns(role).get(column) else { return Err(String::new()) };
    let unread = || format!("{} bytes of {}", cell.len(), found.ty.name);
    if shape.is_text(role, column) {
        return String::from_utf8(cell.to_vec()).map_err(|_| unread());
    }
    value::to_text(&found.ty, cell).map_err(|_| unread())
}

/// The primary's cell as a parameter for the shadow's column.
///
/// # Errors
///
/// Where the value does not fit, in words for the outbox.
pub fn carry(pair: &Pair, cell: Option<&[u8]>) -> Result<RawParam, String> {
    if pair.by_text {
        return Ok(as_text(cell));
    }
    let Some(cell) = cell else {
        return Ok(RawParam(Parameter::NULL));
    };
    let name = &pair.judged.primary.name;
    fits(pair, cell).map_err(|why| format!("column {name:?}: {why}"))?;
    let shadow = &pair.judged.shadow.ty;
    let param = value::transcode(&pair.judged.primary.ty, shadow, cell)
        .map_err(|error| format!("column {name:?}: {error}"))?;
    RawParam::exact(pair.shadow_dialect, shadow, param)
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
    let large = cell.is_some_and(|cell| cell.len() >= SHARED_BYTES);
    if large && (pair.by_text || goes_as_it_is(pair)) {
        let format = if pair.by_text { Format::Text } else { Format::Binary };
        return Ok(RawParam(Parameter { format, data: image.share(pair.primary) }));
    }
    carry(pair, cell)
}

/// Whether the shadow's column takes the primary's bytes: both have one of the servers' own types,
/// precision included, or are texts of which the shadow's has no limit.
fn goes_as_it_is(pair: &Pair) -> bool {
    let (primary, shadow) = (&pair.judged.primary, &pair.judged.shadow);
    let own = |ty: &PgType| ty.kind == TypeKind::Simple && ty.oid < FIRST_OWN_ID;
    let text = |column: &Column| matches!(column.ty.name.as_str(), "text" | "varchar");
    own(&primary.ty)
        && own(&shadow.ty)
        && (pair.shadow_dialect.takes_binary_numerics() || !is_numeric(&shadow.ty))
        && (primary.ty.oid == shadow.ty.oid && primary.type_modifier == shadow.type_modifier
            || text(primary) && text(shadow) && shadow.type_modifier < MODIFIER_BASE)
}

/// Types with lower ids are the server's own, and the same everywhere.
const FIRST_OWN_ID: u32 = 16_384;

/// What the shadow's column would round or cut without a word. Times are not among it: a
/// coarser time is the same one by the rules of comparing.
fn fits(pair: &Pair, cell: &[u8]) -> Result<(), String> {
    if !pair.shadow_dialect.has_array_dimensions()
        && let Ok(Some(dimensions)) = value::dimensions(&pair.judged.primary.ty, cell)
        && !matches!(dimensions.as_slice(), [] | [(_, 1)])
    {
        return Err(ONE_DIMENSION.to_owned());
    }
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

/// Of a type without a binary form the server takes not even a NULL in it.
fn as_text(cell: Option<&[u8]>) -> RawParam {
    RawParam(Parameter { format: Format::Text, data: cell.map(|bytes| bytes.to_vec().into()) })
}

/// A cell of the shadow's own column put back as it was.
pub fn keep(shape: &TableShape, column: usize, cell: Option<&[u8]>) -> RawParam {
    if shape.is_text(Role::Shadow, column) {
        return as_text(cell);
    }
    let numeric = shape.shadow_columns.get(column).map(|column| &column.ty);
    if let (Some(bytes), Some(ty)) = (cell, numeric.filter(|ty| is_numeric(ty)))
        && let Ok(text) = value::to_text(ty, bytes)
    {
        return RawParam(Parameter::text(text.into_bytes()));
    }
    RawParam(cell.map_or(Parameter::NULL, |bytes| Parameter::binary(bytes.to_vec())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dialect::Dialect;
    use crate::domain::value::Value;
    use crate::postgres::mapping::table::tests::shape;

    fn ty(name: &str, oid: u32, kind: TypeKind) -> Arc<PgType> {
        Arc::new(PgType { oid, name: name.to_owned(), schema: "pg_catalog".to_owned(), kind })
    }

    fn to_cockroach(primary: &Arc<PgType>, shadow: &Arc<PgType>) -> Pair {
        let mut pair = shape().pairs[0].clone();
        pair.shadow_dialect = Dialect::COCKROACHDB;
        pair.judged.primary.ty = Arc::clone(primary);
        pair.judged.shadow.ty = Arc::clone(shadow);
        pair
    }

    /// PostgreSQL sends no digits that are zero at the end, and CockroachDB takes what it is sent.
    #[test]
    fn a_number_goes_to_cockroachdb_with_all_of_its_digits() {
        let numeric = ty("numeric", 1700, TypeKind::Simple);
        let (int, many) = (ty("int8", 20, TypeKind::Simple), TypeKind::Array(numeric.clone()));
        let many = ty("_numeric", 1231, many);
        for (from, to, text) in [
            (&numeric, &numeric, "1.000"),
            (&numeric, &numeric, "0.00"),
            (&numeric, &numeric, "NaN"),
            (&int, &numeric, "10000"),
            (&many, &many, "{1.000,NULL,20000}"),
        ] {
            let value = Value::Text(text.to_owned());
            let value = match text.parse() {
                Ok(number) if from.name == "int8" => Value::Int64(number),
                _ if from.name == "numeric" => Value::Numeric(text.to_owned()),
                _ => value,
            };
            let cell = match &value {
                Value::Text(_) => array_of_numbers(&numeric, &["1.000", "", "20000"], &[(3, 1)]),
                _ => value::bind(from, &value).unwrap().data.unwrap().to_vec(),
            };
            let param = carry(&to_cockroach(from, to), Some(&cell)).unwrap().0;
            assert_eq!(param, Parameter::text(text.as_bytes().to_vec()), "{} {text}", from.name);
        }
    }

    #[test]
    fn an_array_that_cockroachdb_would_number_anew_is_refused() {
        let numeric = ty("numeric", 1700, TypeKind::Simple);
        let many = ty("_numeric", 1231, TypeKind::Array(numeric.clone()));
        let pair = to_cockroach(&many, &many);
        for (dimensions, fits) in
            [(&[(2, 1)][..], true), (&[(2, 0)], false), (&[(1, 1), (2, 1)], false)]
        {
            let cell = array_of_numbers(&numeric, &["1", "2"], dimensions);
            assert_eq!(carry(&pair, Some(&cell)).is_ok(), fits, "{dimensions:?}");
        }
    }

    /// In the server's binary format; an empty text is NULL.
    fn array_of_numbers(element: &PgType, numbers: &[&str], dimensions: &[(i32, i32)]) -> Vec<u8> {
        let count = i32::try_from(dimensions.len()).unwrap();
        let mut cell = Vec::new();
        let mut field = |field: i32| cell.extend_from_slice(&field.to_be_bytes());
        [count, 1, element.oid.cast_signed()].into_iter().for_each(&mut field);
        dimensions.iter().flat_map(|(length, lower)| [*length, *lower]).for_each(&mut field);
        for number in numbers {
            if number.is_empty() {
                cell.extend_from_slice(&(-1_i32).to_be_bytes());
                continue;
            }
            let bound = value::bind(element, &Value::Numeric((*number).to_owned())).unwrap();
            let bytes = bound.data.unwrap();
            cell.extend_from_slice(&i32::try_from(bytes.len()).unwrap().to_be_bytes());
            cell.extend_from_slice(&bytes);
        }
        cell
    }
}
