//! What the comparer is told to overlook.

use crate::domain::table::{TableName, TableRef};

/// One rule: what it is about, and what it says. Absent parts of the first match everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rule {
    /// A statement's name from the query files, or its fingerprint.
    pub statement: Option<String>,
    /// A table of the source. It holds for statements that name the table.
    pub table: Option<TableName>,
    /// A column, by its name in the answer.
    pub column: Option<String>,
    /// Digits of a second that count, 0 to 6.
    pub precision: Option<u8>,
    /// Not compared at all.
    pub ignore: bool,
    /// Floats are equal where they differ by at most this share of the larger one.
    pub float_tolerance: Option<f64>,
    /// The order of rows does not count.
    pub unordered: bool,
}

/// The configured rules, in order; the first that says something about a matter counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// All of them.
    pub rules: Vec<Rule>,
}

/// The rules that hold for one column.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ColumnRules {
    /// Digits of a second that count.
    pub precision: Option<u8>,
    /// Not compared at all.
    pub ignore: bool,
    /// The share by which floats may differ.
    pub float_tolerance: Option<f64>,
}

// === impl Rules ===

impl Rules {
    /// The rules that hold for a statement, by its name or fingerprint.
    #[must_use]
    pub fn for_statement(&self, name: Option<&str>, fingerprint: &str) -> Self {
        let holds = |rule: &&Rule| match rule.statement.as_deref() {
            None => true,
            Some(statement) => statement == fingerprint || Some(statement) == name,
        };
        let chosen = self.rules.iter().filter(holds).map(|rule| {
            // It has been decided here, and need not be asked again.
            Rule { statement: None, ..rule.clone() }
        });
        Self { rules: chosen.collect() }
    }

    /// The rules that hold for a column of a statement over these tables.
    pub fn for_column(&self, tables: &[TableRef], column: &str) -> ColumnRules {
        let holding = || {
            self.about(tables)
                .filter(move |rule| rule.column.as_deref().is_none_or(|wanted| wanted == column))
        };
        ColumnRules {
            precision: holding().find_map(|rule| rule.precision),
            // Never for want of a column's name: that would compare nothing.
            ignore: holding().any(|rule| rule.ignore && rule.column.is_some()),
            float_tolerance: holding().find_map(|rule| rule.float_tolerance),
        }
    }

    /// Whether the order of rows counts for a statement over these tables.
    pub fn unordered(&self, tables: &[TableRef]) -> bool {
        self.about(tables).any(|rule| rule.unordered)
    }

    fn about<'a>(&'a self, tables: &'a [TableRef]) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| {
            rule.statement.is_none()
                && rule.table.as_ref().is_none_or(|wanted| {
                    tables.iter().any(|table| {
                        table.name == wanted.name
                            && table.schema.as_ref().is_none_or(|schema| *schema == wanted.schema)
                    })
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_hold_where_they_say() {
        let rules = Rules {
            rules: vec![
                Rule {
                    statement: Some("get_order".into()),
                    column: Some("at".into()),
                    precision: Some(0),
                    ..Rule::default()
                },
                Rule {
                    table: Some(TableName::new("public", "orders")),
                    column: Some("note".into()),
                    ignore: true,
                    ..Rule::default()
                },
            ],
        };
        let orders = [TableRef { schema: None, name: "orders".into() }];
        let named = rules.for_statement(Some("get_order"), "ab12");
        assert_eq!(named.for_column(&[], "at").precision, Some(0));
        assert_eq!(rules.for_statement(None, "ab12").for_column(&[], "at").precision, None);
        assert!(named.for_column(&orders, "note").ignore);
        assert!(!named.for_column(&[], "note").ignore);
        let other = [TableRef { schema: Some("other".into()), name: "orders".into() }];
        assert!(!named.for_column(&other, "note").ignore);
    }
}
