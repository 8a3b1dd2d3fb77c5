//! What a change of the primary refuses, from `shift` to the end of the migration.

use crate::Step::{Noted, Segue as Run, Source, Target};
use crate::refusals::{Walk, walk, walked_through};
use crate::support::{Pair, Segue, eventually};
use crate::{LIMIT, said, settled};

/// Gates that a test passes, leases that a loaded machine keeps, and a role that is not there yet.
const SECTIONS: &str = "
[gates]
dual_write_min = \"1ms\"
reversed_min = \"1ms\"
outbox_age_max = \"60s\"
[control]
poll_interval = \"200ms\"
[cutover]
pause_lease = \"1s\"
prepare_wait = \"40s\"
";

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, n serial);
    INSERT INTO t VALUES (1, 'a')";
const SHIFT: &[&str] = &["phase", "advance", "--to", "shift", "--force", "--reason", "x"];
const REHEARSE: &[&str] = &["cutover", "--rehearse", "--yes", "--max-pause", "30s"];
pub const CUTOVER: &[&str] =
    &["cutover", "--yes", "--force", "--reason", "x", "--max-pause", "30s"];

/// With writes held for so long by a transaction that bypasses segue.
const PATIENT: &[&str] = &["cutover", "--yes", "--force", "--reason", "x", "--max-pause", "300s"];
/// Exit code of a cutover that was called off.
pub const CALLED_OFF: i32 = 1;

const fn of_cutover(code: &'static str, says: &'static str) -> Walk {
    Walk { command: REHEARSE, exits: CALLED_OFF, again: REHEARSE, ..walk(code, says) }
}

/// One after the other on one pair of databases, each from where the one before has led.
const WALKS: [Walk; 7] = [
    Walk {
        advice: &[Source("CREATE ROLE advice_reader")],
        ..of_cutover("refused.role", "there is no role advice_reader on the source")
    },
    Walk {
        before: &[Target("ALTER TABLE t ADD only_here int")],
        // A cutover is called off that first notices a change of the schema.
        advice: &[
            Source("ALTER TABLE t ADD only_here int"),
            Noted("public.t on the source: columns were changed"),
        ],
        ..of_cutover("refused.one_way", "only_here")
    },
    Walk {
        before: &[
            Source("SELECT setval('t_n_seq', 500)"),
            Target("ALTER SEQUENCE t_n_seq MAXVALUE 100"),
        ],
        advice: &[Target("ALTER SEQUENCE t_n_seq AS bigint MAXVALUE 1000")],
        ..of_cutover("refused.sequence", "ALTER SEQUENCE \"public\".\"t_n_seq\" AS bigint MAXVALUE")
    },
    Walk {
        before: &[Source(
            "BEGIN; INSERT INTO t VALUES (7, 'prepared'); PREPARE TRANSACTION 'advice'",
        )],
        advice: &[Source("ROLLBACK PREPARED 'advice'")],
        ..of_cutover("refused.prepared", "prepared transactions are left: advice")
    },
    Walk {
        command: &["cutover", "--rehearse", "--yes", "--max-pause", "1ms"],
        ..of_cutover("refused.pause", "raise --max-pause")
    },
    Walk {
        command: &["phase", "advance"],
        again: CUTOVER,
        ..walk("refused.own_command", "run `segue cutover`")
    },
    Walk {
        before: &[Run(&["complete", "--yes", "--reason", "x"])],
        command: &["phase", "advance"],
        // Segue is taken out of the way.
        again: &["capture", "remove"],
        ..walk("refused.last_phase", "`segue capture remove`")
    },
];

pub fn walked() -> impl Iterator<Item = &'static str> {
    WALKS.iter().map(|walk| walk.code)
}

/// In `shift`, with more of the section of the cutover.
pub async fn in_shift(pair: &Pair, more: &str) -> Segue {
    let segue = Segue::serving(pair, "shadow_read", &format!("{SECTIONS}{more}")).await;
    eventually("shift is entered", LIMIT, || async {
        segue.run(SHIFT).status.success().then_some(())
    })
    .await;
    settled(&segue).await;
    segue
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_advice_of_each_refusal_of_a_cutover_ends_it() {
    let pair = Pair::fresh(SCHEMA, SCHEMA).await;
    let mut segue = in_shift(&pair, "read_only_roles = [\"advice_reader\"]\n").await;
    for walk in &WALKS {
        settled(&segue).await;
        walked_through(walk, &pair, &mut segue).await;
    }
    pair.source.run("DROP OWNED BY advice_reader; DROP ROLE advice_reader").await;
}

/// The first one waits for a transaction that bypasses segue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_cutover_is_made_when_the_first_has_ended() {
    let pair = Pair::fresh(SCHEMA, SCHEMA).await;
    let segue = in_shift(&pair, "").await;
    // A sidecar makes one after the other.
    let mut other = Segue::prepare(pair.source.dsn(), pair.target.dsn(), SECTIONS);
    other.serve().await;
    let open = pair.source.client().await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (2, 'open')").await.unwrap();
    let first = segue.running(PATIENT);
    let is_held = "SELECT stage FROM segue.pause WHERE stage = 'hold'";
    eventually("the first one holds writes", LIMIT, || async {
        assert!(first.runs(), "{}", first.output());
        (!pair.source.rows(is_held).await.is_empty()).then_some(())
    })
    .await;
    let refused = other.run(PATIENT);
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(CALLED_OFF), "{told}");
    assert!(told.contains("another cutover is under way"), "{told}");
    open.batch_execute("COMMIT").await.unwrap();
    let (code, told) = first.ended(LIMIT).await;
    assert_eq!(code, Some(0), "{told}");
    // The target is the primary already, which is what was asked for.
    let again = other.run(CUTOVER);
    assert!(again.status.success(), "{}", said(&again));
}

/// The cutover has found all tables fit, and is about to prove them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_becomes_unfit_within_a_cutover_is_mended_and_it_is_made() {
    let pair = Pair::fresh(SCHEMA, SCHEMA).await;
    let mut segue = in_shift(&pair, "").await;
    segue.kill();
    segue.serve_with(&[("SEGUE_STOP_AT", "cutover_after_gates")]).await;
    settled(&segue).await;
    let running = segue.running(CUTOVER);
    eventually("the cutover stands after its gates", LIMIT, || async {
        segue.is_stopped().then_some(())
    })
    .await;
    pair.target.run("ALTER TABLE t DROP COLUMN v").await;
    segue.signal("CONT");
    let (code, told) = running.ended(LIMIT).await;
    let flat = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(code, Some(CALLED_OFF), "{told}");
    assert!(flat.contains("public.t cannot be verified"), "{told}");
    pair.target.run("ALTER TABLE t ADD v text").await;
    segue.kill();
    segue.serve().await;
    settled(&segue).await;
    segue.succeed(&["verify", "--repair"]);
    let again = segue.run(CUTOVER);
    assert!(again.status.success(), "{}", said(&again));
    let row = "SELECT id, v FROM t";
    assert_eq!(pair.target.rows(row).await, pair.source.rows(row).await);
}
