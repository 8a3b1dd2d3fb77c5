//! Writes rows as typed values, straight from PostgreSQL's cells into protobuf.

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::pg_type::Column;
use crate::domain::reason::Reason;
use crate::domain::value::{Date, Interval, Timestamp};
use crate::grpc::proto;
use crate::grpc::rows::{EncodedRows, ROWS_TAG};
use crate::value::{self, Dimensions, NumericCell, ValueSink};

/// Fields of `Row` and `Array` that hold values.
const ROW_VALUES_TAG: u32 = 1;
const ARRAY_TYPE_TAG: u32 = 1;
const ARRAY_DIMENSIONS_TAG: u32 = 2;
const ARRAY_ELEMENTS_TAG: u32 = 3;

/// Fields of the oneof `Value.kind`.
mod kind {
    pub(super) const NULL: u32 = 1;
    pub(super) const BOOL: u32 = 2;
    pub(super) const INT64: u32 = 3;
    pub(super) const DOUBLE: u32 = 4;
    pub(super) const NUMERIC: u32 = 5;
    pub(super) const TEXT: u32 = 6;
    pub(super) const BYTES: u32 = 7;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const TIMESTAMPTZ: u32 = 9;
    pub(super) const DATE: u32 = 10;
    pub(super) const TIME: u32 = 11;
    pub(super) const INTERVAL: u32 = 12;
    pub(super) const UUID: u32 = 13;
    pub(super) const JSON: u32 = 14;
    pub(super) const ARRAY: u32 = 15;
    pub(super) const OTHER: u32 = 16;
    pub(super) const OPAQUE: u32 = 17;
}

/// Writes rows one after the other; its buffers are used again.
#[derive(Debug, Default)]
pub(super) struct RowEncoder {
    rows: BytesMut,
    row: BytesMut,
    /// The array being written, where one is.
    array: Option<BytesMut>,
    scratch: String,
}

// === impl RowEncoder ===

impl RowEncoder {
    /// Adds one cell to the row being written.
    pub(super) fn cell(&mut self, column: &Column, cell: Option<&[u8]>) -> Result<(), SqlFault> {
        let Some(cell) = cell else {
            self.null();
            return Ok(());
        };
        value::decode(&column.ty, cell, self).map_err(|error| {
            let message = format!("column {:?} cannot be decoded: {error}", column.name);
            SqlFault::new(FaultKind::Internal, Reason::Decode, message)
                .with_hint("ask for ENCODING_PACKED, and report this")
        })
    }

    /// Bytes of the complete rows, were the row being written one of them.
    pub(super) fn byte_len_with_row(&self) -> usize {
        self.rows.len() + delimited_len(ROWS_TAG, self.row.len())
    }

    /// Ends the row being written.
    pub(super) fn end_row(&mut self) {
        encode_key(ROWS_TAG, WireType::LengthDelimited, &mut self.rows);
        encode_varint(self.row.len() as u64, &mut self.rows);
        self.rows.put_slice(&self.row);
        self.row.clear();
    }

    /// Bytes so far, complete rows only.
    pub(super) fn byte_len(&self) -> usize {
        self.rows.len()
    }

    /// Takes the complete rows.
    pub(super) fn take(&mut self) -> EncodedRows {
        EncodedRows::new(self.rows.split())
    }

    /// Begins a value of so many bytes, its own key included, where the next one belongs.
    fn begin(&mut self, length: usize) -> &mut BytesMut {
        let (out, tag) = match &mut self.array {
            Some(array) => (array, ARRAY_ELEMENTS_TAG),
            None => (&mut self.row, ROW_VALUES_TAG),
        };
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(length as u64, out);
        out
    }

    fn varint(&mut self, tag: u32, value: u64) {
        let out = self.begin(key_len(tag) + encoded_len_varint(value));
        encode_key(tag, WireType::Varint, out);
        encode_varint(value, out);
    }

    fn delimited(&mut self, tag: u32, bytes: &[u8]) {
        let out = self.begin(delimited_len(tag, bytes.len()));
        put_delimited(tag, bytes, out);
    }

    fn message(&mut self, tag: u32, message: &impl prost::Message) {
        let length = message.encoded_len();
        let out = self.begin(delimited_len(tag, length));
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(length as u64, out);
        message.encode_raw(out);
    }

    fn named(&mut self, tag: u32, type_name: &str, content: &[u8]) {
        let inner = delimited_len(1, type_name.len()) + delimited_len(2, content.len());
        let out = self.begin(delimited_len(tag, inner));
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(inner as u64, out);
        put_delimited(1, type_name.as_bytes(), out);
        put_delimited(2, content, out);
    }
}

fn delimited_len(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

fn put_delimited(tag: u32, bytes: &[u8], out: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

impl ValueSink for RowEncoder {
    fn null(&mut self) {
        self.varint(kind::NULL, 0);
    }

    fn bool(&mut self, value: bool) {
        self.varint(kind::BOOL, u64::from(value));
    }

    fn int64(&mut self, value: i64) {
        // `sint64` is zigzag.
        self.varint(kind::INT64, ((value << 1) ^ (value >> 63)) as u64);
    }

    fn double(&mut self, value: f64) {
        let out = self.begin(key_len(kind::DOUBLE) + size_of::<f64>());
        encode_key(kind::DOUBLE, WireType::SixtyFourBit, out);
        out.put_f64_le(value);
    }

    fn numeric(&mut self, value: &NumericCell<'_>) {
        use std::fmt::Write;
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        // Writing into a String cannot fail.
        let _ = write!(text, "{value}");
        self.delimited(kind::NUMERIC, text.as_bytes());
        self.scratch = text;
    }

    fn text(&mut self, value: &str) {
        self.delimited(kind::TEXT, value.as_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.delimited(kind::BYTES, value);
    }

    fn timestamp(&mut self, value: Timestamp) {
        self.message(kind::TIMESTAMP, &timestamp(value));
    }

    fn timestamptz(&mut self, value: Timestamp) {
        self.message(kind::TIMESTAMPTZ, &timestamp(value));
    }

    fn date(&mut self, value: Date) {
        let (days, infinity) = match value {
            Date::Infinity => (0, proto::Infinity::Positive),
            Date::NegInfinity => (0, proto::Infinity::Negative),
            Date::Finite(days) => (days, proto::Infinity::Unspecified),
        };
        self.message(kind::DATE, &proto::Date { days, infinity: infinity.into() });
    }

    fn time(&mut self, micros: i64) {
        self.varint(kind::TIME, micros as u64);
    }

    fn interval(&mut self, value: Interval) {
        let (months, days, micros, infinity) = match value {
            Interval::Infinity => (0, 0, 0, proto::Infinity::Positive),
            Interval::NegInfinity => (0, 0, 0, proto::Infinity::Negative),
            Interval::Finite { months, days, micros } => {
                (months, days, micros, proto::Infinity::Unspecified)
            }
        };
        let infinity = infinity.into();
        self.message(kind::INTERVAL, &proto::Interval { months, days, micros, infinity });
    }

    fn uuid(&mut self, text: &str) {
        self.delimited(kind::UUID, text.as_bytes());
    }

    fn json(&mut self, text: &str) {
        self.delimited(kind::JSON, text.as_bytes());
    }

    fn begin_array(&mut self, element_type: &str, dimensions: &Dimensions) {
        let mut array = BytesMut::new();
        put_delimited(ARRAY_TYPE_TAG, element_type.as_bytes(), &mut array);
        for &(length, lower_bound) in dimensions.as_slice() {
            let dimension = proto::Dimension { length, lower_bound };
            prost::encoding::message::encode(ARRAY_DIMENSIONS_TAG, &dimension, &mut array);
        }
        self.array = Some(array);
    }

    fn end_array(&mut self) {
        if let Some(array) = self.array.take() {
            self.delimited(kind::ARRAY, &array);
        }
    }

    fn other(&mut self, type_name: &str, text: &str) {
        self.named(kind::OTHER, type_name, text.as_bytes());
    }

    fn opaque(&mut self, type_name: &str, data: &[u8]) {
        self.named(kind::OPAQUE, type_name, data);
    }
}

fn timestamp(value: Timestamp) -> proto::Timestamp {
    let (seconds, micros, infinity) = match value {
        Timestamp::Infinity => (0, 0, proto::Infinity::Positive),
        Timestamp::NegInfinity => (0, 0, proto::Infinity::Negative),
        Timestamp::Finite { seconds, micros } => (seconds, micros, proto::Infinity::Unspecified),
    };
    proto::Timestamp { seconds, micros, infinity: infinity.into() }
}
