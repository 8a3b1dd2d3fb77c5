//! What the clients were told, held against what the databases hold.
//!
//! Each key has one writer, so that the last acknowledged value of a key is known. A write
//! whose outcome nobody told leaves two values possible; one that surely was not applied
//! leaves the old one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, value::Kind};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Tables of the ledger on the source.
pub const SOURCE_SCHEMA: &str = "
CREATE TABLE account (
    id int PRIMARY KEY,
    version bigint NOT NULL,
    note text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    body json NOT NULL DEFAULT '{}'
);
CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO counter SELECT i, 0 FROM generate_series(1, 4) AS i;";

/// The same on the target, with other types.
pub const TARGET_SCHEMA: &str = "
CREATE TABLE account (
    id int8 PRIMARY KEY,
    version int8 NOT NULL,
    note text COLLATE \"C\",
    changed_at timestamptz(3) NOT NULL DEFAULT now(),
    body jsonb NOT NULL DEFAULT '{}'
);
CREATE TABLE counter (id int8 PRIMARY KEY, n int8 NOT NULL);
INSERT INTO counter SELECT i, 0 FROM generate_series(1, 4) AS i;";

const UPSERT: &str = "
INSERT INTO account (id, version, note, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET version = excluded.version, note = excluded.note,
    changed_at = now(), body = excluded.body";
const DELETE: &str = "DELETE FROM account WHERE id = $1";
const COUNT: &str = "UPDATE counter SET n = n + 1 WHERE id = $1";

/// Values that a key may have: `None` is no row.
type Possible = Vec<Option<i64>>;

/// What was acknowledged, by key.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: Mutex<BTreeMap<i64, Possible>>,
    counters: Mutex<BTreeMap<i64, (u64, u64)>>,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    doubts: Mutex<Vec<String>>,
    refused: AtomicU64,
    version: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
}

/// What a failed call says of its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    NotApplied,
    Unknown,
}

/// Reads the outcome from a status: only segue's own word or a refused connection says that
/// nothing was applied.
fn told(status: &Status) -> Told {
    match sql_error(status) {
        Some(error) if error.outcome() == proto::Outcome::NotApplied => Told::NotApplied,
        None if status.code() == Code::Unavailable && never_sent(status) => Told::NotApplied,
        Some(_) | None => Told::Unknown,
    }
}

fn never_sent(status: &Status) -> bool {
    let text = format!("{status:?}");
    text.contains("ConnectionRefused") || text.contains("tcp connect error")
}

/// Segue's own detail in a status.
pub fn sql_error(status: &Status) -> Option<proto::SqlError> {
    use prost::Message;
    let whole = tonic_types::pb::Status::decode(status.details()).ok()?;
    whole
        .details
        .iter()
        .find(|any| any.type_url.ends_with("segue.v1.SqlError"))
        .and_then(|any| proto::SqlError::decode(&*any.value).ok())
}

/// An int8 parameter.
pub fn int(value: i64) -> proto::Value {
    proto::Value { kind: Some(Kind::Int64(value)) }
}

/// A text parameter.
pub fn text(value: &str) -> proto::Value {
    proto::Value { kind: Some(Kind::Text(value.to_owned())) }
}

/// A statement with parameters.
pub fn statement(sql: &str, params: Vec<proto::Value>) -> proto::Statement {
    proto::Statement { text: Some(proto::statement::Text::Sql(sql.to_owned())), params }
}

impl Ledger {
    /// One write of `key`'s only writer: an upsert, or a delete where `kind` says so.
    pub async fn write_account(&self, client: &mut SqlClient<Channel>, key: i64, delete: bool) {
        let version = i64::try_from(self.version.fetch_add(1, Ordering::Relaxed) + 1).unwrap();
        let next = (!delete).then_some(version);
        self.accounts.lock().unwrap().entry(key).or_insert_with(|| vec![None]).push(next);
        let call = if delete {
            statement(DELETE, vec![int(key)])
        } else {
            let body = format!("{{\"v\": {version}, \"a\": 1.10}}");
            statement(UPSERT, vec![int(key), int(version), text("note"), text(&body)])
        };
        let request =
            proto::ExecuteRequest { statement: Some(call), ..proto::ExecuteRequest::default() };
        let answer = self.timed(client.execute(request)).await;
        let mut accounts = self.accounts.lock().unwrap();
        let possible = accounts.get_mut(&key).unwrap();
        match answer {
            Ok(_) => {
                *possible = vec![next];
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) if told(&status) == Told::NotApplied => {
                possible.pop();
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => {
                self.doubts.lock().unwrap().push(format!("account {key}: {status:?}"));
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// One increment of a row that all clients share.
    pub async fn count(&self, client: &mut SqlClient<Channel>, key: i64) {
        let request = proto::ExecuteRequest {
            statement: Some(statement(COUNT, vec![int(key)])),
            ..proto::ExecuteRequest::default()
        };
        let answer = self.timed(client.execute(request)).await;
        let mut counters = self.counters.lock().unwrap();
        let (sure, maybe) = counters.entry(key).or_default();
        match answer {
            Ok(_) => {
                *sure += 1;
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) if told(&status) == Told::NotApplied => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                *maybe += 1;
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn timed<T>(&self, call: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = call.await;
        self.latencies.lock().unwrap().push(begun.elapsed());
        answer
    }

    /// Median, 99th percentile and longest of the calls since this was asked last.
    pub fn latencies(&self) -> [Duration; 3] {
        let mut all = std::mem::take(&mut *self.latencies.lock().unwrap());
        all.sort_unstable();
        [all.len() / 2, all.len() * 99 / 100, all.len().saturating_sub(1)]
            .map(|at| all.get(at).copied().unwrap_or_default())
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Why outcomes are unknown.
    pub fn doubts(&self) -> Vec<String> {
        self.doubts.lock().unwrap().clone()
    }

    /// Acknowledged, of unknown outcome, surely not applied.
    pub fn totals(&self) -> (u64, u64, u64) {
        (
            self.acknowledged(),
            self.unknown.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
        )
    }

    /// Panics where a database does not hold what the clients were told.
    pub async fn check(&self, name: &str, database: &tokio_postgres::Client) {
        let rows = database
            .query("SELECT id::int8, version::int8 FROM account ORDER BY id", &[])
            .await
            .unwrap();
        let held: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let accounts = self.accounts.lock().unwrap().clone();
        for (key, possible) in &accounts {
            let value = held.get(key).copied();
            assert!(
                possible.contains(&value),
                "{name}: account {key} is {value:?}, the clients were told {possible:?}"
            );
        }
        for key in held.keys() {
            assert!(accounts.contains_key(key), "{name}: account {key} was never written");
        }
        let rows = database.query("SELECT id::int8, n::int8 FROM counter", &[]).await.unwrap();
        let counters = self.counters.lock().unwrap().clone();
        for row in rows {
            let (key, n): (i64, i64) = (row.get(0), row.get(1));
            let (sure, maybe) = counters.get(&key).copied().unwrap_or_default();
            let n = u64::try_from(n).unwrap();
            assert!(
                (sure..=sure + maybe).contains(&n),
                "{name}: counter {key} is {n}, acknowledged {sure}, unknown {maybe}"
            );
        }
    }
}

/// Rows of both tables as text that both sides can agree on, compared one by one.
pub async fn assert_equal(source: &tokio_postgres::Client, target: &tokio_postgres::Client) {
    const ACCOUNTS: &str = "
SELECT id::int8, version::int8, note, date_trunc('milliseconds', changed_at)::text, body::jsonb::text
FROM account ORDER BY id";
    const ROUNDED: &str = "
SELECT id::int8, version::int8, note, (changed_at::timestamptz(3))::text, body::jsonb::text
FROM account ORDER BY id";
    const COUNTERS: &str = "SELECT id::int8, n::int8, '', '', '' FROM counter ORDER BY id";
    for (cut, rounded) in [(ACCOUNTS, ROUNDED), (COUNTERS, COUNTERS)] {
        let held = target.query(rounded, &[]).await.unwrap();
        let either =
            [source.query(cut, &[]).await.unwrap(), source.query(rounded, &[]).await.unwrap()];
        assert_eq!(held.len(), either[0].len(), "row counts differ");
        for (i, row) in held.iter().enumerate() {
            let one = plain(row);
            assert!(
                either.iter().any(|rows| plain(&rows[i]) == one),
                "row {i} differs: source {:?}, target {one:?}",
                plain(&either[1][i])
            );
        }
    }
}

fn plain(row: &tokio_postgres::Row) -> (i64, i64, Option<String>, String, String) {
    (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))
}
