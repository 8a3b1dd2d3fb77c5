//! Control rows and a fleet in memory, by a clock of the tests.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::domain::control::{ControlRow, Version};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::{Fleet, Member, MemberId};
use crate::domain::history::{Event, Recorded};
use crate::domain::page::{Page, PageRequest};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::ports::control::{ControlChange, ControlStore};
use crate::ports::fleet::{FleetStore, Renewal, Renewed};

/// Both databases' tables. The clock stands still unless it is moved.
#[derive(Debug)]
pub(super) struct Rows(Mutex<State>);

#[derive(Debug)]
struct State {
    now: SystemTime,
    rows: Sides<Option<ControlRow>>,
    history: Sides<Vec<Recorded>>,
    members: BTreeMap<MemberId, Member>,
    leader: Option<(MemberId, SystemTime)>,
    away: bool,
    keeps_readers: bool,
}

impl Default for Rows {
    fn default() -> Self {
        Self(Mutex::new(State {
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            rows: Sides { source: None, target: None },
            history: Sides { source: Vec::new(), target: Vec::new() },
            members: BTreeMap::new(),
            leader: None,
            away: false,
            keeps_readers: false,
        }))
    }
}

impl Rows {
    pub(super) fn epochs(&self) -> [Option<u64>; 2] {
        let state = self.0.lock().unwrap();
        [&state.rows.source, &state.rows.target].map(|row| row.as_ref().map(|row| row.state.epoch))
    }

    pub(super) fn drop_row(&self, side: Side) {
        *row_of(&mut self.0.lock().unwrap().rows, side) = None;
    }

    pub(super) fn set_row(&self, side: Side, row: ControlRow) {
        *row_of(&mut self.0.lock().unwrap().rows, side) = Some(row);
    }

    pub(super) fn pass(&self, time: Duration) {
        self.0.lock().unwrap().now += time;
    }

    /// From now on nobody can end sessions that answer reads.
    pub(super) fn keep_readers(&self) {
        self.0.lock().unwrap().keeps_readers = true;
    }

    /// From now on everything fails, or does no longer.
    pub(super) fn set_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> T,
    ) -> BoxFuture<'static, Result<T, SqlFault>> {
        let mut state = self.0.lock().unwrap();
        let answer = if state.away {
            Err(SqlFault::new(
                FaultKind::Unavailable,
                Reason::UnavailableConnect,
                "connection refused",
            ))
        } else {
            Ok(work(&mut state))
        };
        Box::pin(async move { answer })
    }
}

fn row_of(rows: &mut Sides<Option<ControlRow>>, side: Side) -> &mut Option<ControlRow> {
    match side {
        Side::Source => &mut rows.source,
        Side::Target => &mut rows.target,
    }
}

fn record(state: &mut State, side: Side, event: Event, at: Option<SystemTime>) {
    let at = at.unwrap_or(state.now);
    let history = match side {
        Side::Source => &mut state.history.source,
        Side::Target => &mut state.history.target,
    };
    if history.iter().all(|it| it.event.id != event.id) {
        history.push(Recorded { at, event });
    }
}

impl ControlStore for Rows {
    fn read(&self, side: Side) -> BoxFuture<'_, Result<Option<ControlRow>, SqlFault>> {
        self.with(|state| state.rows.of(side).clone())
    }

    fn listen<'a>(&'a self, _: Side, _: &'a Notify) -> BoxFuture<'a, Result<(), SqlFault>> {
        Box::pin(std::future::pending())
    }

    fn compare_and_set(
        &self,
        side: Side,
        from: Option<Version>,
        to: ControlChange,
    ) -> BoxFuture<'_, Result<bool, SqlFault>> {
        self.with(move |state| {
            let now = state.now;
            let place = row_of(&mut state.rows, side);
            if place.as_ref().map(ControlRow::version) != from {
                return false;
            }
            let (since, settled_at) = match place {
                Some(row) if row.state.epoch == to.state.epoch => (row.phase_since, row.settled_at),
                _ => (now, None),
            };
            *place = Some(ControlRow {
                state: to.state,
                revision: to.revision,
                target_percentage: to.target_percentage,
                held: to.held,
                reason: to.reason,
                changed_by: to.changed_by,
                changed_at: now,
                phase_since: since,
                settled_at,
                reads_off: to.reads_off,
            });
            if let Some(event) = to.event {
                record(state, side, event, None);
            }
            true
        })
    }

    fn note_settled(
        &self,
        side: Side,
        epoch: u64,
        event: Event,
    ) -> BoxFuture<'_, Result<bool, SqlFault>> {
        self.with(move |state| {
            let now = state.now;
            let Some(row) = row_of(&mut state.rows, side) else { return false };
            if row.state.epoch != epoch || row.settled_at.is_some() {
                return false;
            }
            row.settled_at = Some(now);
            record(state, side, event, None);
            true
        })
    }

    fn record(
        &self,
        side: Side,
        event: Event,
        at: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<(), SqlFault>> {
        self.with(move |state| record(state, side, event, at))
    }

    fn history(&self, side: Side, limit: u32) -> BoxFuture<'_, Result<Vec<Recorded>, SqlFault>> {
        self.with(move |state| {
            state.history.of(side).iter().rev().take(limit as usize).cloned().collect()
        })
    }

    /// All in one page.
    fn history_page(
        &self,
        side: Side,
        _: PageRequest,
    ) -> BoxFuture<'_, Result<Page<Recorded>, SqlFault>> {
        self.with(move |state| Page {
            items: state.history.of(side).iter().rev().cloned().collect(),
            next: None,
        })
    }
}

impl FleetStore for Rows {
    fn renew(&self, side: Side, renewal: Renewal) -> BoxFuture<'_, Result<Renewed, SqlFault>> {
        self.with(move |state| {
            let now = state.now;
            let started_at = state.members.get(&renewal.id).map_or(now, |it| it.started_at);
            let lease_until = now + renewal.lease;
            let id = renewal.id;
            let member = Member {
                id,
                name: renewal.name,
                address: renewal.address,
                version: renewal.version,
                epoch: renewal.acknowledged.epoch,
                revision: renewal.acknowledged.revision,
                started_at,
                lease_until,
                figures: renewal.figures,
            };
            state.members.insert(id, member);
            let leads = state.leader.is_none_or(|(leader, until)| leader == id || until < now);
            if leads {
                state.leader = Some((id, lease_until));
            }
            Renewed { row: state.rows.of(side).clone(), leads }
        })
    }

    fn fleet(&self, _: Side) -> BoxFuture<'_, Result<Fleet, SqlFault>> {
        self.with(|state| Fleet {
            now: state.now,
            leader: state.leader.filter(|(_, until)| *until > state.now).map(|(id, _)| id),
            members: state.members.values().cloned().collect(),
        })
    }

    fn leave(&self, _: Side, id: MemberId) -> BoxFuture<'_, Result<(), SqlFault>> {
        self.with(move |state| {
            state.members.remove(&id);
            state.leader = state.leader.filter(|(leader, _)| *leader != id);
        })
    }

    fn ends_readers(&self, _: Side) -> bool {
        !self.0.lock().unwrap().keeps_readers
    }

    fn forget_lapsed(&self, _: Side, ago: Duration) -> BoxFuture<'_, Result<u64, SqlFault>> {
        self.with(move |state| {
            let before = state.members.len();
            let oldest = state.now - ago;
            state.members.retain(|_, member| member.lease_until >= oldest);
            (before - state.members.len()) as u64
        })
    }
}
