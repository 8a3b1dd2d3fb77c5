//! What operators' commands refuse.

use crate::Step::{
    Configure, ConfigureMore, Drained, Phase, Segue as Run, Settled, Source, Target,
};
use crate::support::{Pair, Segue};
use crate::{Step, primary, said, take};

/// A command that is refused, and what the runbook advises.
pub struct Walk {
    /// The code, as the runbook has it.
    pub code: &'static str,
    /// More of the configuration.
    pub sections: &'static str,
    /// What both sides have.
    pub schema: &'static str,
    pub before: &'static [Step],
    pub command: &'static [&'static str],
    /// The exit code.
    pub exits: i32,
    /// What the refusal says.
    pub says: &'static str,
    pub advice: &'static [Step],
    /// What is done now, and must succeed.
    pub again: &'static [&'static str],
}

pub const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
pub const INIT: &[&str] = &["init"];
const ADVANCE: &[&str] = &["phase", "advance"];
const DUAL_WRITE: Step = Phase("dual_write");

pub const fn walk(code: &'static str, says: &'static str) -> Walk {
    Walk {
        code,
        sections: "",
        schema: TABLE,
        before: &[],
        command: ADVANCE,
        exits: REFUSED,
        says,
        advice: &[],
        again: ADVANCE,
    }
}

/// Before the sidecar runs.
const AT_REST: [Walk; 10] = [
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
    Walk {
        sections: "[[tables.map]]\nsource = \"public.part\"",
        schema: "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
            CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10)",
        command: INIT,
        advice: &[Configure("public.part", "public.parts")],
        again: INIT,
        ..walk("refused.partition", "map the partitioned table")
    },
    Walk {
        sections: "[[tables.map]]\nsource = \"public.seen\"",
        schema: "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE VIEW seen AS SELECT * FROM t",
        command: INIT,
        advice: &[Configure("public.seen", "public.t")],
        again: INIT,
        ..walk("refused.not_a_table", "map the tables under it")
    },
];

/// While it runs.
const SERVING: [(&str, Walk); 16] = [
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
    (
        "source_only",
        Walk {
            before: &[Source(
                "CREATE EXTENSION postgres_fdw;
                 CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
                 CREATE FOREIGN TABLE away (id int) SERVER elsewhere",
            )],
            advice: &[ConfigureMore("[tables]\nexclude = [\"public.away\"]")],
            ..walk("refused.foreign_table", "public.away is a foreign table")
        },
    ),
    (
        "shadow_read",
        Walk {
            before: &[SHIFT, Settled],
            command: &["backfill", "--empty-target"],
            advice: &[Run(&["phase", "back", "--reason", "x"])],
            again: &["backfill", "--empty-target"],
            ..walk("refused.empty_target", "`segue phase back`")
        },
    ),
    (
        "shadow_read",
        Walk {
            sections: "[outbox]\nstuck_after = 1\nbackoff_min = \"1h\"\nbackoff_max = \"1h\"\n",
            before: &[
                Target("ALTER TABLE t ADD CONSTRAINT short CHECK (v <> 'a')"),
                Source("INSERT INTO t VALUES (1, 'a')"),
                SHIFT,
                Settled,
            ],
            command: &["phase", "percentage", "10"],
            advice: &[Target("ALTER TABLE t DROP CONSTRAINT short"), Drained],
            again: &["phase", "percentage", "10"],
            ..walk("refused.older_writes", "`segue outbox`")
        },
    ),
];

/// The step that begins to shift reads.
const SHIFT: Step = Run(&["phase", "advance", "--to", "shift", "--force", "--reason", "x"]);

/// What other tests provoke.
pub const ELSEWHERE: [(&str, &str); 21] = [
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
        "refused.not_admitted",
        "tests/roles/privileges.rs::a_right_that_init_grants_and_somebody_took_is_granted_by_it_again",
    ),
    (
        "refused.not_settled",
        "tests/backfill/refusals.rs::a_session_that_writes_under_an_older_epoch_is_waited_for_and_then_refused",
    ),
    ("refused.busy", "tests/advice/primary.rs::a_second_cutover_is_made_when_the_first_has_ended"),
    ("refused.privilege", "tests/advice/servers.rs::rights_that_are_missing_are_what_is_printed"),
    (
        "refused.replication_role",
        "tests/advice/servers.rs::rights_that_are_missing_are_what_is_printed",
    ),
    (
        "refused.row_security",
        "tests/advice/servers.rs::rights_that_are_missing_are_what_is_printed",
    ),
    ("refused.setup", "tests/advice/servers.rs::rights_that_are_missing_are_what_is_printed"),
    (
        "refused.subscription",
        "tests/advice/servers.rs::a_table_that_a_publisher_fills_is_migrated_when_that_has_ended",
    ),
    (
        "refused.unread",
        "tests/advice/servers.rs::a_row_that_cannot_be_read_is_mended_and_the_cutover_made",
    ),
    (
        "refused.unverifiable",
        "tests/advice/primary.rs::a_table_that_becomes_unfit_within_a_cutover_is_mended_and_it_is_made",
    ),
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

pub fn walked() -> impl Iterator<Item = &'static str> {
    let serving = SERVING.iter().map(|(_, walk)| walk.code);
    AT_REST.iter().map(|walk| walk.code).chain(serving).chain(primary::walked())
}

/// Exit code of what is refused.
pub const REFUSED: i32 = 4;

pub async fn walked_through(walk: &Walk, pair: &Pair, segue: &mut Segue) {
    for step in walk.before {
        take(*step, pair, segue).await;
    }
    let refused = segue.run(walk.command);
    // Gates break their lines where they would be too long.
    let told = said(&refused).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(refused.status.code(), Some(walk.exits), "{}: {told}", walk.code);
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
        let mut segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), walk.sections);
        walked_through(walk, &pair, &mut segue).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_advice_of_each_refusal_of_a_running_fleet_ends_it() {
    for (phase, walk) in &SERVING {
        let pair = Pair::fresh(walk.schema, walk.schema).await;
        let mut segue = Segue::serving(&pair, phase, walk.sections).await;
        walked_through(walk, &pair, &mut segue).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_checkpoint_file_is_taken() {
    let pair = Pair::fresh(TABLE, TABLE).await;
    let mut segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    take(DUAL_WRITE, &pair, &mut segue).await;
    let folder = tempfile::tempdir().unwrap();
    let (other, free) = (folder.path().join("other"), folder.path().join("free"));
    std::fs::write(&other, "no state of a copy").unwrap();
    let copy = |file: &std::path::Path| {
        segue.run(&["backfill", "--checkpoint-file", file.to_str().unwrap()])
    };
    let refused = copy(&other);
    assert_eq!(refused.status.code(), Some(REFUSED), "{}", said(&refused));
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "no state of a copy");
    let taken = copy(&free);
    assert!(taken.status.success(), "{}", said(&taken));
}
