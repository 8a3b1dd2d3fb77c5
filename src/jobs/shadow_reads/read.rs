//! One statement of a sample on one side.

use std::ops::Deref;
use std::time::Instant;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::domain::answer::{Answer, Observed};
use crate::domain::budget::HeldBytes;
use crate::domain::call::{BoundStatement, CallContext};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::sqlstate::class;
use crate::jobs::shadow_reads::Inner;
use crate::ports::{AnswerStream, Database, ReadRequest, SessionSetting};
use crate::statement::Analysis;
use crate::telemetry::metrics::Purpose;
use crate::telemetry::{names, spans};

/// What a side answered, in the memory that samples share.
pub(super) struct Kept {
    observed: Observed,
    _held: HeldBytes,
}

impl Deref for Kept {
    type Target = Observed;

    fn deref(&self) -> &Observed {
        &self.observed
    }
}

impl Inner {
    /// One statement on one side, its answer whole. The error is a reason for dropping the
    /// sample: the side could not be asked, which says nothing about its data.
    pub(super) async fn read(
        &self,
        side: &dyn Database,
        statement: &BoundStatement,
        analysis: &Analysis,
    ) -> Result<Kept, &'static str> {
        self.ask(side, statement, analysis, None).await
    }

    /// The same on the shadow, under settings.
    pub(super) async fn read_under(
        &self,
        statement: &BoundStatement,
        analysis: &Analysis,
        settings: Vec<SessionSetting>,
    ) -> Result<Kept, &'static str> {
        self.ask(&*self.sides.shadow, statement, analysis, Some(settings)).await
    }

    async fn ask(
        &self,
        side: &dyn Database,
        statement: &BoundStatement,
        analysis: &Analysis,
        settings: Option<Vec<SessionSetting>>,
    ) -> Result<Kept, &'static str> {
        let started = Instant::now();
        let context = CallContext {
            deadline: Some(started + self.params.deadline),
            routing_key: None,
            cancelled: CancellationToken::new(),
            limits: self.params.limits,
            admitted: None,
        };
        let request = ReadRequest { statement: statement.clone(), context };
        let asked = match settings {
            None => side.read(request),
            Some(settings) => side.read_under(request, settings),
        };
        let span = spans::statement(self.params.peers.of(side.side()), &analysis.summary);
        let mut held = self.memory.share();
        let result = collect(asked, &mut held).instrument(span.clone()).await;
        self.metrics.statement(side.side(), Purpose::Shadow, started.elapsed());
        let observed = match result {
            Ok(None) => return Err("memory"),
            Ok(Some(answer)) => {
                span.record(names::DB_RESPONSE_RETURNED_ROWS, answer.affected_rows);
                Observed::Answer(answer)
            }
            Err(fault) => {
                spans::note_fault(&span, &fault);
                unanswered(&fault).map_or(Ok(Observed::Fault(fault)), Err)?
            }
        };
        Ok(Kept { observed, _held: held })
    }
}

/// Why a fault tells of the moment and not of the statement; nothing where it is an answer.
fn unanswered(fault: &SqlFault) -> Option<&'static str> {
    /// Lost connections, conflicts, resources, locks, operators, the system underneath.
    const OF_THE_MOMENT: [&str; 6] = [
        class::CONNECTION_EXCEPTION,
        class::TRANSACTION_ROLLBACK,
        class::INSUFFICIENT_RESOURCES,
        class::OBJECT_NOT_IN_PREREQUISITE_STATE,
        class::OPERATOR_INTERVENTION,
        class::SYSTEM_ERROR,
    ];
    match fault.kind {
        FaultKind::Database if OF_THE_MOMENT.iter().any(|it| fault.sqlstate.starts_with(it)) => {
            Some("unavailable")
        }
        FaultKind::Database | FaultKind::Refused | FaultKind::InvalidArgument => None,
        FaultKind::LimitExceeded => Some("too_large"),
        FaultKind::DeadlineExceeded => Some("deadline"),
        FaultKind::Unavailable | FaultKind::ConnectionLost => Some("unavailable"),
        FaultKind::Cancelled
        | FaultKind::NotFound
        | FaultKind::Precondition
        | FaultKind::Internal => Some("failed"),
    }
}

/// The whole answer; nothing where there is no memory for it.
async fn collect(
    asked: BoxFuture<'_, Result<AnswerStream, SqlFault>>,
    held: &mut HeldBytes,
) -> Result<Option<Answer>, SqlFault> {
    let mut stream = asked.await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.batches.try_next().await? {
        if !held.grow(batch.cells().len() as u64) {
            return Ok(None);
        }
        batches.push(batch);
    }
    let affected_rows = batches.iter().map(|batch| u64::from(batch.row_count())).sum();
    Ok(Some(Answer { columns: stream.columns, batches, affected_rows }))
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};

    use super::*;
    use crate::domain::answer::RowBatchBuilder;
    use crate::domain::budget::ByteBudget;
    use crate::domain::call::{ResultLimits, WriteAnswer};
    use crate::domain::reason::Reason;
    use crate::domain::side::Side;
    use crate::ports::{Description, WriteRequest};

    /// Answers with so many batches of 100 bytes.
    struct Batches(usize);

    impl Database for Batches {
        fn side(&self) -> Side {
            Side::Target
        }

        fn read(&self, _: ReadRequest) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
            let batch = || {
                let mut rows = RowBatchBuilder::default();
                rows.push_cell(Some(&[7; 96]));
                rows.end_row();
                Ok(rows.take())
            };
            let batches = stream::iter((0..self.0).map(move |_| batch())).boxed();
            async move { Ok(AnswerStream { columns: [].into(), batches }) }.boxed()
        }

        fn read_under(
            &self,
            request: ReadRequest,
            _: Vec<SessionSetting>,
        ) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
            self.read(request)
        }

        fn write(&self, _: WriteRequest) -> BoxFuture<'_, Result<WriteAnswer, SqlFault>> {
            async { Err(SqlFault::new(FaultKind::Internal, Reason::Internal, "nobody writes")) }
                .boxed()
        }

        fn describe<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Description, SqlFault>> {
            async { Err(SqlFault::new(FaultKind::Internal, Reason::Internal, "nobody asks")) }
                .boxed()
        }
    }

    #[tokio::test]
    async fn an_answer_is_kept_only_in_memory_that_there_is() {
        let budget = ByteBudget::new(250);
        let request = || ReadRequest {
            statement: BoundStatement { sql: "SELECT 1".into(), name: None, params: [].into() },
            context: CallContext {
                deadline: None,
                routing_key: None,
                cancelled: CancellationToken::new(),
                limits: ResultLimits { rows_max: 10, bytes_max: 1000 },
                admitted: None,
            },
        };
        let mut held = budget.share();
        let answer = collect(Batches(2).read(request()), &mut held).await;
        assert!(answer.is_ok_and(|answer| answer.is_some_and(|it| it.affected_rows == 2)));
        assert_eq!(budget.held(), 200);
        let mut other = budget.share();
        let answer = collect(Batches(1).read(request()), &mut other).await;
        assert!(matches!(answer, Ok(None)));
        drop(held);
        let answer = collect(Batches(1).read(request()), &mut other).await;
        assert!(matches!(answer, Ok(Some(_))));
    }
}
