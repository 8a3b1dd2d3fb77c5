//! The writes that a later read must see.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::domain::key::{OutboxMark, WriteId};

/// Writes that are named one by one; with more of them a moment stands for all. Named ones settle
/// each by itself, and so many fit an HTTP header beside the rest of an error.
pub const WRITES_MAX: usize = 16;

/// The first character of a token's text.
const FORMAT: &str = "1";
/// 64 and 128 bits in hexadecimal.
const MARK_DIGITS: usize = 16;
const ID_DIGITS: usize = 32;

/// Writes that a read must see: some by their ids, and all that were committed before a moment.
/// Its text is opaque to callers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Token {
    writes: BTreeSet<WriteId>,
    before: Option<OutboxMark>,
}

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the consistency token is not one: pass what an answer gave, as it is")]
pub struct NotAToken;

// === impl Token ===

impl Token {
    /// A moment after every write: what it covers has settled when nothing at all waits.
    pub const EVERYTHING: OutboxMark = OutboxMark(i64::MAX);

    /// A token of one write.
    pub fn of(write: WriteId) -> Self {
        Self { writes: BTreeSet::from([write]), before: None }
    }

    /// A token of all writes that were committed before a moment.
    pub fn of_all_before(mark: OutboxMark) -> Self {
        Self { writes: BTreeSet::new(), before: Some(mark) }
    }

    /// Whether it covers nothing: every read sees what it must.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.before.is_none()
    }

    /// Whether its writes are too many to be named one by one.
    pub fn is_too_long(&self) -> bool {
        self.writes.len() > WRITES_MAX
    }

    /// The writes that it names.
    pub fn writes(&self) -> impl Iterator<Item = WriteId> + '_ {
        self.writes.iter().copied()
    }

    /// The moment before which it covers all writes.
    pub fn before(&self) -> Option<OutboxMark> {
        self.before
    }

    /// Covers what another one covers as well.
    pub fn absorb(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.before = self.before.max(other.before);
    }

    /// Covers a write no longer: it has settled.
    pub fn forget(&mut self, write: WriteId) {
        self.writes.remove(&write);
    }

    /// Covers what was before its moment no longer: it has settled.
    pub fn forget_before(&mut self) {
        self.before = None;
    }
}

impl From<Option<WriteId>> for Token {
    fn from(write: Option<WriteId>) -> Self {
        write.map(Self::of).unwrap_or_default()
    }
}

impl fmt::Display for Token {
    /// Nothing for the empty token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        write!(f, "{FORMAT}.")?;
        if let Some(OutboxMark(before)) = self.before {
            write!(f, "{before:016x}")?;
        }
        f.write_str(".")?;
        self.writes.iter().try_for_each(|WriteId(id)| write!(f, "{id:032x}"))
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.') {
            return Err(NotAToken);
        }
        let mut parts = text.split('.');
        let (Some(FORMAT), Some(before), Some(ids), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotAToken);
        };
        let before = match before.len() {
            0 => None,
            MARK_DIGITS => {
                let bits = u64::from_str_radix(before, 16).map_err(|_| NotAToken)?;
                Some(OutboxMark(bits.cast_signed()))
            }
            _ => return Err(NotAToken),
        };
        if ids.len() % ID_DIGITS != 0 {
            return Err(NotAToken);
        }
        let starts = (0..ids.len()).step_by(ID_DIGITS);
        let writes = starts.map(|at| {
            let digits = ids.get(at..at + ID_DIGITS).ok_or(NotAToken)?;
            u128::from_str_radix(digits, 16).map(WriteId).map_err(|_| NotAToken)
        });
        Ok(Self { writes: writes.collect::<Result<_, _>>()?, before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: &[u128], before: Option<i64>) -> Token {
        let writes = ids.iter().copied().map(WriteId).collect();
        Token { writes, before: before.map(OutboxMark) }
    }

    #[test]
    fn a_token_is_read_back_from_its_text() {
        let many: Vec<u128> = (0..16).collect();
        for token in [
            Token::default(),
            of(&[7], None),
            of(&[1, u128::MAX], Some(-1)),
            of(&[], Some(i64::MAX)),
            of(&many, Some(0)),
        ] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        assert_eq!(Token::default().to_string(), "");
        assert!(of(&many, Some(0)).to_string().len() < 1024);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let id = "0".repeat(32);
        for text in [
            "1",
            "1.",
            "..",
            "2..",
            "1..0",
            "1.0.",
            "1..zz",
            &format!("1..{id}."),
            &format!("1..+{}", &id[1..]),
            "0af76519-16cd-43dd-8448-eb211c80319c",
            "1..äöäöäöäöäöäöäöäö",
        ] {
            assert_eq!(text.parse::<Token>(), Err(NotAToken), "{text}");
        }
    }

    #[test]
    fn two_tokens_cover_what_either_covers() {
        let mut token = of(&[1, 2], Some(5));
        token.absorb(of(&[2, 3], Some(4)));
        assert_eq!(token, of(&[1, 2, 3], Some(5)));
        token.absorb(of(&[], Some(9)));
        token.forget(WriteId(2));
        assert_eq!(token, of(&[1, 3], Some(9)));
        token.forget_before();
        assert_eq!(token, of(&[1, 3], None));
    }
}
