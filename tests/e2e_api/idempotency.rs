//! A write repeated with its key has effect once, and gets the first answer.

use tonic::Code;

use crate::calls::{Bench, batch, client, detail, execute, execute_with, keyed, named, text};
use crate::support::Segue;
use segue::grpc::proto::{self, value::Kind};

#[tokio::test]
async fn a_key_works_across_sidecars_and_survives_their_end() {
    let mut bench = Bench::new("").await;
    let mut second = Segue::prepare(bench.pair.source.dsn(), bench.pair.target.dsn(), "");
    second.serve().await;
    let mut other = client(&second).await;

    let insert = keyed("INSERT INTO note VALUES (1, 'a'), (2, 'b') RETURNING id, body", "k");
    let first = bench.sql.execute(insert.clone()).await.unwrap().into_inner();
    let again = other.execute(insert.clone()).await.unwrap().into_inner();
    assert!(!first.already_applied && again.already_applied);
    assert_eq!(proto::ExecuteResponse { already_applied: false, ..again }, first);

    let status = other.execute(keyed("INSERT INTO note VALUES (3, 'c')", "k")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(detail(&status).reason, "idempotency.content_differs");
    // Other parameters are other content.
    let with = |body: &str| proto::ExecuteRequest {
        idempotency_key: "p".to_owned(),
        ..execute_with("INSERT INTO note VALUES (9, $1)", vec![text(body)])
    };
    bench.sql.execute(with("x")).await.unwrap();
    assert!(other.execute(with("x")).await.unwrap().into_inner().already_applied);
    let status = other.execute(with("y")).await.unwrap_err();
    assert_eq!(detail(&status).reason, "idempotency.content_differs");

    bench.segue.kill();
    bench.segue.serve().await;
    let mut sql = client(&bench.segue).await;
    let after = sql.execute(insert).await.unwrap().into_inner();
    assert_eq!(proto::ExecuteResponse { already_applied: false, ..after }, first);
    assert_eq!(bench.notes().await, ["1|a", "2|b", "9|x"]);
}

/// As after an update of the program, while keys of the version before are remembered.
#[tokio::test]
async fn an_answer_that_another_version_has_kept_is_refused_and_never_misread() {
    let mut bench = Bench::new("").await;
    let insert = keyed("INSERT INTO note VALUES (1, 'a') RETURNING id", "k");
    bench.sql.execute(insert.clone()).await.unwrap();
    // Format 1: its number, the write's id, one item, its rows, and what no decoder asked for.
    let old = format!("\\x01{:032x}{:08x}{:016x}{:08x}{:08x}{:08x}", 7, 1, 1, 0, 0, 0);
    for (kept, code, says) in [
        (old.as_str(), Code::FailedPrecondition, "format 1, of another version"),
        ("\\x03ff", Code::FailedPrecondition, "format 3, of another version"),
        ("\\x0207", Code::Internal, "is damaged"),
        ("\\x", Code::Internal, "is damaged"),
    ] {
        bench.pair.source.run(&format!("UPDATE segue.idempotency SET response = '{kept}'")).await;
        let status = bench.sql.execute(insert.clone()).await.unwrap_err();
        assert_eq!(status.code(), code, "{kept}: {status:?}");
        assert!(status.message().contains(says), "{kept}: {status:?}");
        let detail = detail(&status);
        assert_eq!(detail.reason, "idempotency.response");
        assert_eq!(detail.outcome(), proto::Outcome::Applied, "{kept}");
    }
    assert_eq!(bench.notes().await, ["1|a"]);
}

#[tokio::test]
async fn concurrent_duplicates_through_two_sidecars_have_one_effect() {
    let bench = Bench::new("").await;
    let mut second = Segue::prepare(bench.pair.source.dsn(), bench.pair.target.dsn(), "");
    second.serve().await;
    let clients = [client(&bench.segue).await, client(&second).await];
    let slow = "INSERT INTO note SELECT 1, 'once' FROM pg_sleep(0.3) RETURNING id";
    let calls = (0..8).map(|index| {
        let mut sql = clients[index % 2].clone();
        async move { sql.execute(keyed(slow, "same")).await.unwrap().into_inner() }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| !answer.already_applied).count(), 1);
    assert!(answers.iter().all(|answer| answer.result == answers[0].result));
    assert!(answers.iter().all(|answer| answer.write_id == answers[0].write_id));
    assert_eq!(bench.notes().await, ["1|once"]);
    // A batch has keys as well.
    let two = proto::BatchRequest {
        idempotency_key: "batch".to_owned(),
        ..batch(&["INSERT INTO note VALUES (5, 'e')", "DELETE FROM note WHERE id = 1 RETURNING *"])
    };
    let first = clients[0].clone().batch(two.clone()).await.unwrap().into_inner();
    let again = clients[1].clone().batch(two).await.unwrap().into_inner();
    assert!(again.already_applied && again.results == first.results && first.results.len() == 2);
}

#[tokio::test]
async fn a_key_that_failed_is_free_and_bad_keys_are_refused() {
    let mut bench = Bench::new("").await;
    let status = bench.sql.execute(keyed("INSERT INTO note VALUES (1, NULL)", "k")).await;
    assert_eq!(status.unwrap_err().code(), Code::FailedPrecondition);
    bench.sql.execute(keyed("INSERT INTO note VALUES (1, 'a')", "k")).await.unwrap();
    for key in ["x".repeat(256), "a\0b".to_owned()] {
        let status = bench.sql.execute(keyed("DELETE FROM note", &key)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    bench.sql.execute(keyed("DELETE FROM note", &"x".repeat(255))).await.unwrap();
    // In a transaction a key has no meaning.
    let begun = bench.sql.begin(proto::BeginRequest::default()).await.unwrap().into_inner();
    let inside = proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(begun.transaction_id),
        ..keyed("DELETE FROM note", "k2")
    };
    assert_eq!(bench.sql.execute(inside).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn named_statements_and_the_list_of_those_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.sql");
    let texts = "-- name: get_note :one\nSELECT body FROM note WHERE id = $1;\n\n\
                 -- name: add_note :exec\nINSERT INTO note VALUES ($1, $2);\n";
    std::fs::write(&file, texts).unwrap();
    let sections =
        format!("[queries]\npaths = [\"{}\"]\nnamed_only = true", folder.path().display());
    let mut bench = Bench::new(&sections).await;
    let add = proto::ExecuteRequest {
        statement: Some(named("add_note", vec![Kind::Int64(1), text("by name")])),
        ..Default::default()
    };
    bench.sql.execute(add).await.unwrap();
    let get = proto::QueryRequest {
        statement: Some(named("get_note", vec![Kind::Int64(1)])),
        ..Default::default()
    };
    let found = crate::calls::rows(&mut bench.sql, get).await.unwrap();
    assert_eq!(found, [[text("by name")]]);
    let status = bench.sql.execute(execute("DELETE FROM note")).await.unwrap_err();
    assert_eq!(detail(&status).reason, "refused.unnamed");
    let unknown =
        proto::ExecuteRequest { statement: Some(named("nothing", vec![])), ..Default::default() };
    assert_eq!(bench.sql.execute(unknown).await.unwrap_err().code(), Code::NotFound);
    let described = proto::DescribeRequest { statement: Some(named("add_note", vec![])) };
    let described = bench.sql.describe(described).await.unwrap().into_inner();
    assert_eq!(described.sides.len(), 2);
    assert_eq!(described.sides[0].parameter_types, ["int4", "text"]);
    let info = bench.sql.info(proto::InfoRequest {}).await.unwrap().into_inner();
    assert!(info.limits.unwrap().named_statements_only);
    assert_eq!(info.phase(), proto::Phase::ShadowRead);
}
