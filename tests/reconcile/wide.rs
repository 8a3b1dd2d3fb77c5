//! Rows that are large: what a sidecar takes to carry them, and that nothing else suffers.

use std::time::Duration;

use crate::support::{Pair, Segue, eventually};

const DOCS: &str = "CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL, raw bytea, note text); \
    CREATE TABLE small (id int PRIMARY KEY, note text)";
const LIMIT: Duration = Duration::from_secs(240);
/// What a sidecar may take beside five times its largest row: the row, what it was read into, and
/// the two buffers through which it leaves, one of which is there twice while it grows.
const BASE_KB: u64 = 100 << 10;

async fn both(pair: &Pair, sql: &str) -> (Vec<String>, Vec<String>) {
    (pair.source.rows(sql).await, pair.target.rows(sql).await)
}

/// Waits until the outbox is empty, and both sides have the same rows.
async fn settled(pair: &Pair) {
    eventually("the outbox is empty", LIMIT, || async {
        let waiting = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
        (pair.source.rows(waiting).await == ["0"]).then_some(())
    })
    .await;
    let rows = "SELECT id, length(body), md5(body), md5(raw), note FROM doc ORDER BY id";
    let (source, target) = both(pair, rows).await;
    assert_eq!(source, target);
}

/// `megabytes` of text, the same for one seed.
fn text(megabytes: u32, seed: &str) -> String {
    format!("repeat(md5({seed}::text), {})", megabytes * 32_768)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_rows_of_others_are_carried_in_little_memory() {
    let pair = Pair::fresh(DOCS, DOCS).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let rows = format!(
        "INSERT INTO doc SELECT n, {}, NULL, 'n' FROM generate_series(1, 300) AS n; \
         INSERT INTO small SELECT n, 'n' FROM generate_series(1, 1000) AS n",
        text(4, "n")
    );
    pair.source.run(&rows).await;
    settled(&pair).await;
    let (source, target) = both(&pair, "SELECT count(*) FROM small").await;
    assert_eq!((source, target), (vec!["1000".to_owned()], vec!["1000".to_owned()]));
    let peak = segue.memory_peak_kb();
    eprintln!("peak: {peak} kB");
    assert!(peak < 3 * (4 << 10) + BASE_KB, "{peak} kB");
    // Large on the shadow alone, and gone on the primary.
    pair.source
        .run("UPDATE doc SET body = 'short' WHERE id <= 100; DELETE FROM doc WHERE id > 200")
        .await;
    settled(&pair).await;
    let peak = segue.memory_peak_kb();
    eprintln!("peak: {peak} kB");
    assert!(peak < 3 * (4 << 10) + BASE_KB, "{peak} kB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_very_large_row_goes_alone_and_its_values_only_where_they_differ() {
    let pair = Pair::fresh(DOCS, DOCS).await;
    let mut segue = Segue::serving(&pair, "dual_write", "").await;
    let wide = format!("INSERT INTO doc VALUES (1, {}, NULL, 'one')", text(100, "1"));
    pair.source.run(&wide).await;
    pair.source.run("INSERT INTO doc VALUES (2, 'short', NULL, 'two')").await;
    settled(&pair).await;
    let peak = segue.memory_peak_kb();
    eprintln!("peak: {peak} kB");
    assert!(peak < 5 * (100 << 10) + BASE_KB, "{peak} kB");
    // A new value in its place, and then a small one beside it.
    let again = format!("UPDATE doc SET body = {} WHERE id = 1", text(100, "2"));
    pair.source.run(&again).await;
    settled(&pair).await;
    let peak = segue.memory_peak_kb();
    eprintln!("peak: {peak} kB");
    assert!(peak < 5 * (100 << 10) + BASE_KB, "{peak} kB");
    // A process of which nothing is left from before.
    segue.kill();
    segue.serve().await;
    pair.source.run("UPDATE doc SET note = 'changed' WHERE id = 1").await;
    settled(&pair).await;
    let peak = segue.memory_peak_kb();
    eprintln!("peak: {peak} kB");
    assert!(peak < BASE_KB, "a value that is equal was carried: {peak} kB");
    pair.source.run("DELETE FROM doc WHERE id = 1").await;
    settled(&pair).await;
}

/// Every kind of value that is compared by its digest, and one that looks like a digest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_of_each_kind_are_made_equal() {
    let kinds = "CREATE TABLE kinds (id int PRIMARY KEY, t text, v varchar, b bytea, j json, jb jsonb, \
        a text[])";
    let pair = Pair::fresh(kinds, kinds).await;
    let _segue = Segue::serving(&pair, "dual_write", "").await;
    let rows = format!(
        "INSERT INTO kinds SELECT 1, {t}, {t}, convert_to({t}, 'UTF8'), to_json({t}), to_jsonb({t}), \
             ARRAY[{t}]",
        t = text(3, "7")
    );
    pair.source.run(&rows).await;
    let all = "SELECT md5(t), md5(v), md5(b), md5(j::text), md5(jb::text), md5(a::text) FROM kinds";
    let equal = || async {
        let (source, target) = both(&pair, all).await;
        (source == target).then_some(())
    };
    eventually("the row is there", LIMIT, equal).await;
    for column in [
        "t = t || 'x'",
        "v = 'short'",
        "b = b || 'x'::bytea",
        "j = '[1]'",
        "jb = to_jsonb(t)",
        "a = a || 'x'::text",
        "t = NULL",
    ] {
        pair.source.run(&format!("UPDATE kinds SET {column}")).await;
        eventually(column, LIMIT, equal).await;
    }
}
