//! Enums of the protocol beside those of the domain, durations, and the words that people and JSON
//! know them by: the name without its enum, in lower case.

use std::time::{Duration, SystemTime};

use crate::domain::control::Phase;
use crate::domain::cutover::{CutoverStep, StepState};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::gate::Mark;
use crate::domain::history::EventKind;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::verdict::Verdict;
use crate::grpc::proto;

/// An enum of the protocol.
pub trait ProtoEnum: TryFrom<i32> {
    /// What all its names begin with.
    const PREFIX: &'static str;
    /// Its name in the protocol.
    fn name(&self) -> &'static str;
}

/// The word for a value; empty where it is unspecified, and its number where a newer segue sent it.
pub fn word<E: ProtoEnum>(value: i32) -> String {
    match E::try_from(value) {
        Ok(known) => match known.name().strip_prefix(E::PREFIX) {
            Some("UNSPECIFIED") | None => String::new(),
            Some(name) => name.to_ascii_lowercase(),
        },
        Err(_) => value.to_string(),
    }
}

macro_rules! enums {
    ($($proto:ident $prefix:literal = $domain:ty { $($variant:ident),+ })+) => {
        $(
            enums!(@named $proto $prefix);

            impl From<$domain> for proto::$proto {
                fn from(value: $domain) -> Self {
                    match value {
                        $(<$domain>::$variant => Self::$variant,)+
                    }
                }
            }

            impl proto::$proto {
                /// The same in the domain; `None` where it is unspecified.
                pub fn known(self) -> Option<$domain> {
                    match self {
                        $(Self::$variant => Some(<$domain>::$variant),)+
                        Self::Unspecified => None,
                    }
                }
            }
        )+
    };
    (@named $proto:ident $prefix:literal) => {
        impl ProtoEnum for proto::$proto {
            const PREFIX: &'static str = $prefix;

            fn name(&self) -> &'static str {
                self.as_str_name()
            }
        }
    };
}

enums! {
    Phase "PHASE_" = Phase {
        SourceOnly, DualWrite, ShadowRead, Shift, Cutover, Reversed, TargetOnly
    }
    GateMark "GATE_MARK_" = Mark { Pass, Inconclusive, Fail }
    Verdict "VERDICT_" = Verdict {
        Match, Normalized, Incompatible, Error, Data, Pending, Noise, Skipped
    }
    HistoryEventKind "HISTORY_EVENT_KIND_" = EventKind {
        Phase, Settled, Percentage, Drift, Rehearsal, Outbox, Tables, Identity
    }
    CutoverStepName "CUTOVER_STEP_NAME_" = CutoverStep {
        Gates, Predict, Prove, Prepare, Pause, Fence, Drain, Verify, Sequences, Flip, Release
    }
    CutoverStepState "CUTOVER_STEP_STATE_" = StepState { Begun, Done, Failed }
}

enums!(@named JobState "JOB_STATE_");
enums!(@named CutoverOutcome "CUTOVER_OUTCOME_");
enums!(@named OperationKind "OPERATION_KIND_");
enums!(@named OperationState "OPERATION_STATE_");

/// The side as the protocol numbers it.
pub fn side(side: Side) -> i32 {
    match side {
        Side::Source => proto::Side::Source.into(),
        Side::Target => proto::Side::Target.into(),
    }
}

/// The side that a number names; `None` where it names none.
pub fn known_side(value: i32) -> Option<Side> {
    match proto::Side::try_from(value) {
        Ok(proto::Side::Source) => Some(Side::Source),
        Ok(proto::Side::Target) => Some(Side::Target),
        _ => None,
    }
}

/// The word for a side.
pub fn side_word(value: i32) -> String {
    known_side(value).map_or_else(String::new, |side| side.as_str().to_owned())
}

/// A moment.
pub fn at(time: SystemTime) -> Option<prost_types::Timestamp> {
    Some(time.into())
}

/// A duration. The protocol's reaches 10,000 years; what is longer is cut to that.
pub fn lasting(duration: Duration) -> Option<prost_types::Duration> {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).min(SECONDS_MAX);
    let nanos = i32::try_from(duration.subsec_nanos()).unwrap_or_default();
    Some(prost_types::Duration { seconds, nanos })
}

/// The most that the protocol's duration holds.
const SECONDS_MAX: i64 = 315_576_000_000;

/// A duration in seconds, which may be negative; absent where it is no number.
pub fn of_seconds(seconds: f64) -> Option<prost_types::Duration> {
    let size = Duration::try_from_secs_f64(seconds.abs()).ok().and_then(lasting)?;
    let sign = if seconds < 0.0 { -1 } else { 1 };
    let (whole, nanos) = (size.seconds * sign, size.nanos * i32::try_from(sign).unwrap_or(1));
    Some(prost_types::Duration { seconds: whole, nanos })
}

/// A duration in milliseconds.
pub fn of_millis(millis: f64) -> Option<prost_types::Duration> {
    of_seconds(millis / 1000.0)
}

/// The duration that a caller gave; nothing where he gave none.
///
/// # Errors
///
/// `InvalidArgument` where it is not positive.
pub(super) fn given(
    duration: Option<prost_types::Duration>,
    field: &str,
    reason: Reason,
) -> Result<Option<Duration>, SqlFault> {
    let Some(given) = duration else { return Ok(None) };
    match Duration::try_from(given) {
        Ok(given) if !given.is_zero() => Ok(Some(given)),
        _ => {
            let message = format!("{field} is {given}; expected a duration above zero, or none");
            Err(SqlFault::new(FaultKind::InvalidArgument, reason, message))
        }
    }
}

/// In seconds; 0 where it is absent.
pub fn seconds(duration: Option<prost_types::Duration>) -> f64 {
    duration.map_or(0.0, |it| it.seconds as f64 + f64::from(it.nanos) / 1e9)
}

/// A duration that is not negative; 0 where it is absent.
pub fn elapsed(duration: Option<prost_types::Duration>) -> Duration {
    duration.and_then(|it| Duration::try_from(it).ok()).unwrap_or_default()
}

/// In milliseconds; 0 where it is absent.
pub fn millis(duration: Option<prost_types::Duration>) -> f64 {
    seconds(duration) * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_has_the_words_of_the_domain() {
        for phase in Phase::ALL {
            let sent = proto::Phase::from(phase);
            assert_eq!(
                (word::<proto::Phase>(sent.into()), sent.known()),
                (phase.to_string(), Some(phase))
            );
        }
        for verdict in ["match", "normalized", "incompatible", "error", "data", "pending", "noise"]
        {
            let sent = proto::Verdict::from(verdict.parse::<Verdict>().unwrap());
            assert_eq!(word::<proto::Verdict>(sent.into()), verdict);
        }
        for mark in [Mark::Pass, Mark::Inconclusive, Mark::Fail] {
            let sent = proto::GateMark::from(mark);
            assert_eq!(word::<proto::GateMark>(sent.into()), mark.as_str());
        }
        for kind in ["phase", "settled", "percentage", "drift", "rehearsal", "outbox", "tables"] {
            let sent = proto::HistoryEventKind::from(kind.parse::<EventKind>().unwrap());
            assert_eq!(word::<proto::HistoryEventKind>(sent.into()), kind);
        }
        assert_eq!(word::<proto::CutoverStepName>(1), "gates");
        assert_eq!(
            (word::<proto::Phase>(0), word::<proto::Phase>(99)),
            (String::new(), "99".into())
        );
    }

    #[test]
    fn durations_keep_their_sign() {
        assert_eq!(seconds(of_seconds(-1.5)), -1.5);
        assert_eq!(millis(of_millis(2.25)), 2.25);
        assert_eq!(of_seconds(f64::NAN), None);
        assert_eq!(lasting(Duration::MAX).map(|it| it.seconds), Some(SECONDS_MAX));
    }
}
