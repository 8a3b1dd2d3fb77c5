//! What a shifted read sees is a state that the primary had: transfers between accounts, under
//! load, and the sum of all balances.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, Side, value::Kind};
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::support::{Pair, Segue, eventually};
use crate::world::{LIMIT, client, forced, history, serving, statement, status, until};

const ACCOUNTS: i64 = 60;
const BALANCE: i64 = 1_000;
const WRITERS: i64 = 4;
const READERS: usize = 3;
const SCHEMA: &str = "CREATE TABLE account (id int PRIMARY KEY, balance int8 NOT NULL);
CREATE TABLE note (id int PRIMARY KEY, body text NOT NULL);
INSERT INTO account SELECT i, 1000 FROM generate_series(0, 59) AS i;";
/// There only what fits is taken: a row of the source can be made that does not.
const TARGET_SCHEMA: &str = "CREATE TABLE account (id int PRIMARY KEY, balance int8 NOT NULL);
CREATE TABLE note (id int PRIMARY KEY, body text NOT NULL, CHECK (body <> 'unfit'));
INSERT INTO account SELECT i, 1000 FROM generate_series(0, 59) AS i;";
const QUICK: &str = "[control]
poll_interval = \"200ms\"
lease = \"4s\"
[outbox]
poll_interval = \"100ms\"
batch_keys_max = 50
backoff_max = \"500ms\"
[read_routing]
target_percentage = 100
escalation_schedule = []
[read_routing.rollback_trigger]
latency_p99_threshold = \"30s\"
outbox_age_threshold = \"10m\"
";
const SUM: &str = "SELECT sum(balance)::int8 FROM account";
/// Both rows in one statement.
const TRANSFER: &str = "UPDATE account SET balance = balance \
    + CASE WHEN id = $1 THEN 0 - $3::int8 ELSE $3::int8 END WHERE id = $1 OR id = $2";
const CREDIT: &str = "UPDATE account SET balance = balance + $2 WHERE id = $1";

/// What clients did and saw.
#[derive(Default)]
struct Seen {
    transfers: AtomicU64,
    on_target: AtomicU64,
    on_source: AtomicU64,
    wrong: std::sync::Mutex<Vec<String>>,
    faults: std::sync::Mutex<Vec<String>>,
}

struct Load {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

fn other(id: i64) -> i64 {
    (id * 7 + 13) % ACCOUNTS
}

/// One transfer by segue: as one statement, or as a transaction of two.
async fn transfer(sql: &mut SqlClient<Channel>, round: i64) -> Result<(), tonic::Status> {
    let from = round % ACCOUNTS;
    let to = if other(from) == from { (from + 1) % ACCOUNTS } else { other(from) };
    if round % 2 == 0 {
        let statement = statement(TRANSFER, &[from, to, 3]);
        let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
        return sql.execute(request).await.map(drop);
    }
    let begun = sql.begin(proto::BeginRequest::default()).await?;
    let transaction_id = begun.into_inner().transaction_id;
    // In the order of the keys, so that no two of them wait for each other.
    let mut credits = [(from, -5), (to, 5)];
    credits.sort_unstable();
    for (id, by) in credits {
        let request = proto::ExecuteRequest {
            statement: statement(CREDIT, &[id, by]),
            transaction: proto::TransactionSelector::open(transaction_id.clone()),
            ..proto::ExecuteRequest::default()
        };
        sql.execute(request).await?;
    }
    sql.commit(proto::CommitRequest { transaction_id, ..Default::default() }).await.map(drop)
}

/// The sum, and the side that said so.
async fn sum(sql: &mut SqlClient<Channel>) -> Result<(i64, Side), tonic::Status> {
    let request =
        proto::QueryRequest { statement: statement(SUM, &[]), ..proto::QueryRequest::default() };
    let mut frames = sql.query(request).await?.into_inner();
    let mut found = None;
    while let Some(frame) = frames.message().await? {
        let rows = frame.typed_rows();
        let value = rows.first().and_then(|row| row.values.first());
        if let Some(Kind::Int64(sum)) = value.and_then(|value| value.kind.clone()) {
            found = Some(sum);
        }
        if let Some(footer) = frame.footer {
            return Ok((found.unwrap(), footer.side()));
        }
    }
    panic!("an answer without a footer");
}

impl Load {
    async fn start(fleet: &[Segue], pair: &Pair) -> Self {
        let (seen, stop) = (Arc::<Seen>::default(), Arc::<AtomicBool>::default());
        let mut clients = JoinSet::new();
        for number in 0..WRITERS {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            let mut sql = client(&fleet[usize::try_from(number).unwrap() % fleet.len()]);
            clients.spawn(async move {
                let mut round = number * 17;
                while !stop.load(Ordering::Relaxed) {
                    match transfer(&mut sql, round).await {
                        Ok(()) => drop(seen.transfers.fetch_add(1, Ordering::Relaxed)),
                        // Two statements of the same two accounts, in another order.
                        Err(status) if status.code() == tonic::Code::Aborted => {}
                        Err(status) => seen.faults.lock().unwrap().push(format!("{status:?}")),
                    }
                    round += 1;
                }
            });
        }
        // One that bypasses segue.
        let direct = pair.source.client().await;
        let (counted, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        clients.spawn(async move {
            for round in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (low, high) = (round % (ACCOUNTS - 1), ACCOUNTS - 1);
                let sql = format!(
                    "BEGIN; UPDATE account SET balance = balance - 7 WHERE id = {low}; \
                     UPDATE account SET balance = balance + 7 WHERE id = {high}; COMMIT"
                );
                match direct.batch_execute(&sql).await {
                    Ok(()) => drop(counted.transfers.fetch_add(1, Ordering::Relaxed)),
                    Err(_) => direct.batch_execute("ROLLBACK").await.unwrap(),
                }
            }
        });
        for reader in 0..READERS {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            let mut sql = client(&fleet[reader % fleet.len()]);
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match sum(&mut sql).await {
                        Ok((found, side)) => seen.note(found, side),
                        Err(status) => seen.faults.lock().unwrap().push(format!("{status:?}")),
                    }
                }
            });
        }
        Self { seen, stop, clients }
    }

    async fn more(&self, what: &str, counter: impl Fn(&Seen) -> &AtomicU64, more: u64) {
        let wanted = counter(&self.seen).load(Ordering::Relaxed) + more;
        eventually(what, LIMIT, || async {
            self.seen.check();
            (counter(&self.seen).load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    async fn end(mut self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.seen
    }
}

impl Seen {
    fn note(&self, found: i64, side: Side) {
        let counter = if side == Side::Target { &self.on_target } else { &self.on_source };
        counter.fetch_add(1, Ordering::Relaxed);
        if found != ACCOUNTS * BALANCE {
            self.wrong.lock().unwrap().push(format!("{found} on {side:?}"));
        }
    }

    fn check(&self) {
        let faults = self.faults.lock().unwrap().clone();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// No read, on whichever side, has seen a sum that never was.
    fn verdict(&self) {
        self.check();
        let wrong = self.wrong.lock().unwrap();
        let (target, source) =
            (self.on_target.load(Ordering::Relaxed), self.on_source.load(Ordering::Relaxed));
        let transfers = self.transfers.load(Ordering::Relaxed);
        println!("{transfers} transfers; {target} sums on the target, {source} on the source");
        let some: Vec<_> = wrong.iter().take(5).collect();
        assert!(
            wrong.is_empty(),
            "{} of {} sums never were: {some:?}",
            wrong.len(),
            target + source
        );
    }
}

async fn in_shift(pair: &Pair, members: usize) -> Vec<Segue> {
    let fleet = serving(pair, members, "shadow_read", QUICK).await;
    forced(&fleet[0], "shift").await;
    for member in &fleet {
        let all = |now: &Value| now["fleet"]["target_percentage"] == 100.0;
        until(member, "all reads are shifted", all).await;
    }
    fleet
}

async fn drained(pair: &Pair) {
    eventually("the outbox is empty", LIMIT, || async {
        let sql = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
        (pair.source.rows(sql).await == ["0"]).then_some(())
    })
    .await;
}

const BOTH: &str = "SELECT id, balance FROM account ORDER BY id";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_shifted_read_sees_half_of_a_transfer() {
    let pair = Pair::fresh(SCHEMA, TARGET_SCHEMA).await;
    let fleet = in_shift(&pair, 3).await;
    let load = Load::start(&fleet, &pair).await;
    load.more("sums on the target", |seen| &seen.on_target, 1_500).await;
    load.more("transfers", |seen| &seen.transfers, 500).await;
    let begun = Instant::now();
    let seen = load.end().await;
    seen.verdict();
    drained(&pair).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "the target was far behind");
    assert_eq!(pair.source.rows(BOTH).await, pair.target.rows(BOTH).await);
}

/// Waits for an event of the history whose reason says so.
async fn told(member: &Segue, what: &str) {
    eventually(what, LIMIT, || async {
        let events = history(member);
        events.iter().any(|it| it["reason"].as_str().unwrap().contains(what)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_applied_at_once_puts_reads_off_until_it_is() {
    let pair = Pair::fresh(SCHEMA, TARGET_SCHEMA).await;
    let fleet = in_shift(&pair, 3).await;
    let load = Load::start(&fleet, &pair).await;
    load.more("sums on the target", |seen| &seen.on_target, 100).await;
    pair.source.run("INSERT INTO note SELECT i, 'n' FROM generate_series(1, 3000) AS i").await;
    told(&fleet[0], "keys wait").await;
    load.more("sums on the target again", |seen| &seen.on_target, 100).await;
    pair.source.run("TRUNCATE note").await;
    told(&fleet[0], "as a whole").await;
    load.more("sums on the target after a TRUNCATE", |seen| &seen.on_target, 100).await;

    pair.source.run("INSERT INTO note VALUES (1, 'unfit')").await;
    told(&fleet[0], "cannot be applied").await;
    let off = |now: &Value| {
        let warnings = now["warnings"].as_array().unwrap().iter();
        warnings.filter_map(Value::as_str).any(|it| it.contains("no read goes to the target"))
    };
    for member in &fleet {
        until(member, "the status says why", off).await;
    }
    let before = load.seen.on_target.load(Ordering::Relaxed);
    load.more("sums on the source", |seen| &seen.on_source, 100).await;
    assert_eq!(load.seen.on_target.load(Ordering::Relaxed), before, "reads are off");
    pair.source.run("DELETE FROM note").await;
    load.more("sums on the target in the end", |seen| &seen.on_target, 100).await;
    assert!(!off(&status(&fleet[0])), "{:#}", status(&fleet[0]));
    load.end().await.verdict();
    drained(&pair).await;
    assert_eq!(pair.source.rows(BOTH).await, pair.target.rows(BOTH).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_stopped_keeps_nobody_from_applying() {
    let pair = Pair::fresh(SCHEMA, TARGET_SCHEMA).await;
    let fleet = in_shift(&pair, 3).await;
    let load = Load::start(&fleet[..2], &pair).await;
    load.more("sums on the target", |seen| &seen.on_target, 100).await;
    for _ in 0..3 {
        fleet[2].signal("STOP");
        load.more("transfers beside it", |seen| &seen.transfers, 50).await;
        load.more("sums on the target", |seen| &seen.on_target, 100).await;
        drained_lately(&pair).await;
        fleet[2].signal("CONT");
        load.more("transfers after it", |seen| &seen.transfers, 50).await;
    }
    load.end().await.verdict();
    drained(&pair).await;
    assert_eq!(pair.source.rows(BOTH).await, pair.target.rows(BOTH).await);
}

/// Nothing waits for long, though others are stopped.
async fn drained_lately(pair: &Pair) {
    eventually("nothing old waits", LIMIT, || async {
        let sql = "SELECT count(*) FROM segue.outbox \
            WHERE forgotten_at IS NULL AND created_at < clock_timestamp() - '2 seconds'::interval";
        (pair.source.rows(sql).await == ["0"]).then_some(())
    })
    .await;
}
