//! Finding where messages begin and end.

use std::io;

/// Bytes of a message's type and length.
const HEADER: usize = 5;
/// Bytes of the length, which counts itself.
const LENGTH: usize = 4;

/// Whole requests at the beginning of what a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// A packet before the login, with its code.
    Startup(usize, u32),
    /// Messages up to a `Sync`, or a simple query.
    Unit { bytes: usize, mergeable: bool },
    /// A message that is answered by none of its own, or in its own way.
    Other(usize),
}

/// A packet before the login; nothing where it is not complete.
pub(super) fn startup(bytes: &[u8]) -> io::Result<Option<Piece>> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    let Some(code) = rest.first_chunk() else { return Ok(None) };
    if length < 2 * LENGTH {
        return Err(malformed("a packet before the login is too short"));
    }
    let complete = bytes.len() >= length;
    Ok(complete.then(|| Piece::Startup(length, u32::from_be_bytes(*code))))
}

/// The next request; nothing where it is not complete.
pub(super) fn piece(bytes: &[u8]) -> io::Result<Option<Piece>> {
    let (mut at, mut seen) = (0, Seen::Nothing);
    while let Some((tag, length)) = header(bytes.get(at..).unwrap_or_default())? {
        let end = at + length;
        if bytes.len() < end {
            return Ok(None);
        }
        match (tag, at) {
            (b'S', _) => {
                let mergeable = seen == Seen::Executed;
                return Ok(Some(Piece::Unit { bytes: end, mergeable }));
            }
            (b'Q', 0) => return Ok(Some(Piece::Unit { bytes: end, mergeable: false })),
            // A COPY is answered by messages that this knows nothing of.
            (b'd' | b'c' | b'f', _) => return Err(malformed("COPY in a session of callers")),
            (b'B' | b'E' | b'P' | b'D' | b'C' | b'H', _) => seen = seen.and(tag),
            (_, 0) => return Ok(Some(Piece::Other(end))),
            _ => seen = Seen::Else,
        }
        at = end;
    }
    Ok(None)
}

/// What a request has so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Bound,
    /// A statement that was prepared before is bound and executed, and nothing else.
    Executed,
    Else,
}

impl Seen {
    fn and(self, tag: u8) -> Self {
        match (self, tag) {
            (Self::Nothing, b'B') => Self::Bound,
            (Self::Bound, b'E') => Self::Executed,
            _ => Self::Else,
        }
    }
}

/// A message's type, and its bytes with its header.
fn header(bytes: &[u8]) -> io::Result<Option<(u8, usize)>> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    whole(*header).map(Some)
}

fn whole([tag, length @ ..]: [u8; HEADER]) -> io::Result<(u8, usize)> {
    match u32::from_be_bytes(length) as usize {
        length if length >= LENGTH => Ok((tag, 1 + length)),
        _ => Err(malformed("a message's length is less than its own")),
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the protocol was broken: {what}"))
}

/// Where messages end in what a server sends, whatever pieces it comes in.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the message's body that have not.
    body: usize,
}

impl Scanner {
    /// How many bytes belong to the present message, and its type where it ends with them.
    pub(super) fn next(&mut self, bytes: &[u8]) -> io::Result<(usize, Option<u8>)> {
        let mut taken = 0;
        if self.have < HEADER {
            for (to, from) in self.header.iter_mut().skip(self.have).zip(bytes) {
                *to = *from;
                taken += 1;
            }
            self.have += taken;
            if self.have < HEADER {
                return Ok((taken, None));
            }
            self.body = whole(self.header)?.1 - HEADER;
        }
        let body = self.body.min(bytes.len() - taken);
        self.body -= body;
        taken += body;
        if self.body > 0 {
            return Ok((taken, None));
        }
        self.have = 0;
        Ok((taken, Some(self.header[0])))
    }
}
