//! Keys that are stuck.

use crate::Step::{Segue as Run, Source, Target};
use crate::support::{Pair, Segue, eventually};
use crate::{LIMIT, Step, nothing_waits, outbox, take};

/// A key that failed is not tried again by itself while a test runs.
const ONE_TRY: &str = "[outbox]\nstuck_after = 1\nbackoff_min = \"1h\"\nbackoff_max = \"1h\"\n";

/// How a key comes to be stuck, and what the runbook advises.
struct Walk {
    /// The entry in the runbook.
    entry: &'static str,
    /// What the reason says.
    says: &'static str,
    /// Before the write.
    before: &'static [Step],
    write: &'static str,
    advice: &'static [Step],
    /// Shows the same rows on both sides at the end.
    rows: &'static str,
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const ROWS: &str = "SELECT id::text, v FROM t ORDER BY 1, 2";
const ONE: &str = "INSERT INTO t VALUES (1, 'a')";

const WALKS: [Walk; 10] = [
    Walk {
        entry: "cannot be read on the",
        says: "cannot be read on the target",
        before: &[Target("DROP TABLE t")],
        write: ONE,
        advice: &[Target(TABLE)],
        rows: ROWS,
    },
    Walk {
        entry: "is missing on the shadow",
        says: "\"extra\" is missing on the shadow",
        before: &[Source("ALTER TABLE t ADD extra int")],
        write: "INSERT INTO t VALUES (1, 'a', 7)",
        advice: &[Target("ALTER TABLE t ADD extra int")],
        rows: "SELECT id, v, extra FROM t",
    },
    Walk {
        entry: "has no default there",
        says: "has no default there",
        before: &[Target("ALTER TABLE t ADD must int NOT NULL")],
        write: ONE,
        advice: &[Target("ALTER TABLE t ALTER must SET DEFAULT 0")],
        rows: ROWS,
    },
    Walk {
        entry: "which do not name the same keys",
        says: "which do not name the same keys",
        before: &[Target("DROP TRIGGER segue_capture_key ON t; ALTER TABLE t ALTER id TYPE text")],
        write: ONE,
        advice: &[Target(
            "BEGIN; DROP TRIGGER IF EXISTS segue_capture_key ON t;
             ALTER TABLE t ALTER id TYPE int USING id::int; COMMIT",
        )],
        rows: ROWS,
    },
    Walk {
        entry: "primary key is not the one that",
        says: "primary key is not the one that",
        before: &[Target("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (v)")],
        write: ONE,
        advice: &[
            Target("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)"),
            Run(&["capture", "install"]),
        ],
        rows: ROWS,
    },
    Walk {
        entry: "is unfit",
        says: "is unfit: trigger own fires even for copied rows",
        before: &[Target(
            "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN NEW.v := ''changed''; RETURN NEW; END';
             CREATE TRIGGER own BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION own();
             ALTER TABLE t ENABLE ALWAYS TRIGGER own",
        )],
        write: ONE,
        advice: &[Target("ALTER TABLE t ENABLE TRIGGER own")],
        rows: ROWS,
    },
    Walk {
        entry: "a unique value that it needs is held by another row",
        says: "a unique value that it needs is held by another row",
        before: &[Target("CREATE UNIQUE INDEX only_here ON t (v)")],
        write: "INSERT INTO t VALUES (1, 'a'), (2, 'a')",
        advice: &[Target("DROP INDEX only_here")],
        rows: ROWS,
    },
    Walk {
        entry: "SQLSTATE 22…, SQLSTATE 23…",
        says: "violates check constraint",
        before: &[Target("ALTER TABLE t ADD CONSTRAINT short CHECK (v <> 'a')")],
        write: ONE,
        advice: &[Target("ALTER TABLE t DROP CONSTRAINT short")],
        rows: ROWS,
    },
    Walk {
        entry: "SQLSTATE 42501",
        says: "permission denied",
        before: &[Target("REVOKE INSERT ON t FROM CURRENT_ROLE")],
        write: ONE,
        advice: &[],
        rows: ROWS,
    },
    Walk {
        entry: "not done within",
        says: "not done within",
        before: &[],
        write: ONE,
        advice: &[],
        rows: ROWS,
    },
];

/// Reasons that another test provokes, and sees resolved.
pub const ELSEWHERE: [(&str, &str); 5] = [
    (
        "limits.row_bytes_max",
        "tests/reconcile/wide.rs::a_row_that_cannot_be_carried_is_stuck_alone_until_the_limit_is_raised",
    ),
    (
        "has two rows with one key",
        "tests/reconcile/basics.rs::two_rows_of_one_key_are_stuck_until_the_table_has_a_key_again",
    ),
    (
        "parts, that of",
        "tests/tables.rs::keys_of_a_primary_key_that_was_changed_give_way_to_the_whole_table",
    ),
    (
        "rows that refer to it keep changing",
        "tests/reconcile/references.rs::a_parent_whose_children_keep_coming_is_stuck_until_they_are_done",
    ),
    (
        "stand in its way",
        "tests/reconcile/references.rs::a_parent_with_more_children_than_a_set_may_have_is_stuck_until_they_are_done",
    ),
];

pub fn walked() -> impl Iterator<Item = &'static str> {
    WALKS.iter().map(|walk| walk.entry)
}

fn walk_of(entry: &str) -> &'static Walk {
    WALKS.iter().find(|walk| walk.entry == entry).unwrap()
}

async fn until_stuck(walk: &Walk, segue: &Segue) {
    eventually(&format!("{}: it is stuck", walk.entry), LIMIT, || async {
        let is_stuck = outbox(segue)["stuck"].as_u64() > Some(0);
        is_stuck.then_some(())
    })
    .await;
    let stuck = segue.succeed(&["outbox", "--stuck"]);
    assert!(stuck.contains(walk.says), "{}: {stuck}", walk.entry);
}

async fn equal_at_end(walk: &Walk, pair: &Pair, segue: &Segue) {
    nothing_waits(walk.entry, segue).await;
    let (source, target) = (pair.source.rows(walk.rows).await, pair.target.rows(walk.rows).await);
    assert!(!source.is_empty() && source == target, "{}: {source:?} {target:?}", walk.entry);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_advice_for_each_reason_of_a_stuck_key_ends_it() {
    for walk in WALKS.iter().filter(|walk| !walk.advice.is_empty()) {
        let pair = Pair::fresh(TABLE, TABLE).await;
        let mut segue = Segue::serving(&pair, "dual_write", ONE_TRY).await;
        for step in walk.before {
            take(*step, &pair, &mut segue).await;
        }
        pair.source.run(walk.write).await;
        until_stuck(walk, &segue).await;
        for step in walk.advice {
            take(*step, &pair, &mut segue).await;
        }
        equal_at_end(walk, &pair, &segue).await;
    }
}

/// `segue init --print` shows what the role needs, and running it is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing_is_granted_by_what_init_prints() {
    let walk = walk_of("SQLSTATE 42501");
    let pair = Pair::fresh(TABLE, TABLE).await;
    let role = format!("role_{}", pair.target.name());
    let target = pair.target.dsn_with("postgres@", &format!("{role}@"));
    let first = Segue::prepare(pair.source.dsn(), pair.target.dsn(), ONE_TRY);
    pair.target.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let mut segue = Segue::prepare(pair.source.dsn(), &target, ONE_TRY);
    let grants = || {
        let printed = segue.succeed(&["init", "--print"]);
        let begin = printed.find("-- target:").unwrap();
        let end = printed[begin..].find("-- segue's schema on the target").unwrap();
        printed[begin..begin + end].to_owned()
    };
    drop(first);
    pair.target.run(&grants()).await;
    segue.init_in("dual_write").await;
    let printed = grants();
    segue.serve().await;
    pair.target.run(&format!("REVOKE INSERT ON t FROM {role}")).await;
    pair.source.run(walk.write).await;
    until_stuck(walk, &segue).await;
    pair.target.run(&printed).await;
    equal_at_end(walk, &pair, &segue).await;
}

/// Somebody holds the row of the target for longer than a reconcile may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_deadline_lets_a_slow_reconcile_end() {
    let walk = walk_of("not done within");
    let rows = format!("{TABLE}; INSERT INTO t VALUES (1, 'old')");
    let pair = Pair::fresh(&rows, &rows).await;
    let short = format!("{ONE_TRY}deadline = \"300ms\"\n");
    let first = Segue::serving(&pair, "dual_write", &short).await;
    let holder = pair.target.client().await;
    holder.batch_execute("BEGIN; SELECT FROM t WHERE id = 1 FOR UPDATE").await.unwrap();
    pair.source.run("UPDATE t SET v = 'new'").await;
    until_stuck(walk, &first).await;
    drop(first);
    let long = format!("{ONE_TRY}deadline = \"60s\"\n");
    let mut segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), &long);
    segue.serve().await;
    segue.succeed(&["outbox", "retry"]);
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the reconcile waits for the row", LIMIT, || async {
        (pair.target.rows(waits).await == ["t"]).then_some(())
    })
    .await;
    // Longer than the first deadline was.
    let longer = "SELECT count(*) > 0 FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock' \
            AND clock_timestamp() - query_start > '1 second'";
    eventually("it goes on waiting", LIMIT, || async {
        (pair.target.rows(longer).await == ["t"]).then_some(())
    })
    .await;
    holder.batch_execute("COMMIT").await.unwrap();
    equal_at_end(walk, &pair, &segue).await;
}
