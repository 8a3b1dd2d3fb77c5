//! What both tests do: call `Sql`, and read the list of findings as operators do.

use std::time::Duration;

use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, value::Kind};
use serde_json::Value;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Segue, eventually};

pub(crate) const VERDICT_LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn client(segue: &Segue) -> SqlClient<Channel> {
    SqlClient::new(Endpoint::from_shared(segue.sql_address()).unwrap().connect_lazy())
}

fn statement(sql: &str, params: &[i64]) -> Option<proto::Statement> {
    let params = params.iter().map(|it| proto::Value { kind: Some(Kind::Int64(*it)) }).collect();
    Some(proto::Statement { text: Some(proto::statement::Text::Sql(sql.to_owned())), params })
}

/// Runs a read to its end.
pub(crate) async fn read(
    client: &mut SqlClient<Channel>,
    sql: &str,
    params: &[i64],
) -> Result<(), Status> {
    let request =
        proto::QueryRequest { statement: statement(sql, params), ..proto::QueryRequest::default() };
    let mut frames = client.query(request).await?.into_inner();
    while frames.message().await?.is_some() {}
    Ok(())
}

pub(crate) async fn write(
    client: &mut SqlClient<Channel>,
    sql: &str,
    params: &[i64],
) -> Result<(), Status> {
    let statement = statement(sql, params);
    let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
    client.execute(request).await.map(drop)
}

/// `segue mismatches --json`, matches and all.
pub(crate) fn listed(segue: &Segue) -> Vec<Value> {
    let output = segue.run(&["mismatches", "--json", "--limit", "1000"]);
    let found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let found = found.as_array().unwrap().clone();
    let code = if found.iter().any(is_finding) { 3 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "{found:#?}");
    found
}

pub(crate) fn is_finding(entry: &Value) -> bool {
    ["data", "incompatible", "error"].contains(&entry["verdict"].as_str().unwrap())
}

/// Reads until the list has an entry of the verdict whose statement holds `part`.
pub(crate) async fn until_listed(
    segue: &Segue,
    (sql, part): (&str, &str),
    params: &[i64],
    verdict: &str,
) -> Value {
    let what = format!("{verdict} for {sql}");
    eventually(&what, VERDICT_LIMIT, || async {
        // The primary may refuse it, which is an answer as well.
        let _ = read(&mut client(segue), sql, params).await;
        let of_statement = |it: &Value| it["statement"].as_str().unwrap().contains(part);
        let found: Vec<_> = listed(segue).into_iter().filter(of_statement).collect();
        found.into_iter().find(|it| it["verdict"] == verdict)
    })
    .await
}

/// A count of `segue status --json` below `sampling.dropped`.
pub(crate) fn dropped(segue: &Segue, reason: &str) -> u64 {
    status(segue)["sampling"]["dropped"][reason].as_u64().unwrap_or(0)
}

pub(crate) fn status(segue: &Segue) -> Value {
    serde_json::from_str(&segue.succeed(&["status", "--json"])).unwrap()
}
