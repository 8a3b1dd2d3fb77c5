//! What comes before anything is held: the evidence, the way back, the prediction, and the
//! members' attention.

use std::time::Duration;

use tokio::time::Instant;

use super::{CutoverStep, LOOK, Run, Stop};
use crate::app::operations::{phase_hooks, setup};
use crate::domain::control::{ControlRow, Phase};
use crate::domain::cutover::{CutoverEnd, Stage};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::gate::{Gate, Mark};
use crate::domain::reason::Reason;
use crate::domain::rounded::rounded;
use crate::domain::side::Side;
use crate::ports::control::ControlStore;
use crate::ports::fleet::FleetStore;
use crate::postgres::cutover::{refuse_prepared, sequences};
use crate::postgres::fence::writers;

/// What the steps under the fence take beside waiting: round trips, and a margin.
const ROUND_TRIPS: u32 = 40;
/// What one waiting key takes to be reconciled, as seen on a busy machine.
const KEY_COST: Duration = Duration::from_micros(500);
/// Gates without which there is no sound cutover. A rehearsal is held to these alone, since it
/// is itself part of the evidence for the others, and so is the way back.
const ALWAYS: [&str; 2] = ["settled", "outbox"];

impl Run<'_> {
    /// The gates, and both directions' capture and rights.
    pub(super) async fn gates(&mut self) -> Result<ControlRow, Stop> {
        let begun = self.begin(CutoverStep::Gates).await;
        let judged = match self.judge().await {
            Ok(judged) => judged,
            Err(fault) => return Err(self.failed(CutoverStep::Gates, begun, fault).await),
        };
        let (row, gates) = judged;
        if row.state.phase.primary() == self.request.to {
            let detail = format!("the {} is the primary already", self.request.to);
            self.done(CutoverStep::Gates, begun, detail).await;
            return Ok(row);
        }
        let mark = Mark::of(&gates);
        let mut needed = gates.iter().filter(|gate| ALWAYS.contains(&gate.name));
        let sound = needed.all(|gate| gate.mark == Mark::Pass);
        if mark != Mark::Pass && !(self.request.force && sound) {
            return Err(Stop::Refused(CutoverEnd::Refused { mark, gates }));
        }
        if let Err(fault) = self.both_ways().await {
            return Err(self.failed(CutoverStep::Gates, begun, fault).await);
        }
        if let Err(fault) = self.end_foreign_writes(&row).await {
            return Err(self.failed(CutoverStep::Gates, begun, fault).await);
        }
        let passed = gates.iter().filter(|gate| gate.mark == Mark::Pass).count();
        let detail =
            format!("{passed} of {} gates passed, capture stands on both sides", gates.len());
        self.done(CutoverStep::Gates, begun, detail).await;
        Ok(row)
    }

    async fn judge(&mut self) -> Result<(ControlRow, Vec<Gate>), SqlFault> {
        self.begun_at = Some(self.parts.watch.now().await?);
        let report = self.parts.steps.judged().await?;
        let row = report.row;
        let fits = match (row.state.phase, self.request.to) {
            (phase, to) if phase.primary() == to && phase.captures() => true,
            (Phase::Shift, Side::Target) | (Phase::Reversed, Side::Source) => true,
            _ => false,
        };
        if !fits {
            let (command, wanted) = match self.request.to {
                Side::Target => ("a cutover", "shift"),
                Side::Source => ("a rollback", "reversed"),
            };
            let message = format!("{command} begins in {wanted}, and this is {}", row.state.phase);
            return Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedPhaseOrder, message)
                .with_hint("`segue phase` shows the way there"));
        }
        let mut gates = report.gates;
        if self.request.rehearse || self.request.to == Side::Source {
            gates.retain(|gate| ALWAYS.contains(&gate.name));
        }
        Ok((row, gates))
    }

    /// A cutover that could not be undone is not made, nor one that could not be finished.
    async fn both_ways(&mut self) -> Result<(), SqlFault> {
        let (config, databases) = (&self.parts.config, &self.parts.databases);
        for side in [Side::Source, Side::Target] {
            let report = setup::install_capture(config, databases, side).await;
            let mut refused = report.map_err(phase_hooks::fault)?.refused;
            let unfit = setup::unfit_tables(config, databases, side).await;
            refused.extend(unfit.map_err(phase_hooks::fault)?);
            if refused.is_empty() {
                continue;
            }
            let tables: Vec<_> = refused.iter().map(phase_hooks::told).collect();
            let message = format!("rows cannot be copied from the {side}: {}", tables.join("; "));
            return Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedOneWay, message)
                .with_hint("mend them, or name them in tables.exclude"));
        }
        if self.request.to == Side::Target {
            self.parts.read_only.check().await?;
        }
        let tables = setup::tables_on(config, databases, self.from()).await;
        (self.tables, _) = tables.map_err(phase_hooks::fault)?;
        self.advance_sequences().await.map(drop)
    }

    /// Sequences of the new primary go on above the old one's.
    pub(super) async fn advance_sequences(&self) -> Result<u64, SqlFault> {
        let own = self.parts.databases.own();
        let (from, to) = (own.of(self.from()).get().await?, own.of(self.request.to).get().await?);
        sequences::advance(&from, &to, &self.tables).await
    }

    /// How long writes will be held, from what waits now and what is open now.
    pub(super) async fn predict(&mut self, row: &ControlRow) -> Result<(), Stop> {
        let begun = self.begin(CutoverStep::Predict).await;
        match self.prediction(row).await {
            Ok(detail) => {
                self.done(CutoverStep::Predict, begun, detail).await;
                Ok(())
            }
            Err(fault) => Err(self.failed(CutoverStep::Predict, begun, fault).await),
        }
    }

    async fn prediction(&mut self, row: &ControlRow) -> Result<String, SqlFault> {
        let whole = self.predict_whole().await?;
        let control = self.parts.databases.control();
        let session = control.of(self.from()).get().await?;
        let asked = Instant::now();
        let writers = writers::shared(&session).await?;
        let trip = asked.elapsed();
        refuse_prepared(&session).await?;
        let asked = Instant::now();
        self.parts.store.read(self.request.to).await?;
        let trip = trip.max(asked.elapsed());
        let waiting = self.parts.outbox.status().await?.pending;
        let open = writers.iter().filter(|it| !it.is_session());
        let open = open.max_by(|one, other| one.open_s.total_cmp_to(other.open_s));
        let limit = self.request.pause_max;
        if let Some(writer) = open
            && writer.open_s.is_some_and(|open_s| open_s > limit.as_secs_f64() / 2.0)
        {
            let message = format!("a transaction may outlive the pause: {writer}");
            return Err(SqlFault::new(
                FaultKind::Precondition,
                Reason::RefusedLongTransaction,
                message,
            )
            .on(self.from())
            .with_hint("let it end, then try again"));
        }
        let keys = u32::try_from(waiting).unwrap_or(u32::MAX);
        let predicted = trip * ROUND_TRIPS + KEY_COST * keys + whole.unwrap_or_default();
        let whole = whole.map_or(String::new(), |whole| {
            format!(", the tables of cutover.full_verify take about {}", rounded(whole))
        });
        let (about, trip) = (rounded(predicted), rounded(trip));
        if predicted > limit {
            let message = format!(
                "writes would be held for about {about}, longer than {limit:?}: {waiting} keys \
                 wait, a round trip takes {trip}{whole}"
            );
            return Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedPause, message)
                .with_hint(
                    "wait until the outbox is smaller, name fewer tables in cutover.full_verify, \
                     or raise --max-pause",
                ));
        }
        let epoch = row.state.epoch;
        Ok(format!(
            "about {about}: {waiting} keys wait, a round trip takes {trip}{whole}, epoch {epoch}"
        ))
    }

    /// Waits, without holding anything up, until every member listens closely. One that has
    /// lost its lease is not waited for: the fence is for those.
    pub(super) async fn prepare(&mut self) -> Result<(), Stop> {
        let begun = self.begin(CutoverStep::Prepare).await;
        match self.come_to_attention().await {
            Ok(members) => {
                self.done(CutoverStep::Prepare, begun, format!("{members} members are ready"))
                    .await;
                Ok(())
            }
            Err(fault) => {
                // It would end with its lease.
                let _ = self.parts.pauses.lift(self.from(), self.pause.id).await;
                Err(self.failed(CutoverStep::Prepare, begun, fault).await)
            }
        }
    }

    async fn come_to_attention(&mut self) -> Result<usize, SqlFault> {
        self.carry_history().await;
        let until = Instant::now() + self.parts.config.cutover.prepare_wait;
        // One whose coordinator was lost is over with its lease.
        let lapsed = Instant::now() + self.parts.config.cutover.pause_lease * 2;
        while let Err(fault) = self.announce(Stage::Prepare).await {
            if fault.reason != Reason::RefusedBusy || Instant::now() >= lapsed.min(until) {
                return Err(fault);
            }
            self.halt.unless_asked()?;
            tokio::time::sleep(LOOK * 20).await;
        }
        let renewing = self.keep_pause();
        let ready = self.wait_for(Stage::Prepare, until).await;
        drop(renewing);
        ready
    }

    pub(super) async fn announce(&mut self, stage: Stage) -> Result<(), SqlFault> {
        self.pause.stage = stage;
        let lease = self.parts.config.cutover.pause_lease;
        let pauses = &self.parts.pauses;
        if pauses.announce(self.from(), &self.pause, &self.request.by, lease).await? {
            return Ok(());
        }
        let message = "another cutover is under way";
        Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedBusy, message)
            .with_hint("wait for its end, or for the end of its lease, and try again"))
    }

    /// Waits until every member whose lease lasts has come so far; answers how many.
    pub(super) async fn wait_for(&self, stage: Stage, until: Instant) -> Result<usize, SqlFault> {
        loop {
            let waiting = self.lagging(stage).await?;
            match waiting {
                Ok(members) => return Ok(members),
                Err(waiting) if Instant::now() >= until => {
                    let message = format!(
                        "not all members have come to the stage {}: {}",
                        stage.as_str(),
                        waiting.join("; ")
                    );
                    return Err(SqlFault::new(
                        FaultKind::Unavailable,
                        Reason::CutoverMembers,
                        message,
                    )
                    .with_hint("see `segue status`: a call or transaction there may not end"));
                }
                Err(_) => {
                    self.halt.unless_asked()?;
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// How many members there are, or those that have not come so far.
    pub(super) async fn lagging(
        &self,
        stage: Stage,
    ) -> Result<Result<usize, Vec<String>>, SqlFault> {
        let fleet = self.parts.fleet.fleet(self.from()).await?;
        let reports = self.parts.pauses.reports(self.from(), self.pause.id).await?;
        let has = |id| reports.iter().any(|(member, at)| *member == id && *at >= stage);
        let late = fleet.alive().filter(|member| !has(member.id));
        let late: Vec<String> = late.map(|member| member.name.clone()).collect();
        Ok(if late.is_empty() { Ok(fleet.alive().count()) } else { Err(late) })
    }
}

/// Seconds that may be unknown.
trait TotalOrder {
    fn total_cmp_to(self, other: Self) -> std::cmp::Ordering;
}

impl TotalOrder for Option<f64> {
    fn total_cmp_to(self, other: Self) -> std::cmp::Ordering {
        self.unwrap_or_default().total_cmp(&other.unwrap_or_default())
    }
}
