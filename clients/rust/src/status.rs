//! From a gRPC status to a failure.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::error::{CONNECTION, Failure, Outcome, Side};
use crate::protocol as proto;

const SQL_ERROR: &str = "segue.v1.SqlError";
const RETRY_INFO: &str = "google.rpc.RetryInfo";

/// What a call failed with.
pub(crate) fn failure_of(status: &Status) -> Failure {
    let mut failure = Failure::new(status.code(), CONNECTION, status.message());
    failure.outcome = Outcome::Unknown;
    failure.lost = true;
    let details = pb::Status::decode(status.details()).map(|it| it.details).unwrap_or_default();
    for detail in details {
        let name = detail.type_url.rsplit('/').next().unwrap_or_default();
        if name == SQL_ERROR
            && let Ok(told) = proto::SqlError::decode(detail.value.as_slice())
        {
            read(&mut failure, told);
        } else if name == RETRY_INFO
            && let Ok(told) = pb::RetryInfo::decode(detail.value.as_slice())
        {
            failure.retry_delay = told.retry_delay.and_then(|it| Duration::try_from(it).ok());
        }
    }
    if failure.lost && failure.code == Code::Unimplemented {
        failure.lost = false;
        failure.outcome = Outcome::NotApplied;
    }
    failure
}

fn read(failure: &mut Failure, told: proto::SqlError) {
    failure.lost = false;
    failure.side = side_of(told.side());
    failure.outcome = match told.outcome() {
        proto::Outcome::NotApplied => Outcome::NotApplied,
        proto::Outcome::Applied => Outcome::Applied,
        proto::Outcome::Unspecified | proto::Outcome::Unknown => Outcome::Unknown,
    };
    failure.message = told.message;
    failure.sqlstate = told.sqlstate;
    failure.detail = told.detail;
    failure.hint = told.hint;
    failure.position = told.position;
    failure.constraint = told.constraint;
    failure.schema = told.schema;
    failure.table = told.table;
    failure.column = told.column;
    failure.reason = told.reason;
    failure.retryable = told.retryable;
    failure.token = told.consistency_token;
}

/// A side of the protocol.
pub(crate) fn side_of(side: proto::Side) -> Option<Side> {
    match side {
        proto::Side::Source => Some(Side::Source),
        proto::Side::Target => Some(Side::Target),
        proto::Side::Unspecified => None,
    }
}
