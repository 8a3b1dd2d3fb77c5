//! When the share of the target's reads moves: up by a schedule, back by a trigger.
//!
//! Pure: the moment and the figures are handed in.

use std::time::{Duration, SystemTime};

use crate::domain::control::{ControlRow, Percentage, Phase};
use crate::domain::figures::{FleetFigures, SideFigures};
use crate::domain::lag::Waiting;
use crate::domain::status::{FoldedTable, OutboxStatus};

/// How reads are shifted.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// The first share, once `shift` has settled.
    pub target_percentage: Percentage,
    /// What follows, in order.
    pub escalation_schedule: Vec<Step>,
    /// What puts the share back to nothing.
    pub rollback_trigger: Trigger,
}

/// One step of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How long the share before it must have held.
    pub after: Duration,
    /// The share from then on.
    pub percentage: Percentage,
}

/// Limits of what the target may do to the callers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trigger {
    /// Share of the target's reads that may fail, 0 to 1.
    pub error_rate_threshold: f64,
    /// 99th percentile of the target's reads.
    pub latency_p99_threshold: Duration,
    /// Share of the judged samples that may differ, 0 to 1.
    pub mismatch_rate_threshold: f64,
    /// Age of the oldest key that waits for its reconcile.
    pub outbox_age_threshold: Duration,
    /// What is looked at: the latest figures, of so long at most.
    pub window: Duration,
    /// Reads on the target below which nothing is decided by them.
    pub min_samples: u64,
}

/// What the figures say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// All is within its limits.
    Pass(String),
    /// Something is not.
    Fail(String),
    /// There is too little to tell.
    Inconclusive(String),
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing, and why.
    Hold(String),
    /// The next step of the schedule.
    Move(Percentage, String),
    /// Back to nothing, and the schedule waits for an operator.
    RollBack(String),
}

/// What is known of the outbox.
pub type OutboxAge = Option<Waiting>;

// === impl Trigger ===

impl Trigger {
    /// Judges the target's figures. Each limit stands alone: one that is passed is enough, and
    /// those that need reads say nothing below `min_samples`.
    pub fn judge(&self, figures: &FleetFigures, outbox_age: OutboxAge) -> Judgement {
        let target = &figures.reads.target;
        let told = self.told(figures, outbox_age);
        let mut passed = Vec::new();
        if let Some(age) = outbox_age.filter(|it| it.age > self.outbox_age_threshold) {
            let (age, limit) = (age.age, self.outbox_age_threshold);
            passed.push(format!("a key has waited for {age:.1?}, more than {limit:?}"));
        }
        if target.calls >= self.min_samples {
            if target.error_rate() > self.error_rate_threshold {
                passed.push(format!(
                    "{} of the target's reads failed, more than {}",
                    share(target.error_rate()),
                    share(self.error_rate_threshold)
                ));
            }
            let limit_ms = self.latency_p99_threshold.as_secs_f64() * 1e3;
            if target.p99_ms > limit_ms {
                let p99 = target.p99_ms;
                passed.push(format!("the target's p99 is {p99:.1} ms, more than {limit_ms} ms"));
            }
        }
        if figures.judged >= self.min_samples
            && figures.mismatch_rate() > self.mismatch_rate_threshold
        {
            passed.push(format!(
                "{} of the samples differ, more than {}",
                share(figures.mismatch_rate()),
                share(self.mismatch_rate_threshold)
            ));
        }
        if !passed.is_empty() {
            return Judgement::Fail(format!("{}; {told}", passed.join(", ")));
        }
        if target.calls < self.min_samples {
            let (seen, least) = (target.calls, self.min_samples);
            let few = format!("{seen} reads on the target are fewer than {least}; {told}");
            return Judgement::Inconclusive(few);
        }
        if outbox_age.is_none() {
            return Judgement::Inconclusive(format!("the outbox cannot be read; {told}"));
        }
        Judgement::Pass(told)
    }

    /// Both sides in the same window.
    fn told(&self, figures: &FleetFigures, outbox_age: OutboxAge) -> String {
        let side = |name: &str, it: &SideFigures| {
            format!(
                "{name}: {} reads, {} failed ({}), p99 {:.1} ms",
                it.calls,
                it.errors,
                share(it.error_rate()),
                it.p99_ms
            )
        };
        let age = outbox_age.map_or("unknown".to_owned(), |it| format!("{:.1?}", it.age));
        format!(
            "{}; {}; {} of {} samples differ; outbox age {age}; the latest {:?} of {} members",
            side("target", &figures.reads.target),
            side("source", &figures.reads.source),
            figures.mismatches,
            figures.judged,
            figures.window,
            figures.members,
        )
    }
}

fn share(share: f64) -> String {
    format!("{:.3} %", share * 100.0)
}

// === impl Routing ===

impl Routing {
    /// What is to be done at `now`, by the same clock as the row's times.
    ///
    /// A failing target is put back whatever the schedule says, also where an operator set the
    /// percentage. What is inconclusive holds.
    pub fn decide(
        &self,
        row: &ControlRow,
        now: SystemTime,
        figures: &FleetFigures,
        outbox_age: OutboxAge,
    ) -> Decision {
        if row.state.phase != Phase::Shift {
            return Decision::Hold(format!("reads are not shifted in {}", row.state.phase));
        }
        if row.settled_at.is_none() {
            return Decision::Hold("shift has not settled".to_owned());
        }
        let present = row.target_percentage;
        if present == Percentage::ZERO {
            return self.begin(row, outbox_age);
        }
        let told = match self.rollback_trigger.judge(figures, outbox_age) {
            Judgement::Fail(told) => return Decision::RollBack(told),
            Judgement::Inconclusive(told) => return Decision::Hold(told),
            Judgement::Pass(told) => told,
        };
        if row.held {
            return Decision::Hold(format!("the schedule is held at {present}: {}", row.reason));
        }
        match self.step_above(present) {
            None => Decision::Hold(format!("{present} is the last step; {told}")),
            Some(step) => {
                let held = now.duration_since(row.changed_at).unwrap_or_default();
                if held < step.after {
                    let left = step.after.saturating_sub(held);
                    let wait = format!("{} follows in {left:.0?}; {told}", step.percentage);
                    Decision::Hold(wait)
                } else {
                    let reason =
                        format!("the schedule, after {:?} at {present}; {told}", step.after);
                    Decision::Move(step.percentage, reason)
                }
            }
        }
    }

    fn begin(&self, row: &ControlRow, outbox_age: OutboxAge) -> Decision {
        if row.held {
            return Decision::Hold(format!("the schedule is held: {}", row.reason));
        }
        let first = self.first();
        if first == Percentage::ZERO {
            return Decision::Hold("read_routing.target_percentage is 0".to_owned());
        }
        if let Err(why) = nothing_old_waits(row, outbox_age) {
            return Decision::Hold(why);
        }
        Decision::Move(first, "the schedule's first step: shift has settled".to_owned())
    }

    fn first(&self) -> Percentage {
        self.target_percentage
    }

    fn step_above(&self, present: Percentage) -> Option<Step> {
        self.escalation_schedule.iter().copied().find(|step| step.percentage > present)
    }
}

/// Why no read may be on the target while tables are pending as a whole: it lacks writes that no
/// key names any more, so that nobody's token could wait for them.
///
/// # Errors
///
/// Which tables.
pub fn nothing_is_folded(outbox: &OutboxStatus) -> Result<(), String> {
    let told = |table: &FoldedTable| format!("{} {}", table.table, table.as_what());
    let tables: Vec<String> = outbox.folded.iter().map(told).collect();
    if tables.is_empty() {
        return Ok(());
    }
    Err(format!(
        "pending: {}; the target lacks writes until it is gone through: see `segue \
         status`",
        tables.join(", ")
    ))
}

/// Whether the shadow has all that was written before `shift` settled. Those writes did not
/// await their reconcile, and their callers have no tokens: until then no read may be shifted.
///
/// # Errors
///
/// What is in the way.
pub fn nothing_old_waits(row: &ControlRow, outbox_age: OutboxAge) -> Result<(), String> {
    let Some(Waiting { since, age }) = outbox_age else {
        return Err("the outbox cannot be read".to_owned());
    };
    let Some(settled_at) = row.settled_at else { return Err("shift has not settled".to_owned()) };
    // Both by the primary's clock, and not by how long ago they are: it may have been set since.
    if since.is_some_and(|since| since <= settled_at) {
        return Err(format!(
            "a key that was written before shift settled has waited for {age:.1?}: see `segue outbox`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::control::ControlState;
    use crate::domain::side::Sides;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn percent(percent: f64) -> Percentage {
        Percentage::of(percent).unwrap()
    }

    fn routing() -> Routing {
        let step = |after, to| Step { after, percentage: percent(to) };
        Routing {
            target_percentage: percent(5.0),
            escalation_schedule: [20.0, 50.0, 80.0, 100.0].map(|to| step(DAY, to)).to_vec(),
            rollback_trigger: Trigger {
                error_rate_threshold: 0.001,
                latency_p99_threshold: Duration::from_millis(500),
                mismatch_rate_threshold: 0.0,
                outbox_age_threshold: Duration::from_secs(30),
                window: Duration::from_secs(60),
                min_samples: 100,
            },
        }
    }

    fn figures(calls: u64, errors: u64, p99_ms: f64) -> FleetFigures {
        let target = SideFigures { calls, errors, p50_ms: 1.0, p95_ms: 2.0, p99_ms };
        let source = SideFigures { calls: 1_000, errors: 0, p50_ms: 1.0, p95_ms: 2.0, p99_ms: 3.0 };
        FleetFigures {
            window: Duration::from_secs(60),
            members: 3,
            reads: Sides { source, target },
            writes: Sides { source: SideFigures::default(), target: SideFigures::default() },
            judged: 0,
            mismatches: 0,
        }
    }

    const FRESH: OutboxAge = Some(Waiting { since: None, age: Duration::ZERO });

    fn waited(seconds: u64) -> OutboxAge {
        Some(Waiting { since: Some(begin()), age: Duration::from_secs(seconds) })
    }

    fn begin() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn row(now: SystemTime) -> ControlRow {
        ControlRow {
            state: ControlState { epoch: 4, phase: Phase::Shift },
            revision: 9,
            target_percentage: Percentage::ZERO,
            held: false,
            reason: "entered".to_owned(),
            changed_by: String::new(),
            changed_at: now,
            phase_since: now,
            settled_at: None,
            reads_off: None,
        }
    }

    /// Days of a schedule, an hour a step, by a clock that is only a number.
    fn run(hours: u64, at: impl Fn(u64) -> (FleetFigures, OutboxAge)) -> Vec<(u64, f64, bool)> {
        let mut row = row(begin());
        let mut changes = Vec::new();
        for hour in 0..=hours {
            let now = begin() + Duration::from_secs(hour * 3600);
            if hour == 1 {
                row.settled_at = Some(now);
            }
            let (figures, age) = at(hour);
            let (to, held) = match routing().decide(&row, now, &figures, age) {
                Decision::Hold(_) => continue,
                Decision::Move(to, _) => (to, false),
                Decision::RollBack(_) => (Percentage::ZERO, true),
            };
            (row.target_percentage, row.held, row.changed_at) = (to, held, now);
            changes.push((hour, to.percent(), held));
        }
        changes
    }

    #[test]
    fn the_schedule_of_the_playbook_takes_four_days_from_when_shift_has_settled() {
        let changes = run(200, |_| (figures(5_000, 0, 20.0), FRESH));
        let expected = [(1, 5.0), (25, 20.0), (49, 50.0), (73, 80.0), (97, 100.0)];
        assert_eq!(changes, expected.map(|(hour, to)| (hour, to, false)));
    }

    #[test]
    fn what_is_inconclusive_holds_and_goes_on_when_there_is_evidence() {
        let few = |hour: u64| if (20..60).contains(&hour) { 99 } else { 100 };
        let changes = run(90, |hour| (figures(few(hour), 0, 20.0), FRESH));
        assert_eq!(changes, [(1, 5.0, false), (60, 20.0, false), (84, 50.0, false)]);
        let blind = |hour| if hour > 1 { None } else { FRESH };
        let blind = run(90, |hour| (figures(5_000, 0, 20.0), blind(hour)));
        assert_eq!(blind, [(1, 5.0, false)], "an outbox that nobody can read proves nothing");
    }

    #[test]
    fn each_trigger_puts_the_share_back_and_the_schedule_waits() {
        let differing = FleetFigures { judged: 500, mismatches: 1, ..figures(5_000, 0, 20.0) };
        for (what, bad, age) in [
            ("failed", figures(5_000, 6, 20.0), FRESH),
            ("p99", figures(5_000, 0, 500.1), FRESH),
            ("differ", differing, FRESH),
            ("waited", figures(5_000, 0, 20.0), waited(31)),
            // A dead outbox is told by itself, however few reads there were.
            ("waited", figures(1, 0, 20.0), waited(31)),
        ] {
            let good = figures(5_000, 5, 500.0);
            let at = |hour| if hour == 30 { (bad, age) } else { (good, FRESH) };
            let changes = run(300, at);
            let back = [(1, 5.0, false), (25, 20.0, false), (30, 0.0, true)];
            assert_eq!(changes, back, "{what}");
            let mut now = row(SystemTime::UNIX_EPOCH);
            now.target_percentage = percent(20.0);
            now.settled_at = Some(SystemTime::UNIX_EPOCH);
            let decision = routing().decide(&now, SystemTime::UNIX_EPOCH, &bad, age);
            let Decision::RollBack(why) = decision else { panic!("{what}: {decision:?}") };
            assert!(why.contains(what) && why.contains("source: 1000 reads"), "{what}: {why}");
        }
    }

    #[test]
    fn no_read_is_shifted_while_an_older_write_waits() {
        let waits_until = |end: u64| {
            move |hour: u64| {
                let waits = if hour < end { waited(hour * 3600) } else { FRESH };
                (figures(0, 0, 0.0), waits)
            }
        };
        // Written at the beginning, an hour before shift settles.
        assert_eq!(run(20, waits_until(9)), [(9, 5.0, false)]);
        // The server's clock was set back since.
        let young = |hour| if hour < 9 { waited(0) } else { FRESH };
        assert_eq!(run(20, |hour| (figures(0, 0, 0.0), young(hour))), [(9, 5.0, false)]);
        let blind = run(20, |_| (figures(0, 0, 0.0), None));
        assert_eq!(blind, []);
    }

    #[test]
    fn too_few_reads_neither_convict_nor_acquit() {
        let trigger = routing().rollback_trigger;
        for calls in [0, 1, 99] {
            let judged = trigger.judge(&figures(calls, calls, 9_000.0), FRESH);
            assert!(matches!(judged, Judgement::Inconclusive(_)), "{calls}: {judged:?}");
        }
        assert!(matches!(trigger.judge(&figures(100, 100, 1.0), FRESH), Judgement::Fail(_)));
    }
}
