//! Runs the steps of a scenario.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use segue_client::{
    Batch, BatchDone, Client, Done, Error, Options, Row, Statement, ToValue, Transaction,
    TransactionOptions, Value, named,
};
use serde_json::Value as Step;
use tokio::task::{JoinError, JoinHandle};

use super::expect::{Found, Memory, expect, expect_rows, rows_of, rows_wanted};
use super::{isolation, list, text};
use crate::spans;
use crate::world::{LIMIT, Migration, Side, eventually};

/// How often a transaction of `increments` is run at most.
const ATTEMPTS_MAX: u32 = 100;

type Started = JoinHandle<Result<Found, Error>>;

pub struct Runner {
    migration: Arc<Migration>,
    client: Client,
    transactions: Mutex<HashMap<String, Transaction>>,
    started: Mutex<HashMap<String, Started>>,
    locks: Mutex<Vec<tokio_postgres::Client>>,
    round: Mutex<i64>,
}

/// Where a call runs.
enum Place {
    Client(Client),
    Transaction(Transaction),
}

impl Runner {
    pub async fn new(migration: Arc<Migration>) -> Self {
        let mut options = Options::parse(&migration.url()).unwrap();
        // A sidecar that is started again takes its time on a loaded machine.
        options.connect_timeout = LIMIT;
        options.timeout = Some(LIMIT);
        let client = Client::connect_with(options).await.unwrap();
        Self {
            migration,
            client,
            transactions: Mutex::default(),
            started: Mutex::default(),
            locks: Mutex::default(),
            round: Mutex::default(),
        }
    }

    pub async fn scenario(self: Arc<Self>, scenario: &Step) {
        let port = self.migration.proxy.port();
        let counted = scenario["calls"].as_object().cloned().unwrap_or_default();
        let calls = || counted.keys().map(|method| spans::calls(port, method)).collect::<Vec<_>>();
        let before = calls();
        self.steps(list(&scenario["steps"])).await;
        for (((method, expected), before), after) in counted.iter().zip(before).zip(calls()) {
            assert_eq!(
                Some(after - before),
                expected.as_u64().map(|it| it as usize),
                "calls of {method}"
            );
        }
    }

    /// What a scenario leaves behind.
    pub async fn end(&self) {
        self.migration.proxy.swallow(false);
        self.locks.lock().unwrap().clear();
        for (_, task) in self.started.lock().unwrap().drain() {
            task.abort();
        }
        self.migration.serve().await;
    }

    async fn steps(self: &Arc<Self>, steps: &[Step]) {
        for step in steps {
            Box::pin(self.step(step)).await;
        }
    }

    async fn step(self: &Arc<Self>, step: &Step) {
        let has = |name: &str| step.get(name).is_some();
        if has("repeat") {
            for round in 1..=step["repeat"].as_i64().unwrap() {
                *self.round.lock().unwrap() = round;
                self.steps(list(&step["steps"])).await;
            }
        } else if has("together") {
            let calls =
                list(&step["together"]).iter().map(|call| self.spawned(call)).collect::<Vec<_>>();
            for call in calls {
                call.await.unwrap().unwrap();
            }
        } else if has("begin") {
            let options = TransactionOptions {
                read_only: step["read_only"] == true,
                isolation: isolation(&step["isolation"]),
                ..Default::default()
            };
            let transaction = self.client.begin(&options).unwrap();
            self.transactions.lock().unwrap().insert(text(&step["begin"]).to_owned(), transaction);
        } else if has("rollback") {
            self.transaction(&step["rollback"]).rollback().await.unwrap();
        } else if has("proxy") || has("sidecar") {
            self.fault(step).await;
        } else if has("direct") {
            expect_rows(&self.direct(&step["direct"]).await, &step["rows"]);
        } else if has("await") {
            let wanted = rows_wanted(&step["await"]["rows"]);
            eventually(&step["await"].to_string(), || async {
                (self.direct(&step["await"]).await == wanted).then_some(())
            })
            .await;
        } else if has("lock") {
            let side = Side::named(text(&step["lock"]["side"]));
            let lock = self.migration.lock(side, text(&step["lock"]["sql"])).await;
            self.locks.lock().unwrap().push(lock);
        } else if has("unlock") {
            self.locks.lock().unwrap().pop();
        } else if has("start") {
            let task = self.spawned(step);
            self.started.lock().unwrap().insert(text(&step["start"]).to_owned(), task);
        } else if has("cancel") {
            // Dropping a call's future is how it is cancelled.
            self.started.lock().unwrap()[text(&step["cancel"])].abort();
        } else if has("finish") {
            let begun = Instant::now();
            let task = self.started.lock().unwrap().remove(text(&step["finish"])).unwrap();
            expect(
                step,
                task.await.map_err(|error| assert!(error.is_cancelled(), "{}", panicked(error))),
                begun,
                0,
            );
        } else {
            let (begun, memory) = (Instant::now(), Memory::watch());
            let made = self.call(step).await;
            expect(step, Ok(made), begun, memory.grown_mb());
        }
    }

    async fn fault(&self, step: &Step) {
        match (step["proxy"].as_str(), step["sidecar"].as_str()) {
            (Some("swallow"), _) => self.migration.proxy.swallow(true),
            (Some("pass"), _) => self.migration.proxy.swallow(false),
            (Some("cut"), _) => self.migration.proxy.cut(),
            (_, Some("kill")) => self.migration.kill().await,
            (_, Some("start")) => self.migration.serve().await,
            _ => panic!("unknown step {step}"),
        }
    }

    fn spawned(self: &Arc<Self>, step: &Step) -> Started {
        let (runner, step) = (Arc::clone(self), step.clone());
        tokio::spawn(async move { runner.call(&step).await })
    }

    async fn direct(&self, step: &Step) -> Vec<Vec<Option<String>>> {
        self.migration.direct(Side::named(text(&step["side"])), text(&step["sql"])).await
    }

    fn transaction(&self, name: &Step) -> Transaction {
        self.transactions.lock().unwrap()[text(name)].clone()
    }

    fn place(&self, step: &Step) -> Place {
        let timeout = step["timeout"].as_f64().map(Duration::from_secs_f64);
        if let Some(name) = step.get("in") {
            let mut found = self.transaction(name);
            if step["commit"] == true {
                found = found.last();
            }
            return Place::Transaction(
                timeout.map_or_else(|| found.clone(), |it| found.with_timeout(it)),
            );
        }
        let mut client = self.client.clone();
        match step.get("key") {
            Some(Step::String(key)) => client = client.with_idempotency_key(key),
            Some(_) => client = client.without_idempotency_key(),
            None => {}
        }
        Place::Client(timeout.map_or_else(|| client.clone(), |it| client.with_timeout(it)))
    }

    fn params(&self, given: &Step) -> Vec<Value> {
        let Some(params) = given["params"].as_array() else { return Vec::new() };
        let round = *self.round.lock().unwrap();
        let value = |param: &Step| match param {
            Step::Null => Value::Null,
            Step::Bool(it) => Value::Bool(*it),
            Step::String(it) => Value::Text(it.clone()),
            Step::Number(it) => Value::Int(it.as_i64().unwrap()),
            _ if param["round"] == true => Value::Int(round),
            _ => Value::Numeric(text(&param["numeric"]).parse().unwrap()),
        };
        params.iter().map(value).collect()
    }

    async fn call(self: &Arc<Self>, step: &Step) -> Result<Found, Error> {
        let place = self.place(step);
        if let Some(given) = step.get("query") {
            place.query(statement(given), &self.params(given)).await.map(|rows| Found::of(&rows))
        } else if let Some(given) = step.get("stream") {
            place.stream(statement(given), &self.params(given), step["read"].as_u64()).await
        } else if let Some(given) = step.get("execute") {
            let done = place.execute(statement(given), &self.params(given)).await?;
            Ok(Found {
                affected: done.affected_rows,
                already_applied: done.already_applied,
                ..Found::of(&done.rows)
            })
        } else if let Some(given) = step.get("batch") {
            let done = place.batch(&self.batch(given)).await?;
            let results = done.results.iter();
            let results = results
                .map(|it| Found { affected: it.affected_rows, ..Found::of(&it.rows) })
                .collect();
            Ok(Found { results, ..Found::default() })
        } else if let Some(given) = step.get("run") {
            let runner: &Arc<Self> = self;
            let ran = self.client.transaction(|transaction| async move {
                runner.transactions.lock().unwrap().insert(text(given).to_owned(), transaction);
                runner.steps(list(&step["steps"])).await;
                if step["fail"] == true { Err(Error::retry("it may pass")) } else { Ok(()) }
            });
            ran.await.map(|()| Found::default())
        } else if let Some(given) = step.get("commit") {
            self.transaction(given).commit().await.map(|()| Found::default())
        } else if let Some(given) = step.get("connect") {
            let url = format!("{}?connect_timeout={}", self.migration.url(), given["timeout"]);
            Client::connect(&url).await.map(|_| Found::default())
        } else if let Some(given) = step.get("increments") {
            self.increments(given).await.map(|()| Found::default())
        } else {
            panic!("unknown step {step}")
        }
    }

    fn batch(&self, given: &Step) -> Batch {
        let mut batch = Batch::new();
        for given in list(&given["statements"]) {
            let params = self.params(given);
            batch.push(statement(given), &borrowed(&params));
        }
        batch
    }

    async fn increments(&self, given: &Step) -> Result<(), Error> {
        let options = TransactionOptions {
            isolation: isolation(&given["isolation"]),
            attempts: ATTEMPTS_MAX,
            ..Default::default()
        };
        let (read, write) = (text(&given["read"]), text(&given["write"]));
        let each = given["each"].as_u64().unwrap();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..given["callers"].as_u64().unwrap() {
            let (client, options) = (self.client.clone(), options.clone());
            let (read, write) = (read.to_owned(), write.to_owned());
            callers.spawn(async move {
                for _ in 0..each {
                    let (read, write) = (read.as_str(), write.as_str());
                    client
                        .transaction_with(&options, |transaction| async move {
                            let found: i64 = transaction.query_one(read, &[]).await?.get(0)?;
                            transaction.last().execute(write, &[&(found + 1)]).await
                        })
                        .await?;
                }
                Ok(())
            });
        }
        callers.join_all().await.into_iter().collect()
    }
}

fn statement(given: &Step) -> Statement {
    match given.get("name") {
        Some(name) => named(text(name)),
        None => text(&given["sql"]).into(),
    }
}

fn borrowed(params: &[Value]) -> Vec<&(dyn ToValue + Sync)> {
    params.iter().map(|it| it as &(dyn ToValue + Sync)).collect()
}

impl Place {
    async fn query(&self, statement: Statement, params: &[Value]) -> Result<Vec<Row>, Error> {
        match self {
            Self::Client(client) => client.query(statement, &borrowed(params)).await,
            Self::Transaction(transaction) => transaction.query(statement, &borrowed(params)).await,
        }
    }

    async fn execute(&self, statement: Statement, params: &[Value]) -> Result<Done, Error> {
        match self {
            Self::Client(client) => client.execute(statement, &borrowed(params)).await,
            Self::Transaction(transaction) => {
                transaction.execute(statement, &borrowed(params)).await
            }
        }
    }

    async fn batch(&self, batch: &Batch) -> Result<BatchDone, Error> {
        match self {
            Self::Client(client) => client.batch(batch).await,
            Self::Transaction(transaction) => transaction.batch(batch).await,
        }
    }

    async fn stream(
        &self,
        statement: Statement,
        params: &[Value],
        most: Option<u64>,
    ) -> Result<Found, Error> {
        let mut rows = match self {
            Self::Client(client) => client.stream(statement, &borrowed(params)).await?,
            Self::Transaction(transaction) => {
                transaction.stream(statement, &borrowed(params)).await?
            }
        };
        let mut found = Found::default();
        while most.is_none_or(|most| found.count < most) && rows.next().await?.is_some() {
            found.count += 1;
        }
        rows.close().await.map(|()| found)
    }
}

impl Found {
    fn of(rows: &[Row]) -> Self {
        Self { rows: rows_of(rows), count: rows.len() as u64, ..Self::default() }
    }
}

/// What a task ended with that did not end by itself.
pub fn panicked(error: JoinError) -> String {
    if error.is_cancelled() {
        return "it was cancelled".to_owned();
    }
    let what = error.into_panic();
    let text = what.downcast_ref::<String>().cloned();
    text.or_else(|| what.downcast_ref::<&str>().map(|it| (*it).to_owned())).unwrap_or_default()
}
