//! The words of a migration as types.
//!
//! Pure: no I/O, no clock, no dice. Nothing here knows gRPC or a driver.

pub mod answer;
pub mod backfill;
pub mod budget;
pub mod call;
pub mod consistency;
pub mod control;
pub mod copied;
pub mod cutover;
pub mod drift;
pub mod fault;
pub mod figures;
pub mod fleet;
pub mod foreign;
pub mod gate;
pub mod history;
pub mod identity;
pub mod key;
pub mod key_range;
pub mod lag;
pub mod mismatch;
pub mod operation;
pub mod pace;
pub mod page;
pub mod pattern;
pub mod pg_type;
pub mod proof_age;
pub mod reach;
pub mod reason;
pub mod relation;
pub mod rounded;
pub mod routing;
pub mod secret;
pub mod side;
pub mod sqlstate;
pub mod status;
pub mod step;
pub mod table;
pub mod value;
pub mod verdict;
pub mod verify;
