//! What a reading of rows asks for.

/// What a reading asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The columns, and the cells by which they are compared.
    Compared,
    /// The columns alone: a value cannot be brought to the form in which it is compared.
    Columns,
}
