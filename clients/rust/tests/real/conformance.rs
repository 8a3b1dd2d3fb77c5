//! The scenarios that every client proves: `clients/conformance`.

mod expect;
mod run;

use std::path::Path;
use std::sync::Arc;

use segue_client::{Client, Isolation, Transaction, TransactionOptions, Value};
use serde_json::Value as Step;

use crate::spans;
use crate::world::Migration;
use run::Runner;

/// Phases in which scenarios stand, in their order.
const PHASES: [&str; 2] = ["dual_write", "shift"];

fn scenarios() -> Step {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/scenarios.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn list(step: &Step) -> &Vec<Step> {
    step.as_array().unwrap_or_else(|| panic!("a list was expected: {step}"))
}

fn text(step: &Step) -> &str {
    step.as_str().unwrap_or_else(|| panic!("a text was expected: {step}"))
}

/// SEGUE_SCENARIO runs those whose name has this in it.
fn wanted(name: &str) -> bool {
    std::env::var("SEGUE_SCENARIO").map_or(true, |part| name.contains(&part))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_scenarios_of_all_clients_hold() {
    spans::watch();
    let all = scenarios();
    let setup: Vec<String> = list(&all["setup"]).iter().map(|it| text(it).to_owned()).collect();
    let queries = all["queries"].as_object().unwrap();
    let queries: Vec<_> =
        queries.iter().map(|(file, it)| (file.clone(), text(it).to_owned())).collect();
    let migration = Arc::new(Migration::start(&setup, &queries).await);
    let mut failed = Vec::new();
    for value in list(&all["values"]) {
        let name = text(&value["type"]);
        if !wanted(&format!("value {name}")) {
            continue;
        }
        for given in list(&value["texts"]) {
            if let Err(what) = goes_both_ways(&migration, name, text(given)).await {
                failed.push(format!("value {name} {given}: {what}"));
            }
        }
    }
    let (mut run, total) = (0, list(&all["scenarios"]).len());
    for phase in PHASES {
        for scenario in list(&all["scenarios"]).iter().filter(|it| it["phase"] == phase) {
            let name = text(&scenario["name"]);
            run += 1;
            if !wanted(name) {
                continue;
            }
            migration.serve().await;
            migration.enter(phase).await;
            let runner = Arc::new(Runner::new(Arc::clone(&migration)).await);
            // A task of its own, so that what panics in it is this scenario's alone.
            let (running, steps) = (Arc::clone(&runner), scenario.clone());
            let ended = tokio::spawn(async move { running.scenario(&steps).await }).await;
            if let Err(error) = ended {
                failed.push(format!("{name}: {}", run::panicked(error)));
            }
            runner.end().await;
        }
    }
    assert_eq!(run, total, "a scenario stands in a phase that is not run");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// Reads a value, in packed rows and in typed ones, and gives it back.
async fn goes_both_ways(migration: &Migration, name: &str, given: &str) -> Result<(), String> {
    let quoted = format!("'{}'", given.replace('\'', "''"));
    let read = format!("SELECT {quoted}::{name} AS v");
    let back = format!("SELECT ($1::{name})::text");
    let expected = format!("SELECT ({quoted}::{name})::text");
    // Outside transactions the client asks for packed rows first, inside for typed ones.
    for packed in [true, false] {
        let client = Client::connect(&migration.url()).await.map_err(|it| it.to_string())?;
        let transaction =
            client.begin(&TransactionOptions::default()).map_err(|it| it.to_string())?;
        let value: Value = one(&client, (!packed).then_some(&transaction), &read, &[]).await?;
        let found: String = one(&client, None, &back, &[&value]).await?;
        let expected: String = one(&client, None, &expected, &[]).await?;
        transaction.rollback().await.map_err(|it| it.to_string())?;
        if found != expected {
            return Err(format!(
                "packed {packed}: {value:?} came back as {found:?}, expected {expected:?}"
            ));
        }
    }
    Ok(())
}

async fn one<T: segue_client::FromValue>(
    client: &Client,
    transaction: Option<&Transaction>,
    sql: &str,
    params: &[&(dyn segue_client::ToValue + Sync)],
) -> Result<T, String> {
    let row = match transaction {
        Some(transaction) => transaction.query_one(sql, params).await,
        None => client.query_one(sql, params).await,
    };
    row.and_then(|row| row.get(0)).map_err(|error| format!("{sql}: {error}"))
}

fn isolation(step: &Step) -> Isolation {
    match step.as_str() {
        None => Isolation::Default,
        Some("serializable") => Isolation::Serializable,
        Some(other) => panic!("unknown isolation {other:?}"),
    }
}
