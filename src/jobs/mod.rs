//! What runs beside the callers: reconciling, comparing, keeping house.

pub mod shadow_reads;
