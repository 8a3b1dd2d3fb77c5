//! `segue.v1.TypedRows` as a buffer that holds its encoded fields already.
//!
//! The generated message would be a tree: a `Vec` of rows of `Vec`s of values, each with
//! its strings. `grpc::encode` fills this one straight from cells.

use bytes::{Buf, BufMut, BytesMut};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use crate::grpc::proto;

/// The field `rows` of `TypedRows`.
pub(super) const ROWS_TAG: u32 = 1;

/// `segue.v1.TypedRows`, encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows(BytesMut);

impl EncodedRows {
    /// Takes over encoded fields.
    pub(super) fn new(fields: BytesMut) -> Self {
        Self(fields)
    }

    /// Decodes the rows: for clients and tests.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] where the buffer came from elsewhere and is malformed.
    pub fn rows(&self) -> Result<Vec<proto::Row>, DecodeError> {
        let mut rest: &[u8] = &self.0;
        let mut rows = Vec::new();
        while rest.has_remaining() {
            let (_, wire_type) = encoding::decode_key(&mut rest)?;
            let mut row = proto::Row::default();
            encoding::message::merge(wire_type, &mut row, &mut rest, DecodeContext::default())?;
            rows.push(row);
        }
        Ok(rows)
    }
}

impl Message for EncodedRows {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != ROWS_TAG {
            return encoding::skip_field(wire_type, tag, buf, ctx);
        }
        let mut row = bytes::Bytes::new();
        encoding::bytes::merge(wire_type, &mut row, buf, ctx)?;
        encoding::bytes::encode(ROWS_TAG, &row, &mut self.0);
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
