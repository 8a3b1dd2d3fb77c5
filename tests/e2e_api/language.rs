//! A source whose errors are in another language: nothing hangs on their text.

use segue::grpc::proto;
use tonic::Code;

use crate::calls::{Bench, SCHEMA, client, detail, execute, query, rows};
use crate::deadlines::{nothing_sleeps, patient, with_timeout};
use crate::support::{Database, Major, Options, Pair, Segue, Server, eventually, shared};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
/// As often as makes a statement one of the session's prepared ones.
const OFTEN: usize = 3;
const READ: &str = "SELECT * FROM note WHERE id = 1";
const WRITE: &str = "UPDATE note SET body = body WHERE id = 1 RETURNING *";

fn german() -> Server {
    Server::start(Major::V15, &Options { language: Some("de_DE"), ..Options::default() })
}

async fn pair(source: &Server) -> Pair {
    let target = Database::create(shared(Major::V18), SCHEMA).await;
    Pair { source: Database::create(source, SCHEMA).await, target }
}

async fn bench(source: &Server) -> Bench {
    let pair = pair(source).await;
    let segue = Segue::serving(&pair, "shadow_read", "").await;
    Bench { sql: client(&segue).await, segue, pair }
}

/// Another column on both sides.
async fn altered(bench: &Bench, column: &str) {
    for side in [&bench.pair.target, &bench.pair.source] {
        side.run(&format!("ALTER TABLE note ADD {column} int NOT NULL DEFAULT 0")).await;
    }
}

async fn begin(bench: &mut Bench) -> String {
    bench.sql.begin(proto::BeginRequest::default()).await.unwrap().into_inner().transaction_id
}

fn within(transaction: &str, sql: &str) -> proto::ExecuteRequest {
    let transaction = proto::TransactionSelector::open(transaction.to_owned());
    proto::ExecuteRequest { transaction, ..execute(sql) }
}

async fn commit(bench: &mut Bench, transaction_id: String) {
    let request = proto::CommitRequest { transaction_id, ..Default::default() };
    bench.sql.commit(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_told_by_their_codes() {
    let server = german();
    let mut bench = bench(&server).await;
    let insert = "INSERT INTO note VALUES (1, 'a')";
    bench.sql.execute(execute(insert)).await.unwrap();
    let status = bench.sql.execute(execute(insert)).await.unwrap_err();
    let error = detail(&status);
    assert_eq!((status.code(), &*error.sqlstate), (Code::AlreadyExists, "23505"), "{status:?}");
    assert_eq!((&*error.constraint, error.retryable), ("note_pkey", false), "{error:?}");
    assert!(
        error.message.starts_with("doppelter Schl\u{fc}sselwert"),
        "it speaks German: {error:?}"
    );

    // Cancelled by somebody else: its text alone would tell that from a limit of time.
    let cancelled = "DO $$BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); \
        PERFORM pg_sleep(5); END$$";
    let status = bench.sql.execute(execute(cancelled)).await.unwrap_err();
    let error = detail(&status);
    assert_eq!((status.code(), &*error.sqlstate), (Code::DeadlineExceeded, "57014"), "{status:?}");
    assert_eq!((error.retryable, error.outcome()), (false, proto::Outcome::NotApplied));

    // The caller's deadline.
    let slow = execute("INSERT INTO note SELECT 2, 'b' FROM pg_sleep(60)");
    let status = patient(&bench.segue).execute(with_timeout(slow, "300m")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(detail(&status).reason, "deadline", "{status:?}");
    nothing_sleeps(&bench).await;
    // The caller leaves.
    let mut leaving = client(&bench.segue).await;
    let slow = execute("INSERT INTO note SELECT 3, 'c' FROM pg_sleep(60)");
    let call = tokio::spawn(async move { leaving.execute(slow).await });
    let sleeps =
        "SELECT FROM pg_stat_activity WHERE query LIKE 'INSERT%pg_sleep%' AND state = 'active'";
    eventually("it runs", LIMIT, || async {
        (!bench.pair.source.rows(sleeps).await.is_empty()).then_some(())
    })
    .await;
    call.abort();
    nothing_sleeps(&bench).await;
    assert_eq!(bench.notes().await, ["1|a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_were_prepared_before_a_change_of_the_schema_go_on() {
    let server = german();
    let mut bench = bench(&server).await;
    bench.sql.execute(execute("INSERT INTO note VALUES (1, 'a')")).await.unwrap();
    for column in ["one", "two"] {
        for _ in 0..OFTEN {
            rows(&mut bench.sql, query(READ, vec![])).await.unwrap();
            bench.sql.execute(execute(WRITE)).await.unwrap();
        }
        altered(&bench, column).await;
        let columns = if column == "one" { 3 } else { 4 };
        let found = rows(&mut bench.sql, query(READ, vec![])).await.unwrap();
        assert_eq!(found[0].len(), columns);
        let written = bench.sql.execute(execute(WRITE)).await.unwrap().into_inner();
        assert_eq!(written.typed_rows()[0].values.len(), columns);
    }
}

/// There nothing can be prepared anew: the whole transaction is to be run again, and the code says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_plan_inside_a_transaction_is_one_to_run_again() {
    let server = german();
    let mut bench = bench(&server).await;
    bench.sql.execute(execute("INSERT INTO note VALUES (1, 'a')")).await.unwrap();
    let transaction = begin(&mut bench).await;
    let first = "INSERT INTO loose (id) VALUES (1)";
    bench.sql.execute(within(&transaction, first)).await.unwrap();
    // The locks go with the savepoint, and what the session has prepared stays.
    bench.sql.execute(within(&transaction, "SAVEPOINT before")).await.unwrap();
    for _ in 0..OFTEN {
        bench.sql.execute(within(&transaction, WRITE)).await.unwrap();
    }
    bench.sql.execute(within(&transaction, "ROLLBACK TO SAVEPOINT before")).await.unwrap();
    altered(&bench, "more").await;
    let status = bench.sql.execute(within(&transaction, WRITE)).await.unwrap_err();
    let error = detail(&status);
    assert_eq!((status.code(), &*error.sqlstate), (Code::Aborted, "0A000"), "{status:?}");
    assert!(error.retryable, "{error:?}");
    assert_eq!(error.outcome(), proto::Outcome::NotApplied);
    let request = proto::RollbackRequest { transaction_id: transaction };
    // It may have ended with its statement.
    let _ = bench.sql.rollback(request).await;
    let transaction = begin(&mut bench).await;
    bench.sql.execute(within(&transaction, first)).await.unwrap();
    let written = bench.sql.execute(within(&transaction, WRITE)).await.unwrap().into_inner();
    assert_eq!(written.typed_rows()[0].values.len(), 3);
    commit(&mut bench, transaction).await;
    assert_eq!(bench.pair.source.rows("SELECT id FROM loose").await, ["1"]);
}

/// Segue's own sessions ask for English where their role may: a superuser's does, and one that was
/// granted it.
#[tokio::test(flavor = "multi_thread")]
async fn what_segue_itself_was_told_is_in_english_where_its_role_may_ask_for_it() {
    let server = german();
    let pair = pair(&server).await;
    pair.source.run("CREATE ROLE segue_own LOGIN").await;
    let source = pair.source.dsn_with("postgres@", "segue_own@");
    let sections = "[outbox]\nstuck_after = 1\nbackoff_max = \"1s\"\n";
    let mut segue = Segue::prepare(&source, pair.target.dsn(), sections);
    let printed = segue.succeed(&["init", "--print"]);
    let begin = printed.find("-- source:").unwrap();
    let end = printed.find("-- segue's schema on the source").unwrap();
    pair.source.run(&printed[begin..end]).await;
    let grant = "GRANT SET ON PARAMETER lc_messages TO \"segue_own\"";
    assert!(printed.contains(&format!("-- {grant};")), "{printed}");
    segue.init_in("dual_write").await;
    segue.serve().await;
    pair.source.run("REVOKE SELECT ON note FROM segue_own; INSERT INTO note VALUES (1, 'a')").await;
    let says = |segue: &Segue, what: &str| {
        segue.succeed(&["outbox", "retry"]);
        segue.succeed(&["outbox", "--stuck"]).contains(what).then_some(())
    };
    eventually("the reason is German", LIMIT, || async { says(&segue, "keine Berechtigung") })
        .await;
    pair.source.run(grant).await;
    assert!(segue.terminate().await, "{}", segue.logs());
    segue.serve().await;
    eventually("it is English", LIMIT, || async { says(&segue, "permission denied") }).await;
    pair.source.run("GRANT SELECT ON note TO segue_own").await;
    eventually("the row is copied", LIMIT, || async {
        segue.succeed(&["outbox", "retry"]);
        (pair.target.rows("SELECT body FROM note").await == ["a"]).then_some(())
    })
    .await;
}
