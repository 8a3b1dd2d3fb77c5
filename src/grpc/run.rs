//! What each call of `Sql` does, alone or in a pipeline.

use crate::domain::call::{InTransaction, ResultLimits};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::reason::Reason;
use crate::grpc::call::Call;
use crate::grpc::parts::Parts;
use crate::grpc::request::TransactionLimits;
use crate::grpc::sql::SqlService;
use crate::grpc::{answer, proto, request};
use crate::stack::call::{
    CalledStatement, ReadCall, TransactionAnswer, TransactionCall, WriteCall, Written,
};
use crate::stack::pending::{Ended, Pending};

/// Bytes of a message beside its rows.
const ENVELOPE_BYTES: usize = 1024;

impl SqlService {
    /// Bytes of one message's rows: the message has other fields too.
    fn rows_bytes_max(&self) -> usize {
        self.params().message_bytes_max.saturating_sub(ENVELOPE_BYTES)
    }

    /// A unary answer fits one message, and is refused before the write is committed.
    fn unary_limits(&self) -> ResultLimits {
        let ResultLimits { rows_max, bytes_max } = self.params().result;
        ResultLimits { rows_max, bytes_max: bytes_max.min(self.rows_bytes_max() as u64) }
    }

    fn transaction_limits(&self) -> TransactionLimits {
        TransactionLimits {
            idle_max: self.params().transaction_idle_max,
            total_max: self.params().transaction_total_max,
        }
    }

    fn within(
        &self,
        given: Option<&proto::TransactionSelector>,
    ) -> Result<Option<InTransaction>, SqlFault> {
        request::transaction(given, self.transaction_limits())
    }

    /// Whatever kept a call from ending its transaction, none stays open.
    async fn or_given_up<T>(
        &self,
        within: Option<InTransaction>,
        result: impl Future<Output = Result<T, SqlFault>>,
    ) -> Result<T, SqlFault> {
        let result = result.await;
        if let Err(fault) = &result {
            self.stack().give_up(within, fault).await;
        }
        result
    }

    pub(super) async fn run_query(
        &self,
        call: &Call,
        given: proto::QueryRequest,
    ) -> Result<Parts, SqlFault> {
        let within = self.within(given.transaction.as_ref())?;
        self.or_given_up(within, self.query_in(call, within, given)).await
    }

    async fn query_in(
        &self,
        call: &Call,
        within: Option<InTransaction>,
        given: proto::QueryRequest,
    ) -> Result<Parts, SqlFault> {
        let encoding = request::encoding(given.encoding)?;
        let mut context = call.context(self.params().result);
        context.routing_key = request::routing_key(&given.routing_key)?;
        let read = ReadCall {
            statement: request::statement(given.statement)?,
            transaction: within,
            must_see: request::consistency_tokens(&given.consistency_tokens)?,
            trace_id: call.trace_id(),
            context,
        };
        let answer = self.stack().read(read).await?;
        Ok(Parts::new(answer, encoding, self.rows_bytes_max()))
    }

    pub(super) async fn run_execute(
        &self,
        call: &Call,
        given: proto::ExecuteRequest,
    ) -> Result<proto::ExecuteResponse, SqlFault> {
        let within = self.within(given.transaction.as_ref())?;
        self.or_given_up(within, self.execute_in(call, within, given)).await
    }

    async fn execute_in(
        &self,
        call: &Call,
        within: Option<InTransaction>,
        given: proto::ExecuteRequest,
    ) -> Result<proto::ExecuteResponse, SqlFault> {
        let beside = Beside::of(&given.idempotency_key, &given.consistency_tokens, given.encoding);
        let statements = || Ok(vec![request::statement(given.statement)?]);
        let (results, told) = self.write_in(call, within, statements, beside).await?;
        let Told { transaction_id, write_id, consistency_token, already_applied } = told;
        let result = Some(results.into_iter().next().ok_or_else(no_item)?);
        Ok(proto::ExecuteResponse {
            result,
            transaction_id,
            write_id,
            consistency_token,
            already_applied,
        })
    }

    pub(super) async fn run_batch(
        &self,
        call: &Call,
        given: proto::BatchRequest,
    ) -> Result<proto::BatchResponse, SqlFault> {
        let within = self.within(given.transaction.as_ref())?;
        self.or_given_up(within, self.batch_in(call, within, given)).await
    }

    async fn batch_in(
        &self,
        call: &Call,
        within: Option<InTransaction>,
        given: proto::BatchRequest,
    ) -> Result<proto::BatchResponse, SqlFault> {
        let beside = Beside::of(&given.idempotency_key, &given.consistency_tokens, given.encoding);
        let statements = || {
            let numbered = given.statements.into_iter().enumerate();
            let read = numbered.map(|(index, given)| {
                request::statement(Some(given)).map_err(|mut fault| {
                    fault.message = format!("statement {}: {}", index + 1, fault.message);
                    fault
                })
            });
            read.collect::<Result<_, _>>()
        };
        let (results, told) = self.write_in(call, within, statements, beside).await?;
        let Told { transaction_id, write_id, consistency_token, already_applied } = told;
        Ok(proto::BatchResponse {
            results,
            transaction_id,
            write_id,
            consistency_token,
            already_applied,
        })
    }

    /// The one way of a write into the stack, and of its answer back.
    async fn write_in(
        &self,
        call: &Call,
        within: Option<InTransaction>,
        statements: impl FnOnce() -> Result<Vec<CalledStatement>, SqlFault>,
        beside: Beside<'_>,
    ) -> Result<(Vec<proto::StatementResult>, Told), SqlFault> {
        let encoding = request::encoding(beside.encoding)?;
        let write = WriteCall {
            statements: statements()?,
            transaction: within,
            idempotency_key: request::idempotency_key(beside.idempotency_key)?,
            must_see: request::consistency_tokens(beside.consistency_tokens)?,
            context: call.context(self.unary_limits()),
        };
        let written = self.stack().write(write).await?;
        call.keep(&written.answer.items);
        Ok((self.results(&written, encoding)?, Told::of(written)))
    }

    /// A write that was committed stays so, though its answer cannot be given.
    fn results(
        &self,
        written: &Written,
        encoding: proto::Encoding,
    ) -> Result<Vec<proto::StatementResult>, SqlFault> {
        let results = answer::results(&written.answer.items, encoding, self.rows_bytes_max());
        results.map_err(|fault| match written.committed {
            None => fault,
            Some(_) => {
                let must_see = Some(&written.must_see).filter(|it| !it.is_empty());
                let must_see = must_see.cloned().map(Box::new);
                SqlFault { must_see, ..fault.with_outcome(Outcome::Applied) }
            }
        })
    }

    pub(super) async fn run_begin(
        &self,
        call: &Call,
        given: &proto::BeginRequest,
    ) -> Result<proto::BeginResponse, SqlFault> {
        let options = given.options.unwrap_or_default();
        let options = request::transaction_options(&options, self.transaction_limits())?;
        let brought = request::consistency_tokens(&given.consistency_tokens)?;
        let context = call.context(self.unary_limits());
        match self.stack().transaction(TransactionCall::Begin(options, context)).await? {
            TransactionAnswer::Begun(id) => Ok(proto::BeginResponse {
                transaction_id: request::transaction_text(id),
                consistency_token: self.stack().carried(brought).await.to_string(),
            }),
            _ => Err(no_item()),
        }
    }

    pub(super) async fn run_commit(
        &self,
        call: &Call,
        given: &proto::CommitRequest,
    ) -> Result<proto::CommitResponse, SqlFault> {
        let id = request::transaction_required(&given.transaction_id)?;
        let brought = request::consistency_tokens(&given.consistency_tokens)?;
        let context = call.context(self.unary_limits());
        let Ended { write_id, must_see } = self.stack().commit(id, context, brought).await?;
        Ok(proto::CommitResponse {
            write_id: write_id.to_string(),
            consistency_token: must_see.to_string(),
        })
    }

    pub(super) async fn run_rollback(
        &self,
        given: &proto::RollbackRequest,
    ) -> Result<proto::RollbackResponse, SqlFault> {
        let id = request::transaction_required(&given.transaction_id)?;
        self.stack().transaction(TransactionCall::Rollback(id)).await?;
        Ok(proto::RollbackResponse {})
    }
}

/// What the answer to a write tells beside its rows.
struct Told {
    transaction_id: String,
    write_id: String,
    consistency_token: String,
    already_applied: bool,
}

impl Told {
    /// The caller learns of a transaction that was begun, which stays open from here on.
    fn of(written: Written) -> Self {
        let begun = written.begun.map(Pending::keep);
        Self {
            transaction_id: begun.map(request::transaction_text).unwrap_or_default(),
            write_id: written.committed.map(|id| id.to_string()).unwrap_or_default(),
            consistency_token: written.must_see.to_string(),
            already_applied: written.answer.already_applied,
        }
    }
}

/// What a write is given beside its statements.
struct Beside<'a> {
    idempotency_key: &'a str,
    consistency_tokens: &'a [String],
    encoding: i32,
}

impl<'a> Beside<'a> {
    fn of(idempotency_key: &'a str, consistency_tokens: &'a [String], encoding: i32) -> Self {
        Self { idempotency_key, consistency_tokens, encoding }
    }
}

fn no_item() -> SqlFault {
    SqlFault::new(FaultKind::Internal, Reason::Answer, "the answer does not belong to the call")
}
