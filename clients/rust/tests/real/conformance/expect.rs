//! What a step came to, beside what is expected of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use segue_client::{Error, Outcome, Row, Value};
use serde_json::Value as Step;

use super::{list, text};

const PAGE_KB: u64 = 4;
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);

/// What a call came to.
#[derive(Debug, Default)]
pub struct Found {
    pub rows: Vec<Vec<Option<String>>>,
    pub affected: u64,
    pub already_applied: bool,
    pub results: Vec<Found>,
    pub count: u64,
}

/// `made` is an error where the call's future was dropped.
pub fn expect(step: &Step, made: Result<Result<Found, Error>, ()>, begun: Instant, grown_mb: u64) {
    if let Some(within) = step["within"].as_f64() {
        let took = begun.elapsed().as_secs_f64();
        assert!(took <= within, "took {took} s, more than {within}");
    }
    let Ok(made) = made else {
        assert_eq!(step["error"]["kind"], "cancelled", "the call was cancelled");
        return;
    };
    if let Some(expected) = step.get("error") {
        let error = made.err().unwrap_or_else(|| panic!("expected an error {expected}"));
        return expect_error(expected, &error);
    }
    let found = made.unwrap_or_else(|error| panic!("{step}: {error:?}"));
    if let Some(limit) = step["memory_mb_max"].as_u64() {
        assert!(grown_mb <= limit, "the process grew by {grown_mb} MB");
    }
    expect_found(step, &found);
}

fn expect_found(step: &Step, found: &Found) {
    if let Some(rows) = step.get("rows") {
        expect_rows(&found.rows, rows);
    }
    for (name, seen) in [("affected", found.affected), ("count", found.count)] {
        if let Some(expected) = step[name].as_u64() {
            assert_eq!(seen, expected, "{name}");
        }
    }
    if let Some(expected) = step["already_applied"].as_bool() {
        assert_eq!(found.already_applied, expected, "already_applied");
    }
    if let Some(results) = step.get("results") {
        assert_eq!(found.results.len(), list(results).len(), "results");
        for (found, expected) in found.results.iter().zip(list(results)) {
            expect_found(expected, found);
        }
    }
}

pub fn rows_wanted(rows: &Step) -> Vec<Vec<Option<String>>> {
    list(rows)
        .iter()
        .map(|row| list(row).iter().map(|it| it.as_str().map(str::to_owned)).collect())
        .collect()
}

pub fn expect_rows(found: &[Vec<Option<String>>], expected: &Step) {
    assert_eq!(found, rows_wanted(expected), "rows");
}

/// Values as PostgreSQL writes them.
pub fn rows_of(rows: &[Row]) -> Vec<Vec<Option<String>>> {
    rows.iter().map(|row| row.values().iter().map(rendered).collect()).collect()
}

fn rendered(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(it) => if *it { "t" } else { "f" }.to_owned(),
        Value::Int(it) => it.to_string(),
        Value::Numeric(it) => it.to_string(),
        Value::Text(it) => it.clone(),
        other => panic!("no scenario has such a value: {other:?}"),
    })
}

fn expect_error(expected: &Step, error: &Error) {
    for (name, value) in expected.as_object().unwrap() {
        let holds = match name.as_str() {
            "kind" => is_kind(text(value), error),
            "sqlstate" => error.sqlstate == text(value),
            "constraint" => error.constraint == text(value),
            "table" => error.table == text(value),
            "column" => error.column == text(value),
            "reason" => error.reason == text(value),
            "side" => error.side.map(|it| it.to_string()).as_deref() == value.as_str(),
            "outcome" => error.outcome.to_string() == text(value),
            "retryable" => Some(error.retryable) == value.as_bool(),
            _ => panic!("unknown field {name}"),
        };
        assert!(holds, "{name}: expected {value}, found {error:?}");
    }
}

fn is_kind(kind: &str, error: &Error) -> bool {
    match kind {
        "unique" => matches!(error, Error::UniqueViolation(_)),
        "integrity" => matches!(error, Error::UniqueViolation(_) | Error::Integrity(_)),
        "data" => matches!(error, Error::Data(_)),
        "programming" => matches!(error, Error::Programming(_)),
        "not_supported" => matches!(error, Error::NotSupported(_)),
        "deadline" => matches!(error, Error::DeadlineExceeded(_)),
        "cancelled" => matches!(error, Error::Cancelled(_)),
        "unavailable" => matches!(error, Error::Unavailable(_)),
        "outcome_unknown" => {
            matches!(error, Error::OutcomeUnknown(_)) && error.outcome == Outcome::Unknown
        }
        _ => false,
    }
}

/// How far the process grows.
pub struct Memory {
    before: u64,
    most: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Memory {
    pub fn watch() -> Self {
        let before = resident_kb();
        let (most, ended) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (Arc::clone(&most), Arc::clone(&ended));
        drop(std::thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                seen.fetch_max(resident_kb(), Ordering::SeqCst);
                std::thread::sleep(MEMORY_INTERVAL);
            }
        }));
        Self { before, most, ended }
    }

    pub fn grown_mb(&self) -> u64 {
        (self.most.load(Ordering::SeqCst) - self.before) / 1024
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

fn resident_kb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE_KB
}
