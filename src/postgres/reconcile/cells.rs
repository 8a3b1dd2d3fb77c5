//! Cells of one side against cells of the other: judged, and carried over.

use crate::compare::cell::{CellVerdict, ColumnPair, judge};
use crate::compare::rules::ColumnRules;
use crate::domain::pg_type::Column;
use crate::postgres::param::RawParam;
use crate::postgres::reconcile::shape::Pair;
use crate::value::{self, Parameter};

/// Pairs two columns of stored data.
pub fn pair(primary: Column, shadow: Column) -> ColumnPair {
    ColumnPair { primary, shadow, stored: true, rules: ColumnRules::default() }
}

/// Whether the shadow's cell needs no write: it is the primary's value, or as much of it as
/// the shadow's column can hold.
pub fn equal(pair: &Pair, primary: Option<&[u8]>, shadow: Option<&[u8]>) -> bool {
    judge(&pair.judged, primary, shadow) != CellVerdict::Different
}

/// The primary's cell as a parameter for the shadow's column.
///
/// # Errors
///
/// Where the value does not fit, in words for the outbox.
pub fn carry(pair: &Pair, cell: Option<&[u8]>) -> Result<RawParam, String> {
    let Some(cell) = cell else {
        return Ok(RawParam(Parameter::NULL));
    };
    value::transcode(&pair.judged.primary.ty, &pair.judged.shadow.ty, cell)
        .map(RawParam)
        .map_err(|error| format!("column {:?}: {error}", pair.judged.primary.name))
}

/// A cell of the shadow put back as it was.
pub fn keep(cell: Option<&[u8]>) -> RawParam {
    RawParam(cell.map_or(Parameter::NULL, |bytes| Parameter::binary(bytes.to_vec())))
}
