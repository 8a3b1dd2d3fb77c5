//! Calls through the generated client, and what they answered.

use futures_util::StreamExt;
use prost::Message;
use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, value::Kind};
use tonic::Status;
use tonic::transport::Channel;

use crate::support::{Pair, Segue};

pub type Sql = SqlClient<Channel>;

pub const SCHEMA: &str = "CREATE TABLE note (id int4 PRIMARY KEY, body text NOT NULL);
    CREATE TABLE child (id int4 PRIMARY KEY, note int4 NOT NULL
        REFERENCES note DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE loose (id int4 PRIMARY KEY, size int4, more text);";

/// Two databases and a sidecar before them, in a phase that captures.
pub struct Bench {
    pub sql: Sql,
    pub segue: Segue,
    pub pair: Pair,
}

impl Bench {
    pub async fn new(sections: &str) -> Self {
        let pair = Pair::fresh(SCHEMA, SCHEMA).await;
        let segue = Segue::serving(&pair, "shadow_read", sections).await;
        Self { sql: client(&segue).await, segue, pair }
    }

    /// With so many connections for writes.
    pub async fn with_pool(writes: usize, wait: &str, sections: &str) -> Self {
        let pair = Pair::fresh(SCHEMA, SCHEMA).await;
        let source = format!(
            "dsn = \"{}\"\nwrite_pool_max = {writes}\npool_wait_max = \"{wait}\"",
            pair.source.dsn()
        );
        let target = format!("dsn = \"{}\"", pair.target.dsn());
        let mut segue = Segue::prepare_with(&source, &target, sections);
        segue.init_in("shadow_read").await;
        segue.serve().await;
        Self { sql: client(&segue).await, segue, pair }
    }

    pub async fn notes(&self) -> Vec<String> {
        self.pair.source.rows("SELECT id, body FROM note ORDER BY id").await
    }
}

pub async fn client(segue: &Segue) -> Sql {
    SqlClient::connect(segue.sql_address()).await.unwrap().max_decoding_message_size(64 << 20)
}

pub fn statement(sql: &str, params: Vec<Kind>) -> proto::Statement {
    let params = params.into_iter().map(|kind| proto::Value { kind: Some(kind) }).collect();
    proto::Statement { text: Some(proto::statement::Text::Sql(sql.to_owned())), params }
}

pub fn named(name: &str, params: Vec<Kind>) -> proto::Statement {
    let text = Some(proto::statement::Text::Name(name.to_owned()));
    proto::Statement { text, ..statement("", params) }
}

pub fn query(sql: &str, params: Vec<Kind>) -> proto::QueryRequest {
    proto::QueryRequest { statement: Some(statement(sql, params)), ..Default::default() }
}

pub fn execute(sql: &str) -> proto::ExecuteRequest {
    execute_with(sql, Vec::new())
}

pub fn execute_with(sql: &str, params: Vec<Kind>) -> proto::ExecuteRequest {
    proto::ExecuteRequest { statement: Some(statement(sql, params)), ..Default::default() }
}

pub fn keyed(sql: &str, key: &str) -> proto::ExecuteRequest {
    proto::ExecuteRequest { idempotency_key: key.to_owned(), ..execute(sql) }
}

pub fn batch(statements: &[&str]) -> proto::BatchRequest {
    let statements = statements.iter().map(|sql| statement(sql, Vec::new())).collect();
    proto::BatchRequest { statements, ..Default::default() }
}

/// The detail that says everything.
pub fn detail(status: &Status) -> proto::SqlError {
    let full = tonic_types::pb::Status::decode(status.details())
        .unwrap_or_else(|error| panic!("{status:?}: {error}"));
    detail_of(&full)
}

/// The same of a status in a message.
pub fn detail_of(status: &tonic_types::pb::Status) -> proto::SqlError {
    let mut details = status.details.iter();
    let detail = details.find(|any| any.type_url.ends_with("segue.v1.SqlError"));
    let detail = detail.unwrap_or_else(|| panic!("no detail in {status:?}"));
    proto::SqlError::decode(detail.value.as_slice()).unwrap()
}

/// All messages up to the footer.
pub async fn parts(
    sql: &mut Sql,
    request: impl tonic::IntoRequest<proto::QueryRequest>,
) -> Result<Vec<proto::QueryResponse>, Status> {
    let mut stream = sql.query(request).await?.into_inner();
    let mut parts = Vec::new();
    while let Some(response) = stream.next().await {
        parts.push(response?);
    }
    let last = parts.last().and_then(|part: &proto::QueryResponse| part.footer.as_ref());
    assert!(last.is_some(), "an answer without a footer");
    Ok(parts)
}

/// All rows as typed values.
pub async fn rows(
    sql: &mut Sql,
    request: impl tonic::IntoRequest<proto::QueryRequest>,
) -> Result<Vec<Vec<Kind>>, Status> {
    let mut rows = Vec::new();
    for part in parts(sql, request).await? {
        rows.extend(part.typed_rows());
    }
    let kinds = |row: proto::Row| row.values.into_iter().map(|v| v.kind.unwrap()).collect();
    Ok(rows.into_iter().map(kinds).collect())
}

pub fn text(value: &str) -> Kind {
    Kind::Text(value.to_owned())
}
