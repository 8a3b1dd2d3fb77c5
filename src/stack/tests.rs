//! Rooms of the data path, one at a time, against mocks of what is behind them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tower::{Service, ServiceExt};
use tower_test::mock::{self, Handle};

use super::admission::{Admission, Params, Statements};
use super::call::{CalledStatement, Read, ReadAnswer, ReadCall, Text, Write, WriteCall, Written};
use super::limit::{Limit, Permits};
use super::queries::NamedStatements;
use super::shadow_read::ShadowRead;
use crate::domain::answer::{Observed, RowBatch, RowBatchBuilder};
use crate::domain::call::{BoundStatement, CallContext, ResultLimits, WriteAnswer};
use crate::domain::control::{ControlState, Percentage, Phase};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::side::Side;
use crate::ports::{AnswerStream, ControlView, Sample, ShadowReads};
use crate::statement;
use crate::telemetry::metrics::Metrics;

/// A mock whose faults are segue's.
fn mocked<C: Send + 'static, A: Send + 'static>()
-> (impl Service<C, Response = A, Error = SqlFault, Future: Send + 'static> + Clone, Handle<C, A>) {
    let (service, handle) = mock::pair::<C, A>();
    let service = service.map_err(|error| match error.downcast::<SqlFault>() {
        Ok(fault) => *fault,
        Err(other) => panic!("the mock was misused: {other}"),
    });
    (service, handle)
}

fn context() -> CallContext {
    CallContext {
        deadline: None,
        routing_key: None,
        cancelled: tokio_util::sync::CancellationToken::new(),
        limits: ResultLimits { rows_max: 100, bytes_max: 1_000 },
    }
}

fn called(sql: &str) -> CalledStatement {
    CalledStatement { text: Text::Sql(sql.into()), params: Arc::from([]) }
}

fn read_call(sql: &str) -> ReadCall {
    ReadCall {
        statement: called(sql),
        transaction: None,
        must_see: None,
        trace_id: None,
        context: context(),
    }
}

fn write_call(sql: &str) -> WriteCall {
    WriteCall {
        statements: vec![called(sql)],
        transaction: None,
        idempotency_key: None,
        context: context(),
    }
}

fn read(phase: Phase) -> Read {
    let sql = "SELECT 1";
    Read {
        statement: BoundStatement { sql: sql.into(), name: None, params: Arc::from([]) },
        analysis: Arc::new(statement::analyse(sql).unwrap()),
        control: ControlState { epoch: 1, phase },
        shifted: Percentage::ZERO,
        transaction: None,
        must_see: None,
        trace_id: None,
        context: context(),
    }
}

fn batch(bytes: usize) -> RowBatch {
    let mut rows = RowBatchBuilder::default();
    rows.push_cell(Some(&vec![b'x'; bytes]));
    rows.end_row();
    rows.take()
}

fn answer(batches: Vec<Result<RowBatch, SqlFault>>) -> ReadAnswer {
    let batches = futures_util::stream::iter(batches).boxed();
    ReadAnswer { side: Side::Source, stream: AnswerStream { columns: Arc::from([]), batches } }
}

fn fault() -> SqlFault {
    let mut fault = SqlFault::new(FaultKind::Database, "", "division by zero");
    fault.sqlstate = "22012".to_owned();
    fault
}

/// Nothing has come through to what is behind the room.
fn nothing_came<C, A>(handle: &mut Handle<C, A>)
where
    C: std::fmt::Debug,
    A: std::fmt::Debug,
{
    // `Some(None)` says that the room is gone, and nothing came before.
    let asked = futures_util::FutureExt::now_or_never(handle.next_request());
    assert!(!matches!(asked, Some(Some(_))), "a call went through: {asked:?}");
}

// === limit ===

#[tokio::test]
async fn a_call_without_room_is_refused_and_never_reaches_what_is_behind() {
    let (inner, mut handle) = mocked::<ReadCall, ReadAnswer>();
    let limit = Limit::new(inner, Permits::new(1));
    let first = tokio::spawn(limit.clone().oneshot(read_call("SELECT 1")));
    let (_, answering) = handle.next_request().await.unwrap();

    let refused = limit.clone().oneshot(read_call("SELECT 2")).await.unwrap_err();
    assert_eq!((refused.kind, refused.reason), (FaultKind::LimitExceeded, "limit.calls"));
    assert!(refused.retryable);
    nothing_came(&mut handle);

    // The room is taken until the answer has ended, and not only until it has begun.
    answering.send_response(answer(vec![Ok(batch(1))]));
    let first = first.await.unwrap().unwrap();
    assert!(limit.clone().oneshot(read_call("SELECT 3")).await.is_err());
    drop(first);
    let fourth = tokio::spawn(limit.oneshot(read_call("SELECT 4")));
    let (request, _answering) = handle.next_request().await.unwrap();
    assert!(matches!(request.statement.text, Text::Sql(sql) if &*sql == "SELECT 4"));
    fourth.abort();
}

#[tokio::test]
async fn calls_of_a_transaction_need_no_room() {
    let (inner, mut handle) = mocked::<WriteCall, Written>();
    let limit = Limit::new(inner, Permits::new(0));
    let mut call = write_call("SELECT 1");
    call.transaction = Some(crate::domain::call::TransactionId(7));
    let inside = tokio::spawn(limit.oneshot(call));
    let (_, answering) = handle.next_request().await.unwrap();
    answering.send_response(written());
    assert!(inside.await.unwrap().is_ok());
}

fn written() -> Written {
    Written {
        answer: WriteAnswer { items: Vec::new(), write_id: WriteId(1), replayed: false },
        must_see: None,
    }
}

// === admission ===

/// A phase that rises each time that it is asked for.
#[derive(Default)]
struct Rising(AtomicUsize);

impl ControlView for Rising {
    fn current(&self) -> ControlState {
        let epoch = self.0.fetch_add(1, Ordering::SeqCst) as u64 + 1;
        ControlState { epoch, phase: Phase::DualWrite }
    }
}

fn admission<S>(inner: S, control: &Arc<Rising>) -> Admission<S> {
    let params = Params {
        named_only: false,
        statement_bytes_max: 1_000,
        parameters_max: 10,
        batch_statements_max: 2,
        cache_capacity: 10,
    };
    let statements = Statements::new(params, NamedStatements::default(), Metrics::new());
    let control: Arc<dyn ControlView> = Arc::<Rising>::clone(control);
    Admission::new(inner, Arc::new(statements), control, Arc::new(|| WriteId(42)))
}

#[tokio::test]
async fn what_is_refused_never_reaches_what_is_behind() {
    let (inner, mut handle) = mocked::<Write, Written>();
    let writes = admission(inner, &Arc::default());
    for (sql, reason) in [
        ("DROP TABLE t", "refused.ddl"),
        ("PREPARE TRANSACTION 'x'", "refused.two_phase"),
        ("SET LOCAL work_mem = '1MB'", "refused.outside_transaction"),
        ("SELECT 1; SELECT 2", "refused.multiple"),
    ] {
        let fault = writes.clone().oneshot(write_call(sql)).await.unwrap_err();
        assert_eq!(fault.reason, reason, "{sql}: {fault}");
        assert!(!fault.hint.is_empty(), "{sql} has no way out");
    }
    nothing_came(&mut handle);

    let (inner, mut handle) = mocked::<Read, ReadAnswer>();
    let reads = admission(inner, &Arc::default());
    let fault = reads.oneshot(read_call("DELETE FROM t")).await.unwrap_err();
    assert_eq!(fault.reason, "refused.write_in_query");
    nothing_came(&mut handle);
}

#[tokio::test]
async fn the_phase_is_read_once_and_goes_with_the_call() {
    let (inner, mut handle) = mocked::<Write, Written>();
    let control = Arc::new(Rising::default());
    let writes = admission(inner, &control);
    let call = tokio::spawn(writes.oneshot(write_call("DELETE FROM t")));
    let (write, answering) = handle.next_request().await.unwrap();
    assert_eq!(write.pass.control.epoch, 1);
    assert_eq!(write.write_id, WriteId(42));
    assert!(write.writes);
    answering.send_response(written());
    call.await.unwrap().unwrap();
    assert_eq!(control.0.load(Ordering::SeqCst), 1);
}

// === shadow reads ===

#[derive(Default)]
struct Samples {
    offered: Mutex<Vec<Observed>>,
    skipped: Mutex<Vec<&'static str>>,
}

impl ShadowReads for Samples {
    fn selects(&self, _: &BoundStatement, _: Option<u128>) -> bool {
        true
    }

    fn answer_bytes_max(&self) -> u64 {
        100
    }

    fn offer(&self, sample: Sample) {
        self.offered.lock().unwrap().push(sample.primary);
    }

    fn skipped(&self, _: &BoundStatement, reason: &'static str) {
        self.skipped.lock().unwrap().push(reason);
    }
}

/// Sends a read through the room, with this answer behind it, and drains as many batches.
async fn through(
    phase: Phase,
    behind: Result<ReadAnswer, SqlFault>,
    drain: usize,
) -> (Arc<Samples>, Vec<Result<RowBatch, SqlFault>>) {
    let (inner, mut handle) = mocked::<Read, ReadAnswer>();
    let samples = Arc::new(Samples::default());
    let room = ShadowRead::new(inner, Arc::<Samples>::clone(&samples) as Arc<dyn ShadowReads>);
    let call = tokio::spawn(room.oneshot(read(phase)));
    let (_, answering) = handle.next_request().await.unwrap();
    match behind {
        Ok(answer) => answering.send_response(answer),
        Err(fault) => answering.send_error(fault),
    }
    let mut got = Vec::new();
    if let Ok(answer) = call.await.unwrap() {
        got = answer.stream.batches.take(drain).collect().await;
    }
    (samples, got)
}

#[tokio::test]
async fn a_whole_answer_is_offered_as_it_was_sent() {
    let batches = vec![Ok(batch(10)), Ok(batch(20))];
    let (samples, got) = through(Phase::ShadowRead, Ok(answer(batches.clone())), 9).await;
    assert_eq!(got, batches);
    let offered = samples.offered.lock().unwrap();
    let [Observed::Answer(offered)] = offered.as_slice() else { panic!("{offered:?}") };
    assert_eq!(offered.batches, [batch(10), batch(20)]);
    assert_eq!(offered.affected_rows, 2);
}

#[tokio::test]
async fn an_answer_that_is_too_large_reaches_the_caller_whole() {
    let batches = vec![Ok(batch(10)), Ok(batch(200)), Ok(batch(10))];
    let (samples, got) = through(Phase::ShadowRead, Ok(answer(batches.clone())), 9).await;
    assert_eq!(got, batches);
    assert_eq!(*samples.skipped.lock().unwrap(), ["too_large"]);
    assert!(samples.offered.lock().unwrap().is_empty());
}

#[tokio::test]
async fn half_an_answer_is_not_compared() {
    let batches = vec![Ok(batch(1)), Ok(batch(2))];
    let (samples, _) = through(Phase::ShadowRead, Ok(answer(batches)), 1).await;
    assert_eq!(*samples.skipped.lock().unwrap(), ["abandoned"]);
    let broken = vec![Ok(batch(1)), Err(SqlFault::new(FaultKind::ConnectionLost, "", "lost"))];
    let (samples, _) = through(Phase::ShadowRead, Ok(answer(broken)), 9).await;
    assert_eq!(*samples.skipped.lock().unwrap(), ["primary_failed"]);
    assert!(samples.offered.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_fault_of_the_database_is_an_answer_to_compare() {
    let (samples, _) = through(Phase::ShadowRead, Err(fault()), 0).await;
    let offered = samples.offered.lock().unwrap();
    assert!(matches!(offered.as_slice(), [Observed::Fault(f)] if f.sqlstate == "22012"));
}

#[tokio::test]
async fn nothing_is_sampled_in_phases_without_shadow_reads() {
    for phase in [Phase::SourceOnly, Phase::DualWrite, Phase::TargetOnly] {
        let (samples, got) = through(phase, Ok(answer(vec![Ok(batch(1))])), 9).await;
        assert_eq!(got.len(), 1);
        assert!(samples.offered.lock().unwrap().is_empty(), "{phase}");
        assert!(samples.skipped.lock().unwrap().is_empty(), "{phase}");
    }
}
