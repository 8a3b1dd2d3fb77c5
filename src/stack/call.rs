//! Calls as they enter the stack, as they go through it, and their answers.

use std::sync::Arc;

use crate::domain::call::{
    BoundStatement, CallContext, Idempotency, InTransaction, TransactionId, TransactionOptions,
    WriteAnswer,
};
use crate::domain::consistency::Token;
use crate::domain::control::{ControlState, Percentage};
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::domain::reach::Route;
use crate::domain::side::Side;
use crate::domain::value::Value;
use crate::ports::{AnswerStream, Description, WritePass};
use crate::stack::pending::{AfterRead, Ended, Pending};
use crate::statement::Analysis;

/// What a caller named: SQL, or a statement of the query files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// The SQL itself.
    Sql(Arc<str>),
    /// A name from the query files.
    Name(Arc<str>),
}

/// A statement as the caller gave it.
#[derive(Debug, Clone)]
pub struct CalledStatement {
    /// What to run.
    pub text: Text,
    /// One for each `$n`.
    pub params: Arc<[Value]>,
}

/// A read that asks to be admitted.
#[derive(Debug, Clone)]
pub struct ReadCall {
    /// What to run.
    pub statement: CalledStatement,
    /// Where it runs inside a transaction.
    pub transaction: Option<InTransaction>,
    /// The writes that it must see.
    pub must_see: Token,
    /// Keeps the samples of one trace together.
    pub trace_id: Option<u128>,
    /// Deadline, limits and the rest.
    pub context: CallContext,
}

/// A write that asks to be admitted.
#[derive(Debug, Clone)]
pub struct WriteCall {
    /// What to run, in order: all or none.
    pub statements: Vec<CalledStatement>,
    /// Where it runs inside a transaction.
    pub transaction: Option<InTransaction>,
    /// Makes a repeated write have effect once.
    pub idempotency_key: Option<Arc<str>>,
    /// The writes that its answer's token must cover.
    pub must_see: Token,
    /// Deadline, limits and the rest.
    pub context: CallContext,
}

/// A read that was admitted.
#[derive(Debug, Clone)]
pub struct Read {
    /// What to run.
    pub statement: BoundStatement,
    /// What is known of it.
    pub analysis: Arc<Analysis>,
    /// The state of the migration that it was admitted under.
    pub control: ControlState,
    /// The member's leave to write, where the read begins a transaction that may.
    pub pass: Option<WritePass>,
    /// The share of reads that the target answers.
    pub shifted: Percentage,
    /// Where it goes, by what it touches.
    pub route: Route,
    /// As in [`ReadCall`].
    pub transaction: Option<InTransaction>,
    /// As in [`ReadCall`].
    pub must_see: Token,
    /// As in [`ReadCall`].
    pub trace_id: Option<u128>,
    /// As in [`ReadCall`].
    pub context: CallContext,
}

/// A write that was admitted.
#[derive(Debug, Clone)]
pub struct Write {
    /// What to run, in order.
    pub statements: Vec<BoundStatement>,
    /// What is known of each.
    pub analyses: Vec<Arc<Analysis>>,
    /// Where it goes, by what its statements touch.
    pub route: Route,
    /// Whether any of them says that it writes; a plain SELECT may come this way too, and write
    /// by a function.
    pub writes: bool,
    /// What it does in few words, for traces.
    pub summary: Arc<str>,
    /// The state of the migration that it was admitted under, and the member's leave to write.
    pub pass: WritePass,
    /// As in [`WriteCall`].
    pub transaction: Option<InTransaction>,
    /// Key and content, where the caller gave a key.
    pub idempotency: Option<Idempotency>,
    /// What is announced to the database.
    pub write_id: WriteId,
    /// As in [`WriteCall`].
    pub context: CallContext,
}

/// The answer to a read: it is still coming.
#[derive(Debug)]
pub struct ReadAnswer {
    /// The side that answers.
    pub side: Side,
    /// Columns, and batches as they come.
    pub stream: AnswerStream,
    /// The writes that the call brought were found to have settled.
    pub settled: bool,
    /// What a later read must bring.
    pub must_see: Token,
    /// What is to be done at its end, where the call begins or commits a transaction.
    pub after: Option<AfterRead>,
}

impl ReadAnswer {
    /// The answer of a side.
    pub fn new(side: Side, stream: AnswerStream) -> Self {
        Self { side, stream, settled: false, must_see: Token::default(), after: None }
    }
}

/// The answer to a write.
#[derive(Debug)]
pub struct Written {
    /// What the primary answered.
    pub answer: WriteAnswer,
    /// What a later read must bring to be sure to see it.
    pub must_see: Token,
    /// The transaction that the call began.
    pub begun: Option<Pending>,
    /// It is committed, under this id.
    pub committed: Option<WriteId>,
}

impl Written {
    /// A write that was committed by itself.
    pub fn committed(answer: WriteAnswer, must_see: Token) -> Self {
        let committed = Some(answer.write_id);
        Self { answer, must_see, begun: None, committed }
    }

    /// A write in a transaction that stays open.
    pub fn open(answer: WriteAnswer) -> Self {
        Self { answer, must_see: Token::default(), begun: None, committed: None }
    }
}

/// A call about a transaction that spans calls.
#[derive(Debug, Clone)]
pub enum TransactionCall {
    /// Opens one.
    Begin(TransactionOptions, CallContext),
    /// Commits it.
    Commit(TransactionId, CallContext),
    /// Rolls it back.
    Rollback(TransactionId),
}

/// The answer to a [`TransactionCall`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionAnswer {
    /// It is open.
    Begun(TransactionId),
    /// It is on the primary.
    Committed(Ended),
    /// Nothing of it remains.
    RolledBack,
}

/// How each side prepares a statement.
#[derive(Debug)]
pub struct Described {
    /// Source first.
    pub sides: [(Side, Result<Description, SqlFault>); 2],
}
