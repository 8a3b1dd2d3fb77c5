//! Values read and written: PostgreSQL's binary cells, the protocol's values, texts.
//!
//! Pure: no I/O, no driver, no protobuf. Nothing here panics on any bytes, and nothing
//! guesses: a type that is not known stays as its bytes.
//!
//! - [`decode`]: a cell into a [`ValueSink`], without a tree between
//! - [`to_text`]: a cell as PostgreSQL's own text
//! - [`bind`]: a caller's value as a parameter of the type that the server prepared
//! - [`transcode`]: a cell of one side as a parameter of the other side's type
//! - [`datum`]: a cell as a value to be compared
//!
//! `xid`-like types, ranges, enums and so on are given as text; `regclass` and its kin,
//! whose text needs a catalogue, and types of unknown extensions as their bytes. `money` is
//! given as its bytes until [`TextOptions`] say how the server writes it.

mod array;
mod bind;
mod bind_array;
mod bind_number;
mod class;
mod collect;
mod composite;
mod datetime;
mod datum;
mod decimal;
mod decode;
mod error;
mod float;
mod json;
mod network;
mod numeric;
mod options;
mod parameter;
mod range;
mod reader;
mod search;
mod sink;
mod small;
mod text;
mod transcode;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod vectors;

pub use array::{Dimensions, dimensions};
pub use bind::bind;
pub use collect::to_value;
pub use datum::{ArrayDatum, Datum, NumericDatum, RangeDatum, datum, datum_from_text, datum_with};
pub use decimal::Decimal;
pub use decode::{decode, decode_with};
pub use error::{BindError, DecodeError, TranscodeError};
pub use json::{Json, parse as parse_json};
pub use network::NetAddress;
pub use numeric::NumericCell;
pub use options::{MONEY_SAMPLE_SQL, MoneyStyle, TextOptions};
pub use parameter::{Format, Parameter};
pub use sink::ValueSink;
pub use text::{to_text, to_text_with};
pub use transcode::{transcode, transcode_with};
