//! Notices writes that capture did not see, on both sides, and voids the proofs of their tables.
//!
//! Every few seconds the leader asks each side one question, for all tables at once: which version
//! have the catalogue's rows of capture's triggers, functions and partitions, and how many changed
//! rows has the server counted. What was seen last is kept on the side itself, so that a moment in
//! which no sidecar looked is no gap. Gates and the cutover look once more before they judge.
//!
//! *If we crash here*: proofs are voided before it is noted what was seen, so that the next look
//! voids them again.
//!
//! CockroachDB keeps no versions of catalogue rows that could be asked for: there it is only asked
//! whether capture stands. `DROP … CASCADE` takes a trigger along without a word, and from 26.2 on one
//! can be disabled: as long as it is, the proofs of its table are void again at each look. What was off
//! and on again between two looks is not seen.

mod account;
mod look;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::domain::control::Phase;
use crate::domain::drift::{Accounted, Noticed, Seen, judge};
use crate::domain::fault::SqlFault;
use crate::domain::side::{Side, Sides};
use crate::domain::table::TableName;
use crate::ports::ControlView;
use crate::postgres::capture;
use crate::postgres::pool::{Lease, Pool};
use look::{Known, Tables};

pub use look::Look;

const VOID: &str = "INSERT INTO segue.verify_table (table_id, looked_at, voided_at, void_reason) \
    VALUES ($1, '-infinity', pg_catalog.clock_timestamp(), $2) \
    ON CONFLICT (table_id) DO UPDATE SET voided_at = excluded.voided_at, \
        void_reason = excluded.void_reason";
const NOW: &str = "SELECT pg_catalog.clock_timestamp()";
const VOIDED: &str = "SELECT pg_catalog.concat(m.source_schema, '.', m.source_name, ' ', \
        t.void_reason) FROM segue.verify_table AS t JOIN segue.migrated_table AS m USING (table_id) \
    WHERE t.voided_at >= $1 ORDER BY t.voided_at LIMIT 1";
const EVENT: &str = "INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, \
        from_percentage, to_percentage, forced, changed_by, reason) \
    SELECT pg_catalog.gen_random_uuid(), 'drift', c.epoch, c.phase, c.phase, c.target_percentage, \
        c.target_percentage, false, 'segue', $1 FROM segue.control AS c WHERE c.id = 1";

/// Watches capture on both sides.
#[derive(Clone)]
pub struct CaptureWatch {
    pools: Sides<Pool>,
    control: Arc<dyn ControlView>,
    /// What has been told of tables on CockroachDB whose capture does not stand.
    told: Arc<Mutex<HashMap<i32, String>>>,
}

// === impl CaptureWatch ===

impl CaptureWatch {
    /// Watches these; the control row says which is the primary.
    pub fn new(pools: Sides<Pool>, control: Arc<dyn ControlView>) -> Self {
        Self { pools, control, told: Arc::default() }
    }

    /// Looks at both sides; voids the proofs of tables whose capture was off, and answers which
    /// these are. Each is answered by one look, whoever else looks at the same time.
    ///
    /// # Errors
    ///
    /// What a database reports. What was noticed until then is voided.
    pub async fn look(&self, look: Look) -> Result<Vec<Noticed>, SqlFault> {
        let phase = self.control.current().phase;
        let tables = self.tables(phase.primary()).await?;
        let mut noticed = Vec::new();
        for side in [phase.primary(), phase.primary().other()] {
            noticed.extend(self.look_at(side, phase, &tables, look).await?);
        }
        Ok(noticed)
    }

    async fn tables(&self, primary: Side) -> Result<Tables, SqlFault> {
        let client = self.pools.of(primary).get().await?;
        look::tables(&client).await
    }

    /// The moment by the primary's clock, for [`Self::voided_since`].
    ///
    /// # Errors
    ///
    /// What the primary reports.
    pub async fn now(&self) -> Result<SystemTime, SqlFault> {
        let client = self.pools.of(self.control.current().phase.primary()).get().await?;
        let row = client.query_one(NOW, &[]).await?;
        row.try_get(0)
    }

    /// A table whose proofs were voided since then, whoever noticed it, and why.
    ///
    /// # Errors
    ///
    /// What the primary reports.
    pub async fn voided_since(&self, then: SystemTime) -> Result<Option<String>, SqlFault> {
        let client = self.pools.of(self.control.current().phase.primary()).get().await?;
        let row = client.query_opt(VOIDED, &[&then]).await?;
        row.map(|row| row.try_get(0)).transpose()
    }

    async fn look_at(
        &self,
        side: Side,
        phase: Phase,
        tables: &Tables,
        look: Look,
    ) -> Result<Vec<Noticed>, SqlFault> {
        let client = self.pools.of(side).get().await?;
        if !client.dialect().notes_foreign_writes() {
            return match phase.captures() && phase.primary() == side {
                true => self.ask(side, &client, tables).await,
                false => Ok(Vec::new()),
            };
        }
        if !phase.captures() {
            look::forget(&client).await?;
            return Ok(Vec::new());
        }
        let is_primary = phase.primary() == side;
        // On the primary it captures; on the shadow it notes what others write there, or refuses it.
        let known = look::known(&client, tables, is_primary, phase.captures()).await;
        let mut known = known?;
        let accounted = account::account(&client, &mut known, look, is_primary).await?;
        let mut noticed = Vec::new();
        for table in &mut known {
            let Some(why) = table.why(&accounted) else { continue };
            self.void(phase.primary(), side, table.id, &why).await?;
            if !look::note_one(&client, table).await? {
                // Another one has noticed the same; or it is still as it was.
                continue;
            }
            noticed.push(self.tell(phase.primary(), side, table.name.clone(), why).await?);
        }
        if look::note(&client, &known).await? {
            account::prune(&client).await?;
        }
        Ok(noticed)
    }

    /// Asks a CockroachDB that is the primary whether capture stands on each table.
    async fn ask(
        &self,
        side: Side,
        client: &Lease,
        tables: &Tables,
    ) -> Result<Vec<Noticed>, SqlFault> {
        let (params, mappings) = (capture::Params::new(side), tables.mappings());
        let drifts = capture::verify_installed(client.driver(), &params, &mappings).await;
        let drifts = drifts.map_err(|error| client.fault(error, true));
        let (mut noticed, mut now) = (Vec::new(), HashMap::new());
        for drift in drifts? {
            let Some((id, name)) = tables.find(side, &drift.table) else { continue };
            self.void(side, side, id, &drift.what).await?;
            if self.told().get(&id) != Some(&drift.what) {
                noticed.push(self.tell(side, side, name, drift.what.clone()).await?);
            }
            now.insert(id, drift.what);
        }
        *self.told() = now;
        Ok(noticed)
    }

    fn told(&self) -> MutexGuard<'_, HashMap<i32, String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(
        &self,
        primary: Side,
        side: Side,
        table: TableName,
        why: String,
    ) -> Result<Noticed, SqlFault> {
        tracing::error!(%table, %side, why, "proofs are void: capture may have missed writes");
        let reason = format!("{table} on the {side}: {why}");
        let primary = self.pools.of(primary).get().await?;
        primary.execute(EVENT, &[&reason]).await?;
        Ok(Noticed { side, table, why })
    }

    async fn void(&self, primary: Side, side: Side, id: i32, why: &str) -> Result<(), SqlFault> {
        let reason = format!("on the {side} {why}");
        let client = self.pools.of(primary).get().await?;
        client.execute(VOID, &[&id, &reason]).await?;
        Ok(())
    }
}

impl std::fmt::Debug for CaptureWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureWatch").field("pools", &self.pools).finish_non_exhaustive()
    }
}

// === impl Known ===

impl Known {
    /// Why the proofs of the table are void. Seen for the first time, it need only stand.
    fn why(&self, accounted: &HashMap<i32, Accounted>) -> Option<String> {
        let now =
            Seen { counted: self.now.counted.filter(|_| self.is_counted), ..self.now.clone() };
        let before = self.before.as_ref().unwrap_or(&now);
        // Where no counter has moved nothing is asked.
        let accounted = accounted.get(&self.id).copied().unwrap_or(Accounted::Unknown);
        judge(before, &now, accounted)
    }
}
