//! A whole migration under the client's load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use segue_client::{Client, Error, TransactionOptions};
use tokio::task::JoinSet;

use crate::world::{Migration, Side, eventually};

const CALLERS: i64 = 4;
/// Writes after each step, so that the load was seen to go on.
const WRITES_PER_STEP: i64 = 40;
/// A cutover holds transactions; each may be run again until it is over.
const ATTEMPTS_MAX: u32 = 100;

struct Load {
    client: Client,
    stop: AtomicBool,
    writes: AtomicI64,
}

/// From `source_only` over `shift` to `reversed` and back: single writes, reads of what was written, and
/// transactions. Each write has its effect once, and both sides have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_whole_migration_shows_its_callers_no_error() {
    let setup = [
        "CREATE TABLE item (id bigint PRIMARY KEY, n bigint NOT NULL)",
        "INSERT INTO item SELECT i, 0 FROM generate_series(0, 7) i",
    ];
    let migration = Migration::start(&setup.map(str::to_owned), &[]).await;
    let client = Client::connect(&format!("{}?timeout=60", migration.url())).await.unwrap();
    let load = Arc::new(Load { client, stop: AtomicBool::new(false), writes: AtomicI64::new(0) });
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let load = Arc::clone(&load);
        callers.spawn(async move { load.run(caller).await });
    }
    load.goes_on("the start").await;
    for phase in ["dual_write", "shadow_read", "shift"] {
        migration.enter(phase).await;
        load.goes_on(phase).await;
    }
    for change in ["cutover", "rollback"] {
        migration.run(&[change, "--yes", "--force", "--reason", "a test"]).await;
        load.goes_on(change).await;
    }
    load.stop.store(true, Ordering::SeqCst);
    for ended in callers.join_all().await {
        ended.unwrap();
    }
    let expected = vec![vec![Some(load.writes.load(Ordering::SeqCst).to_string())]];
    for side in [Side::Source, Side::Target] {
        eventually("the side has all writes", || async {
            (migration.direct(side, "SELECT sum(n) FROM item").await == expected).then_some(())
        })
        .await;
    }
}

impl Load {
    async fn goes_on(&self, after: &str) {
        let goal = self.writes.load(Ordering::SeqCst) + WRITES_PER_STEP;
        eventually(&format!("the load goes on after {after}"), || async {
            let ended = self.stop.load(Ordering::SeqCst);
            (ended || self.writes.load(Ordering::SeqCst) >= goal).then_some(())
        })
        .await;
    }

    /// Writes to a row that no other caller writes to, and must read what it wrote.
    async fn run(&self, caller: i64) -> Result<(), String> {
        let mut n = 0;
        while !self.stop.load(Ordering::SeqCst) {
            n += 1;
            let made = self.write(caller, n).await;
            let read = match made {
                Ok(()) => {
                    self.client.query_one("SELECT n FROM item WHERE id = $1", &[&caller]).await
                }
                Err(error) => Err(error),
            };
            let found: i64 = match read.and_then(|row| row.get("n")) {
                Ok(found) => found,
                Err(error) => {
                    self.stop.store(true, Ordering::SeqCst);
                    return Err(format!("caller {caller}, round {n}: {error:?}"));
                }
            };
            if found != n {
                self.stop.store(true, Ordering::SeqCst);
                return Err(format!("caller {caller}, round {n}: read {found}"));
            }
            self.writes.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    async fn write(&self, caller: i64, n: i64) -> Result<(), Error> {
        if caller % 2 == 0 {
            self.client.execute("UPDATE item SET n = n + 1 WHERE id = $1", &[&caller]).await?;
            return Ok(());
        }
        let options = TransactionOptions { attempts: ATTEMPTS_MAX, ..Default::default() };
        self.client
            .transaction_with(&options, |transaction| async move {
                let row =
                    transaction.query_one("SELECT n FROM item WHERE id = $1", &[&caller]).await?;
                assert_eq!(row.get::<i64>("n")?, n - 1, "what a transaction sees");
                transaction
                    .last()
                    .execute("UPDATE item SET n = $2 WHERE id = $1", &[&caller, &n])
                    .await?;
                Ok(())
            })
            .await
    }
}
