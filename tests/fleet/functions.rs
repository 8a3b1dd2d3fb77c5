//! Writes that only the database knows of: by functions that a statement calls.

use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, Side};
use tonic::transport::Channel;

use crate::support::{Pair, Segue, eventually};
use crate::world::{LIMIT, client, forced, read, serving, statement, told, until};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, version int8 NOT NULL);
CREATE FUNCTION set_item(item_id int8, item_version int8) RETURNS int8 LANGUAGE sql AS $$
    INSERT INTO item (id, version) VALUES (item_id::int, item_version)
    ON CONFLICT (id) DO UPDATE SET version = excluded.version RETURNING version $$;
CREATE FUNCTION look_at(item_id int8) RETURNS int8 LANGUAGE sql AS $$
    SELECT version FROM item WHERE id = item_id $$;";

/// Nothing is found by the clock: whoever is not woken leaves it in the outbox.
const WOKEN: &str = "[control]
poll_interval = \"200ms\"
lease = \"4s\"
[outbox]
poll_interval = \"1h\"
[read_routing]
target_percentage = 100
escalation_schedule = []
[read_routing.rollback_trigger]
latency_p99_threshold = \"30s\"
outbox_age_threshold = \"1h\"
";

const CALL: &str = "SELECT set_item($1, $2)";

/// The ways in which a statement is sent.
#[derive(Debug, Clone, Copy)]
enum Way {
    Execute,
    WithoutColumns,
    Batch,
    Transaction,
    QueryInTransaction,
}

const WAYS: [Way; 5] =
    [Way::Execute, Way::WithoutColumns, Way::Batch, Way::Transaction, Way::QueryInTransaction];

/// Writes by the function; gives the token of the answer.
async fn call(client: &mut SqlClient<Channel>, way: Way, id: i64, version: i64) -> String {
    let execute = |sql: &str, transaction_id: String| proto::ExecuteRequest {
        statement: statement(sql, &[id, version]),
        transaction: proto::TransactionSelector::open(transaction_id),
        ..proto::ExecuteRequest::default()
    };
    match way {
        Way::Execute => {
            let answer = client.execute(execute(CALL, String::new())).await.unwrap();
            answer.into_inner().consistency_token
        }
        Way::WithoutColumns => {
            let sql = "SELECT FROM set_item($1, $2)";
            let answer = client.execute(execute(sql, String::new())).await.unwrap();
            answer.into_inner().consistency_token
        }
        Way::Batch => {
            let look = statement("SELECT look_at($1)", &[id]).unwrap();
            let statements = vec![look, statement(CALL, &[id, version]).unwrap()];
            let request = proto::BatchRequest { statements, ..proto::BatchRequest::default() };
            client.batch(request).await.unwrap().into_inner().consistency_token
        }
        Way::Transaction | Way::QueryInTransaction => {
            let begun = client.begin(proto::BeginRequest::default()).await.unwrap();
            let transaction_id = begun.into_inner().transaction_id;
            if matches!(way, Way::Transaction) {
                client.execute(execute(CALL, transaction_id.clone())).await.unwrap();
            } else {
                let request = proto::QueryRequest {
                    statement: statement(CALL, &[id, version]),
                    transaction: proto::TransactionSelector::open(transaction_id.clone()),
                    ..proto::QueryRequest::default()
                };
                let mut frames = client.query(request).await.unwrap().into_inner();
                while frames.message().await.unwrap().is_some() {}
            }
            let committed = client
                .commit(proto::CommitRequest { transaction_id, ..Default::default() })
                .await
                .unwrap();
            committed.into_inner().consistency_token
        }
    }
}

async fn in_shift(pair: &Pair) -> Vec<Segue> {
    let fleet = serving(pair, 1, "shadow_read", WOKEN).await;
    forced(&fleet[0], "shift").await;
    let all = |now: &serde_json::Value| now["fleet"]["target_percentage"] == 100.0;
    until(&fleet[0], "all reads are shifted", all).await;
    fleet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wrote_by_a_function_reads_it() {
    let pair = Pair::fresh(SCHEMA, SCHEMA).await;
    let fleet = in_shift(&pair).await;
    let mut client = client(&fleet[0]);
    let (mut missing, mut on_target) = (Vec::new(), 0);
    for (round, way) in (0..200).zip(WAYS.into_iter().cycle()) {
        let (id, version) = (round % 10, round + 1);
        let token = call(&mut client, way, id, version).await;
        let (found, side) = read(&mut client, id, &token).await.unwrap();
        on_target += u64::from(side == Side::Target);
        if found != Some(version) {
            missing.push(format!("{way:?}: item {id} is {found:?} on {side:?}, not {version}"));
        }
    }
    assert!(missing.is_empty(), "{} of 200 were missing: {missing:#?}", missing.len());
    assert!(on_target > 0, "nothing was awaited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reconciler_is_woken_by_a_write_of_a_function() {
    let pair = Pair::fresh(SCHEMA, SCHEMA).await;
    let fleet = serving(&pair, 1, "dual_write", WOKEN).await;
    let mut client = client(&fleet[0]);
    for (id, way) in (0..).zip(WAYS) {
        call(&mut client, way, id, 7).await;
        eventually(&format!("{way:?} is on the target"), LIMIT, || async {
            let sql = format!("SELECT version FROM item WHERE id = {id}");
            (pair.target.rows(&sql).await == ["7"]).then_some(())
        })
        .await;
    }
}

/// What only reads, though it is sent as a write, gets no token, which could take the place of
/// one that counts; and where `Query` is asked to write, it says what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_only_reads_has_no_token_and_one_that_writes_is_refused_in_query() {
    let pair = Pair::fresh(SCHEMA, SCHEMA).await;
    let fleet = in_shift(&pair).await;
    let mut client = client(&fleet[0]);
    call(&mut client, Way::Execute, 1, 1).await;
    let blocker = pair.target.client().await;
    blocker.batch_execute("BEGIN; LOCK TABLE item IN EXCLUSIVE MODE").await.unwrap();
    assert_ne!(call(&mut client, Way::Execute, 1, 2).await, "");
    let request = proto::ExecuteRequest {
        statement: statement("SELECT look_at($1)", &[1]),
        ..proto::ExecuteRequest::default()
    };
    assert_eq!(client.execute(request).await.unwrap().into_inner().consistency_token, "");
    blocker.batch_execute("COMMIT").await.unwrap();
    let request = proto::QueryRequest {
        statement: statement(CALL, &[1, 3]),
        ..proto::QueryRequest::default()
    };
    let refused = match client.query(request).await {
        Err(status) => status,
        Ok(answer) => answer.into_inner().message().await.unwrap_err(),
    };
    let (reason, _) = told(&refused).unwrap();
    assert_eq!(reason, "refused.write_in_query");
    assert!(format!("{refused:?}").contains("Execute"), "{refused:?}");
}
