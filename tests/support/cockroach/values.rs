//! What CockroachDB makes of the values that a statement is given (`pgwirebase/encoding.go`).

use std::borrow::Cow;

use super::refuse::{Bound, Refusal};

const NUMERIC: u32 = 1700;
/// Arrays of the types that PostgreSQL comes with and CockroachDB has.
const ARRAYS: [u32; 25] = [
    1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1041, 1115, 1182,
    1183, 1185, 1187, 1231, 1270, 1561, 1563, 2951, 3807,
];
/// Of a numeric: count of digits, weight, sign, scale; each digit is of four decimal ones.
const NUMERIC_HEADER: usize = 8;
const DIGITS: i32 = 4;
/// From here on the sign says that it is no number.
const NO_NUMBER: u16 = 0xC000;
/// Of an array: count of dimensions, whether there are NULLs, the type; of each dimension the length
/// and the lower bound.
const ARRAY_HEADER: usize = 12;
const DIMENSION: usize = 8;
const FIRST: i32 = 1;

/// What becomes of the body of a `Bind`, whose parameters have these types.
pub fn bound(body: &[u8], types: &[u32]) -> Bound {
    // A body of another form is for the server to refuse.
    read(body, types).unwrap_or(Bound::Same)
}

fn read(body: &[u8], types: &[u32]) -> Option<Bound> {
    let mut rest = Reader { body, at: 0 };
    rest.text()?;
    rest.text()?;
    let formats: Vec<u16> = (0..rest.u16()?).map(|_| rest.u16()).collect::<Option<_>>()?;
    let count = rest.u16()?;
    let (mut out, mut is_same) = (body[..rest.at].to_vec(), true);
    for number in 0..usize::from(count) {
        let length = rest.i32()?;
        out.extend_from_slice(&length.to_be_bytes());
        let Ok(length) = usize::try_from(length) else { continue };
        let value = rest.take(length)?;
        let format = if formats.len() == 1 { formats.first() } else { formats.get(number) };
        let is_binary = format == Some(&1);
        let taken = match types.get(number) {
            Some(&NUMERIC) if is_binary => numeric(value),
            Some(oid) if ARRAYS.contains(oid) => match array(value, is_binary) {
                Some(value) => value,
                None => return Some(Bound::Refused(of_several_dimensions())),
            },
            _ => Cow::Borrowed(value),
        };
        is_same &= taken == value;
        out.extend_from_slice(&taken);
    }
    out.extend_from_slice(&body[rest.at..]);
    Some(if is_same { Bound::Same } else { Bound::Instead(out) })
}

fn of_several_dimensions() -> Refusal {
    Refusal {
        sqlstate: "0A000".to_owned(),
        message: "unimplemented: multi-dimensional arrays".to_owned(),
        before: String::new(),
        first: None,
    }
}

/// A numeric without the zeros at its end.
fn numeric(value: &[u8]) -> Cow<'_, [u8]> {
    let field = |at: usize| Some(u16::from_be_bytes(*value.get(at..)?.first_chunk()?));
    let header = || Some((field(0)?, field(2)?.cast_signed(), field(4)?, field(6)?));
    let Some((count, weight, sign, scale)) = header() else { return Cow::Borrowed(value) };
    if sign >= NO_NUMBER {
        return Cow::Borrowed(value);
    }
    // Decimal digits behind the point up to the last that is not zero.
    let last = (0..count).rev().find_map(|number| {
        let digit = field(NUMERIC_HEADER + 2 * usize::from(number)).filter(|it| *it != 0)?;
        let zeros = [10, 100, 1000].into_iter().filter(|it| digit.is_multiple_of(*it)).count();
        let behind = (i32::from(number) - i32::from(weight)) * DIGITS;
        Some(behind - i32::try_from(zeros).ok()?)
    });
    let needed = u16::try_from(last.unwrap_or_default().max(0)).unwrap_or(scale).min(scale);
    let mut taken = value.to_vec();
    taken[6..NUMERIC_HEADER].copy_from_slice(&needed.to_be_bytes());
    Cow::Owned(taken)
}

/// An array whose first element has the number 1; none where it has several dimensions.
fn array(value: &[u8], is_binary: bool) -> Option<Cow<'_, [u8]>> {
    if !is_binary {
        // A lower bound stands before it.
        let inside = value.iter().position(|it| *it == b'{').map(|at| &value[at + 1..]);
        let is_nested = inside.is_some_and(|it| it.trim_ascii_start().starts_with(b"{"));
        return (!is_nested).then_some(Cow::Borrowed(value));
    }
    let mut rest = Reader { body: value, at: 0 };
    let (Some(dimensions), Some(_), Some(of)) = (rest.i32(), rest.i32(), rest.i32()) else {
        return Some(Cow::Borrowed(value));
    };
    match dimensions {
        0 => Some(Cow::Borrowed(value)),
        1 => elements(value, of.cast_unsigned() == NUMERIC).or(Some(Cow::Borrowed(value))),
        _ => None,
    }
}

fn elements(value: &[u8], are_numerics: bool) -> Option<Cow<'_, [u8]>> {
    let mut rest = Reader { body: value, at: ARRAY_HEADER };
    let length = rest.i32()?;
    rest.i32()?;
    let mut taken = value[..ARRAY_HEADER].to_vec();
    taken.extend_from_slice(&length.to_be_bytes());
    taken.extend_from_slice(&FIRST.to_be_bytes());
    if !are_numerics {
        taken.extend_from_slice(&value[ARRAY_HEADER + DIMENSION..]);
        return Some(Cow::Owned(taken));
    }
    for _ in 0..length {
        let length = rest.i32()?;
        taken.extend_from_slice(&length.to_be_bytes());
        if let Ok(length) = usize::try_from(length) {
            taken.extend_from_slice(&numeric(rest.take(length)?));
        }
    }
    Some(Cow::Owned(taken))
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.body.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    /// One that a zero byte ends.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.body.get(self.at..)?.iter().position(|it| *it == 0)?;
        self.take(length + 1)
    }
}
