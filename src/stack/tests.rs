//! Rooms of the data path, one at a time, against mocks of what is behind them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};
use tower_test::mock::{self, Handle};

use super::admission::{Admission, Params, Statements};
use super::awaiting::{self, Awaiting};
use super::breaker;
use super::call::{CalledStatement, Read, ReadAnswer, ReadCall, Text, Write, WriteCall, Written};
use super::limit::{Limit, Permits};
use super::queries::NamedStatements;
use super::shadow_read::ShadowRead;
use super::shift::{self, Shift};
use crate::domain::answer::{Observed, RowBatch, RowBatchBuilder};
use crate::domain::budget::ByteBudget;
use crate::domain::call::{
    BoundStatement, CallContext, InTransaction, ResultLimits, TransactionId, TransactionOptions,
    Which, WriteAnswer,
};
use crate::domain::consistency::Token;
use crate::domain::control::{ControlState, Percentage, Phase};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::reach::Route;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::ports::settled::{SettledWrites, Standing};
use crate::ports::{AnswerStream, ControlView, Entering, Sample, ShadowReads, WritePass};
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
        admitted: None,
    }
}

fn called(sql: &str) -> CalledStatement {
    CalledStatement { text: Text::Sql(sql.into()), params: Arc::from([]) }
}

fn read_call(sql: &str) -> ReadCall {
    ReadCall {
        statement: called(sql),
        transaction: None,
        must_see: Token::default(),
        trace_id: None,
        context: context(),
    }
}

fn write_call(sql: &str) -> WriteCall {
    WriteCall {
        statements: vec![called(sql)],
        transaction: None,
        idempotency_key: None,
        must_see: Token::default(),
        context: context(),
    }
}

fn read(phase: Phase) -> Read {
    let sql = "SELECT 1";
    Read {
        statement: BoundStatement { sql: sql.into(), name: None, params: Arc::from([]) },
        analysis: Arc::new(statement::analyse(sql).unwrap()),
        control: ControlState { epoch: 1, phase },
        pass: None,
        shifted: Percentage::ZERO,
        route: Route::to_primary(ControlState { epoch: 1, phase }),
        transaction: None,
        must_see: Token::default(),
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
    ReadAnswer::new(Side::Source, AnswerStream { columns: Arc::from([]), batches })
}

fn fault() -> SqlFault {
    let mut fault = SqlFault::new(FaultKind::Database, Reason::Database, "division by zero");
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
    assert_eq!((refused.kind, refused.reason), (FaultKind::LimitExceeded, Reason::LimitCalls));
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
    call.transaction = Some(InTransaction::open(TransactionId(7)));
    let inside = tokio::spawn(limit.oneshot(call));
    let (_, answering) = handle.next_request().await.unwrap();
    answering.send_response(written());
    assert!(inside.await.unwrap().is_ok());
}

fn written() -> Written {
    let answer = WriteAnswer {
        items: Vec::new(),
        write_id: WriteId(1),
        already_applied: false,
        wrote: true,
    };
    Written::committed(answer, Token::default())
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

fn admission<S>(inner: S, control: Arc<dyn ControlView>) -> Admission<S> {
    let params = Params {
        named_only: false,
        statement_bytes_max: 1_000,
        parameters_max: 10,
        batch_statements_max: 2,
        cache_capacity: 10,
    };
    let statements = Statements::new(params, NamedStatements::default(), Metrics::new());
    Admission::new(inner, Arc::new(statements), control, Arc::new(|| WriteId(42)))
}

#[tokio::test]
async fn what_is_refused_never_reaches_what_is_behind() {
    let (inner, mut handle) = mocked::<Write, Written>();
    let writes = admission(inner, Arc::<Rising>::default());
    for (sql, reason) in [
        ("DROP TABLE t", Reason::RefusedDdl),
        ("PREPARE TRANSACTION 'x'", Reason::RefusedTwoPhase),
        ("SET LOCAL work_mem = '1MB'", Reason::RefusedOutsideTransaction),
        ("SELECT 1; SELECT 2", Reason::RefusedMultiple),
    ] {
        let fault = writes.clone().oneshot(write_call(sql)).await.unwrap_err();
        assert_eq!(fault.reason, reason, "{sql}: {fault}");
        assert!(!fault.hint.is_empty(), "{sql} has no way out");
    }
    nothing_came(&mut handle);

    let (inner, mut handle) = mocked::<Read, ReadAnswer>();
    let reads = admission(inner, Arc::<Rising>::default());
    let fault = reads.oneshot(read_call("DELETE FROM t")).await.unwrap_err();
    assert_eq!(fault.reason, Reason::RefusedWriteInQuery);
    nothing_came(&mut handle);
}

#[tokio::test]
async fn the_phase_is_read_once_and_goes_with_the_call() {
    let (inner, mut handle) = mocked::<Write, Written>();
    let control = Arc::new(Rising::default());
    let writes = admission(inner, Arc::<Rising>::clone(&control));
    let call = tokio::spawn(writes.oneshot(write_call("DELETE FROM t")));
    let (write, answering) = handle.next_request().await.unwrap();
    assert_eq!(write.pass.control.epoch, 1);
    assert_eq!(write.write_id, WriteId(42));
    assert!(write.writes);
    answering.send_response(written());
    call.await.unwrap().unwrap();
    assert_eq!(control.0.load(Ordering::SeqCst), 1);
}

/// What a member knows, as a test says.
struct Known(Mutex<ControlState>);

impl ControlView for Known {
    fn current(&self) -> ControlState {
        *self.0.lock().unwrap()
    }
}

/// The primary is changed while a write waits for leave.
struct Changing;

impl ControlView for Changing {
    fn current(&self) -> ControlState {
        ControlState { epoch: 1, phase: Phase::Shift }
    }

    fn admit_write(
        &self,
        _: Entering,
        _: Option<Instant>,
    ) -> BoxFuture<'_, Result<WritePass, SqlFault>> {
        let pass = WritePass::free(ControlState { epoch: 2, phase: Phase::Reversed });
        Box::pin(async move { Ok(pass) })
    }
}

#[tokio::test]
async fn a_read_that_begins_a_transaction_goes_where_the_primary_is_when_it_may_begin() {
    for (read_only, epoch, side) in [(false, 2, Side::Target), (true, 1, Side::Source)] {
        let (inner, mut handle) = mocked::<Read, ReadAnswer>();
        let options = TransactionOptions {
            isolation: None,
            read_only,
            idle_max: Duration::from_secs(1),
            total_max: Duration::from_secs(1),
        };
        let transaction = Some(InTransaction { which: Which::New(options), commits: false });
        let call = ReadCall { transaction, ..read_call("SELECT 1") };
        let call = tokio::spawn(admission(inner, Arc::new(Changing)).oneshot(call));
        let (read, answering) = handle.next_request().await.unwrap();
        assert_eq!((read.control.epoch, read.route.side), (epoch, side), "{read_only}");
        assert_eq!(read.context.admitted.map(|it| it.epoch), Some(epoch));
        assert_eq!(read.pass.map(|it| it.control.epoch), (!read_only).then_some(2));
        answering.send_response(answer(vec![Ok(batch(1))]));
        assert!(call.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_read_whose_session_has_found_another_primary_is_admitted_again() {
    let (inner, mut handle) = mocked::<Read, ReadAnswer>();
    let control = Arc::new(Known(Mutex::new(ControlState { epoch: 1, phase: Phase::Shift })));
    let reads = admission(inner, Arc::<Known>::clone(&control));
    let call = tokio::spawn(reads.oneshot(read_call("SELECT 1")));
    let (first, answering) = handle.next_request().await.unwrap();
    assert_eq!(
        (first.route.side, first.context.admitted.map(|it| it.epoch)),
        (Side::Source, Some(1))
    );
    let moved =
        SqlFault::new(FaultKind::Unavailable, Reason::FenceNotPrimary, "the target is the primary");
    answering.send_error(moved.retryable());
    // It waits until the member has heard.
    tokio::task::yield_now().await;
    nothing_came(&mut handle);
    *control.0.lock().unwrap() = ControlState { epoch: 2, phase: Phase::Reversed };
    let (second, answering) = handle.next_request().await.unwrap();
    assert_eq!(
        (second.route.side, second.context.admitted.map(|it| it.epoch)),
        (Side::Target, Some(2))
    );
    answering.send_response(answer(vec![Ok(batch(1))]));
    assert!(call.await.unwrap().is_ok());
}

// === shadow reads ===

#[derive(Default)]
struct Samples {
    offered: Mutex<Vec<Sample>>,
    skipped: Mutex<Vec<&'static str>>,
    memory: Option<ByteBudget>,
}

impl ShadowReads for Samples {
    fn selects(&self, _: &BoundStatement, _: Option<u128>) -> bool {
        true
    }

    fn answer_bytes_max(&self) -> u64 {
        100
    }

    fn memory(&self) -> ByteBudget {
        self.memory.clone().unwrap_or_else(ByteBudget::unlimited)
    }

    fn offer(&self, sample: Sample) {
        self.offered.lock().unwrap().push(sample);
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
    let [Sample { observed: Observed::Answer(offered), .. }] = offered.as_slice() else {
        panic!("{offered:?}")
    };
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

/// An answer of these batches that is being read, as the room gives it to its caller.
async fn teed(samples: &Arc<Samples>, batches: Vec<RowBatch>) -> ReadAnswer {
    let (inner, mut handle) = mocked::<Read, ReadAnswer>();
    let room = ShadowRead::new(inner, Arc::<Samples>::clone(samples) as Arc<dyn ShadowReads>);
    let call = tokio::spawn(room.oneshot(read(Phase::ShadowRead)));
    let (_, answering) = handle.next_request().await.unwrap();
    answering.send_response(answer(batches.into_iter().map(Ok).collect()));
    call.await.unwrap().unwrap()
}

#[tokio::test]
async fn answers_on_their_way_share_their_memory_and_what_does_not_fit_is_skipped() {
    let one = batch(40).cells().len() as u64;
    let memory = ByteBudget::new(3 * one);
    let samples = Arc::new(Samples { memory: Some(memory.clone()), ..Samples::default() });
    let two = || vec![batch(40), batch(40)];
    let mut first = teed(&samples, two()).await;
    let mut second = teed(&samples, two()).await;
    first.stream.batches.next().await.unwrap().unwrap();
    second.stream.batches.next().await.unwrap().unwrap();
    first.stream.batches.next().await.unwrap().unwrap();
    assert_eq!(memory.held(), 3 * one);
    // The caller gets all of it, and what was kept so far is given back.
    assert_eq!(second.stream.batches.next().await.unwrap().unwrap(), batch(40));
    assert_eq!(*samples.skipped.lock().unwrap(), ["memory"]);
    assert_eq!(memory.held(), 2 * one);
    assert!(first.stream.batches.next().await.is_none());
    assert_eq!(memory.held(), 2 * one, "the sample takes it along");
    assert_eq!(samples.offered.lock().unwrap().len(), 1);
    samples.offered.lock().unwrap().clear();
    assert_eq!(memory.held(), 0);
    let third = teed(&samples, two()).await;
    let _: Vec<_> = third.stream.batches.collect().await;
    assert_eq!(samples.offered.lock().unwrap().len(), 1, "there is room again");
    assert_eq!(*samples.skipped.lock().unwrap(), ["memory"]);
}

#[tokio::test]
async fn half_an_answer_is_not_compared() {
    let batches = vec![Ok(batch(1)), Ok(batch(2))];
    let (samples, _) = through(Phase::ShadowRead, Ok(answer(batches)), 1).await;
    assert_eq!(*samples.skipped.lock().unwrap(), ["abandoned"]);
    let broken = vec![
        Ok(batch(1)),
        Err(SqlFault::new(FaultKind::ConnectionLost, Reason::ConnectionLost, "lost")),
    ];
    let (samples, _) = through(Phase::ShadowRead, Ok(answer(broken)), 9).await;
    assert_eq!(*samples.skipped.lock().unwrap(), ["primary_failed"]);
    assert!(samples.offered.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_fault_of_the_database_is_an_answer_to_compare() {
    let (samples, _) = through(Phase::ShadowRead, Err(fault()), 0).await;
    let offered = samples.offered.lock().unwrap();
    let [Sample { observed: Observed::Fault(fault), .. }] = offered.as_slice() else {
        panic!("{offered:?}")
    };
    assert_eq!(fault.sqlstate, "22012");
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

// === shift ===

/// Writes that have settled are even; of the others every third cannot be told.
struct Even;

impl SettledWrites for Even {
    fn standing(&self, write: WriteId, _: u64) -> BoxFuture<'_, Standing> {
        Box::pin(async move {
            match write.0 {
                even if even.is_multiple_of(2) => Standing::Settled,
                odd if odd.is_multiple_of(3) => Standing::Unknown,
                _ => Standing::Waiting,
            }
        })
    }

    fn until_settled(&self, write: WriteId, _: u64) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            if !write.0.is_multiple_of(2) {
                std::future::pending::<()>().await;
            }
            true
        })
    }
}

const TARGET_TIMEOUT: Duration = Duration::from_secs(1);
const BREAKER: breaker::Params =
    breaker::Params { failures_max: 2, pause: Duration::from_secs(10) };

/// Both sides of the room, and what it counted.
struct Shifting {
    room: BoxCloneSyncService<Read, ReadAnswer, SqlFault>,
    source: Handle<Read, ReadAnswer>,
    target: Handle<Read, ReadAnswer>,
    metrics: Metrics,
}

fn shifting() -> Shifting {
    let (source, source_handle) = mocked::<Read, ReadAnswer>();
    let (target, target_handle) = mocked::<Read, ReadAnswer>();
    let metrics = Metrics::new();
    let params = shift::Params { target_timeout: TARGET_TIMEOUT, breaker: BREAKER };
    let (source, target) = (BoxCloneSyncService::new(source), BoxCloneSyncService::new(target));
    let known: (Arc<dyn ControlView>, Arc<dyn SettledWrites>) =
        (Arc::new(Rising::default()), Arc::new(Even));
    let room = Shift::new(source, target, known, params, Arc::new(|| 0), metrics.clone());
    let room = BoxCloneSyncService::new(room);
    Shifting { room, source: source_handle, target: target_handle, metrics }
}

fn shifted(percent: f64) -> Read {
    Read { shifted: Percentage::of(percent).unwrap(), ..read(Phase::Shift) }
}

/// Batches of an answer that came through.
async fn drained(answer: ReadAnswer) -> Vec<Result<RowBatch, SqlFault>> {
    answer.stream.batches.collect().await
}

impl Shifting {
    fn start(&self, read: Read) -> tokio::task::JoinHandle<Result<ReadAnswer, SqlFault>> {
        tokio::spawn(self.room.clone().oneshot(read))
    }

    /// A read that the source must be asked for, and answers.
    async fn on_source(&mut self, read: Read) {
        let call = self.start(read);
        let (_, answering) = self.source.next_request().await.unwrap();
        answering.send_response(answer(vec![Ok(batch(1))]));
        assert_eq!(drained(call.await.unwrap().unwrap()).await, [Ok(batch(1))]);
        nothing_came(&mut self.target);
    }

    /// A read that goes to the target, which does this; then the source answers.
    async fn rescued(&mut self, read: Read, target: Result<ReadAnswer, SqlFault>) {
        let call = self.start(read);
        let (_, answering) = self.target.next_request().await.unwrap();
        match target {
            Ok(answer) => answering.send_response(answer),
            Err(fault) => answering.send_error(fault),
        }
        let (_, answering) = self.source.next_request().await.unwrap();
        answering.send_response(answer(vec![Ok(batch(7))]));
        assert_eq!(drained(call.await.unwrap().unwrap()).await, [Ok(batch(7))]);
    }

    fn errors(&self) -> u64 {
        self.metrics.totals().reads.target.errors
    }
}

fn away() -> SqlFault {
    SqlFault::new(FaultKind::Unavailable, Reason::UnavailableConnect, "connection refused")
}

#[tokio::test]
async fn the_share_decides_and_the_phase_before_it() {
    let mut shifting = shifting();
    shifting.on_source(shifted(0.0)).await;
    for phase in [Phase::DualWrite, Phase::ShadowRead, Phase::Reversed] {
        let all = Read { shifted: Percentage::ALL, ..read(phase) };
        shifting.on_source(all).await;
    }
    let call = shifting.start(shifted(100.0));
    let (_, answering) = shifting.target.next_request().await.unwrap();
    answering.send_response(answer(vec![Ok(batch(1)), Ok(batch(2)), Ok(batch(3))]));
    let got = drained(call.await.unwrap().unwrap()).await;
    assert_eq!(got, [Ok(batch(1)), Ok(batch(2)), Ok(batch(3))]);
    nothing_came(&mut shifting.source);
}

#[tokio::test]
async fn one_routing_key_sees_one_side_and_a_larger_share_only_adds() {
    let mut shifting = shifting();
    let mut on_target = [0_usize; 2];
    for key in 0..200 {
        let mut before = false;
        for (at, percent) in [20.0, 50.0].into_iter().enumerate() {
            let mut asked = shifted(percent);
            asked.context.routing_key = Some(format!("user {key}").into());
            asked.trace_id = Some(u128::from(rand::random::<u64>()));
            let again = (shifting.start(asked.clone()), shifting.start(asked));
            let mut sides = Vec::new();
            for call in [again.0, again.1] {
                let (side, (_, answering)) = tokio::select! {
                    Some(asked) = shifting.target.next_request() => (true, asked),
                    Some(asked) = shifting.source.next_request() => (false, asked),
                };
                answering.send_response(answer(Vec::new()));
                sides.push(side);
                drop(call);
            }
            assert_eq!(sides[0], sides[1], "user {key} at {percent}");
            assert!(!before || sides[0], "user {key} went back");
            before = sides[0];
            on_target[at] += usize::from(before);
        }
    }
    assert!(
        (25..=55).contains(&on_target[0]) && (80..=120).contains(&on_target[1]),
        "{on_target:?}"
    );
}

#[tokio::test]
async fn a_read_with_an_unsettled_token_goes_to_the_primary() {
    let mut shifting = shifting();
    shifting.on_source(Read { must_see: Token::of(WriteId(1)), ..shifted(100.0) }).await;
    let call = shifting.start(Read { must_see: Token::of(WriteId(2)), ..shifted(100.0) });
    let (_, answering) = shifting.target.next_request().await.unwrap();
    answering.send_response(answer(Vec::new()));
    call.await.unwrap().unwrap();
    assert_eq!(shifting.errors(), 0, "the target is not to blame for a token");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_before_a_row_was_seen_costs_a_read_on_the_source() {
    let lost = || SqlFault::new(FaultKind::ConnectionLost, Reason::ConnectionLost, "lost");
    for behind in
        [Err(away()), Ok(answer(vec![Err(lost())])), Ok(answer(vec![Ok(batch(1)), Err(lost())]))]
    {
        let mut shifting = shifting();
        shifting.rescued(shifted(100.0), behind).await;
    }
    // A statement that the target cannot run is the target's fault, and only then.
    let mut one = shifting();
    one.rescued(shifted(100.0), Err(fault())).await;
    assert_eq!(one.errors(), 1);
    let call = one.start(shifted(100.0));
    one.target.next_request().await.unwrap().1.send_error(fault());
    one.source.next_request().await.unwrap().1.send_error(fault());
    assert_eq!(call.await.unwrap().unwrap_err().sqlstate, "22012");
    assert_eq!(one.errors(), 1, "both sides say the same");
}

#[tokio::test]
async fn a_row_that_was_seen_is_not_read_again() {
    let mut shifting = shifting();
    let call = shifting.start(shifted(100.0));
    let lost = SqlFault::new(FaultKind::ConnectionLost, Reason::ConnectionLost, "lost");
    let batches = vec![Ok(batch(1)), Ok(batch(2)), Err(lost.clone())];
    shifting.target.next_request().await.unwrap().1.send_response(answer(batches));
    let got = drained(call.await.unwrap().unwrap()).await;
    assert_eq!(got, [Ok(batch(1)), Ok(batch(2)), Err(lost)]);
    nothing_came(&mut shifting.source);
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_is_left_after_its_time_and_then_not_waited_for() {
    let mut shifting = shifting();
    let begun = tokio::time::Instant::now();
    for _ in 0..2 {
        let call = shifting.start(shifted(100.0));
        let silent = shifting.target.next_request().await.unwrap();
        let (_, answering) = shifting.source.next_request().await.unwrap();
        answering.send_response(answer(Vec::new()));
        call.await.unwrap().unwrap();
        drop(silent);
    }
    assert_eq!(begun.elapsed(), TARGET_TIMEOUT * 2);
    assert_eq!(shifting.errors(), 2);
    shifting.on_source(shifted(100.0)).await;
    assert_eq!(begun.elapsed(), TARGET_TIMEOUT * 2, "the breaker is open");
    assert_eq!(shifting.errors(), 3, "what it should have answered counts against it");
    // A hurried caller leaves time for the source.
    tokio::time::advance(BREAKER.pause).await;
    let mut hurried = shifted(100.0);
    hurried.context.deadline = Some(std::time::Instant::now() + TARGET_TIMEOUT);
    let begun = tokio::time::Instant::now();
    let call = shifting.start(hurried);
    let silent = shifting.target.next_request().await.unwrap();
    let (_, answering) = shifting.source.next_request().await.unwrap();
    assert!(
        begun.elapsed() <= TARGET_TIMEOUT / 2 + Duration::from_millis(5),
        "{:?}",
        begun.elapsed()
    );
    answering.send_response(answer(Vec::new()));
    call.await.unwrap().unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_caller_who_has_gone_is_not_served_by_the_other_side() {
    let mut shifting = shifting();
    let asked = shifted(100.0);
    let cancelled = asked.context.cancelled.clone();
    let call = shifting.start(asked);
    let (_, answering) = shifting.target.next_request().await.unwrap();
    cancelled.cancel();
    answering.send_error(SqlFault::new(FaultKind::Cancelled, Reason::Cancelled, "gone"));
    assert_eq!(call.await.unwrap().unwrap_err().kind, FaultKind::Cancelled);
    nothing_came(&mut shifting.source);
}

// === awaiting ===

fn awaiting() -> Awaiting {
    let params = awaiting::Params { wait: Duration::from_millis(250), breaker: BREAKER };
    Awaiting::new(Arc::new(Even), params, Metrics::new())
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_shadow_only_while_reads_are_shifted_and_not_for_long() {
    let awaiting = awaiting();
    let state = |phase| ControlState { epoch: 1, phase };
    let begun = tokio::time::Instant::now();
    for phase in [Phase::SourceOnly, Phase::DualWrite, Phase::ShadowRead, Phase::Reversed] {
        assert_eq!(awaiting.token(state(phase), WriteId(1), false, None).await, None, "{phase}");
    }
    assert_eq!(awaiting.token(state(Phase::Shift), WriteId(2), false, None).await, None);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    for _ in 0..2 {
        let token = awaiting.token(state(Phase::Shift), WriteId(1), false, None).await;
        assert_eq!(token, Some(WriteId(1)));
    }
    assert_eq!(begun.elapsed(), Duration::from_millis(500));
    // The shadow is sick: nobody waits for it, and what has not settled has a token.
    let token = awaiting.token(state(Phase::Shift), WriteId(1), false, None).await;
    assert_eq!(token, Some(WriteId(1)));
    assert_eq!(awaiting.token(state(Phase::Shift), WriteId(2), false, None).await, None);
    assert_eq!(begun.elapsed(), Duration::from_millis(500));
    tokio::time::advance(BREAKER.pause).await;
    assert_eq!(awaiting.token(state(Phase::Shift), WriteId(2), false, None).await, None);
}

/// Its token would take the place of one that counts, and be settled at once.
#[tokio::test(start_paused = true)]
async fn what_met_no_row_has_no_token_unless_the_outbox_knows_better() {
    let awaiting = awaiting();
    let shift = ControlState { epoch: 1, phase: Phase::Shift };
    let begun = tokio::time::Instant::now();
    // Its triggers wrote: it is waited for like any other, and its token is as good.
    for waited in [250, 500, 500] {
        for write in [2, 3] {
            assert_eq!(awaiting.token(shift, WriteId(write), true, None).await, None, "{write}");
        }
        assert_eq!(awaiting.token(shift, WriteId(1), true, None).await, Some(WriteId(1)));
        assert_eq!(begun.elapsed(), Duration::from_millis(waited));
    }
    // What cannot be told of a write that may have changed something may be waiting.
    assert_eq!(awaiting.token(shift, WriteId(3), false, None).await, Some(WriteId(3)));
    assert_eq!(begun.elapsed(), Duration::from_millis(500));
}

#[tokio::test]
async fn a_write_in_doubt_brings_its_token_with_the_fault() {
    let awaiting = awaiting();
    let lost = SqlFault::new(FaultKind::ConnectionLost, Reason::ConnectionLost, "lost")
        .with_outcome(Outcome::Unknown);
    let of = |phase, fault: &SqlFault| {
        awaiting
            .in_doubt(ControlState { epoch: 1, phase }, WriteId(1), fault.clone())
            .must_see
            .map(|it| *it)
    };
    assert_eq!(of(Phase::Shift, &lost), Some(Token::of(WriteId(1))));
    assert_eq!(of(Phase::ShadowRead, &lost), None);
    let named = SqlFault { must_see: Some(Box::new(Token::of(WriteId(1)))), ..lost.clone() };
    assert_eq!(of(Phase::ShadowRead, &named), None, "whoever named it");
    assert_eq!(of(Phase::Shift, &away()), None, "it was surely not applied");
}
