//! Reading big-endian fields from a cell, with the place kept for errors.

use crate::value::error::DecodeError;

/// A cell being read from its front.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    type_name: &'a str,
    cell: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(type_name: &'a str, cell: &'a [u8]) -> Self {
        Self { type_name, cell, offset: 0 }
    }

    /// Bytes not yet read.
    pub(crate) fn remaining(&self) -> usize {
        self.cell.len().saturating_sub(self.offset)
    }

    pub(crate) fn malformed(&self, problem: &'static str) -> DecodeError {
        DecodeError::Malformed {
            type_name: self.type_name.to_owned(),
            offset: self.offset,
            problem,
        }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.offset.checked_add(length);
        let Some(part) = end.and_then(|end| self.cell.get(self.offset..end)) else {
            return Err(self.malformed("the cell is too short"));
        };
        self.offset = self.offset.saturating_add(length);
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let start = self.offset;
        let part = self.take(N)?;
        part.try_into().map_err(|_| DecodeError::Malformed {
            type_name: self.type_name.to_owned(),
            offset: start,
            problem: "the cell is too short",
        })
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn f32(&mut self) -> Result<f32, DecodeError> {
        self.u32().map(f32::from_bits)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, DecodeError> {
        self.u64().map(f64::from_bits)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.array().map(u128::from_be_bytes)
    }

    /// A count that cannot be negative.
    pub(crate) fn count(&mut self) -> Result<usize, DecodeError> {
        let problem = self.malformed("a count is negative");
        usize::try_from(self.i32()?).map_err(|_| problem)
    }

    /// A part with its length before it; -1 is NULL.
    pub(crate) fn part(&mut self) -> Result<Option<Part<'a>>, DecodeError> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let Ok(length) = usize::try_from(length) else {
            return Err(self.malformed("a length is negative"));
        };
        let offset = self.offset;
        Ok(Some(Part { offset, bytes: self.take(length)? }))
    }

    /// As [`Self::part`] where NULL cannot be.
    pub(crate) fn some_part(&mut self) -> Result<Part<'a>, DecodeError> {
        let problem = self.malformed("a part is null");
        self.part()?.ok_or(problem)
    }

    /// Text up to a zero byte, which is read as well.
    pub(crate) fn cstring(&mut self) -> Result<&'a str, DecodeError> {
        let rest = self.cell.get(self.offset..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == 0) else {
            return Err(self.malformed("a text has no end"));
        };
        let text = self.utf8(length)?;
        self.offset = self.offset.saturating_add(1);
        Ok(text)
    }

    /// So many bytes as text.
    pub(crate) fn utf8(&mut self, length: usize) -> Result<&'a str, DecodeError> {
        let start = self.offset;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|error| DecodeError::Malformed {
            type_name: self.type_name.to_owned(),
            offset: start.saturating_add(error.valid_up_to()),
            problem: "the text is not UTF-8",
        })
    }

    /// The rest as text.
    pub(crate) fn rest_utf8(&mut self) -> Result<&'a str, DecodeError> {
        self.utf8(self.remaining())
    }

    /// Ends the reading: nothing may be left.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.malformed("bytes are left over")) }
    }
}

/// A part of a cell and where it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) offset: usize,
    pub(crate) bytes: &'a [u8],
}
