//! `segue.control`: one row in each database.

use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::control::{ControlRow, ControlState, Percentage, Phase, ReadsOff, Version};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::MemberId;
use crate::domain::history::{Event, Recorded};
use crate::domain::page::{Page, PageRequest};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::domain::sqlstate;
use crate::ports::control::{ControlChange, ControlStore};
use crate::postgres::control::change::change_on;
use crate::postgres::control::history;
use crate::postgres::control::promote::promote;
use crate::postgres::fence::number;
use crate::postgres::pool::Pool;
use crate::postgres::session::Session;
use crate::postgres::session::asked::Row;
use crate::postgres::session::settings::Purpose;

pub(in crate::postgres) const READ: &str = "
SELECT epoch, phase, target_percentage, reason, changed_by, changed_at, revision, held,
    coalesce(phase_since, changed_at), settled_at, reads_off, reads_off_by::text
FROM segue.control WHERE id = 1";

/// Of the channel on which a change of the row is told.
const LISTEN: &str = "LISTEN segue_control";

const FIRST: &str = "
INSERT INTO segue.control (id, epoch, revision, phase, target_percentage, held, reason, changed_by)
VALUES (1, $1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";

/// The control rows behind pools of segue's own sessions.
#[derive(Debug, Clone)]
pub struct ControlTable {
    pools: Sides<Pool>,
}

// === impl ControlTable ===

impl ControlTable {
    /// The rows of these two databases.
    pub fn new(pools: Sides<Pool>) -> Self {
        Self { pools }
    }

    async fn read_row(&self, side: Side) -> Result<Option<ControlRow>, SqlFault> {
        let session = self.pools.of(side).get().await?;
        read_on(&session).await
    }

    /// On a session of its own, which does nothing else.
    async fn hear(&self, side: Side, changed: &Notify) -> Result<(), SqlFault> {
        let session = self.pools.of(side).connector().connect(Purpose::Own).await?;
        // Dropped at any time, it is closed at once.
        session.set_busy(true);
        if !session.dialect().has_notify() {
            drop(session);
            return std::future::pending().await;
        }
        session.batch_execute(LISTEN).await?;
        // What was changed before is read now.
        changed.notify_one();
        while session.notified().await {
            changed.notify_one();
        }
        let message = "the session that listens for changes has ended";
        Err(SqlFault::new(FaultKind::ConnectionLost, Reason::ControlListen, message).on(side))
    }

    async fn change(
        &self,
        side: Side,
        from: Option<Version>,
        to: ControlChange,
    ) -> Result<bool, SqlFault> {
        let pool = self.pools.of(side);
        let session = pool.get().await?;
        let Some(from) = from else { return first(&session, to).await };
        if to.state.phase.primary() == side && session.dialect().has_advisory_locks() {
            // It may have followed before.
            return promote(&session, from, to, pool.failpoints()).await;
        }
        change_on(&session, from, to).await
    }
}

/// The row of a session's side; nothing where it has none yet.
///
/// # Errors
///
/// What the database reports.
pub async fn read_on(session: &Session) -> Result<Option<ControlRow>, SqlFault> {
    let prepared = match session.prepared(READ).await {
        Ok(prepared) => prepared,
        Err(fault)
            if [sqlstate::UNDEFINED_TABLE, sqlstate::INVALID_SCHEMA_NAME]
                .contains(&&*fault.sqlstate) =>
        {
            return Ok(None);
        }
        Err(fault) => return Err(fault),
    };
    let row = session.query_opt(&prepared.statement, &[]).await?;
    row.map(|row| control_row(&row, session.side())).transpose()
}

async fn first(session: &Session, to: ControlChange) -> Result<bool, SqlFault> {
    let side = session.side();
    let (epoch, revision) = (number(to.state.epoch, side)?, number(to.revision, side)?);
    let (phase, percent) = (to.state.phase.as_str(), to.target_percentage.percent());
    let params: [&(dyn ToSql + Sync); 7] =
        [&epoch, &revision, &phase, &percent, &to.held, &to.reason, &to.changed_by];
    let prepared = session.prepared(FIRST).await?;
    let made = session.execute(&prepared.statement, &params).await;
    made.map(|rows| rows == 1)
}

impl ControlStore for ControlTable {
    fn read(&self, side: Side) -> BoxFuture<'_, Result<Option<ControlRow>, SqlFault>> {
        self.read_row(side).boxed()
    }

    fn listen<'a>(
        &'a self,
        side: Side,
        changed: &'a Notify,
    ) -> BoxFuture<'a, Result<(), SqlFault>> {
        self.hear(side, changed).boxed()
    }

    fn compare_and_set(
        &self,
        side: Side,
        from: Option<Version>,
        to: ControlChange,
    ) -> BoxFuture<'_, Result<bool, SqlFault>> {
        self.change(side, from, to).boxed()
    }

    fn note_settled(
        &self,
        side: Side,
        epoch: u64,
        event: Event,
    ) -> BoxFuture<'_, Result<bool, SqlFault>> {
        history::note_settled(self.pools.of(side), epoch, event).boxed()
    }

    fn record(
        &self,
        side: Side,
        event: Event,
        at: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<(), SqlFault>> {
        history::record(self.pools.of(side), event, at).boxed()
    }

    fn history(&self, side: Side, limit: u32) -> BoxFuture<'_, Result<Vec<Recorded>, SqlFault>> {
        history::list(self.pools.of(side), limit).boxed()
    }

    fn history_page(
        &self,
        side: Side,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<Page<Recorded>, SqlFault>> {
        async move { history::page(self.pools.of(side), &page).await }.boxed()
    }
}

/// A row of [`READ`].
pub(in crate::postgres) fn control_row(row: &Row, side: Side) -> Result<ControlRow, SqlFault> {
    let unreadable = |message: String| {
        SqlFault::new(FaultKind::Precondition, Reason::ControlUnreadable, message)
            .on(side)
            .with_hint("the row may be of a newer segue; run the version that wrote it")
    };
    let text = |error: SqlFault| unreadable(format!("segue.control cannot be read: {error}"));
    let phase: String = row.try_get(1).map_err(text)?;
    let phase: Phase = phase.parse().map_err(|error| unreadable(format!("{error}")))?;
    let percent: f64 = row.try_get(2).map_err(text)?;
    let target_percentage = Percentage::of(percent)
        .ok_or_else(|| unreadable(format!("a target_percentage of {percent} is not 0 to 100")))?;
    let epoch = row.try_get::<_, i64>(0).map_err(text)?.unsigned_abs();
    Ok(ControlRow {
        state: ControlState { epoch, phase },
        revision: row.try_get::<_, i64>(6).map_err(text)?.unsigned_abs(),
        target_percentage,
        held: row.try_get(7).map_err(text)?,
        reason: row.try_get(3).map_err(text)?,
        changed_by: row.try_get::<_, Option<String>>(4).map_err(text)?.unwrap_or_default(),
        changed_at: row.try_get(5).map_err(text)?,
        phase_since: row.try_get(8).map_err(text)?,
        settled_at: row.try_get(9).map_err(text)?,
        reads_off: reads_off(row).map_err(text)?,
    })
}

fn reads_off(row: &Row) -> Result<Option<ReadsOff>, SqlFault> {
    let reason: Option<String> = row.try_get(10)?;
    let by: Option<String> = row.try_get(11)?;
    let by = by.and_then(|by| by.parse::<Uuid>().ok()).map(|by| MemberId(by.as_u128()));
    Ok(reason.map(|reason| ReadsOff { reason, by }))
}
