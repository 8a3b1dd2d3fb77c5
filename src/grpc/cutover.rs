//! A cutover as messages.

use std::time::Duration;

use crate::domain::cutover::{CutoverEnd, CutoverEvent, CutoverRequest, StepState};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::grpc::operations::CutoverMessage;
use crate::grpc::words::{self, lasting};
use crate::grpc::{phases, proto, report};

/// Where the request names none.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is asked for.
pub(super) fn request(request: proto::StartCutoverRequest) -> Result<CutoverRequest, SqlFault> {
    let proto::StartCutoverRequest { to, rehearse, pause_max, actor, reason, force, .. } = request;
    let to = words::known_side(to)
        .ok_or_else(|| invalid("to is not set; it is SIDE_SOURCE or SIDE_TARGET"))?;
    if force && reason.trim().is_empty() {
        return Err(invalid("a gate is forced without a reason; it is recorded"));
    }
    let pause_max = words::given(pause_max, "pause_max", INVALID)?.unwrap_or(PAUSE_MAX);
    Ok(CutoverRequest { to, rehearse, force, pause_max, by: actor, reason })
}

const INVALID: Reason = Reason::InvalidCutover;

fn invalid(message: impl Into<String>) -> SqlFault {
    SqlFault::new(FaultKind::InvalidArgument, INVALID, message)
}

pub(super) fn event(event: CutoverEvent) -> CutoverMessage {
    match event {
        CutoverEvent::Step { step, state, took, detail } => {
            CutoverMessage::Step(proto::CutoverStep {
                name: proto::CutoverStepName::from(step).into(),
                state: proto::CutoverStepState::from(state).into(),
                took: (state != StepState::Begun).then(|| lasting(took)).flatten(),
                detail,
            })
        }
        CutoverEvent::End { end, paused, phase, epoch, proofs } => {
            let phase = proto::Phase::from(phase).into();
            let proofs = proofs.into_iter().map(report::table_proof).collect();
            let paused = lasting(paused);
            let result = ended(end);
            CutoverMessage::Result(proto::CutoverResult { paused, phase, epoch, proofs, ..result })
        }
    }
}

fn ended(end: CutoverEnd) -> proto::CutoverResult {
    let of = |outcome: proto::CutoverOutcome| proto::CutoverResult {
        outcome: outcome.into(),
        ..proto::CutoverResult::default()
    };
    match end {
        CutoverEnd::Done => of(proto::CutoverOutcome::Done),
        CutoverEnd::Rehearsed => of(proto::CutoverOutcome::Rehearsed),
        CutoverEnd::CalledOff { why } => {
            proto::CutoverResult { reason: why, ..of(proto::CutoverOutcome::CalledOff) }
        }
        CutoverEnd::Refused { mark, gates } => proto::CutoverResult {
            mark: proto::GateMark::from(mark).into(),
            gates: gates.into_iter().map(phases::gate).collect(),
            ..of(proto::CutoverOutcome::Refused)
        },
    }
}
