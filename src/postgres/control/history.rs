//! `segue.history`: what was changed, by whom and why.

use std::time::SystemTime;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::control::Percentage;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::history::{Event, Figures, Recorded, Standing};
use crate::domain::page::{Cursor, Page, PageRequest};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::control::cursor;
use crate::postgres::control::notice::told;
use crate::postgres::fence::number;
use crate::postgres::pool::Pool;
use crate::postgres::session::asked::Row;

const RECORD: &str = "
INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, from_percentage,
    to_percentage, forced, changed_by, reason, figures, at)
VALUES ($1::text::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
    coalesce($12::timestamptz, pg_catalog.clock_timestamp()))
ON CONFLICT (event_id) DO NOTHING";

/// All keys that wait then were written before, whatever the server's clock was set to between.
const SETTLED: &str = "
WITH changed AS (
    UPDATE segue.control SET settled_at = greatest(pg_catalog.clock_timestamp(),
        (SELECT pg_catalog.max(o.created_at) FROM segue.outbox AS o WHERE o.forgotten_at IS NULL))
    WHERE id = 1 AND epoch = $3::int8 AND settled_at IS NULL RETURNING 1 AS one),
recorded AS (
    INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, from_percentage,
        to_percentage, forced, changed_by, reason, figures)
    SELECT $1::text::uuid, $2::text, $3::int8, $4::text, $5::text, $6::float8, $7::float8,
        $8::bool, $9::text, $10::text, $11::text
    FROM changed ON CONFLICT (event_id) DO NOTHING RETURNING 1)";

/// Events of one moment in the order of their epochs.
const LIST: &str = "
SELECT event_id::text, at, kind, epoch, from_phase, to_phase, from_percentage, to_percentage,
    forced, changed_by, reason, figures
FROM segue.history ORDER BY at DESC, epoch DESC, event_id LIMIT $1";

/// A page of them.
const PAGE: &str = "
SELECT event_id::text, at, kind, epoch, from_phase, to_phase, from_percentage, to_percentage,
    forced, changed_by, reason, figures
FROM segue.history
WHERE $2::timestamptz IS NULL OR at < $2::timestamptz
    OR at = $2::timestamptz AND (epoch < $3 OR epoch = $3 AND event_id > $4::text::uuid)
ORDER BY at DESC, epoch DESC, event_id LIMIT $1";

/// An event as its columns, in the order of [`RECORD`]; all NULL where there is none.
#[derive(Debug, Default)]
pub(in crate::postgres) struct Columns {
    id: Option<String>,
    kind: Option<&'static str>,
    epoch: Option<i64>,
    from_phase: Option<&'static str>,
    to_phase: Option<&'static str>,
    from_percentage: Option<f64>,
    to_percentage: Option<f64>,
    forced: Option<bool>,
    changed_by: Option<String>,
    reason: Option<String>,
    figures: Option<String>,
}

// === impl Columns ===

impl Columns {
    pub(in crate::postgres) fn of(event: Event, side: Side) -> Result<Self, SqlFault> {
        Ok(Self {
            id: Some(Uuid::from_u128(event.id).to_string()),
            kind: Some(event.kind.as_str()),
            epoch: Some(number(event.epoch, side)?),
            from_phase: Some(event.from.phase.as_str()),
            to_phase: Some(event.to.phase.as_str()),
            from_percentage: Some(event.from.percentage.percent()),
            to_percentage: Some(event.to.percentage.percent()),
            forced: Some(event.forced),
            changed_by: Some(event.changed_by),
            reason: Some(event.reason),
            figures: Some(event.figures.to_string()),
        })
    }

    pub(in crate::postgres) fn params(&self) -> [&(dyn ToSql + Sync); 11] {
        [
            &self.id,
            &self.kind,
            &self.epoch,
            &self.from_phase,
            &self.to_phase,
            &self.from_percentage,
            &self.to_percentage,
            &self.forced,
            &self.changed_by,
            &self.reason,
            &self.figures,
        ]
    }
}

pub(in crate::postgres) async fn record(
    pool: &Pool,
    event: Event,
    at: Option<SystemTime>,
) -> Result<(), SqlFault> {
    let columns = Columns::of(event, pool.side())?;
    let session = pool.get().await?;
    let prepared = session.prepared(RECORD).await?;
    let mut params = columns.params().to_vec();
    params.push(&at);
    let recorded = session.execute(&prepared.statement, &params).await;
    recorded.map(|_| ())
}

pub(in crate::postgres) async fn note_settled(
    pool: &Pool,
    epoch: u64,
    event: Event,
) -> Result<bool, SqlFault> {
    let columns = Columns::of(Event { epoch, ..event }, pool.side())?;
    let session = pool.get().await?;
    let prepared = session.prepared(&told(&session, SETTLED)).await?;
    let noted = session.query_one(&prepared.statement, &columns.params()).await;
    let noted = noted.and_then(|row| row.try_get::<_, i64>(0));
    noted.map(|rows| rows == 1)
}

pub(in crate::postgres) async fn list(pool: &Pool, limit: u32) -> Result<Vec<Recorded>, SqlFault> {
    let session = pool.get().await?;
    let prepared = session.prepared(LIST).await?;
    let rows = session.query(&prepared.statement, &[&i64::from(limit)]).await?;
    rows.iter().map(|row| recorded(row, pool.side())).collect()
}

pub(in crate::postgres) async fn page(
    pool: &Pool,
    page: &PageRequest,
) -> Result<Page<Recorded>, SqlFault> {
    let (at, epoch, id) = match page.after.as_ref().map(|it| it.0.as_slice()) {
        None => (None, 0, None),
        Some([at, epoch, id]) => {
            let epoch: i64 = epoch.parse().map_err(|_| cursor::unknown())?;
            let id: Uuid = id.parse().map_err(|_| cursor::unknown())?;
            (Some(cursor::time(at)?), epoch, Some(id.to_string()))
        }
        Some(_) => return Err(cursor::unknown()),
    };
    let session = pool.get().await?;
    let prepared = session.prepared(PAGE).await?;
    let limit = i64::from(page.size) + 1;
    let rows = session.query(&prepared.statement, &[&limit, &at, &epoch, &id]).await?;
    let found: Result<Vec<_>, _> = rows.iter().map(|row| recorded(row, pool.side())).collect();
    let place = |it: &Recorded| {
        let id = Uuid::from_u128(it.event.id).to_string();
        Cursor(vec![cursor::of_time(it.at), it.event.epoch.to_string(), id])
    };
    Ok(Page::cut(found?, page.size, place))
}

fn recorded(row: &Row, side: Side) -> Result<Recorded, SqlFault> {
    let unreadable = |why: String| {
        let message = format!("an event of segue.history cannot be read: {why}");
        SqlFault::new(FaultKind::Precondition, Reason::HistoryUnreadable, message)
            .on(side)
            .with_hint("it may be of a newer segue; run the version that wrote it")
    };
    let text = |index| row.try_get::<_, String>(index).map_err(|e| unreadable(e.to_string()));
    let standing = |phase: usize, percentage: usize| {
        let percent: f64 = row.try_get(percentage).map_err(|e| unreadable(e.to_string()))?;
        Ok::<_, SqlFault>(Standing {
            phase: text(phase)?.parse().map_err(|e| unreadable(format!("{e}")))?,
            percentage: Percentage::of(percent)
                .ok_or_else(|| unreadable(format!("{percent} is no percentage")))?,
        })
    };
    let id: Uuid = text(0)?.parse().map_err(|e| unreadable(format!("{e}")))?;
    let epoch: i64 = row.try_get(3).map_err(|e| unreadable(e.to_string()))?;
    Ok(Recorded {
        at: row.try_get(1).map_err(|e| unreadable(e.to_string()))?,
        event: Event {
            id: id.as_u128(),
            kind: text(2)?.parse().map_err(unreadable)?,
            from: standing(4, 6)?,
            to: standing(5, 7)?,
            epoch: epoch.unsigned_abs(),
            forced: row.try_get(8).map_err(|e| unreadable(e.to_string()))?,
            changed_by: text(9)?,
            reason: text(10)?,
            figures: Figures::parse(&text(11)?),
        },
    })
}
