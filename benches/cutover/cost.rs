//! What the fence and membership of a fleet cost a single write.
//!
//! The fence: two tables beside each other, of which the one's trigger has had the fence taken
//! out, written in turn through the same sidecar. Membership: two sidecars on databases of
//! their own, of which the one renews its lease, reports and looks at the fleet each second as
//! all do, and the other each hour. What a call itself does for it (a lease looked at, an epoch
//! counted) is a few loads and stores in memory, which no build is without.

use std::time::{Duration, Instant};

use segue::grpc::proto;
use segue::grpc::proto::sql_client::SqlClient;
use tonic::transport::{Channel, Endpoint};

use crate::ledger::calls::{int, statement};
use crate::support::{Durability, Major, Options, Pair, Segue, Server};

const BLOCKS: usize = 9;
const WRITES_OF_A_BLOCK: i64 = 400;
const TABLES: [&str; 2] = ["fenced", "plain"];

/// Two ways that a write is made, by name.
type Ways<'a> = [(&'a str, &'a mut SqlClient<Channel>, &'a str); 2];

/// Prints what the fence costs.
pub async fn of_the_fence() {
    let (source, target) = servers();
    let tables = TABLES.map(|table| format!("CREATE TABLE {table} (id int8 PRIMARY KEY, n int8);"));
    let tables = tables.concat();
    let pair = Pair::within(&source, &target, &tables, &tables).await;
    // Or it would put the fence back.
    let seldom = "[outbox]\ncapture_check_interval = \"1h\"\n";
    let segue = Segue::serving(&pair, "dual_write", seldom).await;
    take_the_fence_out(&pair, "plain").await;
    let mut sql = client(&segue).await;
    let mut other = sql.clone();
    compare([("with the fence", &mut sql, "fenced"), ("without", &mut other, "plain")]).await;
}

/// Prints what it costs to be a member.
pub async fn of_membership() {
    let (source, target) = servers();
    let table = "CREATE TABLE plain (id int8 PRIMARY KEY, n int8);";
    let mut sidecars = Vec::new();
    for control in ["", "[control]\npoll_interval = \"1h\"\nlease = \"3h\"\n"] {
        let pair = Pair::within(&source, &target, table, table).await;
        let segue = Segue::serving(&pair, "dual_write", control).await;
        sidecars.push((client(&segue).await, segue, pair));
    }
    let [(each_second, ..), (each_hour, ..)] = sidecars.as_mut_slice() else { unreachable!() };
    let ways = [("each second", each_second, "plain"), ("each hour", each_hour, "plain")];
    compare(ways).await;
}

fn servers() -> (Server, Server) {
    let durable = Options { durability: Durability::Fsync, ..Options::default() };
    (Server::start(Major::V15, &durable), Server::start(Major::V18, &durable))
}

async fn client(segue: &Segue) -> SqlClient<Channel> {
    let channel = Endpoint::from_shared(segue.sql_address()).unwrap().connect().await.unwrap();
    SqlClient::new(channel)
}

/// Prints the ratio of the medians of the one way and the other, block by block.
async fn compare(mut ways: Ways<'_>) {
    let mut ratios = Vec::new();
    for block in 0..BLOCKS {
        let mut took = [Vec::new(), Vec::new()];
        for n in 0..WRITES_OF_A_BLOCK {
            let id = i64::try_from(block).unwrap() * WRITES_OF_A_BLOCK + n;
            // Whoever comes second may find the log just flushed: they take turns.
            for at in if n % 2 == 0 { [0, 1] } else { [1, 0] } {
                let (_, sql, table) = &mut ways[at];
                took[at].push(insert(sql, table, id).await);
            }
        }
        let [one, other] = took.map(median);
        // The first one warms caches and plans.
        if block > 0 {
            ratios.push(one.as_secs_f64() / other.as_secs_f64());
            println!("{} {one:.1?}, {} {other:.1?}", ways[0].0, ways[1].0);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let (least, middle, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    println!(
        "a single captured write {}, of one {}: median {middle:.3}, from {least:.3} to {most:.3} \
         (blocks of {WRITES_OF_A_BLOCK} pairs, n = {})",
        ways[0].0,
        ways[1].0,
        ratios.len()
    );
}

async fn insert(sql: &mut SqlClient<Channel>, table: &str, id: i64) -> Duration {
    let insert = format!("INSERT INTO {table} (id, n) VALUES ($1, 1)");
    let statement = Some(statement(&insert, vec![int(id)]));
    let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
    let begun = Instant::now();
    sql.execute(request).await.unwrap();
    begun.elapsed()
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    of[of.len() / 2]
}

/// Takes the lock and both looks at the control row out of the table's function for inserts.
async fn take_the_fence_out(pair: &Pair, table: &str) {
    let client = pair.source.client().await;
    let found = "SELECT pg_get_functiondef(t.tgfoid) FROM pg_trigger AS t \
        WHERE t.tgrelid = $1::text::regclass AND NOT t.tgisinternal AND t.tgtype & 4 = 4";
    let row = client.query_one(found, &[&table]).await.unwrap();
    let mut text: String = row.get(0);
    for (from, until) in [
        ("segue_lock CONSTANT", "pg_catalog.text;"),
        ("IF pg_catalog.current_setting('transaction_isolation')", "END IF;"),
        ("IF NOT FOUND", "END IF;"),
        ("WHERE (SELECT c.phase", "c.id = 1)"),
    ] {
        let begin = text.find(from).unwrap_or_else(|| panic!("no {from} in {text}"));
        let end = begin + text[begin..].find(until).unwrap() + until.len();
        text.replace_range(begin..end, "");
    }
    client.batch_execute(&text).await.unwrap();
}
