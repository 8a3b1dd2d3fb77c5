//! Sessions that still write under an older epoch, on either side.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::fault::SqlFault;
use crate::domain::side::{Side, Sides};
use crate::ports::fleet::OlderWriters;
use crate::postgres::fence::writers::{Writer, shared, terminate};
use crate::postgres::pool::{Lease, Pool};

/// Tells sessions of older epochs by their locks.
#[derive(Debug, Clone)]
pub struct FenceTable {
    pools: Sides<Pool>,
}

impl FenceTable {
    /// Asks these two databases.
    pub fn new(pools: Sides<Pool>) -> Self {
        Self { pools }
    }

    async fn others(&self, side: Side, epoch: u64) -> Result<(Lease, Vec<Writer>), SqlFault> {
        let session = self.pools.of(side).get().await?;
        let writers = shared(&session).await?;
        let others = writers.into_iter().filter(|writer| writer.is_of_other_epoch(epoch));
        Ok((session, others.collect()))
    }

    async fn told(&self, side: Side, epoch: u64) -> Result<Vec<String>, SqlFault> {
        let (_, others) = self.others(side, epoch).await?;
        Ok(others.iter().map(|it| format!("{it} writes under another epoch")).collect())
    }

    async fn end(&self, side: Side, epoch: u64, lease: f64) -> Result<Vec<String>, SqlFault> {
        let (session, others) = self.others(side, epoch).await?;
        let mut ended = Vec::new();
        for writer in others.iter().filter(|it| it.silent_s >= lease) {
            terminate(&session, writer.pid).await?;
            ended.push(writer.to_string());
        }
        Ok(ended)
    }
}

impl OlderWriters for FenceTable {
    fn before(&self, side: Side, epoch: u64) -> BoxFuture<'_, Result<Vec<String>, SqlFault>> {
        self.told(side, epoch).boxed()
    }

    fn end_lost(
        &self,
        side: Side,
        epoch: u64,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Vec<String>, SqlFault>> {
        self.end(side, epoch, lease.as_secs_f64()).boxed()
    }
}
