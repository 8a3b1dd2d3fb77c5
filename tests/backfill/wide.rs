//! Rows that are large: what a backfill takes to copy them.

use std::process::Output;
use std::time::Duration;

use crate::support::{Pair, Segue};

const DOCS: &str = "CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL, note text)";
/// What it may take beside three times its largest row.
const BASE_KB: u64 = 100 << 10;
const LOOK: Duration = Duration::from_millis(2);
const ROWS: &str = "SELECT id, length(body), md5(body), note FROM doc ORDER BY id";

/// Runs a command to its end; gives what it printed, and the most kilobytes that it has held.
fn measured(segue: &Segue, arguments: &[&str]) -> (Output, u64) {
    let mut child = segue.start_piped(arguments);
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // Each look gives the most so far.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(LOOK);
    }
    (child.wait_with_output().unwrap(), peak)
}

/// `megabytes` of text, the same for one seed.
fn text(megabytes: u32, seed: &str) -> String {
    format!("repeat(md5({seed}::text), {})", megabytes * 32_768)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_rows_are_copied_in_little_memory() {
    let pair = Pair::fresh(DOCS, DOCS).await;
    let rows = format!(
        "INSERT INTO doc SELECT n, {}, 'n' FROM generate_series(1, 40) AS n; \
         INSERT INTO doc SELECT 100 + n, {}, 'wide' FROM generate_series(1, 4) AS n",
        text(4, "n"),
        text(50, "n")
    );
    pair.source.run(&rows).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let arguments = ["backfill", "--table", "doc", "--workers", "4", "--chunk-rows", "1"];
    let (output, peak) = measured(&segue, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(pair.source.rows(ROWS).await, pair.target.rows(ROWS).await);
    eprintln!("peak: {peak} kB");
    assert!(peak > 0 && peak < 3 * (50 << 10) + BASE_KB, "{peak} kB");
}

/// The limit is the lowest that there is, so that the row need not be of gigabytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_carried_is_stuck_and_all_others_are_copied() {
    let pair = Pair::fresh(DOCS, DOCS).await;
    let rows = format!(
        "INSERT INTO doc SELECT n, CASE n WHEN 7 THEN {} ELSE 'short' END, 'n' \
             FROM generate_series(1, 20) AS n",
        text(20, "n")
    );
    pair.source.run(&rows).await;
    let limits = "[limits]\nrow_bytes_max = \"16MiB\"\n[outbox]\nstuck_after = 1\n";
    let segue = Segue::serving(&pair, "dual_write", limits).await;
    let output = segue.run(&["backfill"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(pair.target.rows("SELECT count(*) FROM doc").await, ["19"], "{said}");
    let stuck = "SELECT key, last_error LIKE '%limits.row_bytes_max%' FROM segue.outbox \
        WHERE forgotten_at IS NULL";
    assert_eq!(pair.source.rows(stuck).await, ["{7}|t"]);
}

/// By every default; nothing tries the row again before somebody looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_backfill_could_not_copy_is_listed_where_it_says_at_once() {
    let unfit = DOCS.replace("note text", "note text CHECK (note <> 'unfit')");
    let pair = Pair::fresh(DOCS, &unfit).await;
    let rows = "INSERT INTO doc SELECT n, 'b', CASE n WHEN 7 THEN 'unfit' END \
        FROM generate_series(1, 20) AS n";
    pair.source.run(rows).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let copied = segue.run(&["backfill", "--accept", "constraint.check_target"]);
    let listed = segue.succeed(&["outbox", "--stuck"]);
    let said = String::from_utf8_lossy(&copied.stdout);
    assert!(said.contains("see segue outbox --stuck"), "{said}");
    assert!(listed.contains("doc") && listed.contains('7'), "{listed}");
    assert!(listed.contains("violates check constraint"), "{listed}");
    assert_eq!(pair.target.rows("SELECT count(*) FROM doc").await, ["19"]);
}
