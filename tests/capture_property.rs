//! For random schemas and statements: a database with capture does and answers exactly what
//! one without it does, and the outbox names exactly the rows that a statement touched.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use segue::domain::side::Side;
use segue::postgres::capture::{self, Params};
use segue::postgres::schema::{self, Permission};
use support::{Database, Major, shared};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Cases and statements of each; both databases of a case are new.
const CASES: u32 = 20;
const STATEMENTS: std::ops::Range<usize> = 4..14;

/// A type with five values for a key, as SQL.
const KEY_TYPES: [(&str, [&str; 5]); 7] = [
    ("int", ["0", "1", "2", "3", "4"]),
    ("text COLLATE \"C\"", ["''", "'a'", "'Ä \"x\"'", "'{,}'", "'NULL'"]),
    ("numeric", ["1.0", "1.00", "2", "-0.5", "1e3"]),
    (
        "timestamptz",
        [
            "'2024-01-01Z'",
            "'2024-01-01 00:00:00.001Z'",
            "'infinity'",
            "'1999-12-31 23:59+05'",
            "'2024-07-01Z'",
        ],
    ),
    ("float8", ["0", "'-0'", "0.1", "'NaN'", "1e300"]),
    (
        "uuid",
        [
            "'00000000-0000-0000-0000-000000000001'",
            "'00000000-0000-0000-0000-000000000002'",
            "'00000000-0000-0000-0000-000000000003'",
            "'00000000-0000-0000-0000-000000000004'",
            "'00000000-0000-0000-0000-000000000005'",
        ],
    ),
    ("char(3)", ["'a'", "'a '", "'b'", "'bcd'", "' '"]),
];

#[derive(Debug, Clone)]
struct Schema {
    key: Vec<usize>,
    unique: bool,
    partitioned: bool,
}

impl Schema {
    fn names(&self) -> String {
        (0..self.key.len()).map(|at| format!("k{at}")).collect::<Vec<_>>().join(", ")
    }

    fn sql(&self) -> String {
        let columns: Vec<String> = self
            .key
            .iter()
            .enumerate()
            .map(|(at, kind)| format!("k{at} {} NOT NULL", KEY_TYPES[*kind].0))
            .collect();
        let (columns, names) = (columns.join(", "), self.names());
        let mut sql =
            format!("CREATE TABLE parent ({columns}, v int, note text, PRIMARY KEY ({names}))");
        if self.partitioned {
            sql.push_str(
                " PARTITION BY HASH (k0);
                 CREATE TABLE parent_0 PARTITION OF parent FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                 CREATE TABLE parent_1 PARTITION OF parent FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
            );
        }
        if self.unique && !self.partitioned {
            sql.push_str("; CREATE UNIQUE INDEX ON parent (v)");
        }
        sql.push_str(&format!(
            "; CREATE TABLE child (id int PRIMARY KEY, {columns},
                FOREIGN KEY ({names}) REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)"
        ));
        sql
    }

    /// Values of a key, one for each column, chosen by digits of `seed`.
    fn values(&self, seed: usize) -> Vec<&'static str> {
        self.key
            .iter()
            .enumerate()
            .map(|(at, kind)| KEY_TYPES[*kind].1[(seed / (at * 3 + 1)) % 5])
            .collect()
    }

    fn row(&self, seed: usize) -> String {
        format!("({}, {}, 'n{seed}')", self.values(seed).join(", "), seed % 7)
    }

    fn is(&self, seed: usize) -> String {
        format!("({}) = ({})", self.names(), self.values(seed).join(", "))
    }

    fn statement(&self, kind: usize, a: usize, b: usize) -> String {
        let names = self.names();
        let key0 = self.values(b)[0];
        match kind {
            0 => format!("INSERT INTO parent VALUES {}, {} RETURNING *", self.row(a), self.row(b)),
            1 => format!("INSERT INTO parent VALUES {} ON CONFLICT DO NOTHING RETURNING v", self.row(a)),
            2 => format!(
                "INSERT INTO parent VALUES {}, {} ON CONFLICT ({names}) DO UPDATE SET v = excluded.v + 1 RETURNING *",
                self.row(a),
                self.row(b)
            ),
            3 => format!("UPDATE parent SET note = note || '!' WHERE {} RETURNING *", self.is(a)),
            4 | 12 if kind == 4 || !self.partitioned => {
                format!("UPDATE parent SET k0 = {key0} WHERE {} OR v = {} RETURNING *", self.is(a), b % 7)
            }
            5 => format!("UPDATE parent SET v = v WHERE v > {}", a % 7),
            6 => format!("DELETE FROM parent WHERE {} RETURNING *", self.is(a)),
            7 => format!("DELETE FROM parent WHERE v = {} RETURNING v", a % 7),
            8 => format!(
                "INSERT INTO child VALUES ({}, {}) ON CONFLICT (id) DO NOTHING",
                b % 9,
                self.values(a).join(", ")
            ),
            9 => format!(
                "WITH gone AS (DELETE FROM child WHERE id < {} RETURNING *)
                 UPDATE parent SET v = 40 + v FROM gone WHERE parent.k0 = gone.k0 RETURNING parent.v",
                b % 9
            ),
            10 => format!(
                "MERGE INTO parent USING (VALUES {}) AS s ({names}, v, note) ON ({}) = ({})
                 WHEN MATCHED AND parent.v > 3 THEN DELETE WHEN MATCHED THEN UPDATE SET v = s.v
                 WHEN NOT MATCHED THEN INSERT VALUES ({}, s.v, s.note)",
                self.row(a),
                prefixed("parent", self.key.len()),
                prefixed("s", self.key.len()),
                prefixed("s", self.key.len())
            ),
            11 => "UPDATE child SET id = id + 1 WHERE id % 2 = 0 RETURNING id".to_owned(),
            12 => "UPDATE parent_0 SET note = 'direct' RETURNING *".to_owned(),
            _ => format!(
                "DO $$ BEGIN INSERT INTO parent VALUES {}; EXCEPTION WHEN OTHERS THEN
                 UPDATE parent SET note = 'caught' WHERE v = {}; END $$",
                self.row(a),
                b % 7
            ),
        }
    }
}

fn prefixed(table: &str, count: usize) -> String {
    (0..count).map(|at| format!("{table}.k{at}")).collect::<Vec<_>>().join(", ")
}

/// What a client sees of a statement: rows, the command's count, or the fault.
async fn outcome(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    match client.simple_query(sql).await {
        Ok(messages) => Ok(messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|at| row.get(at).unwrap_or("NULL"))
                        .collect::<Vec<_>>()
                        .join("|"),
                ),
                SimpleQueryMessage::CommandComplete(count) => Some(format!("count {count}")),
                _ => None,
            })
            .collect()),
        Err(error) => {
            let fault = error.as_db_error().expect("a fault of the database");
            Err(format!("{} {} {:?}", fault.code().code(), fault.message(), fault.detail()))
        }
    }
}

/// Every row's table, key and version: what identifies one image of it. An update makes a new
/// version though it changes no value.
async fn images(client: &Client, schema: &Schema) -> BTreeSet<(String, String)> {
    let key: Vec<String> = (0..schema.key.len()).map(|at| format!("k{at}::text")).collect();
    let sql = format!(
        "SELECT 'parent:' || array_to_string(ARRAY[{key}], ','), tableoid || ' ' || xmin || ' ' || ctid FROM parent
         UNION ALL SELECT 'child:' || id, tableoid || ' ' || xmin || ' ' || ctid FROM child",
        key = key.join(", ")
    );
    client
        .query(&sql, &[])
        .await
        .expect("images")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

async fn contents(client: &Client) -> Vec<String> {
    outcome(
        client,
        "SELECT t FROM (SELECT parent::text FROM parent UNION ALL SELECT child::text FROM child) AS x (t)
         ORDER BY t COLLATE \"C\"",
    )
    .await
    .expect("contents")
}

async fn check(major: Major, schema: Schema, statements: Vec<(usize, usize, usize)>) {
    let plain = Database::create(shared(major), &schema.sql()).await;
    let captured = Database::create(shared(major), &schema.sql()).await;
    let mut client = captured.client().await;
    schema::migrate(&mut client, Side::Source, Permission::Change).await.expect("schema");
    let (tables, refused) = capture::default_tables(&client).await.expect("tables");
    assert_eq!(refused, []);
    capture::install(&mut client, &Params::new(Side::Source), &tables).await.expect("capture");
    let (with, without) = (captured.client().await, plain.client().await);
    for session in [&with, &without] {
        // Something to work on, whatever the statements are.
        for seed in 0..4 {
            let sql =
                format!("INSERT INTO parent VALUES {} ON CONFLICT DO NOTHING", schema.row(seed));
            outcome(session, &sql).await.expect("the first rows");
        }
    }
    client.batch_execute("TRUNCATE segue.outbox").await.expect("emptied");
    for session in [&with, &without, &client] {
        // The text of keys must not depend on what an application sets.
        session.batch_execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'").await.expect("set");
    }
    for (kind, a, b) in statements {
        let sql = schema.statement(kind, a, b);
        let before = images(&client, &schema).await;
        assert_eq!(outcome(&with, &sql).await, outcome(&without, &sql).await, "{sql}");
        assert_eq!(contents(&with).await, contents(&without).await, "{sql}");
        let after = images(&client, &schema).await;
        let touched: BTreeSet<String> =
            before.symmetric_difference(&after).map(|(key, _)| key.clone()).collect();
        let named: BTreeSet<String> = client
            .query(
                "SELECT m.source_name || ':' || array_to_string(o.key, ',')
                 FROM segue.outbox AS o JOIN segue.migrated_table AS m USING (table_id)",
                &[],
            )
            .await
            .expect("outbox")
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(named, touched, "{sql}");
        client.batch_execute("TRUNCATE segue.outbox").await.expect("emptied");
    }
}

fn schemas() -> impl Strategy<Value = Schema> {
    (prop::collection::vec(0..KEY_TYPES.len(), 1..=3), any::<bool>(), any::<bool>())
        .prop_map(|(key, unique, partitioned)| Schema { key, unique, partitioned })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_captured_database_does_what_a_plain_one_does_and_names_what_it_touched(
        schema in schemas(),
        newer in any::<bool>(),
        statements in prop::collection::vec((0..14_usize, 0..8_usize, 0..8_usize), STATEMENTS),
    ) {
        let major = if newer { Major::V18 } else { Major::V15 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(check(major, schema, statements));
    }
}
