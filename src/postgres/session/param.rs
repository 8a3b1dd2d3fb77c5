//! Parameters on their way into the driver, already in the server's format.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

use crate::dialect::Dialect;
use crate::domain::pg_type::{PgType, TypeKind};
use crate::value;

/// A value from here on is there but once in the message that it goes out in.
const LARGE_BYTES: usize = 1 << 20;
/// Bytes of a message behind a large value: other values that are small.
const ROOM_BEHIND: usize = 64 << 10;

/// A bound parameter: its bytes go to the wire as they are.
#[derive(Debug, Clone)]
pub struct RawParam(pub value::Parameter);

// === impl RawParam ===

impl RawParam {
    /// A parameter of a type in a form that a server takes without changing the value: numbers of
    /// any scale go as text where their binary form loses digits.
    ///
    /// # Errors
    ///
    /// Why the server cannot hold the value as it is.
    pub fn exact(
        dialect: Dialect,
        ty: &PgType,
        parameter: value::Parameter,
    ) -> Result<Self, String> {
        if parameter.format != value::Format::Binary {
            return Ok(Self(parameter));
        }
        let Some(cell) = &parameter.data else { return Ok(Self(parameter)) };
        if !dialect.has_array_dimensions() {
            let dimensions = value::dimensions(ty, cell).ok().flatten();
            let plain = |it: &value::Dimensions| matches!(it.as_slice(), [] | [(_, 1)]);
            if !dimensions.as_ref().is_none_or(plain) {
                return Err(ONE_DIMENSION.to_owned());
            }
        }
        if dialect.takes_binary_numerics() || !is_numeric(ty) {
            return Ok(Self(parameter));
        }
        let text = value::to_text(ty, cell).map_err(|error| error.to_string())?;
        Ok(Self(value::Parameter::text(text.into_bytes())))
    }
}

/// Of an array that would come back another one.
pub const ONE_DIMENSION: &str = "CockroachDB has arrays of one dimension only, which begin at 1";

/// A number of any scale, or an array of them.
pub fn is_numeric(ty: &PgType) -> bool {
    match &ty.base().kind {
        TypeKind::Array(element) => is_numeric(element),
        _ => ty.base().name == "numeric",
    }
}

impl ToSql for RawParam {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match &self.0.data {
            None => Ok(IsNull::Yes),
            Some(data) => {
                if data.len() >= LARGE_BYTES {
                    // What follows must not make the buffer grow to twice its size.
                    out.reserve(data.len() + ROOM_BEHIND);
                }
                out.extend_from_slice(data);
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(ty, out)
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self.0.format {
            value::Format::Binary => Format::Binary,
            value::Format::Text => Format::Text,
        }
    }
}
