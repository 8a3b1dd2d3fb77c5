//! Capture that somebody turned off.

use std::time::Duration;

use crate::ledger::{SOURCE_SCHEMA, TARGET_SCHEMA};
use crate::support::{Pair, Segue, eventually};

const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// What somebody does to capture behind segue's back is noticed, mended, and made good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_were_missed_are_made_good() {
    let pair = Pair::fresh(SOURCE_SCHEMA, TARGET_SCHEMA).await;
    // What the comparer is told to overlook is copied all the same.
    let sections = "[outbox]\ncapture_check_interval = \"300ms\"\n\
        [[compare.rules]]\ntable = \"public.account\"\ncolumn = \"version\"\nignore = true";
    let mut segue = Segue::serving(&pair, "dual_write", sections).await;
    for (fault, write) in [
        ("ALTER TABLE account DISABLE TRIGGER ALL", "INSERT INTO account VALUES (1, 1)"),
        ("DROP TRIGGER segue_capture_delete ON counter", "DELETE FROM counter WHERE id = 2"),
        (
            "CREATE OR REPLACE FUNCTION segue.capture_3_update() RETURNS trigger \
             LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "UPDATE counter SET n = 5 WHERE id = 3",
        ),
    ] {
        pair.source.run(&format!("BEGIN; {fault}; {write}; COMMIT")).await;
        let (source, target) = (pair.source.client().await, pair.target.client().await);
        let rows = "SELECT (SELECT string_agg(a.id || ' ' || version, ',' ORDER BY a.id) FROM account AS a), \
            (SELECT string_agg(id || ' ' || n, ',' ORDER BY id) FROM counter)";
        eventually(fault, DRAIN_LIMIT, || async {
            let read = |row: tokio_postgres::Row| {
                (row.get::<_, Option<String>>(0), row.get::<_, Option<String>>(1))
            };
            let one = read(source.query_one(rows, &[]).await.unwrap());
            (one == read(target.query_one(rows, &[]).await.unwrap())).then_some(())
        })
        .await;
    }
    // A table without a primary key turns up: it is told, and keeps nobody from the data.
    pair.source.run("CREATE TABLE stray (line text)").await;
    let warned = || async {
        let told = segue.succeed(&["status"]);
        told.contains("public.stray has no primary key").then_some(())
    };
    eventually("the status warns", DRAIN_LIMIT, warned).await;
    assert!(segue.terminate().await);
    segue.serve().await;
    assert!(segue.terminate().await);
    // A table of the migration loses its key: its writes would be lost on the target.
    pair.source.run("ALTER TABLE account DROP CONSTRAINT account_pkey CASCADE").await;
    let output = segue.run(&["serve"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("public.account") && !told.contains("public.stray"), "{told}");
    assert!(told.contains("tables.exclude"), "{told}");
}
