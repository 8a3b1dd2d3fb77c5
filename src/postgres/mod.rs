//! Everything that speaks to a database; the only place that knows tokio-postgres.
//!
//! # Layout
//!
//! Imports point down this list; folders on one line do not import each other.
//!
//! - [`evidence`]: what the databases say of the copy and of its proof, for the gates
//! - [`backfill`], [`cutover`], [`verify`]: the copy of the rows that were there before; the switch
//!   of the primary; the comparison of the stored rows
//! - [`reconcile`]: rows of the shadow made equal to the primary's
//! - [`chunk`], [`survey`]: ranges of a table's key as SQL; what `segue check` asks
//! - [`drift`], [`mapping`]: writes that capture did not see; how the tables of both sides correspond
//! - [`capture`], [`foreign_writes`], [`identity`]: triggers that record keys; writes of others on
//!   the side that follows; whose database it is
//! - [`outbox`]: pending keys
//! - [`control`], [`relations`], [`statements`]: the control row, the fleet and what is recorded;
//!   which relations each side has; callers' statements and transactions
//! - [`own_transactions`], [`pool`]: what segue's own transactions hold and what ends them; sessions
//!   kept open
//! - [`fence`]: the locks and looks of sessions, by which writers are kept out
//! - [`catalog`]: what a catalogue says of tables
//! - [`schema`]: segue's own tables
//! - [`session`]: one session with a server
//! - [`memory`]: how much memory rows may take

pub mod backfill;
pub mod capture;
pub mod catalog;
pub mod chunk;
pub mod control;
pub mod cutover;
pub mod drift;
pub mod evidence;
pub mod fence;
pub mod foreign_writes;
pub mod identity;
pub mod mapping;
pub mod memory;
pub mod outbox;
pub mod own_transactions;
pub mod pool;
pub mod reconcile;
pub mod relations;
pub mod schema;
pub mod session;
pub mod statements;
pub mod survey;
pub mod verify;
