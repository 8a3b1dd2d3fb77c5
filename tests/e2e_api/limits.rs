//! Limits: what passes them fails and says which, and the service goes on.

use std::time::Duration;

use tonic::Code;

use crate::calls::{Bench, detail, execute, execute_with, query, rows, statement, text};
use crate::support::eventually;
use segue::grpc::proto::{self, value::Kind};

const LIMIT: Duration = Duration::from_secs(60);
/// Of the process itself in a test's build, and the copies of what answers hold, 16 MiB together, on
/// its way from the driver to the transport. Without a limit it is 430,000.
const PEAK_MAX_KB: u64 = 300_000;

#[tokio::test]
async fn results_requests_and_parameters_have_limits() {
    let sections = "[limits]\nresult_rows_max = 1000\nresult_bytes_max = \"1MiB\"\n\
                    request_bytes_max = \"2MiB\"\nparameters_max = 12000\nbatch_statements_max = 3";
    let mut bench = Bench::new(sections).await;
    // Passed after the first rows have gone out: the stream fails, it is not cut.
    for sql in
        ["SELECT generate_series(1, 1001)", "SELECT repeat('x', 300000) FROM generate_series(1, 4)"]
    {
        let status = rows(&mut bench.sql, query(sql, vec![])).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{sql}: {status:?}");
        let error = detail(&status);
        assert_eq!(error.reason, "limit.answer");
        assert!(error.hint.contains("LIMIT"), "{error:?}");
    }
    assert_eq!(
        rows(&mut bench.sql, query("SELECT generate_series(1, 1000)", vec![])).await.unwrap().len(),
        1000
    );
    let returning = "INSERT INTO note SELECT i, '' FROM generate_series(1, 1001) AS i RETURNING id";
    let status = bench.sql.execute(execute(returning)).await.unwrap_err();
    assert_eq!(detail(&status).outcome(), proto::Outcome::NotApplied);
    assert!(bench.notes().await.is_empty());

    let list: Vec<_> = (1..=10_000).map(|i| format!("(${i}::int8)")).collect();
    let sum = format!("SELECT sum(x)::int8 FROM (VALUES {}) AS v (x)", list.join(","));
    let ones = vec![Kind::Int64(1); 10_000];
    let found = rows(&mut bench.sql, query(&sum, ones)).await.unwrap();
    assert_eq!(found, [[Kind::Int64(10_000)]]);
    let status = rows(&mut bench.sql, query("SELECT $1", vec![Kind::Null(0); 12_001])).await;
    assert_eq!(detail(&status.unwrap_err()).reason, "limit.parameters");

    let long = format!("SELECT '{}'", "x".repeat(3 << 20));
    let status = rows(&mut bench.sql, query(&long, vec![])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let error = detail(&status);
    assert_eq!(
        (error.reason.as_str(), error.outcome()),
        ("limit.request_bytes", proto::Outcome::NotApplied)
    );
    assert!(error.message.contains("2097152") && error.hint.contains("request_bytes_max"));
    let long = format!("INSERT INTO note VALUES (1, '{}')", "x".repeat(3 << 20));
    let status = bench.sql.execute(execute(&long)).await.unwrap_err();
    assert_eq!(detail(&status).reason, "limit.request_bytes", "{status:?}");
    assert!(bench.notes().await.is_empty());
    let four = proto::BatchRequest {
        statements: vec![statement("DELETE FROM note", vec![]); 4],
        ..Default::default()
    };
    let status = bench.sql.batch(four).await.unwrap_err();
    assert_eq!(detail(&status).reason, "limit.batch_statements");
    let info = bench.sql.info(proto::InfoRequest {}).await.unwrap().into_inner().limits.unwrap();
    assert_eq!((info.max_result_rows, info.max_parameters), (1000, 12_000));
    assert_eq!(info.max_request_bytes, 2 << 20);
}

#[tokio::test]
async fn exhausted_connections_are_unavailable_and_come_back() {
    let sections = "[transactions]\nopen_max = 2\n";
    let mut bench = Bench::with_pool(3, "300ms", sections).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let begun = bench.sql.begin(proto::BeginRequest::default()).await.unwrap();
        open.push(begun.into_inner().transaction_id);
    }
    // Transactions that are open leave room for other writes, and none for a third.
    bench.sql.execute(execute("INSERT INTO note VALUES (7, 'g')")).await.unwrap();
    let status = bench.sql.begin(proto::BeginRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(detail(&status).reason, "limit.transactions");
    // A write that waits for a transaction's lock has the last connection.
    let held = proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(open[0].clone()),
        ..execute("UPDATE note SET body = 'h' WHERE id = 7")
    };
    bench.sql.execute(held).await.unwrap();
    let mut waiting = bench.sql.clone();
    let waiting =
        tokio::spawn(
            async move { waiting.execute(execute("DELETE FROM note WHERE id = 7")).await },
        );
    eventually("the write waits", std::time::Duration::from_secs(20), || async {
        let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
             AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM note%'";
        (!bench.pair.source.rows(waits).await.is_empty()).then_some(())
    })
    .await;
    let status = bench.sql.execute(execute("INSERT INTO note VALUES (1, 'a')")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let error = detail(&status);
    assert_eq!((error.reason.as_str(), error.retryable), ("unavailable.pool_wait", true));
    assert_eq!(error.outcome(), proto::Outcome::NotApplied);
    assert_eq!(bench.notes().await.len(), 1);
    // Reads have connections of their own.
    rows(&mut bench.sql, query("SELECT 1", vec![])).await.unwrap();
    for id in open {
        bench.sql.rollback(proto::RollbackRequest { transaction_id: id }).await.unwrap();
    }
    waiting.await.unwrap().unwrap();
    bench.sql.execute(execute("INSERT INTO note VALUES (1, 'a')")).await.unwrap();
}

#[tokio::test]
async fn transactions_wait_their_turn() {
    let bench = Bench::with_pool(2, "20s", "[transactions]\nopen_max = 1\n").await;
    let all = (0..8).map(|id| {
        let mut sql = bench.sql.clone();
        async move {
            let begun = sql.begin(proto::BeginRequest::default()).await?.into_inner();
            let insert = execute(&format!("INSERT INTO note VALUES ({id}, 'a')"));
            let transaction_id = begun.transaction_id;
            sql.execute(proto::ExecuteRequest {
                transaction: proto::TransactionSelector::open(transaction_id.clone()),
                ..insert
            })
            .await?;
            sql.commit(proto::CommitRequest { transaction_id, ..Default::default() }).await
        }
    });
    for done in futures_util::future::join_all(all).await {
        done.unwrap();
    }
    assert_eq!(bench.notes().await.len(), 8);
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let source = crate::support::Server::start(crate::support::Major::V15, &Default::default());
    let target = crate::support::shared(crate::support::Major::V18);
    let schema = crate::calls::SCHEMA;
    let pair = crate::support::Pair::within(&source, target, schema, schema).await;
    let segue = crate::support::Segue::serving(&pair, "dual_write", "").await;
    let mut sql = crate::calls::client(&segue).await;
    for id in 0..4 {
        let insert =
            execute_with("INSERT INTO note VALUES ($1, $2)", vec![Kind::Int64(id), text("a")]);
        sql.execute(insert).await.unwrap();
        rows(&mut sql, query("SELECT 1", vec![])).await.unwrap();
    }
    source.stop_fast();
    let status = sql.execute(execute("INSERT INTO note VALUES (10, 'a')")).await.unwrap_err();
    let error = detail(&status);
    assert_eq!(error.outcome(), proto::Outcome::NotApplied, "{status:?}");
    assert!(error.retryable, "{status:?}");
    assert_eq!(error.side(), proto::Side::Source);
    let status = rows(&mut sql, query("SELECT 1", vec![])).await.unwrap_err();
    assert!([Code::Unavailable, Code::Aborted].contains(&status.code()), "{status:?}");
    source.restart();
    eventually("it serves again", std::time::Duration::from_secs(20), || async {
        let mut sql = sql.clone();
        rows(&mut sql, query("SELECT 1", vec![])).await.ok()?;
        sql.execute(execute("INSERT INTO note VALUES (11, 'a')")).await.ok()
    })
    .await;
}

/// Of all calls together: what does not fit is refused before it is committed, and what was held is
/// given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_writes_share_their_memory_and_give_it_back() {
    const CALLS: i32 = 96;
    let sections = "[limits]\nrequest_bytes_max = \"4MiB\"\nanswers_memory = \"16MiB\"";
    let mut bench = Bench::new(sections).await;
    let large =
        |id: i32| format!("INSERT INTO note VALUES ({id}, repeat('x', 3 << 20)) RETURNING body");
    let statements = (0..6).map(|id| statement(&large(id), vec![])).collect();
    let six = proto::BatchRequest { statements, ..Default::default() };
    let status = bench.sql.batch(six).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let error = detail(&status);
    assert_eq!(error.reason, "limit.answers_memory");
    assert!(error.retryable && error.outcome() == proto::Outcome::NotApplied, "{error:?}");
    assert!(bench.notes().await.is_empty());

    let mut calls = tokio::task::JoinSet::new();
    for id in 0..CALLS {
        let (sql, request) = (bench.sql.clone(), execute(&large(id)));
        calls.spawn(async move {
            eventually("its answer fits", LIMIT, || async {
                match sql.clone().execute(request.clone()).await {
                    Ok(answer) => Some(answer.into_inner()),
                    Err(status) => {
                        assert_eq!(detail(&status).reason, "limit.answers_memory", "{status:?}");
                        None
                    }
                }
            })
            .await
        });
    }
    while let Some(answer) = calls.join_next().await {
        assert!(answer.unwrap().result.is_some());
    }
    assert_eq!(bench.notes().await.len(), usize::try_from(CALLS).unwrap());
    let peak_kb = bench.segue.memory_peak_kb();
    println!("{peak_kb} kB at most");
    assert!(peak_kb < PEAK_MAX_KB, "{peak_kb} kB");
}
