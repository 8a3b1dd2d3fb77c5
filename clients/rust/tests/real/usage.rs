//! What is particular to this client: Rust's types, and futures that are dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use segue_client::{Array, Batch, Client, Error, Numeric, Timestamp, TransactionOptions, Value};
use serde::Deserialize;

use crate::world::{Migration, Side, eventually};

const SLEEPS: &str = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%' \
                      AND pid <> pg_backend_pid()";
const IDLE: &str = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' \
                    AND query LIKE '%account%'";

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mood {
    Sad,
    Ok,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Settings {
    colour: String,
    sizes: Vec<i64>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Everything {
    small: i16,
    large: i64,
    digits: Numeric,
    id: uuid::Uuid,
    day: NaiveDate,
    at: DateTime<Utc>,
    never: Timestamp,
    mood: Mood,
    settings: Settings,
    tags: Vec<Option<String>>,
    nothing: Option<String>,
    raw: Vec<u8>,
}

async fn migration() -> (Migration, Client) {
    let setup = [
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL)",
        "INSERT INTO account SELECT i, 100 FROM generate_series(1, 9) i",
    ];
    let migration = Migration::start(&setup.map(str::to_owned), &[]).await;
    migration.enter("dual_write").await;
    let client = Client::connect(&migration.url()).await.unwrap();
    (migration, client)
}

async fn count(migration: &Migration, sql: &str) -> String {
    let rows = migration.direct(Side::Source, sql).await;
    rows[0][0].clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_read_and_given_as_types_of_rust() {
    let (_migration, client) = migration().await;
    let sql = "SELECT 7::int2 AS small, 9007199254740993::int8 AS large, 1.50::numeric AS digits, \
               'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'::uuid AS id, '0044-03-15 BC'::date AS day, \
               '2024-02-29 23:59:59.999999+00'::timestamptz AS at, 'infinity'::timestamptz AS never, \
               'ok'::mood AS mood, '{\"colour\": \"red\", \"sizes\": [1, 2]}'::jsonb AS settings, \
               ARRAY['a', NULL] AS tags, NULL::text AS nothing, '\\x0001'::bytea AS raw";
    let at: DateTime<Utc> = "2024-02-29T23:59:59.999999Z".parse().unwrap();
    let expected = Everything {
        small: 7,
        large: 9_007_199_254_740_993,
        digits: "1.50".parse().unwrap(),
        id: "f81d4fae-7dec-11d0-a765-00a0c91e6bf6".parse().unwrap(),
        day: NaiveDate::from_ymd_opt(-43, 3, 15).unwrap(),
        at,
        never: Timestamp::Infinity,
        mood: Mood::Ok,
        settings: Settings { colour: "red".to_owned(), sizes: vec![1, 2] },
        tags: vec![Some("a".to_owned()), None],
        nothing: None,
        raw: vec![0, 1],
    };
    assert_eq!(client.query_as::<Everything>(sql, &[]).await.unwrap(), [expected]);

    let sql = "SELECT $1::int8::text, $2::numeric::text, $3::timestamptz::text, $4::date::text, $5::int4[]::text, \
               $6::jsonb::text, $7::uuid::text, $8::timestamp::text, $9::mood::text, $10::bytea::text";
    let nested = vec![vec![Some(1), None], vec![Some(3), Some(4)]];
    let now = Timestamp::from_unix_micros(1_709_251_199_999_999);
    let row = client
        .query_one(
            sql,
            &[
                &i64::MIN,
                &"-0.000000000000000000000000000001".parse::<Numeric>().unwrap(),
                &at,
                &NaiveDate::from_ymd_opt(-43, 3, 15).unwrap(),
                &nested,
                &serde_json::json!({"a": 1}),
                &uuid::Uuid::nil(),
                &now,
                &"sad",
                &vec![0u8, 255],
            ],
        )
        .await
        .unwrap();
    let found: Vec<String> = row.clone().read().unwrap();
    assert_eq!(
        found,
        [
            "-9223372036854775808",
            "-0.000000000000000000000000000001",
            "2024-02-29 23:59:59.999999+00",
            "0044-03-15 BC",
            "{{1,NULL},{3,4}}",
            "{\"a\": 1}",
            "00000000-0000-0000-0000-000000000000",
            "2024-02-29 23:59:59.999999",
            "sad",
            "\\x00ff",
        ]
    );

    // What a type does not hold is an error, and the wider type holds it.
    let row = client
        .query_one("SELECT 'infinity'::date AS day, '[0:1]={7,8}'::int4[] AS list", &[])
        .await
        .unwrap();
    assert!(matches!(row.get::<NaiveDate>("day"), Err(Error::Usage(_))));
    assert!(matches!(row.get::<Vec<i32>>("list"), Err(Error::Usage(_))));
    assert_eq!(row.get::<Array>("list").unwrap().dimensions[0].lower_bound, 0);
    let wrong = client.query("SELECT $1::int4", &[&1.5]).await.unwrap_err();
    assert!(matches!(&wrong, Error::Data(it) if it.reason == "invalid.parameter"), "{wrong:?}");
    let map: BTreeMap<String, i64> =
        client.query_as("SELECT 1 AS a, 2 AS b", &[]).await.unwrap().remove(0);
    assert_eq!(map, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
}

/// Dropping a future is how Rust cancels: the statement ends, and its transaction, whose locks wait for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_future_ends_its_statement_and_its_transaction() {
    let (migration, client) = migration().await;
    let half = Duration::from_millis(500);
    let update = "UPDATE account SET balance = balance + 1 WHERE id = 1";

    let late = tokio::time::timeout(half, client.query("SELECT pg_sleep(60)", &[])).await;
    assert!(late.is_err());
    eventually("the statement ends", || async {
        (count(&migration, SLEEPS).await == "0").then_some(())
    })
    .await;

    let transaction = client.begin(&TransactionOptions::default()).unwrap();
    transaction.execute(update, &[]).await.unwrap();
    let late = tokio::time::timeout(half, transaction.query("SELECT pg_sleep(60)", &[])).await;
    assert!(late.is_err());
    let error = transaction.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!((error.sqlstate.as_str(), error.retryable), ("25P02", false), "{error:?}");
    let nothing_idle = || async { (count(&migration, IDLE).await == "0").then_some(()) };
    eventually("the transaction ends", nothing_idle).await;

    // One that is dropped without a commit is rolled back.
    let transaction = client.begin(&TransactionOptions::default()).unwrap();
    transaction.execute(update, &[]).await.unwrap();
    drop(transaction);
    eventually("the transaction ends", nothing_idle).await;
    assert_eq!(count(&migration, "SELECT balance FROM account WHERE id = 1").await, "100");
}

/// The rows of a transaction's stream belong to it until their end.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_takes_no_other_call_while_its_rows_are_read() {
    let (migration, client) = migration().await;
    let transaction = client.begin(&TransactionOptions::default()).unwrap();
    let mut rows =
        transaction.stream("SELECT i FROM generate_series(1, 100000) i", &[]).await.unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().get::<i32>("i").unwrap(), 1);
    let error = transaction.query("SELECT 1", &[]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Usage(it) if it.message.contains("still being read")),
        "{error:?}"
    );
    rows.close().await.unwrap();
    let mut rows =
        transaction.last().stream("SELECT id FROM account ORDER BY id", &[]).await.unwrap();
    let mut ids = Vec::new();
    while let Some(row) = rows.next().await.unwrap() {
        ids.push(row.get::<i64>(0).unwrap());
    }
    assert_eq!(ids, (1..=9).collect::<Vec<_>>());
    transaction.commit().await.unwrap();
    let error = transaction.query("SELECT 1", &[]).await.unwrap_err();
    assert!(error.message.contains("has ended"), "{error:?}");

    // Rows that are left take the transaction with them.
    let transaction = client.begin(&TransactionOptions::default()).unwrap();
    transaction.execute("UPDATE account SET balance = 0 WHERE id = 2", &[]).await.unwrap();
    let rows =
        transaction.stream("SELECT i FROM generate_series(1, 1000000) i", &[]).await.unwrap();
    drop(rows);
    assert_eq!(transaction.commit().await.unwrap_err().sqlstate, "25P02");
    assert_eq!(count(&migration, "SELECT balance FROM account WHERE id = 2").await, "100");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_names_the_statement_whose_parameter_cannot_be_one() {
    let (_migration, client) = migration().await;
    let batch = Batch::new()
        .with("UPDATE account SET balance = $1 WHERE id = 3", &[&1])
        .with("SELECT $1", &[&vec![vec![1], vec![2, 3]]]);
    let error = client.batch(&batch).await.unwrap_err();
    assert!(error.message.contains("statement 2: parameter $1"), "{error}");
    let rows = client.query("SELECT balance FROM account WHERE id = 3", &[]).await.unwrap();
    assert_eq!(rows[0].values(), [Value::Int(100)]);
    let described = client.describe("SELECT balance FROM account WHERE id = $1").await.unwrap();
    assert_eq!(described[0].parameter_types, ["int8"]);
    assert_eq!(client.info().await.unwrap().phase, "dual_write");
}
