//! Traces as a collector receives them, from segue's own constructors.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use segue::domain::fault::{FaultKind, SqlFault};
use segue::domain::key::WriteId;
use segue::domain::reason::Reason;
use segue::domain::side::Side;
use segue::telemetry::setup::{Params, Tracing};
use segue::telemetry::spans::{self, Peer, Writers};
use tracing::Dispatch;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::collector::{Collector, attributes, hex};

/// A log that can be read.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn params(endpoint: Option<String>, http: bool) -> Params {
    Params {
        endpoint,
        http,
        headers: vec![("x-token".to_owned(), "t0ken".to_owned())],
        timeout: Duration::from_secs(5),
        sample_ratio: 1.0,
        service_name: "segue-test".to_owned(),
        log_json: true,
        log_level: "info".to_owned(),
    }
}

/// A value that a call brought; no time and no id has it by chance.
const MARKER: &str = "a-value-4711";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// One write with its capture and reconcile, one read with its shadow read.
fn a_call(dispatch: &Dispatch) {
    tracing::dispatcher::with_default(dispatch, || {
        let peer = Peer {
            side: Side::Source,
            address: "db1".to_owned(),
            port: 5433,
            namespace: "shop".to_owned(),
        };
        let call = spans::call("segue.v1.Sql/Execute");
        let headers = [("traceparent".to_owned(), format!("00-{TRACE}-{PARENT}-01"))];
        let headers: std::collections::HashMap<_, _> = headers.into();
        call.set_parent(TraceContextPropagator::new().extract(&headers)).unwrap();
        let writers = Writers::new(1);
        let write = WriteId(7);
        call.in_scope(|| {
            let statement = spans::statement(&peer, "UPDATE orders");
            statement.in_scope(|| tracing::warn!(secret = MARKER, "a line of the log"));
            spans::captured(&statement, write);
            let fault = SqlFault {
                sqlstate: "23505".to_owned(),
                detail: format!("Key (id)=({MARKER}) already exists."),
                ..SqlFault::new(
                    FaultKind::Database,
                    Reason::Database,
                    format!("duplicate key value {MARKER}"),
                )
            };
            spans::note_fault(&statement, &fault);
        });
        writers.remember(write, &call);
        let reconcile = spans::reconcile(Side::Target, 1, writers.of([write, WriteId(8)], 9));
        reconcile.in_scope(|| drop(spans::statement(&peer, "SELECT orders")));
        writers.remember(WriteId(8), &call);
        assert!(writers.of([write], 9).is_empty(), "only the latest are remembered");
        let shadow_read = spans::shadow_read(&call, Side::Target.as_str());
        shadow_read
            .in_scope(|| spans::record_verdict("normalized", "timestamp", ["precision", "zone"]));
    });
}

fn check(collector: &Collector) {
    assert_eq!(*collector.service.lock().unwrap(), "segue-test");
    assert_eq!(*collector.token.lock().unwrap(), "t0ken");

    let call = collector.named("segue.v1.Sql/Execute");
    assert_eq!(hex(&call.trace_id), TRACE);
    assert_eq!(hex(&call.parent_span_id), PARENT);
    assert_eq!(call.kind, 2, "a server's");
    assert_eq!(attributes(&call.attributes)["rpc.system.name"], "grpc");

    let statement = collector.named("UPDATE orders");
    assert_eq!(statement.parent_span_id, call.span_id);
    assert_eq!(statement.trace_id, call.trace_id);
    assert_eq!(statement.kind, 3, "a client's");
    assert_eq!(statement.status.clone().unwrap().code, 2, "in error");
    let expected = [
        ("db.namespace", "shop"),
        ("db.query.summary", "UPDATE orders"),
        ("db.response.status_code", "23505"),
        ("db.system.name", "postgresql"),
        ("error.type", "23505"),
        ("segue.side", "source"),
        ("server.address", "db1"),
        ("server.port", "5433"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(attributes(&statement.attributes), BTreeMap::from(expected));
    assert_eq!(statement.events.len(), 1, "the log's line is none of them");
    assert_eq!(statement.events[0].name, "segue.captured");
    let write_id = &attributes(&statement.events[0].attributes)["segue.write_id"];
    assert_eq!(write_id, "00000000-0000-0000-0000-000000000007");

    let reconcile = collector.named("reconcile");
    assert_ne!(reconcile.trace_id, call.trace_id);
    assert!(reconcile.parent_span_id.is_empty());
    assert_eq!(reconcile.links.len(), 1);
    assert_eq!(reconcile.links[0].span_id, call.span_id);
    assert_eq!(attributes(&reconcile.attributes)["segue.reconcile.keys"], "1");
    assert_eq!(collector.named("SELECT orders").parent_span_id, reconcile.span_id);

    let shadow_read = collector.named("shadow read");
    assert_ne!(shadow_read.trace_id, call.trace_id);
    assert_eq!(shadow_read.links[0].span_id, call.span_id);
    assert_eq!(shadow_read.links[0].trace_id, call.trace_id);
    let found = attributes(&shadow_read.attributes);
    assert_eq!(found["segue.verdict"], "normalized");
    assert_eq!(found["segue.rules"], "precision,zone");
    assert_eq!(shadow_read.events[0].name, "segue.compared");

    let capture = collector.named("capture");
    assert_eq!(capture.parent_span_id, statement.span_id);

    let all = format!("{:?}", collector.spans.lock().unwrap());
    assert!(!all.contains(MARKER), "no value of a parameter leaves: {all}");
    assert_eq!(collector.spans.lock().unwrap().len(), 6, "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_by_grpc_with_names_parents_links_and_no_values() {
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.grpc().await);
    let lines = Lines::default();
    let started = Tracing::start(&params(Some(endpoint), false), Box::new(lines.clone()));
    let (tracing, dispatch) = started.unwrap();
    a_call(&dispatch);
    tracing.shutdown().await;
    check(&collector);
    let line: serde_json::Value = serde_json::from_str(lines.text().trim()).unwrap();
    assert_eq!(line["message"], "a line of the log");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["secret"], MARKER);
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["span_id"], hex(&collector.named("UPDATE orders").span_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_arrive_by_http_as_well() {
    let collector = Collector::default();
    let endpoint = format!("http://{}/v1/traces", collector.http().await);
    let started = Tracing::start(&params(Some(endpoint), true), Box::new(Lines::default()));
    let (tracing, dispatch) = started.unwrap();
    a_call(&dispatch);
    tracing.shutdown().await;
    check(&collector);
}

#[tokio::test]
async fn without_a_collector_log_lines_still_have_the_callers_trace() {
    let lines = Lines::default();
    let params = Params { log_json: false, ..params(None, false) };
    let (tracing, dispatch) = Tracing::start(&params, Box::new(lines.clone())).unwrap();
    a_call(&dispatch);
    tracing.shutdown().await;
    let line = format!("a line of the log secret=\"{MARKER}\"");
    assert!(lines.text().contains(&line), "{}", lines.text());
    assert!(lines.text().contains(&format!("trace_id={TRACE}")), "{}", lines.text());
}

/// A collector that takes the connection and says nothing must not hold up the end.
#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_is_bounded() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let params = Params { timeout: Duration::from_millis(300), ..params(Some(endpoint), false) };
    let (tracing, dispatch) = Tracing::start(&params, Box::new(Lines::default())).unwrap();
    a_call(&dispatch);
    let began = std::time::Instant::now();
    tracing.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_filter_or_header_that_makes_no_sense_is_refused() {
    let bad_level = Params { log_level: "segue=loud".to_owned(), ..params(None, false) };
    let fault = Tracing::start(&bad_level, Box::new(Lines::default())).unwrap_err();
    assert!(fault.to_string().contains("telemetry.log_level"), "{fault}");
    let endpoint = Some("http://127.0.0.1:1".to_owned());
    let headers = vec![("two words".to_owned(), "t0ken".to_owned())];
    let bad_header = Params { headers, ..params(endpoint, false) };
    let fault = Tracing::start(&bad_header, Box::new(Lines::default())).unwrap_err().to_string();
    assert!(fault.contains("two words") && !fault.contains("t0ken"), "{fault}");
}
