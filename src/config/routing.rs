//! How reads are shifted, and what the gates ask for.

use std::time::Duration;

use crate::config::compare::table_pattern;
use crate::config::fault::{Origin, nearest};
use crate::config::layers::{RawTable, unknown};
use crate::config::reader::{self, Reader};
use crate::config::units;
use crate::domain::control::Percentage;
use crate::domain::gate::Limits;
use crate::domain::proof_age::ProofAges;
use crate::domain::routing::{Routing, Step, Trigger};

const SCHEDULE: &str = "read_routing.escalation_schedule";
const AGES: &str = "gates.proof_max_age_of";
const TRIGGER: &str = "read_routing.rollback_trigger";
const STEP_FIELDS: [&str; 2] = ["after", "percentage"];
const TRIGGER_FIELDS: [&str; 6] = [
    "error_rate_threshold",
    "latency_p99_threshold",
    "mismatch_rate_threshold",
    "outbox_age_threshold",
    "window",
    "min_samples",
];
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The playbook's, one a day.
const STEPS_DEFAULT: [f64; 4] = [20.0, 50.0, 80.0, 100.0];

/// How writes and reads deal with a target that is slow or away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    /// How long a write's answer waits for its reconcile.
    pub write_wait: Duration,
    /// How long the target is given for a read's first answer.
    pub target_timeout: Duration,
    /// Failures in a row after which it is not waited for.
    pub breaker_failures: u32,
    /// Time until it is tried again.
    pub breaker_pause: Duration,
}

// === impl Shift ===

impl Shift {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let failures = reader.count("shift.breaker_failures");
        Self {
            write_wait: reader.duration("shift.write_wait"),
            target_timeout: reader.duration("shift.target_timeout"),
            breaker_failures: u32::try_from(failures).unwrap_or(u32::MAX),
            breaker_pause: reader.duration("shift.breaker_pause"),
        }
    }
}

pub(super) fn gates(reader: &mut Reader) -> Limits {
    Limits {
        dual_write_min: reader.duration("gates.dual_write_min"),
        quiet_min: reader.duration("gates.quiet_min"),
        samples_min: reader.count("gates.samples_min") as u64,
        full_shift_min: reader.duration("gates.full_shift_min"),
        outbox_age_max: reader.duration("gates.outbox_age_max"),
        rehearsals_min: reader.count("gates.rehearsals_min") as u64,
        reversed_min: reader.duration("gates.reversed_min"),
    }
}

/// How old the proofs may be that the gates go by.
pub(super) fn proof_ages(reader: &mut Reader) -> ProofAges {
    let max = reader.duration("gates.proof_max_age");
    let mut of = Vec::new();
    for (name, value) in reader.map(AGES) {
        let age = units::duration(&value).and_then(|age| match age.is_zero() {
            true => Err("is no age; write a time above 0".to_owned()),
            false => Ok(age),
        });
        match (table_pattern(&name), age) {
            (Ok(pattern), Ok(age)) => of.push((pattern, age)),
            (Err(message), _) => reader.fault(AGES, format!("{name:?} {message}")),
            (_, Err(message)) => reader.fault(AGES, format!("{name} = {value} {message}")),
        }
    }
    ProofAges { max, of }
}

pub(super) fn routing(reader: &mut Reader) -> Routing {
    Routing {
        target_percentage: reader.percent("read_routing.target_percentage"),
        escalation_schedule: schedule(reader),
        rollback_trigger: trigger(reader),
    }
}

fn schedule(reader: &mut Reader) -> Vec<Step> {
    if reader.origin(SCHEDULE) == Origin::Default {
        let to = |percent| Percentage::of(percent).unwrap_or(Percentage::ALL);
        return STEPS_DEFAULT.map(|percent| Step { after: DAY, percentage: to(percent) }).to_vec();
    }
    let mut steps: Vec<Step> = Vec::new();
    for table in reader.tables(SCHEDULE) {
        let Some(step) = step(reader, &table) else { continue };
        if steps.last().is_some_and(|last| last.percentage >= step.percentage) {
            let message = "is not above the step before it; write the steps in their order";
            let given = step.percentage.percent().to_string();
            reader.fault_at(&table.origin, SCHEDULE, &given, message.to_owned());
        }
        steps.push(step);
    }
    steps
}

fn step(reader: &mut Reader, table: &RawTable) -> Option<Step> {
    let (mut after, mut percentage) = (None, None);
    for (name, (value, origin)) in &table.fields {
        let path = format!("{SCHEDULE}.{name}");
        let judged = match name.as_str() {
            "after" => units::duration(value).map(|it| after = Some(it)),
            "percentage" => reader::percent(value).map(|it| percentage = Some(it)),
            other => Err(unknown("key", nearest(other, STEP_FIELDS.into_iter()))),
        };
        if let Err(message) = judged {
            reader.fault_at(origin, &path, value, message);
        }
    }
    for field in STEP_FIELDS {
        if !table.fields.contains_key(field) {
            let message =
                format!("has no {field}; a step is {{ after = \"24h\", percentage = 20 }}");
            reader.fault_at(&table.origin, SCHEDULE, "", message);
        }
    }
    Some(Step { after: after?, percentage: percentage? })
}

fn trigger(reader: &mut Reader) -> Trigger {
    let mut trigger = Trigger {
        error_rate_threshold: 0.001,
        latency_p99_threshold: Duration::from_millis(500),
        mismatch_rate_threshold: 0.0,
        outbox_age_threshold: Duration::from_secs(30),
        window: Duration::from_secs(60),
        min_samples: 100,
    };
    for (name, value) in reader.map(TRIGGER) {
        let set = match name.as_str() {
            "error_rate_threshold" => ratio(&value).map(|it| trigger.error_rate_threshold = it),
            "mismatch_rate_threshold" => {
                ratio(&value).map(|it| trigger.mismatch_rate_threshold = it)
            }
            "latency_p99_threshold" => {
                units::duration(&value).map(|it| trigger.latency_p99_threshold = it)
            }
            "outbox_age_threshold" => {
                units::duration(&value).map(|it| trigger.outbox_age_threshold = it)
            }
            "window" => units::duration(&value).map(|it| trigger.window = it),
            "min_samples" => match value.parse() {
                Ok(least @ 1..) => {
                    trigger.min_samples = least;
                    Ok(())
                }
                _ => Err("is not a whole number above 0".to_owned()),
            },
            other => Err(unknown("key", nearest(other, TRIGGER_FIELDS.into_iter()))),
        };
        if let Err(message) = set {
            reader.fault(TRIGGER, format!("{name} = {value} {message}"));
        }
    }
    trigger
}

/// `0.001`, or `0.1%`.
fn ratio(text: &str) -> Result<f64, String> {
    match text.trim().strip_suffix('%') {
        Some(percent) => match percent.trim().parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
            _ => Err("is not between 0% and 100%".to_owned()),
        },
        None => reader::ratio(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_share_or_a_percentage() {
        assert_eq!((ratio("0.001"), ratio("0.1%"), ratio("1 %")), (Ok(0.001), Ok(0.001), Ok(0.01)));
        assert!(ratio("1.5").is_err() && ratio("101%").is_err() && ratio("often").is_err());
    }
}
