//! Phases, gates, the fleet and the history as messages.

use std::time::SystemTime;

use crate::domain::control::Percentage;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::figures::SideFigures;
use crate::domain::fleet::Member;
use crate::domain::gate::{Gate, Progress};
use crate::domain::history::Recorded;
use crate::domain::reach::Noted;
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::domain::status::FleetStatus;
use crate::domain::step::{Asked, PhaseReport, Step, Stepped};
use crate::grpc::foreign;
use crate::grpc::proto::{self, change_phase_request};
use crate::grpc::words::{self, at, lasting, of_millis, of_seconds};

/// The step that a request asks for, and who asks.
pub(super) fn step(request: proto::ChangePhaseRequest) -> Result<(Step, Asked), SqlFault> {
    let proto::ChangePhaseRequest { step, actor, reason } = request;
    if actor.trim().is_empty() {
        return Err(invalid("actor is empty; who changes a phase is kept on record"));
    }
    let step = match step.ok_or_else(|| invalid("no step is named"))? {
        change_phase_request::Step::Advance(proto::AdvancePhase { to, force }) => {
            let unknown = |_| invalid(format!("{to} is no phase that this segue knows"));
            let to = proto::Phase::try_from(to).map_err(unknown)?.known();
            Step::Advance { to, force }
        }
        change_phase_request::Step::Back(proto::PhaseBack { give_up_copy }) => {
            Step::Back { give_up_copy }
        }
        change_phase_request::Step::TargetPercentage(percent) => {
            let share = Percentage::of(percent);
            let wrong = || invalid(format!("a percentage of {percent} is not between 0 and 100"));
            Step::Percentage(share.ok_or_else(wrong)?)
        }
        change_phase_request::Step::Resume(proto::ResumeSchedule {}) => Step::Resume,
    };
    Ok((step, Asked { by: actor, reason }))
}

fn invalid(message: impl Into<String>) -> SqlFault {
    SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidStep, message)
}

pub(super) fn stepped(stepped: Stepped) -> proto::ChangePhaseResponse {
    match stepped {
        Stepped::Done(row) => proto::ChangePhaseResponse {
            done: true,
            mark: proto::GateMark::Pass.into(),
            gates: Vec::new(),
            phase: proto::Phase::from(row.state.phase).into(),
            epoch: row.state.epoch,
            target_percentage: row.target_percentage.percent(),
        },
        Stepped::Refused { mark, gates } => proto::ChangePhaseResponse {
            done: false,
            mark: proto::GateMark::from(mark).into(),
            gates: gates.into_iter().map(gate).collect(),
            ..proto::ChangePhaseResponse::default()
        },
    }
}

pub(super) fn report(report: PhaseReport) -> proto::PhaseReport {
    let PhaseReport { row, settled, gates } = report;
    proto::PhaseReport {
        phase: proto::Phase::from(row.state.phase).into(),
        epoch: row.state.epoch,
        since: at(row.phase_since),
        actor: row.changed_by,
        reason: row.reason,
        settled: settled.is_yes(),
        waits_for: settled.waits_for().to_vec(),
        settled_at: row.settled_at.and_then(at),
        target_percentage: row.target_percentage.percent(),
        schedule_held: row.held,
        next: row.state.phase.next().map(proto::Phase::from).unwrap_or_default().into(),
        gates: gates.into_iter().map(gate).collect(),
    }
}

pub(super) fn gate(gate: Gate) -> proto::Gate {
    let Gate { name, mark, found, wanted } = gate;
    proto::Gate { name: name.to_owned(), mark: proto::GateMark::from(mark).into(), found, wanted }
}

pub(super) fn event(recorded: Recorded) -> proto::HistoryEvent {
    let Recorded { at: time, event } = recorded;
    proto::HistoryEvent {
        at: at(time),
        kind: proto::HistoryEventKind::from(event.kind).into(),
        epoch: event.epoch,
        from_phase: proto::Phase::from(event.from.phase).into(),
        to_phase: proto::Phase::from(event.to.phase).into(),
        from_percentage: event.from.percentage.percent(),
        to_percentage: event.to.percentage.percent(),
        forced: event.forced,
        actor: event.changed_by,
        reason: event.reason,
        figures: event.figures.to_string(),
    }
}

pub(super) fn fleet(status: FleetStatus) -> proto::FleetStatus {
    let FleetStatus {
        report: phase,
        fleet,
        figures,
        backfill,
        verify,
        unmigrated,
        foreign: writers,
        events,
    } = status;
    let (now, leader) = (fleet.now, fleet.leader);
    let members = fleet.members.into_iter().map(|it| member(&it, now, leader == Some(it.id)));
    proto::FleetStatus {
        phase: Some(report(phase)),
        members: members.collect(),
        window: lasting(figures.window),
        sides: sides(&figures.reads, &figures.writes).to_vec(),
        judged: figures.judged,
        mismatches: figures.mismatches,
        backfill: Some(progress(backfill)),
        verify: Some(progress(verify)),
        events: events.into_iter().map(event).collect(),
        unmigrated: unmigrated.into_iter().map(statement).collect(),
        foreign_writers: writers.into_iter().map(foreign::writer).collect(),
    }
}

fn statement(noted: Noted) -> proto::UnmigratedStatement {
    let Noted { fingerprint, summary, relations, count } = noted;
    let relations = relations.into_iter().collect();
    proto::UnmigratedStatement { fingerprint, summary, relations, calls: count }
}

fn member(member: &Member, now: SystemTime, is_leader: bool) -> proto::Member {
    let left = member.lease_until.duration_since(now).map(|left| left.as_secs_f64());
    proto::Member {
        id: member.id.to_string(),
        name: member.name.clone(),
        address: member.address.clone(),
        version: member.version.clone(),
        epoch: member.epoch,
        started_at: at(member.started_at),
        lease_remaining: of_seconds(left.unwrap_or_else(|over| -over.duration().as_secs_f64())),
        is_leader,
    }
}

fn sides(reads: &Sides<SideFigures>, writes: &Sides<SideFigures>) -> [proto::SideStatus; 2] {
    [Side::Source, Side::Target].map(|side| proto::SideStatus {
        side: words::side(side),
        reads: Some(calls(reads.of(side))),
        writes: Some(calls(writes.of(side))),
    })
}

fn calls(figures: &SideFigures) -> proto::SideCalls {
    let SideFigures { calls, errors, p50_ms, p95_ms, p99_ms } = *figures;
    let [p50, p95, p99] = [p50_ms, p95_ms, p99_ms].map(of_millis);
    proto::SideCalls { calls, errors, p50, p95, p99 }
}

fn progress(progress: Progress) -> proto::JobProgress {
    let (state, text) = match progress {
        Progress::Unknown(text) => (proto::JobState::Unknown, text),
        Progress::Running(text) => (proto::JobState::Running, text),
        Progress::Done(text) => (proto::JobState::Done, text),
        Progress::Failed(text) => (proto::JobState::Failed, text),
    };
    proto::JobProgress { state: state.into(), text }
}
