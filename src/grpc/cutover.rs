//! A cutover as messages.

use std::time::Duration;

use crate::domain::cutover::{CutoverEnd, CutoverEvent, CutoverRequest, StepState};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::Side;
use crate::domain::status::TableProven;
use crate::grpc::{phases, proto};

/// Where the request names none.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is asked for.
pub(super) fn request(request: proto::CutoverRequest) -> Result<CutoverRequest, SqlFault> {
    let proto::CutoverRequest { to, rehearse, pause_max_ms, by, reason, force } = request;
    let to = match to.as_str() {
        "source" => Side::Source,
        "target" => Side::Target,
        other => {
            let message = format!("to is {other:?}; it is \"source\" or \"target\"");
            return Err(invalid(message));
        }
    };
    if by.trim().is_empty() {
        return Err(invalid("by is empty; who changes the primary is kept on record"));
    }
    if force && reason.trim().is_empty() {
        return Err(invalid("a gate is forced without a reason; it is recorded"));
    }
    let pause_max = match pause_max_ms {
        0 => PAUSE_MAX,
        ms => Duration::from_millis(u64::from(ms)),
    };
    Ok(CutoverRequest { to, rehearse, force, pause_max, by, reason })
}

fn invalid(message: impl Into<String>) -> SqlFault {
    SqlFault::new(FaultKind::InvalidArgument, "invalid.cutover", message)
}

pub(super) fn event(event: CutoverEvent) -> proto::CutoverEvent {
    use proto::cutover_event::Event;
    let event = match event {
        CutoverEvent::Step { step, state, took, detail } => Event::Step(proto::CutoverStep {
            step: step.to_string(),
            state: match state {
                StepState::Begun => "begun",
                StepState::Done => "done",
                StepState::Failed => "failed",
            }
            .to_owned(),
            took_ms: took.as_secs_f64() * 1000.0,
            detail,
        }),
        CutoverEvent::End { end, paused, phase, epoch, proofs } => {
            let end = ended(end);
            let (paused_ms, phase) = (paused.as_secs_f64() * 1000.0, phase.to_string());
            let proofs = proofs.into_iter().map(table_proven).collect();
            Event::End(proto::CutoverEnd { paused_ms, phase, epoch, proofs, ..end })
        }
    };
    proto::CutoverEvent { event: Some(event) }
}

pub(super) fn table_proven(proven: TableProven) -> proto::TableProven {
    proto::TableProven {
        table: proven.table.to_string(),
        chunks: proven.chunks,
        proven: proven.proven,
        oldest: proven.oldest.and_then(phases::at),
        oldest_age_s: proven.oldest_age_s,
        rows_under_fence: proven.rows_under_fence,
        void_reason: proven.void_reason,
    }
}

fn ended(end: CutoverEnd) -> proto::CutoverEnd {
    let of = |outcome: &str| proto::CutoverEnd {
        outcome: outcome.to_owned(),
        ..proto::CutoverEnd::default()
    };
    match end {
        CutoverEnd::Done => of("done"),
        CutoverEnd::Rehearsed => of("rehearsed"),
        CutoverEnd::CalledOff { why } => proto::CutoverEnd { reason: why, ..of("called_off") },
        CutoverEnd::Refused { mark, gates } => proto::CutoverEnd {
            mark: mark.to_string(),
            gates: gates.into_iter().map(phases::gate).collect(),
            ..of("refused")
        },
    }
}
