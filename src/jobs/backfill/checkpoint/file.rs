//! The file itself: its form, its lock, and how it is replaced.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::key::KeyValues;

/// The form of the file that this version writes and reads.
pub(super) const FORM: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) form: u32,
    /// The two databases, so that a file is not taken for another copy's.
    pub(super) between: String,
    pub(super) capture_gaps: Option<i64>,
    pub(super) tables: BTreeMap<i32, TableState>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableState {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) key: Vec<String>,
    pub(super) place: i32,
    pub(super) chunk_rows: u64,
    pub(super) rows_estimated: u64,
    pub(super) split_after: Option<KeyValues>,
    pub(super) split_done: bool,
    pub(super) chunks: i64,
    pub(super) chunks_done: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) reconciled: u64,
    pub(super) failed: u64,
    /// Chunks that are not done, by number.
    pub(super) open: BTreeMap<i64, OpenChunk>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenChunk {
    pub(super) after: Option<KeyValues>,
    pub(super) until: Option<KeyValues>,
    pub(super) attempts: u32,
    pub(super) begun_at: Option<i64>,
    #[serde(default)]
    pub(super) last_error: String,
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
    #[error("checkpoint file {path} {reason}; name another file to start again")]
    Unfit {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
}

/// The lock lies beside the file, which is replaced with each change.
pub(super) fn lock(path: &Path) -> Result<File, CheckpointError> {
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

pub(super) fn read(
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
pub(super) fn write(path: &Path, state: &State) -> std::io::Result<()> {
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

pub(super) fn file_error(path: &Path, error: std::io::Error) -> CheckpointError {
    CheckpointError::File { path: path.display().to_string(), error }
}

/// The tables of a file, by their ids and their names on the target; none where there is no file.
///
/// # Errors
///
/// [`CheckpointError`] where it cannot be read.
pub fn known(path: &Path) -> Result<Vec<(i32, String)>, CheckpointError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error(path, error)),
    };
    let state: State = serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Unfit {
        path: path.display().to_string(),
        reason: format!("cannot be read: {error}"),
    })?;
    Ok(state.tables.into_iter().map(|(id, table)| (id, table.target)).collect())
}
