//! Three sidecars over one pair of databases, and what clients and operators do with them.

use std::time::Duration;

use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, value::Kind};
use serde_json::Value;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Pair, Segue, eventually};

pub const LIMIT: Duration = Duration::from_secs(120);
pub const ITEMS: &str = "CREATE TABLE item (id int PRIMARY KEY, version int8 NOT NULL)";

/// Quick enough for a test, and long enough for a loaded machine.
pub const QUICK: &str = "[control]
poll_interval = \"200ms\"
lease = \"4s\"
[outbox]
poll_interval = \"100ms\"
";

/// So many sidecars, the first of which has initialised the phase.
pub async fn serving(pair: &Pair, members: usize, phase: &str, sections: &str) -> Vec<Segue> {
    let (source, target) = (pair.source.dsn(), pair.target.dsn());
    let mut fleet: Vec<Segue> =
        (0..members).map(|_| Segue::prepare(source, target, sections)).collect();
    fleet[0].init_in(phase).await;
    for member in &mut fleet {
        member.serve().await;
    }
    fleet
}

pub fn client(segue: &Segue) -> SqlClient<Channel> {
    SqlClient::new(Endpoint::from_shared(segue.sql_address()).unwrap().connect_lazy())
}

pub fn statement(sql: &str, params: &[i64]) -> Option<proto::Statement> {
    let params = params.iter().map(|it| proto::Value { kind: Some(Kind::Int64(*it)) }).collect();
    Some(proto::Statement { text: Some(proto::statement::Text::Sql(sql.to_owned())), params })
}

/// Sets an item's version; gives the token for reads that must see it.
pub async fn write(
    client: &mut SqlClient<Channel>,
    id: i64,
    version: i64,
) -> Result<String, Status> {
    const UPSERT: &str = "INSERT INTO item (id, version) VALUES ($1, $2)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version";
    let statement = statement(UPSERT, &[id, version]);
    let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
    Ok(client.execute(request).await?.into_inner().consistency_token)
}

/// Deletes an item, as one call or within a transaction; gives the token of the answer.
pub async fn delete(client: &mut SqlClient<Channel>, id: i64, within: bool) -> String {
    let statement = statement("DELETE FROM item WHERE id = $1", &[id]);
    let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
    if !within {
        return client.execute(request).await.unwrap().into_inner().consistency_token;
    }
    let begun = client.begin(proto::BeginRequest::default()).await.unwrap();
    let transaction_id = begun.into_inner().transaction_id;
    let request = proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(transaction_id.clone()),
        ..request
    };
    client.execute(request).await.unwrap();
    let committed =
        client.commit(proto::CommitRequest { transaction_id, ..Default::default() }).await.unwrap();
    committed.into_inner().consistency_token
}

/// An item's version, and the side that said so.
pub async fn read(
    client: &mut SqlClient<Channel>,
    id: i64,
    token: &str,
) -> Result<(Option<i64>, proto::Side), Status> {
    let request = proto::QueryRequest {
        statement: statement("SELECT version FROM item WHERE id = $1", &[id]),
        consistency_tokens: vec![token.to_owned()],
        ..proto::QueryRequest::default()
    };
    let mut frames = client.query(request).await?.into_inner();
    let mut version = None;
    while let Some(frame) = frames.message().await? {
        let rows = frame.typed_rows();
        let value = rows.first().and_then(|row| row.values.first());
        if let Some(Kind::Int64(found)) = value.and_then(|value| value.kind.clone()) {
            version = Some(found);
        }
        if let Some(footer) = frame.footer {
            return Ok((version, footer.side()));
        }
    }
    panic!("an answer without a footer");
}

/// What segue's own detail in a status says of reason and outcome.
pub fn told(status: &Status) -> Option<(String, proto::Outcome)> {
    use prost::Message;
    let whole = tonic_types::pb::Status::decode(status.details()).ok()?;
    let detail = whole.details.iter().find(|any| any.type_url.ends_with("segue.v1.SqlError"))?;
    let error = proto::SqlError::decode(&*detail.value).ok()?;
    Some((error.reason.clone(), error.outcome()))
}

pub fn status(segue: &Segue) -> Value {
    serde_json::from_str(&segue.succeed(&["status", "--json"])).unwrap()
}

pub async fn until(segue: &Segue, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(what, LIMIT, || async {
        let now = status(segue);
        holds(&now).then_some(now)
    })
    .await
}

/// Whether the leader has noted that every member works by the epoch.
pub fn settled(status: &Value) -> bool {
    status["fleet"]["settled_at"].is_string() && status["fleet"]["settled"] == true
}

pub fn alive(status: &Value) -> Vec<Value> {
    let members = status["fleet"]["members"].as_array().cloned().unwrap_or_default();
    members.into_iter().filter(|it| it["lease_remaining_s"].as_f64().unwrap() > 0.0).collect()
}

/// The port of the member that leads, as it stands in its name.
pub fn leader(status: &Value) -> Option<String> {
    let leads = alive(status).into_iter().find(|it| it["is_leader"] == true)?;
    Some(leads["address"].as_str().unwrap().to_owned())
}

/// Goes on to a phase whatever the gates say.
pub async fn forced(segue: &Segue, phase: &str) {
    until(segue, "the phase has settled", settled).await;
    segue.succeed(&["phase", "advance", "--to", phase, "--force", "--reason", "a test"]);
    until(segue, phase, |now| now["phase"] == phase && settled(now)).await;
}

pub fn history(segue: &Segue) -> Vec<Value> {
    let found: Value = serde_json::from_str(&segue.succeed(&["history", "--json"])).unwrap();
    found.as_array().unwrap().clone()
}
