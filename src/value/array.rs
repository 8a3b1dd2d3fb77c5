//! Arrays: their shape, their binary form and their text.

use bytes::{BufMut, BytesMut};

use crate::domain::pg_type::{PgType, TypeKind};
use crate::value::error::DecodeError;
use crate::value::options::TextOptions;
use crate::value::reader::{Part, Reader};
use crate::value::text::write_text;

/// PostgreSQL's limit.
pub(crate) const DIMENSIONS_MAX: usize = 6;

/// The shape of an array: length and lower bound of up to six dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dimensions {
    count: usize,
    each: [(u32, i32); DIMENSIONS_MAX],
}

impl Dimensions {
    /// Length and lower bound of each dimension; empty for an empty array.
    pub fn as_slice(&self) -> &[(u32, i32)] {
        self.each.get(..self.count).unwrap_or_default()
    }

    /// The product of the lengths; 0 without dimensions.
    pub fn element_count(&self) -> usize {
        if self.count == 0 { 0 } else { self.product().unwrap_or(0) }
    }

    fn product(&self) -> Option<usize> {
        self.as_slice().iter().try_fold(1usize, |product, (length, _)| {
            product.checked_mul(usize::try_from(*length).ok()?)
        })
    }
}

/// The dimensions of an array; `None` where the type is no array.
///
/// # Errors
///
/// [`DecodeError`] where the cell is malformed.
pub fn dimensions(ty: &PgType, cell: &[u8]) -> Result<Option<Dimensions>, DecodeError> {
    let ty = ty.base();
    let TypeKind::Array(_) = ty.kind else { return Ok(None) };
    ArrayCell::new(&ty.name, cell).map(|array| Some(array.dimensions))
}

/// An array's head, and its elements yet to be read.
#[derive(Debug, Clone)]
pub(crate) struct ArrayCell<'a> {
    pub(crate) dimensions: Dimensions,
    left: usize,
    reader: Reader<'a>,
}

impl<'a> ArrayCell<'a> {
    pub(crate) fn new(type_name: &'a str, cell: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(type_name, cell);
        let count = reader.count()?;
        if count > DIMENSIONS_MAX {
            return Err(reader.malformed("the array has too many dimensions"));
        }
        let _has_null = reader.i32()?;
        let _element_oid = reader.u32()?;
        let mut dimensions = Dimensions { count, ..Dimensions::default() };
        for place in dimensions.each.iter_mut().take(count) {
            let negative = reader.malformed("a dimension is negative");
            let length = u32::try_from(reader.i32()?).map_err(|_| negative)?;
            *place = (length, reader.i32()?);
        }
        let too_large = || reader.malformed("the array has more elements than bytes");
        let left = if count == 0 { 0 } else { dimensions.product().ok_or_else(too_large)? };
        // Each element has four bytes of length at least.
        if left > reader.remaining() / 4 {
            return Err(too_large());
        }
        if left == 0 {
            dimensions = Dimensions::default();
        }
        Ok(Self { dimensions, left, reader })
    }

    /// The next element: `None` at the end, `Some(None)` for NULL.
    pub(crate) fn next(&mut self) -> Result<Option<Option<Part<'a>>>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else {
            self.reader.end()?;
            return Ok(None);
        };
        self.left = left;
        self.reader.part().map(Some)
    }
}

/// Writes a binary array's head.
pub(crate) fn put_head(
    dimensions: &[(u32, i32)],
    has_null: bool,
    element_oid: u32,
    out: &mut BytesMut,
) {
    out.put_i32(i32::try_from(dimensions.len()).unwrap_or(0));
    out.put_i32(i32::from(has_null));
    out.put_u32(element_oid);
    for (length, lower_bound) in dimensions {
        out.put_u32(*length);
        out.put_i32(*lower_bound);
    }
}

/// Writes PostgreSQL's text of an array whose elements' texts come from `element`.
/// `element` appends an element's text and says `false` for NULL.
pub(crate) fn write_array_text<E>(
    dimensions: &[(u32, i32)],
    out: &mut String,
    mut element: impl FnMut(&mut String) -> Result<bool, E>,
) -> Result<(), E> {
    let count = dimensions.iter().fold(1usize, |product, (length, _)| {
        product.saturating_mul(usize::try_from(*length).unwrap_or(usize::MAX))
    });
    if dimensions.is_empty() || count == 0 {
        out.push_str("{}");
        return Ok(());
    }
    if dimensions.iter().any(|(_, lower_bound)| *lower_bound != 1) {
        for (length, lower_bound) in dimensions {
            let upper = i64::from(*lower_bound) + i64::from(*length) - 1;
            out.push_str(&format!("[{lower_bound}:{upper}]"));
        }
        out.push('=');
    }
    let mut text = String::new();
    for index in 0..count {
        // A brace opens or closes for each dimension whose row begins or ends here.
        let mut opening = dimensions.len();
        let mut row = 1usize;
        for (depth, (length, _)) in dimensions.iter().enumerate().rev() {
            row = row.saturating_mul(usize::try_from(*length).unwrap_or(usize::MAX));
            if index.is_multiple_of(row) {
                opening = depth;
            }
        }
        if index > 0 {
            for _ in opening..dimensions.len() {
                out.push('}');
            }
            out.push(',');
        }
        for _ in opening..dimensions.len() {
            out.push('{');
        }
        text.clear();
        if element(&mut text)? {
            write_quoted(&text, out);
        } else {
            out.push_str("NULL");
        }
    }
    for _ in dimensions {
        out.push('}');
    }
    Ok(())
}

/// White space as PostgreSQL's arrays, ranges and rows see it.
pub(crate) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn write_quoted(text: &str, out: &mut String) {
    let special = |c: char| matches!(c, '"' | '\\' | '{' | '}' | ',') || is_space(c);
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(special) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}

/// Writes the text of a binary array.
pub(crate) fn write_array(
    type_name: &str,
    element: &PgType,
    cell: &[u8],
    options: &TextOptions,
    out: &mut String,
) -> Result<(), DecodeError> {
    let mut array = ArrayCell::new(type_name, cell)?;
    let dimensions = array.dimensions;
    write_array_text(dimensions.as_slice(), out, |text| match array.next()?.flatten() {
        None => Ok(false),
        Some(part) => {
            write_text(element, part.bytes, options, text)
                .map_err(|error| error.shifted(part.offset))?;
            Ok(true)
        }
    })?;
    // What is left over after the last element is a fault.
    array.next().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_their_braces() {
        let mut out = String::new();
        let mut number = 0;
        let result: Result<(), ()> = write_array_text(&[(2, 0), (3, 1)], &mut out, |text| {
            number += 1;
            text.push_str(&number.to_string());
            Ok(number != 5)
        });
        assert_eq!(result, Ok(()));
        assert_eq!(out, "[0:1][1:3]={{1,2,3},{4,NULL,6}}");
    }

    #[test]
    fn a_huge_shape_is_refused_before_anything_is_made() {
        let mut cell = BytesMut::new();
        put_head(&[(i32::MAX as u32, 1), (i32::MAX as u32, 1)], false, 23, &mut cell);
        assert!(ArrayCell::new("_int4", &cell).is_err());
    }
}
