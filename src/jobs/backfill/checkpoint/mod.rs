//! The state of a copy in a file, for one process alone.
//!
//! The file is written anew with each change, synced, and put in the old one's place, and the
//! folder is synced: a crash leaves the old state or the new one. It is locked as long as the
//! process lives.

mod file;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use crate::domain::backfill::{Chunk, ChunkId, Copied, TablePlan, TableProgress, WorkerProgress};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::OutboxMark;
use crate::domain::key_range::KeyRange;
use crate::domain::reason::Reason;
use crate::jobs::backfill::Boxed;
use crate::ports::backfill::{Beat, ChunkStore, KeySplitter, Next};
pub use file::{CheckpointError, known};
use file::{FORM, OpenChunk, State, TableState, file_error, lock, read, write};

/// Chunks that are cut at once.
const AHEAD: usize = 16;

/// The state in a file.
pub struct Checkpoint {
    path: PathBuf,
    splitter: Arc<dyn KeySplitter>,
    inner: Mutex<Inner>,
    /// One claim at a time cuts.
    cutting: tokio::sync::Mutex<()>,
    /// Held as long as the value lives.
    _lock: File,
}

struct Inner {
    state: State,
    /// Chunks of this process that are under way.
    claimed: BTreeMap<ChunkId, ()>,
    /// Not before then.
    resting: BTreeMap<ChunkId, Instant>,
    workers: u32,
    beat: Beat,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Opens the file, or makes it. `between` names the two databases.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`].
    pub fn open(
        path: &Path,
        between: &str,
        capture_gaps: Option<i64>,
        workers: u32,
        splitter: Arc<dyn KeySplitter>,
    ) -> Result<Self, CheckpointError> {
        let lock = lock(path)?;
        let state = match fs::read(path) {
            Ok(bytes) => read(path, &bytes, between, capture_gaps)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State {
                form: FORM,
                between: between.to_owned(),
                capture_gaps,
                tables: BTreeMap::new(),
            },
            Err(error) => return Err(file_error(path, error)),
        };
        write(path, &state).map_err(|error| file_error(path, error))?;
        let inner = Inner {
            state,
            claimed: BTreeMap::new(),
            resting: BTreeMap::new(),
            workers,
            beat: Beat { share: 1.0, ..Beat::default() },
        };
        Ok(Self {
            path: path.to_owned(),
            splitter,
            inner: Mutex::new(inner),
            cutting: tokio::sync::Mutex::new(()),
            _lock: lock,
        })
    }

    /// Whether the file knows of a table's copy.
    pub fn knows(&self, table_id: i32) -> bool {
        self.inner().state.tables.contains_key(&table_id)
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and writes it before anybody acts by it. What cannot be written has
    /// not been changed.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> Result<T, SqlFault> {
        let mut inner = self.inner();
        let before = inner.state.clone();
        let answer = change(&mut inner);
        if inner.state != before
            && let Err(error) = write(&self.path, &inner.state)
        {
            inner.state = before;
            let message = format!("{} cannot be written: {error}", self.path.display());
            return Err(SqlFault::new(FaultKind::Internal, Reason::BackfillCheckpoint, message));
        }
        Ok(answer)
    }

    async fn next(&self) -> Result<Next, SqlFault> {
        let begun_at = self.splitter.now().await?;
        if let Some(chunk) = self.take(begun_at)? {
            return Ok(Next::Chunk(Box::new(chunk)));
        }
        let _cutting = self.cutting.lock().await;
        // Another worker may have cut while this one waited.
        if let Some(chunk) = self.take(begun_at)? {
            return Ok(Next::Chunk(Box::new(chunk)));
        }
        if self.split().await?
            && let Some(chunk) = self.take(begun_at)?
        {
            return Ok(Next::Chunk(Box::new(chunk)));
        }
        let left =
            self.inner().state.tables.values().any(|it| !it.split_done || !it.open.is_empty());
        Ok(if left { Next::Wait } else { Next::Done })
    }

    fn take(&self, begun_at: OutboxMark) -> Result<Option<Chunk>, SqlFault> {
        self.change(|inner| {
            let now = Instant::now();
            let mut tables: Vec<_> = inner.state.tables.iter_mut().collect();
            tables.sort_by_key(|(id, table)| (table.place, **id));
            for (table_id, table) in tables {
                for (number, open) in &mut table.open {
                    let id = ChunkId { table_id: *table_id, number: *number };
                    let rests = inner.resting.get(&id).is_some_and(|until| now < *until);
                    if rests || inner.claimed.contains_key(&id) {
                        continue;
                    }
                    open.attempts += 1;
                    let begun_at = *open.begun_at.get_or_insert(begun_at.0);
                    inner.claimed.insert(id, ());
                    return Some(Chunk {
                        id,
                        range: KeyRange { after: open.after.clone(), until: open.until.clone() },
                        generation: None,
                        attempt: open.attempts,
                        begun_at: OutboxMark(begun_at),
                    });
                }
            }
            None
        })
    }

    async fn split(&self) -> Result<bool, SqlFault> {
        let found = {
            let inner = self.inner();
            let tables = inner.state.tables.iter().filter(|(_, table)| !table.split_done);
            tables
                .min_by_key(|(id, table)| (table.place, **id))
                .map(|(id, table)| (*id, table.split_after.clone(), table.chunk_rows))
        };
        let Some((table_id, after, rows)) = found else { return Ok(false) };
        let rest = KeyRange { after, until: None };
        let bounds = self.splitter.bounds(table_id, &rest, rows, AHEAD).await?;
        let done = bounds.len() < AHEAD;
        let mut parts = rest.split_at(bounds);
        let last = parts.pop();
        if done {
            parts.extend(last.clone());
        }
        self.change(|inner| {
            let Some(table) = inner.state.tables.get_mut(&table_id) else { return };
            for part in parts {
                table.chunks += 1;
                let open = OpenChunk {
                    after: part.after,
                    until: part.until,
                    attempts: 0,
                    begun_at: None,
                    last_error: String::new(),
                };
                table.open.insert(table.chunks, open);
            }
            table.split_after = last.and_then(|rest| rest.after);
            table.split_done = done;
        })?;
        Ok(true)
    }

    fn add(&self, tables: &[TablePlan]) -> Result<(), SqlFault> {
        self.change(|inner| {
            for plan in tables {
                inner.state.tables.entry(plan.table_id).or_insert_with(|| TableState {
                    source: plan.mapping.source.to_string(),
                    target: plan.mapping.target.to_string(),
                    key: plan.key.clone(),
                    place: plan.place,
                    chunk_rows: plan.chunk_rows,
                    rows_estimated: plan.rows_estimated,
                    split_after: None,
                    split_done: false,
                    chunks: 0,
                    chunks_done: 0,
                    rows: 0,
                    bytes: 0,
                    reconciled: 0,
                    failed: 0,
                    open: BTreeMap::new(),
                });
            }
        })
    }

    fn open_chunk<T>(
        &self,
        chunk: &Chunk,
        change: impl FnOnce(&mut TableState, &mut OpenChunk) -> T,
    ) -> Result<Option<T>, SqlFault> {
        let id = chunk.id;
        self.change(|inner| {
            let table = inner.state.tables.get_mut(&id.table_id)?;
            let mut open = table.open.remove(&id.number)?;
            let answer = change(table, &mut open);
            table.open.insert(id.number, open);
            Some(answer)
        })
    }

    fn done(&self, chunk: &Chunk, copied: &Copied) -> Result<bool, SqlFault> {
        let id = chunk.id;
        self.change(|inner| {
            inner.claimed.remove(&id);
            let Some(table) = inner.state.tables.get_mut(&id.table_id) else { return false };
            if table.open.remove(&id.number).is_none() {
                return false;
            }
            table.chunks_done += 1;
            table.rows += copied.rows;
            table.bytes += copied.bytes;
            table.reconciled += copied.reconciled;
            table.failed += copied.failed;
            true
        })
    }

    fn listed(&self) -> Vec<TableProgress> {
        let inner = self.inner();
        let mut tables: Vec<_> = inner.state.tables.iter().collect();
        tables.sort_by_key(|(id, table)| (table.place, **id));
        let claimed = |id: i32| inner.claimed.keys().filter(|it| it.table_id == id).count() as u64;
        let progress = |(id, table): (&i32, &TableState)| TableProgress {
            table_id: *id,
            table: table.source.clone(),
            rows_estimated: table.rows_estimated,
            rows: table.rows,
            bytes: table.bytes,
            reconciled: table.reconciled,
            failed: table.failed,
            chunks: table.chunks.unsigned_abs(),
            chunks_done: table.chunks_done,
            chunks_claimed: claimed(*id),
            split_done: table.split_done,
            last_error: table
                .open
                .values()
                .map(|open| open.last_error.clone())
                .max()
                .unwrap_or_default(),
        };
        tables.into_iter().map(progress).collect()
    }
}

impl ChunkStore for Checkpoint {
    fn plan<'a>(&'a self, tables: &'a [TablePlan]) -> Boxed<'a, Result<(), SqlFault>> {
        async move { self.add(tables) }.boxed()
    }

    fn claim(&self) -> Boxed<'_, Result<Next, SqlFault>> {
        self.next().boxed()
    }

    fn again<'a>(&'a self, chunk: &'a Chunk) -> Boxed<'a, Result<Option<Chunk>, SqlFault>> {
        async move {
            let attempts = self.open_chunk(chunk, |_, open| {
                open.attempts += 1;
                open.attempts
            })?;
            Ok(attempts.map(|attempt| Chunk { attempt, ..chunk.clone() }))
        }
        .boxed()
    }

    fn finish<'a>(
        &'a self,
        chunk: &'a Chunk,
        copied: &'a Copied,
    ) -> Boxed<'a, Result<bool, SqlFault>> {
        async move { self.done(chunk, copied) }.boxed()
    }

    fn give_back<'a>(
        &'a self,
        chunk: &'a Chunk,
        reason: &'a str,
        wait: Duration,
    ) -> Boxed<'a, Result<(), SqlFault>> {
        async move {
            self.open_chunk(chunk, |_, open| reason.clone_into(&mut open.last_error))?;
            let mut inner = self.inner();
            inner.claimed.remove(&chunk.id);
            inner.resting.insert(chunk.id, Instant::now() + wait);
            Ok(())
        }
        .boxed()
    }

    fn renew<'a>(&'a self, beat: &'a Beat) -> Boxed<'a, Result<(), SqlFault>> {
        async move {
            self.inner().beat = beat.clone();
            Ok(())
        }
        .boxed()
    }

    fn leave(&self) -> Boxed<'_, Result<(), SqlFault>> {
        async { Ok(()) }.boxed()
    }

    fn progress(&self) -> Boxed<'_, Result<Vec<TableProgress>, SqlFault>> {
        async { Ok(self.listed()) }.boxed()
    }

    fn workers(&self) -> Boxed<'_, Result<Vec<WorkerProgress>, SqlFault>> {
        async {
            let inner = self.inner();
            Ok(vec![WorkerProgress {
                host: "this process".to_owned(),
                workers: inner.workers,
                alive: true,
                throttled: inner.beat.throttled.clone(),
                share: inner.beat.share,
            }])
        }
        .boxed()
    }
}
