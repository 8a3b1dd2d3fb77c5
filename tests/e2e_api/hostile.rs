//! Nonsense of every kind gets a clear answer, and the service goes on.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::calls::{Bench, client, detail, execute, execute_with, query, rows, text};
use crate::support::Segue;
use segue::grpc::proto::{self, value::Kind};

/// Kilobytes by which a sidecar may grow, whatever is sent.
const GROWTH_MAX_KB: u64 = 250_000;

/// A sidecar that is ill-treated, and must not be the worse for it.
struct Besieged {
    bench: Bench,
    before_kb: u64,
}

impl Besieged {
    async fn new() -> Self {
        let mut bench = Bench::new("").await;
        rows(&mut bench.sql, query("SELECT 1::int4", vec![])).await.unwrap();
        let before_kb = bench.segue.memory_kb();
        Self { bench, before_kb }
    }

    /// It has not panicked, has not grown beyond its bounds, and serves.
    async fn is_well(&mut self, after: &str) {
        let one = rows(&mut self.bench.sql, query("SELECT 1::int4", vec![])).await;
        assert_eq!(one.unwrap(), [[Kind::Int64(1)]], "after {after}");
        let grown_kb = self.bench.segue.memory_kb().saturating_sub(self.before_kb);
        assert!(grown_kb < GROWTH_MAX_KB, "{grown_kb} kB more after {after}");
        let logs = self.bench.segue.logs();
        assert!(!logs.contains("panicked"), "after {after}: {logs}");
    }

    /// The refusal is clear: a code that is not segue's own fault, a detail that says what was
    /// wrong and by which name, and that nothing was applied.
    async fn refused(&mut self, what: &str, status: &tonic::Status, reason: &str) {
        let error = detail(status);
        let shown = format!("{what}: {:?} {error:?}", status.code());
        assert!(![Code::Internal, Code::Unknown].contains(&status.code()), "{shown}");
        assert!(!status.message().is_empty() && !error.message.is_empty(), "{shown}");
        assert_eq!(error.outcome(), proto::Outcome::NotApplied, "{shown}");
        let name = if error.reason.is_empty() { &error.sqlstate } else { &error.reason };
        assert_eq!(name, reason, "{shown}");
        self.is_well(what).await;
    }
}

pub async fn http_get(address: &str, path: &str) -> String {
    let host = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn every_type_refuses_what_does_not_fit_it() {
    let mut besieged = Besieged::new().await;
    let other = |text: &str| Kind::Other(proto::Other { type_name: "x".into(), text: text.into() });
    let at = |seconds, micros, infinity| proto::Timestamp { seconds, micros, infinity };
    let array = |length, elements: usize| {
        let one = proto::Value { kind: Some(Kind::Int64(1)) };
        Kind::Array(proto::Array {
            element_type: "int4".into(),
            dimensions: vec![proto::Dimension { length, lower_bound: 1 }],
            elements: vec![one; elements],
        })
    };
    let types = [
        "bool",
        "int2",
        "int4",
        "int8",
        "oid",
        "float4",
        "float8",
        "numeric",
        "text",
        "varchar",
        "bpchar",
        "\"char\"",
        "name",
        "bytea",
        "timestamp",
        "timestamptz",
        "date",
        "time",
        "timetz",
        "interval",
        "uuid",
        "json",
        "jsonb",
        "xml",
        "inet",
        "cidr",
        "macaddr",
        "bit",
        "varbit",
        "money",
        "int4range",
        "int4multirange",
        "int4[]",
        "text[]",
        "tsvector",
        "point",
        "pg_lsn",
        "xid8",
        "note",
    ];
    let values = [
        Kind::Bool(true),
        Kind::Int64(i64::MIN),
        Kind::Int64(1 << 40),
        Kind::Double(f64::NAN),
        Kind::Double(1e308),
        Kind::Numeric("1e999999".into()),
        Kind::Numeric("nonsense".into()),
        Kind::Numeric("9".repeat(200_000)),
        text("nonsense"),
        text("a\0b"),
        text(""),
        Kind::Bytes(vec![0, 255, 1].into()),
        Kind::Timestamp(at(i64::MAX, 0, 0)),
        Kind::Timestamptz(at(i64::MIN, 999_999, 0)),
        Kind::Timestamp(at(0, 1_000_000, 0)),
        Kind::Timestamp(at(0, 0, 7)),
        Kind::Date(proto::Date { days: i32::MAX, infinity: 0 }),
        Kind::Time(-1),
        Kind::Time(i64::MAX),
        Kind::Interval(proto::Interval {
            months: i32::MIN,
            days: i32::MAX,
            micros: i64::MIN,
            infinity: 0,
        }),
        Kind::Uuid("0af76519".into()),
        Kind::Json("{".into()),
        array(1, 1),
        array(3, 1),
        array(u32::MAX, 0),
        other("nonsense"),
        Kind::Opaque(proto::Opaque { type_name: "int4".into(), data: vec![1].into() }),
        Kind::Opaque(proto::Opaque { type_name: "note".into(), data: vec![255; 64].into() }),
        Kind::Null(0),
    ];
    let mut accepted = 0;
    for ty in types {
        for value in &values {
            let sql = format!("SELECT $1::{ty}");
            match rows(&mut besieged.bench.sql, query(&sql, vec![value.clone()])).await {
                Ok(found) => {
                    assert_eq!(found.len(), 1);
                    accepted += 1;
                }
                Err(status) => {
                    let shown = format!("{ty} from {value:.60?}: {status:?}");
                    assert_eq!(status.code(), Code::InvalidArgument, "{shown}");
                    let error = detail(&status);
                    assert_eq!(error.outcome(), proto::Outcome::NotApplied, "{shown}");
                    assert!(!error.message.is_empty(), "{shown}");
                    assert!(!(error.reason.is_empty() && error.sqlstate.is_empty()), "{shown}");
                }
            }
        }
        besieged.is_well(ty).await;
    }
    let mut bench = besieged.bench;
    assert!(accepted > types.len(), "NULL fits everywhere, and {accepted} were accepted");
    let absent = proto::Value { kind: None };
    let mut request = query("SELECT $1::int4", vec![]);
    request.statement.as_mut().unwrap().params = vec![absent];
    assert_eq!(rows(&mut bench.sql, request).await.unwrap_err().code(), Code::InvalidArgument);
    for params in [vec![], vec![Kind::Int64(1), Kind::Int64(2)]] {
        let status = rows(&mut bench.sql, query("SELECT $1::int4", params)).await.unwrap_err();
        assert_eq!(detail(&status).reason, "invalid.parameter_count");
    }
    let status = bench.sql.execute(execute_with("SELECT 1\0", vec![])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(!bench.segue.logs().contains("panicked"), "{}", bench.segue.logs());
}

/// A gRPC message with its prefix.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    framed.extend(body);
    framed
}

#[tokio::test]
async fn malformed_messages_and_frames_are_answered_or_cut() {
    use http_body_util::BodyExt;
    use hyper_util::client::legacy::Client;
    let bench = Bench::new("").await;
    let http = Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build_http::<http_body_util::Full<bytes::Bytes>>();
    let uri = format!("{}/segue.v1.Sql/Execute", bench.segue.sql_address());
    // Invalid UTF-8 in a string, a length beyond the end, an unknown wire type, nothing at all.
    let bodies = [
        framed(&[0x0a, 4, 0x0a, 2, 0xff, 0xfe]),
        framed(&[0x0a, 0x7f, 1]),
        framed(&[0xff; 40]),
        framed(&[]),
        vec![0, 0, 0],
        vec![1, 0, 0, 0, 1, 0],
        vec![0, 0xff, 0xff, 0xff, 0xff],
        Vec::new(),
    ];
    for body in bodies {
        let request = http::Request::post(&uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(http_body_util::Full::from(body.clone()))
            .unwrap();
        let response = http.request(request).await.unwrap();
        let status = tonic::Status::from_header_map(response.headers())
            .unwrap_or_else(|| panic!("no status for {body:?}"));
        response.into_body().collect().await.unwrap();
        let error = detail(&status);
        // The last but one says that 4 GiB follow.
        let (code, reasons) = match body.as_slice() {
            [0, 0xff, ..] => (Code::ResourceExhausted, &["limit.request_bytes"][..]),
            _ => (Code::InvalidArgument, &["invalid.request", "invalid.statement"][..]),
        };
        assert_eq!(status.code(), code, "{body:?}: {status:?}");
        assert!(reasons.contains(&&*error.reason), "{body:?}: {error:?}");
        assert_eq!(error.outcome(), proto::Outcome::NotApplied, "{body:?}");
    }
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff",
    ] {
        let address = bench.segue.sql_address();
        let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
        let _ = stream.write_all(noise).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(
            std::time::Duration::from_secs(15),
            stream.read_to_end(&mut answer),
        )
        .await;
    }
    let mut sql = client(&bench.segue).await;
    assert_eq!(rows(&mut sql, query("SELECT 1::int4", vec![])).await.unwrap(), [[Kind::Int64(1)]]);
    assert!(!bench.segue.logs().contains("panicked"), "{}", bench.segue.logs());
}

#[tokio::test]
async fn what_is_too_large_or_too_much_is_refused_by_its_name() {
    let mut besieged = Besieged::new().await;
    let mut sql = client(&besieged.bench.segue).await.max_encoding_message_size(256 << 20);
    let huge = format!("SELECT '{}'", "x".repeat(100 << 20));
    let status = rows(&mut sql, query(&huge, vec![])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    besieged.refused("100 MB of SQL in Query", &status, "limit.request_bytes").await;
    let status = sql.execute(execute(&huge)).await.unwrap_err();
    besieged.refused("100 MB of SQL in Execute", &status, "limit.request_bytes").await;
    let status = sql.batch(crate::calls::batch(&[&huge])).await.unwrap_err();
    besieged.refused("100 MB of SQL in Batch", &status, "limit.request_bytes").await;
    let blob = execute_with("SELECT $1::bytea", vec![Kind::Bytes(vec![7; 100 << 20].into())]);
    let status = sql.execute(blob).await.unwrap_err();
    besieged.refused("100 MB of a parameter", &status, "limit.request_bytes").await;
    let statement = Some(crate::calls::statement(&huge, vec![]));
    let status = sql.describe(proto::DescribeRequest { statement }).await.unwrap_err();
    besieged.refused("100 MB of SQL in Describe", &status, "limit.request_bytes").await;
    drop(huge);

    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let status = rows(&mut sql, query(&deep, vec![])).await.unwrap_err();
    besieged.refused("100,000 parentheses", &status, "refused.too_deep").await;
    let long = format!("SELECT {}", vec!["1"; 20_000].join("+"));
    let _ = rows(&mut sql, query(&long, vec![])).await;
    besieged.is_well("a chain of 20,000 sums").await;

    let values = vec!["(1, 'a row of a bulk insert')"; 40_000].join(",");
    let bulk = format!("INSERT INTO nowhere VALUES {values}");
    let status = sql.execute(execute(&bulk)).await.unwrap_err();
    besieged.refused("1 MB of literal rows", &status, "42P01").await;

    let many = format!("SELECT {}", vec!["1"; 1_000_000].join(","));
    let status = rows(&mut sql, query(&many, vec![])).await.unwrap_err();
    besieged.refused("a million columns", &status, "limit.statement_tokens").await;

    let places: Vec<_> = (1..=10_000).map(|i| format!("${i}::int8")).collect();
    let many = format!("SELECT {}", places.join("+"));
    let _ = rows(&mut sql, query(&many, vec![Kind::Int64(1); 10_000])).await;
    besieged.is_well("10,000 parameters in a chain").await;
    let many = format!("SELECT cardinality(ARRAY[{}])", places.join(","));
    let found = rows(&mut sql, query(&many, vec![Kind::Int64(1); 10_000])).await.unwrap();
    assert_eq!(found, [[Kind::Int64(10_000)]]);
    let status = rows(&mut sql, query(&many, vec![Kind::Int64(1); 9_999])).await.unwrap_err();
    besieged.refused("one of 10,000 missing", &status, "invalid.parameter_count").await;
    let mut wrong = vec![Kind::Int64(1); 10_000];
    wrong[8_887] = text("one");
    let status = rows(&mut sql, query(&many, wrong)).await.unwrap_err();
    assert!(status.message().contains("$8888"), "{status:?}");
    besieged.refused("one of 10,000 wrong", &status, "invalid.parameter").await;
    let nulls = vec![Kind::Null(0); 70_000];
    let status = rows(&mut sql, query("SELECT 1", nulls)).await.unwrap_err();
    besieged.refused("70,000 parameters", &status, "limit.parameters").await;
    let status = sql.batch(crate::calls::batch(&vec!["SELECT 1"; 1_001])).await.unwrap_err();
    besieged.refused("1,001 statements", &status, "limit.batch_statements").await;
}

#[tokio::test]
async fn zero_bytes_are_refused_wherever_they_stand() {
    let mut besieged = Besieged::new().await;
    let mut sql = besieged.bench.sql.clone();
    let status = rows(&mut sql, query("SELECT '\0'", vec![])).await.unwrap_err();
    besieged.refused("NUL in a query", &status, "invalid.nul").await;
    let status = sql.execute(execute("DELETE FROM note\0")).await.unwrap_err();
    besieged.refused("NUL in a write", &status, "invalid.nul").await;
    let status = sql.batch(crate::calls::batch(&["SELECT 1", "\0"])).await.unwrap_err();
    besieged.refused("NUL in a batch", &status, "invalid.nul").await;
    let insert = execute_with("INSERT INTO note VALUES (1, $1)", vec![text("a\0b")]);
    let status = sql.execute(insert).await.unwrap_err();
    besieged.refused("NUL in a parameter", &status, "invalid.parameter").await;
    let status = sql.execute(crate::calls::keyed("DELETE FROM note", "a\0b")).await.unwrap_err();
    besieged.refused("NUL in an idempotency key", &status, "invalid.key").await;
    let named = crate::calls::named("a\0b", vec![]);
    let request = proto::ExecuteRequest { statement: Some(named), ..Default::default() };
    let status = sql.execute(request).await.unwrap_err();
    assert_eq!(detail(&status).outcome(), proto::Outcome::NotApplied, "{status:?}");
    let routed = proto::QueryRequest { routing_key: "\0".to_owned(), ..query("SELECT 1", vec![]) };
    let status = rows(&mut sql, routed).await.unwrap_err();
    besieged.refused("NUL in a routing key", &status, "invalid.key").await;
    let id = "\0".repeat(32);
    let status = sql
        .commit(proto::CommitRequest { transaction_id: id, ..Default::default() })
        .await
        .unwrap_err();
    besieged.refused("NUL in a transaction id", &status, "invalid.transaction_id").await;
    assert!(besieged.bench.notes().await.is_empty());
}

#[tokio::test]
async fn transactions_of_others_of_nobody_and_of_the_past_are_not_found() {
    let mut besieged = Besieged::new().await;
    let pair = &besieged.bench.pair;
    let mut second = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    second.serve().await;
    let mut elsewhere = client(&second).await;
    let mut sql = besieged.bench.sql.clone();
    let begin = proto::BeginRequest::default;
    let foreign = elsewhere.begin(begin()).await.unwrap().into_inner().transaction_id;
    let committed = sql.begin(begin()).await.unwrap().into_inner().transaction_id;
    sql.commit(proto::CommitRequest { transaction_id: committed.clone(), ..Default::default() })
        .await
        .unwrap();
    let undone = sql.begin(begin()).await.unwrap().into_inner().transaction_id;
    sql.rollback(proto::RollbackRequest { transaction_id: undone.clone() }).await.unwrap();
    let unknown = "0123456789abcdef".repeat(2);
    for (what, id) in [
        ("another sidecar's", &foreign),
        ("a committed one", &committed),
        ("one rolled back", &undone),
        ("an unknown one", &unknown),
    ] {
        let insert = proto::ExecuteRequest {
            transaction: proto::TransactionSelector::open(id.clone()),
            ..execute("INSERT INTO note VALUES (1, 'a')")
        };
        let read = proto::QueryRequest {
            transaction: proto::TransactionSelector::open(id.clone()),
            ..query("SELECT 1", vec![])
        };
        let (commit, rollback) = (
            proto::CommitRequest { transaction_id: id.clone(), ..Default::default() },
            proto::RollbackRequest { transaction_id: id.clone() },
        );
        for (call, status) in [
            ("Execute", sql.execute(insert).await.unwrap_err()),
            ("Query", rows(&mut sql, read).await.unwrap_err()),
            ("Commit", sql.commit(commit).await.unwrap_err()),
            ("Rollback", sql.rollback(rollback).await.unwrap_err()),
        ] {
            assert_eq!(status.code(), Code::NotFound, "{call} in {what}: {status:?}");
            let what = format!("{call} in {what}");
            besieged.refused(&what, &status, "transaction.not_found").await;
        }
    }
    // Nobody else's transaction has suffered.
    let insert = proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(foreign.clone()),
        ..execute("INSERT INTO note VALUES (2, 'b')")
    };
    elsewhere.execute(insert).await.unwrap();
    elsewhere
        .commit(proto::CommitRequest { transaction_id: foreign, ..Default::default() })
        .await
        .unwrap();
    assert_eq!(besieged.bench.notes().await, ["2|b"]);
}
