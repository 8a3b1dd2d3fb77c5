//! What the members measured: each gathers its own latest window, tells it with its lease,
//! and the leader adds them up. Histograms have the same buckets everywhere, so that a
//! percentile of the fleet is as exact as one of a member.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::domain::figures::{FleetFigures, SideFigures};
use crate::domain::fleet::Fleet;
use crate::domain::history::Figures;
use crate::domain::reach::Noted;
use crate::domain::side::{Side, Sides};
use crate::ports::relations::Relations;
use crate::telemetry::metrics::latency::LatencyCounts;
use crate::telemetry::metrics::{Metrics, SideTotals, Totals};

/// Marks within a window: it moves on by so fine a part.
const MARKS: u32 = 20;

/// The latest figures of this member. A change of the control row begins them anew: what was
/// measured under another percentage says nothing of this one.
pub(super) struct Windows {
    metrics: Metrics,
    length: Duration,
    revision: u64,
    marks: VecDeque<(Instant, Totals)>,
    relations: Option<Arc<dyn Relations>>,
}

/// Statements that a member tells, the most frequent; what is left out touches other tables only
/// where there are very many.
const STATEMENTS_MAX: usize = 20;

/// What a member tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    revision: u64,
    window_ms: u64,
    reads: [ToldSide; 2],
    writes: [ToldSide; 2],
    judged: u64,
    mismatches: u64,
    /// Statements that touch tables which are not migrated.
    #[serde(default)]
    unmigrated: Vec<ToldStatement>,
}

/// A statement that touches tables which are not migrated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ToldStatement {
    fingerprint: String,
    summary: String,
    relations: BTreeSet<String>,
    count: u64,
}

/// One kind of statement on one side: errors, and the counts of a histogram by bucket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToldSide {
    errors: u64,
    latency: Vec<(usize, u64)>,
}

// === impl Windows ===

impl Windows {
    pub(super) fn new(metrics: Metrics, length: Duration) -> Self {
        Self { metrics, length, revision: 0, marks: VecDeque::new(), relations: None }
    }

    /// Tells which statements touch tables that are not migrated as well.
    pub(super) fn tell(&mut self, relations: Arc<dyn Relations>) {
        self.relations = Some(relations);
    }

    /// The figures of the window until now, as text.
    pub(super) fn told(&mut self, revision: u64, now: Instant) -> String {
        let present = self.metrics.totals();
        if self.marks.is_empty() || revision != self.revision {
            self.revision = revision;
            self.marks.clear();
            self.marks.push_back((now, present.clone()));
        }
        // One mark is older than the window, or as old: the figures begin there.
        while self.marks.get(1).is_some_and(|(at, _)| *at + self.length <= now) {
            self.marks.pop_front();
        }
        if self.marks.back().is_some_and(|(at, _)| *at + self.length / MARKS <= now) {
            self.marks.push_back((now, present.clone()));
        }
        let Some((since, begin)) = self.marks.front() else { return String::new() };
        let window = now.duration_since(*since);
        let mut told = Told::between(begin, &present, revision, window);
        let noted = self.relations.iter().flat_map(|relations| relations.noted());
        told.unmigrated = noted.take(STATEMENTS_MAX).map(ToldStatement::of).collect();
        // Numbers and lists of numbers: this does not fail, and no figures count as none.
        serde_json::to_string(&told).unwrap_or_default()
    }
}

// === impl Told ===

impl Told {
    fn between(begin: &Totals, end: &Totals, revision: u64, window: Duration) -> Self {
        let pair = |begin: &Sides<SideTotals>, end: &Sides<SideTotals>| {
            [
                ToldSide::between(&begin.source, &end.source),
                ToldSide::between(&begin.target, &end.target),
            ]
        };
        Self {
            revision,
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            reads: pair(&begin.reads, &end.reads),
            writes: pair(&begin.writes, &end.writes),
            judged: end.judged.saturating_sub(begin.judged),
            mismatches: end.mismatches.saturating_sub(begin.mismatches),
            unmigrated: Vec::new(),
        }
    }
}

impl ToldStatement {
    fn of(noted: Noted) -> Self {
        let Noted { fingerprint, summary, relations, count } = noted;
        Self { fingerprint, summary, relations, count }
    }
}

/// The statements that touch tables which are not migrated, of all members that are alive, most
/// frequent first.
pub fn unmigrated(fleet: &Fleet) -> Vec<Noted> {
    let mut all: BTreeMap<String, Noted> = BTreeMap::new();
    for member in fleet.alive() {
        let Ok(told) = serde_json::from_str::<Told>(&member.figures) else { continue };
        for ToldStatement { fingerprint, summary, relations, count } in told.unmigrated {
            let entry = all.entry(fingerprint.clone()).or_insert_with(|| Noted {
                fingerprint,
                summary,
                relations: BTreeSet::new(),
                count: 0,
            });
            entry.count += count;
            entry.relations.extend(relations);
        }
    }
    let mut all: Vec<Noted> = all.into_values().collect();
    all.sort_by_key(|noted| std::cmp::Reverse(noted.count));
    all
}

impl ToldSide {
    fn between(begin: &SideTotals, end: &SideTotals) -> Self {
        Self {
            errors: end.errors.saturating_sub(begin.errors),
            latency: end.latency.since(&begin.latency).filled(),
        }
    }
}

#[derive(Default)]
struct Sum {
    errors: u64,
    latency: LatencyCounts,
}

impl Sum {
    fn add(&mut self, told: &ToldSide) {
        self.errors += told.errors;
        self.latency.add(&told.latency);
    }

    fn figures(&self) -> SideFigures {
        SideFigures {
            calls: self.latency.total(),
            errors: self.errors,
            p50_ms: self.latency.quantile_ms(0.5),
            p95_ms: self.latency.quantile_ms(0.95),
            p99_ms: self.latency.quantile_ms(0.99),
        }
    }
}

/// Adds up what the members that are alive measured under this revision. A member that tells
/// of another, or in a form that this one cannot read, is left out, and so is its count.
pub fn merged(fleet: &Fleet, revision: u64) -> FleetFigures {
    let mut sums: [Sum; 4] = Default::default();
    let (mut members, mut judged, mut mismatches, mut window_ms) = (0, 0, 0, 0);
    for member in fleet.alive() {
        let Ok(told) = serde_json::from_str::<Told>(&member.figures) else { continue };
        if told.revision != revision {
            continue;
        }
        members += 1;
        judged += told.judged;
        mismatches += told.mismatches;
        window_ms = window_ms.max(told.window_ms);
        for (sum, side) in sums.iter_mut().zip(told.reads.iter().chain(&told.writes)) {
            sum.add(side);
        }
    }
    let [reads_source, reads_target, writes_source, writes_target] = sums.map(|sum| sum.figures());
    FleetFigures {
        window: Duration::from_millis(window_ms),
        members,
        reads: Sides { source: reads_source, target: reads_target },
        writes: Sides { source: writes_source, target: writes_target },
        judged,
        mismatches,
    }
}

/// What a change is recorded with that was decided by them.
pub fn record(merged: &FleetFigures) -> Figures {
    let FleetFigures { window, members, reads, writes, judged, mismatches } = merged;
    let mut figures = Figures::default()
        .number("window_s", window.as_secs_f64())
        .count("members", *members as u64)
        .count("judged", *judged)
        .count("mismatches", *mismatches);
    for (kind, sides) in [("reads", reads), ("writes", writes)] {
        for side in [Side::Source, Side::Target] {
            let SideFigures { calls, errors, p50_ms, p95_ms, p99_ms } = *sides.of(side);
            let name = |figure| format!("{kind}_{side}_{figure}");
            figures = figures
                .count(&name("calls"), calls)
                .count(&name("errors"), errors)
                .number(&name("p50_ms"), p50_ms)
                .number(&name("p95_ms"), p95_ms)
                .number(&name("p99_ms"), p99_ms);
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::domain::fleet::{Member, MemberId};
    use crate::domain::side::Side;
    use crate::telemetry::metrics::Purpose;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_change_is_recorded_with_numbers_by_side() {
        let reads = Sides {
            source: SideFigures { calls: 40, errors: 1, p50_ms: 0.5, p95_ms: 1.5, p99_ms: 2.5 },
            target: SideFigures::default(),
        };
        let merged = FleetFigures {
            window: SECOND * 60,
            members: 3,
            reads,
            writes: Sides { source: SideFigures::default(), target: SideFigures::default() },
            judged: 12,
            mismatches: 2,
        };
        let recorded = record(&merged).document();
        for (name, wanted) in [
            ("window_s", 60.0),
            ("members", 3.0),
            ("judged", 12.0),
            ("mismatches", 2.0),
            ("reads_source_calls", 40.0),
            ("reads_source_errors", 1.0),
            ("reads_source_p99_ms", 2.5),
            ("reads_target_calls", 0.0),
            ("writes_target_p50_ms", 0.0),
        ] {
            assert_eq!(recorded[name].as_f64(), Some(wanted), "{name} in {recorded}");
        }
    }

    fn fleet(figures: &[String]) -> Fleet {
        let now = SystemTime::UNIX_EPOCH + SECOND;
        let member = |(id, figures): (usize, &String)| Member {
            id: MemberId(id as u128),
            name: String::new(),
            address: String::new(),
            version: String::new(),
            epoch: 1,
            revision: 1,
            started_at: now,
            lease_until: now + SECOND,
            figures: figures.clone(),
        };
        Fleet { now, leader: None, members: figures.iter().enumerate().map(member).collect() }
    }

    #[test]
    fn a_percentile_of_the_fleet_is_that_of_all_calls_together() {
        let now = Instant::now();
        let tell = |slow: u32| {
            let metrics = Metrics::new();
            let mut windows = Windows::new(metrics.clone(), SECOND * 60);
            windows.told(7, now);
            for call in 0..100 {
                let took = if call < slow { MS * 900 } else { MS };
                metrics.statement_ended(Side::Target, Purpose::Read, took, call < slow / 2);
            }
            metrics.statement_ended(Side::Source, Purpose::Write, MS, false);
            windows.told(7, now + SECOND)
        };
        // 4 % of one member are 2 % of both, 1 % of one are half a percent of both.
        let slow = merged(&fleet(&[tell(4), tell(0)]), 7);
        assert_eq!((slow.members, slow.reads.target.calls, slow.reads.target.errors), (2, 200, 2));
        assert!(slow.reads.target.p99_ms > 800.0 && slow.reads.target.p50_ms < 2.0, "{slow:?}");
        let fast = merged(&fleet(&[tell(1), tell(0)]), 7);
        assert!(fast.reads.target.p99_ms < 2.0, "{fast:?}");
        assert_eq!((fast.writes.source.calls, fast.reads.source.calls), (2, 0));
        assert_eq!(fast.window, SECOND);
        // Of another revision, or in words of another version.
        let strange = merged(&fleet(&[tell(1), "{\"all\": \"well\"}".to_owned()]), 8);
        assert_eq!((strange.members, strange.reads.target.calls), (0, 0));
    }

    #[test]
    fn what_is_older_than_the_window_or_the_percentage_does_not_count() {
        let metrics = Metrics::new();
        let mut windows = Windows::new(metrics.clone(), SECOND * 10);
        let begin = Instant::now();
        let calls = |told: String| merged(&fleet(&[told]), 1).reads.target;
        windows.told(1, begin);
        for second in 1..=30 {
            metrics.statement_ended(Side::Target, Purpose::Read, MS, second == 5);
            let target = calls(windows.told(1, begin + SECOND * second));
            let expected = u64::from(second.min(10));
            assert!(
                target.calls >= expected && target.calls <= expected + 1,
                "{second}: {target:?}"
            );
            assert_eq!(target.errors, u64::from((5..15).contains(&second)), "{second}");
        }
        let told = windows.told(2, begin + SECOND * 31);
        assert_eq!(merged(&fleet(&[told]), 2).reads.target.calls, 0);
    }
}
