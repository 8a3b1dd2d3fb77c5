//! What can be wrong with a cell or with a parameter.

/// A cell that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not what the type's binary format says.
    #[error("malformed {type_name} at byte {offset}: {problem}")]
    Malformed {
        /// The type that was being read; the element's, inside an array.
        type_name: String,
        /// Where in the cell, from 0.
        offset: usize,
        /// What was wrong there.
        problem: &'static str,
    },
    /// A type whose text segue does not know; its bytes can still be passed on.
    #[error(
        "segue does not decode type {type_name}; take it in the packed encoding or cast it to text"
    )]
    NotDecoded {
        /// The type's name.
        type_name: String,
    },
}

impl DecodeError {
    /// The same, for a part that begins at `base` of its whole.
    pub(crate) fn shifted(mut self, base: usize) -> Self {
        if let Self::Malformed { offset, .. } = &mut self {
            *offset = offset.saturating_add(base);
        }
        self
    }

    pub(crate) fn not_decoded(type_name: &str) -> Self {
        Self::NotDecoded { type_name: type_name.to_owned() }
    }
}

/// A value that cannot be bound to the type that the server prepared. Which parameter
/// it was is for the caller to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BindError {
    /// What does not fit, with the value and the type.
    pub message: String,
    /// The way out.
    pub suggestion: String,
}

impl BindError {
    pub(crate) fn new(message: impl Into<String>, suggestion: impl Into<String>) -> Self {
        Self { message: message.into(), suggestion: suggestion.into() }
    }
}

/// A cell that cannot become a parameter of another type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// The cell could not be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its value does not fit the other type.
    #[error(transparent)]
    Bind(#[from] BindError),
}
