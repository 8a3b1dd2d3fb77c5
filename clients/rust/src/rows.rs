//! An answer whose rows come while they are read.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Streaming};

use crate::error::{CONNECTION, Error, Failure, Outcome, Side};
use crate::protocol as proto;
use crate::repeat::{late, unwritten};
use crate::row::{Column, Decoder, Row};
use crate::status::{failure_of, side_of};
use crate::tokens::Tokens;
use crate::transaction::Inside;

/// The rows of an answer, which come while they are read: memory stays flat, however many there are.
///
/// Dropping it before its end cancels the statement. Inside a transaction that rolls the transaction back:
/// [`Rows::close`] reads the rest instead. A transaction takes no other call before the end.
#[derive(Debug)]
#[must_use = "rows come while they are read"]
pub struct Rows {
    decoder: Decoder,
    stream: Streaming<proto::QueryResponse>,
    begun: String,
    footer: Option<proto::Footer>,
    read: u64,
    tokens: Tokens,
    brought: Vec<String>,
    inside: Option<Inside>,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Rows {
    /// Waits for the first part of an answer.
    pub(crate) async fn open(
        mut stream: Streaming<proto::QueryResponse>,
        tokens: Tokens,
        brought: Vec<String>,
        deadline: Option<Instant>,
    ) -> Result<(Self, Vec<proto::Column>), Failure> {
        let first = stream.message().await.map_err(|status| failure_of(&status))?;
        let mut first = first.ok_or_else(ended_early)?;
        let header = first.header.take().unwrap_or_default();
        let mut rows = Self {
            decoder: Decoder::new(header.columns.clone()),
            stream,
            begun: header.transaction_id,
            footer: None,
            read: 0,
            tokens,
            brought,
            inside: None,
            deadline: deadline.map(|it| Box::pin(sleep_until(it))),
            ended: false,
        };
        rows.accept(first);
        Ok((rows, header.columns))
    }

    /// The transaction that the call began.
    pub(crate) fn begun(&self) -> &str {
        &self.begun
    }

    /// From here on the rows belong to a transaction.
    pub(crate) fn enter(&mut self, inside: Option<Inside>) {
        self.inside = inside;
    }

    /// All rows, for a call that is not answered before its last one.
    pub(crate) async fn all(&mut self) -> Result<Vec<Row>, Failure> {
        let mut all = Vec::new();
        while let Some(row) = poll_fn(|context| self.poll_row(context)).await? {
            all.push(row);
        }
        Ok(all)
    }

    /// The columns.
    pub fn columns(&self) -> &[Column] {
        &self.decoder.columns
    }

    /// The database that answered, once all rows are read.
    pub fn side(&self) -> Option<Side> {
        self.footer.as_ref().and_then(|footer| side_of(footer.side()))
    }

    /// The next row; none behind the last one. This is not [`Stream`], which it implements as well.
    ///
    /// # Errors
    ///
    /// What the statement failed with, in the middle of its answer too: an answer is never cut short in silence.
    pub async fn next(&mut self) -> Result<Option<Row>, Error> {
        poll_fn(|context| self.poll_told(context)).await
    }

    /// Ends the reading: inside a transaction it reads the rest.
    ///
    /// # Errors
    ///
    /// As [`Rows::next`].
    pub async fn close(mut self) -> Result<(), Error> {
        if self.inside.is_some() {
            while self.next().await?.is_some() {}
        }
        Ok(())
    }

    fn poll_told(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Row>, Error>> {
        let made = ready!(self.poll_row(context));
        if let Ok(Some(row)) = made {
            return Poll::Ready(Ok(Some(row)));
        }
        let inside = self.inside.take();
        Poll::Ready(match (made, inside) {
            (Ok(row), inside) => {
                if let Some(inside) = inside {
                    inside.read_to_the_end();
                }
                Ok(row)
            }
            (Err(failure), Some(inside)) => Err(inside.failed(failure)),
            (Err(failure), None) => Err(unwritten(failure)),
        })
    }

    fn poll_row(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Row>, Failure>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            if let Some(row) = self.decoder.next() {
                self.read += 1;
                return Poll::Ready(row.map(Some).map_err(|what| self.broken(&what)));
            }
            let part = match Pin::new(&mut self.stream).poll_next(context) {
                Poll::Ready(part) => part,
                Poll::Pending => {
                    if let Some(deadline) = &mut self.deadline {
                        ready!(deadline.as_mut().poll(context));
                        return Poll::Ready(Err(self.stopped(late())));
                    }
                    return Poll::Pending;
                }
            };
            match (part, &self.footer) {
                (Some(Ok(part)), None) => self.accept(part),
                (Some(Err(status)), None) => {
                    return Poll::Ready(Err(self.stopped(failure_of(&status))));
                }
                (None, None) => return Poll::Ready(Err(self.stopped(ended_early()))),
                // What stands behind the footer is the stream's status, which the footer says to be good.
                (_, Some(footer)) => {
                    self.ended = true;
                    if footer.row_count != self.read {
                        let what = format!("it has {} rows, {} came", footer.row_count, self.read);
                        return Poll::Ready(Err(self.broken(&what)));
                    }
                }
            }
        }
    }

    fn accept(&mut self, part: proto::QueryResponse) {
        self.decoder.take(part.rows);
        if let Some(footer) = part.footer {
            self.tokens.replace(&self.brought, footer.consistency_token.clone());
            self.footer = Some(footer);
        }
    }

    fn stopped(&mut self, failure: Failure) -> Failure {
        self.ended = true;
        self.tokens.failed(&self.brought, &failure);
        failure
    }

    /// An answer that cannot be what the sidecar meant.
    fn broken(&mut self, what: &str) -> Failure {
        self.ended = true;
        broken(what)
    }
}

/// An answer that cannot be read.
pub(crate) fn broken(what: &str) -> Failure {
    let mut failure =
        Failure::new(Code::DataLoss, CONNECTION, format!("the answer cannot be read: {what}"));
    failure.outcome = Outcome::NotApplied;
    failure
}

fn ended_early() -> Failure {
    let mut failure = Failure::new(Code::Unavailable, CONNECTION, "the answer ended early");
    failure.lost = true;
    failure.outcome = Outcome::Unknown;
    failure
}

impl Stream for Rows {
    type Item = Result<Row, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_told(context).map(Result::transpose)
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        if let Some(inside) = self.inside.take() {
            if self.footer.is_some() {
                inside.read_to_the_end();
            } else {
                inside.left();
            }
        }
    }
}
