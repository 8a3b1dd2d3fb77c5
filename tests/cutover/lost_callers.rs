//! What callers of a sidecar have locked that is lost in the middle of their transactions, while the
//! epoch has settled and nobody changes the phase.

use std::time::{Duration, Instant};

use segue::grpc::proto;
use tokio_postgres::error::SqlState;
use tonic::Code;

use crate::fleet::{Fleet, LIMIT};
use crate::stopped::{sql, statement};
use crate::support::database::connect;
use crate::support::eventually;

/// The lease of these fleets, and what segue promises beyond it.
const OUTAGE_MAX: Duration = Duration::from_secs(4 + 2);
const LOST: usize = 2;
/// Sessions in which callers write, by the lock that names their member, and that are in no transaction.
const AT_REST: &str = "SELECT a.pid::text FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) \
    WHERE l.locktype = 'advisory' AND l.classid::int8 = x'73677772'::int8 AND a.state = 'idle' \
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1";

fn begun() -> Option<proto::TransactionSelector> {
    let begin = proto::TransactionOptions::default();
    let selector = Some(proto::transaction_selector::Selector::Begin(begin));
    Some(proto::TransactionSelector { selector, commit: false })
}

/// Begins a transaction at a member by a statement; gives its id.
async fn begin_at(fleet: &Fleet, member: usize, text: &str) -> String {
    let request = proto::ExecuteRequest {
        statement: statement(text),
        transaction: begun(),
        ..proto::ExecuteRequest::default()
    };
    let begun = sql(&fleet.addresses()[member]).execute(request).await.unwrap();
    begun.into_inner().transaction_id
}

/// Its process is stopped: the kernel answers for it, so that the server takes it for well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_callers_of_a_stopped_sidecar_have_locked_are_free_within_its_lease() {
    let fleet = Fleet::in_phase(3, "dual_write").await;
    fleet.settled_at_all().await;
    let addresses = fleet.addresses();
    let id = begin_at(&fleet, LOST, "UPDATE ticket SET note = 'lost' WHERE id = 1").await;
    let looked = begin_at(&fleet, LOST, "SELECT count(*) FROM coupon").await;
    // One more session of its own, at rest.
    let mut caller = sql(&addresses[LOST]);
    let written = caller.execute(proto::ExecuteRequest {
        statement: statement("UPDATE ticket SET note = 'before' WHERE id = 2"),
        ..proto::ExecuteRequest::default()
    });
    written.await.unwrap();
    let at_rest = fleet.pair.source.rows(AT_REST).await;
    assert!(!at_rest.is_empty());
    fleet.members[LOST].signal("STOP");
    let begun = Instant::now();
    let written = async {
        eventually("the row can be written", LIMIT, || async {
            let statement = statement("UPDATE ticket SET note = 'new' WHERE id = 1");
            let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
            sql(&addresses[0]).execute(request).await.ok()
        })
        .await;
        begun.elapsed()
    };
    let locked = async {
        let lock = "SET lock_timeout = '30s'; BEGIN; LOCK TABLE coupon; COMMIT";
        fleet.pair.source.run(lock).await;
        begun.elapsed()
    };
    let (written, locked) = tokio::join!(written, locked);
    println!("a row after {written:?}, a table after {locked:?}");
    assert!(written < OUTAGE_MAX && locked < OUTAGE_MAX, "a row {written:?}, a table {locked:?}");
    let left = fleet.pair.source.rows(AT_REST).await;
    assert!(
        at_rest.iter().all(|it| left.contains(it)),
        "{at_rest:?}: what rests is in no one's way"
    );
    fleet.members[LOST].signal("CONT");
    for transaction_id in [id, looked] {
        let request = proto::CommitRequest { transaction_id, ..proto::CommitRequest::default() };
        let refused = sql(&addresses[LOST]).commit(request).await.unwrap_err();
        assert_ne!(refused.code(), Code::Internal, "{refused}");
    }
    fleet.drained().await;
    for database in [&fleet.pair.source, &fleet.pair.target] {
        assert_eq!(database.rows("SELECT note FROM ticket WHERE id = 1").await, ["new"]);
    }
}

/// Where no other member is there to end it, the server does, some time after the sidecar would have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_a_caller_has_an_end_at_the_server() {
    let fleet = Fleet::in_phase(1, "dual_write").await;
    let asked = "UPDATE ticket SET note = current_setting('idle_in_transaction_session_timeout')";
    begin_at(&fleet, 0, &format!("{asked} WHERE id = 1")).await;
    let set = |value| {
        format!("ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout = {value}")
    };
    let request = |text: &str| proto::ExecuteRequest {
        statement: statement(text),
        ..proto::ExecuteRequest::default()
    };
    let mut caller = sql(&fleet.addresses()[0]);
    caller.execute(request(&format!("{asked} WHERE id = 2"))).await.unwrap();
    assert_eq!(fleet.pair.source.rows("SELECT note FROM ticket WHERE id = 2").await, ["40s"]);
    // A stricter one of the role stays; a looser one does not.
    let mut fleet = fleet;
    for (id, own, seen) in [(3, "'5s'", "5s"), (4, "'10min'", "40s")] {
        fleet.pair.source.run(&set(own)).await;
        fleet.members[0].kill();
        fleet.members[0].spawn();
        fleet.members[0].serves().await;
        let caller = sql(&fleet.addresses()[0]);
        eventually("it is written", LIMIT, || async {
            caller.clone().execute(request(&format!("{asked} WHERE id = {id}"))).await.ok()
        })
        .await;
        let written = format!("SELECT note FROM ticket WHERE id = {id}");
        assert_eq!(fleet.pair.source.rows(&written).await, [seen]);
    }
}

/// As a verify or a copy leaves it that is stopped while it reads. Whoever changes the schema would
/// wait, and behind it all who use the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_of_segues_own_that_stands_still_gives_way_to_a_change_of_the_schema() {
    let fleet = Fleet::in_phase(2, "dual_write").await;
    fleet.settled_at_all().await;
    let source = &fleet.pair.source;
    let reads = |name: &'static str, table: &'static str| async move {
        let client = connect(source.dsn()).await;
        let sql = format!("SET application_name = '{name}'; BEGIN; SELECT count(*) FROM {table}");
        client.batch_execute(&sql).await.unwrap();
        client
    };
    let (own, other) = tokio::join!(reads("segue", "ticket"), reads("psql", "coupon"));
    let begun = Instant::now();
    source.run("SET lock_timeout = '30s'; BEGIN; LOCK TABLE ticket; COMMIT").await;
    let took = begun.elapsed();
    assert!(took < OUTAGE_MAX, "a change of the schema waited for {took:?}");
    assert!(own.batch_execute("COMMIT").await.is_err(), "it was ended");
    let client = connect(source.dsn()).await;
    let wait = format!("SET lock_timeout = '{}ms'", OUTAGE_MAX.as_millis());
    client.batch_execute(&wait).await.unwrap();
    let refused = client.batch_execute("BEGIN; LOCK TABLE coupon").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{refused}");
    other.batch_execute("COMMIT").await.unwrap();
}
