//! Gates: the evidence that a phase is left by.
//!
//! Pure: figures and the moment are handed in. What is contradicted fails, what nobody can
//! tell yet is inconclusive, and neither lets the migration on by itself.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::domain::control::{ControlRow, Percentage, Phase};
use crate::domain::figures::rule_of_three;
use crate::domain::fleet::Settled;
use crate::domain::foreign::ForeignWrites;
use crate::domain::reach::Noted;
use crate::domain::status::{FoldedTable, OutboxStatus};

/// Statements that a gate names; `segue status` has them all.
const STATEMENTS_SHOWN: usize = 5;
/// Programs that a gate names; `segue drift` has them all.
const WRITERS_SHOWN: usize = 3;

/// How a gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The evidence is there.
    Pass,
    /// There is too little evidence.
    Inconclusive,
    /// The evidence is against it.
    Fail,
}

/// One gate, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Its name in the tables.
    pub name: &'static str,
    /// How it stands.
    pub mark: Mark,
    /// The figures.
    pub found: String,
    /// What it asks for.
    pub wanted: String,
}

/// What the gates ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time in `dual_write` since it settled.
    pub dual_write_min: Duration,
    /// Time without a difference.
    pub quiet_min: Duration,
    /// Judged samples within that time.
    pub samples_min: u64,
    /// Time with all reads on the target.
    pub full_shift_min: Duration,
    /// Age of the oldest key that waits.
    pub outbox_age_max: Duration,
    /// Rollbacks that were practised.
    pub rehearsals_min: u64,
    /// Time in `reversed` since it settled.
    pub reversed_min: Duration,
}

/// How far a job has come that a gate waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nobody can tell.
    Unknown(String),
    /// Not done, and this is how far.
    Running(String),
    /// Done.
    Done(String),
    /// It found something, or gave up.
    Failed(String),
}

/// What the comparing of reads has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Judged samples within [`Limits::quiet_min`].
    pub judged: u64,
    /// Since when samples are judged.
    pub since: Option<SystemTime>,
    /// Entries with the verdict `data` that were seen within that time, resolved or not.
    pub data: u64,
    /// Unresolved entries `incompatible` or `error` that were seen within that time.
    pub unresolved: u64,
}

/// All that gates are judged by. `None` is what could not be found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The moment, by the clock of the control row.
    pub now: SystemTime,
    /// The control row.
    pub row: ControlRow,
    /// Whether its epoch is what the whole fleet works by.
    pub settled: Settled,
    /// Tables that cannot be captured or copied.
    pub unfit: Option<Vec<String>>,
    /// The copy of the history.
    pub backfill: Progress,
    /// The proof that nothing differs.
    pub verify: Progress,
    /// What samples found.
    pub findings: Option<Findings>,
    /// What waits.
    pub outbox: Option<OutboxStatus>,
    /// Statements that touch tables which are not migrated and are not declared.
    pub unmigrated: Vec<Noted>,
    /// Writes on the side that follows that are not segue's.
    pub foreign: Option<ForeignWrites>,
    /// Rollbacks that were practised in this migration.
    pub rehearsals: Option<u64>,
}

// === impl Mark ===

impl Mark {
    /// The worst of them; a pass where there are none.
    pub fn of(gates: &[Gate]) -> Self {
        gates.iter().map(|gate| gate.mark).max().unwrap_or(Self::Pass)
    }

    /// The word in tables and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Gate {
    /// How it stands, with its figures and what it asks for.
    pub fn standing(&self) -> String {
        format!("{}: {} (wanted: {})", self.mark, self.found, self.wanted)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.standing())
    }
}

/// The gates out of the evidence's phase into the next one, judged.
pub fn gates(limits: &Limits, evidence: &Evidence) -> Vec<Gate> {
    let e = evidence;
    match e.row.state.phase {
        Phase::SourceOnly => vec![settled(e), fit(e)],
        Phase::DualWrite => {
            vec![
                settled(e),
                time(e, "dual write", limits.dual_write_min),
                backfill(e),
                outbox(limits, e),
            ]
        }
        Phase::ShadowRead => {
            vec![
                settled(e),
                backfill(e),
                verify(e),
                differences(limits, e),
                outbox(limits, e),
                relations(e),
                foreign(e),
            ]
        }
        Phase::Shift | Phase::Cutover => vec![
            settled(e),
            shifted(limits, e),
            verify(e),
            differences(limits, e),
            outbox(limits, e),
            relations(e),
            foreign(e),
            rehearsed(limits, e),
        ],
        Phase::Reversed => {
            vec![settled(e), time(e, "safety net", limits.reversed_min), outbox(limits, e)]
        }
        Phase::TargetOnly => Vec::new(),
    }
}

fn gate(name: &'static str, mark: Mark, found: String, wanted: impl Into<String>) -> Gate {
    Gate { name, mark, found, wanted: wanted.into() }
}

fn settled(evidence: &Evidence) -> Gate {
    let (mark, found) = match &evidence.settled {
        Settled::Yes => (Mark::Pass, format!("epoch {}", evidence.row.state.epoch)),
        Settled::WaitsFor(members) => (Mark::Inconclusive, members.join("; ")),
    };
    gate("settled", mark, found, "every member works by the epoch")
}

fn fit(evidence: &Evidence) -> Gate {
    let wanted = "every table can be captured and copied";
    match &evidence.unfit {
        None => gate("tables", Mark::Inconclusive, "they could not be looked at".into(), wanted),
        Some(unfit) if unfit.is_empty() => gate("tables", Mark::Pass, "all of them".into(), wanted),
        Some(unfit) => {
            let found = format!("{}; mend them, or name them in tables.exclude", unfit.join("; "));
            gate("tables", Mark::Fail, found, wanted)
        }
    }
}

fn time(evidence: &Evidence, name: &'static str, least: Duration) -> Gate {
    let wanted = format!("{} since it has settled", told(least));
    let Some(since) = evidence.row.settled_at else {
        return gate(name, Mark::Inconclusive, "it has not settled".into(), wanted);
    };
    let held = evidence.now.duration_since(since).unwrap_or_default();
    let mark = if held >= least { Mark::Pass } else { Mark::Inconclusive };
    gate(name, mark, told(held), wanted)
}

fn shifted(limits: &Limits, evidence: &Evidence) -> Gate {
    let row = &evidence.row;
    let wanted = format!("100 % for {}", told(limits.full_shift_min));
    if row.target_percentage < Percentage::ALL {
        return gate("reads", Mark::Inconclusive, row.target_percentage.to_string(), wanted);
    }
    let held = evidence.now.duration_since(row.changed_at).unwrap_or_default();
    let mark = if held >= limits.full_shift_min { Mark::Pass } else { Mark::Inconclusive };
    gate("reads", mark, format!("100 % for {}", told(held)), wanted)
}

fn backfill(evidence: &Evidence) -> Gate {
    progress("backfill", &evidence.backfill, "complete")
}

fn verify(evidence: &Evidence) -> Gate {
    progress("verify", &evidence.verify, "every chunk proven equal, within gates.proof_max_age")
}

fn progress(name: &'static str, progress: &Progress, wanted: &str) -> Gate {
    let (mark, found) = match progress {
        Progress::Unknown(why) => (Mark::Inconclusive, why),
        Progress::Running(how_far) => (Mark::Inconclusive, how_far),
        Progress::Done(found) => (Mark::Pass, found),
        Progress::Failed(why) => (Mark::Fail, why),
    };
    gate(name, mark, found.clone(), wanted)
}

fn differences(limits: &Limits, evidence: &Evidence) -> Gate {
    let wanted = format!(
        "no difference for {}, in at least {} samples",
        told(limits.quiet_min),
        limits.samples_min
    );
    let name = "differences";
    let Some(findings) = &evidence.findings else {
        return gate(name, Mark::Inconclusive, "the list cannot be read".into(), wanted);
    };
    let Findings { judged, since, data, unresolved } = findings;
    if data + unresolved > 0 {
        let found = format!(
            "{data} with other data, {unresolved} unresolved of other kinds, in {judged} samples: \
             see `segue mismatches`"
        );
        return gate(name, Mark::Fail, found, wanted);
    }
    let bound = rule_of_three(*judged).map_or("too few for a bound".to_owned(), |bound| {
        format!("the rate is below {:.4} % at 95 % confidence", bound * 100.0)
    });
    let covered = since.and_then(|since| evidence.now.duration_since(since).ok());
    let covered = covered.unwrap_or_default().min(limits.quiet_min);
    let found = format!("none in {judged} samples of {}; {bound}", told(covered));
    let enough = *judged >= limits.samples_min && covered >= limits.quiet_min;
    gate(name, if enough { Mark::Pass } else { Mark::Inconclusive }, found, wanted)
}

fn outbox(limits: &Limits, evidence: &Evidence) -> Gate {
    let wanted = format!(
        "nothing stuck, nothing older than {}, no table pending as a whole or by ranges",
        told(limits.outbox_age_max)
    );
    let Some(outbox) = &evidence.outbox else {
        return gate("outbox", Mark::Inconclusive, "it cannot be read".into(), wanted);
    };
    let found = format!(
        "{} waiting, the oldest for {:.1} s, {} stuck",
        outbox.pending, outbox.oldest_age_s, outbox.stuck
    );
    let old = outbox.oldest_age_s > limits.outbox_age_max.as_secs_f64();
    let told = |table: &FoldedTable| format!("{} {}", table.table, table.as_what());
    let whole: Vec<String> = outbox.folded.iter().map(told).collect();
    let found = match whole.is_empty() {
        true => found,
        false => format!("{found}; pending: {}", whole.join(", ")),
    };
    let bad = old || outbox.stuck > 0 || !whole.is_empty();
    let mark = if bad { Mark::Fail } else { Mark::Pass };
    gate("outbox", mark, found, wanted)
}

/// Reads of such tables would stay on the source in silence, and after the cutover so would their
/// writes: an operator is to know it and to say so.
fn relations(evidence: &Evidence) -> Gate {
    let wanted = "statements touch migrated tables, or tables declared in tables.stay";
    let noted = &evidence.unmigrated;
    if noted.is_empty() {
        let found = "no statement was seen that touches another table".to_owned();
        return gate("relations", Mark::Pass, found, wanted);
    }
    let shown = noted.iter().take(STATEMENTS_SHOWN).map(|it| {
        let relations: Vec<&str> = it.relations.iter().map(String::as_str).collect();
        format!("{} by {} ({} calls)", relations.join(", "), it.summary, it.count)
    });
    let mut found = shown.collect::<Vec<_>>().join("; ");
    if noted.len() > STATEMENTS_SHOWN {
        found += &format!("; and {} statements more", noted.len() - STATEMENTS_SHOWN);
    }
    found += ". Declare each in tables.stay (functions in tables.functions), or give it a primary \
              key and migrate it";
    gate("relations", Mark::Fail, found, wanted)
}

/// Whoever writes there believes that the target is his: what he writes is reconciled away, and from
/// `shift` on refused. An operator is to find out who it is first.
fn foreign(evidence: &Evidence) -> Gate {
    let name = "foreign writes";
    let wanted = "no program that bypasses segue writes on the shadow, or it is resolved";
    let Some(found) = &evidence.foreign else {
        return gate(name, Mark::Inconclusive, "they cannot be read".into(), wanted);
    };
    let open: Vec<String> = found.open().map(ToString::to_string).collect();
    if !open.is_empty() {
        let mut told = open[..open.len().min(WRITERS_SHOWN)].join("; ");
        if open.len() > WRITERS_SHOWN {
            told += &format!("; and {} programs more", open.len() - WRITERS_SHOWN);
        }
        told += ". See `segue drift`, and `segue drift resolve` when it has been looked into";
        return gate(name, Mark::Fail, told, wanted);
    }
    match found.waiting {
        true => gate(name, Mark::Inconclusive, "some are not gone through yet".into(), wanted),
        false => gate(name, Mark::Pass, "none that is not resolved".into(), wanted),
    }
}

fn rehearsed(limits: &Limits, evidence: &Evidence) -> Gate {
    let wanted = format!("{} practised", limits.rehearsals_min);
    let Some(rehearsals) = evidence.rehearsals else {
        return gate("rollback", Mark::Inconclusive, "the history cannot be read".into(), wanted);
    };
    let enough = rehearsals >= limits.rehearsals_min;
    let mark = if enough { Mark::Pass } else { Mark::Inconclusive };
    gate("rollback", mark, format!("{rehearsals} practised"), wanted)
}

/// Two units at most: `13 d 4 h`, `3 min 20 s`.
pub fn told(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = duration.as_secs();
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit);
    let Some(first) = first else { return format!("{} ms", duration.as_millis()) };
    let mut left = seconds;
    let mut words = Vec::new();
    for (unit, name) in UNITS.iter().skip(first).take(2) {
        if left / unit > 0 {
            words.push(format!("{} {name}", left / unit));
        }
        left %= unit;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::control::ControlState;
    use crate::domain::foreign::{ForeignWriter, Writer};

    const HOUR: Duration = Duration::from_secs(3600);

    fn limits() -> Limits {
        Limits {
            dual_write_min: 14 * 24 * HOUR,
            quiet_min: 48 * HOUR,
            samples_min: 10_000,
            full_shift_min: 24 * HOUR,
            outbox_age_max: Duration::from_secs(10),
            rehearsals_min: 3,
            reversed_min: 30 * 24 * HOUR,
        }
    }

    /// Everything that any gate asks for.
    fn perfect(phase: Phase) -> Evidence {
        let begin = SystemTime::UNIX_EPOCH + 1_000 * 24 * HOUR;
        Evidence {
            now: begin + 30 * 24 * HOUR,
            row: ControlRow {
                state: ControlState { epoch: 7, phase },
                revision: 7,
                target_percentage: Percentage::ALL,
                held: false,
                reason: String::new(),
                changed_by: String::new(),
                changed_at: begin,
                phase_since: begin,
                settled_at: Some(begin),
                reads_off: None,
            },
            settled: Settled::Yes,
            unfit: Some(Vec::new()),
            backfill: Progress::Done("12 tables".to_owned()),
            verify: Progress::Done("480 chunks".to_owned()),
            findings: Some(Findings { judged: 10_000, since: Some(begin), data: 0, unresolved: 0 }),
            outbox: Some(OutboxStatus::default()),
            unmigrated: Vec::new(),
            foreign: Some(ForeignWrites::default()),
            rehearsals: Some(3),
        }
    }

    /// A gate's name, how it must stand, and what spoils it.
    type Spoilt = (&'static str, Mark, fn(&mut Evidence));

    #[test]
    fn every_gate_refuses_what_it_is_there_for_and_nothing_else() {
        use Phase::{DualWrite, Reversed, ShadowRead, Shift, SourceOnly};
        let common: [Spoilt; 1] =
            [("settled", Mark::Inconclusive, |e| e.settled = Settled::WaitsFor(vec!["b".into()]))];
        let of_outbox: [Spoilt; 4] = [
            ("outbox", Mark::Fail, |e| {
                let folded = vec![crate::domain::status::FoldedTable::default()];
                e.outbox = Some(OutboxStatus { folded, ..Default::default() });
            }),
            ("outbox", Mark::Inconclusive, |e| e.outbox = None),
            ("outbox", Mark::Fail, |e| {
                e.outbox = Some(OutboxStatus { stuck: 1, ..Default::default() });
            }),
            ("outbox", Mark::Fail, |e| {
                e.outbox = Some(OutboxStatus { oldest_age_s: 10.5, ..Default::default() });
            }),
        ];
        let of_samples: [Spoilt; 7] = [
            ("verify", Mark::Inconclusive, |e| e.verify = Progress::Unknown("?".into())),
            ("verify", Mark::Fail, |e| e.verify = Progress::Failed("3 rows differ".into())),
            ("differences", Mark::Inconclusive, |e| e.findings = None),
            ("differences", Mark::Inconclusive, |e| e.findings.as_mut().unwrap().judged = 9_999),
            ("differences", Mark::Inconclusive, |e| {
                e.findings.as_mut().unwrap().since = Some(e.now - 47 * HOUR);
            }),
            ("differences", Mark::Fail, |e| e.findings.as_mut().unwrap().data = 1),
            ("differences", Mark::Fail, |e| e.findings.as_mut().unwrap().unresolved = 1),
        ];
        let of_copy: [Spoilt; 2] = [
            ("backfill", Mark::Inconclusive, |e| e.backfill = Progress::Unknown("?".into())),
            ("backfill", Mark::Inconclusive, |e| e.backfill = Progress::Running("99 %".into())),
        ];
        let of_source: [Spoilt; 2] = [
            ("tables", Mark::Fail, |e| e.unfit = Some(vec!["public.log".into()])),
            ("tables", Mark::Inconclusive, |e| e.unfit = None),
        ];
        let of_dual_write: [Spoilt; 2] = [
            ("dual write", Mark::Inconclusive, |e| e.row.settled_at = Some(e.now - 335 * HOUR)),
            ("dual write", Mark::Inconclusive, |e| e.row.settled_at = None),
        ];
        let of_relations: [Spoilt; 1] = [("relations", Mark::Fail, |e| {
            e.unmigrated = vec![Noted {
                fingerprint: "ab".into(),
                summary: "SELECT nokey".into(),
                relations: ["public.nokey".to_owned()].into(),
                count: 3,
            }];
        })];
        let of_foreign: [Spoilt; 3] = [
            ("foreign writes", Mark::Inconclusive, |e| e.foreign = None),
            ("foreign writes", Mark::Inconclusive, |e| {
                e.foreign = Some(ForeignWrites { waiting: true, ..Default::default() });
            }),
            ("foreign writes", Mark::Fail, |e| {
                let writers = vec![ForeignWriter {
                    id: "ab".into(),
                    writer: Writer::default(),
                    side: crate::domain::side::Side::Target,
                    tables: Vec::new(),
                    first_seen: e.now,
                    last_seen: e.now,
                    resolved: None,
                }];
                e.foreign = Some(ForeignWrites { writers, waiting: false });
            }),
        ];
        let of_shift: [Spoilt; 3] = [
            ("reads", Mark::Inconclusive, |e| {
                e.row.target_percentage = Percentage::of(80.0).unwrap();
            }),
            ("reads", Mark::Inconclusive, |e| e.row.changed_at = e.now - 23 * HOUR),
            ("rollback", Mark::Inconclusive, |e| e.rehearsals = Some(2)),
        ];
        let of_reversed: [Spoilt; 1] =
            [("safety net", Mark::Inconclusive, |e| e.row.settled_at = Some(e.now - 719 * HOUR))];
        let tables: [(Phase, Vec<&[Spoilt]>); 5] = [
            (SourceOnly, vec![&common, &of_source]),
            (DualWrite, vec![&common, &of_dual_write, &of_copy, &of_outbox]),
            (
                ShadowRead,
                vec![&common, &of_copy, &of_samples, &of_outbox, &of_relations, &of_foreign],
            ),
            (Shift, vec![&common, &of_samples, &of_shift, &of_outbox, &of_relations, &of_foreign]),
            (Reversed, vec![&common, &of_reversed, &of_outbox]),
        ];
        for (phase, spoilt) in tables {
            assert_eq!(Mark::of(&gates(&limits(), &perfect(phase))), Mark::Pass, "{phase}");
            for (name, mark, spoil) in spoilt.into_iter().flatten() {
                let mut evidence = perfect(phase);
                spoil(&mut evidence);
                let judged = gates(&limits(), &evidence);
                let spoilt: Vec<_> = judged.iter().filter(|it| it.mark != Mark::Pass).collect();
                assert_eq!(spoilt.len(), 1, "{phase} {name}: {judged:#?}");
                assert_eq!((spoilt[0].name, spoilt[0].mark), (*name, *mark), "{phase}");
                assert!(!spoilt[0].found.is_empty() && !spoilt[0].wanted.is_empty());
            }
        }
    }

    #[test]
    fn no_difference_in_so_many_samples_names_the_rate_that_is_left() {
        let judged = gates(&limits(), &perfect(Phase::ShadowRead));
        let found = &judged.iter().find(|gate| gate.name == "differences").unwrap().found;
        assert_eq!(
            found,
            "none in 10000 samples of 2 d; the rate is below 0.0300 % at 95 % confidence"
        );
        assert_eq!((rule_of_three(29), rule_of_three(300)), (None, Some(0.01)));
    }

    #[test]
    fn durations_for_people() {
        let seconds = [0, 59, 3_600, 3_661, 90_000, 1_209_600].map(Duration::from_secs).map(told);
        assert_eq!(seconds, ["0 ms", "59 s", "1 h", "1 h 1 min", "1 d 1 h", "14 d"]);
    }
}
