//! The real command's traces, as a collector receives them.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, value::Kind};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::collector::{Collector, attributes, hex};
use crate::support::{Pair, Segue, eventually};

const LIMIT: Duration = Duration::from_secs(30);
const SCHEMA: &str = "CREATE TABLE orders (id int8 PRIMARY KEY, note text);
    INSERT INTO orders VALUES (1, 'first')";
/// What callers send and must not be found in anything that is exported or logged.
const MARKER: &str = "xyzzy-4711-secret";
const MARKER_ID: i64 = 918_273_645;
const PARENT: &str = "b7ad6b7169203331";
const WRITE_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const READ_TRACE: &str = "1bf7651916cd43dd8448eb211c80319c";
const FAILED_TRACE: &str = "2cf7651916cd43dd8448eb211c80319c";

fn settings(endpoint: &str, protocol: &str) -> String {
    format!(
        "[telemetry]\notlp_endpoint = \"{endpoint}\"\notlp_protocol = \"{protocol}\"\n\
         otlp_headers = {{ x-token = \"t0ken\" }}\nlog_format = \"json\"\n\
         [sampling]\nrate = 1\nlook_again_after = \"20ms\"\n\
         [compare]\nflush_interval = \"100ms\"\n"
    )
}

fn traced<T>(message: T, trace: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("00-{trace}-{PARENT}-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", value);
    request
}

fn statement(sql: &str, id: i64, note: Option<&str>) -> Option<proto::Statement> {
    let mut params = vec![proto::Value { kind: Some(Kind::Int64(id)) }];
    params.extend(note.map(|it| proto::Value { kind: Some(Kind::Text(it.to_owned())) }));
    Some(proto::Statement { text: Some(proto::statement::Text::Sql(sql.to_owned())), params })
}

async fn insert(sql: &mut SqlClient<Channel>, trace: &str) -> Result<(), Status> {
    let statement = statement("INSERT INTO orders VALUES ($1, $2)", MARKER_ID, Some(MARKER));
    let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
    sql.execute(traced(request, trace)).await.map(drop)
}

async fn select(sql: &mut SqlClient<Channel>, id: i64, trace: &str) {
    let statement = statement("SELECT note FROM orders WHERE id = $1", id, None);
    let request = proto::QueryRequest { statement, ..proto::QueryRequest::default() };
    let mut frames = sql.query(traced(request, trace)).await.unwrap().into_inner();
    while frames.message().await.unwrap().is_some() {}
}

/// One write, one read of a row that differs, one write that fails; then the end.
async fn calls(pair: &Pair, settings: &str) -> String {
    let mut segue = Segue::serving(pair, "shadow_read", settings).await;
    let mut sql = SqlClient::connect(segue.sql_address()).await.unwrap();
    insert(&mut sql, WRITE_TRACE).await.unwrap();
    eventually("the row is on the target", LIMIT, || async {
        let rows = pair.target.rows("SELECT id FROM orders").await;
        (rows.len() == 2).then_some(())
    })
    .await;
    pair.target.run_as_copy(&format!("UPDATE orders SET note = '{MARKER}?' WHERE id = 1")).await;
    select(&mut sql, 1, READ_TRACE).await;
    assert_eq!(
        insert(&mut sql, FAILED_TRACE).await.unwrap_err().code(),
        tonic::Code::AlreadyExists
    );
    eventually("the difference is listed", LIMIT, || async {
        let listed = segue.run(&["mismatches"]).stdout;
        String::from_utf8_lossy(&listed).contains("data").then_some(())
    })
    .await;
    assert!(segue.terminate().await, "{}", segue.logs());
    segue.logs()
}

fn of_trace<'a>(spans: &'a [Span], trace: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| hex(&span.trace_id) == trace).collect()
}

fn one<'a>(spans: &[&'a Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

fn check(collector: &Collector, logs: &str) {
    let spans = collector.spans.lock().unwrap().clone();
    let all: Vec<&Span> = spans.iter().collect();

    let write = of_trace(&spans, WRITE_TRACE);
    let call = one(&write, "segue.v1.Sql/Execute");
    assert_eq!((hex(&call.parent_span_id).as_str(), call.kind), (PARENT, 2));
    assert_eq!(attributes(&call.attributes)["rpc.response.status_code"], "OK");
    let statement = one(&write, "INSERT orders");
    assert_eq!((&statement.parent_span_id, statement.kind), (&call.span_id, 3));
    let said = attributes(&statement.attributes);
    for (name, value) in [
        ("db.system.name", "postgresql"),
        ("db.query.summary", "INSERT orders"),
        ("server.address", "127.0.0.1"),
        ("segue.side", "source"),
    ] {
        assert_eq!(said[name], value, "{said:#?}");
    }
    assert!(said.contains_key("server.port") && said.contains_key("db.namespace"), "{said:#?}");
    let capture = one(&write, "capture");
    assert_eq!(capture.parent_span_id, statement.span_id);
    assert!(attributes(&capture.attributes).contains_key("segue.write_id"));

    let linked = |name: &str, to: &Span| {
        let of_call = |span: &&&Span| {
            span.name == name && span.links.iter().any(|link| link.span_id == to.span_id)
        };
        let found = all.iter().copied().find(|span| of_call(&span));
        found.unwrap_or_else(|| panic!("no {name} is linked to {to:#?} in {all:#?}")).clone()
    };
    let reconcile = linked("reconcile", call);
    assert_ne!(reconcile.trace_id, call.trace_id);
    assert!(reconcile.parent_span_id.is_empty());
    assert_eq!(attributes(&reconcile.attributes)["segue.reconcile.rows_written"], "1");

    let read = of_trace(&spans, READ_TRACE);
    let query = one(&read, "segue.v1.Sql/Query");
    let select = one(&read, "SELECT orders");
    assert_eq!(select.parent_span_id, query.span_id);
    assert_eq!(attributes(&select.attributes)["db.response.returned_rows"], "1");
    let shadow_read = linked("shadow read", query);
    assert_ne!(shadow_read.trace_id, query.trace_id);
    let said = attributes(&shadow_read.attributes);
    assert_eq!((said["segue.verdict"].as_str(), said["segue.side"].as_str()), ("data", "target"));
    assert_eq!(shadow_read.events[0].name, "segue.compared");
    let below: Vec<_> = all.iter().filter(|it| it.trace_id == shadow_read.trace_id).collect();
    let on_target = |it: &&&&Span| attributes(&it.attributes)["segue.side"] == "target";
    assert!(below.iter().filter(on_target).count() >= 2, "{below:#?}");

    let failed = of_trace(&spans, FAILED_TRACE);
    let call = one(&failed, "segue.v1.Sql/Execute");
    assert_eq!(attributes(&call.attributes)["db.response.status_code"], "23505");
    assert_eq!(attributes(&call.attributes)["rpc.response.status_code"], "ALREADY_EXISTS");
    let statement = one(&failed, "INSERT orders");
    assert_eq!(attributes(&statement.attributes)["db.response.status_code"], "23505");
    assert_eq!(statement.status.clone().unwrap().code, 2);

    let line = logs.lines().find(|line| line.contains("hold different data")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["trace_id"], hex(&shadow_read.trace_id));

    let bytes = collector.bytes.lock().unwrap();
    for secret in [MARKER.to_owned(), MARKER_ID.to_string()] {
        assert!(!bytes.windows(secret.len()).any(|it| it == secret.as_bytes()), "{secret}");
        assert!(!logs.contains(&secret), "{secret} in {logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_its_reconcile_and_its_comparison_are_traced_by_grpc() {
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.grpc().await);
    let pair = Pair::fresh(SCHEMA, SCHEMA).await;
    let logs = calls(&pair, &settings(&endpoint, "grpc")).await;
    check(&collector, &logs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_its_reconcile_and_its_comparison_are_traced_by_http() {
    let collector = Collector::default();
    let endpoint = format!("http://{}/v1/traces", collector.http().await);
    let pair = Pair::fresh(SCHEMA, SCHEMA).await;
    let logs = calls(&pair, &settings(&endpoint, "http/protobuf")).await;
    check(&collector, &logs);
}
