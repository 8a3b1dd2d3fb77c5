//! Codes and fields of errors.

use tonic::Code;

use crate::calls::{Bench, batch, detail, execute, execute_with, query, rows, text};
use segue::grpc::proto::{self, value::Kind};

#[tokio::test]
async fn each_class_has_its_code_and_says_everything() {
    let mut bench = Bench::new("").await;
    bench.sql.execute(execute("INSERT INTO note VALUES (1, 'a')")).await.unwrap();
    let raise = |code: &str| {
        format!(
            "DO $$BEGIN RAISE 'said' USING ERRCODE = '{code}', DETAIL = 'd', HINT = 'h', \
                 CONSTRAINT = 'c', TABLE = 't', SCHEMA = 's', COLUMN = 'k'; END$$"
        )
    };
    for (sqlstate, code, retryable) in [
        ("40001", Code::Aborted, true),
        ("40P01", Code::Aborted, true),
        ("23505", Code::AlreadyExists, false),
        ("23502", Code::FailedPrecondition, false),
        ("23503", Code::FailedPrecondition, false),
        ("23514", Code::FailedPrecondition, false),
        ("23P01", Code::FailedPrecondition, false),
        ("42501", Code::PermissionDenied, false),
        ("22012", Code::InvalidArgument, false),
        ("P0001", Code::FailedPrecondition, false),
    ] {
        let status = bench.sql.execute(execute(&raise(sqlstate))).await.unwrap_err();
        let error = detail(&status);
        assert_eq!((status.code(), error.sqlstate.as_str()), (code, sqlstate), "{status:?}");
        assert_eq!(error.retryable, retryable, "{error:?}");
        assert_eq!((error.message.as_str(), error.detail.as_str()), ("said", "d"));
        assert_eq!((error.hint.as_str(), error.constraint.as_str()), ("h", "c"));
        assert_eq!((error.schema.as_str(), error.table.as_str()), ("s", "t"));
        assert_eq!(error.column, "k");
        assert_eq!(error.side(), proto::Side::Source);
        assert_eq!(error.outcome(), proto::Outcome::NotApplied);
    }
    let status = bench.sql.execute(execute("INSERT INTO note VALUES (1, 'a')")).await.unwrap_err();
    let error = detail(&status);
    assert_eq!((error.constraint.as_str(), error.table.as_str()), ("note_pkey", "note"));
    for (sql, sqlstate, position) in [
        ("SELECT nothing FROM note", "42703", 8),
        ("SELECT * FROM nowhere", "42P01", 15),
        ("SELEC 1", "42601", 1),
        ("SELECT 'ä', nothing", "42703", 13),
    ] {
        let status = rows(&mut bench.sql, query(sql, vec![])).await.unwrap_err();
        let error = detail(&status);
        assert_eq!(status.code(), Code::InvalidArgument, "{sql}: {status:?}");
        assert_eq!((error.sqlstate.as_str(), error.position), (sqlstate, position), "{sql}");
    }
    // Cancelled by somebody else.
    let status = bench
        .sql
        .execute(execute(
            "DO $$BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(5); END$$",
        ))
        .await
        .unwrap_err();
    assert_eq!((status.code(), detail(&status).sqlstate.as_str()), (Code::Cancelled, "57014"));
    // A session that is ended while it has the statement is no UNAVAILABLE.
    let status = bench
        .sql
        .execute(execute(
            "DO $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); END$$",
        ))
        .await
        .unwrap_err();
    assert_ne!(status.code(), Code::Unavailable, "{status:?}");
    bench.sql.execute(execute("DELETE FROM note")).await.unwrap();
}

#[tokio::test]
async fn a_query_that_would_write_by_a_function_is_refused() {
    let mut bench = Bench::new("").await;
    bench
        .pair
        .source
        .run("CREATE FUNCTION sly() RETURNS int LANGUAGE sql AS $$INSERT INTO note VALUES (1, 'a') RETURNING id$$; \
              CREATE FUNCTION slier() RETURNS text LANGUAGE sql AS $$SELECT set_config('default_transaction_read_only', 'off', false)$$")
        .await;
    for _ in 0..3 {
        // A session in which the setting was changed is not used again.
        let _ = rows(&mut bench.sql, query("SELECT slier()", vec![])).await;
        let status = rows(&mut bench.sql, query("SELECT sly()", vec![])).await.unwrap_err();
        assert_eq!(detail(&status).reason, "refused.write_in_query", "{status:?}");
    }
    assert!(bench.notes().await.is_empty());
}

#[tokio::test]
async fn plans_that_the_schema_outran_are_made_anew() {
    let mut bench = Bench::new("").await;
    let insert = |id: i64, size: Kind| {
        execute_with("INSERT INTO loose VALUES ($1, $2)", vec![Kind::Int64(id), size])
    };
    bench.sql.execute(insert(1, Kind::Int64(5))).await.unwrap();
    let all = || query("SELECT * FROM loose", vec![]);
    rows(&mut bench.sql, all()).await.unwrap();
    let returning = || execute("UPDATE loose SET more = 'x' RETURNING *");
    bench.sql.execute(returning()).await.unwrap();
    let mut sql = bench.sql.clone();
    let alter = async |change: &str| {
        let sql = format!("ALTER TABLE loose {change}");
        bench.pair.source.run(&sql).await;
        bench.pair.target.run(&sql).await;
    };
    alter("ALTER COLUMN size TYPE int8").await;
    assert_eq!(rows(&mut sql, all()).await.unwrap().len(), 1);
    // The parameter was an int4 when the statement was prepared.
    sql.execute(insert(2, Kind::Int64(1 << 40))).await.unwrap();
    sql.execute(returning()).await.unwrap();
    alter("ADD COLUMN fresh int DEFAULT 3").await;
    sql.execute(returning()).await.unwrap();
    let two = batch(&["UPDATE loose SET more = 'y'", "DELETE FROM loose WHERE id = 1"]);
    sql.batch(two).await.unwrap();
    alter("ALTER COLUMN size TYPE text").await;
    sql.execute(insert(3, text("five"))).await.unwrap();
    alter("ALTER COLUMN size TYPE bytea USING size::bytea").await;
    let status = sql.execute(insert(4, text("five"))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "text into bytea: {status:?}");
    let kept = rows(&mut sql, query("SELECT id FROM loose ORDER BY id", vec![])).await.unwrap();
    assert_eq!(kept, [[Kind::Int64(2)], [Kind::Int64(3)]]);
}
