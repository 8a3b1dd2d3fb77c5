//! Requests in segue's own types: what is absent or malformed is a fault here.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::call::{InTransaction, Isolation, TransactionId, TransactionOptions, Which};
use crate::domain::consistency::Token;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::value::{Array, Date, Interval, Timestamp, Value};
use crate::grpc::proto;
use crate::grpc::proto::transaction_selector::Selector;
use crate::grpc::proto::value::Kind;
use crate::stack::call::{CalledStatement, Text};

/// Longest idempotency key, in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Longest routing key, in bytes.
const ROUTING_KEY_BYTES_MAX: usize = 1024;
const MICROS_OF_A_SECOND: u32 = 1_000_000;
/// Tokens that one call may bring: of answers to calls that were made at the same time.
const TOKENS_MAX: usize = 256;
/// 128 bits in hexadecimal.
const TRANSACTION_ID_LEN: usize = 32;

/// The longest times of a transaction, which are their defaults as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransactionLimits {
    pub(super) idle_max: Duration,
    pub(super) total_max: Duration,
}

/// The statement of a call.
pub(super) fn statement(given: Option<proto::Statement>) -> Result<CalledStatement, SqlFault> {
    let absent =
        || invalid(Reason::InvalidStatement, "the call has no statement: give sql or a name");
    let proto::Statement { text, params } = given.ok_or_else(absent)?;
    let text = match text.ok_or_else(absent)? {
        proto::statement::Text::Sql(sql) => Text::Sql(sql.into()),
        proto::statement::Text::Name(name) => Text::Name(name.into()),
    };
    let params = params.into_iter().enumerate().map(|(index, given)| {
        value(given).map_err(|problem| {
            invalid(Reason::InvalidParameter, format!("parameter ${}: {problem}", index + 1))
        })
    });
    Ok(CalledStatement { text, params: params.collect::<Result<_, _>>()? })
}

/// The transaction of a call; nothing where it runs outside transactions.
pub(super) fn transaction(
    given: Option<&proto::TransactionSelector>,
    limits: TransactionLimits,
) -> Result<Option<InTransaction>, SqlFault> {
    let Some(given) = given else { return Ok(None) };
    let which = match &given.selector {
        Some(Selector::Id(id)) => Which::Open(transaction_required(id)?),
        Some(Selector::Begin(options)) => Which::New(transaction_options(options, limits)?),
        None => {
            let message = "the transaction selector has neither `id` nor `begin`: set one, or leave \
                           the selector out to run outside transactions";
            return Err(invalid(Reason::InvalidTransactionSelector, message));
        }
    };
    Ok(Some(InTransaction { which, commits: given.commit }))
}

/// A transaction id that must be there.
pub(super) fn transaction_required(given: &str) -> Result<TransactionId, SqlFault> {
    let digits = given.len() == TRANSACTION_ID_LEN && given.bytes().all(|b| b.is_ascii_hexdigit());
    let id = digits.then(|| u128::from_str_radix(given, 16).ok()).flatten();
    id.map(TransactionId).ok_or_else(|| {
        invalid(
            Reason::InvalidTransactionId,
            "the transaction id is not 32 hexadecimal digits: pass the one that Begin gave",
        )
    })
}

/// A transaction id on the wire.
pub(super) fn transaction_text(id: TransactionId) -> String {
    format!("{:032x}", id.0)
}

/// An idempotency key; empty is none.
pub(super) fn idempotency_key(given: &str) -> Result<Option<Arc<str>>, SqlFault> {
    key("idempotency_key", given, IDEMPOTENCY_KEY_BYTES_MAX)
}

/// A routing key; empty is none.
pub(super) fn routing_key(given: &str) -> Result<Option<Arc<str>>, SqlFault> {
    key("routing_key", given, ROUTING_KEY_BYTES_MAX)
}

/// What the tokens of earlier answers cover together.
pub(super) fn consistency_tokens(given: &[String]) -> Result<Token, SqlFault> {
    if given.len() > TOKENS_MAX {
        let message = format!("{} consistency tokens are more than {TOKENS_MAX}", given.len());
        let fault =
            SqlFault::new(FaultKind::LimitExceeded, Reason::LimitConsistencyTokens, message);
        return Err(fault.with_hint("bring those of the answers since the last call"));
    }
    let mut all = Token::default();
    for text in given {
        let token = text.parse::<Token>();
        all.absorb(
            token.map_err(|error| invalid(Reason::InvalidConsistencyToken, error.to_string()))?,
        );
    }
    Ok(all)
}

/// Options of a new transaction, within the sidecar's limits.
pub(super) fn transaction_options(
    given: &proto::TransactionOptions,
    limits: TransactionLimits,
) -> Result<TransactionOptions, SqlFault> {
    let isolation = match proto::Isolation::try_from(given.isolation) {
        Ok(proto::Isolation::Unspecified) => None,
        Ok(proto::Isolation::ReadCommitted) => Some(Isolation::ReadCommitted),
        Ok(proto::Isolation::RepeatableRead) => Some(Isolation::RepeatableRead),
        Ok(proto::Isolation::Serializable) => Some(Isolation::Serializable),
        Err(_) => {
            let message = format!("there is no isolation level {}", given.isolation);
            return Err(invalid(Reason::InvalidIsolation, message));
        }
    };
    let within = |field: &str, given: Option<&prost_types::Duration>, max: Duration| {
        Ok(duration(field, given)?.map_or(max, |given| given.min(max)))
    };
    Ok(TransactionOptions {
        isolation,
        read_only: given.read_only,
        idle_max: within("idle_timeout", given.idle_timeout.as_ref(), limits.idle_max)?,
        total_max: within("total_timeout", given.total_timeout.as_ref(), limits.total_max)?,
    })
}

/// A span of time; absent and zero are none.
pub(super) fn duration(
    field: &str,
    given: Option<&prost_types::Duration>,
) -> Result<Option<Duration>, SqlFault> {
    let Some(given) = given else { return Ok(None) };
    let duration = Duration::try_from(*given).map_err(|_| {
        let message = format!("{field} must not be negative, found {given}");
        invalid(Reason::InvalidDuration, message)
    })?;
    Ok((!duration.is_zero()).then_some(duration))
}

/// How rows are wanted.
pub(super) fn encoding(given: i32) -> Result<proto::Encoding, SqlFault> {
    match proto::Encoding::try_from(given) {
        Ok(proto::Encoding::Unspecified) => Ok(proto::Encoding::Typed),
        Ok(encoding) => Ok(encoding),
        Err(_) => {
            let message = format!(
                "there is no encoding {given}: ENCODING_TYPED is 1 and ENCODING_PACKED is 2"
            );
            Err(invalid(Reason::InvalidEncoding, message))
        }
    }
}

fn key(field: &str, given: &str, bytes_max: usize) -> Result<Option<Arc<str>>, SqlFault> {
    if given.is_empty() {
        return Ok(None);
    }
    if given.len() > bytes_max || given.contains('\0') {
        let message = format!(
            "the {field} has {} bytes; it may have 1 to {bytes_max}, none of them NUL",
            given.len()
        );
        return Err(invalid(Reason::InvalidKey, message));
    }
    Ok(Some(given.into()))
}

fn invalid(reason: Reason, message: impl Into<String>) -> SqlFault {
    SqlFault::new(FaultKind::InvalidArgument, reason, message)
}

fn value(given: proto::Value) -> Result<Value, String> {
    let kind = given.kind.ok_or("the value has no kind; for NULL set `null`")?;
    Ok(match kind {
        Kind::Null(_) => Value::Null,
        Kind::Bool(value) => Value::Bool(value),
        Kind::Int64(value) => Value::Int64(value),
        Kind::Double(value) => Value::Double(value),
        Kind::Numeric(text) => Value::Numeric(text),
        Kind::Text(text) => Value::Text(text),
        Kind::Bytes(bytes) => Value::Bytes(bytes),
        Kind::Timestamp(at) => Value::Timestamp(timestamp(&at)?),
        Kind::Timestamptz(at) => Value::TimestampTz(timestamp(&at)?),
        Kind::Date(given) => Value::Date(match infinity(given.infinity)? {
            proto::Infinity::Unspecified => Date::Finite(given.days),
            proto::Infinity::Positive => Date::Infinity,
            proto::Infinity::Negative => Date::NegInfinity,
        }),
        Kind::Time(micros) => Value::Time(micros),
        Kind::Interval(given) => Value::Interval(match infinity(given.infinity)? {
            proto::Infinity::Unspecified => {
                let proto::Interval { months, days, micros, .. } = given;
                Interval::Finite { months, days, micros }
            }
            proto::Infinity::Positive => Interval::Infinity,
            proto::Infinity::Negative => Interval::NegInfinity,
        }),
        Kind::Uuid(text) => Value::Uuid(text),
        Kind::Json(text) => Value::Json(text),
        Kind::Array(given) => Value::Array(array(given)?),
        Kind::Other(proto::Other { type_name, text }) => Value::Other { type_name, text },
        Kind::Opaque(proto::Opaque { type_name, data }) => Value::Opaque { type_name, data },
    })
}

fn timestamp(given: &proto::Timestamp) -> Result<Timestamp, String> {
    Ok(match infinity(given.infinity)? {
        proto::Infinity::Positive => Timestamp::Infinity,
        proto::Infinity::Negative => Timestamp::NegInfinity,
        proto::Infinity::Unspecified if given.micros >= MICROS_OF_A_SECOND => {
            return Err(format!("{} µs are more than a second has", given.micros));
        }
        proto::Infinity::Unspecified => {
            Timestamp::Finite { seconds: given.seconds, micros: given.micros }
        }
    })
}

fn infinity(given: i32) -> Result<proto::Infinity, String> {
    proto::Infinity::try_from(given).map_err(|_| format!("there is no infinity {given}"))
}

fn array(given: proto::Array) -> Result<Array, String> {
    let proto::Array { element_type, dimensions, elements } = given;
    let dimensions: Vec<_> = dimensions.iter().map(|d| (d.length, d.lower_bound)).collect();
    let product = dimensions
        .iter()
        .try_fold(1_u64, |product, (length, _)| product.checked_mul(u64::from(*length)));
    let expected = if dimensions.is_empty() { Some(0) } else { product };
    if expected != Some(elements.len() as u64) {
        return Err(format!(
            "the array has {} elements, and its dimensions say otherwise",
            elements.len()
        ));
    }
    let elements = elements.into_iter().enumerate().map(|(index, element)| match element.kind {
        Some(Kind::Array(_)) => {
            Err(format!("element {index} is an array: give one array with several dimensions"))
        }
        _ => value(element).map_err(|problem| format!("element {index}: {problem}")),
    });
    Ok(Array { element_type, dimensions, elements: elements.collect::<Result<_, _>>()? })
}
