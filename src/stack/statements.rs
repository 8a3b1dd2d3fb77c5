//! What is known of statements before they are run, and what is refused of them.

use std::sync::Arc;

use crate::domain::call::BoundStatement;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::stack::call::{CalledStatement, Text};
use crate::stack::queries::NamedStatements;
use crate::statement::{Analysis, Cache, StatementKind};
use crate::telemetry::metrics::Metrics;

/// What admission goes by.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// Only statements of the query files are run.
    pub named_only: bool,
    /// Longest SQL text.
    pub statement_bytes_max: usize,
    /// Parameters of one statement.
    pub parameters_max: usize,
    /// Statements of one batch.
    pub batch_statements_max: usize,
    /// Analysed statements that are remembered.
    pub cache_capacity: usize,
}

/// What is known of statements; shared by everybody who admits.
pub struct Statements {
    params: Params,
    named: NamedStatements,
    cache: Cache,
    metrics: Metrics,
}

/// Where a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Alone,
    /// The statements of a batch share a transaction of their own.
    InBatch,
    InTransaction,
}

// === impl Statements ===

impl Statements {
    /// Knows the named statements, and remembers others.
    pub fn new(params: Params, named: NamedStatements, metrics: Metrics) -> Self {
        Self { params, named, cache: Cache::new(params.cache_capacity), metrics }
    }

    /// The limits it goes by.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The statement's SQL and what is known of it.
    ///
    /// # Errors
    ///
    /// A fault where there is no such name, the SQL cannot be read, or a limit is passed.
    pub fn resolve(
        &self,
        called: CalledStatement,
    ) -> Result<(BoundStatement, Arc<Analysis>), SqlFault> {
        let CalledStatement { text, params } = called;
        if params.len() > self.params.parameters_max {
            let (given, max) = (params.len(), self.params.parameters_max);
            return Err(SqlFault::new(
                FaultKind::LimitExceeded,
                Reason::LimitParameters,
                format!("{given} parameters are more than the {max} that are allowed"),
            )
            .with_hint("pass an array, or raise limits.parameters_max"));
        }
        match text {
            Text::Name(name) => {
                let named = self.named.get(&name).ok_or_else(|| unknown_name(&name))?;
                let (sql, name) = (Arc::clone(&named.sql), Some(Arc::clone(&named.name)));
                Ok((BoundStatement { sql, name, params }, Arc::clone(&named.analysis)))
            }
            Text::Sql(sql) => {
                let analysis = self.analyse(&sql).inspect_err(|fault| self.count(fault))?;
                Ok((BoundStatement { sql, name: None, params }, analysis))
            }
        }
    }

    fn analyse(&self, sql: &str) -> Result<Arc<Analysis>, SqlFault> {
        if self.params.named_only {
            return Err(refused(
                Reason::RefusedUnnamed,
                "only named statements are run here",
                "add the statement to a query file and call it by its name",
            ));
        }
        if sql.len() > self.params.statement_bytes_max {
            let (given, max) = (sql.len(), self.params.statement_bytes_max);
            return Err(SqlFault::new(
                FaultKind::LimitExceeded,
                Reason::LimitStatementBytes,
                format!("a statement of {given} bytes is longer than the {max} that are allowed"),
            )
            .with_hint("pass values as parameters, or raise limits.request_bytes_max"));
        }
        if sql.contains('\0') {
            let message = "a statement cannot hold a NUL character";
            return Err(SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidNul, message));
        }
        self.cache.get(sql)
    }

    pub(super) fn check(&self, analysis: &Analysis, transaction: Scope) -> Result<(), SqlFault> {
        let verdict = match (&analysis.refusal, transaction) {
            (Some(refusal), _) => Err(refusal.clone()),
            // Behind a failed statement it would let COMMIT keep what came before.
            (None, Scope::InBatch) if analysis.kind == StatementKind::Savepoint => Err(refused(
                Reason::RefusedSavepointInBatch,
                format!("{} would undo a part of what is all or none", analysis.summary),
                "use savepoints in a transaction opened with Begin",
            )),
            (None, Scope::Alone) => analysis.refusal_outside_transaction().map_or(Ok(()), Err),
            _ => Ok(()),
        };
        verdict.inspect_err(|fault| self.count(fault))
    }

    pub(super) fn check_read(&self, analysis: &Analysis) -> Result<(), SqlFault> {
        if !analysis.writes {
            return Ok(());
        }
        let fault = refused(
            Reason::RefusedWriteInQuery,
            format!("{} writes, and Query only reads", analysis.summary),
            "call Execute",
        );
        self.count(&fault);
        Err(fault)
    }

    fn count(&self, fault: &SqlFault) {
        if fault.kind == FaultKind::Refused {
            self.metrics.refused(fault.reason);
        }
    }
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statements").field("params", &self.params).finish_non_exhaustive()
    }
}

fn refused(reason: Reason, message: impl Into<String>, hint: &str) -> SqlFault {
    SqlFault::new(FaultKind::Refused, reason, message).with_hint(hint)
}

fn unknown_name(name: &str) -> SqlFault {
    let message = format!("there is no statement named {name:?} in the query files");
    SqlFault::new(FaultKind::NotFound, Reason::UnknownStatement, message)
        .with_hint("add it to a query file and restart the sidecar")
}
