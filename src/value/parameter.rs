//! A parameter ready for the wire.

use bytes::Bytes;

/// How a parameter's bytes are to be read by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// By the type's receive function.
    Binary,
    /// By the type's input function.
    Text,
}

/// A parameter of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// How the server reads it.
    pub format: Format,
    /// `None` is NULL.
    pub data: Option<Bytes>,
}

impl Parameter {
    /// NULL.
    pub const NULL: Self = Self { format: Format::Binary, data: None };

    /// Bytes for the type's receive function.
    pub fn binary(data: impl Into<Bytes>) -> Self {
        Self { format: Format::Binary, data: Some(data.into()) }
    }

    /// Text for the type's input function.
    pub fn text(data: impl Into<Bytes>) -> Self {
        Self { format: Format::Text, data: Some(data.into()) }
    }
}
