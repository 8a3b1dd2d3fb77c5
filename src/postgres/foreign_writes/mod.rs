//! Writes on the side that follows that are not segue's, reconciled back and named.
//!
//! The target's trigger notes them from `dual_write` until `shift`, from where on it refuses them
//! (`postgres::capture`). Here the notes become keys of the primary's outbox, so that the machinery
//! which makes rows equal makes these equal as well, and their writers are listed until an operator
//! has resolved them. The source refuses such writes as long as it follows: there are no notes of
//! it.
//!
//! On CockroachDB nothing is noted.

mod notes;
mod pending;
mod writers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::fault::SqlFault;
use crate::domain::foreign::ForeignWrites;
use crate::domain::side::{Side, Sides};
use crate::ports::ControlView;
use crate::ports::admin::ForeignAdmin;
use crate::postgres::pool::{Lease, Pool};

use notes::Note;
pub use pending::NotedKeys;

/// Notes that somebody else is taking are waited for so long, where something is decided by them.
const OTHERS_MAX: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL synchronous_commit = on";

/// The side that notes.
const NOTING: Side = Side::Target;

/// What is made of the notes.
#[derive(Clone)]
pub struct ForeignNotes {
    pools: Sides<Pool>,
    control: Arc<dyn ControlView>,
}

// === impl ForeignNotes ===

impl ForeignNotes {
    /// Of these databases; the control row says which is the primary.
    pub fn new(pools: Sides<Pool>, control: Arc<dyn ControlView>) -> Self {
        Self { pools, control }
    }

    /// Makes keys of the primary's outbox of all notes that nobody else is taking. Answers how many
    /// notes there were.
    ///
    /// Notes are taken away in a transaction that is committed after the one that writes the keys.
    /// *If we crash here*, they are there as before: their keys are reconciled once more, which
    /// changes nothing, and counted once more.
    ///
    /// # Errors
    ///
    /// What a database reports.
    pub async fn fold(&self) -> Result<u64, SqlFault> {
        let phase = self.control.current().phase;
        if phase.primary() == NOTING {
            return Ok(0);
        }
        let client = self.pools.of(NOTING).get().await?;
        if !client.dialect().notes_foreign_writes() {
            return Ok(0);
        }
        if !phase.captures() {
            notes::discard(&client).await?;
            return Ok(0);
        }
        let mut folded = 0;
        if !notes::waiting(&client).await? {
            return Ok(folded);
        }
        for table_id in notes::crowded(&client).await? {
            folded += self.hand_over(&client, Some(table_id)).await?;
        }
        loop {
            let some = self.hand_over(&client, None).await?;
            if some == 0 {
                return Ok(folded);
            }
            folded += some;
        }
    }

    /// Hands some notes over, or all of a table; answers how many.
    async fn hand_over(&self, client: &Lease, table_id: Option<i32>) -> Result<u64, SqlFault> {
        // Dropped in the middle, the session is closed rather than used again.
        client.set_busy(true);
        notes::begin(client).await?;
        let handed = async {
            let notes = match table_id {
                Some(table_id) => notes::take_whole(client, table_id).await?,
                None => notes::take(client).await?,
            };
            if !notes.is_empty() {
                self.list(client.side(), &notes).await?;
            }
            Ok::<_, SqlFault>(notes.len() as u64)
        };
        let handed = handed.await;
        let end = if handed.is_ok() { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await?;
        client.set_busy(false);
        handed
    }

    async fn list(&self, side: Side, notes: &[Note]) -> Result<(), SqlFault> {
        let client = self.pools.of(side.other()).get().await?;
        client.set_busy(true);
        client.batch_execute(BEGIN).await?;
        let listed = writers::add(&client, side, notes).await;
        let end = if listed.is_ok() { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await?;
        client.set_busy(false);
        listed
    }

    /// Who wrote; `anew` where something is decided by it, so that notes are taken first.
    ///
    /// # Errors
    ///
    /// What a database reports.
    pub async fn look(&self, anew: bool) -> Result<ForeignWrites, SqlFault> {
        let waiting = if anew { self.fold_all().await? } else { false };
        let client = self.pools.of(NOTING.other()).get().await?;
        Ok(ForeignWrites { writers: writers::all(&client).await?, waiting })
    }

    /// The same until no note is left, also of those that another member is taking; whether there
    /// are any all the same.
    async fn fold_all(&self) -> Result<bool, SqlFault> {
        let begun = Instant::now();
        loop {
            self.fold().await?;
            if self.control.current().phase.primary() == NOTING {
                return Ok(false);
            }
            let client = self.pools.of(NOTING).get().await?;
            let waiting =
                client.dialect().notes_foreign_writes() && notes::waiting(&client).await?;
            if !waiting || begun.elapsed() >= OTHERS_MAX {
                return Ok(waiting);
            }
            drop(client);
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl ForeignAdmin for ForeignNotes {
    // The order matters: who comes after the row is refused, who came before holds the lock of
    // captured transactions until its end, and what it noted is there from its commit on.
    fn none_left(&self, epoch: u64) -> BoxFuture<'_, Result<bool, SqlFault>> {
        async move {
            let client = self.pools.of(NOTING).get().await?;
            if !client.dialect().notes_foreign_writes() {
                return Ok(true);
            }
            if !notes::refused_since(&client, epoch).await?
                || !notes::writers_ended(&client).await?
            {
                return Ok(false);
            }
            drop(client);
            self.fold_all().await.map(|waiting| !waiting)
        }
        .boxed()
    }

    fn writes(&self, anew: bool) -> BoxFuture<'_, Result<ForeignWrites, SqlFault>> {
        self.look(anew).boxed()
    }

    fn resolve(
        &self,
        id: Option<String>,
        by: String,
        reason: String,
    ) -> BoxFuture<'_, Result<u64, SqlFault>> {
        async move {
            let client = self.pools.of(NOTING.other()).get().await?;
            writers::resolve(&client, id.as_deref(), &by, &reason).await
        }
        .boxed()
    }
}

impl std::fmt::Debug for ForeignNotes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignNotes").field("pools", &self.pools).finish_non_exhaustive()
    }
}
