//! The flip, and what follows from it.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use super::{CutoverStep, LOOK, Run, Stop, member};
use crate::control::change::Change;
use crate::domain::control::{ControlRow, Phase};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::history::{Event, EventKind, Figures, Standing};
use crate::domain::proof_age;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::failpoint::FailPoint;
use crate::ports::control::ControlStore;
use crate::ports::fleet::FleetStore;
use crate::postgres::control::read_on;
use crate::postgres::cutover::read_only::Made;
use crate::postgres::cutover::{Exclusive, Standbys};

/// For the flip's fate to be found out, and for members to follow it.
const AFTER_FLIP: Duration = Duration::from_secs(10);
/// For standbys to confirm it.
const STANDBYS_WAIT: Duration = Duration::from_secs(1);
/// Attempts at the flip, where only the revision of the row has changed, or it met a transaction
/// that reads the row.
const FLIPS_MAX: u32 = 8;

impl Run<'_> {
    /// One compare-and-set of the row, from the epoch that the fence was raised under, on the
    /// fence's own session: where that is lost, the fence may be, and nothing is changed.
    ///
    /// *If its answer is lost*, the row is asked.
    // Modelled as `Action::Flip` in tests/model_cutover.
    pub(super) async fn flip(
        &mut self,
        fence: &Exclusive,
        row: &ControlRow,
    ) -> Result<ControlRow, Stop> {
        let begun = self.begin(CutoverStep::Flip).await;
        let (from, epoch) = (row.state.epoch, row.state.epoch + 1);
        let flipped = match self.compare_and_set(fence, from).await {
            Ok(flipped) => flipped,
            Err(fault) => self.was_flipped(epoch, &fault).await?,
        };
        if !flipped {
            let message =
                "the control row was changed meanwhile, and the flip did not pass it over";
            let fault = SqlFault::new(FaultKind::Precondition, Reason::ControlChanged, message);
            return Err(self.failed(CutoverStep::Flip, begun, fault.with_hint("try again")).await);
        }
        let row = self.row_after_flip(epoch).await?;
        let mut detail = format!("epoch {epoch}, {}", row.state.phase);
        detail += &self.on_standbys(fence).await;
        self.done(CutoverStep::Flip, begun, detail).await;
        Ok(row)
    }

    /// One that is promoted without the flip would name the old primary again, until a member
    /// has brought its row up.
    async fn on_standbys(&self, fence: &Exclusive) -> String {
        match fence.standbys(STANDBYS_WAIT).await {
            Ok(Standbys { all: 0, .. }) => String::new(),
            Ok(Standbys { all, behind: 0 }) => format!("; {all} standbys have it"),
            Ok(Standbys { all, behind }) => {
                tracing::warn!(all, behind, "standbys have not confirmed the flip");
                format!(
                    "; {behind} of {all} standbys have not confirmed it: do not promote them yet"
                )
            }
            Err(fault) => {
                tracing::warn!(%fault, "standbys could not be asked for the flip");
                "; standbys could not be asked".to_owned()
            }
        }
    }

    /// The leader may have moved the share of reads since: that is another revision of the same
    /// epoch, and is looked at once more.
    async fn compare_and_set(&self, fence: &Exclusive, epoch: u64) -> Result<bool, SqlFault> {
        let phase = if self.request.to == Side::Target { Phase::Reversed } else { Phase::Shift };
        for _ in 0..FLIPS_MAX {
            let row = read_on(fence.session()).await?;
            let Some(row) = row.filter(|row| row.state.epoch == epoch) else { return Ok(false) };
            let change = Change {
                // After a way back an operator says when reads are shifted again.
                held: phase == Phase::Shift,
                forced: self.request.force,
                figures: self.figures(),
                ..Change::phase(phase, &self.request.by, &self.request.reason)
            };
            let mut after = change.row_after(&row);
            // Whoever asks for the operation finds by this that the switch was made.
            after.event.iter_mut().for_each(|event| event.id = self.pause.id);
            match fence.change(row.version(), after).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // It met another transaction, and is undone.
                Err(fault) if fault.sqlstate == sqlstate::SERIALIZATION_FAILURE => {
                    tracing::debug!(%fault, "the flip is made again");
                    tokio::time::sleep(LOOK).await;
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(false)
    }

    /// Asks the row until it can be read. Members do the same, whatever comes of it here.
    async fn was_flipped(&self, epoch: u64, fault: &SqlFault) -> Result<bool, Stop> {
        tracing::warn!(%fault, "the flip's answer was lost; the control row is asked");
        let until = Instant::now() + AFTER_FLIP;
        loop {
            match self.parts.store.read(self.from()).await {
                Ok(row) => return Ok(row.is_some_and(|row| row.state.epoch >= epoch)),
                Err(fault) if Instant::now() >= until => return Err(fault.into()),
                Err(_) => tokio::time::sleep(LOOK * 20).await,
            }
        }
    }

    async fn row_after_flip(&self, epoch: u64) -> Result<ControlRow, Stop> {
        let until = Instant::now() + AFTER_FLIP;
        loop {
            self.parts.refresher.refresh().await;
            let row = self.parts.control.row();
            if row.state.epoch >= epoch {
                return Ok(row);
            }
            if Instant::now() >= until {
                let message = "the flip was made, and the control row cannot be read";
                let fault =
                    SqlFault::new(FaultKind::Unavailable, Reason::ControlUnreadable, message);
                return Err(fault.with_hint("members follow it by themselves").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whatever fails here is done by the members.
    pub(super) async fn release(&mut self, row: &ControlRow) {
        let begun = self.begin(CutoverStep::Release).await;
        if let Err(fault) = member::raise(&self.parts.store, &self.parts.readers, row).await {
            tracing::warn!(%fault, "the new primary's control row is left to the members");
        }
        self.reach(FailPoint::CutoverAfterRaising).await;
        let until = Instant::now() + AFTER_FLIP;
        let epoch = row.state.epoch;
        // How many members are still to follow, as soon as that is known.
        let mut waiting = None;
        while Instant::now() < until {
            let fleet = self.parts.fleet.fleet(self.request.to).await;
            // Those that were prepared are expected on the new primary.
            let expected = self.parts.pauses.reports(self.from(), self.pause.id).await;
            if let (Ok(fleet), Ok(expected)) = (fleet, expected) {
                let there = |id| fleet.members.iter().any(|it| it.id == id && it.epoch >= epoch);
                waiting = Some(expected.iter().filter(|(id, _)| !there(*id)).count());
                if waiting == Some(0) {
                    break;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        self.carry_history().await;
        let mut detail = match waiting {
            Some(0) => format!("all members write on the {}", self.request.to),
            Some(late) => format!("{late} members are still to follow"),
            None => "whether all members have followed is not known".to_owned(),
        };
        match self.parts.read_only.follow(row).await {
            Ok(made) if made.roles == 0 => {}
            Ok(made) if self.request.to == Side::Target => {
                let Made { roles, ended } = made;
                let _ = write!(
                    detail,
                    "; {roles} roles are read-only on the source, {ended} of their sessions ended"
                );
            }
            Ok(made) => {
                let _ = write!(detail, "; {} roles may write on the source again", made.roles);
            }
            Err(fault) => {
                tracing::warn!(%fault, "the roles of applications are left to the leader");
                detail += "; the roles of applications are still to be changed";
            }
        }
        self.done(CutoverStep::Release, begun, detail).await;
    }

    /// The new primary gets the history. It is the same where it has it already.
    pub(super) async fn carry_history(&self) {
        let (store, to) = (&self.parts.store, self.request.to);
        let history = match store.history(self.from(), 100).await {
            Ok(history) => history,
            Err(fault) => {
                tracing::warn!(%fault, "the history of the new primary is left to the leader");
                return;
            }
        };
        for recorded in history {
            if let Err(fault) = store.record(to, recorded.event, Some(recorded.at)).await {
                tracing::warn!(%fault, "the history of the new primary is left to the leader");
                return;
            }
        }
    }

    /// For how long writes are held so far, and what was proven when.
    fn figures(&self) -> Figures {
        let held_ms = self.held_for().as_secs_f64() * 1000.0;
        let held = Figures::default().number("writes_held_ms", held_ms);
        proof_age::record(held, &self.proofs)
    }

    pub(super) async fn note_rehearsal(&self, row: &ControlRow) -> Result<(), SqlFault> {
        let standing = Standing { phase: row.state.phase, percentage: row.target_percentage };
        let event = Event {
            id: self.pause.id,
            kind: EventKind::Rehearsal,
            from: standing,
            to: standing,
            epoch: row.state.epoch,
            forced: false,
            changed_by: self.request.by.clone(),
            reason: self.request.reason.clone(),
            figures: self.figures(),
        };
        self.parts.store.record(self.from(), event, None).await
    }
}
