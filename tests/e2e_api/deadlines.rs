//! A call's deadline and its caller's going away stop the statement, and nobody else's.

use std::time::{Duration, Instant};

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, value::Kind};
use tonic::{Code, Request};

use crate::calls::{Bench, batch, client, detail, execute, query, rows};
use crate::support::{Segue, eventually};

const WAIT: Duration = Duration::from_secs(20);

/// A client that sends `grpc-timeout` and keeps none itself, as tonic's own would.
pub fn patient(segue: &Segue) -> SqlClient<Client<HttpConnector, tonic::body::Body>> {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    SqlClient::with_origin(client, segue.sql_address().parse().unwrap())
}

pub fn with_timeout<T>(message: T, timeout: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    request
}

async fn sleeping(bench: &Bench) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
               AND datname = current_database() AND query LIKE '%pg_sleep%' \
               AND pid <> pg_backend_pid()";
    bench.pair.source.rows(sql).await[0].parse().unwrap()
}

pub async fn nothing_sleeps(bench: &Bench) {
    eventually("no statement is left", WAIT, || async {
        (sleeping(bench).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_header_alone_is_the_statements_timeout() {
    let bench = Bench::new("").await;
    let mut sql = patient(&bench.segue);
    let began = Instant::now();
    let mut statuses = Vec::new();
    let slow = query("SELECT pg_sleep(60)", vec![]);
    let stream = sql.query(with_timeout(slow, "300m")).await;
    statuses.push(match stream {
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    });
    // The deadline passes after the first rows have come.
    let slow =
        query("SELECT repeat('x', 1000), pg_sleep(0.001) FROM generate_series(1, 60000)", vec![]);
    let mut stream = sql.query(with_timeout(slow, "400m")).await.unwrap().into_inner();
    statuses.push(loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the answer ended without a fault"),
            Err(status) => break status,
        }
    });
    let slow = execute("INSERT INTO note SELECT 1, 'a' FROM pg_sleep(60)");
    statuses.push(sql.execute(with_timeout(slow, "300000u")).await.unwrap_err());
    let slow = batch(&["INSERT INTO note VALUES (2, 'b')", "SELECT pg_sleep(60)"]);
    statuses.push(sql.batch(with_timeout(slow, "300m")).await.unwrap_err());
    for status in statuses {
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(detail(&status).outcome(), proto::Outcome::NotApplied, "{status:?}");
    }
    assert!(began.elapsed() < WAIT);
    nothing_sleeps(&bench).await;
    assert!(bench.notes().await.is_empty());
    // A deadline that has passed already, and one that nobody can read.
    let status = sql.execute(with_timeout(execute("DELETE FROM note"), "1n")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    sql.execute(with_timeout(execute("DELETE FROM note"), "soon")).await.unwrap();
}

#[tokio::test]
async fn a_call_without_a_deadline_has_the_default_and_none_is_longer_than_the_limit() {
    let sections = "[limits]\ndeadline_default = \"300ms\"\ndeadline_max = \"600ms\"";
    let bench = Bench::new(sections).await;
    let mut sql = patient(&bench.segue);
    let slow = || execute("INSERT INTO note SELECT 1, 'a' FROM pg_sleep(60)");
    let status = sql.execute(slow()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let status = sql.execute(with_timeout(slow(), "1H")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    nothing_sleeps(&bench).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_its_own_statement_only() {
    let bench = Bench::new("").await;
    let mut stays = client(&bench.segue).await;
    let stays = tokio::spawn(async move {
        rows(&mut stays, query("SELECT 7::int4 FROM pg_sleep(3)", vec![])).await
    });
    for _ in 0..5 {
        let (mut one, mut two) = (client(&bench.segue).await, client(&bench.segue).await);
        let read = tokio::spawn(async move {
            let _ = rows(&mut one, query("SELECT pg_sleep(60)", vec![])).await;
        });
        let write = tokio::spawn(async move {
            let _ = two.execute(execute("INSERT INTO note SELECT 1, 'a' FROM pg_sleep(60)")).await;
        });
        eventually("both run", WAIT, || async { (sleeping(&bench).await >= 3).then_some(()) })
            .await;
        read.abort();
        write.abort();
        eventually("both are stopped", WAIT, || async {
            (sleeping(&bench).await <= 1).then_some(())
        })
        .await;
    }
    assert_eq!(stays.await.unwrap().unwrap(), [[Kind::Int64(7)]]);
    nothing_sleeps(&bench).await;
    assert!(bench.notes().await.is_empty());
}

#[tokio::test]
async fn a_write_whose_caller_left_is_reconciled_soon() {
    // So rarely does the replayer look by itself that only being woken explains the row.
    let bench = Bench::new("[outbox]\npoll_interval = \"10m\"").await;
    let mut sql = client(&bench.segue).await;
    // The caller leaves while a deferred trigger holds COMMIT, which is never cancelled.
    bench
        .pair
        .source
        .run(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN PERFORM pg_sleep(1); RETURN NULL; END$$; \
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    let call = tokio::spawn(async move {
        let insert = execute("INSERT INTO note VALUES (1, 'left') RETURNING id");
        let _ = sql.execute(insert).await;
    });
    let committing = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                      AND query = 'COMMIT' AND datname = current_database()";
    eventually("it is in COMMIT", WAIT, || async {
        (bench.pair.source.rows(committing).await == ["1"]).then_some(())
    })
    .await;
    call.abort();
    eventually("the target has it", WAIT, || async {
        (bench.pair.target.rows("SELECT body FROM note").await == ["left"]).then_some(())
    })
    .await;
}
