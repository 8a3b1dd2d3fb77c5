//! Transactions that span calls.

use std::time::Duration;

use futures_util::StreamExt;
use segue::domain::call::{Committed, Isolation, TransactionId, TransactionOptions};
use segue::domain::fault::{FaultKind, Outcome};
use segue::domain::key::WriteId;
use segue::domain::reason::Reason;
use segue::ports::{ReadRequest, Transactions};

use crate::rig::{Rig, WAIT, context, query, row, rows, statement, within};
use crate::support::eventually;

fn options() -> TransactionOptions {
    TransactionOptions {
        isolation: None,
        read_only: false,
        idle_max: Duration::from_secs(30),
        total_max: Duration::from_secs(60),
    }
}

async fn begin(rig: &Rig) -> TransactionId {
    rig.transactions.begin(options(), WriteId(1), context()).await.unwrap()
}

async fn write(
    rig: &Rig,
    id: TransactionId,
    sql: &str,
) -> Result<u64, segue::domain::fault::SqlFault> {
    let answer = rig.transactions.write(id, vec![statement(sql, &[])], context()).await?;
    Ok(answer.items[0].affected_rows)
}

const COUNT: &str = "SELECT count(*) FROM item";

#[tokio::test]
async fn what_is_committed_is_there_and_the_rest_is_not() {
    let rig = Rig::new().await;
    let id = begin(&rig).await;
    assert_eq!(write(&rig, id, "INSERT INTO item VALUES (1), (2)").await, Ok(2));
    let answer = rig.transactions.read(id, query(COUNT, &[])).await.unwrap();
    assert_eq!(rows(answer).await.unwrap(), [row(&["2"])]);
    assert_eq!(rig.database.rows(COUNT).await, ["0"]);
    let committed = Committed { write_id: WriteId(1), wrote: true };
    assert_eq!(rig.transactions.commit(id, context()).await, Ok(committed));
    assert_eq!(rig.database.rows(COUNT).await, ["2"]);

    let id = begin(&rig).await;
    assert_eq!(write(&rig, id, "DELETE FROM item WHERE id > 2").await, Ok(0));
    let nothing = Committed { wrote: false, ..committed };
    assert_eq!(rig.transactions.commit(id, context()).await, Ok(nothing));

    let id = begin(&rig).await;
    write(&rig, id, "DELETE FROM item").await.unwrap();
    rig.transactions.rollback(id).await.unwrap();
    assert_eq!(rig.database.rows(COUNT).await, ["2"]);
    let fault = rig.transactions.commit(id, context()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert!(fault.message.contains("was rolled back"), "{fault}");
    let fault = rig.transactions.rollback(TransactionId(7)).await.unwrap_err();
    assert!(fault.message.contains("not known"), "{fault}");
    assert_eq!((rig.transactions.open_count(), rig.writes.status().open), (0, 1));
}

#[tokio::test]
async fn a_failed_transaction_is_never_committed() {
    let rig = Rig::new().await;
    for bad in ["INSERT INTO item VALUES (1)", "SELEKT", "SELECT nope"] {
        let id = begin(&rig).await;
        write(&rig, id, "INSERT INTO item VALUES (1)").await.unwrap();
        write(&rig, id, bad).await.unwrap_err();
        let fault = rig.transactions.commit(id, context()).await.unwrap_err();
        assert_eq!((fault.reason, fault.outcome), (Reason::TransactionFailed, Outcome::NotApplied));
    }
    // An error in the middle of a stream counts as well.
    let id = begin(&rig).await;
    write(&rig, id, "INSERT INTO item VALUES (1)").await.unwrap();
    let sql = "SELECT 1 / (100000 - i) FROM generate_series(1, 100000) AS i";
    let answer = rig.transactions.read(id, query(sql, &[])).await.unwrap();
    assert_eq!(rows(answer).await.unwrap_err().sqlstate, "22012");
    rig.transactions.commit(id, context()).await.unwrap_err();
    assert_eq!(rig.database.rows(COUNT).await, ["0"]);
}

#[tokio::test]
async fn a_savepoint_saves() {
    let rig = Rig::new().await;
    let id = begin(&rig).await;
    write(&rig, id, "INSERT INTO item VALUES (1)").await.unwrap();
    write(&rig, id, "SAVEPOINT s").await.unwrap();
    write(&rig, id, "INSERT INTO item VALUES (1)").await.unwrap_err();
    let fault = write(&rig, id, "INSERT INTO item VALUES (2)").await.unwrap_err();
    assert_eq!(fault.sqlstate, "25P02");
    write(&rig, id, "ROLLBACK TO SAVEPOINT s").await.unwrap();
    write(&rig, id, "SET LOCAL lock_timeout = 100").await.unwrap();
    write(&rig, id, "INSERT INTO item VALUES (3)").await.unwrap();
    rig.transactions.commit(id, context()).await.unwrap();
    assert_eq!(rig.database.rows("SELECT id FROM item ORDER BY id").await, ["1", "3"]);
}

#[tokio::test]
async fn limits_of_time_roll_back_and_say_so() {
    let rig = Rig::new().await;
    let begin = async |idle: u64, total: u64| {
        let options = TransactionOptions {
            idle_max: Duration::from_millis(idle),
            total_max: Duration::from_millis(total),
            ..options()
        };
        let id = rig.transactions.begin(options, WriteId(1), context()).await.unwrap();
        write(&rig, id, "INSERT INTO item VALUES (1)").await.unwrap();
        id
    };
    let gone = async |id, text: &str| {
        let fault = eventually("the transaction ends", WAIT, async || {
            rig.transactions.read(id, query("SELECT 1", &[])).await.err()
        })
        .await;
        assert!(fault.message.contains(text), "{fault}");
    };
    let id = begin(200, 60_000).await;
    // A short poll would keep it busy for ever, so wait for the registry instead.
    eventually("it is rolled back", WAIT, async || {
        (rig.transactions.open_count() == 0).then_some(())
    })
    .await;
    gone(id, "after 0.2 s without a call").await;
    let id = begin(60_000, 300).await;
    // In use when its time is over: its statement is cancelled.
    let fault = write(&rig, id, "SELECT pg_sleep(60)").await.unwrap_err();
    assert_eq!(fault.sqlstate, "57014");
    eventually("it is rolled back", WAIT, async || {
        (rig.transactions.open_count() == 0).then_some(())
    })
    .await;
    gone(id, "its limit").await;
    assert_eq!(rig.database.rows(COUNT).await, ["0"]);
}

#[tokio::test]
async fn one_call_at_a_time() {
    let rig = Rig::new().await;
    let id = begin(&rig).await;
    let long = query("SELECT generate_series(1, 1000000)", &[]);
    let mut answer = rig.transactions.read(id, long).await.unwrap();
    answer.batches.next().await.unwrap().unwrap();
    let fault = write(&rig, id, "INSERT INTO item VALUES (1)").await.unwrap_err();
    assert_eq!((fault.kind, fault.reason), (FaultKind::Precondition, Reason::TransactionInUse));
    drop(answer);
    // Dropped, it is drained or cancelled, and the transaction goes on or has failed.
    eventually("the transaction is free", WAIT, async || {
        let written = write(&rig, id, "INSERT INTO item VALUES (1)").await;
        (!matches!(&written, Err(fault) if fault.reason == Reason::TransactionInUse)).then_some(())
    })
    .await;
    rig.transactions.rollback(id).await.unwrap();
}

#[tokio::test]
async fn a_deadline_fails_the_call_and_the_transaction() {
    let rig = Rig::new().await;
    let id = begin(&rig).await;
    let slow = vec![statement("SELECT pg_sleep(60)", &[])];
    let limit = within(Duration::from_millis(100));
    let fault = rig.transactions.write(id, slow, limit).await.unwrap_err();
    assert_eq!((fault.kind, fault.outcome), (FaultKind::DeadlineExceeded, Outcome::NotApplied));
    let id2 = begin(&rig).await;
    let request = ReadRequest {
        statement: statement("SELECT pg_sleep(60)", &[]),
        context: within(Duration::from_millis(100)),
    };
    let fault = rig.transactions.read(id2, request).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::DeadlineExceeded);
    for id in [id, id2] {
        let fault = eventually("the call has ended", WAIT, async || {
            let fault = rig.transactions.commit(id, context()).await.unwrap_err();
            (fault.reason != Reason::TransactionInUse).then_some(fault)
        })
        .await;
        assert_eq!(fault.reason, Reason::TransactionFailed);
    }
    assert_eq!(rig.writes.status().open, 2);
}

#[tokio::test]
async fn options_are_kept_and_numbers_bounded() {
    let rig = Rig::new().await;
    let options = TransactionOptions {
        isolation: Some(Isolation::Serializable),
        read_only: true,
        ..options()
    };
    let id = rig.transactions.begin(options, WriteId(1), context()).await.unwrap();
    let answer = rig.transactions.read(id, query("SHOW transaction_isolation", &[])).await.unwrap();
    assert_eq!(rows(answer).await.unwrap(), [row(&["serializable"])]);
    assert_eq!(write(&rig, id, "INSERT INTO item VALUES (1)").await.unwrap_err().sqlstate, "25006");
    for _ in 0..3 {
        begin(&rig).await;
    }
    let fault = rig.transactions.begin(options, WriteId(1), context()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::LimitExceeded);
    rig.transactions.rollback(id).await.unwrap();
    begin(&rig).await;
    rig.stop.cancel();
    eventually("a shutdown rolls everything back", WAIT, async || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND state LIKE 'idle in transaction%'";
        (rig.database.rows(open).await == ["0"]).then_some(())
    })
    .await;
}
