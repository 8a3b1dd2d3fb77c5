//! Transactions that span calls.

use std::time::Duration;

use tonic::Code;

use crate::calls::{Bench, client, detail, execute, query, rows, text};
use crate::support::{Durability, Major, Options, Pair, Proxy, Segue, Server, eventually};
use segue::grpc::proto::{self, value::Kind};

const WAIT: Duration = Duration::from_secs(20);

async fn begin(bench: &mut Bench, request: proto::BeginRequest) -> String {
    bench.sql.begin(request).await.unwrap().into_inner().transaction_id
}

fn inside(id: &str, sql: &str) -> proto::ExecuteRequest {
    proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(id.to_owned()),
        ..execute(sql)
    }
}

fn read(id: &str, sql: &str) -> proto::QueryRequest {
    proto::QueryRequest {
        transaction: proto::TransactionSelector::open(id.to_owned()),
        ..query(sql, vec![])
    }
}

fn with(options: proto::TransactionOptions) -> proto::BeginRequest {
    proto::BeginRequest { options: Some(options), ..Default::default() }
}

fn millis(millis: u64) -> Option<prost_types::Duration> {
    Some(Duration::from_millis(millis).try_into().unwrap())
}

fn commit(id: &str) -> proto::CommitRequest {
    proto::CommitRequest { transaction_id: id.to_owned(), ..Default::default() }
}

fn rollback(id: &str) -> proto::RollbackRequest {
    proto::RollbackRequest { transaction_id: id.to_owned() }
}

#[tokio::test]
async fn a_transaction_is_one_unit_and_its_settings_end_with_it() {
    let mut bench = Bench::new("").await;
    let id = begin(&mut bench, proto::BeginRequest::default()).await;
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    bench.sql.execute(inside(&id, "INSERT INTO note VALUES (1, 'a')")).await.unwrap();
    bench.sql.execute(inside(&id, "SET LOCAL work_mem = '123kB'")).await.unwrap();
    let shown = rows(&mut bench.sql, read(&id, "SHOW work_mem")).await.unwrap();
    assert_eq!(shown, [[text("123kB")]]);
    bench.sql.execute(inside(&id, "SAVEPOINT s")).await.unwrap();
    bench.sql.execute(inside(&id, "INSERT INTO note VALUES (2, 'b')")).await.unwrap();
    let status = bench.sql.execute(inside(&id, "INSERT INTO note VALUES (2, 'b')")).await;
    assert_eq!(status.unwrap_err().code(), Code::AlreadyExists);
    let status = bench.sql.execute(inside(&id, "INSERT INTO note VALUES (3, 'c')")).await;
    assert_eq!(detail(&status.unwrap_err()).sqlstate, "25P02");
    bench.sql.execute(inside(&id, "ROLLBACK TO SAVEPOINT s")).await.unwrap();
    bench.sql.execute(inside(&id, "INSERT INTO note VALUES (4, 'd')")).await.unwrap();
    assert!(bench.notes().await.is_empty(), "nobody sees it yet");
    let done = bench.sql.commit(commit(&id)).await.unwrap().into_inner();
    assert!(!done.write_id.is_empty());
    assert_eq!(bench.notes().await, ["1|a", "4|d"]);
    let named = "SELECT DISTINCT write_id::text FROM segue.outbox";
    assert_eq!(bench.pair.source.rows(named).await, [done.write_id]);
    eventually("the target follows", WAIT, || async {
        (bench.pair.target.rows("SELECT id FROM note ORDER BY id").await == ["1", "4"])
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn ended_unknown_and_foreign_ids_say_what_they_are() {
    let mut bench = Bench::new("").await;
    let id = begin(&mut bench, proto::BeginRequest::default()).await;
    bench.sql.rollback(rollback(&id)).await.unwrap();
    for status in [
        bench.sql.commit(commit(&id)).await.unwrap_err(),
        bench.sql.rollback(rollback(&id)).await.unwrap_err(),
        bench.sql.execute(inside(&id, "DELETE FROM note")).await.unwrap_err(),
        bench.sql.query(read(&id, "SELECT 1")).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        assert!(status.message().contains("rolled back"), "{status:?}");
    }
    let mut second = Segue::prepare(bench.pair.source.dsn(), bench.pair.target.dsn(), "");
    second.serve().await;
    let foreign = begin(&mut bench, proto::BeginRequest::default()).await;
    let status = client(&second).await.commit(commit(&foreign)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("another sidecar"), "{status:?}");
    for bad in ["", "xyz", "+fffffffffffffffffffffffffffffff", &"f".repeat(33)] {
        let status = bench.sql.commit(commit(bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad}: {status:?}");
    }
    bench.sql.commit(commit(&foreign)).await.unwrap();
    let status = bench.sql.commit(commit(&foreign)).await.unwrap_err();
    assert!(status.message().contains("COMMIT"), "{status:?}");
}

#[tokio::test]
async fn the_limits_of_time_are_kept() {
    let mut bench = Bench::new("").await;
    let idle = with(proto::TransactionOptions { idle_timeout: millis(300), ..Default::default() });
    let id = begin(&mut bench, idle).await;
    bench.sql.execute(inside(&id, "INSERT INTO note VALUES (1, 'a')")).await.unwrap();
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' \
                AND datname = current_database()";
    eventually("it is rolled back", WAIT, || async {
        (bench.pair.source.rows(open).await == ["0"]).then_some(())
    })
    .await;
    let status = bench.sql.commit(commit(&id)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("without a call"), "{status:?}");

    let total =
        with(proto::TransactionOptions { total_timeout: millis(500), ..Default::default() });
    let id = begin(&mut bench, total).await;
    let began = std::time::Instant::now();
    let status = bench.sql.execute(inside(&id, "SELECT pg_sleep(60)")).await.unwrap_err();
    assert!(began.elapsed() < WAIT, "the statement was cancelled: {status:?}");
    let status = bench.sql.commit(commit(&id)).await.unwrap_err();
    assert!([Code::NotFound, Code::FailedPrecondition].contains(&status.code()), "{status:?}");
    assert!(bench.notes().await.is_empty());
}

#[tokio::test]
async fn isolation_read_only_and_what_failed() {
    let mut bench = Bench::new("").await;
    bench.sql.execute(execute("INSERT INTO note VALUES (1, 'a')")).await.unwrap();
    for (level, name) in [
        (proto::Isolation::Unspecified, "read committed"),
        (proto::Isolation::ReadCommitted, "read committed"),
        (proto::Isolation::RepeatableRead, "repeatable read"),
        (proto::Isolation::Serializable, "serializable"),
    ] {
        let request =
            with(proto::TransactionOptions { isolation: level.into(), ..Default::default() });
        let id = begin(&mut bench, request).await;
        let shown = rows(&mut bench.sql, read(&id, "SHOW transaction_isolation")).await.unwrap();
        assert_eq!(shown, [[text(name)]]);
        bench.sql.rollback(rollback(&id)).await.unwrap();
    }
    let wrong = with(proto::TransactionOptions { isolation: 9, ..Default::default() });
    assert_eq!(bench.sql.begin(wrong).await.unwrap_err().code(), Code::InvalidArgument);

    let read_only = with(proto::TransactionOptions { read_only: true, ..Default::default() });
    let id = begin(&mut bench, read_only).await;
    let status = bench.sql.execute(inside(&id, "DELETE FROM note")).await.unwrap_err();
    assert_eq!(detail(&status).sqlstate, "25006");
    let status = bench.sql.commit(commit(&id)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert_eq!(detail(&status).outcome(), proto::Outcome::NotApplied);

    // What segue refuses does not make a transaction fail; what the server refuses does.
    let id = begin(&mut bench, proto::BeginRequest::default()).await;
    bench.sql.execute(inside(&id, "INSERT INTO note VALUES (2, 'b')")).await.unwrap();
    bench.sql.execute(inside(&id, "CREATE TABLE x (id int)")).await.unwrap_err();
    bench.sql.execute(inside(&id, "COMMIT")).await.unwrap_err();
    bench.sql.commit(commit(&id)).await.unwrap();
    // A constraint that is checked at COMMIT.
    let id = begin(&mut bench, proto::BeginRequest::default()).await;
    bench.sql.execute(inside(&id, "INSERT INTO child VALUES (1, 99)")).await.unwrap();
    let status = bench.sql.commit(commit(&id)).await.unwrap_err();
    let error = detail(&status);
    assert_eq!((status.code(), error.sqlstate.as_str()), (Code::FailedPrecondition, "23503"));
    assert_eq!(error.outcome(), proto::Outcome::NotApplied);
    assert_eq!(bench.notes().await, ["1|a", "2|b"]);
}

#[tokio::test]
async fn a_stream_in_a_transaction_is_read_before_the_next_call() {
    let mut bench = Bench::new("").await;
    let id = begin(&mut bench, proto::BeginRequest::default()).await;
    bench.sql.execute(inside(&id, "INSERT INTO note VALUES (1, 'mine')")).await.unwrap();
    let many = "SELECT i, repeat('x', 1000) FROM generate_series(1, 200000) AS i";
    let mut stream = bench.sql.query(read(&id, many)).await.unwrap().into_inner();
    stream.message().await.unwrap();
    let status = bench.sql.execute(inside(&id, "DELETE FROM note")).await.unwrap_err();
    assert_eq!(detail(&status).reason, "transaction.in_use");
    drop(stream);
    // The dropped answer is read or cancelled; the transaction says which.
    eventually("the transaction takes calls again", WAIT, || async {
        let status = bench.sql.clone().query(read(&id, "SELECT 1")).await;
        status
            .err()
            .is_none_or(|status| detail(&status).reason != "transaction.in_use")
            .then_some(())
    })
    .await;
    let ended = bench.sql.commit(commit(&id)).await;
    let expected: &[&str] = if ended.is_ok() { &["1|mine"] } else { &[] };
    assert_eq!(bench.notes().await, expected, "{ended:?}");
    let id = begin(&mut bench, proto::BeginRequest::default()).await;
    let found = rows(&mut bench.sql, read(&id, "SELECT 1::int4")).await.unwrap();
    assert_eq!(found, [[Kind::Int64(1)]]);
    bench.sql.commit(commit(&id)).await.unwrap();
}

#[tokio::test]
async fn a_lost_commit_is_looked_up() {
    let options = Options { durability: Durability::Fast, ..Options::default() };
    let source = Server::start(Major::V15, &options);
    let pair = Pair {
        source: crate::support::Database::create(&source, crate::calls::SCHEMA).await,
        target: crate::support::Database::create(
            crate::support::shared(Major::V18),
            crate::calls::SCHEMA,
        )
        .await,
    };
    let proxy = Proxy::start(source.port());
    let dsn = source.dsn_by_port(pair.source.name(), proxy.port());
    let mut segue = Segue::prepare(&dsn, pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    segue.serve().await;
    let sql = client(&segue).await;
    let mut bench = Bench { sql, segue, pair };
    let mut outcomes = std::collections::BTreeMap::new();
    for id in 1..=4 {
        let held = format!("INSERT INTO note SELECT {id}, 'x' FROM pg_sleep(0.3)");
        let call = match id % 2 {
            0 => tokio::spawn({
                let (mut sql, held) = (bench.sql.clone(), held.clone());
                async move { sql.execute(execute(&held)).await.map(|_| ()) }
            }),
            _ => tokio::spawn({
                let (mut sql, held) = (bench.sql.clone(), held.clone());
                let two = crate::calls::batch(&[&held, "DELETE FROM note WHERE id < 0"]);
                async move { sql.batch(two).await.map(|_| ()) }
            }),
        };
        let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                       AND query LIKE 'INSERT INTO note SELECT%'";
        eventually("the write runs", WAIT, || async {
            (bench.pair.source.rows(running).await == ["1"]).then_some(())
        })
        .await;
        proxy.reset();
        let status = call.await.unwrap().unwrap_err();
        let outcome = detail(&status).outcome();
        let count = format!("SELECT count(*) FROM note WHERE id = {id}");
        let there = bench.pair.source.rows(&count).await == ["1"];
        match outcome {
            proto::Outcome::Applied => assert!(there, "{status:?}"),
            proto::Outcome::NotApplied => assert!(!there, "{status:?}"),
            // What commits itself has no id to be looked up by; its keys prove only success.
            _ => assert!(id % 2 == 0 && !there, "it could have been looked up: {status:?}"),
        }
        assert_ne!(status.code(), Code::Unavailable, "{status:?}");
        *outcomes.entry(format!("{outcome:?}")).or_insert(0) += 1;
    }
    eprintln!("lost answers: {outcomes:?}");
    bench.sql.execute(execute("DELETE FROM note")).await.unwrap();
}
