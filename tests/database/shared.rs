//! Reads that have their sessions together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use segue::domain::fault::{FaultKind, Outcome, SqlFault};
use segue::domain::reason::Reason;
use segue::domain::value::Value;
use segue::ports::{Database, ReadRequest};

use crate::rig::{Rig, SCHEMA, WAIT, query, row, rows, statement, within};
use crate::support::{self, Major, Proxy, eventually, shared};

const NEVER: Duration = Duration::from_secs(60);

async fn with_sessions(count: usize) -> Rig {
    let database = support::Database::create(shared(Major::V15), SCHEMA).await;
    let dsn = database.dsn().to_owned();
    Rig::over(database, &dsn, count).await
}

/// A quick read, whose answer nobody else's can be taken for.
async fn read(rig: &Rig, number: i64) -> Result<(), SqlFault> {
    let request = query("SELECT $1::int8", &[Value::Int64(number)]);
    let answer = rig.segue.read_shared(request).await?;
    assert_eq!(rows(answer).await?, [row(&[&number.to_string()])]);
    Ok(())
}

async fn read_many(rig: &Rig, count: i64) {
    for done in join_all((0..count).map(|number| read(rig, number))).await {
        done.unwrap();
    }
}

/// Everything has ended on the server, and the sessions are back in their pool.
async fn at_rest(rig: &Rig) {
    eventually("sessions at rest", WAIT * 4, async || {
        let status = rig.reads.status();
        (status.idle == status.open).then_some(())
    })
    .await;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND state = 'active' AND application_name = 'segue'";
    // An answer may be handed over before the server has told itself that it is done.
    eventually("nothing runs", WAIT * 4, async || {
        (rig.database.rows(running).await == ["0"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_reads_share_one_session() {
    let rig = with_sessions(2).await;
    // The other one is somebody's.
    let held = rig.reads.get().await.unwrap();
    for _ in 0..20 {
        read_many(&rig, 100).await;
    }
    drop(held);
    assert!(rig.reads.status().open <= 2, "{:?}", rig.reads.status());
    at_rest(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_callers_error_is_nobody_elses() {
    let rig = with_sessions(2).await;
    let fails = async |sql: &str, params: &[Value]| {
        rig.segue.read_shared(query(sql, params)).await.map(drop).unwrap_err()
    };
    let text = [Value::Text("x".into())];
    for _ in 0..50 {
        let (_, zero, name, write, count, param) = tokio::join!(
            read_many(&rig, 20),
            fails("SELECT 1 / 0", &[]),
            fails("SELECT nope FROM item", &[]),
            fails("INSERT INTO item VALUES (1) RETURNING id", &[]),
            fails("SELECT $1::text", &[]),
            fails("SELECT $1::int4", &text),
        );
        assert_eq!((zero.sqlstate.as_str(), name.sqlstate.as_str()), ("22012", "42703"));
        assert_eq!((write.kind, write.sqlstate.as_str()), (FaultKind::Refused, "25006"));
        assert_eq!(count.reason, Reason::InvalidParameterCount);
        assert_eq!(param.reason, Reason::InvalidParameter);
    }
    assert_eq!(rig.database.rows("SELECT count(*) FROM item").await, ["0"]);
    at_rest(&rig).await;
}

/// The server skips what stands behind an error in one piece.
#[tokio::test]
async fn whoever_stands_behind_a_failed_request_is_answered_all_the_same() {
    let rig = with_sessions(2).await;
    let failing =
        async || rig.segue.read_shared(query("SELECT 1 / $1::int8", &[Value::Int64(0)])).await;
    for _ in 0..3 {
        // More than are kept apart after a failure.
        for _ in 0..30 {
            read_many(&rig, 10).await;
        }
        let (failed, ()) = tokio::join!(failing(), read_many(&rig, 10));
        assert_eq!(failed.map(drop).unwrap_err().sqlstate, "22012");
    }
    at_rest(&rig).await;
}

/// Requests of one piece are one transaction to the server, which began at one time.
async fn transactions_of_ten_reads(rig: &Rig) -> usize {
    let request = || query("SELECT now()", &[]);
    rows(rig.segue.read_shared(request()).await.unwrap()).await.unwrap();
    let answers = (0..10).map(async |_| rows(rig.segue.read_shared(request()).await?).await);
    let began = join_all(answers).await.into_iter().map(|found| format!("{:?}", found.unwrap()));
    began.collect::<std::collections::BTreeSet<_>>().len()
}

#[tokio::test]
async fn reads_made_at_once_are_one_piece_where_each_has_its_snapshot() {
    let rig = with_sessions(2).await;
    assert!(transactions_of_ten_reads(&rig).await < 10);
    // In one transaction of this isolation all would see what the first of them sees.
    let isolation = "default_transaction_isolation = 'repeatable read'";
    let name = rig.database.rows("SELECT current_database()").await.remove(0);
    rig.database.run(&format!("ALTER DATABASE \"{name}\" SET {isolation}")).await;
    let dsn = rig.database.dsn().to_owned();
    let rig = Rig::over(rig.database, &dsn, 2).await;
    assert_eq!(transactions_of_ten_reads(&rig).await, 10);
}

#[tokio::test]
async fn nobody_waits_behind_a_slow_statement() {
    // One session is shared, and the slow statement comes first on it.
    let rig = with_sessions(2).await;
    read(&rig, 0).await.unwrap();
    for _ in 0..2 {
        let mut slow = Box::pin(rig.segue.read_shared(query("SELECT pg_sleep(4)", &[])));
        tokio::select! {
            biased;
            ended = &mut slow => panic!("it did not sleep: {ended:?}"),
            () = read_many(&rig, 20) => {}
        }
        // The second time it has a session to itself from the start.
        slow.await.unwrap();
    }
    at_rest(&rig).await;
    assert!(rig.reads.status().open <= 2);
}

/// Requests of one piece are answered in one piece, or when the server's buffer is full: 8 kB.
#[tokio::test]
async fn nobody_waits_for_a_slow_statement_behind_his_own() {
    let rig = with_sessions(2).await;
    for bytes in [1, 5_000, 20_000, 60_000] {
        let quick = format!("SELECT repeat('x', {bytes})");
        let slow = format!("SELECT pg_sleep($1), {bytes}");
        let slow = |seconds| query(&slow, &[Value::Double(seconds)]);
        // Both are known to the session, so that they are sent at once.
        for sql in [query(&quick, &[]), slow(0.0)] {
            rows(rig.segue.read_shared(sql).await.unwrap()).await.unwrap();
        }
        let mut slow = Box::pin(rig.segue.read_shared(slow(NEVER.as_secs_f64())));
        let mut reading =
            Box::pin(async { rows(rig.segue.read_shared(query(&quick, &[])).await?).await });
        // In one piece with it the answer would wait for the end of the sleep.
        let found = tokio::select! {
            biased;
            found = &mut reading => found,
            ended = &mut slow => panic!("it did not sleep: {ended:?}"),
            () = tokio::time::sleep(WAIT) => panic!("it waited"),
        };
        assert_eq!(found.unwrap().len(), 1);
        drop(slow);
        at_rest(&rig).await;
    }
}

#[tokio::test]
async fn slow_statements_leave_sessions_for_quick_ones() {
    let rig = with_sessions(4).await;
    let slow = "SELECT pg_sleep(2)";
    // Learned first.
    for _ in 0..2 {
        join_all((0..2).map(|_| rig.segue.read_shared(query(slow, &[])))).await;
    }
    let mut many = Box::pin(join_all((0..6).map(|_| rig.segue.read_shared(query(slow, &[])))));
    tokio::select! {
        biased;
        ended = &mut many => panic!("they did not sleep: {}", ended.len()),
        () = async {
            for _ in 0..20 {
                read_many(&rig, 20).await;
            }
        } => {}
    }
    drop(many);
    at_rest(&rig).await;
}

#[tokio::test]
async fn nobody_waits_for_a_slow_caller() {
    let rig = with_sessions(2).await;
    read(&rig, 0).await.unwrap();
    let endless = query("SELECT generate_series(1, 1000000000), repeat('x', 100)", &[]);
    let (answer, ()) = tokio::join!(rig.segue.read_shared(endless), read_many(&rig, 20));
    let mut answer = answer.unwrap();
    // Nobody takes what has come; the others go on.
    read_many(&rig, 100).await;
    assert!(answer.batches.next().await.unwrap().unwrap().row_count() > 0);
    drop(answer);
    read_many(&rig, 20).await;
    at_rest(&rig).await;
}

#[tokio::test]
async fn a_long_answer_is_whole() {
    let rig = with_sessions(2).await;
    let long = "SELECT i FROM generate_series(1, 300000) AS i";
    for _ in 0..2 {
        let reading = async { rows(rig.segue.read_shared(query(long, &[])).await?).await };
        let (found, ()) = tokio::join!(reading, read_many(&rig, 20));
        let found = found.unwrap();
        assert_eq!(found.len(), 300_000);
        assert_eq!(found.last(), Some(&row(&["300000"])));
    }
    at_rest(&rig).await;
}

#[tokio::test]
async fn a_deadline_stops_one_call_and_no_other() {
    let rig = with_sessions(2).await;
    read(&rig, 0).await.unwrap();
    let request = ReadRequest {
        statement: statement("SELECT pg_sleep(60)", &[]),
        context: within(Duration::from_millis(300)),
    };
    let (stopped, ()) = tokio::join!(rig.segue.read_shared(request), read_many(&rig, 30));
    assert_eq!(stopped.unwrap_err().kind, FaultKind::DeadlineExceeded);
    at_rest(&rig).await;
    // The same by dropping the future while others wait behind it.
    let read = rig.segue.read_shared(query("SELECT pg_sleep(61)", &[]));
    let (dropped, ()) =
        tokio::join!(tokio::time::timeout(Duration::from_millis(2), read), read_many(&rig, 30));
    assert!(dropped.is_err());
    at_rest(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_never_hits_a_statement_that_shares() {
    let rig = Arc::new(with_sessions(4).await);
    let until = Instant::now() + Duration::from_secs(4);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..16_u64 {
        let rig = Arc::clone(&rig);
        callers.spawn(async move {
            let (mut ended, mut stopped) = (0_u64, 0_u64);
            while Instant::now() < until {
                let call = ended + stopped;
                if caller % 4 == 0 {
                    // Texts of their own, so that they are not known to be slow.
                    let sql = format!("SELECT pg_sleep(0.006), {caller}, {call}");
                    let deadline = Duration::from_micros(3_000 + 137 * call % 5_000);
                    let statement = statement(&sql, &[]);
                    let request = ReadRequest { statement, context: within(deadline) };
                    match rig.segue.read_shared(request).await {
                        Ok(_) => ended += 1,
                        Err(fault) => {
                            assert_eq!(fault.kind, FaultKind::DeadlineExceeded, "{fault}");
                            stopped += 1;
                        }
                    }
                } else {
                    read(&rig, i64::try_from(call).unwrap()).await.unwrap();
                    ended += 1;
                }
            }
            (ended, stopped)
        });
    }
    let counts = callers.join_all().await;
    let stopped: u64 = counts.iter().map(|(_, stopped)| stopped).sum();
    let ended: u64 = counts.iter().map(|(ended, _)| ended).sum();
    eprintln!("{ended} ended, {stopped} cancelled");
    assert!(stopped > 50, "the test must cancel: {stopped}");
    assert!(ended > 500, "and others must run: {ended}");
    at_rest(&rig).await;
}

#[tokio::test]
async fn a_lost_connection_is_told_to_everybody_on_it() {
    let server = shared(Major::V15);
    let database = support::Database::create(server, SCHEMA).await;
    let proxy = Proxy::start(server.port());
    let dsn = server.dsn_by_port(database.name(), proxy.port());
    let rig = Rig::over(database, &dsn, 2).await;
    read(&rig, 0).await.unwrap();
    // Twenty answers are some 30 bytes each.
    for allowance in [0, 30, 200, 500] {
        proxy.cut_after(allowance);
        let results = join_all((0..20).map(|number| read(&rig, number))).await;
        proxy.cut_after(u32::MAX / 2);
        let lost: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert!(!lost.is_empty(), "nothing was cut");
        for fault in lost {
            // A new connection may have been cut as well.
            let kinds = [FaultKind::ConnectionLost, FaultKind::Unavailable];
            assert!(kinds.contains(&fault.kind), "{fault}");
            assert!(fault.retryable && fault.outcome == Outcome::NotApplied, "{fault}");
        }
        eventually("reads work again", WAIT, async || read(&rig, 1).await.ok()).await;
    }
    at_rest(&rig).await;
}

#[tokio::test]
async fn a_killed_session_costs_only_those_who_were_on_it() {
    let rig = with_sessions(2).await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'segue'";
    read(&rig, 0).await.unwrap();
    for _ in 0..5 {
        let (mut failed, mut ended) = (0, 0);
        let killing = rig.database.rows(kill);
        let reading = join_all((0..50).map(|number| read(&rig, number)));
        let (_, results) = tokio::join!(killing, reading);
        for result in results {
            match result {
                Ok(()) => ended += 1,
                Err(fault) => {
                    assert!(fault.retryable && fault.outcome == Outcome::NotApplied, "{fault}");
                    failed += 1;
                }
            }
        }
        assert_eq!(failed + ended, 50);
        eventually("reads work again", WAIT, async || read(&rig, 1).await.ok()).await;
    }
}

#[tokio::test]
async fn changed_settings_end_the_sharing() {
    let rig = with_sessions(2).await;
    let sneaky = "SELECT set_config('default_transaction_read_only', 'off', false)";
    rig.segue.read_shared(query(sneaky, &[])).await.unwrap();
    let asked = query("SELECT current_setting('default_transaction_read_only')", &[]);
    let answer = rig.segue.read_shared(asked).await.unwrap();
    assert_eq!(rows(answer).await.unwrap(), [row(&["on"])]);
}

#[tokio::test]
async fn a_changed_table_is_prepared_anew_for_all() {
    let rig = with_sessions(2).await;
    let all = async || {
        let reads = join_all((0..10).map(|_| rig.segue.read_shared(query("TABLE item", &[]))));
        let mut found = Vec::new();
        for answer in reads.await {
            found.push(rows(answer.unwrap()).await.unwrap());
        }
        found
    };
    assert!(all().await.iter().all(Vec::is_empty));
    rig.database.run("ALTER TABLE item ADD more int; INSERT INTO item VALUES (1, 'a', 2, 3)").await;
    assert_eq!(all().await, vec![vec![row(&["1", "a", "2", "3"])]; 10]);
}

#[tokio::test]
async fn a_full_pool_says_that_nothing_was_sent() {
    let rig = with_sessions(2).await;
    let held = join_all((0..2).map(|_| rig.reads.get())).await;
    let request = ReadRequest {
        statement: statement("SELECT 1", &[]),
        context: within(Duration::from_millis(100)),
    };
    let fault = rig.segue.read_shared(request).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::DeadlineExceeded);
    let waiting = read(&rig, 1);
    // Polled after the read, which waits by then; the pool tells that a session is asked for.
    let freeing = async {
        eventually("a session is waited for", WAIT, async || {
            (rig.reads.status().waiting > 0).then_some(())
        })
        .await;
        drop(held);
    };
    let (done, ()) = tokio::join!(tokio::time::timeout(NEVER, waiting), freeing);
    done.unwrap().unwrap();
}
