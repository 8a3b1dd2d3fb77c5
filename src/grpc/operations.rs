//! Operations as messages, and as what is kept of them.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use prost::Message;

use crate::domain::backfill::TableProgress;
use crate::domain::cutover::CutoverEvent;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::MemberId;
use crate::domain::operation::{Cancellation, Document, Followed, OperationId, OperationRequest};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::step::Asked;
use crate::grpc::proto::operation::Request;
use crate::grpc::proto::{self, Operation, OperationKind, OperationState};
use crate::grpc::words::{self, at, word};
use crate::grpc::{cutover, report};
use crate::preflight::Code;

const INVALID: Reason = Reason::InvalidOperation;

fn invalid(message: impl Into<String>) -> SqlFault {
    SqlFault::new(FaultKind::InvalidArgument, INVALID, message)
}

/// The id that a caller names.
pub(super) fn id(given: &str) -> Result<OperationId, SqlFault> {
    let parsed = given.parse::<uuid::Uuid>();
    let wrong = |_| invalid(format!("{given:?} is not the id of an operation: expected a UUID"));
    parsed.map(|id| OperationId(id.as_u128())).map_err(wrong)
}

/// The id of a new operation: the caller's, or one of ours.
fn new_id(given: &str) -> Result<OperationId, SqlFault> {
    if given.is_empty() { Ok(OperationId(uuid::Uuid::new_v4().as_u128())) } else { id(given) }
}

/// Who asks; must be given.
pub(super) fn asked(actor: String, reason: String) -> Result<Asked, SqlFault> {
    if actor.trim().is_empty() {
        return Err(invalid(
            "actor is empty; who starts or cancels an operation is kept on record",
        ));
    }
    Ok(Asked { by: actor, reason })
}

type Start = (OperationId, OperationRequest, Asked);

pub(super) fn cutover(request: proto::StartCutoverRequest) -> Result<Start, SqlFault> {
    let id = new_id(&request.operation_id)?;
    let asked = asked(request.actor.clone(), request.reason.clone())?;
    Ok((id, OperationRequest::Cutover(cutover::request(request)?), asked))
}

pub(super) fn backfill(request: proto::StartBackfillRequest) -> Result<Start, SqlFault> {
    let id = new_id(&request.operation_id)?;
    let proto::StartBackfillRequest { tables, empty_target, accept, actor, reason, .. } = request;
    for name in &accept {
        let known = Code::ALL.iter().find(|code| code.as_str() == name);
        if !known.is_some_and(|code| code.may_be_accepted()) {
            let message =
                format!("accept names {name:?}, which is no finding that can be passed over");
            return Err(invalid(message).with_hint("`segue check --list` shows all findings"));
        }
    }
    let asked = asked(actor, reason)?;
    Ok((id, OperationRequest::Backfill { tables, empty_target, accept }, asked))
}

pub(super) fn verify(request: proto::StartVerifyRequest) -> Result<Start, SqlFault> {
    let id = new_id(&request.operation_id)?;
    let proto::StartVerifyRequest { tables, sample, repair, actor, reason, .. } = request;
    let sample = if sample == 0.0 { 1.0 } else { sample };
    if !(sample > 0.0 && sample <= 1.0) {
        return Err(invalid(format!("sample is {sample}; expected a share above 0 and up to 1")));
    }
    Ok((id, OperationRequest::Verify { tables, sample, repair }, asked(actor, reason)?))
}

/// What a request is for.
pub fn kind_of(request: &OperationRequest) -> OperationKind {
    match request {
        OperationRequest::Cutover(request) if request.to == Side::Target => OperationKind::Cutover,
        OperationRequest::Cutover(_) => OperationKind::Rollback,
        OperationRequest::Backfill { .. } => OperationKind::Backfill,
        OperationRequest::Verify { .. } => OperationKind::Verify,
    }
}

/// A new operation.
pub fn begun(
    id: OperationId,
    request: &OperationRequest,
    asked: &Asked,
    (member, name): (MemberId, &str),
) -> Operation {
    let Asked { by: actor, reason } = asked.clone();
    let operation_id = id.to_string();
    let told = match request.clone() {
        OperationRequest::Cutover(request) => Request::Cutover(proto::StartCutoverRequest {
            operation_id,
            to: words::side(request.to),
            rehearse: request.rehearse,
            pause_max: words::lasting(request.pause_max),
            actor: actor.clone(),
            reason: reason.clone(),
            force: request.force,
        }),
        OperationRequest::Backfill { tables, empty_target, accept } => {
            let (actor, reason) = (actor.clone(), reason.clone());
            Request::Backfill(proto::StartBackfillRequest {
                operation_id,
                tables,
                empty_target,
                accept,
                actor,
                reason,
            })
        }
        OperationRequest::Verify { tables, sample, repair } => {
            let (actor, reason) = (actor.clone(), reason.clone());
            Request::Verify(proto::StartVerifyRequest {
                operation_id,
                tables,
                sample,
                repair,
                actor,
                reason,
            })
        }
    };
    Operation {
        id: id.to_string(),
        kind: kind_of(request).into(),
        state: OperationState::Running.into(),
        actor,
        reason,
        created_at: at(std::time::SystemTime::now()),
        member_id: member.to_string(),
        member_name: name.to_owned(),
        request: Some(told),
        ..Operation::default()
    }
}

/// What a cutover tells.
#[derive(Debug, Clone, PartialEq)]
pub enum CutoverMessage {
    /// A step began or ended.
    Step(proto::CutoverStep),
    /// The last event.
    Result(proto::CutoverResult),
}

/// An event of a cutover.
pub fn cutover_event(event: CutoverEvent) -> CutoverMessage {
    cutover::event(event)
}

/// How far a table is.
pub fn backfill_table(table: TableProgress) -> proto::BackfillTable {
    report::backfill_table(table)
}

/// That somebody asked to cancel.
pub fn cancellation(cancellation: Cancellation) -> proto::Resolution {
    let Cancellation { at: time, actor, reason } = cancellation;
    proto::Resolution { at: at(time), actor, reason }
}

/// The word for how an operation stands.
pub fn state_word(operation: &Operation) -> String {
    word::<OperationState>(operation.state)
}

/// What is kept and told of a message.
pub fn encoded(message: &impl Message) -> Document {
    Document(message.encode_to_vec())
}

/// A message from what is kept of it.
///
/// # Errors
///
/// Where it cannot be read: a newer segue wrote it.
pub fn decoded<M: Message + Default>(document: &Document) -> Result<M, SqlFault> {
    M::decode(document.0.as_slice()).map_err(|error| {
        let message = format!("an operation that is kept cannot be read: {error}");
        SqlFault::new(FaultKind::Precondition, Reason::OperationUnreadable, message)
            .with_hint("it may be of a newer segue; ask a sidecar of that version")
    })
}

type Watched = Result<proto::WatchOperationResponse, SqlFault>;

/// What is followed, as messages.
pub(super) fn followed(
    stream: BoxStream<'static, Result<Followed, SqlFault>>,
) -> BoxStream<'static, Watched> {
    let message = |followed: Followed| {
        let events = followed.events.iter().map(decoded).collect::<Result<_, _>>()?;
        let operation = Some(decoded(&followed.operation)?);
        Ok(proto::WatchOperationResponse { events, operation })
    };
    stream.map(move |followed| followed.and_then(message)).boxed()
}
