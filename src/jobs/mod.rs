//! What runs beside the callers: reconciling, comparing, keeping house.

pub mod backfill;
pub mod janitor;
pub mod outbox_worker;
pub mod settled_writes;
pub mod shadow_reads;
