//! Preparing and binding one statement.

use super::param::RawParam;
use super::session::Prepared;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::Side;
use crate::domain::value::Value;
use crate::value;

/// The call's values as parameters of the types that the server prepared.
pub(super) fn bind(
    prepared: &Prepared,
    values: &[Value],
    side: Side,
) -> Result<Vec<RawParam>, SqlFault> {
    let wanted = prepared.parameters.len();
    if wanted != values.len() {
        let message =
            format!("the statement has {wanted} parameters, but the call {}", values.len());
        return Err(SqlFault::new(FaultKind::InvalidArgument, "invalid.parameter_count", message)
            .with_hint("give one value for each of $1, $2, …")
            .on(side));
    }
    prepared
        .parameters
        .iter()
        .zip(values)
        .enumerate()
        .map(|(index, (ty, value))| {
            value::bind(ty, value).map(RawParam).map_err(|error| {
                let message = format!("parameter ${}: {}", index + 1, error.message);
                SqlFault::new(FaultKind::InvalidArgument, "invalid.parameter", message)
                    .with_hint(error.suggestion)
                    .on(side)
            })
        })
        .collect()
}

/// Whether a prepared statement no longer fits the schema: outside a transaction it can be
/// prepared again and executed, for nothing has run.
pub(super) fn is_stale(fault: &SqlFault) -> bool {
    match fault.sqlstate.as_str() {
        // `invalid_sql_statement_name`: somebody deallocated it.
        "26000" => true,
        // The message is translated on some servers; a second try does no harm there.
        "0A000" => fault.position == 0 && fault.message.contains("cached plan"),
        // A type was dropped and made again under another object id.
        "XX000" => fault.message.starts_with("cache lookup failed for type"),
        _ => false,
    }
}
