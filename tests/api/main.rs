//! The API on two real servers, through the generated client.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod server;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use prost::Message;
use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, value::Kind};
use server::Server;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const SCHEMA: &str = "CREATE TYPE mood AS ENUM ('sad', 'happy'); \
    CREATE TABLE note (id int4 PRIMARY KEY, text text NOT NULL, at timestamptz);";

async fn client(server: &Server) -> SqlClient<Channel> {
    SqlClient::connect(format!("http://{}", server.sql)).await.unwrap()
}

fn statement(sql: &str, params: Vec<Kind>) -> Option<proto::Statement> {
    let params = params.into_iter().map(|kind| proto::Value { kind: Some(kind) }).collect();
    Some(proto::Statement { text: Some(proto::statement::Text::Sql(sql.to_owned())), params })
}

fn query(sql: &str, params: Vec<Kind>) -> proto::QueryRequest {
    proto::QueryRequest { statement: statement(sql, params), ..Default::default() }
}

fn execute(sql: &str, params: Vec<Kind>) -> proto::ExecuteRequest {
    proto::ExecuteRequest { statement: statement(sql, params), ..Default::default() }
}

fn detail(status: &Status) -> proto::SqlError {
    let full = tonic_types::pb::Status::decode(status.details()).unwrap();
    proto::SqlError::decode(full.details[1].value.as_slice()).unwrap()
}

async fn rows(
    client: &mut SqlClient<Channel>,
    request: impl tonic::IntoRequest<proto::QueryRequest>,
) -> Result<Vec<Vec<Kind>>, Status> {
    let mut stream = client.query(request).await?.into_inner();
    let mut rows = Vec::new();
    let mut footer = None;
    while let Some(response) = stream.next().await {
        let response = response?;
        rows.extend(response.typed_rows());
        footer = response.footer;
    }
    assert_eq!(footer.expect("a footer").row_count, rows.len() as u64);
    let kinds = |row: proto::Row| row.values.into_iter().map(|v| v.kind.unwrap()).collect();
    Ok(rows.into_iter().map(kinds).collect())
}

#[tokio::test]
async fn every_kind_of_value_goes_there_and_back() {
    let server = Server::start(SCHEMA, SCHEMA).await;
    let mut client = client(&server).await;
    let text = |text: &str| text.to_owned();
    let at = |seconds, micros, infinity: proto::Infinity| proto::Timestamp {
        seconds,
        micros,
        infinity: infinity.into(),
    };
    let finite = proto::Infinity::Unspecified;
    let int = |value| proto::Value { kind: Some(Kind::Int64(value)) };
    let array = proto::Array {
        element_type: text("int4"),
        dimensions: vec![proto::Dimension { length: 3, lower_bound: 1 }],
        elements: vec![int(1), proto::Value { kind: Some(Kind::Null(0)) }, int(-3)],
    };
    let other = |type_name: &str, value: &str| {
        Kind::Other(proto::Other { type_name: text(type_name), text: text(value) })
    };
    let interval = proto::Interval { months: 1, days: -2, micros: 3, infinity: finite.into() };
    for (type_name, value) in [
        ("bool", Kind::Bool(false)),
        ("int2", Kind::Int64(-32768)),
        ("int4", Kind::Int64(2_147_483_647)),
        ("int8", Kind::Int64(i64::MIN)),
        ("float8", Kind::Double(-0.1)),
        ("float8", Kind::Double(f64::INFINITY)),
        ("numeric", Kind::Numeric(text("12345678901234567890123456789012345678.3400"))),
        ("numeric", Kind::Numeric(text("NaN"))),
        ("text", Kind::Text(text("größer, \u{1F600}"))),
        ("text", Kind::Text(String::new())),
        ("bytea", Kind::Bytes(vec![0, 1, 255].into())),
        ("timestamp", Kind::Timestamp(at(-1, 999_999, finite))),
        ("timestamptz", Kind::Timestamptz(at(1_700_000_000, 1, finite))),
        ("timestamptz", Kind::Timestamptz(at(0, 0, proto::Infinity::Negative))),
        ("date", Kind::Date(proto::Date { days: -1, infinity: finite.into() })),
        ("time", Kind::Time(86_400_000_000)),
        ("interval", Kind::Interval(interval)),
        ("uuid", Kind::Uuid(text("0af76519-16cd-43dd-8448-eb211c80319c"))),
        ("json", Kind::Json(text("{\"b\":1,  \"a\":1.00}"))),
        ("int4[]", Kind::Array(array)),
        ("mood", other("mood", "happy")),
        ("inet", other("inet", "10.0.0.1/8")),
        ("int4range", other("int4range", "[1,5)")),
        ("text", Kind::Null(0)),
    ] {
        let found =
            rows(&mut client, query(&format!("SELECT $1::{type_name}"), vec![value.clone()]))
                .await
                .unwrap_or_else(|status| panic!("{type_name}: {status:?}"));
        assert_eq!(found, [[value]], "{type_name}");
    }
}

#[tokio::test]
async fn values_that_do_not_fit_are_refused() {
    let server = Server::start(SCHEMA, SCHEMA).await;
    let mut client = client(&server).await;
    for (type_name, value) in [
        ("int4", Kind::Int64(1 << 40)),
        ("bool", Kind::Text("true".to_owned())),
        ("int4", Kind::Text("1".to_owned())),
        ("uuid", Kind::Uuid("nonsense".to_owned())),
    ] {
        let request = query(&format!("SELECT $1::{type_name}"), vec![value]);
        let status = rows(&mut client, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{type_name}: {}", status.message());
    }
}

#[tokio::test]
async fn packed_rows_hold_the_servers_bytes() {
    let server = Server::start(SCHEMA, SCHEMA).await;
    let request = proto::QueryRequest {
        encoding: proto::Encoding::Packed.into(),
        ..query("SELECT i, NULL::text FROM generate_series(1, 3) i", Vec::new())
    };
    let stream = client(&server).await.query(request).await.unwrap().into_inner();
    let parts: Vec<_> = stream.map(|response| response.unwrap()).collect().await;
    let packed = parts[0].packed_rows().expect("packed rows");
    let mut expected = Vec::new();
    for i in 1..=3_i32 {
        expected.extend([0, 0, 0, 4]);
        expected.extend(i.to_be_bytes());
        expected.extend([255; 4]);
    }
    assert_eq!((packed.row_count, packed.cells.to_vec()), (3, expected));
}

#[tokio::test]
async fn many_rows_come_whole_and_in_order() {
    let server = Server::start(SCHEMA, SCHEMA).await;
    let request = query("SELECT i FROM generate_series(1, 50000) i", Vec::new());
    let found = rows(&mut client(&server).await, request).await.unwrap();
    assert!(found.iter().zip(1..).all(|(row, i)| row == &[Kind::Int64(i)]));
    let request = query("SELECT i FROM generate_series(1, 100001) i", Vec::new());
    let status = rows(&mut client(&server).await, request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{}", status.message());
}

#[tokio::test]
async fn writes_answer_with_rows_and_errors_with_codes() {
    let server = Server::start(SCHEMA, SCHEMA).await;
    let mut client = client(&server).await;
    let insert = |id| {
        let params = vec![Kind::Int64(id), Kind::Text("a".to_owned())];
        execute("INSERT INTO note VALUES ($1, $2) RETURNING id, text", params)
    };
    let answer = client.execute(insert(1)).await.unwrap().into_inner();
    assert_eq!((answer.affected_rows(), answer.result.as_ref().unwrap().columns.len()), (1, 2));
    assert_eq!(answer.typed_rows()[0].values[0].kind, Some(Kind::Int64(1)));
    let status = client.execute(insert(1)).await.unwrap_err();
    let error = detail(&status);
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!((&*error.sqlstate, &*error.constraint), ("23505", "note_pkey"));
    assert_eq!((error.side(), error.outcome()), (proto::Side::Source, proto::Outcome::NotApplied));
    let null = execute("INSERT INTO note VALUES (2, NULL)", Vec::new());
    assert_eq!(client.execute(null).await.unwrap_err().code(), Code::FailedPrecondition);
    let absent = rows(&mut client, query("SELECT * FROM absent", Vec::new())).await.unwrap_err();
    assert_eq!((absent.code(), &*detail(&absent).sqlstate), (Code::InvalidArgument, "42P01"));
    let batch = proto::BatchRequest {
        statements: ["DELETE FROM note", "INSERT INTO note VALUES (1, NULL)"]
            .iter()
            .filter_map(|sql| statement(sql, Vec::new()))
            .collect(),
        ..Default::default()
    };
    client.batch(batch).await.unwrap_err();
    assert_eq!(server.pair.source.rows("SELECT id FROM note").await, ["1"], "all or none");
}

#[tokio::test]
async fn a_transaction_spans_calls() {
    let server = Server::start(SCHEMA, SCHEMA).await;
    let mut client = client(&server).await;
    let begun = client.begin(proto::BeginRequest::default()).await.unwrap().into_inner();
    let id = begun.transaction_id;
    let insert = proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(id.clone()),
        ..execute("INSERT INTO note VALUES (1, 'a')", Vec::new())
    };
    client.execute(insert).await.unwrap();
    let inside = proto::QueryRequest {
        transaction: proto::TransactionSelector::open(id.clone()),
        ..query("SELECT id FROM note", vec![])
    };
    assert_eq!(rows(&mut client, inside).await.unwrap(), [[Kind::Int64(1)]]);
    assert!(rows(&mut client, query("SELECT id FROM note", vec![])).await.unwrap().is_empty());
    client
        .commit(proto::CommitRequest { transaction_id: id.clone(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(rows(&mut client, query("SELECT id FROM note", vec![])).await.unwrap().len(), 1);
    let again = client
        .commit(proto::CommitRequest { transaction_id: id, ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(again.code(), Code::NotFound, "{}", again.message());
    let begun = client.begin(proto::BeginRequest::default()).await.unwrap().into_inner();
    let id = begun.transaction_id;
    let delete = proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(id.clone()),
        ..execute("DELETE FROM note", Vec::new())
    };
    client.execute(delete).await.unwrap();
    client.rollback(proto::RollbackRequest { transaction_id: id }).await.unwrap();
    assert_eq!(server.pair.source.rows("SELECT id FROM note").await, ["1"]);
}

#[tokio::test]
async fn the_deadline_stops_the_statement() {
    // The sidecar's own default, since this client ends calls at a deadline of theirs itself.
    let server = Server::start_with(SCHEMA, SCHEMA, Duration::from_millis(300)).await;
    let request = query("SELECT pg_sleep(30)", Vec::new());
    let started = Instant::now();
    let status = rows(&mut client(&server).await, request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{}", status.message());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    nothing_runs(&server, "pg_sleep").await;
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_the_statement() {
    let server = Server::start(SCHEMA, SCHEMA).await;
    let mut client = client(&server).await;
    let call = tokio::spawn(async move {
        client.execute(execute("INSERT INTO note SELECT 1, pg_sleep(60)::text", vec![])).await
    });
    running(&server, "pg_sleep", 1).await;
    call.abort();
    nothing_runs(&server, "pg_sleep").await;
    assert!(server.pair.source.rows("SELECT id FROM note").await.is_empty());
}

#[tokio::test]
async fn a_failure_in_the_middle_fails_the_stream() {
    let server = Server::start(SCHEMA, SCHEMA).await;
    let request = query("SELECT 1 / (30000 - i) FROM generate_series(1, 40000) i", Vec::new());
    let status = rows(&mut client(&server).await, request).await.unwrap_err();
    assert_eq!((status.code(), &*detail(&status).sqlstate), (Code::InvalidArgument, "22012"));
}

#[tokio::test]
async fn reads_cannot_write_through_functions() {
    let schema = format!(
        "{SCHEMA} CREATE FUNCTION sneak() RETURNS int LANGUAGE sql AS \
         $$ INSERT INTO note VALUES (1, 'a') RETURNING id $$;"
    );
    let server = Server::start(&schema, SCHEMA).await;
    let request = query("SELECT sneak()", Vec::new());
    let status = rows(&mut client(&server).await, request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{}", status.message());
    assert!(server.pair.source.rows("SELECT id FROM note").await.is_empty());
}

#[tokio::test]
async fn describe_shows_how_the_sides_differ() {
    let target = SCHEMA.replace("id int4", "id int8");
    let server = Server::start(SCHEMA, &target).await;
    let request = proto::DescribeRequest {
        statement: statement("SELECT id FROM note WHERE id = $1", Vec::new()),
    };
    let sides = client(&server).await.describe(request).await.unwrap().into_inner().sides;
    let types: Vec<_> = sides.iter().map(|side| side.parameter_types.join(",")).collect();
    assert_eq!(types, ["int4", "int8"]);
}

#[tokio::test]
async fn operators_show_their_token_and_probes_need_none() {
    use proto::migration_client::MigrationClient;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    let server = Server::start(SCHEMA, SCHEMA).await;
    for address in [server.sql, server.admin] {
        let mut health = HealthClient::new(channel(address).await);
        let serving = async {
            loop {
                let asked = health.check(HealthCheckRequest::default()).await.unwrap();
                if asked.into_inner().status == 1 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), serving).await.expect("serving");
    }
    let mut operators = MigrationClient::connect(format!("http://{}", server.admin)).await.unwrap();
    let status = operators.get_status(proto::GetStatusRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut request = Request::new(proto::GetStatusRequest {});
    let shown = format!("Bearer {}", server::TOKEN);
    request.metadata_mut().insert("authorization", shown.parse().unwrap());
    let status = operators.get_status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.phase(), proto::Phase::SourceOnly);
    assert_eq!(status.phase_reason, "a test");

    for (path, token, expected) in [
        ("/healthz", None, "200"),
        ("/readyz", None, "200"),
        ("/metrics", None, "401"),
        ("/metrics", Some("wrong"), "401"),
        ("/metrics", Some(server::TOKEN), "200"),
    ] {
        let page = http_get(&server, path, token).await;
        assert!(page.starts_with(&format!("HTTP/1.1 {expected}")), "{path}: {page}");
    }
}

#[tokio::test]
async fn reflection_names_the_services() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let server = Server::start(SCHEMA, SCHEMA).await;
    let mut client = ServerReflectionClient::new(channel(server.sql).await);
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asked = futures_util::stream::iter([ask]);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"segue.v1.Sql"), "{names:?}");
}

async fn channel(address: std::net::SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn http_get(server: &Server, path: &str, token: Option<&str>) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.admin).await.unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    let request = format!("{head}{}\r\n", token.unwrap_or_default());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

async fn running(server: &Server, text: &str, count: usize) {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{text}%' \
         AND pid <> pg_backend_pid() AND datname = current_database()"
    );
    let what = format!("{count} running with {text}");
    let source = &server.pair.source;
    let probe = || async { (source.rows(&sql).await.len() == count).then_some(()) };
    support::eventually(&what, Duration::from_secs(10), probe).await;
}

async fn nothing_runs(server: &Server, text: &str) {
    running(server, text, 0).await;
}
