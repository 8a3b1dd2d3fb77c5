//! What a command or a call starts: setup, check, backfill, verify, sweep, status, and what they share.

pub mod adoption;
pub mod backfill;
pub mod callers;
pub mod check;
pub(crate) mod identity;
pub(in crate::app) mod phase_hooks;
pub mod setup;
pub mod status;
pub mod sweep;
pub mod tables;
pub mod target_capture;
pub mod verify;
