//! Names in traces, in one place. Those of OpenTelemetry are of its stable conventions for
//! databases and RPC; those under `segue.` are ours. `docs/reference/traces.md` explains them.

pub use opentelemetry_semantic_conventions::attribute::{
    DB_NAMESPACE, DB_QUERY_SUMMARY, DB_RESPONSE_RETURNED_ROWS, DB_RESPONSE_STATUS_CODE,
    DB_SYSTEM_NAME, ERROR_TYPE, RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME,
    SERVER_ADDRESS, SERVER_PORT, SERVICE_NAME, SERVICE_VERSION,
};

/// `source` or `target`.
pub const SIDE: &str = "segue.side";
/// The name of a statement from the query files.
pub const STATEMENT_NAME: &str = "segue.statement.name";
/// The write that was announced to the database.
pub const WRITE_ID: &str = "segue.write_id";
/// Keys of a reconcile.
pub const KEYS: &str = "segue.reconcile.keys";
/// Rows that a reconcile found different, and wrote.
pub const ROWS_WRITTEN: &str = "segue.reconcile.rows_written";
/// Keys of a reconcile that failed, and wait for their next attempt.
pub const KEYS_FAILED: &str = "segue.reconcile.keys_failed";
/// The result of a comparison.
pub const VERDICT: &str = "segue.verdict";
/// The catalogue's category of a comparison.
pub const CATEGORY: &str = "segue.category";
/// Normalization rules that a comparison needed, separated by commas.
pub const RULES: &str = "segue.rules";
/// Why a sample got no verdict.
pub const DROPPED: &str = "segue.dropped";
/// Event: the capture recorded a write's keys in its transaction.
pub const CAPTURED: &str = "segue.captured";
/// Event: a comparison has its verdict.
pub const COMPARED: &str = "segue.compared";

/// Share of the target's reads before a change, 0 to 100.
pub const SHIFT_FROM: &str = "segue.shift.from";
/// The same after it.
pub const SHIFT_TO: &str = "segue.shift.to";
/// `step`, `rollback`.
pub const SHIFT_KIND: &str = "segue.shift.kind";
/// The figures that it was decided by.
pub const SHIFT_REASON: &str = "segue.shift.reason";

/// Span of a change of the share of the target's reads, the root of its trace.
pub const SHIFT_SPAN: &str = "shift";
/// Span of a write's capture, under its statement's.
pub const CAPTURE_SPAN: &str = "capture";
/// Span of a reconcile, the root of its trace.
pub const RECONCILE_SPAN: &str = "reconcile";
/// Chunks that a backfill copies at once.
pub const WORKERS: &str = "segue.backfill.workers";
/// The small id of a chunk's table.
pub const TABLE_ID: &str = "segue.backfill.table_id";
/// Which of its table's chunks.
pub const CHUNK: &str = "segue.backfill.chunk";
/// Which attempt on it, from 1.
pub const ATTEMPT: &str = "segue.backfill.attempt";
/// How its rows came over: `straight`, `staged`, `by_keys`.
pub const CHUNK_WAY: &str = "segue.backfill.way";
/// Rows that the source had.
pub const CHUNK_ROWS: &str = "segue.backfill.rows";
/// Bytes of its stream.
pub const CHUNK_BYTES: &str = "segue.backfill.bytes";
/// Span of one run of a backfill, the root of its trace.
pub const BACKFILL_SPAN: &str = "backfill";
/// Span of one attempt on a chunk.
pub const CHUNK_SPAN: &str = "backfill chunk";
/// Span of a shadow read, the root of its trace.
pub const SHADOW_READ_SPAN: &str = "shadow read";
/// What [`DB_SYSTEM_NAME`] says.
pub const POSTGRESQL: &str = "postgresql";
/// Span of a run of verify, the root of its trace.
pub const VERIFY_SPAN: &str = "verify";
/// Span of one chunk, under its run's.
pub const VERIFY_CHUNK_SPAN: &str = "verify chunk";
/// A migrated table, by its name on the primary.
pub const TABLE: &str = "segue.table";
/// Rows of the primary in a chunk.
pub const ROWS: &str = "segue.rows";
/// Rows of a chunk that had to be read on both sides.
pub const ROWS_READ: &str = "segue.verify.rows_read";
/// Rows of a chunk that differ.
pub const DIFFERENCES: &str = "segue.verify.differences";
