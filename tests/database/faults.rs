//! Connections that break, and what is then said of the effect.

use std::time::Duration;

use segue::domain::fault::{FaultKind, Outcome};
use segue::domain::key::WriteId;
use segue::ports::{Database, Transactions};

use crate::rig::{Rig, SCHEMA, WAIT, context, keyed, query, statement, write};
use crate::support::{self, Major, Options, Proxy, Server, eventually, shared};

pub(crate) async fn behind_proxy() -> (Rig, Proxy) {
    let server = shared(Major::V15);
    let database = support::Database::create(server, SCHEMA).await;
    let proxy = Proxy::start(server.port());
    let dsn = server.dsn_by_port(database.name(), proxy.port());
    (Rig::over(database, &dsn, 4).await, proxy)
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let (rig, proxy) = behind_proxy().await;
    proxy.refuse(true);
    let fault = rig.segue.write(write(&["INSERT INTO item VALUES (1)"])).await.unwrap_err();
    assert_eq!((fault.kind, fault.outcome), (FaultKind::Unavailable, Outcome::NotApplied));
    assert!(fault.retryable);
    proxy.refuse(false);
    eventually("the proxy listens again", WAIT, async || {
        rig.segue.write(write(&["INSERT INTO item VALUES (1)"])).await.ok()
    })
    .await;
}

/// Waits in COMMIT, in a deferred trigger, until a row is there.
const SLOW_COMMIT: &str = "CREATE TABLE gate (open bool);
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        PERFORM pg_sleep(1); RETURN NULL; END$$;
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION slow();";

async fn in_commit(rig: &Rig) {
    eventually("COMMIT runs", WAIT, async || {
        let running = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
            AND query = 'COMMIT' AND state = 'active' AND wait_event = 'PgSleep'";
        (!rig.database.rows(running).await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_commit_cut_off_before_it_is_done_was_not_applied() {
    let (rig, proxy) = behind_proxy().await;
    rig.database.run(SLOW_COMMIT).await;
    let id = begin(&rig).await;
    let insert = vec![statement("INSERT INTO item VALUES (1)", &[])];
    rig.transactions.write(id, insert, context()).await.unwrap();
    let (committed, ()) = tokio::join!(rig.transactions.commit(id, context()), async {
        in_commit(&rig).await;
        proxy.reset();
    });
    let fault = committed.unwrap_err();
    assert_eq!((fault.kind, fault.outcome), (FaultKind::ConnectionLost, Outcome::NotApplied));
    assert_eq!(rig.database.rows("SELECT count(*) FROM item").await, ["0"]);
}

async fn begin(rig: &Rig) -> segue::domain::call::TransactionId {
    let options = segue::domain::call::TransactionOptions {
        isolation: None,
        read_only: false,
        idle_max: Duration::from_secs(30),
        total_max: Duration::from_secs(60),
    };
    rig.transactions.begin(options, WriteId(1), context()).await.unwrap()
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    let (rig, proxy) = behind_proxy().await;
    let id = begin(&rig).await;
    let insert = vec![statement("INSERT INTO item VALUES (1)", &[])];
    rig.transactions.write(id, insert, context()).await.unwrap();
    // The answer to the xid is longer, so this cuts within the answers to xid and COMMIT.
    proxy.cut_after(90);
    let fault = rig.transactions.commit(id, context()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::ConnectionLost, "{fault}");
    assert_eq!(fault.must_see.is_some(), fault.outcome != Outcome::NotApplied, "{fault}");
    // Whether COMMIT was still on its way when the cut came is a matter of luck.
    let there = rig.database.rows("SELECT count(*) FROM item").await;
    match fault.outcome {
        Outcome::Applied => assert_eq!(there, ["1"], "{fault}"),
        Outcome::NotApplied => assert_eq!(there, ["0"], "{fault}"),
        Outcome::Unknown => panic!("it could have been looked up: {fault}"),
    }
}

#[tokio::test]
async fn a_batch_in_doubt_is_looked_up_at_every_cut() {
    let (rig, proxy) = behind_proxy().await;
    let two = |id: u32| {
        let (first, second) = (
            format!("INSERT INTO item VALUES ({})", 2 * id),
            format!("INSERT INTO item VALUES ({})", 2 * id + 1),
        );
        write(&[&first, &second])
    };
    rig.segue.write(two(0)).await.unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for (id, cut) in (1..).zip((1..260).step_by(12)) {
        // Prepared first, so that the cut falls into the one round trip of the write.
        let session_open = rig.segue.write(write(&["DELETE FROM item WHERE id < 0"])).await;
        session_open.unwrap();
        rig.writes_at_rest().await;
        proxy.cut_after(cut);
        let outcome = match rig.segue.write(two(id)).await {
            Ok(_) => Outcome::Applied,
            Err(fault) => fault.outcome,
        };
        proxy.cut_after(u32::MAX / 2);
        let there = format!("SELECT count(*) FROM item WHERE id / 2 = {id}");
        let there = rig.database.rows(&there).await;
        match outcome {
            Outcome::Applied => assert_eq!(there, ["2"], "cut {cut}"),
            Outcome::NotApplied => assert_eq!(there, ["0"], "cut {cut}"),
            Outcome::Unknown => assert_ne!(there, ["1"], "cut {cut}"),
        }
        *seen.entry(format!("{outcome:?}")).or_insert(0) += 1;
    }
    eprintln!("outcomes by cut: {seen:?}");
}

#[tokio::test]
async fn a_key_settles_every_doubt() {
    let (rig, proxy) = behind_proxy().await;
    rig.segue.write(write(&["DELETE FROM item WHERE id < 0"])).await.unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for (id, cut) in (1..).zip((1..400).step_by(15)) {
        rig.segue.write(write(&["DELETE FROM item WHERE id < 0"])).await.unwrap();
        let sql = format!("INSERT INTO item VALUES ({id}) RETURNING id");
        let key = format!("key {id}");
        rig.writes_at_rest().await;
        proxy.cut_after(cut);
        let first = rig.segue.write(keyed(&[&sql], &key, 1)).await;
        proxy.cut_after(u32::MAX / 2);
        let there = rig.database.rows(&format!("SELECT count(*) FROM item WHERE id = {id}")).await;
        let what = match &first {
            Ok(answer) if answer.already_applied => "found again",
            Ok(_) => "answered",
            Err(fault) => {
                assert_eq!(fault.outcome, Outcome::NotApplied, "cut {cut}: {fault}");
                "not applied"
            }
        };
        *seen.entry(what).or_insert(0) += 1;
        assert_eq!(there, [if first.is_ok() { "1" } else { "0" }], "cut {cut}");
        // Sent again, it has effect once.
        let again = rig.segue.write(keyed(&[&sql], &key, 1)).await.unwrap();
        assert_eq!(again.already_applied, first.is_ok());
    }
    eprintln!("by cut: {seen:?}");
    assert!(seen.contains_key("found again"), "{seen:?}");
}

#[tokio::test]
async fn pools_recover_from_a_restart() {
    let server = Server::start(Major::V15, &Options::default());
    let database = support::Database::create(&server, SCHEMA).await;
    let dsn = database.dsn().to_owned();
    let rig = Rig::over(database, &dsn, 4).await;
    rig.segue.write(write(&["INSERT INTO item VALUES (1)"])).await.unwrap();
    rig.segue.read(query("SELECT 1", &[])).await.unwrap();
    server.stop_immediate();
    let fault = rig.segue.read(query("SELECT 1", &[])).await.unwrap_err();
    // Whether the end of the idle session has been noticed yet is a matter of luck.
    let kinds = [FaultKind::Unavailable, FaultKind::ConnectionLost];
    assert!(kinds.contains(&fault.kind) && fault.retryable, "{fault}");
    assert_eq!(fault.outcome, Outcome::NotApplied);
    server.restart();
    eventually("reads and writes work again", Duration::from_secs(20), async || {
        rig.segue.read(query("SELECT 1", &[])).await.ok()?;
        rig.segue.write(write(&["INSERT INTO item VALUES (2) ON CONFLICT DO NOTHING"])).await.ok()
    })
    .await;
    // A statement that the server's end cuts off is in doubt, and is said to be.
    let client = support::connect(&dsn).await;
    let (written, ()) = tokio::join!(
        rig.segue.write(write(&["INSERT INTO item SELECT 3 FROM pg_sleep(5)"])),
        async {
            eventually("the statement runs", WAIT, async || {
                let running = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
                let rows = client.query(running, &[]).await.unwrap();
                (!rows.is_empty()).then_some(())
            })
            .await;
            server.stop_immediate();
        }
    );
    let fault = written.unwrap_err();
    assert_eq!((fault.kind, fault.outcome), (FaultKind::ConnectionLost, Outcome::Unknown));
}
