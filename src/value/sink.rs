//! Where decoded values go: one method for each kind of `segue.v1.Value`.

use crate::domain::value::{Date, Interval, Timestamp};
use crate::value::array::Dimensions;
use crate::value::numeric::NumericCell;

/// Receives one value without a tree between. An array is `begin_array`, its elements in
/// row-major order by the ordinary methods, `end_array`. After an error from
/// [`decode`](crate::value::decode) what the sink got for that cell is not whole.
pub trait ValueSink {
    /// SQL NULL.
    fn null(&mut self);
    /// `bool`.
    fn bool(&mut self, value: bool);
    /// `int2`, `int4`, `int8`, `oid`.
    fn int64(&mut self, value: i64);
    /// `float4` (widened) and `float8`.
    fn double(&mut self, value: f64);
    /// `numeric`; its `Display` is PostgreSQL's text and allocates nothing.
    fn numeric(&mut self, value: &NumericCell<'_>);
    /// `text`, `varchar`, `bpchar`, `name`, `"char"`.
    fn text(&mut self, value: &str);
    /// `bytea`.
    fn bytes(&mut self, value: &[u8]);
    /// `timestamp`.
    fn timestamp(&mut self, value: Timestamp);
    /// `timestamptz`.
    fn timestamptz(&mut self, value: Timestamp);
    /// `date`.
    fn date(&mut self, value: Date);
    /// `time`: microseconds since midnight.
    fn time(&mut self, micros: i64);
    /// `interval`.
    fn interval(&mut self, value: Interval);
    /// `uuid` in its canonical form.
    fn uuid(&mut self, text: &str);
    /// `json` and `jsonb`.
    fn json(&mut self, text: &str);
    /// An array begins; `dimensions.element_count()` values follow.
    fn begin_array(&mut self, element_type: &str, dimensions: &Dimensions);
    /// The array's elements are complete.
    fn end_array(&mut self);
    /// A type given as PostgreSQL's text.
    fn other(&mut self, type_name: &str, text: &str);
    /// A type that segue does not decode, in its binary form.
    fn opaque(&mut self, type_name: &str, data: &[u8]);
}
