//! Tables of every kind, on both sides: what is not migrated has rows on the source alone.

use std::time::Duration;

use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, Side, value::Kind};
use serde_json::Value;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Pair, Segue, eventually};

pub const LIMIT: Duration = Duration::from_secs(120);

/// On both sides.
pub const TABLES: &str = "
CREATE TABLE good (id int PRIMARY KEY, v text);
CREATE TABLE nokey (a int, b text);
CREATE UNLOGGED TABLE un (id int PRIMARY KEY);
CREATE TABLE left_out (id serial PRIMARY KEY, v text);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE VIEW over_good AS SELECT id FROM good;
CREATE VIEW over_nokey AS SELECT a FROM nokey;
CREATE VIEW over_view AS SELECT g.id FROM over_good g LEFT JOIN over_nokey n ON n.a = g.id;
CREATE MATERIALIZED VIEW stored AS SELECT id FROM good WITH NO DATA;
CREATE SEQUENCE numbers;
CREATE FUNCTION in_sql() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM nokey';
CREATE FUNCTION in_standard_sql() RETURNS bigint LANGUAGE sql STABLE
    RETURN (SELECT count(*) FROM nokey);
CREATE FUNCTION in_plpgsql() RETURNS bigint LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN (SELECT count(*) FROM public.nokey); END';
CREATE FUNCTION of_good() RETURNS bigint LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN (SELECT count(*) FROM good); END';
CREATE FUNCTION made_up() RETURNS bigint LANGUAGE plpgsql STABLE AS
    'DECLARE n bigint; BEGIN EXECUTE ''SELECT count(*) FROM no'' || ''key'' INTO n; RETURN n; END';
";

/// On the source alone.
pub const ROWS: &str = "
INSERT INTO good VALUES (1, 'a'), (2, 'b');
INSERT INTO nokey VALUES (1, 'x'), (2, 'y'), (2, 'y');
INSERT INTO un VALUES (1), (2), (3);
INSERT INTO left_out (v) VALUES ('x'), ('y'), ('z');
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (101);
INSERT INTO part VALUES (1), (2), (3);
REFRESH MATERIALIZED VIEW stored;
SELECT setval('numbers', 41);
CREATE TABLE here_alone (id int PRIMARY KEY);
INSERT INTO here_alone VALUES (1), (2), (3);
";

pub const SECTIONS: &str = "
[control]
poll_interval = \"200ms\"
lease = \"4s\"
[outbox]
poll_interval = \"100ms\"
[sampling]
rate = 1.0
functions_allowed = [\"public.named\"]
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
";

pub const EXCLUDED: &str = "exclude = [\"public.nokey\", \"public.un\", \"public.left_out\", \
\"public.parent\", \"public.child\", \"public.here_alone\"]\n";

/// A sidecar over such a pair, in `shadow_read`, with all history copied.
pub struct World {
    pub pair: Pair,
    pub segue: Segue,
    pub client: SqlClient<Channel>,
}

impl World {
    /// With this in `[tables]`.
    pub async fn new(tables: &str) -> Self {
        let pair = Pair::fresh(&format!("{TABLES}{ROWS}"), TABLES).await;
        Self::over(pair, "shadow_read", tables).await
    }

    pub async fn over(pair: Pair, phase: &str, tables: &str) -> Self {
        let sections = format!("{SECTIONS}[tables]\n{tables}");
        let mut segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), &sections);
        segue.init_in("dual_write").await;
        segue.serve().await;
        until(&segue, "dual_write has settled", settled).await;
        segue.succeed(&["backfill"]);
        let client = Endpoint::from_shared(segue.sql_address()).unwrap().connect_lazy();
        let world = Self { pair, segue, client: SqlClient::new(client) };
        for next in ["shadow_read", "shift"] {
            if ["shadow_read", "shift"].iter().position(|it| *it == next)
                <= ["shadow_read", "shift"].iter().position(|it| *it == phase)
            {
                world.forced(next).await;
            }
        }
        world
    }

    /// With all reads on the target.
    pub async fn shifted(tables: &str) -> Self {
        let pair = Pair::fresh(&format!("{TABLES}{ROWS}"), TABLES).await;
        let world = Self::over(pair, "shift", tables).await;
        world.at_all().await;
        world
    }

    pub async fn at_all(&self) {
        let all = |now: &Value| now["fleet"]["target_percentage"] == 100.0;
        until(&self.segue, "all reads are shifted", all).await;
    }

    pub fn cut_over(&self) {
        let words = ["cutover", "--yes", "--force", "--reason", "a test"];
        let done = self.segue.run(&words);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    }

    pub async fn forced(&self, phase: &str) {
        until(&self.segue, "the phase has settled", settled).await;
        let to = ["phase", "advance", "--to", phase, "--force", "--reason", "a test"];
        self.segue.succeed(&to);
        let there = |now: &Value| now["phase"] == phase && settled(now);
        until(&self.segue, phase, there).await;
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
            statement: statement(sql),
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

    pub async fn execute(&self, sql: &str) -> Result<u64, Status> {
        self.execute_in(sql, "").await
    }

    pub async fn execute_in(&self, sql: &str, transaction_id: &str) -> Result<u64, Status> {
        let request = proto::ExecuteRequest {
            statement: statement(sql),
            transaction: proto::TransactionSelector::open(transaction_id.to_owned()),
            ..proto::ExecuteRequest::default()
        };
        Ok(self.client.clone().execute(request).await?.into_inner().affected_rows())
    }

    pub async fn begin(&self) -> String {
        let begun = self.client.clone().begin(proto::BeginRequest::default()).await.unwrap();
        begun.into_inner().transaction_id
    }

    pub async fn commit(&self, transaction_id: String) {
        self.client
            .clone()
            .commit(proto::CommitRequest { transaction_id, ..Default::default() })
            .await
            .unwrap();
    }

    /// A count on each side, as the databases themselves say.
    pub async fn counts(&self, table: &str) -> (String, String) {
        let sql = format!("SELECT count(*) FROM {table}");
        let source = self.pair.source.rows(&sql).await.remove(0);
        (source, self.pair.target.rows(&sql).await.remove(0))
    }

    /// Samples that were left out, by reason.
    pub fn left_out(&self, reason: &str) -> u64 {
        status(&self.segue)["sampling"]["dropped"][reason].as_u64().unwrap_or_default()
    }
}

fn statement(sql: &str) -> Option<proto::Statement> {
    let text = Some(proto::statement::Text::Sql(sql.to_owned()));
    Some(proto::Statement { text, params: Vec::new() })
}

fn shown(value: &proto::Value) -> String {
    match &value.kind {
        Some(Kind::Int64(number)) => number.to_string(),
        Some(Kind::Text(text)) => text.clone(),
        Some(Kind::Bool(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    }
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

pub fn settled(status: &Value) -> bool {
    status["fleet"]["settled_at"].is_string() && status["fleet"]["settled"] == true
}

/// The reason of segue's own, and its way out.
pub fn told(status: &Status) -> (String, String) {
    use prost::Message;
    let whole = tonic_types::pb::Status::decode(status.details()).unwrap();
    let detail = whole.details.iter().find(|any| any.type_url.ends_with("segue.v1.SqlError"));
    let error = proto::SqlError::decode(&*detail.expect("a detail").value).unwrap();
    (error.reason.clone(), error.hint.clone())
}
