//! The section `[backfill]`.

use std::time::Duration;

use crate::config::reader::Reader;

/// How the history is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// Rows of one chunk.
    pub chunk_rows: u64,
    /// Chunks at once.
    pub workers: u32,
    /// Rows a second at most; 0 for any number.
    pub max_rows_per_s: u64,
    /// Megabytes a second at most; 0 for any number.
    pub max_mb_per_s: u64,
    /// Slows down above.
    pub source_latency_max: Duration,
    /// Slows down above.
    pub outbox_age_max: Duration,
    /// Slows down above.
    pub target_latency_max: Duration,
    /// How long a process may be silent.
    pub lease: Duration,
}

// === impl Backfill ===

/// The lease is renewed every second: less would be lost by a hiccup.
const LEASE_MIN: Duration = Duration::from_secs(3);

impl Backfill {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let backfill = Self {
            chunk_rows: reader.count("backfill.chunk_rows") as u64,
            workers: u32::try_from(reader.count("backfill.workers")).unwrap_or(u32::MAX),
            max_rows_per_s: reader.count("backfill.max_rows_per_s") as u64,
            max_mb_per_s: reader.count("backfill.max_mb_per_s") as u64,
            source_latency_max: reader.duration("backfill.source_latency_max"),
            outbox_age_max: reader.duration("backfill.outbox_age_max"),
            target_latency_max: reader.duration("backfill.target_latency_max"),
            lease: reader.duration("backfill.lease"),
        };
        if backfill.lease < LEASE_MIN {
            reader.fault("backfill.lease", format!("is shorter than {LEASE_MIN:?}"));
        }
        backfill
    }
}
