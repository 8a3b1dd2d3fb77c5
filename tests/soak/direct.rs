//! Programs that go past segue: one that writes to the target, and some that write to the source in
//! transactions of old snapshots.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::support::{Pair, try_connect};
use crate::traps::{PURSES, SPELLED, TRAP_PAUSE};

/// Each has a row of its own, which nobody else writes.
pub const TABLES: &str = "
CREATE TABLE slow (id int PRIMARY KEY, n bigint NOT NULL);
INSERT INTO slow SELECT i, 0 FROM generate_series(1, 12) AS i;";
/// Those that write all the time.
pub const SLOW: usize = 4;
/// Whose snapshot is as old as the transaction; each has as many writers.
const LEVELS: [&str; 2] = ["REPEATABLE READ", "SERIALIZABLE"];
/// Between the write of such a transaction and its end.
const OPEN_TIME: Duration = Duration::from_millis(300);

/// What the program on the target calls itself.
pub const DRIFTING: &str = "soak drift";
/// The tables that it writes to.
pub const DRIFTED: [&str; 2] = ["purse", "spelling"];

/// Until told to stop, writes to the side that follows; counts what was taken there.
pub async fn write_to_the_target(
    target: String,
    mut rng: StdRng,
    drifted: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
) {
    let mut open = None;
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(TRAP_PAUSE).await;
        if open.is_none() {
            open = try_connect(&target).await.ok();
            let name = format!("SET application_name = '{DRIFTING}'");
            if let Some(client) = &open
                && client.batch_execute(&name).await.is_err()
            {
                open = None;
            }
        }
        let Some(client) = &open else { continue };
        let id = rng.random_range(1..=SPELLED);
        let sql = match rng.random_range(0..3) {
            0 => format!("DELETE FROM spelling WHERE id = {id}"),
            1 => format!("UPDATE spelling SET amount = 7 WHERE id = {id}"),
            _ => format!("UPDATE purse SET balance = balance + 1 WHERE id = {}", id % PURSES + 1),
        };
        match client.simple_query(&sql).await {
            Ok(messages) => {
                let wrote = messages
                    .iter()
                    .any(|it| matches!(it, SimpleQueryMessage::CommandComplete(rows) if *rows > 0));
                drifted.fetch_add(i64::from(wrote), Ordering::Relaxed);
            }
            Err(_) if client.is_closed() => open = None,
            Err(_) => {}
        }
    }
}

/// What is known of the rows of `slow`: surely done, and perhaps.
#[derive(Debug, Default)]
pub struct Slow([[AtomicI64; 2]; SLOW]);

// === impl Slow ===

impl Slow {
    /// Until told to stop, writes one row in transactions that stay open for a while and see what
    /// was there at their beginning.
    pub async fn write(self: Arc<Self>, number: usize, source: String, stop: Arc<AtomicBool>) {
        let [surely, perhaps] = &self.0[number];
        let mut open = None;
        while !stop.load(Ordering::Relaxed) {
            if open.is_none() {
                open = try_connect(&source).await.ok();
            }
            let Some(client) = &open else {
                tokio::time::sleep(TRAP_PAUSE).await;
                continue;
            };
            if stay_open(client, number).await.is_ok() {
                match client.batch_execute("COMMIT").await {
                    Ok(()) => surely.fetch_add(1, Ordering::Relaxed),
                    Err(_) => perhaps.fetch_add(1, Ordering::Relaxed),
                };
            } else {
                tokio::time::sleep(TRAP_PAUSE).await;
                let _ = client.batch_execute("ROLLBACK").await;
            }
            if client.is_closed() {
                open = None;
            }
        }
    }

    /// Their rows hold what they were told, and some of each isolation level were told of a commit:
    /// two that are SERIALIZABLE read each other's row, and the server may well refuse the same one
    /// each time.
    pub async fn agree(&self, pair: &Pair) {
        let rows = pair.source.rows("SELECT n FROM slow ORDER BY id").await;
        let mut written = [0; LEVELS.len()];
        for (number, [surely, perhaps]) in self.0.iter().enumerate() {
            let found: i64 = rows[number].parse().unwrap();
            let least = surely.load(Ordering::Relaxed);
            let most = least + perhaps.load(Ordering::Relaxed);
            assert!(
                (least..=most).contains(&found),
                "{found} in row {number} of {least} to {most}"
            );
            written[number % LEVELS.len()] += least;
        }
        for (level, written) in LEVELS.into_iter().zip(written) {
            assert!(written > 0, "no transaction in {level} has written anything");
        }
    }
}

/// A transaction whose capture has looked for the primary in its old snapshot, and that is open.
pub async fn stay_open(client: &Client, number: usize) -> Result<(), Error> {
    let isolation = LEVELS[number % LEVELS.len()];
    let update = format!("UPDATE slow SET n = n + 1 WHERE id = {}", number + 1);
    let begin = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM slow; {update}");
    client.batch_execute(&begin).await?;
    tokio::time::sleep(OPEN_TIME).await;
    Ok(())
}
