//! How the text of a key column is made canonical, so that equal keys take one lock.

/// How a key column's text is made canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canon {
    /// Equal values have equal texts.
    Text,
    /// `numeric`: digits that say nothing are cut.
    Numeric,
    /// `char(n)`: padding is cut.
    Padded,
    /// Not to be had: the whole table takes one lock.
    None,
}

impl Canon {
    /// The rule for a type, by its name in `pg_type`. `deterministic` tells of its collation.
    pub fn of(type_name: &str, is_enum: bool, deterministic: bool) -> Self {
        match type_name {
            "int2" | "int4" | "int8" | "oid" | "bool" | "uuid" | "date" => Self::Text,
            "text" | "varchar" | "name" if deterministic => Self::Text,
            "bpchar" if deterministic => Self::Padded,
            "numeric" => Self::Numeric,
            _ if is_enum => Self::Text,
            _ => Self::None,
        }
    }

    pub(in crate::postgres) fn apply(self, text: &str) -> &str {
        match self {
            Self::Text => text,
            Self::Numeric if text.contains('.') => {
                let cut = text.trim_end_matches('0').trim_end_matches('.');
                if cut == "-0" { "0" } else { cut }
            }
            Self::Numeric => text,
            Self::Padded => text.trim_end_matches(' '),
            Self::None => "",
        }
    }
}
