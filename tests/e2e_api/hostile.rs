//! Nonsense of every kind gets a clear answer, and the service goes on.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::calls::{Bench, client, detail, execute_with, query, rows, text};
use segue::grpc::proto::{self, value::Kind};

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
    let mut bench = Bench::new("").await;
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
            match rows(&mut bench.sql, query(&sql, vec![value.clone()])).await {
                Ok(found) => {
                    assert_eq!(found.len(), 1);
                    accepted += 1;
                }
                Err(status) => {
                    let shown = format!("{ty} from {value:.60?}: {status:?}");
                    assert_eq!(status.code(), Code::InvalidArgument, "{shown}");
                    assert_eq!(detail(&status).outcome(), proto::Outcome::NotApplied, "{shown}");
                }
            }
        }
    }
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
        let in_head = response.headers().get("grpc-status").cloned();
        let has_detail = response.headers().contains_key("grpc-status-details-bin");
        let rest = response.into_body().collect().await.unwrap();
        let in_tail = rest.trailers().and_then(|map| map.get("grpc-status").cloned());
        let status = in_head.or(in_tail).unwrap_or_else(|| panic!("no status for {body:?}"));
        // Not one of these is the server's fault, and each says what is wrong.
        assert!(["3", "8"].iter().any(|code| status == code), "{status:?} for {body:?}");
        assert!(has_detail, "no detail for {body:?}");
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
    let mut sql = client(&bench.segue).await.max_encoding_message_size(256 << 20);
    let huge = format!("SELECT '{}'", "x".repeat(100 << 20));
    let status = rows(&mut sql, query(&huge, vec![])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(detail(&status).reason, "limit.request_bytes");
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let status = rows(&mut sql, query(&deep, vec![])).await.unwrap_err();
    assert_eq!(detail(&status).reason, "refused.too_deep", "{status:?}");
    let long = format!("SELECT {}", vec!["1"; 20_000].join("+"));
    let _ = rows(&mut sql, query(&long, vec![])).await;
    assert_eq!(rows(&mut sql, query("SELECT 1::int4", vec![])).await.unwrap(), [[Kind::Int64(1)]]);
    assert!(!bench.segue.logs().contains("panicked"), "{}", bench.segue.logs());
}
