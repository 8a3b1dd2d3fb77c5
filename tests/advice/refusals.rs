//! What operators' commands refuse.

use crate::Step::{Phase, Segue as Run, Source, Target};
use crate::support::{Pair, Segue};
use crate::{Step, said, take};

/// A command that is refused, and what the runbook advises.
struct Walk {
    /// The code, as the runbook has it.
    code: &'static str,
    /// More of the configuration.
    sections: &'static str,
    /// What both sides have.
    schema: &'static str,
    before: &'static [Step],
    command: &'static [&'static str],
    /// What the refusal says.
    says: &'static str,
    advice: &'static [Step],
    /// What is done now, and must succeed.
    again: &'static [&'static str],
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const INIT: &[&str] = &["init"];
const ADVANCE: &[&str] = &["phase", "advance"];
const DUAL_WRITE: Step = Phase("dual_write");

const fn walk(code: &'static str, says: &'static str) -> Walk {
    Walk {
        code,
        sections: "",
        schema: TABLE,
        before: &[],
        command: ADVANCE,
        says,
        advice: &[],
        again: ADVANCE,
    }
}

/// Before the sidecar runs.
const AT_REST: [Walk; 8] = [
    Walk {
        command: &["tables", "list"],
        advice: &[Run(INIT)],
        again: &["tables", "list"],
        ..walk("refused.not_set_up", "run `segue init`")
    },
    Walk {
        before: &[DUAL_WRITE],
        command: &["backfill", "--table", "public.nothing"],
        again: &["backfill", "--table", "public.t"],
        ..walk("refused.table", "\"public.nothing\" is not part of the migration")
    },
    Walk {
        before: &[
            DUAL_WRITE,
            Target("SET session_replication_role = replica; INSERT INTO t VALUES (9, 'x')"),
        ],
        command: &["backfill"],
        again: &["backfill", "--empty-target"],
        ..walk("refused.target_not_empty", "--empty-target")
    },
    Walk {
        before: &[DUAL_WRITE, Source("DROP TRIGGER segue_capture_insert ON t")],
        command: &["backfill"],
        advice: &[Run(&["capture", "install"])],
        again: &["backfill"],
        ..walk("refused.not_captured", "segue capture install")
    },
    Walk {
        sections: "[[tables.map]]\nsource = \"public.later\"",
        command: INIT,
        advice: &[
            Source("CREATE TABLE later (id int PRIMARY KEY)"),
            Target("CREATE TABLE later (id int PRIMARY KEY)"),
        ],
        again: INIT,
        ..walk("refused.no_table", "public.later")
    },
    Walk {
        before: &[DUAL_WRITE],
        command: &["tables", "retire", "public.nothing", "--reason", "x"],
        again: &["tables", "list"],
        ..walk("refused.table_unknown", "segue tables list")
    },
    Walk {
        before: &[DUAL_WRITE],
        command: &["tables", "adopt", "public.t", "--reason", "x"],
        again: &["tables", "list"],
        ..walk("refused.table_not_retired", "is not retired")
    },
    Walk {
        before: &[DUAL_WRITE],
        command: &["tables", "retire", "segue.idempotency", "--reason", "x"],
        again: &["tables", "list"],
        ..walk("refused.table_own", "is segue's own")
    },
];

/// While it runs.
const SERVING: [(&str, Walk); 13] = [
    (
        "dual_write",
        Walk {
            command: &["capture", "remove"],
            advice: &[Run(&["phase", "back", "--give-up-copy", "--reason", "x"])],
            again: &["capture", "remove"],
            ..walk("refused.capture_in_use", "segue phase back --give-up-copy")
        },
    ),
    (
        "source_only",
        Walk {
            command: &["backfill"],
            advice: &[Run(ADVANCE)],
            again: &["backfill"],
            ..walk("refused.phase", "the phase is source_only")
        },
    ),
    (
        "source_only",
        Walk {
            schema: "CREATE TABLE log (line int NOT NULL)",
            advice: &[
                Source("ALTER TABLE log ADD PRIMARY KEY (line)"),
                Target("ALTER TABLE log ADD PRIMARY KEY (line)"),
            ],
            ..walk("refused.no_primary_key", "public.log")
        },
    ),
    (
        "source_only",
        Walk {
            before: &[Source("ALTER TABLE t SET UNLOGGED")],
            advice: &[Source("ALTER TABLE t SET LOGGED")],
            ..walk("refused.unlogged", "SET LOGGED")
        },
    ),
    (
        "source_only",
        Walk {
            before: &[
                Source("CREATE TABLE child (PRIMARY KEY (id)) INHERITS (t)"),
                Target("CREATE TABLE child (id int PRIMARY KEY, v text)"),
            ],
            advice: &[Source("ALTER TABLE child NO INHERIT t")],
            ..walk("refused.inheritance", "inherit")
        },
    ),
    (
        "source_only",
        Walk {
            before: &[Target("DROP TABLE t")],
            advice: &[Target(TABLE)],
            ..walk("refused.target_unfit", "does not exist")
        },
    ),
    (
        "source_only",
        Walk {
            schema: "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
                CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10)",
            before: &[Source("ALTER TABLE part SET UNLOGGED")],
            advice: &[Source("ALTER TABLE part SET LOGGED")],
            ..walk("refused.partition_kind", "public.part")
        },
    ),
    (
        "source_only",
        Walk {
            command: &["phase", "back"],
            again: &["phase", "advance"],
            ..walk("refused.first_phase", "`segue phase advance` goes on")
        },
    ),
    (
        "dual_write",
        Walk {
            command: &["phase", "back"],
            again: &["phase", "back", "--give-up-copy", "--reason", "x"],
            ..walk("refused.gives_up_copy", "--give-up-copy")
        },
    ),
    (
        "dual_write",
        Walk {
            command: &["phase", "advance", "--force", "--reason", " "],
            again: &["phase", "advance", "--force", "--reason", "x"],
            ..walk("refused.no_reason", "--reason")
        },
    ),
    (
        "dual_write",
        Walk {
            command: &["phase", "advance", "--to", "shift"],
            again: &["phase", "advance", "--to", "shadow_read", "--force", "--reason", "x"],
            ..walk("refused.phase_order", "the phase after dual_write is shadow_read")
        },
    ),
    (
        "dual_write",
        Walk {
            command: &["phase", "percentage", "10"],
            again: &["phase"],
            ..walk("refused.not_shift", "`segue phase` shows the way there")
        },
    ),
    (
        "source_only",
        Walk {
            before: &[
                Source("CREATE TABLE log (line int NOT NULL)"),
                Target("CREATE TABLE log (line int NOT NULL)"),
            ],
            command: &["phase", "advance", "--force", "--reason", "x"],
            advice: &[
                Source("ALTER TABLE log ADD PRIMARY KEY (line)"),
                Target("ALTER TABLE log ADD PRIMARY KEY (line)"),
            ],
            again: &["phase", "advance"],
            ..walk("refused.capture", "public.log")
        },
    ),
];

/// What other tests provoke.
pub const ELSEWHERE: [(&str, &str); 16] = [
    (
        "refused.capture_off",
        "tests/cutover/evidence.rs::capture_that_was_off_since_the_gates_calls_the_cutover_off",
    ),
    ("refused.checkpoint", "tests/advice/refusals.rs::another_checkpoint_file_is_taken"),
    (
        "refused.differs",
        "tests/cutover/evidence.rs::a_row_that_differs_is_found_before_anything_is_held",
    ),
    (
        "refused.foreign_transaction",
        "tests/foreign_writes.rs::a_transaction_from_before_shift_is_waited_for_and_then_counted",
    ),
    (
        "refused.foreign_writes",
        "tests/foreign_writes.rs::what_other_programs_write_on_the_target_is_reconciled_back_named_and_resolved",
    ),
    (
        "refused.full_verify",
        "tests/cutover/whole.rs::tables_that_take_longer_than_the_pause_are_refused_before_anything_is_held",
    ),
    (
        "refused.identity",
        "tests/fleet/identity.rs::another_target_is_adopted_by_command_and_its_copy_begins_again",
    ),
    (
        "refused.long_transaction",
        "tests/cutover/outsiders.rs::an_open_transaction_calls_the_cutover_off",
    ),
    (
        "refused.not_a_table",
        "tests/capture.rs::tables_that_cannot_be_captured_are_refused_with_the_way_out",
    ),
    (
        "refused.not_settled",
        "tests/backfill/refusals.rs::it_waits_until_every_member_works_by_the_phase",
    ),
    ("refused.privilege", "tests/cli_init.rs::rights_that_are_missing_on_the_target_are_named"),
    (
        "refused.replication_role",
        "tests/cli_init.rs::rights_that_are_missing_on_the_target_are_named",
    ),
    ("refused.row_security", "tests/cli_init.rs::rights_that_are_missing_on_the_target_are_named"),
    (
        "refused.table_excluded",
        "tests/tables.rs::a_table_excluded_after_a_first_init_is_retired_and_comes_back",
    ),
    (
        "refused.table_migrated",
        "tests/tables.rs::a_table_that_was_dropped_is_retired_by_the_command_that_its_reason_names",
    ),
    (
        "refused.transaction_pooler",
        "tests/database/connections.rs::a_transaction_pooler_is_refused_and_a_session_pooler_is_not",
    ),
];

/// What no test provokes yet, and why.
pub const NOT_PROVOKED: [(&str, &str); 17] = [
    ("refused.busy", "two cutovers at one moment"),
    ("refused.empty_target", "a phase in which callers read the target"),
    ("refused.foreign_table", "asks for a foreign data wrapper; judged in preflight's vectors"),
    ("refused.last_phase", "the end of a migration"),
    ("refused.not_admitted", "init and each start grant it by themselves"),
    ("refused.older_writes", "writes of before the phase that the target refuses"),
    ("refused.one_way", "a target that takes what the source does not"),
    ("refused.own_command", "the phases from shift on"),
    ("refused.partition", "judged in preflight's vectors"),
    ("refused.pause", "an outbox that takes longer than a pause"),
    ("refused.prepared", "a server with max_prepared_transactions"),
    ("refused.role", "roles that own their tables"),
    ("refused.sequence", "a sequence without a number left"),
    ("refused.setup", "a right that goes while the sidecar runs"),
    ("refused.subscription", "a publisher; judged in preflight's vectors"),
    ("refused.unread", "an undecodable row under the fence"),
    ("refused.unverifiable", "a table without a comparable form under the fence"),
];

pub fn walked() -> impl Iterator<Item = &'static str> {
    let serving = SERVING.iter().map(|(_, walk)| walk.code);
    AT_REST.iter().map(|walk| walk.code).chain(serving)
}

/// Exit code of what is refused.
const REFUSED: Option<i32> = Some(4);

async fn walked_through(walk: &Walk, pair: &Pair, segue: &Segue) {
    for step in walk.before {
        take(*step, pair, segue).await;
    }
    let refused = segue.run(walk.command);
    // Gates break their lines where they would be too long.
    let told = said(&refused).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(refused.status.code(), REFUSED, "{}: {told}", walk.code);
    assert!(told.contains(walk.says), "{}: {told}", walk.code);
    for step in walk.advice {
        take(*step, pair, segue).await;
    }
    let again = segue.run(walk.again);
    assert!(again.status.success(), "{}: {}", walk.code, said(&again));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_advice_of_each_refusal_at_rest_ends_it() {
    for walk in &AT_REST {
        let pair = Pair::fresh(walk.schema, walk.schema).await;
        let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), walk.sections);
        walked_through(walk, &pair, &segue).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_advice_of_each_refusal_of_a_running_fleet_ends_it() {
    for (phase, walk) in &SERVING {
        let pair = Pair::fresh(walk.schema, walk.schema).await;
        let segue = Segue::serving(&pair, phase, walk.sections).await;
        walked_through(walk, &pair, &segue).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_checkpoint_file_is_taken() {
    let pair = Pair::fresh(TABLE, TABLE).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    take(DUAL_WRITE, &pair, &segue).await;
    let folder = tempfile::tempdir().unwrap();
    let (other, free) = (folder.path().join("other"), folder.path().join("free"));
    std::fs::write(&other, "no state of a copy").unwrap();
    let copy = |file: &std::path::Path| {
        segue.run(&["backfill", "--checkpoint-file", file.to_str().unwrap()])
    };
    let refused = copy(&other);
    assert_eq!(refused.status.code(), REFUSED, "{}", said(&refused));
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "no state of a copy");
    let taken = copy(&free);
    assert!(taken.status.success(), "{}", said(&taken));
}
