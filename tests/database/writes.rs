//! Writes outside transactions of the caller.

use std::time::Duration;

use segue::domain::call::{CallContext, ResultLimits};
use segue::domain::fault::{FaultKind, Outcome};
use segue::domain::reason::Reason;
use segue::ports::{Database, WriteRequest};

use crate::rig::{Rig, WAIT, context, keyed, within, write};
use crate::support::eventually;

#[tokio::test]
async fn a_write_is_announced_and_applied() {
    let rig = Rig::new().await;
    rig.database
        .run(
            "CREATE TABLE seen (id text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO public.seen VALUES (current_setting('segue.write_id', true)); RETURN NULL; END$$;
             CREATE TRIGGER note AFTER INSERT ON item FOR EACH STATEMENT EXECUTE FUNCTION note()",
        )
        .await;
    let mut expected = Vec::new();
    for sql in [
        &["INSERT INTO item VALUES (1), (2)"][..],
        &["INSERT INTO item VALUES (3) RETURNING id"],
        &["INSERT INTO item VALUES (4)", "DELETE FROM item WHERE id = 1"],
        &["INSERT INTO item VALUES (5)"],
    ] {
        let request = write(sql);
        expected.push(request.write_id.to_string());
        let answer = rig.segue.write(request.clone()).await.unwrap();
        assert_eq!((answer.write_id, answer.items.len()), (request.write_id, sql.len()));
    }
    assert_eq!(rig.database.rows("SELECT id FROM seen").await, expected);
    assert_eq!(rig.database.rows("SELECT count(*) FROM item").await, ["4"]);
    assert_eq!(rig.writes.status().open, 1);
}

#[tokio::test]
async fn several_statements_are_all_or_none() {
    let rig = Rig::new().await;
    for sql in [
        ["INSERT INTO item VALUES (1)", "INSERT INTO item VALUES (2), (2)"],
        ["INSERT INTO item VALUES (1) RETURNING id", "INSERT INTO item VALUES (2), (2)"],
        ["INSERT INTO item VALUES (1)", "INSERT INTO nowhere VALUES (2)"],
    ] {
        let fault = rig.segue.write(write(&sql)).await.unwrap_err();
        assert!(["23505", "42P01"].contains(&fault.sqlstate.as_str()), "{fault}");
        assert_eq!(fault.outcome, Outcome::NotApplied);
        assert_eq!(rig.database.rows("SELECT count(*) FROM item").await, ["0"]);
    }
    let fault = rig.segue.write(write(&["INSERT INTO item VALUES (1), (1)"])).await.unwrap_err();
    assert_eq!((fault.constraint.as_str(), fault.table.as_str()), ("item_pkey", "item"));
    assert_eq!(rig.writes.status().open, 1, "a fault of the caller's costs no session");
}

#[tokio::test]
async fn a_fault_at_commit_is_a_fault() {
    let rig = Rig::new().await;
    rig.database
        .run("CREATE TABLE child (id int REFERENCES item DEFERRABLE INITIALLY DEFERRED)")
        .await;
    for sql in [
        &["INSERT INTO child VALUES (9)"][..],
        &["INSERT INTO child VALUES (9)", "INSERT INTO child VALUES (8)"],
        &["INSERT INTO child VALUES (9) RETURNING id"],
    ] {
        let fault = rig.segue.write(write(sql)).await.unwrap_err();
        assert_eq!((fault.sqlstate.as_str(), fault.outcome), ("23503", Outcome::NotApplied));
    }
    assert_eq!(rig.database.rows("SELECT count(*) FROM child").await, ["0"]);
}

#[tokio::test]
async fn returning_too_much_is_rolled_back() {
    let rig = Rig::new().await;
    let limits = ResultLimits { rows_max: 3, bytes_max: 1 << 20 };
    let request = WriteRequest {
        context: CallContext { limits, ..context() },
        ..write(&["INSERT INTO item SELECT generate_series(1, 100000) RETURNING id"])
    };
    let fault = rig.segue.write(request).await.unwrap_err();
    assert_eq!((fault.kind, fault.outcome), (FaultKind::LimitExceeded, Outcome::NotApplied));
    let request = WriteRequest {
        context: CallContext { limits, ..context() },
        ..write(&["INSERT INTO item VALUES (1), (2) RETURNING id"; 2].map(|sql| sql))
    };
    assert!(rig.segue.write(request).await.is_err());
    assert_eq!(rig.database.rows("SELECT count(*) FROM item").await, ["0"]);
}

#[tokio::test]
async fn a_write_past_its_deadline_is_not_applied() {
    let rig = Rig::new().await;
    for sql in [
        &["INSERT INTO item SELECT 1 FROM pg_sleep(60)"][..],
        &["INSERT INTO item VALUES (1)", "INSERT INTO item SELECT 2 FROM pg_sleep(60)"],
    ] {
        let request = WriteRequest { context: within(Duration::from_millis(200)), ..write(sql) };
        let fault = rig.segue.write(request).await.unwrap_err();
        assert_eq!((fault.kind, fault.outcome), (FaultKind::DeadlineExceeded, Outcome::NotApplied));
        assert_eq!(fault.sqlstate, "57014");
    }
    assert_eq!(rig.database.rows("SELECT count(*) FROM item").await, ["0"]);
    assert_eq!(rig.writes.status().open, 1, "the session was kept");
}

#[tokio::test]
async fn a_write_goes_on_when_its_future_is_dropped() {
    let rig = Rig::new().await;
    let request =
        write(&["INSERT INTO item SELECT 1 FROM pg_sleep(0.3)", "INSERT INTO item VALUES (2)"]);
    let dropped = tokio::time::timeout(Duration::from_millis(100), rig.segue.write(request)).await;
    assert!(dropped.is_err());
    eventually("both rows are there", WAIT, async || {
        (rig.database.rows("SELECT count(*) FROM item").await == ["2"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deadlock_is_worth_another_try() {
    let rig = Rig::new().await;
    rig.database.run("INSERT INTO item VALUES (1), (2)").await;
    let swap = |first: i32, second: i32| {
        let update = |id: i32| {
            format!("UPDATE item SET name = (SELECT 'x' FROM pg_sleep(0.3)) WHERE id = {id}")
        };
        let (first, second) = (update(first), update(second));
        rig.segue.write(write(&[&first, &second]))
    };
    let (one, two) = tokio::join!(swap(1, 2), swap(2, 1));
    let fault = one.err().or(two.err()).expect("one of them is the victim");
    assert_eq!((fault.sqlstate.as_str(), fault.retryable), ("40P01", true));
    assert_eq!(fault.outcome, Outcome::NotApplied);
}

#[tokio::test]
async fn a_key_has_effect_once_and_gives_the_first_answer() {
    let rig = Rig::new().await;
    let sql = &["INSERT INTO item VALUES (1, 'a') RETURNING id, name"];
    let first = rig.segue.write(keyed(sql, "k", 1)).await.unwrap();
    let again = rig.segue.write(keyed(sql, "k", 1)).await.unwrap();
    assert!(!first.already_applied && again.already_applied);
    assert_eq!((&first.items, first.write_id), (&again.items, again.write_id));
    let fault = rig.segue.write(keyed(sql, "k", 2)).await.unwrap_err();
    assert_eq!(
        (fault.kind, fault.reason),
        (FaultKind::Precondition, Reason::IdempotencyContentDiffers)
    );
    // A key whose write failed is free again.
    rig.segue.write(keyed(sql, "other", 1)).await.unwrap_err();
    let sql = &["INSERT INTO item VALUES (2)"];
    assert!(!rig.segue.write(keyed(sql, "other", 9)).await.unwrap().already_applied);
    assert_eq!(rig.database.rows("SELECT count(*) FROM item").await, ["2"]);
}

#[tokio::test]
async fn concurrent_duplicates_wait_for_the_first() {
    let rig = Rig::new().await;
    let calls = (0..6)
        .map(|_| rig.segue.write(keyed(&["INSERT INTO item SELECT 1 FROM pg_sleep(0.2)"], "k", 1)));
    let answers: Vec<_> = futures_util::future::join_all(calls).await;
    let replayed = answers.iter().filter(|answer| answer.as_ref().unwrap().already_applied).count();
    assert_eq!(replayed, 5);
    assert_eq!(rig.database.rows("SELECT count(*) FROM item").await, ["1"]);
}

#[tokio::test]
async fn an_answer_too_large_to_keep_is_not_applied() {
    let rig = Rig::new().await;
    let sql = &["INSERT INTO item SELECT 1, repeat('x', 2000000) RETURNING name"];
    let fault = rig.segue.write(keyed(sql, "k", 1)).await.unwrap_err();
    assert_eq!((fault.kind, fault.outcome), (FaultKind::LimitExceeded, Outcome::NotApplied));
    assert_eq!(rig.database.rows("SELECT count(*) FROM item").await, ["0"]);
}

#[tokio::test]
async fn what_stands_behind_a_begin_that_failed_cannot_write() {
    let rig = Rig::new().await;
    for _ in 0..2 {
        // A statement alone commits itself, also in a session that a batch has used before.
        rig.segue.write(write(&["INSERT INTO item VALUES (1)"])).await.unwrap();
        let both = ["DELETE FROM item", "INSERT INTO item VALUES (2)"];
        rig.segue.write(write(&both)).await.unwrap();
        let session = rig.writes.get().await.unwrap();
        let fault = session.batch_execute("INSERT INTO item VALUES (3)").await.unwrap_err();
        assert_eq!(fault.sqlstate, "25006");
        session.set_touched(false);
        drop(session);
        rig.segue.write(write(&["DELETE FROM item WHERE id = 2"])).await.unwrap();
    }
    assert_eq!(rig.database.rows("SELECT id FROM item").await, Vec::<String>::new());
    assert_eq!(rig.writes.status().open, 1, "the setting is segue's own and costs no session");
}

#[tokio::test]
async fn a_database_that_is_read_only_by_its_owners_will_stays_so() {
    let rig = Rig::new().await;
    let name = rig.database.name();
    rig.database
        .run(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .await;
    for sql in [
        &["INSERT INTO item VALUES (1)"][..],
        &["INSERT INTO item VALUES (1) RETURNING id"],
        &["INSERT INTO item VALUES (1)", "INSERT INTO item VALUES (2)"],
    ] {
        let fault = rig.segue.write(write(sql)).await.unwrap_err();
        assert_eq!((fault.sqlstate.as_str(), fault.outcome), ("25006", Outcome::NotApplied));
    }
}

/// Asks for a column of what is known of the prepared announcement.
fn announcement_as(column: &str) -> String {
    format!(
        "SELECT {column} FROM pg_prepared_statements \
         WHERE statement LIKE 'SELECT pg_catalog.set_config(''segue.write_id''%'"
    )
}

/// Makes the announcement fail in the session that is free, as if somebody had cancelled just
/// that.
async fn unable_to_announce(rig: &Rig) {
    let session = rig.writes.get().await.unwrap();
    let name: String =
        session.query_one(&announcement_as("name"), &[]).await.unwrap().try_get(0).unwrap();
    let broken =
        format!("DEALLOCATE {name}; PREPARE {name} (text) AS SELECT 1 / (length($1) - 36)");
    session.batch_execute(&broken).await.unwrap();
    // A reset would find it.
    session.set_touched(false);
}

/// Sessions of which transactions are so isolated.
async fn isolated(level: &str) -> Rig {
    let database = Rig::new().await.database;
    let isolation = format!("default_transaction_isolation = '{level}'");
    database.run(&format!("ALTER DATABASE {} SET {isolation}", database.name())).await;
    let dsn = database.dsn().to_owned();
    Rig::over(database, &dsn, 8).await
}

/// A write and its announcement are one transaction where nobody can tell.
#[tokio::test]
async fn a_write_stands_or_falls_with_its_announcement() {
    let rig = Rig::new().await;
    let names = "SELECT current_setting('segue.write_id', true)";
    let name = async || {
        let session = rig.writes.get().await.unwrap();
        session.query_one(names, &[]).await.unwrap().try_get::<_, String>(0).unwrap()
    };
    // The first one takes the guard off.
    for id in [1, 2] {
        let sql = format!("INSERT INTO item VALUES ({id})");
        let answer = rig.segue.write(write(&[&sql])).await.unwrap();
        assert_eq!(name().await, answer.write_id.to_string());
    }
    let fault = rig.segue.write(write(&["INSERT INTO item VALUES (2)"])).await.unwrap_err();
    assert_eq!((fault.sqlstate.as_str(), fault.outcome), ("23505", Outcome::NotApplied));
    assert_eq!(name().await, "", "undone with the write, and the session is nobody's");
    // Announced on its own behind a guard, and then together again.
    for id in [3, 4] {
        let sql = format!("INSERT INTO item VALUES ({id})");
        let answer = rig.segue.write(write(&[&sql])).await.unwrap();
        assert_eq!(name().await, answer.write_id.to_string());
    }
    unable_to_announce(&rig).await;
    let fault = rig.segue.write(write(&["INSERT INTO item VALUES (5)"])).await.unwrap_err();
    assert_eq!((fault.sqlstate.as_str(), fault.outcome), ("22012", Outcome::NotApplied));
    assert!(fault.retryable, "{fault}");
    rig.segue.write(write(&["INSERT INTO item VALUES (6)"])).await.unwrap();
    let ids = rig.database.rows("SELECT id FROM item ORDER BY id").await;
    assert_eq!(ids, ["1", "2", "3", "4", "6"]);
}

#[tokio::test]
async fn an_announcement_that_fails_alone_leaves_no_row_under_a_name_that_nobody_was_told() {
    // In its own piece it fails alone.
    let rig = isolated("repeatable read").await;
    rig.database
        .run(
            "CREATE TABLE seen (item int, id text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO public.seen SELECT n.id, current_setting('segue.write_id', true)
                FROM new_rows AS n; RETURN NULL; END$$;
             CREATE TRIGGER note AFTER INSERT ON item REFERENCING NEW TABLE AS new_rows
                FOR EACH STATEMENT EXECUTE FUNCTION note()",
        )
        .await;
    let first = rig.segue.write(write(&["INSERT INTO item VALUES (1)"])).await.unwrap();
    unable_to_announce(&rig).await;
    // The write is made, and its answer names what the outbox does.
    let second = rig.segue.write(write(&["INSERT INTO item VALUES (2)"])).await.unwrap();
    assert_eq!(second.write_id, first.write_id);
    // Only that one: the session is not used again.
    let third = rig.segue.write(write(&["INSERT INTO item VALUES (3)"])).await.unwrap();
    assert_ne!(third.write_id, first.write_id);
    let told = [first, second, third].map(|answer| answer.write_id.to_string());
    assert_eq!(rig.database.rows("SELECT id FROM seen ORDER BY item").await, told);

    // After a batch the session is guarded, and nothing that is not announced is written.
    rig.segue.write(write(&["DELETE FROM item WHERE id = 1", "DELETE FROM seen"])).await.unwrap();
    unable_to_announce(&rig).await;
    let fault = rig.segue.write(write(&["INSERT INTO item VALUES (4)"])).await.unwrap_err();
    assert_eq!((fault.outcome, fault.retryable), (Outcome::NotApplied, true), "{fault}");
    assert_eq!(rig.database.rows("SELECT id FROM item ORDER BY id").await, ["2", "3"]);
    rig.segue.write(write(&["INSERT INTO item VALUES (4)"])).await.unwrap();
}

#[tokio::test]
async fn a_session_that_has_announced_nothing_yet_writes_nothing_unannounced() {
    let rig = Rig::new().await;
    rig.segue.write(write(&["INSERT INTO item VALUES (1)"])).await.unwrap();
    let used = rig.writes.get().await.unwrap();
    let announcement: String =
        used.query_one(&announcement_as("statement"), &[]).await.unwrap().try_get(0).unwrap();
    used.discard();
    let fresh = rig.writes.get().await.unwrap();
    fresh.prepared(&announcement).await.unwrap();
    drop(fresh);
    unable_to_announce(&rig).await;
    let fault = rig.segue.write(write(&["INSERT INTO item VALUES (2)"])).await.unwrap_err();
    assert_eq!((fault.outcome, fault.retryable), (Outcome::NotApplied, true), "{fault}");
    assert_eq!(rig.database.rows("SELECT id FROM item").await, ["1"]);
}
