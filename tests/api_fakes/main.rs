//! The API over databases that answer what a test tells them to.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod fakes;

use std::sync::atomic::Ordering;
use std::time::Duration;

use fakes::{Options, Server, answers, rows};
use futures_util::StreamExt;
use prost::Message;
use segue::domain::answer::{Observed, RowBatch};
use segue::domain::control::{ControlState, Phase};
use segue::domain::fault::{FaultKind, Outcome, SqlFault};
use segue::domain::reason::Reason;
use segue::grpc::proto::{self, value::Kind};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

fn sql(text: &str) -> Option<proto::Statement> {
    let text = Some(proto::statement::Text::Sql(text.to_owned()));
    Some(proto::Statement { text, params: Vec::new() })
}

fn query(text: &str) -> proto::QueryRequest {
    proto::QueryRequest { statement: sql(text), ..Default::default() }
}

fn execute(text: &str) -> proto::ExecuteRequest {
    proto::ExecuteRequest { statement: sql(text), ..Default::default() }
}

fn packed(mut request: proto::QueryRequest) -> proto::QueryRequest {
    request.encoding = proto::Encoding::Packed.into();
    request
}

fn detail(status: &Status) -> proto::SqlError {
    let full = tonic_types::pb::Status::decode(status.details()).unwrap();
    assert_eq!(full.code, i32::from(status.code()));
    proto::SqlError::decode(full.details[1].value.as_slice()).unwrap()
}

async fn parts(
    server: &Server,
    request: proto::QueryRequest,
) -> Result<Vec<proto::QueryResponse>, Status> {
    let stream = server.client().await.query(request).await?.into_inner();
    let parts: Vec<_> = stream.collect().await;
    parts.into_iter().collect()
}

async fn refused(server: &Server, request: proto::QueryRequest) -> (Code, String) {
    let status = parts(server, request).await.unwrap_err();
    (status.code(), detail(&status).reason)
}

/// Polls a condition.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not come about"));
}

#[tokio::test]
async fn a_short_answer_is_one_message() {
    let server = Server::start(Options::default()).await;
    let found = parts(&server, query("SELECT id, name FROM orders")).await.unwrap();
    // A short answer is one message.
    let [part] = found.as_slice() else { panic!("{found:?}") };
    let (header, footer) = (part.header.as_ref().unwrap(), part.footer.as_ref().unwrap());
    let names: Vec<_> = header.columns.iter().map(|c| (&*c.name, &*c.type_name)).collect();
    assert_eq!(names, [("id", "int4"), ("name", "text")]);
    let values: Vec<_> = part.typed_rows().into_iter().flat_map(|row| row.values).collect();
    let kinds: Vec<_> = values.into_iter().map(|value| value.kind.unwrap()).collect();
    let text = |text: &str| Kind::Text(text.to_owned());
    assert_eq!(kinds, [Kind::Int64(1), text("name 1"), Kind::Int64(2), text("name 2")]);
    assert_eq!((footer.row_count, footer.side()), (2, proto::Side::Source));
}

#[tokio::test]
async fn packed_rows_are_the_cells_themselves() {
    let server = Server::start(Options::default()).await;
    *server.source.reads.lock().unwrap() = answers(vec![Ok(rows(1, 5)), Ok(rows(6, 1))]);
    let found = parts(&server, packed(query("SELECT id, name FROM orders"))).await.unwrap();
    let [first, second] = found.as_slice() else { panic!("{found:?}") };
    assert!(first.header.is_some() && first.footer.is_none() && second.header.is_none());
    let footer = second.footer.as_ref().unwrap();
    let (first, second) = (first.packed_rows().unwrap(), second.packed_rows().unwrap());
    let first = RowBatch::from_packed(first.row_count, 2, first.cells.clone()).unwrap();
    assert_eq!((first, second.row_count, footer.row_count), (rows(1, 5), 1, 6));
}

#[tokio::test]
async fn large_batches_are_sent_in_messages_that_fit() {
    let server = Server::start(Options::default()).await;
    *server.source.reads.lock().unwrap() = answers(vec![Ok(rows(1, 5000))]);
    for request in [query("SELECT id, name FROM orders"), packed(query("SELECT id FROM orders"))] {
        let found = parts(&server, request).await.unwrap();
        let mut counts = Vec::new();
        for part in &found {
            assert!(part.encoded_len() < fakes::MESSAGE_BYTES_MAX);
            match part.packed_rows() {
                Some(rows) => {
                    let (count, cells) = (rows.row_count, rows.cells.clone());
                    RowBatch::from_packed(count, 2, cells).unwrap();
                    counts.push(count as usize);
                }
                None => counts.push(part.typed_rows().len()),
            }
        }
        assert!(counts.len() > 1 && counts.iter().sum::<usize>() == 5000, "{counts:?}");
    }
}

#[tokio::test]
async fn a_row_that_fits_no_message_fails_and_is_not_cut() {
    let server = Server::start(Options::default()).await;
    *server.source.reads.lock().unwrap() = fakes::large_cell(fakes::MESSAGE_BYTES_MAX);
    for request in [query("SELECT 1"), packed(query("SELECT 1"))] {
        let expected = (Code::ResourceExhausted, "limit.message_bytes".to_owned());
        assert_eq!(refused(&server, request).await, expected);
    }
}

#[tokio::test]
async fn a_fault_in_the_middle_fails_the_stream() {
    let server = Server::start(Options::default()).await;
    let mut fault = SqlFault::new(FaultKind::Database, Reason::Database, "division by zero");
    fault.sqlstate = "22012".to_owned();
    *server.source.reads.lock().unwrap() = answers(vec![Ok(rows(1, 2)), Err(fault)]);
    let mut client = server.client().await;
    let mut stream = client.query(query("SELECT 1/x FROM t")).await.unwrap().into_inner();
    let mut seen = 0;
    let status = loop {
        match stream.next().await.expect("a status") {
            Ok(part) => {
                assert_eq!(part.footer, None);
                seen += 1;
            }
            Err(status) => break status,
        }
    };
    assert_eq!((seen, status.code()), (1, Code::InvalidArgument));
    assert_eq!(detail(&status).sqlstate, "22012");
    until("the sample", || server.samples.offered.lock().unwrap().len() == 1).await;
    let offered = server.samples.offered.lock().unwrap();
    assert!(matches!(&offered[0].observed, Observed::Fault(fault) if fault.sqlstate == "22012"));
}

#[tokio::test]
async fn what_is_refused_reaches_no_database() {
    let server = Server::start(Options::default()).await;
    let absent = proto::QueryRequest::default();
    let named = proto::Statement {
        text: Some(proto::statement::Text::Name("nothing".to_owned())),
        params: Vec::new(),
    };
    let with_params = |params| proto::QueryRequest {
        statement: sql("SELECT $1").map(|statement| proto::Statement { params, ..statement }),
        ..Default::default()
    };
    let many = vec![proto::Value { kind: Some(Kind::Bool(true)) }; 11];
    for (request, code, reason) in [
        (query("INSERT INTO t VALUES (1)"), Code::FailedPrecondition, "refused.write_in_query"),
        (query("DROP TABLE t"), Code::FailedPrecondition, "refused.ddl"),
        (query("SELEC 1"), Code::InvalidArgument, ""),
        (query("SELECT 1; SELECT 2"), Code::FailedPrecondition, ""),
        (query("SELECT '\0'"), Code::InvalidArgument, "invalid.nul"),
        (query(&format!("SELECT '{}'", "x".repeat(10_000))), Code::ResourceExhausted, ""),
        (absent, Code::InvalidArgument, "invalid.statement"),
        (
            proto::QueryRequest { statement: Some(named), ..Default::default() },
            Code::NotFound,
            "unknown.statement",
        ),
        (
            with_params(vec![proto::Value { kind: None }]),
            Code::InvalidArgument,
            "invalid.parameter",
        ),
        (with_params(many), Code::ResourceExhausted, "limit.parameters"),
        (
            proto::QueryRequest {
                transaction: proto::TransactionSelector::open("zz".to_owned()),
                ..query("SELECT 1")
            },
            Code::InvalidArgument,
            "invalid.transaction_id",
        ),
        (
            proto::QueryRequest { consistency_tokens: vec!["zz".to_owned()], ..query("SELECT 1") },
            Code::InvalidArgument,
            "invalid.consistency_token",
        ),
        (
            proto::QueryRequest { encoding: 9, ..query("SELECT 1") },
            Code::InvalidArgument,
            "invalid.encoding",
        ),
    ] {
        let shown = format!("{request:?}");
        let (found, found_reason) = refused(&server, request).await;
        assert_eq!(found, code, "{found_reason}: {shown}");
        assert!(reason.is_empty() || found_reason == reason, "{found_reason}: {shown}");
    }
    assert_eq!(server.source.read_count.load(Ordering::Relaxed), 0);
    assert_eq!(server.metrics.snapshot().refused.get("refused.ddl"), Some(&1));
}

#[tokio::test]
async fn only_named_statements_run_in_allow_list_mode() {
    let server = Server::start(Options { named_only: true, ..Options::default() }).await;
    let expected = (Code::FailedPrecondition, "refused.unnamed".to_owned());
    assert_eq!(refused(&server, query("SELECT 1")).await, expected);
    let text = Some(proto::statement::Text::Name("get_order".to_owned()));
    let params = vec![proto::Value { kind: Some(Kind::Int64(1)) }];
    let statement = Some(proto::Statement { text, params });
    let request = proto::QueryRequest { statement, ..Default::default() };
    assert_eq!(parts(&server, request).await.unwrap().len(), 1);
    let read = server.source.last_read.lock().unwrap().clone().unwrap();
    assert_eq!(&*read.statement.sql, "SELECT id, name FROM orders WHERE id = $1");
    assert_eq!(read.statement.name.as_deref(), Some("get_order"));
}

#[tokio::test]
async fn a_write_wakes_the_reconciler_where_it_is_captured() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client().await;
    let answer = client.execute(execute("UPDATE t SET a = 1")).await.unwrap().into_inner();
    assert_eq!((answer.affected_rows(), answer.already_applied), (1, false));
    assert_eq!(answer.typed_rows().len(), 1);
    assert_eq!(answer.write_id, "00000000-0000-0000-0000-000000000001");
    assert_eq!(server.reconciler.0.load(Ordering::Relaxed), 1);
    client.execute(execute("SELECT 1")).await.unwrap();
    assert_eq!(server.reconciler.0.load(Ordering::Relaxed), 1, "a read wakes nobody");
    let fault = SqlFault::new(FaultKind::Database, Reason::Database, "refused");
    *server.source.write_fault.lock().unwrap() = Some(fault.clone());
    client.execute(execute("UPDATE t SET a = 1")).await.unwrap_err();
    assert_eq!(server.reconciler.0.load(Ordering::Relaxed), 1, "nothing was written");
    *server.source.write_fault.lock().unwrap() = Some(fault.with_outcome(Outcome::Unknown));
    client.execute(execute("UPDATE t SET a = 1")).await.unwrap_err();
    assert_eq!(server.reconciler.0.load(Ordering::Relaxed), 2, "something may be written");
    *server.source.write_fault.lock().unwrap() = None;
    *server.control.0.lock().unwrap() = ControlState { epoch: 4, phase: Phase::SourceOnly };
    client.execute(execute("UPDATE t SET a = 1")).await.unwrap();
    assert_eq!(server.reconciler.0.load(Ordering::Relaxed), 2, "nothing is captured");
}

#[tokio::test]
async fn the_phase_chooses_the_side() {
    let server = Server::start(Options { phase: Phase::Reversed, ..Options::default() }).await;
    let found = parts(&server, query("SELECT 1")).await.unwrap();
    assert_eq!(found[0].footer.as_ref().unwrap().side(), proto::Side::Target);
    server.client().await.execute(execute("DELETE FROM t")).await.unwrap();
    assert_eq!(server.source.writes.lock().unwrap().len(), 0);
    assert_eq!(server.target.writes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_idempotency_key_comes_with_its_content() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client().await;
    let with_key = |text: &str, key: &str| proto::ExecuteRequest {
        idempotency_key: key.to_owned(),
        ..execute(text)
    };
    client.execute(with_key("UPDATE t SET a = 1", "k")).await.unwrap();
    client.execute(with_key("UPDATE t SET a = 1", "k")).await.unwrap();
    client.execute(with_key("UPDATE t SET a = 2", "k")).await.unwrap();
    let long = client.execute(with_key("UPDATE t SET a = 1", &"k".repeat(256))).await.unwrap_err();
    assert_eq!((long.code(), &*detail(&long).reason), (Code::InvalidArgument, "invalid.key"));
    let writes = server.source.writes.lock().unwrap();
    let keys: Vec<_> = writes.iter().map(|write| write.idempotency.clone().unwrap()).collect();
    assert_eq!(keys[0], keys[1]);
    assert_eq!((&keys[0].key, keys[0].content == keys[2].content), (&keys[2].key, false));
}

#[tokio::test]
async fn a_batch_has_an_answer_for_each_statement() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client().await;
    let batch = |texts: &[&str]| proto::BatchRequest {
        statements: texts.iter().filter_map(|text| sql(text)).collect(),
        ..Default::default()
    };
    let answer = client.batch(batch(&["DELETE FROM a", "DELETE FROM b"])).await.unwrap();
    assert_eq!(answer.into_inner().results.len(), 2);
    let none = client.batch(batch(&[])).await.unwrap_err();
    assert_eq!((none.code(), &*detail(&none).reason), (Code::InvalidArgument, "invalid.statement"));
    let four = client.batch(batch(&["DELETE FROM a"; 4])).await.unwrap_err();
    assert_eq!(detail(&four).reason, "limit.batch_statements");
    let ddl = client.batch(batch(&["DELETE FROM a", "DROP TABLE a"])).await.unwrap_err();
    assert!(ddl.message().starts_with("statement 2: "), "{}", ddl.message());
    assert_eq!(server.source.writes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn calls_of_a_transaction_go_into_it() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client().await;
    let begun = client.begin(proto::BeginRequest::default()).await.unwrap().into_inner();
    let id = begun.transaction_id;
    assert_eq!(id, "00000000000000000000000000000007");
    let inside = proto::QueryRequest {
        transaction: proto::TransactionSelector::open(id.clone()),
        ..query("SELECT 1")
    };
    parts(&server, inside).await.unwrap();
    let update = proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(id.clone()),
        ..execute("UPDATE t SET a = 1")
    };
    let updated = client.execute(update.clone()).await.unwrap().into_inner();
    assert_eq!((updated.affected_rows(), updated.write_id.as_str()), (3, ""));
    let savepoint = proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(id.clone()),
        ..execute("SAVEPOINT a")
    };
    client.execute(savepoint).await.unwrap();
    let alone = client.execute(execute("SAVEPOINT a")).await.unwrap_err();
    assert_eq!(detail(&alone).reason, "refused.outside_transaction");
    let keyed = proto::ExecuteRequest { idempotency_key: "k".to_owned(), ..update };
    assert_eq!(client.execute(keyed).await.unwrap_err().code(), Code::InvalidArgument);
    let unknown = proto::CommitRequest { transaction_id: "8".repeat(32), ..Default::default() };
    assert_eq!(client.commit(unknown).await.unwrap_err().code(), Code::NotFound);
    let woken = server.reconciler.0.load(Ordering::Relaxed);
    client
        .commit(proto::CommitRequest { transaction_id: id.clone(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(server.reconciler.0.load(Ordering::Relaxed), woken + 1);
    client.rollback(proto::RollbackRequest { transaction_id: id }).await.unwrap();
    let calls = server.transactions.calls.lock().unwrap().clone();
    assert_eq!(calls, ["begin", "read", "write", "write", "commit", "commit", "rollback"]);
    assert!(server.samples.offered.lock().unwrap().is_empty(), "no samples of transactions");
}

#[tokio::test]
async fn samples_are_whole_answers_or_skipped() {
    let server = Server::start(Options::default()).await;
    parts(&server, query("SELECT id, name FROM orders")).await.unwrap();
    parts(&server, query("SELECT unsampled FROM orders")).await.unwrap();
    *server.source.reads.lock().unwrap() = answers(vec![Ok(rows(1, 5)), Ok(rows(6, 1000))]);
    parts(&server, query("SELECT id, name FROM orders")).await.unwrap();
    *server.source.reads.lock().unwrap() = fakes::endless();
    let mut client = server.client().await;
    let mut stream = client.query(query("SELECT id, name FROM orders")).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let both = || server.samples.skipped.lock().unwrap().len() == 2;
    until("two skipped samples", both).await;
    assert_eq!(*server.samples.skipped.lock().unwrap(), ["too_large", "abandoned"]);
    let offered = server.samples.offered.lock().unwrap();
    assert_eq!(offered.len(), 1);
    assert!(matches!(&offered[0].observed, Observed::Answer(a) if a.batches == [rows(1, 2)]));
}

#[tokio::test]
async fn nothing_is_sampled_before_its_phase() {
    let server = Server::start(Options { phase: Phase::DualWrite, ..Options::default() }).await;
    parts(&server, query("SELECT id, name FROM orders")).await.unwrap();
    assert!(server.samples.offered.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_statement() {
    let server = Server::start(Options::default()).await;
    *server.source.hold_writes.lock().unwrap() = Some(CancellationToken::new());
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.execute(execute("DELETE FROM t")).await });
    until("the write", || server.source.writes.lock().unwrap().len() == 1).await;
    call.abort();
    let cancelled = server.source.cancelled.cancelled();
    tokio::time::timeout(Duration::from_secs(10), cancelled).await.expect("cancelled");
    assert_eq!(server.metrics.snapshot().writes.failed, 1);
}

#[tokio::test]
async fn the_deadline_goes_with_the_call() {
    let server = Server::start(Options::default()).await;
    let mut request = Request::new(query("SELECT 1"));
    request.set_timeout(Duration::from_secs(5));
    let before = std::time::Instant::now();
    server.client().await.query(request).await.unwrap();
    let deadline = server.source.last_read.lock().unwrap().clone().unwrap().context.deadline;
    let left = deadline.unwrap() - before;
    assert!(left > Duration::from_secs(4) && left < Duration::from_secs(7), "{left:?}");
    parts(&server, query("SELECT 1")).await.unwrap();
    let deadline = server.source.last_read.lock().unwrap().clone().unwrap().context.deadline;
    assert!(deadline.unwrap() - before > Duration::from_secs(19), "the default");
    let mut late = Request::new(query("SELECT 1"));
    late.metadata_mut().insert("grpc-timeout", "0n".parse().unwrap());
    let status = server.client().await.query(late).await.unwrap_err();
    // tonic's own client looks at the deadline too, and calls it cancelled where it is first.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
}

#[tokio::test]
async fn there_is_room_for_so_many_calls() {
    let server = Server::start(Options { calls_max: 1, ..Options::default() }).await;
    *server.source.reads.lock().unwrap() = fakes::endless();
    let mut client = server.client().await;
    let mut held = client.query(query("SELECT 1")).await.unwrap().into_inner();
    held.next().await.unwrap().unwrap();
    let (code, reason) = refused(&server, query("SELECT 1")).await;
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "limit.calls"));
    let inside = proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(
            "00000000000000000000000000000007".to_owned(),
        ),
        ..execute("DELETE FROM t")
    };
    client.execute(inside).await.expect("calls of a transaction have room already");
    let describe = proto::DescribeRequest { statement: sql("SELECT 1") };
    for status in [
        client.describe(describe).await.unwrap_err(),
        client.begin(proto::BeginRequest::default()).await.unwrap_err(),
    ] {
        assert_eq!(detail(&status).reason, "limit.calls", "{status:?}");
    }
    drop(held);
    *server.source.reads.lock().unwrap() = answers(vec![Ok(rows(1, 1))]);
    let again = async {
        while parts(&server, query("SELECT 1")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("room again");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_and_counted() {
    let server = Server::start(Options::default()).await;
    let large = "x".repeat(fakes::MESSAGE_BYTES_MAX);
    let mut client = server.client().await;
    let status = client.execute(execute(&format!("DELETE FROM t -- {large}"))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let error = detail(&status);
    assert_eq!(error.reason, "limit.request_bytes");
    assert_eq!(error.outcome(), proto::Outcome::NotApplied);
    assert!(error.message.contains("65536") && error.detail.contains("found"), "{error:?}");
    assert!(error.hint.contains("limits.request_bytes_max"), "{error:?}");
    let page = server.metrics.render();
    for line in [
        "segue_refused_total{reason=\"limit.request_bytes\"} 1",
        "segue_calls_total{method=\"Execute\",code=\"RESOURCE_EXHAUSTED\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    client.execute(execute("DELETE FROM t")).await.expect("the connection goes on");
}

#[tokio::test]
async fn describe_and_info_tell_both_sides_and_the_limits() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client().await;
    let request = proto::DescribeRequest { statement: sql("SELECT 1") };
    let sides = client.describe(request).await.unwrap().into_inner().sides;
    assert_eq!((sides[0].side(), sides[0].columns.len()), (proto::Side::Source, 2));
    assert_eq!(sides[1].error.as_ref().unwrap().message, "target: no such function");
    let info = client.info(proto::InfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.phase(), info.epoch), (proto::Phase::ShadowRead, 3));
    assert_eq!(info.limits.unwrap().max_parameters, 10);
}

#[tokio::test]
async fn stopping_waits_for_calls_and_then_cuts_them() {
    let server = Server::start(Options::default()).await;
    let hold = CancellationToken::new();
    *server.source.hold_writes.lock().unwrap() = Some(hold.clone());
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.execute(execute("DELETE FROM t")).await });
    until("the write", || server.source.writes.lock().unwrap().len() == 1).await;
    server.stop.cancel();
    let refused = || std::net::TcpStream::connect(server.address).is_err();
    until("the listener to close", refused).await;
    hold.cancel();
    call.await.unwrap().expect("the call ended");
    tokio::time::timeout(Duration::from_secs(5), server.served).await.expect("served").unwrap();

    let drain_max = Duration::from_millis(50);
    let server = Server::start(Options { drain_max, ..Options::default() }).await;
    *server.source.reads.lock().unwrap() = fakes::endless();
    let mut client = server.client().await;
    let mut stream = client.query(query("SELECT 1")).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    server.stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), server.served).await.expect("cut").unwrap();
}
