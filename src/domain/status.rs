//! Where the migration and this member stand, for operators.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::domain::backfill::BackfillProgress;
use crate::domain::control::ControlState;
use crate::domain::figures::FleetFigures;
use crate::domain::fleet::Fleet;
use crate::domain::foreign::ForeignWriter;
use crate::domain::gate::Progress;
use crate::domain::history::Recorded;
use crate::domain::key::{Key, WriteId};
use crate::domain::lag::Waiting;
use crate::domain::reach::Noted;
use crate::domain::step::PhaseReport;
use crate::domain::table::TableName;
use crate::domain::verdict::Verdict;

/// One look at everything an operator asks for first.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReport {
    /// Phase and epoch.
    pub control: ControlState,
    /// Since when the phase holds, where the control row says so.
    pub phase_since: Option<SystemTime>,
    /// Why it was entered.
    pub phase_reason: String,
    /// What waits for its reconcile.
    pub outbox: OutboxStatus,
    /// How far the copy of the history is.
    pub backfill: BackfillProgress,
    /// What is proven.
    pub verify: VerifyStatus,
    /// What is sampled.
    pub sampling: SamplingStatus,
    /// Samples judged since this member was started.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Reads since this member was started.
    pub reads: CallStatus,
    /// Writes since this member was started.
    pub writes: CallStatus,
    /// When this was seen.
    pub at: SystemTime,
    /// What an operator should look at now, worst first.
    pub warnings: Vec<String>,
    /// The whole fleet; absent where the primary could not be asked.
    pub fleet: Option<FleetStatus>,
}

/// The fleet, its phase, and what it measured.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetStatus {
    /// The phase, and the gates to the next one.
    pub report: PhaseReport,
    /// The members.
    pub fleet: Fleet,
    /// What they measured.
    pub figures: FleetFigures,
    /// The copy of the history.
    pub backfill: Progress,
    /// The proof of it.
    pub verify: Progress,
    /// Statements that touch tables which are not migrated, most frequent first.
    pub unmigrated: Vec<Noted>,
    /// Programs that wrote on the side that follows, past segue, and that no one has resolved.
    pub foreign: Vec<ForeignWriter>,
    /// The latest events, latest first.
    pub events: Vec<Recorded>,
}

/// A table whose keys are no longer kept one by one: they were folded into rows that stand for
/// ranges of its key, or for all of it, since what waited passed the outbox's limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FoldedTable {
    /// Its name on the primary.
    pub table: String,
    /// Keys that were folded.
    pub keys: u64,
    /// Seconds since the oldest of them was written.
    pub since_s: f64,
    /// Rows of the primary's table, as its server estimates them; 0 where it does not.
    pub rows: u64,
    /// Keys that the present pass has gone through, on both sides together.
    pub keys_seen: u64,
    /// Seconds since that pass began.
    pub pass_s: f64,
    /// Ranges of its key that are pending; 0 where the whole table is.
    pub ranges: u64,
    /// Of so many ranges, each with about as many rows.
    pub ranges_of: u64,
}

/// The outbox of the primary.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OutboxStatus {
    /// Rows not yet reconciled.
    pub pending: u64,
    /// Of these, those that failed so often that they count as stuck.
    pub stuck: u64,
    /// Age of the oldest pending row in seconds.
    pub oldest_age_s: f64,
    /// When it was written, by the primary's clock; none where nothing is pending.
    pub oldest_at: Option<SystemTime>,
    /// Bytes on the primary's disk, forgotten rows included.
    pub bytes: u64,
    /// Bytes of what waits, with its index entries.
    pub pending_bytes: u64,
    /// Bytes of what waits at which keys are folded into ranges, or into their tables.
    pub bytes_max: u64,
    /// Tables that are pending as a whole or as ranges, largest first.
    pub folded: Vec<FoldedTable>,
    /// Keys that this member reconciled.
    pub reconciled_total: u64,
    /// Attempts of this member that failed.
    pub failed_total: u64,
}

// === impl OutboxStatus ===

impl OutboxStatus {
    /// The key that has waited longest.
    pub fn waiting(&self) -> Waiting {
        let age = Duration::try_from_secs_f64(self.oldest_age_s.max(0.0)).unwrap_or_default();
        Waiting { since: self.oldest_at, age }
    }
}

// === impl FoldedTable ===

impl FoldedTable {
    /// Rows of the primary's table that are to be compared, about.
    pub fn rows_left(&self) -> u64 {
        match (self.ranges, self.ranges_of) {
            (0, _) | (_, 0) => self.rows,
            (ranges, of) => self.rows / of * ranges.min(of),
        }
    }

    /// What it is pending as, in words.
    pub fn as_what(&self) -> String {
        match self.ranges {
            0 => "as a whole table".to_owned(),
            ranges => format!("as {ranges} of {} ranges of its key", self.ranges_of),
        }
    }

    /// Seconds until the pass through it ends, as far as anyone can tell.
    pub fn left_s(&self) -> Option<f64> {
        if self.ranges > 0 {
            // What was gone through is no part of what is left.
            let per_key = self.pass_s / self.keys_seen as f64;
            return (self.keys_seen > 0).then(|| self.rows_left() as f64 * 2.0 * per_key);
        }
        // Both sides are listed.
        let all = (self.rows.saturating_mul(2)).max(self.keys_seen) as f64;
        let seen = self.keys_seen as f64;
        (self.keys_seen > 0 && self.rows > 0).then(|| (all - seen) / seen * self.pass_s)
    }
}

impl std::fmt::Display for FoldedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, keys, since_s, keys_seen, .. } = self;
        let (as_what, rows) = (self.as_what(), self.rows_left());
        write!(
            f,
            "{table}, {as_what}: {keys} keys of the last {since_s:.0} s, about {rows} rows to compare"
        )?;
        match self.left_s() {
            Some(left) => {
                write!(f, ", {keys_seen} looked at on both sides, about {left:.0} s left")
            }
            None => write!(f, ", not begun"),
        }
    }
}

/// How much of the migration verify has proven, and how long ago.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VerifyStatus {
    /// Chunks of all tables that were ever cut for it.
    pub chunks: u64,
    /// Chunks that were equal when they were last looked at, and not written since as far as a
    /// verify has seen.
    pub proven: u64,
    /// Chunks that were equal, and were written since.
    pub written: u64,
    /// Seconds since the oldest proof.
    pub oldest_age_s: f64,
    /// Each table of the migration, those first that were never proven, then the oldest proof.
    pub tables: Vec<TableProven>,
}

/// How much of a table is proven, and since when.
#[derive(Debug, Clone, PartialEq)]
pub struct TableProven {
    /// Its name on the source.
    pub table: TableName,
    /// Its chunks; none where it was never verified.
    pub chunks: u64,
    /// Of these, equal when they were last read, whatever was written to them since.
    pub proven: u64,
    /// When the chunk of the oldest proof was read; `None` where there is none.
    pub oldest: Option<SystemTime>,
    /// Seconds since then.
    pub oldest_age_s: f64,
    /// Why proofs are void that were not renewed since; empty where there are none.
    pub void_reason: String,
    /// Rows that were compared while no one could write, where a cutover did that.
    pub rows_under_fence: Option<u64>,
}

/// What is sampled, and what was dropped by which reason.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingStatus {
    /// 0 to 1.
    pub rate: f64,
    /// Samples taken since this member was started.
    pub sampled_total: u64,
    /// Samples dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// Calls of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CallStatus {
    /// All of them.
    pub total: u64,
    /// Those that failed.
    pub failed: u64,
    /// The median of their durations, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: f64,
}

/// One waiting row of the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// The row of the primary that it names.
    pub key: Key,
    /// The write that touched it, where it went through segue.
    pub write_id: Option<WriteId>,
    /// When it was captured.
    pub created_at: SystemTime,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried again.
    pub next_attempt_at: SystemTime,
    /// Why the last attempt failed; empty where none did.
    pub last_error: String,
    /// It failed so often that somebody should look.
    pub stuck: bool,
}
