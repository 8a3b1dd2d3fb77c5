//! Writes: what they did, and several in one call.

use crate::calls::unreadable;
use crate::error::Error;
use crate::params::ToValue;
use crate::protocol as proto;
use crate::row::{Decoder, Row};
use crate::statement::Statement;

/// What a write did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Done {
    /// Rows inserted, updated or deleted.
    pub affected_rows: u64,
    /// The rows of RETURNING.
    pub rows: Vec<Row>,
    /// The id of the write, as traces and the outbox have it; empty where nothing was committed.
    pub write_id: String,
    /// An earlier call with the same idempotency key made the write: this is its answer.
    pub already_applied: bool,
}

impl Done {
    pub(crate) fn read(result: proto::StatementResult) -> Result<(u64, Vec<Row>), Error> {
        let mut decoder = Decoder::new(result.columns);
        decoder.take(result.rows);
        let mut rows = Vec::new();
        while let Some(row) = decoder.next() {
            rows.push(row.map_err(|what| unreadable(&what))?);
        }
        Ok((result.affected_rows, rows))
    }
}

/// What a batch did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BatchDone {
    /// One for each statement, in order.
    pub results: Vec<StatementDone>,
    /// The id of the writes; empty where nothing was committed.
    pub write_id: String,
    /// An earlier call with the same idempotency key made the writes: this is its answer.
    pub already_applied: bool,
}

/// What one statement of a batch did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StatementDone {
    /// Rows inserted, updated or deleted.
    pub affected_rows: u64,
    /// The rows of RETURNING.
    pub rows: Vec<Row>,
}

impl BatchDone {
    pub(crate) fn of(answer: proto::BatchResponse) -> Result<Self, Error> {
        let mut results = Vec::with_capacity(answer.results.len());
        for result in answer.results {
            let (affected_rows, rows) = Done::read(result)?;
            results.push(StatementDone { affected_rows, rows });
        }
        Ok(Self { results, write_id: answer.write_id, already_applied: answer.already_applied })
    }
}

/// Several writes in one call: all or none.
#[derive(Debug, Clone, Default)]
pub struct Batch(Vec<Result<proto::Statement, Error>>);

impl Batch {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a statement behind those that are there. A parameter that cannot be one is an error of the call.
    pub fn push(&mut self, statement: impl Into<Statement>, params: &[&(dyn ToValue + Sync)]) {
        self.0.push(statement.into().with(params));
    }

    /// As [`Batch::push`], and gives the batch.
    #[must_use]
    pub fn with(
        mut self,
        statement: impl Into<Statement>,
        params: &[&(dyn ToValue + Sync)],
    ) -> Self {
        self.push(statement, params);
        self
    }

    /// The number of statements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn proto(&self) -> Result<Vec<proto::Statement>, Error> {
        let made = self.0.iter().enumerate().map(|(at, it)| {
            it.clone()
                .map_err(|error| Error::usage(format!("statement {}: {}", at + 1, error.message)))
        });
        made.collect()
    }
}
