//! Ranges and multiranges.

use crate::domain::pg_type::PgType;
use crate::value::array::is_space;
use crate::value::error::DecodeError;
use crate::value::options::TextOptions;
use crate::value::reader::{Part, Reader};
use crate::value::text::write_text;

const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;
const KNOWN: u8 = EMPTY | LOWER_INCLUSIVE | UPPER_INCLUSIVE | LOWER_INFINITE | UPPER_INFINITE;

/// A range cell taken apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeCell<'a> {
    pub(crate) empty: bool,
    pub(crate) lower_inclusive: bool,
    pub(crate) upper_inclusive: bool,
    /// `None` is unbounded.
    pub(crate) lower: Option<Part<'a>>,
    pub(crate) upper: Option<Part<'a>>,
}

impl<'a> RangeCell<'a> {
    pub(crate) fn new(type_name: &'a str, cell: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(type_name, cell);
        let flags = reader.u8()?;
        if flags & !KNOWN != 0 {
            return Err(reader.malformed("a flag is unknown"));
        }
        let empty = flags & EMPTY != 0;
        let bound = |infinite: u8, reader: &mut Reader<'a>| {
            if empty || flags & infinite != 0 { Ok(None) } else { reader.some_part().map(Some) }
        };
        let lower = bound(LOWER_INFINITE, &mut reader)?;
        let upper = bound(UPPER_INFINITE, &mut reader)?;
        reader.end()?;
        Ok(Self {
            empty,
            lower_inclusive: flags & LOWER_INCLUSIVE != 0,
            upper_inclusive: flags & UPPER_INCLUSIVE != 0,
            lower,
            upper,
        })
    }
}

/// The ranges of a multirange cell.
pub(crate) fn ranges<'a>(type_name: &'a str, cell: &'a [u8]) -> Result<Vec<Part<'a>>, DecodeError> {
    let mut reader = Reader::new(type_name, cell);
    let count = reader.count()?;
    if count > reader.remaining() / 4 {
        return Err(reader.malformed("there are more ranges than bytes"));
    }
    let parts = (0..count).map(|_| reader.some_part()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(parts)
}

pub(crate) fn write_range(
    type_name: &str,
    inner: &PgType,
    cell: &[u8],
    options: &TextOptions,
    out: &mut String,
) -> Result<(), DecodeError> {
    let range = RangeCell::new(type_name, cell)?;
    if range.empty {
        out.push_str("empty");
        return Ok(());
    }
    let bound = |part: Option<Part<'_>>, out: &mut String| {
        let Some(part) = part else { return Ok(()) };
        let mut text = String::new();
        write_text(inner, part.bytes, options, &mut text)
            .map_err(|error| error.shifted(part.offset))?;
        write_bound(&text, out);
        Ok(())
    };
    out.push(if range.lower_inclusive { '[' } else { '(' });
    bound(range.lower, out)?;
    out.push(',');
    bound(range.upper, out)?;
    out.push(if range.upper_inclusive { ']' } else { ')' });
    Ok(())
}

fn write_bound(text: &str, out: &mut String) {
    let special = |c: char| matches!(c, '"' | '\\' | '(' | ')' | '[' | ']' | ',') || is_space(c);
    write_doubled(text, text.is_empty() || text.contains(special), out);
}

/// Text in quotes where need be, with quotes and backslashes in it doubled.
pub(crate) fn write_doubled(text: &str, quoted: bool, out: &mut String) {
    if quoted {
        out.push('"');
    }
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push(character);
        }
        out.push(character);
    }
    if quoted {
        out.push('"');
    }
}

/// `inner` is the range type, or what it ranges over: drivers differ in what they report.
pub(crate) fn write_multirange(
    type_name: &str,
    inner: &PgType,
    cell: &[u8],
    options: &TextOptions,
    out: &mut String,
) -> Result<(), DecodeError> {
    out.push('{');
    for (index, part) in ranges(type_name, cell)?.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_range(type_name, inner, part.bytes, options, out)
            .map_err(|error| error.shifted(part.offset))?;
    }
    out.push('}');
    Ok(())
}
