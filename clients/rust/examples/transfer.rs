//! Moves money between two accounts, through a sidecar: `cargo run --example transfer -- segue://127.0.0.1:7400`.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use segue_client::{Client, Error, TransactionOptions};

const DEFAULT_URL: &str = "segue://127.0.0.1:7400";

#[tokio::main]
async fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_URL.to_owned());
    match transfer(&url, 1, 2, 20).await {
        Ok(left) => {
            println!("left: {left}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives what is left of the first account.
async fn transfer(url: &str, from: i64, to: i64, amount: i64) -> Result<i64, Error> {
    let client = Client::connect(url).await?;
    // Run again on serialization failures. The first call begins the transaction, the last one commits it.
    client
        .transaction_with(&TransactionOptions::serializable(), |tx| async move {
            let row = tx.query_one("SELECT balance FROM account WHERE id = $1", &[&from]).await?;
            let left = row.get::<i64>("balance")? - amount;
            tx.execute("UPDATE account SET balance = $2 WHERE id = $1", &[&from, &left]).await?;
            tx.last()
                .execute("UPDATE account SET balance = balance + $2 WHERE id = $1", &[&to, &amount])
                .await?;
            Ok(left)
        })
        .await
}
