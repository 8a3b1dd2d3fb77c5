//! Tables with different types on both sides, a load on the source, an independent comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::{Database, Pair, Segue, Server, connect, eventually};

pub const ENDS: Duration = Duration::from_secs(180);

pub const SOURCE: &str = "
CREATE SCHEMA app;
CREATE TYPE app.state AS ENUM ('new', 'paid', 'sent');
CREATE TABLE app.account (
    id int PRIMARY KEY,
    code text NOT NULL UNIQUE,
    amount numeric(12,2),
    state app.state NOT NULL DEFAULT 'new',
    doc json,
    at timestamptz(6) NOT NULL DEFAULT clock_timestamp(),
    doubled numeric GENERATED ALWAYS AS (amount * 2) STORED
);
CREATE TABLE app.pair (
    a text, b uuid, v int NOT NULL, account_id int REFERENCES app.account ON DELETE SET NULL,
    PRIMARY KEY (a, b)
);
";

pub const TARGET: &str = "
CREATE SCHEMA app;
CREATE TYPE app.state AS ENUM ('sent', 'new', 'paid');
CREATE TABLE app.account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE,
    amount numeric(12,2),
    state app.state NOT NULL,
    doc jsonb,
    at timestamptz(3) NOT NULL,
    doubled numeric GENERATED ALWAYS AS (amount * 2) STORED
);
CREATE TABLE app.pair (
    a text, b uuid, v bigint NOT NULL, account_id bigint REFERENCES app.account ON DELETE SET NULL,
    PRIMARY KEY (a, b)
);
";

/// Rows that are there before anything is captured.
pub fn history(rows: u32) -> String {
    format!(
        "INSERT INTO app.account SELECT n, 'c' || n, n / 100.0, \
             (ARRAY['new', 'paid', 'sent'])[n % 3 + 1]::app.state, json_build_object('n', n), \
             now() - n * interval '1.234567 seconds' FROM generate_series(1, {rows}) AS n; \
         INSERT INTO app.pair SELECT 'a' || n % 97, md5(n::text)::uuid, n, n \
             FROM generate_series(1, {rows}) AS n; \
         ANALYZE app.account, app.pair;"
    )
}

pub async fn pair(rows: u32) -> Pair {
    Pair::fresh(&format!("{SOURCE} {}", history(rows)), TARGET).await
}

pub async fn pair_within(source: &Server, target: &Server, rows: u32) -> Pair {
    Pair::within(source, target, &format!("{SOURCE} {}", history(rows)), TARGET).await
}

/// Both sides by SQL of the test's own, in a form that both types share.
pub async fn assert_equal(pair: &Pair) {
    for sql in [
        "SELECT id::text, code, amount::text, state::text, doc::jsonb::text, \
            (extract(epoch FROM at::timestamptz(3)) * 1000)::bigint::text \
         FROM app.account ORDER BY id",
        "SELECT a, b::text, v::text, account_id::text FROM app.pair ORDER BY a COLLATE \"C\", b",
    ] {
        same_rows(pair, sql, sql).await;
    }
}

pub async fn same_rows(pair: &Pair, on_source: &str, on_target: &str) {
    let (source, target) = (pair.source.rows(on_source).await, pair.target.rows(on_target).await);
    for (one, other) in source.iter().zip(&target) {
        assert_eq!(one, other, "by {on_source}");
    }
    assert_eq!(source.len(), target.len(), "by {on_source}");
}

pub async fn outbox_is_empty(source: &Database) {
    let client = source.client().await;
    eventually("the outbox is empty", ENDS, || async {
        let sql = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
        let row = client.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// Writers that insert, update, delete and insert again, all over the keys and beyond them.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Load {
    pub fn start(dsn: &str, writers: u64, keys: u64) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let (dsn, stop, done) = (dsn.to_owned(), Arc::clone(&stop), Arc::clone(&done));
            tasks.spawn(write_until(dsn, writer, writers, keys, stop, done));
        }
        Self { stop, done, tasks }
    }

    pub fn writes(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits for so many more writes.
    pub async fn more(&self, writes: u64) {
        let wanted = self.writes() + writes;
        eventually("more writes", ENDS, || async { (self.writes() >= wanted).then_some(()) }).await;
    }

    pub async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.done.load(Ordering::Relaxed)
    }
}

/// Each writer has the keys of one remainder, so that what it expects of them holds.
async fn write_until(
    dsn: String,
    writer: u64,
    writers: u64,
    keys: u64,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) {
    let client = connect(&dsn).await;
    let mut next = keys + writer + 1;
    while !stop.load(Ordering::Relaxed) {
        let any = rand::random_range(0..keys / writers) * writers + writer;
        let other = rand::random_range(0..keys / writers) * writers + writer;
        let sql = match rand::random_range(0..9) {
            0 | 1 => format!(
                "UPDATE app.account SET amount = random() * 1000, state = 'paid', \
                 at = clock_timestamp() WHERE id = {any}"
            ),
            2 | 3 => format!("DELETE FROM app.account WHERE id = {any}"),
            4 => format!(
                "INSERT INTO app.account (id, code, doc) VALUES ({any}, 'c{any}', '{{\"again\": 1}}') \
                 ON CONFLICT (id) DO UPDATE SET doc = excluded.doc"
            ),
            // Unique values change hands.
            5 => format!(
                "WITH old AS (DELETE FROM app.account WHERE id = {any} RETURNING code) \
                 UPDATE app.account AS a SET at = clock_timestamp() FROM old WHERE a.id = {other}; \
                 INSERT INTO app.account (id, code) SELECT {next}, 'c{any}' \
                 WHERE NOT EXISTS (SELECT FROM app.account WHERE code = 'c{any}')"
            ),
            6 => format!("INSERT INTO app.account (id, code) VALUES ({next}, 'n{next}')"),
            7 => format!(
                "UPDATE app.pair SET v = v + 1, a = 'z' || a WHERE b = md5('{any}')::uuid AND length(a) < 9"
            ),
            _ => format!("DELETE FROM app.pair WHERE b = md5('{other}')::uuid"),
        };
        next += writers;
        if client.batch_execute(&sql).await.is_ok() {
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The arguments that make many small chunks.
pub fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["backfill", "--workers", "2"];
    if !more.contains(&"--chunk-rows") {
        arguments.extend(["--chunk-rows", "400"]);
    }
    arguments.extend(more);
    arguments
}

/// Runs a backfill to its end, which must be a good one.
pub fn backfill(segue: &Segue, more: &[&str]) -> String {
    segue.succeed(&arguments(more))
}
