//! The state of a copy in a file, for one process alone.
//!
//! The file is written anew with each change, synced, and put in the old one's place, and the
//! folder is synced: a crash leaves the old state or the new one. It is locked as long as the
//! process lives.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use crate::domain::backfill::{Chunk, ChunkId, Copied, TablePlan, TableProgress, WorkerProgress};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::{KeyValues, OutboxMark};
use crate::domain::key_range::KeyRange;
use crate::jobs::backfill::Boxed;
use crate::ports::backfill::{Beat, ChunkStore, KeySplitter, Next};

/// The form of the file that this version writes and reads.
const FORM: u32 = 1;
/// Chunks that are cut at once.
const AHEAD: usize = 16;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    form: u32,
    /// The two databases, so that a file is not taken for another copy's.
    between: String,
    capture_gaps: Option<i64>,
    tables: BTreeMap<i32, TableState>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableState {
    source: String,
    target: String,
    key: Vec<String>,
    place: i32,
    chunk_rows: u64,
    rows_estimated: u64,
    split_after: Option<KeyValues>,
    split_done: bool,
    chunks: i64,
    chunks_done: u64,
    rows: u64,
    bytes: u64,
    reconciled: u64,
    failed: u64,
    /// Chunks that are not done, by number.
    open: BTreeMap<i64, OpenChunk>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenChunk {
    after: Option<KeyValues>,
    until: Option<KeyValues>,
    attempts: u32,
    begun_at: Option<i64>,
    #[serde(default)]
    last_error: String,
}

/// A state file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Reading, writing or locking failed.
    #[error("checkpoint file {path}: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "checkpoint file {path} is in use by another backfill; one process works alone with it"
    )]
    InUse {
        /// Which.
        path: String,
    },
    /// It is no state of this copy.
    #[error("checkpoint file {path} {reason}; name another file to begin anew")]
    Unfit {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
}

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
            return Err(SqlFault::new(FaultKind::Internal, "backfill.checkpoint", message));
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

/// The lock lies beside the file, which is replaced with each change.
fn lock(path: &Path) -> Result<File, CheckpointError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&name);
    let lock = lock.map_err(|error| file_error(Path::new(&name), error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(CheckpointError::InUse { path: path.display().to_string() })
        }
        Err(TryLockError::Error(error)) => Err(file_error(Path::new(&name), error)),
    }
}

fn read(
    path: &Path,
    bytes: &[u8],
    between: &str,
    capture_gaps: Option<i64>,
) -> Result<State, CheckpointError> {
    let unfit =
        |reason: String| CheckpointError::Unfit { path: path.display().to_string(), reason };
    let state: State =
        serde_json::from_slice(bytes).map_err(|error| unfit(format!("cannot be read: {error}")))?;
    if state.form != FORM {
        return Err(unfit(format!("is of form {}, and this segue reads {FORM}", state.form)));
    }
    if state.between != between {
        return Err(unfit(format!("is of a copy {}, not {between}", state.between)));
    }
    if state.capture_gaps != capture_gaps {
        return Err(unfit("is of a copy since which capture has been switched off".to_owned()));
    }
    Ok(state)
}

/// The new state beside the old one, then in its place.
fn write(path: &Path, state: &State) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(state)?)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn file_error(path: &Path, error: std::io::Error) -> CheckpointError {
    CheckpointError::File { path: path.display().to_string(), error }
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
