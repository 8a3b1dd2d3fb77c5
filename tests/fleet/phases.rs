//! Phases changed by the command, behind their gates.

use serde_json::Value;

use crate::support::{Pair, Segue};
use crate::world::{ITEMS, QUICK, forced, history, serving, settled, status, until};

fn code(segue: &Segue, arguments: &[&str]) -> (Option<i32>, String) {
    let output = segue.run(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_of_one_goes_through_its_gates_and_everything_is_recorded() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let fleet = serving(&pair, 1, "source_only", QUICK).await;
    let segue = &fleet[0];
    until(segue, "source_only has settled", settled).await;
    let shown = segue.succeed(&["phase"]);
    assert!(shown.contains("gates to dual_write:") && shown.contains("tables"), "{shown}");
    assert_eq!(code(segue, &["phase", "back"]).0, Some(4));
    let (refused, told) = code(segue, &["phase", "advance", "--to", "shift"]);
    assert_eq!(refused, Some(4), "{told}");
    assert!(told.contains("the phase after source_only is dual_write, not shift"), "{told}");

    // Nothing has to be forced here; capture comes with the phase.
    let done = segue.succeed(&["phase", "advance", "--actor", "alice"]);
    assert!(done.starts_with("phase dual_write, epoch"), "{done}");
    pair.source.run("INSERT INTO item VALUES (1, 1)").await;
    let keys = "SELECT key::text FROM segue.outbox WHERE key = '{1}'";
    assert_eq!(pair.source.rows(keys).await, ["{1}"]);
    assert_eq!(
        segue.succeed(&["phase", "advance", "--to", "dual_write"]),
        done,
        "it stands already"
    );

    let (inconclusive, table) = code(segue, &["phase", "advance"]);
    assert_eq!(inconclusive, Some(5), "{table}");
    for part in ["dual write  inconclusive  14 d", "backfill    inconclusive", "outbox"] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    assert_eq!(code(segue, &["phase", "advance", "--force"]).0, Some(2), "a reason must be given");
    until(segue, "dual_write has settled", settled).await;
    let force =
        ["phase", "advance", "--force", "--actor", "bob", "--reason", "rehearsed elsewhere"];
    segue.succeed(&force);

    let events = history(segue);
    let phase = |to: &str| {
        let of = |it: &&Value| it["kind"] == "phase" && it["to_phase"] == to;
        events.iter().find(of).unwrap_or_else(|| panic!("{to}: {events:#?}")).clone()
    };
    let (one, two) = (phase("dual_write"), phase("shadow_read"));
    assert_eq!((&one["actor"], &one["forced"]), (&"alice".into(), &false.into()));
    assert_eq!((&two["actor"], &two["forced"]), (&"bob".into(), &true.into()));
    assert_eq!(two["reason"], "rehearsed elsewhere");
    let dual_write = two["figures"]["dual write"].as_str().unwrap();
    assert!(dual_write.starts_with("inconclusive: "), "{two:#}");
    assert!(segue.succeed(&["history"]).contains("FORCED"));
    // The other database has the same.
    let rows = "SELECT c.phase, c.epoch, (SELECT string_agg(h.to_phase, ',' ORDER BY h.epoch) \
                FROM segue.history AS h WHERE h.kind = 'phase') FROM segue.control AS c";
    let expected = pair.source.rows(rows).await;
    crate::support::eventually("the target's row follows", crate::world::LIMIT, || async {
        (pair.target.rows(rows).await == expected).then_some(())
    })
    .await;

    until(segue, "shadow_read has settled", settled).await;
    segue.succeed(&["phase", "back"]);
    let (kept, told) = code(segue, &["phase", "back"]);
    assert_eq!(kept, Some(4), "{told}");
    assert!(told.contains("--give-up-copy"), "{told}");
    let back = segue.succeed(&["phase", "back", "--give-up-copy"]);
    assert!(back.contains("phase source_only") && back.contains("capture: off"), "{back}");
    assert_eq!(status(segue)["phase"], "source_only");
    pair.source.run("INSERT INTO item VALUES (2, 1)").await;
    assert_eq!(pair.source.rows(&keys.replace("{1}", "{2}")).await, Vec::<String>::new());
}

/// The step may be cut short when the row is changed and capture still stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_discarded_again_stops_the_capture_that_was_left() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let fleet = serving(&pair, 1, "source_only", QUICK).await;
    let segue = &fleet[0];
    let keys = "SELECT key::text FROM segue.outbox WHERE table_id <> 0";
    pair.source.run("INSERT INTO item VALUES (1, 1)").await;
    assert_eq!(pair.source.rows(keys).await, ["{1}"], "capture stands from init on");
    let before = status(segue)["epoch"].clone();
    let back = segue.succeed(&["phase", "back", "--give-up-copy"]);
    assert!(back.contains("capture: off"), "{back}");
    pair.source.run("INSERT INTO item VALUES (2, 1)").await;
    assert_eq!(pair.source.rows(keys).await, ["{1}"]);
    assert_eq!(status(segue)["epoch"], before, "no other phase");
}

/// `shadow_read` compares reads: by then no table may be left out in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_came_since_dual_write_is_captured_or_refused_by_the_next_step() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let fleet = serving(&pair, 1, "dual_write", QUICK).await;
    let segue = &fleet[0];
    until(segue, "dual_write has settled", settled).await;
    let force = ["phase", "advance", "--force", "--reason", "a test"];
    let tables = "CREATE TABLE log (line int NOT NULL); CREATE TABLE later (id int PRIMARY KEY)";
    for side in [&pair.source, &pair.target] {
        side.run(tables).await;
    }
    let (refused, told) = code(segue, &force);
    assert_eq!(refused, Some(4), "{told}");
    assert!(told.contains("public.log") && told.contains("tables.exclude"), "{told}");
    assert_eq!(status(segue)["phase"], "dual_write");
    pair.source.run("DROP TABLE log").await;
    segue.succeed(&force);
    let captured = "SELECT count(*) > 0 FROM pg_trigger WHERE tgrelid = 'later'::regclass";
    for side in [&pair.source, &pair.target] {
        assert_eq!(side.rows(captured).await, ["t"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_copied_fails_the_first_gate() {
    let pair = Pair::fresh(&format!("{ITEMS}; CREATE TABLE log (line text)"), ITEMS).await;
    let fleet = serving(&pair, 1, "source_only", QUICK).await;
    until(&fleet[0], "source_only has settled", settled).await;
    let (failed, table) = code(&fleet[0], &["phase", "advance"]);
    assert_eq!(failed, Some(4), "{table}");
    assert!(table.contains("public.log") && table.contains("a gate refuses"), "{table}");
    // Not even by force: a table that is not captured would be lost in silence.
    let force = ["phase", "advance", "--force", "--reason", "who needs logs"];
    assert_eq!(code(&fleet[0], &force).0, Some(4));
    assert_eq!(status(&fleet[0])["phase"], "source_only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_can_be_set_held_and_let_go_and_the_way_back_takes_it_along() {
    let routing = "[read_routing]\ntarget_percentage = 5\n";
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let fleet = serving(&pair, 2, "shadow_read", &format!("{QUICK}{routing}")).await;
    let segue = &fleet[0];
    let (refused, told) = code(segue, &["phase", "percentage", "50"]);
    assert_eq!(refused, Some(4), "{told}");
    assert_eq!(code(segue, &["phase", "percentage", "101"]).0, Some(2));
    forced(segue, "shift").await;
    until(segue, "the schedule's first step", |now| now["fleet"]["target_percentage"] == 5.0).await;
    segue.succeed(&["phase", "percentage", "50", "--reason", "sooner"]);
    let held = until(&fleet[1], "held", |now| now["fleet"]["schedule_held"] == true).await;
    assert_eq!(held["fleet"]["target_percentage"], 50.0);
    assert!(held["warnings"].to_string().contains("the schedule is held at 50 %: sooner"));
    segue.succeed(&["phase", "resume"]);
    assert_eq!(status(segue)["fleet"]["schedule_held"], false);
    segue.succeed(&["phase", "back", "--reason", "a test"]);
    let steps: Vec<_> = history(segue)
        .into_iter()
        .rev()
        .filter(|it| it["kind"] == "percentage" || it["from_phase"] == "shift")
        .filter(|it| it["kind"] != "settled")
        // The share is as it was when reads are let on.
        .filter(|it| it["reason"] != "the target is a state of the primary again")
        .map(|it| {
            (it["to_phase"].as_str().unwrap().to_owned(), it["to_percentage"].as_f64().unwrap())
        })
        .collect();
    let expected =
        [("shift", 5.0), ("shift", 50.0), ("shift", 50.0), ("shift", 0.0), ("shadow_read", 0.0)];
    assert_eq!(steps, expected.map(|(phase, share)| (phase.to_owned(), share)));
}
