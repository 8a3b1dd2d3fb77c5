//! Work that is tried again until it goes well, and says so when it fails the same way each time.
//!
//! Background work has no caller who hears of a failure: it logs the first one, and tries again.
//! Each such loop notes every attempt here, under a name of its own. Causes that several loops meet
//! at a time, such as a side that is away, are told once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate;

/// Failures alike in a row after which it is told. Fewer are what a restart of a server takes.
const ALIKE_MIN: u64 = 10;
/// It is told again when there are so many times as many.
const AGAIN: u64 = 10;
/// Where the runbook has what to do.
const RUNBOOK: &str = "docs/guides/runbook.md#background-work-keeps-failing";

/// The retries of one process. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Retries {
    runs: Arc<Mutex<BTreeMap<(&'static str, String), Run>>>,
    told: Arc<Counter>,
}

/// What makes two failures alike. Messages are not: they name keys and times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cause {
    kind: FaultKind,
    sqlstate: String,
    reason: Reason,
    side: Option<Side>,
}

/// Failures alike, one after the other.
#[derive(Debug)]
struct Run {
    cause: Cause,
    times: u64,
    since: SystemTime,
    last: SqlFault,
}

/// Background work that has failed the same way at least ten times in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// What is tried, by the names under which it is noted.
    pub tasks: Vec<String>,
    /// How often it has failed, of the one that failed most.
    pub times: u64,
    /// The first of these failures.
    pub since: SystemTime,
    /// The last of them.
    pub fault: String,
    /// What to do.
    pub advice: String,
}

// === impl Retries ===

impl Retries {
    /// Tells by counting as well.
    pub(super) fn counting(told: Arc<Counter>) -> Self {
        Self { told, ..Self::default() }
    }

    /// Notes how an attempt ended. `place` tells several of one `task` apart: a side, a table.
    pub fn note<T>(&self, task: &'static str, place: &str, done: &Result<T, SqlFault>) {
        match done {
            Ok(_) => self.went_well(task, place),
            Err(fault) => self.failed(task, place, fault),
        }
    }

    /// Notes that an attempt went well, or that nobody makes another.
    pub fn went_well(&self, task: &'static str, place: &str) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        // Mostly there is none: no name is made for nothing.
        if runs.keys().any(|(known, at)| *known == task && at == place) {
            runs.remove(&(task, place.to_owned()));
        }
    }

    /// Notes that an attempt failed.
    pub fn failed(&self, task: &'static str, place: &str, fault: &SqlFault) {
        let cause = Cause::of(fault);
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = runs.iter().any(|((other, at), run)| {
            (*other, at.as_str()) != (task, place) && run.times >= ALIKE_MIN && run.cause == cause
        });
        let run = runs.entry((task, place.to_owned())).or_insert_with(|| Run::new(&cause, fault));
        if run.cause != cause {
            *run = Run::new(&cause, fault);
        }
        run.times += 1;
        run.last = fault.clone();
        if is_due(run.times) && !is_told {
            self.told.inc();
            tracing::error!(
                task,
                place,
                times = run.times,
                since = %humantime::format_rfc3339_seconds(run.since),
                %fault,
                advice = advice(fault),
                "background work fails the same way again and again"
            );
        }
    }

    /// What fails the same way again and again at this moment, by cause.
    pub fn failing(&self) -> Vec<Failing> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<(&Cause, Failing)> = Vec::new();
        for ((task, place), run) in runs.iter().filter(|(_, run)| run.times >= ALIKE_MIN) {
            let name =
                if place.is_empty() { (*task).to_owned() } else { format!("{task} ({place})") };
            if let Some((_, known)) = found.iter_mut().find(|(cause, _)| **cause == run.cause) {
                known.tasks.push(name);
                known.times = known.times.max(run.times);
                known.since = known.since.min(run.since);
                continue;
            }
            let failing = Failing {
                tasks: vec![name],
                times: run.times,
                since: run.since,
                fault: run.last.to_string(),
                advice: advice(&run.last),
            };
            found.push((&run.cause, failing));
        }
        found.into_iter().map(|(_, failing)| failing).collect()
    }
}

// === impl Run ===

impl Run {
    fn new(cause: &Cause, fault: &SqlFault) -> Self {
        Self { cause: cause.clone(), times: 0, since: SystemTime::now(), last: fault.clone() }
    }
}

// === impl Cause ===

impl Cause {
    fn of(fault: &SqlFault) -> Self {
        let SqlFault { kind, reason, side, .. } = *fault;
        Self { kind, sqlstate: fault.sqlstate.clone(), reason, side }
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tasks, times, since, fault, advice } = self;
        let since = humantime::format_rfc3339_seconds(*since);
        let tasks = tasks.join(", ");
        write!(f, "{tasks}: failed {times} times the same way since {since}: {fault}; {advice}")
    }
}

/// At the tenth, the hundredth, and so on.
fn is_due(times: u64) -> bool {
    let mut due = ALIKE_MIN;
    while due < times {
        due = due.saturating_mul(AGAIN);
    }
    due == times
}

/// What to do about it.
fn advice(fault: &SqlFault) -> String {
    let side = fault.side.map_or("databases", Side::as_str);
    let first = match (fault.kind, fault.sqlstate.as_str()) {
        _ if !fault.hint.is_empty() => fault.hint.clone(),
        (_, sqlstate::LOCK_NOT_AVAILABLE | sqlstate::QUERY_CANCELED)
        | (FaultKind::DeadlineExceeded, _) => {
            format!("look in pg_stat_activity and pg_locks of the {side} for what it waits for")
        }
        (_, sqlstate::INSUFFICIENT_PRIVILEGE) => {
            "grant the right that is missing: segue check names it".to_owned()
        }
        (
            _,
            sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            | sqlstate::TRANSACTION_TIMEOUT
            | sqlstate::IDLE_SESSION_TIMEOUT,
        ) => {
            format!("a limit of the {side} ends segue's sessions: segue check names it")
        }
        (FaultKind::Unavailable | FaultKind::ConnectionLost, _) => {
            format!("see that the {side} runs, and that segue can reach it and log in")
        }
        _ => "mend what the error says".to_owned(),
    };
    format!("{first}; see {RUNBOOK}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(message: &str) -> SqlFault {
        let mut fault =
            SqlFault::new(FaultKind::Database, Reason::Database, message).on(Side::Target);
        "55P03".clone_into(&mut fault.sqlstate);
        fault
    }

    fn away() -> SqlFault {
        SqlFault::new(FaultKind::Unavailable, Reason::UnavailableConnect, "refused")
            .on(Side::Source)
    }

    #[test]
    fn it_is_told_at_the_tenth_failure_alike_and_then_at_tenfold_counts() {
        let told = |times: u64| {
            let retries = Retries::default();
            (0..times).for_each(|n| retries.failed("take_up", "", &locked(&format!("lock {n}"))));
            (retries.told.get(), retries.failing().len())
        };
        assert_eq!(told(9), (0, 0));
        assert_eq!(told(10), (1, 1));
        assert_eq!(told(99), (1, 1));
        assert_eq!(told(100), (2, 1));
    }

    #[test]
    fn other_failures_and_attempts_that_go_well_begin_the_count_anew() {
        let retries = Retries::default();
        for _ in 0..5 {
            (0..9).for_each(|_| retries.failed("lease", "", &locked("")));
            retries.note("lease", "", &Ok(()));
            (0..9).for_each(|_| retries.failed("lease", "", &locked("")));
            retries.failed("lease", "", &away());
        }
        assert_eq!((retries.told.get(), retries.failing()), (0, vec![]));
        (0..9).for_each(|_| retries.failed("lease", "", &away()));
        assert_eq!(retries.failing().len(), 1);
        retries.note("lease", "", &Ok(()));
        assert_eq!(retries.failing(), vec![]);
    }

    #[test]
    fn what_is_told_says_what_where_since_when_and_what_to_do() {
        let retries = Retries::default();
        let begun = SystemTime::now();
        for _ in 0..12 {
            retries.failed("take_up", "", &locked("lock timeout"));
        }
        let [failing] = retries.failing().try_into().unwrap();
        assert!(failing.since >= begun && failing.since <= SystemTime::now());
        let said = failing.to_string();
        for part in [
            "take_up: failed 12 times the same way since 20",
            "target: lock timeout (SQLSTATE 55P03)",
            "pg_locks of the target",
            RUNBOOK,
        ] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        let hinted = locked("lock timeout").with_hint("ask for less");
        assert!(advice(&hinted).starts_with("ask for less; see "));
    }

    #[test]
    fn a_cause_that_several_meet_is_told_once() {
        let retries = Retries::default();
        for _ in 0..11 {
            retries.failed("control_row", "source", &away());
            retries.failed("reconcile", "", &away());
            retries.failed("catalogue", "target", &locked(""));
        }
        assert_eq!(retries.told.get(), 2);
        let tasks: Vec<_> = retries.failing().into_iter().map(|it| it.tasks).collect();
        let one = vec!["control_row (source)".to_owned(), "reconcile".to_owned()];
        assert_eq!(tasks, [vec!["catalogue (target)".to_owned()], one]);
    }
}
