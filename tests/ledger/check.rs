//! Both databases against the book, at rest and while everything moves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

use super::SEATS;
use super::book::{Follow, Ledger, Mark};
use crate::support::{Database, Pair, eventually, try_connect};

const DRAIN_LIMIT: Duration = Duration::from_secs(90);
/// Between two looks while everything moves, and for one of them.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Waits until nothing is left to be reconciled and no write of segue's is on its way any more.
async fn outbox_is_empty(primary: &Database) {
    let primary = primary.client().await;
    let rest = "SELECT (SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL), \
        (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND pid <> pg_backend_pid() AND state <> 'idle' AND backend_xid IS NOT NULL)";
    eventually("the outbox is empty", DRAIN_LIMIT, || async {
        let row = primary.query_one(rest, &[]).await.unwrap();
        (row.get::<_, i64>(0) == 0 && row.get::<_, i64>(1) == 0).then_some(())
    })
    .await;
}

/// Ledger, source and target agree, once no client writes any more and the outbox has drained.
pub async fn agree(ledger: &Ledger, pair: &Pair) {
    agree_under(ledger, pair, &pair.source).await;
}

/// The same where either side may be the primary.
pub async fn agree_under(ledger: &Ledger, pair: &Pair, primary: &Database) {
    outbox_is_empty(primary).await;
    let (source, target) = (pair.source.client().await, pair.target.client().await);
    for side in [&source, &target] {
        side.batch_execute("SET TIME ZONE 'UTC'").await.unwrap();
    }
    // At rest both sides owe all that was acknowledged.
    holds("source", &pair.source, ledger).await;
    holds("target", &pair.target, ledger).await;
    assert_equal(&source, &target).await;
}

/// A database holds what the ledger says, where no client writes any more.
pub async fn holds(name: &str, database: &Database, ledger: &Ledger) {
    let mark = ledger.mark();
    let found = Found::read(&database.client().await).await.unwrap();
    let judged = found
        .judge(ledger, Follow::Primary, &mark)
        .and_then(|()| ledger.judge_doubts(&found.accounts))
        .and_then(|()| found.seats_are_whole());
    if let Err(wrong) = judged {
        panic!("{name}: {wrong}");
    }
}

/// What a database held at one moment.
struct Found {
    accounts: BTreeMap<i64, i64>,
    counters: BTreeMap<i64, u64>,
    labels: Vec<String>,
}

impl Found {
    async fn read(database: &Client) -> Result<Self, Error> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        database.batch_execute(begin).await?;
        let accounts = database.query("SELECT id::int8, version::int8 FROM account", &[]).await?;
        let counters = database.query("SELECT id::int8, n::int8 FROM counter", &[]).await?;
        let seats = database.query("SELECT label::text FROM seat", &[]).await?;
        database.batch_execute("COMMIT").await?;
        let counted = |row: &tokio_postgres::Row| u64::try_from(row.get::<_, i64>(1)).unwrap();
        let mut labels: Vec<String> = seats.iter().map(|row| row.get(0)).collect();
        labels.sort();
        Ok(Self {
            accounts: accounts.iter().map(|row| (row.get(0), row.get(1))).collect(),
            counters: counters.iter().map(|row| (row.get(0), counted(row))).collect(),
            labels,
        })
    }

    fn judge(&self, ledger: &Ledger, side: Follow, mark: &Mark) -> Result<(), String> {
        ledger.judge(side, mark, &self.accounts, &self.counters)
    }

    /// Labels are swapped, never lost and never doubled.
    fn seats_are_whole(&self) -> Result<(), String> {
        let wanted: Vec<_> = (1..=SEATS).map(|i| format!("label {i}")).collect();
        if self.labels == wanted { Ok(()) } else { Err(format!("seats are {:?}", self.labels)) }
    }
}

/// Rows of all tables as text that both sides can agree on, compared one by one. A time may be
/// cut or rounded.
async fn assert_equal(source: &Client, target: &Client) {
    const ACCOUNTS: &str = "
SELECT id::int8, version::int8, note, date_trunc('milliseconds', changed_at)::text, body::jsonb::text
FROM account ORDER BY id";
    const ROUNDED: &str = "
SELECT id::int8, version::int8, note, (changed_at::timestamptz(3))::text, body::jsonb::text
FROM account ORDER BY id";
    const COUNTERS: &str = "SELECT id::int8, n::int8, '', '', '' FROM counter ORDER BY id";
    const LINES: &str = "SELECT account::int8, n::int8, '', '', '' FROM line ORDER BY account, n";
    const LABELS: &str = "SELECT id::int8, 0::int8, label::text, '', '' FROM seat ORDER BY id";
    for (cut, rounded) in
        [(ACCOUNTS, ROUNDED), (COUNTERS, COUNTERS), (LINES, LINES), (LABELS, LABELS)]
    {
        let held = target.query(rounded, &[]).await.unwrap();
        let either =
            [source.query(cut, &[]).await.unwrap(), source.query(rounded, &[]).await.unwrap()];
        assert_eq!(held.len(), either[0].len(), "row counts differ: {cut}");
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

/// Looks at both databases again and again while clients write and faults come and go: the
/// primary has whatever was acknowledged before the look, nothing that was refused is anywhere,
/// and the shadow never goes back.
#[derive(Debug)]
pub struct Auditor {
    stop: Arc<AtomicBool>,
    looks: [Arc<AtomicU64>; 2],
    tasks: Vec<JoinHandle<()>>,
}

impl Auditor {
    /// Begins to look, by ways that no fault of a network is on.
    pub fn start(ledger: &Arc<Ledger>, pair: &Pair) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let looks = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let sides = [(Follow::Primary, pair.source.dsn()), (Follow::Shadow, pair.target.dsn())];
        let tasks = sides
            .into_iter()
            .zip(&looks)
            .map(|((side, dsn), looks)| {
                let (ledger, stop) = (Arc::clone(ledger), Arc::clone(&stop));
                tokio::spawn(audit(ledger, side, dsn.to_owned(), stop, Arc::clone(looks)))
            })
            .collect();
        Self { stop, looks, tasks }
    }

    /// Ends it; panics where it has found something wrong. Gives the looks at primary and shadow.
    pub async fn stop(self) -> [u64; 2] {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.looks.map(|looks| looks.load(Ordering::Relaxed))
    }
}

async fn audit(
    ledger: Arc<Ledger>,
    side: Follow,
    dsn: String,
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
) {
    let mut client = None;
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let mark = ledger.mark();
        let look = tokio::time::timeout(LOOK_LIMIT, async {
            let open = match client.take() {
                Some(open) => open,
                None => try_connect(&dsn).await?,
            };
            let found = Found::read(&open).await?;
            Ok::<_, Error>((open, found))
        });
        // A database that is down or stalled is looked at when it is back.
        let Ok(Ok((open, found))) = look.await else { continue };
        client = Some(open);
        let judged = found.judge(&ledger, side, &mark).and_then(|()| match side {
            Follow::Primary => found.seats_are_whole(),
            Follow::Shadow => Ok(()),
        });
        if let Err(wrong) = judged {
            ledger.broken.store(true, Ordering::Relaxed);
            panic!("{side:?}, while everything moved: {wrong}");
        }
        looks.fetch_add(1, Ordering::Relaxed);
    }
}
