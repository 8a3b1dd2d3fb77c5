//! Full text search: `tsvector` and `tsquery`.

use std::fmt::Write;

use crate::value::error::DecodeError;
use crate::value::reader::Reader;

/// Queries nested deeper than this are not decoded.
const DEPTH_MAX: u32 = 256;

const ITEM_VALUE: u8 = 1;
const ITEM_OPERATOR: u8 = 2;
const NOT: u8 = 1;
const AND: u8 = 2;
const OR: u8 = 3;
const PHRASE: u8 = 4;

const WEIGHT_SHIFT: u16 = 14;
const POSITION_MASK: u16 = 0x3FFF;

fn write_lexeme(lexeme: &str, out: &mut String) {
    out.push('\'');
    for character in lexeme.chars() {
        if matches!(character, '\'' | '\\') {
            out.push(character);
        }
        out.push(character);
    }
    out.push('\'');
}

pub(crate) fn write_vector(cell: &[u8], out: &mut String) -> Result<(), DecodeError> {
    let mut reader = Reader::new("tsvector", cell);
    for index in 0..reader.count()? {
        if index > 0 {
            out.push(' ');
        }
        write_lexeme(reader.cstring()?, out);
        for position in 0..reader.u16()? {
            let entry = reader.u16()?;
            out.push(if position == 0 { ':' } else { ',' });
            let _ = write!(out, "{}", entry & POSITION_MASK);
            match entry >> WEIGHT_SHIFT {
                3 => out.push('A'),
                2 => out.push('B'),
                1 => out.push('C'),
                _ => {}
            }
        }
    }
    reader.end()
}

pub(crate) fn write_query(cell: &[u8], out: &mut String) -> Result<(), DecodeError> {
    let mut reader = Reader::new("tsquery", cell);
    if reader.count()? > 0 {
        write_item(&mut reader, 0, false, 0, out)?;
    }
    reader.end()
}

fn priority(operator: u8) -> u8 {
    match operator {
        NOT => 4,
        PHRASE => 3,
        AND => 2,
        _ => 1,
    }
}

/// Items come in Polish order, the right operand before the left one. Parentheses stand
/// where the server puts them.
fn write_item(
    reader: &mut Reader<'_>,
    parent: u8,
    right_of_phrase: bool,
    depth: u32,
    out: &mut String,
) -> Result<(), DecodeError> {
    if depth > DEPTH_MAX {
        return Err(DecodeError::not_decoded("tsquery"));
    }
    match reader.u8()? {
        ITEM_VALUE => write_value(reader, out),
        ITEM_OPERATOR => {
            let operator = reader.u8()?;
            if !matches!(operator, NOT | AND | OR | PHRASE) {
                return Err(reader.malformed("the operator is unknown"));
            }
            let own = priority(operator);
            let parentheses = own < parent || (operator != NOT && right_of_phrase);
            if parentheses {
                out.push_str("( ");
            }
            if operator == NOT {
                out.push('!');
                write_item(reader, own, false, depth + 1, out)?;
            } else {
                let distance = if operator == PHRASE { reader.u16()? } else { 0 };
                let mut right = String::new();
                write_item(reader, own, operator == PHRASE, depth + 1, &mut right)?;
                write_item(reader, own, false, depth + 1, out)?;
                match (operator, distance) {
                    (AND, _) => out.push_str(" & "),
                    (OR, _) => out.push_str(" | "),
                    (_, 1) => out.push_str(" <-> "),
                    (_, distance) => {
                        let _ = write!(out, " <{distance}> ");
                    }
                }
                out.push_str(&right);
            }
            if parentheses {
                out.push_str(" )");
            }
            Ok(())
        }
        _ => Err(reader.malformed("the item is unknown")),
    }
}

fn write_value(reader: &mut Reader<'_>, out: &mut String) -> Result<(), DecodeError> {
    let weights = reader.u8()?;
    let prefix = reader.u8()? != 0;
    write_lexeme(reader.cstring()?, out);
    if weights != 0 || prefix {
        out.push(':');
        if prefix {
            out.push('*');
        }
        for (bit, letter) in [(8, 'A'), (4, 'B'), (2, 'C'), (1, 'D')] {
            if weights & bit != 0 {
                out.push(letter);
            }
        }
    }
    Ok(())
}
