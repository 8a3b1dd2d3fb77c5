//! SQL analysed with PostgreSQL's own grammar.
//!
//! Pure: from the text alone comes what a statement is, whether it writes, whether segue
//! takes it, and what the comparer must know of it. What a user's function does inside is
//! not seen here; the database's read-only connections and the capture trigger see to that.

mod cache;
mod classify;
mod depth;
mod functions;
mod harmless;
pub mod names;
mod refuse;
pub mod rewrite;
mod shape;
mod syntax;
mod tree;

use crate::domain::reason::Reason;
use crate::statement::tree::Value;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reach::{Memo, Named, Reach};
use crate::domain::table::TableRef;

pub use crate::statement::cache::Cache;
pub(crate) use crate::statement::harmless::is_harmless;
pub use crate::statement::shape::{Limit, Nulls, Output, Pinned, Shape, SortKey};

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// `SELECT`, `VALUES`, `TABLE`.
    Select,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `MERGE`.
    Merge,
    /// `TRUNCATE`: captured as 'reconcile the table'.
    Truncate,
    /// `EXPLAIN`, with or without `ANALYZE`.
    Explain,
    /// `SHOW`.
    Show,
    /// `CALL` and `DO`.
    Call,
    /// `SET LOCAL`, `SET TRANSACTION`, `SET CONSTRAINTS`.
    Set,
    /// `SAVEPOINT`, `RELEASE`, `ROLLBACK TO`.
    Savepoint,
    /// `LOCK TABLE`.
    Lock,
    /// `DECLARE`, `FETCH`, `MOVE`, `CLOSE`.
    Cursor,
    /// Anything else; segue refuses it.
    Other,
}

/// A statement understood.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// The text as it was given.
    pub sql: String,
    /// What it is.
    pub kind: StatementKind,
    /// Whether it may change data, sequences or locks: it then belongs on the primary.
    pub writes: bool,
    /// Whether it surely leaves nothing behind in its session, so that the statements of other
    /// callers may run there right after it.
    pub leaves_nothing: bool,
    /// Whether it only makes sense inside a transaction of the caller's.
    pub transaction_only: bool,
    /// Why segue does not take it, ready to be handed on.
    pub refusal: Option<SqlFault>,
    /// Why it is not taken outside a transaction of the caller's, or a batch, though it could be.
    pub refusal_alone: Option<SqlFault>,
    /// Equal for statements that differ in constants only; hexadecimal.
    pub fingerprint: String,
    /// The text with its constants replaced.
    pub normalized: String,
    /// A few words, such as `SELECT orders`.
    pub summary: String,
    /// Tables that it names.
    pub tables: Vec<TableRef>,
    /// What it names, for the catalogue to resolve.
    pub named: Named,
    /// What that was found to touch.
    pub reach: Memo<Reach>,
    /// The same where the search path of its transaction may have been changed.
    pub reach_in_any_schema: Memo<Reach>,
    /// What the comparer must know.
    pub shape: Shape,
}

impl Analysis {
    /// The refusal for a call outside a transaction, where there is one.
    pub fn refusal_outside_transaction(&self) -> Option<SqlFault> {
        self.refusal
            .clone()
            .or_else(|| self.transaction_only.then(|| refuse::outside_transaction(&self.summary)))
            .or_else(|| self.refusal_alone.clone())
    }
}

/// Analyses one statement.
///
/// # Errors
///
/// Where the text is no statement at all: `statement.syntax` with SQLSTATE 42601 and the
/// position, `statement.nul`, `refused.empty`, `refused.multiple`, `refused.too_deep`,
/// `limit.statement_tokens`. What is a statement but not taken has its refusal in the analysis.
pub fn analyse(sql: &str) -> Result<Analysis, SqlFault> {
    if let Some(at) = sql.find('\0') {
        return Err(SqlFault::new(
            FaultKind::InvalidArgument,
            Reason::StatementNul,
            format!("the statement holds a NUL character at byte {at}, which no text may"),
        ));
    }
    depth::with_stack(sql, || analyse_here(sql))
}

fn analyse_here(sql: &str) -> Result<Analysis, SqlFault> {
    let parsed = pg_query::parse(sql, 0).map_err(|error| syntax::fault(sql, &error))?;
    let tree = Value::of(&parsed.protobuf).map_err(|error| internal(&error))?;
    // The parser's own tree is as large as this one.
    drop(parsed);
    let root = match tree::list(&tree, "stmts") {
        [] => return Err(refuse::empty()),
        [only] => only.get("stmt").unwrap_or(&Value::Null),
        [_, second, ..] => return Err(refuse::multiple(sql, second)),
    };
    let kind = classify::kind(root);
    let tables = tree::tables(root);
    let functions = functions::called(root);
    Ok(Analysis {
        sql: sql.to_owned(),
        kind,
        writes: classify::writes(root, kind, &functions),
        leaves_nothing: classify::leaves_nothing(kind, &functions),
        transaction_only: classify::transaction_only(kind),
        refusal: refuse::refusal(root, kind, sql),
        refusal_alone: refuse::alone(root, &functions),
        fingerprint: fingerprint(sql),
        normalized: pg_query::normalize(sql).unwrap_or_default(),
        summary: classify::summary(root, kind, &tables),
        named: names::named(root),
        reach: Memo::default(),
        reach_in_any_schema: Memo::default(),
        shape: shape::shape(root, kind, &tables, functions),
        tables,
    })
}

fn internal(error: &impl std::fmt::Display) -> SqlFault {
    SqlFault::new(FaultKind::Internal, Reason::StatementTree, error.to_string())
}

fn fingerprint(sql: &str) -> String {
    // Table names with numbers in them are different tables to the application.
    let options = pg_query::FingerprintOptions::FULL_RELNAME;
    pg_query::fingerprint(sql, 0, options).map(|fingerprint| fingerprint.hex).unwrap_or_default()
}

#[cfg(test)]
mod tests;
