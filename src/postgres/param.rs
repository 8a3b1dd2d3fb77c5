//! Parameters on their way into the driver, already in the server's format.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};

use crate::value;

/// A value from here on is there but once in the message that it goes out in.
const LARGE_BYTES: usize = 1 << 20;
/// Bytes of a message behind a large value: other values that are small.
const ROOM_BEHIND: usize = 64 << 10;

/// A bound parameter: its bytes go to the wire as they are.
#[derive(Debug, Clone)]
pub struct RawParam(pub value::Parameter);

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
