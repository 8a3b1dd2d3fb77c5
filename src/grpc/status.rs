//! The one place where faults become gRPC codes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate::{self, class};
use crate::grpc::proto;

/// Whose reasons those of `google.rpc.ErrorInfo` are.
const ERROR_DOMAIN: &str = "segue";

/// Where a detail's type is named.
const TYPE_PREFIX: &str = "type.googleapis.com/";

/// Status and details travel in HTTP headers, of which many clients accept 8 KiB. Longer
/// texts of a database are cut here, and say so; answers never are.
const TEXT_BYTES_MAX: usize = 1024;

/// How near to the deadline a timeout counts as that deadline: the server's clock runs in
/// whole milliseconds.
const DEADLINE_SLACK: Duration = Duration::from_millis(20);

/// How long a caller should wait before it tries again.
const RETRY_CONFLICT: Duration = Duration::from_millis(20);
const RETRY_UNAVAILABLE: Duration = Duration::from_millis(250);

/// The status of a failed call. `deadline` is the call's, where it had one.
pub(super) fn from_fault(fault: &SqlFault, deadline: Option<Instant>) -> Status {
    let (code, status) = of_fault(fault, deadline);
    let details = Bytes::from(status.encode_to_vec());
    Status::with_details_and_metadata(code, status.message, details, MetadataMap::new())
}

/// The same as a message, for a call of a pipeline.
pub(super) fn of_fault(fault: &SqlFault, deadline: Option<Instant>) -> (Code, pb::Status) {
    let code = code(fault, deadline);
    let info = pb::ErrorInfo {
        reason: info_reason(fault),
        domain: ERROR_DOMAIN.to_owned(),
        ..Default::default()
    };
    let mut details =
        vec![any("google.rpc.ErrorInfo", &info), any("segue.v1.SqlError", &sql_error(fault))];
    if let Some(delay) = retry_delay(fault, code) {
        let nanos = i32::try_from(delay.subsec_nanos()).unwrap_or_default();
        let retry_delay = Some(prost_types::Duration { seconds: delay.as_secs() as i64, nanos });
        details.push(any("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay }));
    }
    (code, pb::Status { code: code.into(), message: cut(&fault.to_string()), details })
}

/// By the rules of `google.rpc.ErrorInfo`: capitals, digits and underscores.
fn info_reason(fault: &SqlFault) -> String {
    match (fault.reason, fault.sqlstate.as_str()) {
        (Reason::Database, "") => "UNKNOWN".to_owned(),
        (Reason::Database, sqlstate) => format!("SQLSTATE_{sqlstate}"),
        (reason, _) => reason.as_str().to_ascii_uppercase().replace('.', "_"),
    }
}

/// The detail that says everything that is known.
pub(super) fn sql_error(fault: &SqlFault) -> proto::SqlError {
    let outcome = match fault.outcome {
        Outcome::NotApplied => proto::Outcome::NotApplied,
        Outcome::Applied => proto::Outcome::Applied,
        Outcome::Unknown => proto::Outcome::Unknown,
    };
    proto::SqlError {
        sqlstate: fault.sqlstate.clone(),
        message: cut(&fault.message),
        detail: cut(&fault.detail),
        hint: cut(&fault.hint),
        position: fault.position,
        constraint: cut(&fault.constraint),
        schema: cut(&fault.schema),
        table: cut(&fault.table),
        column: cut(&fault.column),
        side: fault.side.map_or(proto::Side::Unspecified, side).into(),
        retryable: fault.retryable,
        outcome: outcome.into(),
        reason: fault.reason.as_str().to_owned(),
        consistency_token: fault.must_see.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// A side on the wire.
pub(super) fn side(side: Side) -> proto::Side {
    match side {
        Side::Source => proto::Side::Source,
        Side::Target => proto::Side::Target,
    }
}

/// The code's name, as metrics and traces have it.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// `UNAVAILABLE` invites every client library to send the call again by itself: it is given
/// only where the statement was surely not sent.
fn code(fault: &SqlFault, deadline: Option<Instant>) -> Code {
    match fault.kind {
        FaultKind::Database => database_code(&fault.sqlstate, fault, deadline),
        FaultKind::InvalidArgument => Code::InvalidArgument,
        FaultKind::Refused | FaultKind::Precondition => Code::FailedPrecondition,
        FaultKind::NotFound => Code::NotFound,
        FaultKind::LimitExceeded => Code::ResourceExhausted,
        FaultKind::DeadlineExceeded => Code::DeadlineExceeded,
        FaultKind::Cancelled => Code::Cancelled,
        FaultKind::Unavailable => Code::Unavailable,
        FaultKind::ConnectionLost => lost_code(fault),
        FaultKind::Internal => Code::Internal,
    }
}

fn database_code(sqlstate: &str, fault: &SqlFault, deadline: Option<Instant>) -> Code {
    match sqlstate {
        sqlstate::SERIALIZATION_FAILURE
        | sqlstate::DEADLOCK_DETECTED
        | sqlstate::LOCK_NOT_AVAILABLE => return Code::Aborted,
        sqlstate::STATEMENT_COMPLETION_UNKNOWN => return Code::Unknown,
        sqlstate::UNIQUE_VIOLATION => return Code::AlreadyExists,
        sqlstate::INSUFFICIENT_PRIVILEGE => return Code::PermissionDenied,
        // A parameter's bytes that the server cannot read.
        sqlstate::PROTOCOL_VIOLATION => return Code::InvalidArgument,
        sqlstate::QUERY_CANCELED if deadline.is_some_and(is_over) => return Code::DeadlineExceeded,
        sqlstate::QUERY_CANCELED => return Code::Cancelled,
        // A statement that no longer fits the schema, say: the class says what is wrong with the
        // call, and nothing is.
        _ if fault.retryable && fault.outcome == Outcome::NotApplied => return Code::Aborted,
        _ => {}
    }
    match sqlstate.get(..2).unwrap_or_default() {
        class::INTEGRITY_CONSTRAINT_VIOLATION
        | class::INVALID_TRANSACTION_STATE
        | class::INVALID_TRANSACTION_TERMINATION
        | class::SAVEPOINT_EXCEPTION
        | class::OBJECT_NOT_IN_PREREQUISITE_STATE
        | class::PLPGSQL_ERROR
        | class::WITH_CHECK_OPTION_VIOLATION
        | class::TRIGGERED_DATA_CHANGE_VIOLATION
        | class::TRIGGERED_ACTION_EXCEPTION => Code::FailedPrecondition,
        class::SYNTAX_OR_ACCESS
        | class::DATA_EXCEPTION
        | class::CARDINALITY_VIOLATION
        | class::FEATURE_NOT_SUPPORTED
        | class::PROGRAM_LIMIT_EXCEEDED
        | class::SQL_ROUTINE_EXCEPTION
        | class::EXTERNAL_ROUTINE_EXCEPTION
        | class::EXTERNAL_ROUTINE_INVOCATION_EXCEPTION
        | class::INVALID_SQL_STATEMENT_NAME
        | class::INVALID_CURSOR_NAME => Code::InvalidArgument,
        class::INSUFFICIENT_RESOURCES => Code::ResourceExhausted,
        class::INVALID_AUTHORIZATION => Code::Unauthenticated,
        class::CONNECTION_EXCEPTION | class::OPERATOR_INTERVENTION | class::SYSTEM_ERROR => {
            lost_code(fault)
        }
        class::INTERNAL_ERROR => Code::Internal,
        class::TRANSACTION_ROLLBACK => Code::Aborted,
        _ => Code::Unknown,
    }
}

/// The server went away while it had the statement.
fn lost_code(fault: &SqlFault) -> Code {
    match fault.outcome {
        Outcome::NotApplied => Code::Aborted,
        Outcome::Applied | Outcome::Unknown => Code::Unknown,
    }
}

fn is_over(deadline: Instant) -> bool {
    deadline <= Instant::now() + DEADLINE_SLACK
}

fn retry_delay(fault: &SqlFault, code: Code) -> Option<Duration> {
    if !fault.retryable || fault.outcome != Outcome::NotApplied {
        return None;
    }
    match code {
        Code::Aborted => Some(RETRY_CONFLICT),
        Code::Unavailable | Code::ResourceExhausted => Some(RETRY_UNAVAILABLE),
        _ => None,
    }
}

fn any(type_name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("{TYPE_PREFIX}{type_name}"),
        value: message.encode_to_vec(),
    }
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = TEXT_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… ({} bytes in all)", text.get(..end).unwrap_or_default(), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(sqlstate: &str) -> SqlFault {
        let mut fault =
            SqlFault::new(FaultKind::Database, Reason::Database, "failed").on(Side::Source);
        fault.sqlstate = sqlstate.to_owned();
        fault
    }

    fn detail(status: &Status) -> (pb::Status, proto::SqlError) {
        let full = pb::Status::decode(status.details()).unwrap();
        let error = proto::SqlError::decode(full.details[1].value.as_slice()).unwrap();
        (full, error)
    }

    #[test]
    fn sqlstates_have_their_codes() {
        for (sqlstate, code) in [
            ("40001", Code::Aborted),
            ("40P01", Code::Aborted),
            ("23505", Code::AlreadyExists),
            ("23503", Code::FailedPrecondition),
            ("23514", Code::FailedPrecondition),
            ("42501", Code::PermissionDenied),
            ("28000", Code::Unauthenticated),
            ("28P01", Code::Unauthenticated),
            ("42P01", Code::InvalidArgument),
            ("42601", Code::InvalidArgument),
            ("22003", Code::InvalidArgument),
            ("25006", Code::FailedPrecondition),
            ("57014", Code::Cancelled),
            ("53300", Code::ResourceExhausted),
            ("XX000", Code::Internal),
            ("57P01", Code::Aborted),
            ("", Code::Unknown),
        ] {
            assert_eq!(from_fault(&database(sqlstate), None).code(), code, "{sqlstate}");
        }
    }

    #[test]
    fn a_stopped_statement_is_told_by_its_deadline() {
        let now = Instant::now();
        let over = from_fault(&database("57014"), Some(now));
        let not_over = from_fault(&database("57014"), Some(now + Duration::from_secs(60)));
        assert_eq!((over.code(), not_over.code()), (Code::DeadlineExceeded, Code::Cancelled));
    }

    #[test]
    fn the_detail_says_everything() {
        let mut fault = database("23505").with_hint("take another id");
        fault.constraint = "orders_pkey".to_owned();
        fault.position = 7;
        let status = from_fault(&fault, None);
        let (full, error) = detail(&status);
        assert_eq!(full.code, i32::from(Code::AlreadyExists));
        assert_eq!(full.details[1].type_url, "type.googleapis.com/segue.v1.SqlError");
        assert_eq!(status.message(), "source: failed (SQLSTATE 23505)");
        assert_eq!((error.sqlstate.as_str(), error.constraint.as_str()), ("23505", "orders_pkey"));
        assert_eq!(
            (error.side(), error.outcome()),
            (proto::Side::Source, proto::Outcome::NotApplied)
        );
        assert_eq!((error.position, error.hint.as_str()), (7, "take another id"));
    }

    #[test]
    fn a_lost_connection_is_never_unavailable() {
        let lost = SqlFault::new(FaultKind::ConnectionLost, Reason::ConnectionLost, "lost");
        let unknown = lost.clone().with_outcome(Outcome::Unknown).retryable();
        assert_eq!(from_fault(&unknown, None).code(), Code::Unknown);
        assert_eq!(detail(&from_fault(&unknown, None)).0.details.len(), 2, "no RetryInfo");
        assert_eq!(from_fault(&lost, None).code(), Code::Aborted);
    }

    #[test]
    fn what_can_be_tried_again_says_when() {
        let status = from_fault(&database("40001").retryable(), None);
        let (full, _) = detail(&status);
        assert_eq!(full.details[2].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    }

    #[test]
    fn reasons_are_told_by_the_rules_of_error_info() {
        let info = |fault: &SqlFault| {
            let (full, _) = detail(&from_fault(fault, None));
            assert_eq!(full.details[0].type_url, "type.googleapis.com/google.rpc.ErrorInfo");
            let info = pb::ErrorInfo::decode(full.details[0].value.as_slice()).unwrap();
            assert_eq!(info.domain, "segue");
            info.reason
        };
        let own = SqlFault::new(FaultKind::Refused, Reason::RefusedTwoPhase, "refused");
        assert_eq!(info(&own), "REFUSED_TWO_PHASE");
        assert_eq!(info(&database("42501")), "SQLSTATE_42501");
        assert_eq!(info(&database("")), "UNKNOWN");
    }

    #[test]
    fn long_texts_fit_the_headers_and_say_that_they_were_cut() {
        let mut fault = database("23514");
        fault.message = "ä".repeat(100_000);
        fault.detail = "x".repeat(100_000);
        let status = from_fault(&fault, None);
        assert!(status.details().len() < 5000 && status.message().len() < 1100);
        assert!(status.message().ends_with("bytes in all)"), "{}", status.message());
    }
}
