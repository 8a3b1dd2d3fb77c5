//! Two databases whose tables are an owner's, with a role for segue that has what `segue init
//! --print` says and no more, and a role for the application that has rights on its tables alone.

use std::time::Duration;

use prost::Message;
use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, Side, value::Kind};
use serde_json::Value;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Database, Pair, Segue, eventually};

pub const LIMIT: Duration = Duration::from_secs(120);

/// On both sides; `{app}` is the application's role. The rows of `mine` are their owners', those of
/// `rented` their tenants', and `closed` is for nobody but its owner.
pub const TABLES: &str = "
CREATE SCHEMA shop;
CREATE TABLE shop.mine (id int PRIMARY KEY, who name NOT NULL DEFAULT current_user, v text);
ALTER TABLE shop.mine ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.mine USING (who = current_user);
CREATE TABLE shop.rented (id int PRIMARY KEY, tenant text NOT NULL, v text);
ALTER TABLE shop.rented ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants ON shop.rented USING (tenant = current_setting('app.tenant', true));
CREATE TABLE shop.closed (id int PRIMARY KEY, v text);
CREATE TABLE shop.plain (id int PRIMARY KEY, v text);
CREATE TABLE public.plain (id int PRIMARY KEY, v text);
GRANT USAGE ON SCHEMA shop TO {app};
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.mine, shop.rented, shop.plain, public.plain TO {app};

";

/// On the source alone: rows of others that callers must not see.
pub const ROWS: &str = "
INSERT INTO shop.mine VALUES (1, 'somebody', 'not theirs'), (2, '{app}', 'theirs');
INSERT INTO shop.rented VALUES (1, 'a', 'of a'), (2, 'b', 'of b'), (3, 'b', 'of b');
INSERT INTO shop.closed VALUES (1, 'secret');
INSERT INTO shop.plain VALUES (1, 'shop');
INSERT INTO public.plain VALUES (1, 'public');
";

pub const SECTIONS: &str = "
[control]
poll_interval = \"200ms\"
lease = \"4s\"
[outbox]
poll_interval = \"100ms\"
[sampling]
rate = 1.0
[compare]
flush_interval = \"200ms\"
[read_routing]
target_percentage = 100
escalation_schedule = []
[read_routing.rollback_trigger]
window = \"10s\"
latency_p99_threshold = \"30s\"
outbox_age_threshold = \"1m\"
mismatch_rate_threshold = 1.0
error_rate_threshold = 1.0
";

/// A sidecar with both roles.
pub struct World {
    pub pair: Pair,
    pub segue: Segue,
    pub client: SqlClient<Channel>,
    /// The application's role.
    pub app: String,
    /// Segue's.
    pub own: String,
}

impl World {
    /// In `source_only`, serving.
    pub async fn new(more: &str) -> Self {
        Self::with_roles("", more).await
    }

    /// With attributes of the application's role, and more SQL on both sides.
    pub async fn with_roles(attributes: &str, more: &str) -> Self {
        let pair = Pair::fresh("", "").await;
        let (app, own) =
            (format!("app_{}", pair.source.name()), format!("own_{}", pair.source.name()));
        let fill = |sql: &str| sql.replace("{app}", &app).replace("{segue}", &own);
        for side in [&pair.source, &pair.target] {
            side.run(&format!("CREATE ROLE {app} LOGIN {attributes}; CREATE ROLE {own} LOGIN"))
                .await;
            side.run(&fill(&format!("{TABLES}{more}"))).await;
        }
        pair.source.run(&fill(ROWS)).await;
        let [source, target] = [&pair.source, &pair.target].map(|side| login(side, &own, &app));
        let segue = Segue::prepare_with(&source, &target, SECTIONS);
        let client = Endpoint::from_shared(segue.sql_address()).unwrap().connect_lazy();
        let mut world = Self { pair, segue, client: SqlClient::new(client), app, own };
        world.grant().await;
        world.segue.succeed(&["init"]);
        world.segue.serve().await;
        world
    }

    /// Another sidecar of the same fleet, serving.
    pub async fn another(&self) -> Segue {
        let [source, target] = self.both().map(|side| login(side, &self.own, &self.app));
        let mut other = Segue::prepare_with(&source, &target, SECTIONS);
        other.serve().await;
        other
    }

    /// What segue itself says that its role needs.
    async fn grant(&self) {
        // A parameter's privileges are the server's, and two that grant at once meet there.
        static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _one = ONE_AT_A_TIME.lock().await;
        let printed = self.segue.succeed(&["init", "--print"]);
        for (name, side) in [("source", &self.pair.source), ("target", &self.pair.target)] {
            let from = printed.find(&format!("-- {name}: segue's role")).unwrap();
            let to = printed.find(&format!("-- segue's schema on the {name}")).unwrap();
            side.run(&printed[from..to]).await;
        }
    }

    pub fn both(&self) -> [&Database; 2] {
        [&self.pair.source, &self.pair.target]
    }

    /// `{app}` and `{segue}` filled in.
    pub fn fill(&self, sql: &str) -> String {
        sql.replace("{app}", &self.app).replace("{segue}", &self.own)
    }

    pub async fn dual_write(&self) {
        self.until("source_only has settled", settled).await;
        self.segue.succeed(&["phase", "advance", "--to", "dual_write"]);
        self.until("dual_write has settled", settled).await;
        self.segue.succeed(&["backfill"]);
    }

    pub async fn forced(&self, phase: &str) {
        self.until("the phase has settled", settled).await;
        let to = ["phase", "advance", "--to", phase, "--force", "--reason", "a test"];
        self.segue.succeed(&to);
        self.until(phase, |now| now["phase"] == phase && settled(now)).await;
    }

    pub async fn shifted(&self) {
        self.forced("shift").await;
        self.until("all reads are shifted", |now| now["fleet"]["target_percentage"] == 100.0).await;
    }

    pub fn cut_over(&self) {
        self.segue.succeed(&["cutover", "--yes", "--force", "--reason", "a test"]);
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.segue.succeed(&["status", "--json"])).unwrap()
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(what, LIMIT, || async {
            let now = self.status();
            holds(&now).then_some(now)
        })
        .await
    }

    /// First column of the answer, and the side that gave it.
    pub async fn query(&self, sql: &str) -> Result<(Vec<String>, Side), Status> {
        self.query_in(sql, "").await
    }

    pub async fn query_in(
        &self,
        sql: &str,
        transaction_id: &str,
    ) -> Result<(Vec<String>, Side), Status> {
        let request = proto::QueryRequest {
            statement: statement(&self.fill(sql)),
            transaction: proto::TransactionSelector::open(transaction_id.to_owned()),
            ..proto::QueryRequest::default()
        };
        let mut frames = self.client.clone().query(request).await?.into_inner();
        let mut values = Vec::new();
        while let Some(frame) = frames.message().await? {
            let rows = frame.typed_rows();
            values.extend(rows.iter().filter_map(|row| row.values.first().map(shown)));
            if let Some(footer) = frame.footer {
                return Ok((values, footer.side()));
            }
        }
        panic!("an answer without a footer");
    }

    /// Values of the first column alone.
    pub async fn values(&self, sql: &str) -> Vec<String> {
        self.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).0
    }

    pub async fn execute(&self, sql: &str) -> Result<proto::ExecuteResponse, Status> {
        self.execute_in(sql, "").await
    }

    pub async fn execute_in(
        &self,
        sql: &str,
        transaction_id: &str,
    ) -> Result<proto::ExecuteResponse, Status> {
        let request = proto::ExecuteRequest {
            statement: statement(&self.fill(sql)),
            transaction: proto::TransactionSelector::open(transaction_id.to_owned()),
            ..proto::ExecuteRequest::default()
        };
        Ok(self.client.clone().execute(request).await?.into_inner())
    }

    pub async fn keyed(&self, sql: &str, key: &str) -> Result<proto::ExecuteResponse, Status> {
        let request = proto::ExecuteRequest {
            statement: statement(&self.fill(sql)),
            idempotency_key: key.to_owned(),
            ..proto::ExecuteRequest::default()
        };
        Ok(self.client.clone().execute(request).await?.into_inner())
    }

    pub async fn batch(&self, statements: &[&str]) -> Result<(), Status> {
        let statements = statements.iter().filter_map(|sql| statement(&self.fill(sql))).collect();
        let request = proto::BatchRequest { statements, ..proto::BatchRequest::default() };
        self.client.clone().batch(request).await.map(drop)
    }

    pub async fn begin(&self) -> String {
        Self::begin_by(self.client.clone()).await
    }

    async fn begin_by(mut client: SqlClient<Channel>) -> String {
        let begun = client.begin(proto::BeginRequest::default()).await.unwrap();
        begun.into_inner().transaction_id
    }

    /// A transaction of another sidecar in which something was written.
    pub async fn begun_at(&self, other: &Segue, sql: &str) {
        let channel = Endpoint::from_shared(other.sql_address()).unwrap().connect_lazy();
        let mut client = SqlClient::new(channel);
        let transaction_id = Self::begin_by(client.clone()).await;
        let request = proto::ExecuteRequest {
            statement: statement(&self.fill(sql)),
            transaction: proto::TransactionSelector::open(transaction_id),
            ..proto::ExecuteRequest::default()
        };
        client.execute(request).await.unwrap();
    }

    pub async fn commit(&self, transaction_id: String) {
        self.client
            .clone()
            .commit(proto::CommitRequest { transaction_id, ..Default::default() })
            .await
            .unwrap();
    }

    /// Waits until both sides have the same rows of a table, by the superuser's eyes.
    pub async fn equal(&self, table: &str) {
        let sql = format!("SELECT * FROM {table} ORDER BY id");
        eventually("the sides are equal", LIMIT, || async {
            let [here, there] =
                [self.pair.source.rows(&sql).await, self.pair.target.rows(&sql).await];
            (here == there).then_some(())
        })
        .await;
    }
}

/// A side of the configuration.
fn login(side: &Database, own: &str, app: &str) -> String {
    let dsn = side.dsn_with("postgres@", &format!("{own}@"));
    format!("dsn = \"{dsn}\"\napplication = \"user={app}\"")
}

fn statement(sql: &str) -> Option<proto::Statement> {
    let text = Some(proto::statement::Text::Sql(sql.to_owned()));
    Some(proto::Statement { text, params: Vec::new() })
}

/// The first value that a write returned.
pub fn returned(answer: &proto::ExecuteResponse) -> String {
    let rows = answer.typed_rows();
    shown(&rows[0].values[0])
}

fn shown(value: &proto::Value) -> String {
    match &value.kind {
        Some(Kind::Int64(number)) => number.to_string(),
        Some(Kind::Text(text)) => text.clone(),
        Some(Kind::Bool(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    }
}

pub fn settled(status: &Value) -> bool {
    status["fleet"]["settled_at"].is_string() && status["fleet"]["settled"] == true
}

/// What a call's fault says of itself.
pub fn told(status: &Status) -> proto::SqlError {
    let whole = tonic_types::pb::Status::decode(status.details()).unwrap();
    let detail = whole.details.iter().find(|any| any.type_url.ends_with("segue.v1.SqlError"));
    proto::SqlError::decode(&*detail.expect("a detail").value).unwrap()
}
