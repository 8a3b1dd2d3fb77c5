//! `segue verify` as a command.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use crate::support::{Pair, Segue, eventually};

const TABLES: &str = "CREATE TABLE item (id int PRIMARY KEY, note text); \
    CREATE TABLE other (id int PRIMARY KEY, note text); \
    INSERT INTO item SELECT n, 'note ' || n FROM generate_series(1, 2000) AS n;";

fn told(output: &std::process::Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_whether_both_sides_are_equal() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    let before = segue.run(&["verify"]);
    assert_eq!(before.status.code(), Some(4), "not initialised: {}", told(&before));
    segue.succeed(&["init"]);
    let equal = segue.succeed(&["verify"]);
    assert!(equal.contains("public.item: equal; 2,000 rows in"), "{equal}");
    assert!(equal.contains("all: equal"), "{equal}");

    pair.target.run("UPDATE item SET note = 'secret' WHERE id = 7").await;
    let differs = segue.run(&["verify", "--table", "item"]);
    let text = told(&differs);
    assert_eq!(differs.status.code(), Some(3), "{text}");
    assert!(
        text.contains("different public.item (7): note: primary (value of 6 characters)"),
        "{text}"
    );
    assert!(!text.contains("secret") && !text.contains("public.other"), "{text}");
    let shown = segue.run(&["verify", "--set", "compare.show_values=true"]);
    assert!(told(&shown).contains("primary \"note 7\", shadow \"secret\""), "{}", told(&shown));

    let events = segue.run(&["verify", "--json"]);
    let lines = String::from_utf8(events.stdout).unwrap();
    let events: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finding = events.iter().find(|event| event["event"] == "finding").unwrap();
    assert_eq!((&finding["what"], &finding["key"][0]), (&"different".into(), &"7".into()));
    let done = events.last().unwrap();
    assert_eq!((&done["event"], &done["equal"]), (&"done".into(), &false.into()));
    assert_eq!(done["rows"], 2000);

    let repaired = segue.succeed(&["verify", "--repair"]);
    assert!(repaired.contains("(repaired)") && repaired.contains("all: equal, 1"), "{repaired}");
    let note = pair.target.rows("SELECT note FROM item WHERE id = 7").await;
    assert_eq!(note, ["note 7"]);
    segue.succeed(&["verify", "--sample", "1%"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_verified_is_an_error_and_keeps_nothing_else_from_it() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.succeed(&["init"]);
    let unknown = segue.run(&["verify", "--table", "nothing"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(told(&unknown).contains("\"nothing\" is not migrated"), "{}", told(&unknown));
    let usage = segue.run(&["verify", "--sample", "200%"]);
    assert_eq!(usage.status.code(), Some(2));
    pair.target.run("ALTER TABLE other DROP note; UPDATE item SET note = '' WHERE id = 1").await;
    let partly = segue.run(&["verify"]);
    let text = told(&partly);
    assert_eq!(partly.status.code(), Some(1), "{text}");
    assert!(text.contains("public.other: not verified: column \"note\" is missing"), "{text}");
    assert!(text.contains("public.item: 1 difference"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_goes_on_finds_what_is_spoilt_and_ends_on_sigterm() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let arguments = ["verify", "--continuous", "--json", "--load", "100%", "--chunk-rows", "500"];
    let mut sweep = segue.start_piped(&arguments);
    let limit = Duration::from_secs(60);
    let status = async || {
        let status = segue.succeed(&["status", "--json"]);
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["verify"].clone()
    };
    eventually("all is proven", limit, || async {
        let verify = status().await;
        let chunks = verify["chunks"].as_u64().unwrap();
        (chunks >= 6 && verify["proven"] == chunks).then_some(())
    })
    .await;
    // Somebody spoils the target, and the next write there makes the sweep look.
    pair.target.run_as_copy("UPDATE item SET note = 'spoilt' WHERE id = 700").await;
    pair.source.run("UPDATE item SET note = 'written' WHERE id = 600").await;
    let lines = BufReader::new(sweep.stdout.take().unwrap()).lines();
    let found = tokio::task::spawn_blocking(move || {
        lines.map_while(Result::ok).find(|line| line.contains("\"finding\""))
    });
    let found = tokio::time::timeout(Duration::from_secs(120), found).await;
    let found = found.expect("the sweep finds it").unwrap().unwrap();
    assert!(found.contains("700") && found.contains("different"), "{found}");
    let verify = status().await;
    assert!(verify["proven"].as_u64() < verify["chunks"].as_u64(), "{verify}");
    crate::support::guard::signal("TERM", &[sweep.id()]);
    let sweep = std::cell::RefCell::new(sweep);
    let asked = || async { sweep.borrow_mut().try_wait().unwrap() };
    let ended = eventually("the sweep ends", limit, asked).await;
    assert_eq!(ended.code(), Some(3), "it has found a difference");
}
