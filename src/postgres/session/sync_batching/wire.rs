//! What requests and answers become.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, BytesMut};

use super::SKIPPED;
use super::scan::{self, Piece, Scanner};

/// Requests in one piece: an answer waits for the last of them.
pub(in crate::postgres) const MERGED_MAX: usize = 16;
/// Requests after a failed one that are not merged: what fails once may do so again.
const APART_AFTER_FAILURE: u32 = 256;

const SYNC: &[u8] = b"S\0\0\0\x04";
/// `ReadyForQuery`, outside a transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";
/// Before the login: a request for TLS or GSS encryption, which one byte answers.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// How the answer to a request will end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the statement: the next request is in the same piece.
    Statement,
    /// With `ReadyForQuery`.
    Ready,
}

/// Both directions of a connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    logged_in: bool,
    /// Answers of one byte that will come.
    encryption_answers: usize,
    /// What was given and is no whole request yet.
    partial: BytesMut,
    /// What is to be sent.
    pub(super) sent: BytesMut,
    /// Requests that have no answer yet.
    ends: VecDeque<End>,
    /// Those whose `Sync` was left out.
    merged: usize,
    scanner: Scanner,
    /// The first of those has failed: the server skips the others.
    failed: bool,
    apart_for: u32,
}

// === impl Wire ===

impl Wire {
    /// Takes what the driver sends.
    ///
    /// # Errors
    ///
    /// Where it is not the protocol.
    pub(super) fn send(&mut self, bytes: &[u8], may_merge: bool) -> io::Result<()> {
        self.partial.extend_from_slice(bytes);
        // Requests whose last `Sync` is held back.
        let mut held = 0;
        while let Some(piece) = self.piece()? {
            match piece {
                Piece::Startup(bytes, code) => {
                    if ENCRYPTION.contains(&code) {
                        self.encryption_answers += 1;
                    } else {
                        self.logged_in = true;
                    }
                    self.pass_on(bytes, 0);
                }
                Piece::Other(bytes) => {
                    self.release(&mut held);
                    self.pass_on(bytes, 0);
                }
                Piece::Unit { bytes, mergeable } => {
                    let merges = mergeable && may_merge && self.apart_for == 0;
                    self.apart_for = self.apart_for.saturating_sub(1);
                    if held > 0 && merges && held < MERGED_MAX {
                        self.ends.push_back(End::Statement);
                        self.merged += 1;
                    } else {
                        self.release(&mut held);
                    }
                    if merges {
                        self.pass_on(bytes, SYNC.len());
                        held += 1;
                    } else {
                        self.pass_on(bytes, 0);
                        self.ends.push_back(End::Ready);
                    }
                }
            }
        }
        self.release(&mut held);
        Ok(())
    }

    fn piece(&self) -> io::Result<Option<Piece>> {
        if self.logged_in { scan::piece(&self.partial) } else { scan::startup(&self.partial) }
    }

    /// Sends so many bytes, but for the last ones.
    fn pass_on(&mut self, bytes: usize, but: usize) {
        let sent = self.partial.get(..bytes - but).unwrap_or_default();
        self.sent.extend_from_slice(sent);
        self.partial.advance(bytes);
    }

    /// Sends the `Sync` that was held back.
    fn release(&mut self, held: &mut usize) {
        if *held > 0 {
            self.sent.extend_from_slice(SYNC);
            self.ends.push_back(End::Ready);
            *held = 0;
        }
    }

    /// Whether the next answers are for the driver just as they are.
    pub(super) fn is_plain(&self) -> bool {
        self.merged == 0
    }

    /// Looks at what the server has sent, and puts it with what belongs behind its messages
    /// into `into`.
    ///
    /// # Errors
    ///
    /// Where it is not the protocol.
    pub(super) fn receive(&mut self, bytes: &[u8], into: &mut BytesMut) -> io::Result<()> {
        self.look(bytes, into, |bytes, into| into.extend_from_slice(bytes))
    }

    /// The same for what the driver has already, while it [is plain](Self::is_plain).
    pub(super) fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.look(bytes, &mut BytesMut::new(), |_, _| ())
    }

    fn look(
        &mut self,
        mut bytes: &[u8],
        into: &mut BytesMut,
        take: impl Fn(&[u8], &mut BytesMut),
    ) -> io::Result<()> {
        while self.encryption_answers > 0
            && let Some((answer, rest)) = bytes.split_at_checked(1)
        {
            self.encryption_answers -= 1;
            take(answer, into);
            bytes = rest;
        }
        while !bytes.is_empty() {
            let (taken, ended) = self.scanner.next(bytes)?;
            let (message, rest) = bytes.split_at(taken);
            take(message, into);
            bytes = rest;
            if let Some(tag) = ended {
                self.ended(tag, into)?;
            }
        }
        Ok(())
    }

    fn ended(&mut self, tag: u8, into: &mut BytesMut) -> io::Result<()> {
        match (tag, self.ends.front()) {
            // CommandComplete, EmptyQueryResponse, PortalSuspended.
            (b'C' | b'I' | b's', Some(End::Statement)) => {
                self.pop();
                into.extend_from_slice(READY);
            }
            (b'E', Some(End::Statement)) => self.failed = true,
            (b'Z', Some(End::Statement)) if self.failed => self.skip(into),
            (b'Z', Some(End::Statement)) => {
                let message = "the server was ready before it had answered all requests";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            (b'Z', Some(End::Ready)) => {
                self.pop();
            }
            _ => {}
        }
        Ok(())
    }

    /// The server is ready after an error: it has skipped what stood behind that.
    fn skip(&mut self, into: &mut BytesMut) {
        self.failed = false;
        self.apart_for = APART_AFTER_FAILURE;
        // The one that failed has its answer.
        let mut last = self.pop();
        while last == Some(End::Statement) {
            last = self.pop();
            into.extend_from_slice(&skipped());
            into.extend_from_slice(READY);
        }
    }

    fn pop(&mut self) -> Option<End> {
        let end = self.ends.pop_front();
        self.merged -= usize::from(end == Some(End::Statement));
        end
    }
}

/// The `ErrorResponse` to a request that was skipped.
fn skipped() -> Vec<u8> {
    let fields =
        format!("SERROR\0VERROR\0C{SKIPPED}\0Mskipped behind a failed request in one piece\0\0");
    let mut message = vec![b'E', 0, 0, 0];
    // Its length is a constant below 256.
    message.push(u8::try_from(fields.len() + 4).unwrap_or(u8::MAX));
    message.extend_from_slice(fields.as_bytes());
    message
}
