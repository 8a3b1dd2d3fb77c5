//! A trial of a sidecar that is stopped while its callers have transactions open: the server takes it
//! for well, and what they have locked stays locked until somebody ends their sessions.

use std::time::{Duration, Instant};

use segue::grpc::proto;
use segue::grpc::proto::sql_client::SqlClient;
use tonic::transport::{Channel, Endpoint};

use crate::ledger::Load;
use crate::ledger::calls::statement;
use crate::support::{Segue, eventually};
use crate::trial::LIMIT;
use crate::world::{LEASE, World};

/// Beyond the lease, until others go on; on a loaded machine.
const OUTAGE_MORE: Duration = Duration::from_secs(5);
/// Writes that show that callers go on.
const WRITES: u64 = 30;
/// A row that nobody else writes.
const HELD: &str = "UPDATE slow SET n = -1 WHERE id = 12";

fn client(segue: &Segue) -> SqlClient<Channel> {
    SqlClient::new(Endpoint::from_shared(segue.sql_address()).unwrap().connect_lazy())
}

fn execute(sql: &str) -> proto::ExecuteRequest {
    let statement = Some(statement(sql, Vec::new()));
    proto::ExecuteRequest { statement, ..Default::default() }
}

/// Another sidecar writes the row within the lease, and what the stopped one had begun is undone.
pub async fn begin(world: &World, load: &Load, round: i64) {
    let [well, lost] = [&world.sidecars[0], &world.sidecars[1]];
    let begun = proto::transaction_selector::Selector::Begin(proto::TransactionOptions::default());
    let transaction = Some(proto::TransactionSelector { selector: Some(begun), commit: false });
    let open = proto::ExecuteRequest { transaction, ..execute(HELD) };
    let held = eventually("a caller's transaction is open", LIMIT, || async {
        client(lost).execute(open.clone()).await.ok()
    })
    .await;
    lost.signal("STOP");
    let since = Instant::now();
    let write = format!("UPDATE slow SET n = {round} WHERE id = 12");
    eventually("the row can be written", LIMIT, || async {
        client(well).execute(execute(&write)).await.ok()
    })
    .await;
    let took = since.elapsed();
    load.acknowledged(WRITES).await;
    lost.signal("CONT");
    println!("what callers of a stopped sidecar had locked was free after {took:?}");
    assert!(took < LEASE + OUTAGE_MORE, "{took:?}");
    let transaction_id = held.into_inner().transaction_id;
    let commit = proto::CommitRequest { transaction_id, ..Default::default() };
    client(lost).commit(commit).await.expect_err("its session was ended");
    let row = "SELECT n FROM slow WHERE id = 12";
    assert_eq!(world.pair.source.rows(row).await, [round.to_string()]);
}
