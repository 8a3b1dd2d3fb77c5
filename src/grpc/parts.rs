//! One answer in messages.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::{Peekable, Stream, StreamExt};
use prost::Message;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::grpc::answer::{COLUMNS_BYTES, Frame, Frames};
use crate::grpc::proto;
use crate::stack::call::ReadAnswer;

/// One answer in messages: rows that are waited for, with what is ready of the rest. A short answer
/// is one message.
pub(super) struct Parts {
    frames: Peekable<Frames>,
    part: proto::QueryResponse,
    bytes_max: usize,
}

/// How far an answer has come.
pub(super) enum Part {
    /// A message, and there is more.
    More(proto::QueryResponse),
    /// The last message.
    Last(proto::QueryResponse),
    /// The answer broke off.
    Failed(Box<SqlFault>),
}

impl Parts {
    /// Messages of at most about `bytes_max`, except that a row is never split.
    pub(super) fn new(answer: ReadAnswer, encoding: proto::Encoding, bytes_max: usize) -> Self {
        let frames = Frames::new(answer, encoding, bytes_max).peekable();
        Self { frames, part: proto::QueryResponse::default(), bytes_max }
    }

    /// The next message; not to be asked for after the last one or a fault.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Part> {
        let mut frames = Pin::new(&mut self.frames);
        loop {
            // A header of very many columns does not share its message with a large row.
            if let Some(header) = &self.part.header
                && let Some(Ok(Frame::Rows(rows))) = ready!(frames.as_mut().poll_peek(cx))
                && header.encoded_len().saturating_sub(COLUMNS_BYTES) + rows.encoded_len()
                    > self.bytes_max
            {
                return Poll::Ready(Part::More(std::mem::take(&mut self.part)));
            }
            match ready!(frames.as_mut().poll_next(cx)) {
                Some(Ok(Frame::Header(header))) => {
                    self.part.header = Some(header);
                    continue;
                }
                Some(Ok(Frame::Rows(rows))) => self.part.rows = Some(rows),
                Some(Ok(Frame::Footer(footer))) => {
                    self.part.footer = Some(footer);
                    return Poll::Ready(Part::Last(std::mem::take(&mut self.part)));
                }
                Some(Err(fault)) => return Poll::Ready(Part::Failed(Box::new(fault))),
                None => return Poll::Ready(Part::Failed(Box::new(no_footer()))),
            }
            let next = frames.as_mut().poll_peek(cx);
            if !matches!(next, Poll::Ready(Some(Ok(Frame::Footer(_))))) {
                return Poll::Ready(Part::More(std::mem::take(&mut self.part)));
            }
        }
    }
}

fn no_footer() -> SqlFault {
    SqlFault::new(FaultKind::Internal, Reason::Answer, "the answer ended before its end")
}
