//! The README's first five minutes are run as they are written.

use segue_client::{Batch, Client, Error, TransactionOptions, named};
use serde::Deserialize;

use crate::world::{Migration, Side};

const BEGIN: &str = "// readme: begin\n";
const END: &str = "// readme: end\n";

#[derive(Debug, Deserialize)]
struct Account {
    id: i64,
    balance: i64,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_five_minutes_run() {
    let setup = [
        "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL)",
        "INSERT INTO account SELECT i, 100 FROM generate_series(1, 9) i",
    ];
    let query = "-- name: balance_of :one\nSELECT balance FROM account WHERE id = $1;\n";
    let queries = [("accounts.sql".to_owned(), query.to_owned())];
    let migration = Migration::start(&setup.map(str::to_owned), &queries).await;
    first_five_minutes(&migration.url()).await.unwrap();
    let sql = "SELECT balance FROM account WHERE id IN (1, 1001) ORDER BY id";
    let expected = ["120", "29"].map(|it| vec![Some(it.to_owned())]);
    assert_eq!(migration.direct(Side::Source, sql).await, expected);
}

#[rustfmt::skip]
async fn first_five_minutes(url: &str) -> Result<(), Error> {
    // readme: begin
    let client = Client::connect(url).await?;

    // A single write has an idempotency key by itself: it is safe to repeat, and is repeated, when its answer is lost.
    client.execute("INSERT INTO account (id, balance) VALUES ($1, $2)", &[&1001, &50]).await?;

    // Rows by column, or into a type of serde.
    let row = client.query_one("SELECT balance FROM account WHERE id = $1", &[&1001]).await?;
    let balance: i64 = row.get("balance")?;
    let accounts: Vec<Account> = client.query_as("SELECT id, balance FROM account WHERE balance < $1", &[&100]).await?;

    // Several writes in one call, all or none.
    let batch = Batch::new()
        .with("UPDATE account SET balance = balance - $1 WHERE id = $2", &[&20, &1001])
        .with("UPDATE account SET balance = balance + $1 WHERE id = $2", &[&20, &1]);
    client.batch(&batch).await?;

    // A transaction that is run again on serialization failures. Its first call begins it, its last one commits it: two
    // calls in all.
    let left = client
        .transaction_with(&TransactionOptions::serializable(), |tx| async move {
            let row = tx.query_one("SELECT balance FROM account WHERE id = $1", &[&1001]).await?;
            let left = row.get::<i64>("balance")? - 1;
            tx.last().execute("UPDATE account SET balance = $2 WHERE id = $1", &[&1001, &left]).await?;
            Ok::<_, Error>(left)
        })
        .await?;

    // Rows as they come, with flat memory. Dropping them, or the future of any call, ends the statement in the database.
    let mut rows = client.stream("SELECT i FROM generate_series(1, 1000000) i", &[]).await?;
    let mut sum = 0;
    while let Some(row) = rows.next().await? {
        sum += row.get::<i64>("i")?;
    }

    // A statement of the sidecar's query files.
    client.query(named("balance_of"), &[&1001]).await?;
    // readme: end
    assert_eq!((balance, left, sum), (50, 29, 500_000_500_000));
    assert_eq!((accounts[0].id, accounts[0].balance), (1001, 50));
    Ok(())
}

/// What stands in the README between the marks of this file, less what is indented here.
#[test]
fn the_readme_shows_what_is_run() {
    let own = include_str!("readme.rs").split_once(BEGIN).unwrap().1.split_once(END).unwrap().0;
    let own: String = own
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line)))
        .collect();
    let own = own.replace("connect(url)", "connect(\"segue://127.0.0.1:7400\")");
    let readme = include_str!("../../README.md");
    assert!(readme.contains(own.trim_end()), "the README does not show:\n{own}");
}
