//! Transactions whose first call begins and whose last call commits.

use std::time::Duration;

use segue::grpc::proto::pipeline_request::Call;
use segue::grpc::proto::pipeline_response::Answer;
use segue::grpc::proto::{self, Outcome, TransactionSelector as Selector, value::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status};

use crate::calls::{Bench, batch, detail, execute, parts, query, rows};
use crate::support::eventually;

const WAIT: Duration = Duration::from_secs(20);

fn begin() -> Selector {
    Selector::begin(proto::TransactionOptions::default())
}

fn commit(id: &str) -> Selector {
    Selector::open(id).unwrap().and_commit()
}

fn execute_in(selector: &Selector, sql: &str) -> proto::ExecuteRequest {
    proto::ExecuteRequest { transaction: Some(selector.clone()), ..execute(sql) }
}

fn query_in(selector: &Selector, sql: &str) -> proto::QueryRequest {
    proto::QueryRequest { transaction: Some(selector.clone()), ..query(sql, vec![]) }
}

fn batch_in(selector: &Selector, sql: &[&str]) -> proto::BatchRequest {
    proto::BatchRequest { transaction: Some(selector.clone()), ..batch(sql) }
}

/// Begins a transaction by a write, and gives its id.
async fn begun(bench: &mut Bench, sql: &str) -> String {
    let answer = bench.sql.execute(execute_in(&begin(), sql)).await.unwrap().into_inner();
    assert!(answer.write_id.is_empty(), "nothing is committed yet");
    assert_eq!(answer.transaction_id.len(), 32);
    answer.transaction_id
}

/// Transactions of callers that are open at the server.
async fn open(bench: &Bench) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND pid <> pg_backend_pid() AND xact_start IS NOT NULL \
        AND (state LIKE 'idle in transaction%' OR query LIKE '%pg_sleep(6%')";
    bench.pair.source.rows(sql).await[0].parse().unwrap()
}

async fn none_is_open(bench: &Bench, after: &str) {
    eventually(&format!("no transaction is open after {after}"), WAIT, || async {
        (open(bench).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_statements_in_a_transaction_are_two_calls() {
    let mut bench = Bench::new("").await;
    let id = begun(&mut bench, "INSERT INTO note VALUES (1, 'a')").await;
    assert!(bench.notes().await.is_empty(), "nobody sees it yet");
    let last = execute_in(&commit(&id), "INSERT INTO note VALUES (2, 'b')");
    let done = bench.sql.execute(last).await.unwrap().into_inner();
    assert_eq!((done.affected_rows(), done.transaction_id.as_str()), (1, ""));
    assert_eq!(bench.notes().await, ["1|a", "2|b"]);
    let named = "SELECT DISTINCT write_id::text FROM segue.outbox";
    assert_eq!(bench.pair.source.rows(named).await, [done.write_id]);
    eventually("the target follows", WAIT, || async {
        (bench.pair.target.rows("SELECT id FROM note ORDER BY id").await == ["1", "2"])
            .then_some(())
    })
    .await;
    let again = bench.sql.execute(execute_in(&commit(&id), "DELETE FROM note")).await;
    assert_eq!(again.unwrap_err().code(), Code::NotFound, "it has ended");
}

#[tokio::test]
async fn reads_and_batches_begin_and_commit_as_well() {
    let mut bench = Bench::new("").await;
    let first = parts(&mut bench.sql, query_in(&begin(), "SELECT 1")).await.unwrap().remove(0);
    let id = first.header.unwrap().transaction_id;
    let footer = first.footer.unwrap();
    assert_eq!((id.len(), footer.write_id.as_str()), (32, ""));
    let open = Selector::open(&*id).unwrap();
    let two = ["INSERT INTO note VALUES (1, 'a')", "INSERT INTO note VALUES (2, 'b')"];
    let done = bench.sql.batch(batch_in(&open, &two)).await.unwrap().into_inner();
    assert_eq!((done.results.len(), done.write_id.as_str()), (2, ""));
    assert!(bench.notes().await.is_empty(), "nobody sees it yet");
    // The commit comes after the last row, and the footer after the commit.
    let many = "SELECT i FROM generate_series(1, 50000) i, note WHERE note.id = 1";
    let answer = parts(&mut bench.sql, query_in(&commit(&id), many)).await.unwrap();
    assert!(answer.len() > 1 && answer[0].header.as_ref().unwrap().transaction_id.is_empty());
    let footer = answer.last().unwrap().footer.as_ref().unwrap();
    assert_eq!((footer.row_count, footer.write_id.len()), (50_000, 36));
    assert_eq!(bench.notes().await, ["1|a", "2|b"]);

    // All in one call.
    let options = proto::TransactionOptions {
        isolation: proto::Isolation::Serializable.into(),
        ..Default::default()
    };
    let whole = Selector::begin(options).and_commit();
    let shown = rows(&mut bench.sql, query_in(&whole, "SHOW transaction_isolation")).await.unwrap();
    assert_eq!(shown, [[Kind::Text("serializable".to_owned())]]);
    let three = ["INSERT INTO note VALUES (3, 'c')", "DELETE FROM note WHERE id = 1"];
    let done = bench.sql.batch(batch_in(&whole, &three)).await.unwrap().into_inner();
    assert_eq!((done.write_id.len(), done.transaction_id.as_str()), (36, ""));
    let four = execute_in(&whole, "INSERT INTO note VALUES (4, 'd') RETURNING id");
    let done = bench.sql.execute(four).await.unwrap().into_inner();
    assert_eq!((done.typed_rows().len(), done.write_id.len()), (1, 36));
    assert_eq!(bench.notes().await, ["2|b", "3|c", "4|d"]);
    none_is_open(&bench, "all in one call").await;
}

/// Each way in which the statement of a call can fail.
async fn failures(bench: &mut Bench, selector: &Selector, way: usize) -> Option<Status> {
    let of_execute = |sql: &str| execute_in(selector, sql);
    let late = "SELECT 1 / (20000 - i), repeat('x', 100) FROM generate_series(1, 30000) i";
    let bad = Some(proto::Statement {
        params: vec![proto::Value { kind: None }],
        ..execute("INSERT INTO note VALUES ($1, 'x')").statement.unwrap()
    });
    let sleep = "INSERT INTO note SELECT 7, 'x' FROM pg_sleep(60)";
    Some(match way {
        0 => bench.sql.execute(of_execute("INSERT INTO note VALUES (0, 'again')")).await.err()?,
        1 => bench.sql.execute(of_execute("DROP TABLE note")).await.err()?,
        2 => bench.sql.execute(of_execute("SELECT nope")).await.err()?,
        3 => {
            let request = proto::ExecuteRequest { statement: bad, ..of_execute("SELECT 1") };
            bench.sql.execute(request).await.err()?
        }
        4 => {
            let mut request = of_execute("INSERT INTO note VALUES (7, 'x')");
            request.idempotency_key = "key".to_owned();
            bench.sql.execute(request).await.err()?
        }
        5 => parts(&mut bench.sql, query_in(selector, "SELECT nope")).await.err()?,
        6 => parts(&mut bench.sql, query_in(selector, late)).await.err()?,
        7 => parts(&mut bench.sql, query_in(selector, "DELETE FROM note")).await.err()?,
        8 => {
            let two = ["INSERT INTO note VALUES (7, 'x')", "INSERT INTO note VALUES (0, 'again')"];
            bench.sql.batch(batch_in(selector, &two)).await.err()?
        }
        9 => {
            let mut request = Request::new(of_execute(sleep));
            request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
            bench.sql.execute(request).await.err()?
        }
        10 => {
            let mut request = of_execute("SELECT 1");
            request.consistency_tokens = vec!["nonsense".to_owned()];
            bench.sql.execute(request).await.err()?
        }
        11 => {
            let wide = "INSERT INTO note SELECT i, repeat('x', 1000) \
                FROM generate_series(100, 20100) i RETURNING body";
            bench.sql.execute(of_execute(wide)).await.err()?
        }
        _ => return None,
    })
}
const WAYS: usize = 12;

#[tokio::test]
async fn a_call_that_begins_and_fails_leaves_no_transaction_open() {
    let mut bench = Bench::new("").await;
    bench.sql.execute(execute("INSERT INTO note VALUES (0, '')")).await.unwrap();
    for selector in [begin(), begin().and_commit()] {
        for way in 0..WAYS {
            let status = failures(&mut bench, &selector, way).await;
            let status = status.unwrap_or_else(|| panic!("way {way} succeeded"));
            // A deadline of the client's own says nothing.
            if !status.details().is_empty() {
                assert_eq!(detail(&status).outcome(), Outcome::NotApplied, "{way}: {status:?}");
            }
            none_is_open(&bench, &format!("way {way}: {status:?}")).await;
            assert_eq!(bench.notes().await, ["0|"], "way {way}");
        }
    }
}

#[tokio::test]
async fn a_call_that_commits_and_fails_rolls_the_transaction_back() {
    let mut bench = Bench::new("").await;
    bench.sql.execute(execute("INSERT INTO note VALUES (0, '')")).await.unwrap();
    for way in 0..WAYS {
        let id = begun(&mut bench, "INSERT INTO note VALUES (1, 'a')").await;
        let status = failures(&mut bench, &commit(&id), way).await;
        let status = status.unwrap_or_else(|| panic!("way {way} succeeded"));
        if !status.details().is_empty() {
            assert_eq!(detail(&status).outcome(), Outcome::NotApplied, "{way}: {status:?}");
        }
        none_is_open(&bench, &format!("way {way}: {status:?}")).await;
        assert_eq!(bench.notes().await, ["0|"], "way {way}");
        let after = Selector::open(id).unwrap();
        let after = bench.sql.execute(execute_in(&after, "SELECT 1")).await.unwrap_err();
        assert_eq!(after.code(), Code::NotFound, "way {way}: {after:?}");
    }
}

#[tokio::test]
async fn what_fails_at_the_commit_itself_is_not_applied() {
    let mut bench = Bench::new("").await;
    let orphan = "INSERT INTO child VALUES (1, 99)";
    let id = begun(&mut bench, "INSERT INTO note VALUES (1, 'a')").await;
    let statuses = [
        bench.sql.execute(execute_in(&commit(&id), orphan)).await.unwrap_err(),
        bench.sql.execute(execute_in(&begin().and_commit(), orphan)).await.unwrap_err(),
    ];
    let id = begun(&mut bench, orphan).await;
    let late = parts(&mut bench.sql, query_in(&commit(&id), "SELECT 1")).await.unwrap_err();
    for status in statuses.into_iter().chain([late]) {
        let error = detail(&status);
        assert_eq!((error.sqlstate.as_str(), error.outcome()), ("23503", Outcome::NotApplied));
    }
    assert!(bench.notes().await.is_empty());
    none_is_open(&bench, "a failed commit").await;
}

#[tokio::test]
async fn a_transaction_that_failed_before_is_not_committed_by_its_last_call() {
    let mut bench = Bench::new("").await;
    let id = begun(&mut bench, "INSERT INTO note VALUES (1, 'a')").await;
    let again = execute_in(&Selector::open(&*id).unwrap(), "INSERT INTO note VALUES (1, 'a')");
    bench.sql.execute(again).await.unwrap_err();
    let last = execute_in(&commit(&id), "INSERT INTO note VALUES (2, 'b')");
    let status = bench.sql.execute(last).await.unwrap_err();
    assert_eq!(detail(&status).outcome(), Outcome::NotApplied, "{status:?}");
    assert!(bench.notes().await.is_empty());
    none_is_open(&bench, "it").await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_to_its_footer_leaves_no_transaction_open() {
    let mut bench = Bench::new("").await;
    let long = "SELECT i, repeat('x', 1000) FROM generate_series(1, 60000) i";
    for selector in [begin(), begin().and_commit()] {
        let mut stream = bench.sql.query(query_in(&selector, long)).await.unwrap().into_inner();
        stream.message().await.unwrap().expect("a first part");
        drop(stream);
        none_is_open(&bench, "a dropped answer").await;
    }
    let id = begun(&mut bench, "INSERT INTO note VALUES (1, 'a')").await;
    let mut stream = bench.sql.query(query_in(&commit(&id), long)).await.unwrap().into_inner();
    stream.message().await.unwrap().expect("a first part");
    drop(stream);
    none_is_open(&bench, "a dropped answer").await;
    assert!(bench.notes().await.is_empty());
}

#[tokio::test]
async fn a_cancelled_call_or_a_lost_pipeline_leaves_no_transaction_open() {
    let mut bench = Bench::new("").await;
    let sleep = "INSERT INTO note SELECT 1, 'x' FROM pg_sleep(60)";
    for cancels in [true, false] {
        let (requests, receiver) = mpsc::unbounded_channel();
        let answers = bench.sql.pipeline(UnboundedReceiverStream::new(receiver)).await.unwrap();
        let mut answers = answers.into_inner();
        for (id, selector) in [(1, begin()), (2, begin().and_commit())] {
            let call = Some(Call::Execute(execute_in(&selector, sleep)));
            requests.send(proto::PipelineRequest { id, call, ..Default::default() }).unwrap();
        }
        eventually("both run", WAIT, || async { (open(&bench).await == 2).then_some(()) }).await;
        if cancels {
            for id in [1, 2] {
                let call = Some(Call::Cancel(proto::Cancel {}));
                requests.send(proto::PipelineRequest { id, call, ..Default::default() }).unwrap();
                let answer = answers.message().await.unwrap().unwrap().answer.unwrap();
                let Answer::Status(status) = answer else { panic!("{answer:?}") };
                assert_eq!(Code::from(status.code), Code::Cancelled);
            }
        }
        drop((requests, answers));
        none_is_open(&bench, "the end of the pipeline").await;
    }
    assert!(bench.notes().await.is_empty());
}

#[tokio::test]
async fn a_call_that_commits_beside_another_one_changes_nothing() {
    let mut bench = Bench::new("").await;
    let id = begun(&mut bench, "INSERT INTO note VALUES (1, 'a')").await;
    let open = Selector::open(&*id).unwrap();
    let long = "SELECT i, repeat('x', 1000) FROM generate_series(1, 60000) i";
    let mut stream = bench.sql.query(query_in(&open, long)).await.unwrap().into_inner();
    stream.message().await.unwrap().expect("a first part");
    let last = execute_in(&commit(&id), "INSERT INTO note VALUES (2, 'b')");
    let status = bench.sql.execute(last.clone()).await.unwrap_err();
    assert_eq!(detail(&status).reason, "transaction.in_use", "{status:?}");
    while let Some(part) = stream.message().await.unwrap() {
        assert!(!part.typed_rows().is_empty() || part.footer.is_some());
    }
    bench.sql.execute(last).await.unwrap();
    assert_eq!(bench.notes().await, ["1|a", "2|b"]);
}

#[tokio::test]
async fn a_selector_of_nothing_is_refused() {
    let mut bench = Bench::new("").await;
    let nothing = Selector { selector: None, commit: true };
    let status = bench.sql.execute(execute_in(&nothing, "SELECT 1")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(detail(&status).reason, "invalid.transaction_selector");
    let options = proto::TransactionOptions {
        idle_timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        ..Default::default()
    };
    let status = bench.sql.execute(execute_in(&Selector::begin(options), "SELECT 1")).await;
    assert_eq!(detail(&status.unwrap_err()).reason, "invalid.duration");
    let read_only = proto::TransactionOptions { read_only: true, ..Default::default() };
    let write = execute_in(&Selector::begin(read_only), "INSERT INTO note VALUES (1, 'a')");
    let status = bench.sql.execute(write).await.unwrap_err();
    assert_eq!(detail(&status).sqlstate, "25006");
    none_is_open(&bench, "refusals").await;
}
