//! Many calls on one stream: the scenarios of the other calls, and what only a stream can do.

use std::collections::HashMap;
use std::time::Duration;

use segue::grpc::proto::pipeline_request::Call;
use segue::grpc::proto::pipeline_response::Answer;
use segue::grpc::proto::{self, value::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::pb;

use crate::calls::{
    Bench, Sql, batch, client, detail_of, execute, execute_with, keyed, query, rows, text,
};
use crate::support::eventually;

const LIMIT: Duration = Duration::from_secs(30);

struct Pipeline {
    requests: mpsc::UnboundedSender<proto::PipelineRequest>,
    answers: Streaming<proto::PipelineResponse>,
    last_id: u64,
}

impl Pipeline {
    async fn open(sql: &mut Sql) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let answers = sql.pipeline(UnboundedReceiverStream::new(receiver)).await.unwrap();
        Self { requests, answers: answers.into_inner(), last_id: 0 }
    }

    fn send(&mut self, call: Call) -> u64 {
        self.send_within(call, 0)
    }

    fn send_within(&mut self, call: Call, timeout_ms: u64) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let call = Some(call);
        let timeout =
            (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms).try_into().unwrap());
        let request = proto::PipelineRequest { id, timeout, call, ..Default::default() };
        self.requests.send(request).unwrap();
        id
    }

    async fn next(&mut self) -> Result<(u64, Answer), Status> {
        let next = tokio::time::timeout(LIMIT, self.answers.message()).await.expect("an answer");
        let response = next?.expect("the stream goes on");
        Ok((response.id, response.answer.unwrap()))
    }

    /// Makes one call and waits for it.
    async fn call(&mut self, call: Call) -> Answer {
        let id = self.send(call);
        let (answered, answer) = self.next().await.unwrap();
        assert_eq!(answered, id);
        answer
    }

    async fn values(&mut self, sql: &str, params: Vec<Kind>) -> Vec<Vec<Kind>> {
        match self.call(Call::Query(query(sql, params))).await {
            Answer::Query(part) => values(&part),
            other => panic!("{sql}: {other:?}"),
        }
    }

    async fn failure(&mut self, call: Call) -> pb::Status {
        failure(self.call(call).await)
    }
}

fn values(part: &proto::QueryResponse) -> Vec<Vec<Kind>> {
    let rows = part.typed_rows();
    let kinds = |row: proto::Row| row.values.into_iter().map(|v| v.kind.unwrap()).collect();
    rows.into_iter().map(kinds).collect()
}

fn failure(answer: Answer) -> pb::Status {
    match answer {
        Answer::Status(failure) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

fn reason(failure: &pb::Status) -> (Code, String) {
    (failure.code.into(), detail_of(failure).reason)
}

#[tokio::test]
async fn every_call_does_what_it_does_alone() {
    let mut bench = Bench::new("").await;
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    let insert = execute_with("INSERT INTO note VALUES (1, $1)", vec![text("ä")]);
    let Answer::Execute(written) = pipeline.call(Call::Execute(insert)).await else { panic!() };
    assert_eq!((written.affected_rows(), written.write_id.is_empty()), (1, false));
    let Answer::Query(part) =
        pipeline.call(Call::Query(query("SELECT id, body FROM note", vec![]))).await
    else {
        panic!()
    };
    let header = part.header.as_ref().expect("a short answer has all in one part");
    assert_eq!(header.columns[1].type_name, "text");
    assert_eq!(part.footer.as_ref().unwrap().row_count, 1);
    assert_eq!(values(&part), [[Kind::Int64(1), text("ä")]]);
    let packed = proto::QueryRequest {
        encoding: proto::Encoding::Packed.into(),
        ..query("SELECT id FROM note", vec![])
    };
    let Answer::Query(part) = pipeline.call(Call::Query(packed)).await else { panic!() };
    assert_eq!(part.packed_rows().unwrap().cells.as_ref(), [0, 0, 0, 4, 0, 0, 0, 1]);
    assert!(pipeline.values("SELECT 1 FROM note WHERE false", vec![]).await.is_empty());

    let two = batch(&["INSERT INTO note VALUES (2, 'b')", "UPDATE note SET body = 'c'"]);
    let Answer::Batch(done) = pipeline.call(Call::Batch(two)).await else { panic!() };
    let affected: Vec<_> = done.results.iter().map(|item| item.affected_rows).collect();
    assert_eq!(affected, [1, 2]);
    for replayed in [false, true] {
        let once = keyed("INSERT INTO note VALUES (3, 'd') RETURNING id", "once");
        let Answer::Execute(answer) = pipeline.call(Call::Execute(once)).await else { panic!() };
        assert_eq!((answer.already_applied, answer.affected_rows()), (replayed, 1));
    }
    assert_eq!(bench.notes().await, ["1|c", "2|c", "3|d"]);
}

#[tokio::test]
async fn transactions_span_calls_of_a_pipeline() {
    let mut bench = Bench::new("").await;
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    for (id, commits) in [(1, true), (2, false)] {
        let Answer::Begin(begun) = pipeline.call(Call::Begin(Default::default())).await else {
            panic!()
        };
        let transaction_id = begun.transaction_id;
        let insert = proto::ExecuteRequest {
            transaction: proto::TransactionSelector::open(transaction_id.clone()),
            ..execute(&format!("INSERT INTO note VALUES ({id}, 'a')"))
        };
        assert!(matches!(pipeline.call(Call::Execute(insert)).await, Answer::Execute(_)));
        let seen = proto::QueryRequest {
            transaction: proto::TransactionSelector::open(transaction_id.clone()),
            ..query("SELECT count(*) FROM note WHERE id = $1", vec![Kind::Int64(id)])
        };
        let Answer::Query(part) = pipeline.call(Call::Query(seen)).await else { panic!() };
        assert_eq!(values(&part), [[Kind::Int64(1)]]);
        if commits {
            let commit =
                Call::Commit(proto::CommitRequest { transaction_id, ..Default::default() });
            assert!(matches!(pipeline.call(commit).await, Answer::Commit(_)));
        } else {
            let rollback = Call::Rollback(proto::RollbackRequest { transaction_id });
            assert!(matches!(pipeline.call(rollback).await, Answer::Rollback(_)));
        }
    }
    assert_eq!(bench.notes().await, ["1|a"]);
}

#[tokio::test]
async fn answers_come_when_they_are_ready() {
    let mut bench = Bench::new("").await;
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    let slow = pipeline.send(Call::Query(query("SELECT pg_sleep(2)", vec![])));
    let mut quick = HashMap::new();
    for number in 0..200 {
        let call = Call::Query(query("SELECT $1::int8", vec![Kind::Int64(number)]));
        quick.insert(pipeline.send(call), number);
    }
    while !quick.is_empty() {
        let (id, answer) = pipeline.next().await.unwrap();
        assert_ne!(id, slow, "{} quick ones have not been answered", quick.len());
        let number = quick.remove(&id).expect("each is answered once");
        let Answer::Query(part) = answer else { panic!("{answer:?}") };
        assert_eq!(values(&part), [[Kind::Int64(number)]]);
    }
    assert_eq!(pipeline.next().await.unwrap().0, slow);
}

#[tokio::test]
async fn a_failure_is_that_of_one_call() {
    let mut bench = Bench::new("").await;
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    let failed = pipeline.failure(Call::Query(query("SELECT nope", vec![]))).await;
    assert_eq!(reason(&failed), (Code::InvalidArgument, "".to_owned()));
    let error = detail_of(&failed);
    assert_eq!((error.sqlstate.as_str(), error.side()), ("42703", proto::Side::Source));
    pipeline.call(Call::Execute(execute("INSERT INTO note VALUES (1, 'a')"))).await;
    let again = Call::Execute(execute("INSERT INTO note VALUES (1, 'a')"));
    let failed = pipeline.failure(again).await;
    assert_eq!(reason(&failed).0, Code::AlreadyExists);
    let failed = pipeline.failure(Call::Query(query("DROP TABLE note", vec![]))).await;
    assert_eq!(reason(&failed), (Code::FailedPrecondition, "refused.ddl".to_owned()));
    let failed = pipeline.failure(Call::Query(Default::default())).await;
    assert_eq!(reason(&failed), (Code::InvalidArgument, "invalid.statement".to_owned()));
    let strange = proto::QueryRequest { encoding: 7, ..query("SELECT 1", vec![]) };
    let failed = pipeline.failure(Call::Query(strange)).await;
    assert_eq!(reason(&failed), (Code::InvalidArgument, "invalid.encoding".to_owned()));
    let unknown = proto::CommitRequest { transaction_id: "0".repeat(32), ..Default::default() };
    let failed = pipeline.failure(Call::Commit(unknown)).await;
    assert_eq!(reason(&failed).0, Code::NotFound);
    assert_eq!(pipeline.values("SELECT 1", vec![]).await, [[Kind::Int64(1)]]);
}

#[tokio::test]
async fn one_call_is_cancelled_or_ends_at_its_deadline() {
    let mut bench = Bench::new("").await;
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    let late = Call::Query(query("SELECT pg_sleep(60)", vec![]));
    let late = pipeline.send_within(late, 300);
    let slow = pipeline.send(Call::Query(query("SELECT pg_sleep(61)", vec![])));
    let insert = "INSERT INTO note SELECT 1, 'x' FROM pg_sleep(62)";
    let write = pipeline.send(Call::Execute(execute(insert)));
    let (id, answer) = pipeline.next().await.unwrap();
    assert_eq!((id, reason(&failure(answer)).0), (late, Code::DeadlineExceeded));
    for id in [slow, write] {
        let call = Some(Call::Cancel(proto::Cancel {}));
        pipeline.requests.send(proto::PipelineRequest { id, call, ..Default::default() }).unwrap();
        let (answered, answer) = pipeline.next().await.unwrap();
        assert_eq!((answered, reason(&failure(answer)).0), (id, Code::Cancelled));
    }
    // Cancelling what has been answered does nothing.
    let call = Some(Call::Cancel(proto::Cancel {}));
    let cancel = proto::PipelineRequest { id: slow, call, ..Default::default() };
    pipeline.requests.send(cancel).unwrap();
    assert_eq!(pipeline.values("SELECT 1", vec![]).await, [[Kind::Int64(1)]]);
    nothing_runs(&bench).await;
    assert!(bench.notes().await.is_empty());
}

async fn nothing_runs(bench: &Bench) {
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND state = 'active' AND query LIKE '%pg_sleep(6%' AND pid <> pg_backend_pid()";
    eventually("nothing runs any more", LIMIT, || async {
        (bench.pair.source.rows(running).await == ["0"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_answered_ends_the_stream() {
    let mut bench = Bench::new("").await;
    let sleeping = Call::Query(query("SELECT pg_sleep(60)", vec![]));
    let repeated = proto::PipelineRequest { id: 1, call: Some(sleeping), ..Default::default() };
    let empty = proto::PipelineRequest { id: 2, ..Default::default() };
    for second in [repeated.clone(), empty] {
        let mut pipeline = Pipeline::open(&mut bench.sql).await;
        pipeline.requests.send(repeated.clone()).unwrap();
        pipeline.requests.send(second).unwrap();
        let status = pipeline.next().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        nothing_runs(&bench).await;
    }
    assert_eq!(rows(&mut bench.sql, query("SELECT 1", vec![])).await.unwrap().len(), 1);
}

#[tokio::test]
async fn calls_above_the_limit_fail_at_once() {
    let mut bench = Bench::new("").await;
    let info = bench.sql.info(proto::InfoRequest {}).await.unwrap().into_inner();
    let limit = u64::from(info.limits.unwrap().max_pipeline_calls);
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    for _ in 0..limit + 5 {
        pipeline.send_within(Call::Query(query("SELECT pg_sleep(60)", vec![])), 50_000);
    }
    let mut refused = Vec::new();
    while refused.len() < 5 {
        let (id, answer) = pipeline.next().await.unwrap();
        let failed = failure(answer);
        // Some may have waited in vain for a connection by then.
        if reason(&failed) == (Code::ResourceExhausted, "limit.pipeline_calls".to_owned()) {
            assert!(failed.details[2].type_url.ends_with("google.rpc.RetryInfo"));
            refused.push(id);
        }
    }
    assert!(refused.iter().all(|id| *id > limit), "{refused:?}");
    drop(pipeline);
    nothing_runs(&bench).await;
}

#[tokio::test]
async fn a_caller_who_does_not_read_keeps_nobody_waiting() {
    const CALLS: usize = 400;
    let mut bench = Bench::new("").await;
    let wide = "SELECT repeat('x', 1000) FROM generate_series(1, 50)";
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    for _ in 0..CALLS {
        pipeline.send(Call::Query(query(wide, vec![])));
    }
    let mut other = client(&bench.segue).await;
    for _ in 0..200 {
        rows(&mut other, query("SELECT 1", vec![])).await.unwrap();
    }
    let megabytes = bench.segue.memory_kb() / 1024;
    assert!(megabytes < 400, "{megabytes} MB");
    for _ in 0..CALLS {
        let (_, answer) = pipeline.next().await.unwrap();
        let Answer::Query(part) = answer else { panic!("{answer:?}") };
        assert_eq!(values(&part).len(), 50);
    }
}

#[tokio::test]
async fn a_long_answer_comes_in_parts_among_others() {
    let mut bench = Bench::new("").await;
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    let long =
        pipeline.send(Call::Query(query("SELECT i FROM generate_series(1, 200000) i", vec![])));
    let (mut parts, mut found) = (0, Vec::new());
    loop {
        let (id, answer) = pipeline.next().await.unwrap();
        assert_eq!(id, long);
        let Answer::Query(part) = answer else { panic!("{answer:?}") };
        assert_eq!(part.header.is_some(), parts == 0);
        found.extend(values(&part));
        parts += 1;
        if let Some(footer) = part.footer {
            assert_eq!(footer.row_count, 200_000);
            break;
        }
    }
    assert!(parts > 2);
    let expected: Vec<_> = (1..=200_000).map(|i| vec![Kind::Int64(i)]).collect();
    assert!(found == expected, "{} rows", found.len());
}

#[tokio::test]
async fn a_closed_stream_leaves_no_half_of_a_write() {
    let mut bench = Bench::new("").await;
    for round in 0..4 {
        let mut pipeline = Pipeline::open(&mut bench.sql).await;
        let (first, second) = (2 * round, 2 * round + 1);
        let first = format!("INSERT INTO note VALUES ({first}, 'a')");
        let second = format!("INSERT INTO note SELECT {second}, 'b' FROM pg_sleep(0.06)");
        pipeline.send(Call::Batch(batch(&[&first, &second])));
        tokio::time::sleep(Duration::from_millis(20 * round)).await;
        drop(pipeline);
        let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND state <> 'idle' AND pid <> pg_backend_pid() AND query LIKE '%note%'";
        eventually("the write has ended", LIMIT, || async {
            (bench.pair.source.rows(running).await == ["0"]).then_some(())
        })
        .await;
        let there = format!("SELECT count(*) FROM note WHERE id / 2 = {round}");
        let there = bench.pair.source.rows(&there).await;
        assert_ne!(there, ["1"]);
    }
}

#[tokio::test]
async fn the_end_of_the_requests_is_the_end_of_the_stream() {
    let mut bench = Bench::new("").await;
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    pipeline.send(Call::Query(query("SELECT pg_sleep(0.2)", vec![])));
    let (requests, _) = mpsc::unbounded_channel();
    drop(std::mem::replace(&mut pipeline.requests, requests));
    assert!(matches!(pipeline.next().await.unwrap(), (1, Answer::Query(_))));
    assert!(pipeline.answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_shutdown_answers_what_was_begun() {
    let mut bench = Bench::new("").await;
    let mut pipeline = Pipeline::open(&mut bench.sql).await;
    assert_eq!(pipeline.values("SELECT 1", vec![]).await.len(), 1);
    let insert = "INSERT INTO note SELECT 1, 'x' FROM pg_sleep(1)";
    let id = pipeline.send(Call::Execute(execute(insert)));
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1)%' \
        AND datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()";
    eventually("the write runs", LIMIT, || async {
        (bench.pair.source.rows(sleeping).await == ["1"]).then_some(())
    })
    .await;
    let answers = async {
        let (answered, answer) = pipeline.next().await.unwrap();
        assert!(answered == id && matches!(answer, Answer::Execute(_)), "{answer:?}");
        assert_eq!(pipeline.next().await.unwrap_err().code(), Code::Unavailable);
    };
    let (well, ()) = tokio::join!(bench.segue.terminate(), answers);
    assert!(well);
    assert_eq!(bench.notes().await, ["1|x"]);
}
