//! Statements, by text or by name, and what is remembered of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::decode::cell_of;
use crate::error::Error;
use crate::params::ToValue;
use crate::protocol as proto;
use crate::protocol::statement::Text;

/// What is remembered of statements is bounded.
const KNOWN_MAX: usize = 2048;

/// A statement: SQL with `$1`, `$2`, … for the parameters, or by [`named`] one of the sidecar's query files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Statement {
    text: String,
    named: bool,
}

/// The statement of this name in the sidecar's query files.
pub fn named(name: impl Into<String>) -> Statement {
    Statement { text: name.into(), named: true }
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        Self { text: sql.to_owned(), named: false }
    }
}

impl From<String> for Statement {
    fn from(sql: String) -> Self {
        Self { text: sql, named: false }
    }
}

impl From<&String> for Statement {
    fn from(sql: &String) -> Self {
        Self { text: sql.clone(), named: false }
    }
}

impl From<&Statement> for Statement {
    fn from(statement: &Statement) -> Self {
        statement.clone()
    }
}

impl Statement {
    /// The SQL, or the name.
    #[cfg(feature = "opentelemetry")]
    pub(crate) fn told(&self) -> (&str, bool) {
        (&self.text, self.named)
    }

    pub(crate) fn with(&self, params: &[&(dyn ToValue + Sync)]) -> Result<proto::Statement, Error> {
        let mut made = Vec::with_capacity(params.len());
        for (at, param) in params.iter().enumerate() {
            let value = param
                .to_value()
                .map_err(|what| Error::usage(format!("parameter ${}: {what}", at + 1)))?;
            made.push(value.into());
        }
        let text = self.text.clone();
        let text = if self.named { Text::Name(text) } else { Text::Sql(text) };
        Ok(proto::Statement { text: Some(text), params: made })
    }
}

/// What was learned about a statement.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// Whether its columns can be decoded from packed rows.
    pub(crate) packed: Option<bool>,
    /// It cannot have an idempotency key.
    pub(crate) keyless: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Statements(Mutex<HashMap<Statement, Known>>);

impl Statements {
    pub(crate) fn get(&self, statement: &Statement) -> Known {
        self.held().get(statement).copied().unwrap_or_default()
    }

    /// Notes whether packed rows of it can be read here.
    pub(crate) fn learn_columns(&self, statement: &Statement, columns: &[proto::Column]) -> bool {
        let packed = columns.iter().all(|column| cell_of(column.type_oid).is_some());
        if !columns.is_empty() {
            self.learn(statement, |known| known.packed = Some(packed));
        }
        packed
    }

    pub(crate) fn learn(&self, statement: &Statement, change: impl FnOnce(&mut Known)) {
        let mut held = self.held();
        if let Some(known) = held.get_mut(statement) {
            return change(known);
        }
        if held.len() >= KNOWN_MAX {
            // What is forgotten is learned again.
            held.clear();
        }
        change(held.entry(statement.clone()).or_default());
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Statement, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
