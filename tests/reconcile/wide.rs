//! Rows that are large: what a sidecar takes to carry them, and that nothing else suffers.

use std::time::{Duration, Instant};

use crate::support::{Pair, Segue, eventually};

const DOCS: &str = "CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL, raw bytea, note text); \
    CREATE TABLE small (id int PRIMARY KEY, note text)";
const LIMIT: Duration = Duration::from_secs(900);
/// What a sidecar may take beside three times its largest row: what it was read into, and the two
/// buffers through which it leaves.
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
    assert!(peak < 3 * (100 << 10) + BASE_KB, "{peak} kB");
    // A new value in its place, and then a small one beside it.
    let again = format!("UPDATE doc SET body = {} WHERE id = 1", text(100, "2"));
    pair.source.run(&again).await;
    settled(&pair).await;
    let peak = segue.memory_peak_kb();
    eprintln!("peak: {peak} kB");
    assert!(peak < 3 * (100 << 10) + BASE_KB, "{peak} kB");
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

/// Megabytes of a row that is larger than all memory for rows: `SEGUE_ROW_MB=700` by hand.
fn row_mb() -> u32 {
    let megabytes = std::env::var("SEGUE_ROW_MB").ok().and_then(|megabytes| megabytes.parse().ok());
    megabytes.unwrap_or(80)
}

/// The rows are two of many of one transaction, and the value of one has no binary form that is
/// shorter. Two batches at once would have one each, and nobody would carry the small ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_larger_than_the_memory_for_rows_disturbs_no_other_and_no_lease() {
    let megabytes = row_mb();
    let most = 3 * (u64::from(megabytes) << 10) + BASE_KB;
    let pair = Pair::fresh(DOCS, DOCS).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let begun = Instant::now();
    let rows = format!(
        "BEGIN; INSERT INTO doc VALUES (1, {}, NULL, 'one'); \
         INSERT INTO doc VALUES (2, 'short', convert_to({}, 'UTF8'), 'two'); \
         INSERT INTO small SELECT n, 'n' FROM generate_series(1, 1000) AS n; COMMIT",
        text(megabytes, "1"),
        text(megabytes, "2"),
    );
    pair.source.run(&rows).await;
    let written = begun.elapsed();
    let others = eventually("the others are there", LIMIT, || async {
        let there = "SELECT (SELECT count(*) FROM small), (SELECT count(*) FROM doc)";
        let there = pair.target.rows(there).await.remove(0);
        let (small, large) = there.split_once('|').unwrap();
        // One call may be at a large row while another has small ones in hand.
        assert!(small == "1000" || large != "2", "the large rows came before the small ones");
        (small == "1000").then(|| begun.elapsed() - written)
    })
    .await;
    settled(&pair).await;
    let all = begun.elapsed() - written;
    // While one waits at the target, others write and are not behind it.
    let holder = pair.target.client().await;
    holder.batch_execute("BEGIN; INSERT INTO doc VALUES (3, 'held')").await.unwrap();
    pair.source
        .run(&format!("INSERT INTO doc VALUES (3, {}, NULL, 'three')", text(megabytes, "3")))
        .await;
    let waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
        AND datname = current_database()";
    eventually("it waits at the target", LIMIT, || async {
        (pair.target.rows(waiting).await == ["t"]).then_some(())
    })
    .await;
    for number in 1001..=1003 {
        pair.source.run(&format!("INSERT INTO small VALUES ({number}, 'n')")).await;
        let there = format!("SELECT count(*) FROM small WHERE id = {number}");
        eventually("a row that was written later is there", LIMIT, || async {
            (pair.target.rows(&there).await == ["1"]).then_some(())
        })
        .await;
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    settled(&pair).await;
    let peak = segue.memory_peak_kb();
    eprintln!(
        "two rows of {megabytes} MB: the others after {others:?}, all after {all:?}, peak {peak} kB"
    );
    assert!(peak < most, "{peak} kB");
    for told in ["the lease could not be renewed", "writes stop"] {
        assert!(!segue.logs().contains(told), "{told}: {}", segue.logs());
    }
    let stuck = segue.succeed(&["outbox", "--stuck"]);
    assert!(!stuck.contains("public.doc"), "{stuck}");
}

/// The limit is the lowest that there is, so that the row need not be of gigabytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_carried_is_stuck_alone_until_the_limit_is_raised() {
    let pair = Pair::fresh(DOCS, DOCS).await;
    let limits = "[limits]\nrow_bytes_max = \"16MiB\"\n[outbox]\nstuck_after = 1\n";
    let mut segue = Segue::serving(&pair, "dual_write", limits).await;
    // All of one transaction, and so of one batch.
    let rows = format!(
        "BEGIN; INSERT INTO doc SELECT n, CASE n WHEN 7 THEN {} ELSE 'short' END, NULL, 'n' \
             FROM generate_series(1, 20) AS n; \
         INSERT INTO small SELECT n, 'n' FROM generate_series(1, 100) AS n; COMMIT",
        text(20, "n")
    );
    pair.source.run(&rows).await;
    eventually("all others are there", LIMIT, || async {
        let there = "SELECT (SELECT count(*) FROM doc), (SELECT count(*) FROM small)";
        (pair.target.rows(there).await == ["19|100"]).then_some(())
    })
    .await;
    let stuck = eventually("it is stuck", LIMIT, || async {
        let stuck = segue.succeed(&["outbox", "--stuck"]);
        stuck.contains("row_bytes_max").then_some(stuck)
    })
    .await;
    for named in ["public.doc", "(7)", "20 MiB", "16 MiB"] {
        assert!(stuck.contains(named), "{named} is missing: {stuck}");
    }
    let waiting = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
    assert_eq!(pair.source.rows(waiting).await, ["1"]);
    // It is no value of the shadow that would have to be carried.
    pair.target.run(&format!("INSERT INTO doc VALUES (8000, {}, NULL, 'x')", text(20, "8"))).await;
    pair.source.run("INSERT INTO doc VALUES (8000, 'short', NULL, 'n')").await;
    eventually("it is made equal", LIMIT, || async {
        (pair.target.rows("SELECT body FROM doc WHERE id = 8000").await == ["short"]).then_some(())
    })
    .await;
    segue.kill();
    segue.serve_with(&[("SEGUE_LIMITS_ROW_BYTES_MAX", "32MiB")]).await;
    segue.succeed(&["outbox", "retry"]);
    settled(&pair).await;
}

/// A process that ends while it carries large rows leaves nothing half done, and holds no row up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_rows_go_on_after_a_restart_in_the_middle() {
    let pair = Pair::fresh(DOCS, DOCS).await;
    let mut segue = Segue::serving(&pair, "dual_write", "").await;
    let rows = format!(
        "INSERT INTO doc SELECT n, {}, NULL, 'n' FROM generate_series(1, 60) AS n; \
         INSERT INTO doc VALUES (100, {}, NULL, 'wide')",
        text(4, "n"),
        text(40, "9")
    );
    pair.source.run(&rows).await;
    for some in [1, 20, 40] {
        eventually("some are there", LIMIT, || async {
            let there = format!("SELECT count(*) >= {some} FROM doc");
            (pair.target.rows(&there).await == ["t"]).then_some(())
        })
        .await;
        segue.kill();
        segue.serve().await;
    }
    settled(&pair).await;
    let peak = segue.memory_peak_kb();
    assert!(peak < 3 * (40 << 10) + BASE_KB, "{peak} kB");
    assert!(!segue.logs().contains("the lease could not be renewed"), "{}", segue.logs());
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
