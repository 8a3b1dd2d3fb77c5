//! All chunks of a table, some of them at once.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{self, Stream, TryStreamExt};
use tracing::Instrument;

use crate::domain::fault::SqlFault;
use crate::domain::key_range::KeyRange;
use crate::postgres::mapping::table::Role;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::verify::chunk::ChunkDone;
use crate::postgres::verify::{Table, Verifier, fault_of};
use crate::telemetry::{names, spans};

/// Chunks that are cut at once.
const BOUNDS: usize = 32;
/// A range that no index serves costs a scan of the whole table: there are few of them then.
const UNSERVED_CHUNKS: u64 = 8;
/// A chunk is tried again so often, with pauses that double.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(250);

/// Where the cutting of a table stands.
struct Cutting {
    rest: Option<KeyRange>,
    cut: VecDeque<KeyRange>,
}

// === impl Verifier ===

impl Verifier {
    /// Verifies the chunks of a table that `wanted` picks, in no particular order, and tells
    /// of each. All ranges together are the whole table, whichever side has the rows.
    ///
    /// # Errors
    ///
    /// What kept a chunk from being verified, after some attempts.
    pub async fn table(
        &self,
        table: &Table,
        mut wanted: impl FnMut(&KeyRange) -> bool,
        mut tell: impl FnMut(ChunkDone),
    ) -> Result<(), SqlFault> {
        let chunks = self.chunks(table).try_filter(|range| std::future::ready(wanted(range)));
        let verified = chunks
            .map_ok(|range| self.one_chunk(table, range))
            .try_buffer_unordered(self.params.workers.max(1));
        let mut verified = std::pin::pin!(verified);
        while let Some(done) = verified.try_next().await? {
            tell(done);
        }
        Ok(())
    }

    /// The table's chunks.
    ///
    /// # Errors
    ///
    /// What the primary reports.
    pub async fn cut(&self, table: &Table) -> Result<Vec<KeyRange>, SqlFault> {
        self.chunks(table).try_collect().await
    }

    /// The table in ranges of about `chunk_rows` rows of the primary, cut as they are needed.
    fn chunks<'a>(
        &'a self,
        table: &'a Table,
    ) -> impl Stream<Item = Result<KeyRange, SqlFault>> + 'a {
        let rows = if table.index_serves() {
            self.params.chunk_rows
        } else {
            let all = table.rows_estimate.unwrap_or(0);
            self.params.chunk_rows.max(all.div_ceil(UNSERVED_CHUNKS))
        };
        let begin = Cutting { rest: Some(KeyRange::all()), cut: VecDeque::new() };
        stream::try_unfold(begin, move |mut cutting| async move {
            if let Some(range) = cutting.cut.pop_front() {
                return Ok(Some((range, cutting)));
            }
            let Some(rest) = cutting.rest.take() else { return Ok(None) };
            let bounds = self.bounds_again(table, &rest, rows).await?;
            let more = bounds.len() == BOUNDS;
            let mut parts: VecDeque<KeyRange> = rest.split_at(bounds).into();
            if more {
                cutting.rest = parts.pop_back();
            }
            let first = parts.pop_front();
            cutting.cut = parts;
            Ok(first.map(|range| (range, cutting)))
        })
    }

    async fn bounds_again(
        &self,
        table: &Table,
        rest: &KeyRange,
        rows: u64,
    ) -> Result<Vec<Vec<String>>, SqlFault> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.bounds(table, Role::Primary, rest, (rows, BOUNDS)).await {
                Ok(bounds) => return Ok(bounds),
                Err(failed) => self.rest(&failed.halt(), &mut pause).await?,
            }
        }
        let last = self.bounds(table, Role::Primary, rest, (rows, BOUNDS)).await;
        last.map_err(|failed| fault_of(failed.halt()))
    }

    /// Verifies one chunk, in a span of its own.
    ///
    /// # Errors
    ///
    /// What kept it from being verified, after some attempts.
    pub async fn one_chunk(&self, table: &Table, range: KeyRange) -> Result<ChunkDone, SqlFault> {
        let span = spans::verify_chunk(&table.shape.primary.to_string());
        let verified = self.chunk_again(table, range).instrument(span.clone()).await;
        match &verified {
            Ok(done) => {
                span.record(names::ROWS, done.rows);
                span.record(names::ROWS_READ, done.rows_read);
                span.record(names::DIFFERENCES, done.findings.len());
            }
            Err(fault) => spans::note_fault(&span, fault),
        }
        verified
    }

    /// What passes by itself is waited for.
    async fn chunk_again(&self, table: &Table, range: KeyRange) -> Result<ChunkDone, SqlFault> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.chunk(table, range.clone()).await {
                Ok(done) => return Ok(done),
                Err(halt) => self.rest(&halt, &mut pause).await?,
            }
        }
        self.chunk(table, range).await.map_err(fault_of)
    }

    async fn rest(&self, halt: &Halt, pause: &mut Duration) -> Result<(), SqlFault> {
        match halt {
            Halt::Away(_) | Halt::Again(_) => {
                tracing::debug!(?halt, "verifying is tried again");
                tokio::time::sleep(*pause).await;
                *pause *= 2;
                Ok(())
            }
            other => Err(fault_of(other.clone())),
        }
    }
}
