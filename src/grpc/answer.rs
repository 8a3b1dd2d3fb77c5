//! Answers as messages: the frames of a `Query`, and the rows of a write.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream};
use prost::Message;

use crate::domain::answer::RowBatch;
use crate::domain::call::WriteItem;
use crate::domain::consistency::Token;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::pg_type::Column;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::grpc::encode::RowEncoder;
use crate::grpc::proto::rows::Encoding as Encoded;
use crate::grpc::rows::EncodedRows;
use crate::grpc::{proto, request, status};
use crate::stack::call::ReadAnswer;
use crate::stack::pending::{AfterRead, Ended};

/// What a message's envelope leaves for the names of its columns; few have more.
pub(super) const COLUMNS_BYTES: usize = 512;
/// Typed rows grow on their way: a frame ends when it has so many bytes.
const FRAME_BYTES: usize = 256 * 1024;

/// One piece of an answer.
#[derive(Debug)]
pub(super) enum Frame {
    Header(proto::Header),
    Rows(proto::Rows),
    Footer(proto::Footer),
}

/// The frames of one answer: header, batches, footer. An error is its last item.
pub(super) struct Frames {
    side: Side,
    columns: Arc<[Column]>,
    batches: BoxStream<'static, Result<RowBatch, SqlFault>>,
    /// Begins or commits a transaction; after `batches`, so that what they hold is dropped first.
    after: Option<AfterRead>,
    finishing: Option<BoxFuture<'static, Result<Option<Ended>, SqlFault>>>,
    must_see: Token,
    ready: VecDeque<Frame>,
    typed: Option<Typed>,
    row_count: u64,
    bytes_max: usize,
    ended: bool,
}

/// A batch on its way to typed values, as far as it got.
struct Typed {
    encoder: RowEncoder,
    batch: RowBatch,
    rows_done: u32,
    bytes_done: usize,
}

// === impl Frames ===

impl Frames {
    /// Frames of at most about `bytes_max`, except that a row is never split.
    pub(super) fn new(answer: ReadAnswer, encoding: proto::Encoding, bytes_max: usize) -> Self {
        let ReadAnswer { side, stream, must_see, after, .. } = answer;
        let begun = after.as_ref().and_then(AfterRead::begun);
        let transaction_id = begun.map(request::transaction_text).unwrap_or_default();
        let columns = columns(&stream.columns);
        let header = Frame::Header(proto::Header { columns, transaction_id });
        Self {
            side,
            columns: stream.columns,
            batches: stream.batches,
            after,
            finishing: None,
            must_see,
            ready: [header].into(),
            typed: (encoding == proto::Encoding::Typed).then(Typed::default),
            row_count: 0,
            bytes_max,
            ended: false,
        }
    }

    fn take_batch(&mut self, batch: RowBatch) -> Result<(), SqlFault> {
        self.row_count += u64::from(batch.row_count());
        match &mut self.typed {
            Some(typed) => typed.begin(batch),
            None if batch.cells().len() <= self.bytes_max => {
                if batch.row_count() > 0 {
                    self.ready.push_back(Frame::Rows(packed_rows(packed(&batch))));
                }
            }
            None => {
                let parts = split(&batch, self.columns.len(), self.bytes_max)?;
                self.ready.extend(parts.into_iter().map(packed_rows).map(Frame::Rows));
            }
        }
        Ok(())
    }

    fn next_typed(&mut self) -> Result<Option<Frame>, SqlFault> {
        let Some(typed) = &mut self.typed else { return Ok(None) };
        let Some(rows) = typed.next_frame(&self.columns, FRAME_BYTES.min(self.bytes_max))? else {
            return Ok(None);
        };
        within(rows.encoded_len(), self.bytes_max)?;
        Ok(Some(Frame::Rows(typed_rows(rows))))
    }

    fn end(&mut self, committed: Option<Ended>) {
        self.ended = true;
        self.finishing = None;
        let (row_count, side) = (self.row_count, status::side(self.side).into());
        let (write_id, must_see) = match committed {
            Some(Ended { write_id, must_see }) => (write_id.to_string(), must_see),
            None => (String::new(), std::mem::take(&mut self.must_see)),
        };
        let consistency_token = must_see.to_string();
        let footer = proto::Footer { row_count, side, write_id, consistency_token };
        self.ready.push_back(Frame::Footer(footer));
    }

    fn fail(&mut self, fault: SqlFault) -> Poll<Option<Result<Frame, SqlFault>>> {
        self.ended = true;
        // What is still on its way is of no use to anybody.
        self.batches = Box::pin(futures_util::stream::empty());
        self.after = None;
        Poll::Ready(Some(Err(fault)))
    }
}

impl Stream for Frames {
    type Item = Result<Frame, SqlFault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(frame) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(finishing) = &mut this.finishing {
                match ready!(finishing.as_mut().poll(cx)) {
                    Ok(ended) => this.end(ended),
                    Err(fault) => return this.fail(fault),
                }
                continue;
            }
            match this.next_typed() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) => {}
                Err(fault) => return this.fail(fault),
            }
            match ready!(this.batches.as_mut().poll_next(cx)) {
                Some(Ok(batch)) => {
                    if let Err(fault) = this.take_batch(batch) {
                        return this.fail(fault);
                    }
                }
                Some(Err(fault)) => return this.fail(fault),
                None => match this.after.take() {
                    Some(after) => this.finishing = Some(Box::pin(after.finish())),
                    None => this.end(None),
                },
            }
        }
    }
}

// === impl Typed ===

impl Default for Typed {
    fn default() -> Self {
        let (encoder, batch) = (RowEncoder::default(), RowBatch::default());
        Self { encoder, batch, rows_done: 0, bytes_done: 0 }
    }
}

impl Typed {
    fn begin(&mut self, batch: RowBatch) {
        self.batch = batch;
        self.rows_done = 0;
        self.bytes_done = 0;
    }

    /// The next rows of the batch: as many as fit `bytes`, one at least; nothing when it is
    /// through.
    fn next_frame(
        &mut self,
        columns: &[Column],
        bytes: usize,
    ) -> Result<Option<EncodedRows>, SqlFault> {
        let rest = self.batch.cells().slice(self.bytes_done..);
        let mut cells = CellReader { rest: &rest };
        let mut full = None;
        while full.is_none() && self.rows_done < self.batch.row_count() {
            for column in columns {
                self.encoder.cell(column, cells.next_cell()?)?;
            }
            if self.encoder.byte_len() > 0 && self.encoder.byte_len_with_row() > bytes {
                full = Some(self.encoder.take());
            }
            self.encoder.end_row();
            self.rows_done += 1;
        }
        self.bytes_done += rest.len() - cells.rest.len();
        Ok(full.or_else(|| (self.encoder.byte_len() > 0).then(|| self.encoder.take())))
    }
}

/// Cells in order, and where the last one ended.
struct CellReader<'a> {
    rest: &'a [u8],
}

impl<'a> CellReader<'a> {
    fn next_cell(&mut self) -> Result<Option<&'a [u8]>, SqlFault> {
        self.read().ok_or_else(|| {
            SqlFault::new(
                FaultKind::Internal,
                Reason::Batch,
                "a batch of rows is shorter than it says",
            )
        })
    }

    fn read(&mut self) -> Option<Option<&'a [u8]>> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Some(None);
        };
        let (cell, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(cell))
    }
}

// === the rows of a write ===

/// What a statement of a write did, in a message.
pub(super) fn result(
    item: &WriteItem,
    encoding: proto::Encoding,
    bytes_max: usize,
) -> Result<proto::StatementResult, SqlFault> {
    let affected_rows = item.affected_rows;
    if item.columns.is_empty() {
        return Ok(proto::StatementResult { affected_rows, ..Default::default() });
    }
    let columns = columns(&item.columns);
    let described: usize = columns.iter().map(Message::encoded_len).sum();
    let bytes_max = bytes_max.saturating_sub(described.saturating_sub(COLUMNS_BYTES));
    let rows = if encoding == proto::Encoding::Packed {
        within(item.rows.cells().len(), bytes_max)?;
        packed_rows(packed(&item.rows))
    } else {
        let mut typed = Typed::default();
        typed.begin(item.rows.clone());
        // All of them in one, so that a limit that is passed is told with their whole size.
        let rows = typed.next_frame(&item.columns, usize::MAX)?.unwrap_or_default();
        within(rows.encoded_len(), bytes_max)?;
        typed_rows(rows)
    };
    Ok(proto::StatementResult { affected_rows, columns, rows: Some(rows) })
}

/// What the statements of a write did, which share one message.
pub(super) fn results(
    items: &[WriteItem],
    encoding: proto::Encoding,
    bytes_max: usize,
) -> Result<Vec<proto::StatementResult>, SqlFault> {
    let mut bytes_left = bytes_max;
    let mut results = Vec::with_capacity(items.len());
    for item in items {
        let result = result(item, encoding, bytes_left)?;
        let bytes = result.rows.as_ref().map_or(0, Message::encoded_len);
        bytes_left = bytes_left.saturating_sub(bytes);
        results.push(result);
    }
    Ok(results)
}

fn typed_rows(rows: EncodedRows) -> proto::Rows {
    proto::Rows { encoding: Some(Encoded::Typed(rows)) }
}

fn packed_rows(rows: proto::PackedRows) -> proto::Rows {
    proto::Rows { encoding: Some(Encoded::Packed(rows)) }
}

/// Columns on the wire.
pub(super) fn columns(columns: &[Column]) -> Vec<proto::Column> {
    let column = |column: &Column| proto::Column {
        name: column.name.clone(),
        type_name: column.ty.name.clone(),
        type_oid: column.ty.oid,
        type_modifier: column.type_modifier,
    };
    columns.iter().map(column).collect()
}

fn packed(batch: &RowBatch) -> proto::PackedRows {
    proto::PackedRows { row_count: batch.row_count(), cells: batch.cells().clone() }
}

/// A batch that fits no message as several that do; a row is never split.
fn split(
    batch: &RowBatch,
    columns: usize,
    bytes_max: usize,
) -> Result<Vec<proto::PackedRows>, SqlFault> {
    let whole = batch.cells();
    let mut parts = Vec::new();
    let mut cells = CellReader { rest: whole };
    let (mut begin, mut end, mut row_count) = (0, 0, 0);
    for _ in 0..batch.row_count() {
        for _ in 0..columns {
            cells.next_cell()?;
        }
        let row_end = whole.len() - cells.rest.len();
        within(row_end - end, bytes_max)?;
        if row_end - begin > bytes_max {
            parts.push(proto::PackedRows { row_count, cells: whole.slice(begin..end) });
            (begin, row_count) = (end, 0);
        }
        (end, row_count) = (row_end, row_count + 1);
    }
    parts.push(proto::PackedRows { row_count, cells: whole.slice(begin..end) });
    Ok(parts)
}

fn within(bytes: usize, bytes_max: usize) -> Result<(), SqlFault> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let message = format!("a message of {bytes} bytes is larger than the {bytes_max} allowed");
    Err(SqlFault::new(FaultKind::LimitExceeded, Reason::LimitMessageBytes, message).with_hint(
        "select less at once, or raise limits.request_bytes_max and the client's own limit",
    ))
}
