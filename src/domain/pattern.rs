//! Names of tables, and patterns that stand for several.

use std::fmt;

use crate::domain::table::TableName;

/// One table, all of a schema, or all of them; by names of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TablePattern {
    /// `schema.table`.
    Table(TableName),
    /// `schema.*`.
    Schema(String),
    /// `*`.
    All,
}

// === impl TablePattern ===

impl TablePattern {
    /// Whether it names the table.
    pub fn names(&self, table: &TableName) -> bool {
        match self {
            Self::Table(name) => name == table,
            Self::Schema(schema) => *schema == table.schema,
            Self::All => true,
        }
    }

    /// How narrow it is: the narrowest pattern that names a table takes precedence.
    fn narrowness(&self) -> u8 {
        match self {
            Self::Table(_) => 2,
            Self::Schema(_) => 1,
            Self::All => 0,
        }
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(name) => name.fmt(f),
            Self::Schema(schema) => write!(f, "{schema}.*"),
            Self::All => f.write_str("*"),
        }
    }
}

/// What the narrowest pattern that names the table says of it.
pub fn narrowest<'a, T>(of: &'a [(TablePattern, T)], table: &TableName) -> Option<&'a T> {
    let named = of.iter().filter(|(pattern, _)| pattern.names(table));
    named.max_by_key(|(pattern, _)| pattern.narrowness()).map(|(_, said)| said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_pattern_takes_precedence() {
        let orders = TableName::new("public", "orders");
        let of = [
            (TablePattern::Table(orders.clone()), 1),
            (TablePattern::All, 2),
            (TablePattern::Schema("public".to_owned()), 3),
        ];
        let said = |schema: &str, name: &str| narrowest(&of, &TableName::new(schema, name));
        assert_eq!(said("public", "orders"), Some(&1));
        assert_eq!(said("public", "notes"), Some(&3));
        assert_eq!(said("app", "orders"), Some(&2));
        assert_eq!(narrowest(&of[..1], &TableName::new("app", "orders")), None);
    }
}
