//! A refusal by the proxy is as one by the server.

use tokio_postgres::error::SqlState;

use crate::support::cockroach::{Asked, Judge, Judged, Recorder, Refusal, Rules, Sent, Wire};
use crate::support::{Database, Major, connect, shared};

/// Refuses one word, with a SQLSTATE of CockroachDB's own.
struct Word(&'static str);

const CODE: &str = "XXUUU";

impl Judge for Word {
    fn judge(&self, asked: Asked<'_>) -> Judged {
        let Some(at) = asked.sql.find(self.0) else { return Judged::Same };
        let at = asked.sql[..at].rfind(';').map_or(0, |it| it + 1);
        Judged::Refused(Refusal {
            sqlstate: CODE.to_owned(),
            message: "not here".to_owned(),
            before: asked.sql[..at].to_owned(),
            first: None,
        })
    }
}

async fn refusing(recorder: Option<Recorder>) -> (Database, Wire, String) {
    let server = shared(Major::V18);
    let database = Database::create(server, "CREATE TABLE t (a int)").await;
    let reported = Some(("crdb_version", "a stand-in"));
    let judge = Some(Box::new(Word("unwanted")) as Box<dyn Judge>);
    let wire = Wire::start(server.port(), Rules { reported, recorder, judge });
    let dsn = server.dsn_by_port(database.name(), wire.port());
    (database, wire, dsn)
}

fn refused(error: &tokio_postgres::Error) -> bool {
    let said = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    said.code() == &SqlState::from_code(CODE) && said.message() == "not here"
}

#[tokio::test]
async fn a_refused_statement_has_the_code_and_the_session_goes_on() {
    let (_database, _wire, dsn) = refusing(None).await;
    let client = connect(&dsn).await;
    for sql in ["SELECT 'unwanted'", "COPY t FROM STDIN /* unwanted */"] {
        assert!(refused(&client.batch_execute(sql).await.unwrap_err()), "{sql}");
        assert!(refused(&client.query(sql, &[]).await.unwrap_err()), "{sql}");
    }
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    // What stands before it in the same text has run, in a transaction that is given up.
    let both = "INSERT INTO t VALUES (1); SELECT 'unwanted'";
    assert!(refused(&client.batch_execute(both).await.unwrap_err()));
    client.batch_execute("BEGIN").await.unwrap();
    assert!(refused(&client.query("SELECT 'unwanted'", &[]).await.unwrap_err()));
    let aborted = client.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(aborted.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    client.batch_execute("ROLLBACK").await.unwrap();
    let rows = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 0);
}

/// Answers come in their order, whatever is refused in between.
#[tokio::test]
async fn a_refusal_among_statements_that_are_sent_together_is_in_its_place() {
    let (_database, _wire, dsn) = refusing(None).await;
    let client = connect(&dsn).await;
    let (first, second, third) = tokio::join!(
        client.query_one("SELECT 1", &[]),
        client.query("SELECT 'unwanted'", &[]),
        client.query_one("SELECT 3", &[]),
    );
    assert_eq!(first.unwrap().get::<_, i32>(0), 1);
    assert!(refused(&second.unwrap_err()));
    assert_eq!(third.unwrap().get::<_, i32>(0), 3);
}

/// As CockroachDB says it, which PostgreSQL does not.
#[tokio::test]
async fn a_session_is_told_how_its_transaction_stands() {
    let (_database, _wire, dsn) = refusing(None).await;
    let client = connect(&dsn).await;
    let status = async || match client.simple_query("SHOW TRANSACTION STATUS").await {
        Ok(messages) => messages.iter().find_map(|it| match it {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }),
        Err(_) => None,
    };
    assert_eq!(status().await.as_deref(), Some("NoTxn"));
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(status().await.as_deref(), Some("Open"));
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(status().await.as_deref(), Some("NoTxn"));
}

/// A statement of any length, by either protocol, with what is known of it.
#[tokio::test]
async fn what_is_sent_is_written_down_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (_database, _wire, dsn) = refusing(Some(Recorder::to(file.path()))).await;
    let client = connect(&dsn).await;
    let long = format!("SELECT length('{}')", "x".repeat(100_000));
    client.batch_execute(&long).await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    for number in 0..3 {
        let sql = format!("SELECT $1::text, {number}");
        client.query(&sql, &[&"a"]).await.unwrap();
    }
    client.batch_execute("COMMIT").await.unwrap();
    let (columns, found): (Vec<_>, Vec<_>) =
        Recorder::read(file.path()).into_iter().partition(|it| !it.integers.is_empty());
    // What is told of its columns is written down once more.
    let columns: Vec<_> = columns.iter().map(|it| (&*it.sql, &*it.integers)).collect();
    assert_eq!(columns, [("SELECT $1::text, 0", &[1][..])]);
    let texts: Vec<_> = found.iter().map(|it| it.sql.as_str()).collect();
    assert_eq!(texts, [long.as_str(), "BEGIN", "SELECT $1::text, 0", "COMMIT"]);
    let told: Vec<_> = found.iter().map(|it: &Sent| (it.extended, it.in_transaction)).collect();
    assert_eq!(told, [(false, false), (false, false), (true, true), (false, true)]);
}
