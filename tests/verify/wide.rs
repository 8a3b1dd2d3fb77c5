//! Rows that are large: what verify and its repair take, and that each difference is found.

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
async fn large_rows_are_verified_and_repaired_in_little_memory() {
    let rows = format!(
        "{DOCS}; INSERT INTO doc SELECT n, {}, 'n' FROM generate_series(1, 12) AS n; \
         INSERT INTO doc SELECT 100 + n, {}, 'wide' FROM generate_series(1, 2) AS n",
        text(4, "n"),
        text(24, "n")
    );
    let pair = Pair::fresh(&rows, &rows).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    pair.target
        .run(
            "SET session_replication_role = replica; \
        UPDATE doc SET note = 'other' WHERE id <= 8 OR id = 101; DELETE FROM doc WHERE id = 9; \
        UPDATE doc SET body = body || 'x' WHERE id IN (10, 102); \
        INSERT INTO doc SELECT 200, body, 'more' FROM doc WHERE id = 102",
        )
        .await;
    let (output, peak) = measured(&segue, &["verify"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("{said}\npeak: {peak} kB");
    assert_eq!(output.status.code(), Some(3), "{said}");
    for found in ["8", "9", "10", "101", "102", "200"] {
        assert!(said.contains(found), "{found} was not found: {said}");
    }
    assert!(said.len() < 100_000, "a large value was printed");
    assert!(peak > 0 && peak < 3 * (24 << 10) + BASE_KB, "{peak} kB");
    let (output, peak) = measured(&segue, &["verify", "--repair"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("{said}\npeak: {peak} kB");
    assert_eq!(pair.source.rows(ROWS).await, pair.target.rows(ROWS).await, "{said}");
    assert!(peak < 3 * (24 << 10) + BASE_KB, "{peak} kB");
}
