//! The members of a migration, in the primary's database.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::domain::control::{ControlRow, Version};
use crate::domain::fault::SqlFault;
use crate::domain::fleet::{Fleet, MemberId};
use crate::domain::side::Side;

/// What a member says of itself each time that it renews its lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewal {
    /// Its id.
    pub id: MemberId,
    /// The name that it goes by.
    pub name: String,
    /// Where operators call it.
    pub address: String,
    /// The version of segue that it runs.
    pub version: String,
    /// What it works by alone: no call of an older epoch is in progress.
    pub acknowledged: Version,
    /// How long the lease is to last from the database's now.
    pub lease: Duration,
    /// What it measured, as text that other members of the same version can read.
    pub figures: String,
}

/// The answer to a renewal.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewed {
    /// The control row, read after the lease was renewed. A member that takes it before it
    /// relies on the lease can never act by a state that was settled past without it.
    pub row: Option<ControlRow>,
    /// Whether the member leads, for as long as its lease lasts.
    pub leads: bool,
}

/// Reads and changes `segue.member` and `segue.leader`.
pub trait FleetStore: Send + Sync + 'static {
    /// Renews the member's lease, or registers it; takes the lead where nobody has it.
    /// *If we crash before the answer*, the member counts for one lease longer than it acts.
    fn renew(&self, side: Side, renewal: Renewal) -> BoxFuture<'_, Result<Renewed, SqlFault>>;
    /// All members.
    fn fleet(&self, side: Side) -> BoxFuture<'_, Result<Fleet, SqlFault>>;
    /// Takes the member off the list and gives up its lead. It must not act any more.
    fn leave(&self, side: Side, id: MemberId) -> BoxFuture<'_, Result<(), SqlFault>>;
    /// Whether whoever makes the other side the primary can end sessions that answer reads here.
    /// Where nobody can, a read needs a lease. True until the database is known.
    fn ends_readers(&self, side: Side) -> bool;
    /// Takes members off the list whose lease ended so long ago; answers how many.
    fn forget_lapsed(&self, side: Side, ago: Duration) -> BoxFuture<'_, Result<u64, SqlFault>>;
}

/// Tells which sessions of an older epoch may still write, whatever their members say: what
/// was sent before a lease ended may arrive after it.
pub trait OlderWriters: Send + Sync + 'static {
    /// Sessions on the side that write under an epoch before this one, each in words for an
    /// operator. Empty where there are none, or where the database cannot tell.
    fn before(&self, side: Side, epoch: u64) -> BoxFuture<'_, Result<Vec<String>, SqlFault>>;
    /// Ends those of them of which nothing was heard for as long as `lease`: they belong to
    /// members whose lease is over. Answers which, in words for an operator.
    fn end_lost(
        &self,
        side: Side,
        epoch: u64,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Vec<String>, SqlFault>>;
}

/// A database in which no session shows its epoch: leases alone say who may write.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeasesAlone;

impl OlderWriters for LeasesAlone {
    fn before(&self, _: Side, _: u64) -> BoxFuture<'_, Result<Vec<String>, SqlFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn end_lost(
        &self,
        _: Side,
        _: u64,
        _: Duration,
    ) -> BoxFuture<'_, Result<Vec<String>, SqlFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
