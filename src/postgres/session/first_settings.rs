//! The settings of a session as they were when it was opened.

use std::fmt::Write;

use tokio_postgres::SimpleQueryMessage;

use crate::domain::table::quote_literal;

/// What a session's settings were when it was opened, as SQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::postgres) struct FirstSettings(pub(in crate::postgres) String);

// === impl FirstSettings ===

impl FirstSettings {
    /// From the answer of [`super::settings::session_sql`], the first statement of several: names,
    /// and values as they were set.
    pub(in crate::postgres) fn from_answer(answer: &[SimpleQueryMessage]) -> Self {
        let mut sql = String::new();
        let of_settings = |message: &&SimpleQueryMessage| {
            !matches!(message, SimpleQueryMessage::CommandComplete(_))
        };
        for message in answer.iter().take_while(of_settings) {
            if let SimpleQueryMessage::Row(row) = message
                && let (Some(name), Some(value)) = (row.get(0), row.get(1))
            {
                // Names are segue's own. Writing to a String cannot fail.
                let _ = write!(sql, "SET {name} = {}; ", quote_literal(value));
            }
        }
        Self(sql)
    }
}
