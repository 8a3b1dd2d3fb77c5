//! Reads outside transactions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use segue::domain::call::{CallContext, ResultLimits};
use segue::domain::fault::{FaultKind, Outcome};
use segue::domain::reason::Reason;
use segue::domain::value::Value;
use segue::ports::{Database, ReadRequest};

use crate::rig::{Rig, WAIT, context, query, row, rows, statement, within};
use crate::support::eventually;

#[tokio::test]
async fn values_go_in_and_rows_come_out() {
    let rig = Rig::new().await;
    let request = query(
        "SELECT $1::int4 AS a, $2::text AS b, $3::numeric AS c, NULL::bool AS d",
        &[Value::Int64(7), Value::Text("ü".into()), Value::Numeric("1.50".into())],
    );
    let answer = rig.segue.read(request).await.unwrap();
    let names: Vec<_> = answer.columns.iter().map(|column| column.name.clone()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(answer.columns[2].ty.name, "numeric");
    let mut expected = row(&["7", "ü", "1.50"]);
    expected.push(None);
    assert_eq!(rows(answer).await.unwrap(), [expected]);
}

#[tokio::test]
async fn a_parameter_that_does_not_fit_is_named() {
    let rig = Rig::new().await;
    let fault = rig
        .segue
        .read(query("SELECT $1::text, $2::int4", &[Value::Text("a".into()), Value::Int64(1 << 40)]))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::InvalidArgument);
    assert!(fault.message.starts_with("parameter $2: "), "{fault}");
    let fault = rig.segue.read(query("SELECT $1::text", &[])).await.unwrap_err();
    assert_eq!(fault.reason, Reason::InvalidParameterCount);
    // Neither cost a session.
    assert_eq!(rig.reads.status().open, 1);
}

#[tokio::test]
async fn a_query_that_would_write_is_refused() {
    let rig = Rig::new().await;
    for sql in [
        "INSERT INTO item VALUES (1) RETURNING id",
        "WITH w AS (DELETE FROM item RETURNING id) SELECT * FROM w",
    ] {
        let fault = rig.segue.read(query(sql, &[])).await.unwrap_err();
        assert_eq!((fault.kind, fault.reason), (FaultKind::Refused, Reason::RefusedWriteInQuery));
        assert_eq!(fault.sqlstate, "25006");
    }
}

#[tokio::test]
async fn the_servers_fault_comes_whole() {
    let rig = Rig::new().await;
    let fault = rig.segue.read(query("SELECT nope FROM item", &[])).await.unwrap_err();
    assert_eq!((fault.kind, fault.sqlstate.as_str()), (FaultKind::Database, "42703"));
    assert_eq!((fault.position, fault.outcome), (8, Outcome::NotApplied));
    let fault = rig.segue.read(query("SELECT 1 / 0", &[])).await.unwrap_err();
    assert_eq!(fault.sqlstate, "22012");
}

#[tokio::test]
async fn limits_fail_and_never_cut() {
    let rig = Rig::new().await;
    let limits = ResultLimits { rows_max: 100_000, bytes_max: 1000 };
    let limited = |sql: &str, limits| ReadRequest {
        statement: statement(sql, &[]),
        context: CallContext { limits, ..context() },
    };
    let fault = rig
        .segue
        .read(limited("SELECT repeat('x', 100) FROM generate_series(1, 11)", limits))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::LimitExceeded);
    let limits = ResultLimits { rows_max: 100_000, bytes_max: u64::MAX };
    let answer =
        rig.segue.read(limited("SELECT generate_series(1, 100001)", limits)).await.unwrap();
    let fault = rows(answer).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::LimitExceeded);
    let answer =
        rig.segue.read(limited("SELECT generate_series(1, 100000)", limits)).await.unwrap();
    assert_eq!(rows(answer).await.unwrap().len(), 100_000);
}

#[tokio::test]
async fn a_changed_table_is_prepared_anew() {
    let rig = Rig::new().await;
    let read = async || rows(rig.segue.read(query("SELECT * FROM item", &[])).await?).await;
    assert!(read().await.unwrap().is_empty());
    rig.database.run("ALTER TABLE item ADD more int; INSERT INTO item VALUES (1, 'a', 2, 3)").await;
    assert_eq!(read().await.unwrap(), [row(&["1", "a", "2", "3"])]);
    assert_eq!(rig.reads.status().open, 1);
}

#[tokio::test]
async fn the_deadline_cancels_the_statement_and_keeps_the_session() {
    let rig = Rig::new().await;
    let begun = Instant::now();
    let request = ReadRequest {
        statement: statement("SELECT pg_sleep(60)", &[]),
        context: within(Duration::from_millis(200)),
    };
    let fault = rig.segue.read(request).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::DeadlineExceeded);
    assert!(begun.elapsed() < Duration::from_secs(2));
    at_rest(&rig, 1).await;
}

/// A statement sleeps on the server.
async fn sleeping(rig: &Rig) {
    eventually("a statement sleeps", WAIT, async || {
        let asleep = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
            AND wait_event = 'PgSleep'";
        (!rig.database.rows(asleep).await.is_empty()).then_some(())
    })
    .await;
}

/// The statements have ended on the server, and the sessions are back and still the same.
async fn at_rest(rig: &Rig, open: usize) {
    eventually("sessions at rest", WAIT, async || {
        let status = rig.reads.status();
        (status.idle == status.open).then_some(())
    })
    .await;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND state = 'active' AND application_name = 'segue'";
    assert_eq!(rig.database.rows(running).await, ["0"]);
    assert_eq!(rig.reads.status().open, open);
    rig.segue.read(query("SELECT 1", &[])).await.unwrap();
    assert_eq!(rig.reads.status().open, open, "the session was used again");
}

#[tokio::test]
async fn a_caller_who_goes_away_cancels_the_statement() {
    let rig = Rig::new().await;
    let context = context();
    let cancelled = context.cancelled.clone();
    let request = ReadRequest { statement: statement("SELECT pg_sleep(60)", &[]), context };
    let (answer, ()) = tokio::join!(rig.segue.read(request), async {
        sleeping(&rig).await;
        cancelled.cancel();
    });
    assert_eq!(answer.unwrap_err().kind, FaultKind::Cancelled);
    at_rest(&rig, 1).await;
    // The same by dropping the future, and by dropping the stream.
    tokio::select! {
        _ = rig.segue.read(query("SELECT pg_sleep(60)", &[])) => panic!("nobody sleeps so short"),
        () = sleeping(&rig) => {}
    }
    at_rest(&rig, 1).await;
    let endless = query("SELECT generate_series(1, 1000000000)", &[]);
    let mut answer = rig.segue.read(endless).await.unwrap();
    answer.batches.next().await.unwrap().unwrap();
    drop(answer);
    at_rest(&rig, 1).await;
}

#[tokio::test]
async fn a_caller_who_takes_no_rows_keeps_no_session_past_its_deadline() {
    let rig = Rig::new().await;
    rig.segue.read(query("SELECT 1", &[])).await.unwrap();
    let endless = statement("SELECT generate_series(1, 1000000000)", &[]);
    let request = ReadRequest { statement: endless, context: within(Duration::from_secs(1)) };
    let mut answer = rig.segue.read(request).await.unwrap();
    at_rest(&rig, 1).await;
    let mut last = None;
    while let Some(next) = answer.batches.next().await {
        last = Some(next);
    }
    // What it took by then is not the whole answer, and it hears so.
    let fault = last.unwrap().unwrap_err();
    assert_eq!(fault.kind, FaultKind::DeadlineExceeded, "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_never_hits_another_callers_statement() {
    let rig = std::sync::Arc::new(Rig::new().await);
    // Enough of both, however long that takes on a machine with other work.
    let counts = std::sync::Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let until = Instant::now() + Duration::from_secs(120);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..12_u64 {
        let (rig, counts) = (std::sync::Arc::clone(&rig), std::sync::Arc::clone(&counts));
        callers.spawn(async move {
            let (ended, stopped) = &*counts;
            let enough =
                || ended.load(Ordering::Relaxed) > 1000 && stopped.load(Ordering::Relaxed) > 100;
            for turn in 0.. {
                if enough() || Instant::now() > until {
                    return;
                }
                if caller % 2 == 0 {
                    // Around the time that the statement takes, so that some requests are late.
                    let deadline = Duration::from_micros(4_000 + 137 * turn % 3_000);
                    let request = ReadRequest {
                        statement: statement("SELECT pg_sleep(0.005)", &[]),
                        context: within(deadline),
                    };
                    match rig.segue.read(request).await {
                        Ok(_) => drop(ended.fetch_add(1, Ordering::Relaxed)),
                        Err(fault) => {
                            assert_eq!(fault.kind, FaultKind::DeadlineExceeded, "{fault}");
                            stopped.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                } else {
                    rig.segue.read(query("SELECT pg_sleep(0.002)", &[])).await.unwrap();
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    callers.join_all().await;
    let (ended, stopped) = (counts.0.load(Ordering::Relaxed), counts.1.load(Ordering::Relaxed));
    eprintln!("{ended} ended, {stopped} cancelled");
    assert!(stopped > 50, "the test must cancel: {stopped}");
    assert!(ended > 500, "and others must run: {ended}");
}

#[tokio::test]
async fn an_exhausted_pool_says_that_nothing_was_sent() {
    let rig = Rig::new().await;
    let held: Vec<_> = futures_util::future::join_all((0..8).map(|_| rig.reads.get())).await;
    let begun = Instant::now();
    let request = ReadRequest {
        statement: statement("SELECT 1", &[]),
        context: within(Duration::from_millis(100)),
    };
    let fault = rig.segue.read(request).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::DeadlineExceeded);
    assert!(begun.elapsed() < Duration::from_secs(2));
    let fault = rig.segue.read(query("SELECT 1", &[])).await.unwrap_err();
    assert_eq!((fault.kind, fault.reason), (FaultKind::Unavailable, Reason::UnavailablePoolWait));
    drop(held);
    rig.segue.read(query("SELECT 1", &[])).await.unwrap();
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_million_rows_are_read_with_flat_memory() {
    let rig = Rig::new().await;
    let sql = "SELECT i, repeat('x', 100) FROM generate_series(1, 1000000) AS i";
    let mut answer = rig.segue.read(query(sql, &[])).await.unwrap();
    let before = resident_kib();
    let (mut count, mut highest) = (0_u64, before);
    while let Some(batch) = answer.batches.next().await {
        count += u64::from(batch.unwrap().row_count());
        highest = highest.max(resident_kib());
    }
    assert_eq!(count, 1_000_000);
    eprintln!("resident: {before} KiB before, {highest} KiB at most");
    // Other tests run in this process; the answer itself has over 100 MB.
    assert!(highest < before + 60_000, "{before} KiB grew to {highest} KiB");
}

#[tokio::test]
async fn types_are_described() {
    let rig = Rig::new().await;
    let told = rig.segue.describe("SELECT id, name FROM item WHERE price > $1").await.unwrap();
    assert_eq!(told.parameters[0].name, "numeric");
    let names: Vec<_> = told.columns.iter().map(|column| column.ty.name.clone()).collect();
    assert_eq!(names, ["int4", "text"]);
    let fault = rig.segue.describe("SELECT nope").await.unwrap_err();
    assert_eq!(fault.sqlstate, "42703");
}

#[tokio::test]
async fn a_session_with_changed_settings_is_not_handed_over() {
    let rig = Rig::new().await;
    let sneaky = "SELECT set_config('default_transaction_read_only', 'off', false)";
    rig.segue.read(query(sneaky, &[])).await.unwrap();
    let asked = query("SELECT current_setting('default_transaction_read_only')", &[]);
    let answer = rig.segue.read(asked).await.unwrap();
    assert_eq!(rows(answer).await.unwrap(), [row(&["on"])]);
}
