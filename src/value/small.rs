//! Types with a small format of their own: bits, hstore, vectors of numbers, places.

use std::fmt::Write;

use crate::value::array::ArrayCell;
use crate::value::error::DecodeError;
use crate::value::reader::Reader;

/// `bit` and `varbit`: the number of bits and the bytes that hold them.
pub(crate) fn bits<'a>(
    type_name: &'a str,
    cell: &'a [u8],
) -> Result<(usize, &'a [u8]), DecodeError> {
    let mut reader = Reader::new(type_name, cell);
    let count = reader.count()?;
    let bytes = reader.take(count.div_ceil(8))?;
    reader.end()?;
    Ok((count, bytes))
}

pub(crate) fn write_bits(
    type_name: &str,
    cell: &[u8],
    out: &mut String,
) -> Result<(), DecodeError> {
    let (count, bytes) = bits(type_name, cell)?;
    let all = bytes.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1));
    out.extend(all.take(count).map(|bit| if bit == 1 { '1' } else { '0' }));
    Ok(())
}

/// Runs `visit` with each pair of an `hstore`.
pub(crate) fn for_each_pair(
    cell: &[u8],
    mut visit: impl FnMut(&str, Option<&str>),
) -> Result<(), DecodeError> {
    let mut reader = Reader::new("hstore", cell);
    for _ in 0..reader.count()? {
        let length = reader.count()?;
        let key = reader.utf8(length)?;
        let length = reader.i32()?;
        let value = match usize::try_from(length) {
            Ok(length) => Some(reader.utf8(length)?),
            Err(_) if length == -1 => None,
            Err(_) => return Err(reader.malformed("a length is negative")),
        };
        visit(key, value);
    }
    reader.end()
}

pub(crate) fn write_hstore(cell: &[u8], out: &mut String) -> Result<(), DecodeError> {
    fn quoted(text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                out.push('\\');
            }
            out.push(character);
        }
        out.push('"');
    }
    let mut first = true;
    for_each_pair(cell, |key, value| {
        if !first {
            out.push_str(", ");
        }
        first = false;
        quoted(key, out);
        out.push_str("=>");
        match value {
            Some(value) => quoted(value, out),
            None => out.push_str("NULL"),
        }
    })
}

/// `int2vector` and `oidvector`: arrays by their bytes, numbers with spaces by their text.
pub(crate) fn write_vector(
    type_name: &str,
    cell: &[u8],
    out: &mut String,
) -> Result<(), DecodeError> {
    let mut array = ArrayCell::new(type_name, cell)?;
    let mut first = true;
    while let Some(element) = array.next()? {
        let part =
            element.ok_or_else(|| Reader::new(type_name, cell).malformed("an element is null"))?;
        let mut reader = Reader::new(type_name, part.bytes);
        let number = if part.bytes.len() == 2 {
            i64::from(reader.i16()?)
        } else {
            i64::from(reader.u32().map_err(|error| error.shifted(part.offset))?)
        };
        reader.end().map_err(|error| error.shifted(part.offset))?;
        if !first {
            out.push(' ');
        }
        first = false;
        let _ = write!(out, "{number}");
    }
    Ok(())
}

/// `pg_lsn`: a place in the log.
pub(crate) fn write_lsn(cell: &[u8], out: &mut String) -> Result<(), DecodeError> {
    let mut reader = Reader::new("pg_lsn", cell);
    let place = reader.u64()?;
    let _ = write!(out, "{:X}/{:X}", place >> 32, place & 0xFFFF_FFFF);
    reader.end()
}

/// `tid`: a block and a row in it.
pub(crate) fn write_tid(cell: &[u8], out: &mut String) -> Result<(), DecodeError> {
    let mut reader = Reader::new("tid", cell);
    let block = reader.u32()?;
    let _ = write!(out, "({block},{})", reader.u16()?);
    reader.end()
}

/// `uuid` in its canonical form.
pub(crate) fn write_uuid(cell: &[u8], out: &mut String) -> Result<(), DecodeError> {
    let mut reader = Reader::new("uuid", cell);
    let id = uuid::Uuid::from_u128(reader.u128()?);
    reader.end()?;
    out.push_str(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    Ok(())
}

/// `"char"`: one byte, of which only ASCII has a text on all servers.
pub(crate) fn char_text(cell: &[u8]) -> Result<Option<&str>, DecodeError> {
    let mut reader = Reader::new("char", cell);
    let bytes = reader.take(1)?;
    reader.end()?;
    Ok(match bytes {
        [0] => Some(""),
        _ => std::str::from_utf8(bytes).ok(),
    })
}
