//! Rows of an answer as `segue.v1.RowBatch`, written straight from PostgreSQL's cells.
//!
//! The generated message would be a tree: a `Vec` of rows of `Vec`s of values, each with
//! its strings. This one is a buffer that already holds the encoded fields.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use crate::grpc::proto;

/// The field `rows` of `RowBatch`.
const ROWS_TAG: u32 = 1;

/// `segue.v1.RowBatch`, encoded. Cloning shares the buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows(Bytes);

impl EncodedRows {
    /// Decodes the rows one by one: for clients and tests.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] where the buffer came from elsewhere and is malformed.
    pub fn rows(&self) -> Result<Vec<proto::Row>, DecodeError> {
        let mut rest = self.0.clone();
        let mut rows = Vec::new();
        while rest.has_remaining() {
            encoding::decode_key(&mut rest)?;
            let mut row = proto::Row::default();
            encoding::message::merge(
                WireType::LengthDelimited,
                &mut row,
                &mut rest,
                DecodeContext::default(),
            )?;
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
        let mut row = Bytes::new();
        encoding::bytes::merge(wire_type, &mut row, buf, ctx)?;
        let mut joined = BytesMut::with_capacity(self.0.len() + row.len() + 16);
        joined.put_slice(&self.0);
        encoding::bytes::encode(ROWS_TAG, &row, &mut joined);
        self.0 = joined.freeze();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
