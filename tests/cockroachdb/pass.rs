//! One migration from the first command to the last, short, with every kind of statement that
//! segue sends to the target.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_postgres::error::SqlState;

use crate::fleet::{Fleet, load, said};
use crate::ledger::Ledger;
use crate::support::cockroach::{Dialect, Recorder, Rules, Sent};
use crate::support::{Database, eventually};

const CONFLICTS_END: Duration = Duration::from_secs(30);

/// Tables of which each has something that segue makes statements of: types, keys, constraints.
const KINDS: &str = "
CREATE TYPE mood AS ENUM ('low', 'fair', 'high');
CREATE TABLE kinds (
    id uuid PRIMARY KEY, t text, v varchar(40), c char(4), n numeric(12,3), b bytea, d date,
    ts timestamp(6), tz timestamptz(6), iv interval, j jsonb, a text[], i int4[], yes bool,
    f float8, m mood, ip inet, small int2,
    made text GENERATED ALWAYS AS (lower(t)) STORED
);
CREATE TABLE by_text (k text, d date, note text, PRIMARY KEY (k, d));
CREATE TABLE by_mood (m mood PRIMARY KEY, note text);
CREATE TABLE by_bytes (k bytea PRIMARY KEY, n numeric UNIQUE);
CREATE TABLE owner (id int8 PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE owned (id int8 PRIMARY KEY, owner int8 REFERENCES owner ON DELETE CASCADE,
    CHECK (id > 0));
CREATE INDEX owned_by ON owned (owner);
";
/// Coarser where CockroachDB or a careless schema makes it so.
const COARSER: [(&str, &str); 4] = [
    ("tz timestamptz(6)", "tz timestamptz(3)"),
    ("int4[]", "int8[]"),
    ("c char(4)", "c text"),
    // Labels in another order are ordered by their bytes.
    ("'low', 'fair', 'high'", "'high', 'low', 'fair'"),
];

const ROWS: &str = "
INSERT INTO account (id, version, note, body) SELECT i, 1, 'n' || i, json_build_object('n', i)
    FROM generate_series(-3000, -1) AS i;
INSERT INTO kinds SELECT gen_random_uuid(), 'T ' || i, 'v', 'c', i / 7.0, '\\xfefe', '2026-01-02',
    now(), now(), '1 day 2 hours', jsonb_build_object('x', E'y\\n'), ARRAY['p', NULL], ARRAY[1, 2],
    true, 0.1, 'fair', '10.0.0.1', 7 FROM generate_series(1, 40) AS i;
INSERT INTO by_text SELECT 'k' || i, '2026-01-02', 'x' FROM generate_series(1, 40) AS i;
INSERT INTO by_mood VALUES ('low', 'a'), ('high', 'b');
INSERT INTO by_bytes VALUES ('\\x00', 1.500), ('\\xff', 20000);
INSERT INTO owner SELECT i, 'owner ' || i FROM generate_series(1, 9) AS i;
INSERT INTO owned SELECT i, i FROM generate_series(1, 9) AS i;
";

/// One of each kind, on whichever side is the primary.
const WRITES: [&str; 12] = [
    "INSERT INTO kinds (id, t, b, j) VALUES (gen_random_uuid(), 'new', '\\x00', '[1]')",
    "UPDATE kinds SET n = coalesce(n, 0) + 1, t = t || 'x', j = '{\"a\": 1}', m = 'high', a = '{q}'",
    "DELETE FROM kinds WHERE n > 5",
    "UPDATE by_text SET note = 'y' WHERE k < 'k3'",
    "UPDATE by_text SET k = 'z' || k WHERE k = 'k9'",
    "UPDATE by_mood SET m = 'fair' WHERE m = 'low'",
    "DELETE FROM by_mood WHERE m = 'fair'",
    "UPDATE by_bytes SET n = -n",
    "INSERT INTO owner VALUES (100, 'one hundred'); INSERT INTO owned VALUES (100, 100)",
    "UPDATE owner SET name = 'taken over' WHERE id = 2",
    "DELETE FROM owner WHERE id IN (100, 3)",
    "UPDATE seat SET label = CASE id WHEN 1 THEN 'label 2x' ELSE 'label 1x' END WHERE id < 3",
];
/// Takes the writes back, as far as they cannot be made twice.
const AGAIN: &str = "DELETE FROM by_text WHERE k LIKE 'z%'; DELETE FROM by_mood; \
    INSERT INTO by_text VALUES ('k9', '2026-01-02', 'again') ON CONFLICT DO NOTHING; \
    INSERT INTO by_mood VALUES ('low', 'again')";

const SECTIONS: &str = "
[sampling]
rate = 1.0
[compare]
flush_interval = \"200ms\"
";
const BACKFILL: [&str; 6] =
    ["backfill", "--empty-target", "--chunk-rows", "500", "--accept", "column.narrower"];

/// What the pass sends; it runs once for all tests.
pub async fn sent() -> &'static [Sent] {
    static SENT: OnceCell<Vec<Sent>> = OnceCell::const_new();
    SENT.get_or_init(run).await
}

/// Those on the source and on the target, besides the fleet's own.
pub fn tables() -> (String, String) {
    let coarser = COARSER.iter().fold(KINDS.to_owned(), |sql, (from, to)| sql.replace(from, to));
    (KINDS.to_owned(), coarser)
}

async fn run() -> Vec<Sent> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let rules = Rules {
        recorder: Some(Recorder::to(file.path())),
        judge: Some(Box::new(Dialect::asked_for())),
        ..Rules::default()
    };
    let (on_source, on_target) = tables();
    let fleet = Fleet::before_stand_in((&on_source, &on_target), rules, SECTIONS).await;
    migrate(fleet).await;
    Recorder::read(file.path())
}

async fn migrate(mut fleet: Fleet) {
    fleet.pair.source.run(ROWS).await;
    // Findings that are no block are told by its exit.
    println!("{}", said(&fleet.members[0].run(&["check"])));
    fleet.members[0].succeed(&["init"]);
    fleet.members[0].succeed(&["capture", "print"]);
    fleet.members[0].succeed(&["capture", "install"]);
    fleet.members[0].serve().await;
    fleet.advance("dual_write").await;

    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(50).await;
    // Rows that are there before the chunk are met by it.
    println!("{}", fleet.members[0].succeed(&BACKFILL));
    clients.stop().await;
    println!("{}", fleet.members[0].succeed(&["verify"]));
    digits(&fleet).await;
    writes(&fleet).await;
    println!("{}", said(&fleet.members[0].run(&["outbox", "--stuck"])));
    fleet.drained().await;
    digits(&fleet).await;
    looks(&fleet);

    // A row too many, one too few, one that is another.
    let spoil = "BEGIN; SELECT set_config('segue.copies', 'on', true); \
        UPDATE account SET note = 'spoilt' WHERE id = -2000; DELETE FROM account WHERE id = -1999; \
        UPDATE kinds SET n = 77 WHERE n < 2; INSERT INTO by_text VALUES ('odd', '2026-01-02'); \
        COMMIT";
    fleet.pair.target.run(spoil).await;
    println!("{}", said(&fleet.members[0].run(&["verify"])));
    fleet.members[0].succeed(&["verify", "--repair"]);

    fleet.advance("shadow_read").await;
    let clients = load(&ledger, &fleet.addresses(), 1);
    clients.acknowledged(50).await;
    fleet.advance("shift").await;
    clients.acknowledged(50).await;
    println!("{}", said(&fleet.change(0, "cutover", &["--rehearse"])));
    fleet.changed("cutover").await;
    clients.acknowledged(50).await;
    writes(&fleet).await;
    looks(&fleet);
    println!("{}", said(&fleet.members[0].run(&["verify"])));
    fleet.changed("rollback").await;
    clients.acknowledged(20).await;
    fleet.changed("cutover").await;
    clients.stop().await;
    println!("{}", fleet.until_done(&["complete", "--yes"]).await);
    println!("{}", said(&fleet.members[0].run(&["capture", "remove"])));
}

/// On the side that is the primary, by a client that bypasses segue.
async fn writes(fleet: &Fleet) {
    let is_back = fleet.phase().await == "reversed";
    let primary = if is_back { &fleet.pair.target } else { &fleet.pair.source };
    for sql in WRITES.into_iter().chain([AGAIN]) {
        made(primary, sql).await;
    }
}

/// Numbers that are equal may be written otherwise, which no comparison by value shows.
async fn digits(fleet: &Fleet) {
    let sql = "SELECT n FROM by_bytes ORDER BY k";
    let here = fleet.pair.source.rows(sql).await;
    assert!(here[0].ends_with("1.500"), "{here:?}");
    assert_eq!(fleet.pair.target.rows(sql).await, here);
}

/// As an application of CockroachDB does it: what has met another transaction is made again.
async fn made(primary: &Database, sql: &str) {
    let client = primary.client().await;
    eventually(sql, CONFLICTS_END, || async {
        match client.batch_execute(sql).await {
            Ok(()) => Some(()),
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => None,
            Err(error) => panic!("{sql}: {error:?}"),
        }
    })
    .await;
}

/// What an operator asks for.
fn looks(fleet: &Fleet) {
    for command in ["status", "phase", "history", "mismatches", "outbox", "check"] {
        let _ = said(&fleet.members[0].run(&[command]));
    }
    let member = &fleet.members[0];
    let _ = said(&member.run(&["operation", "list"]));
    let nobody = uuid::Uuid::nil().to_string();
    let _ = said(&member.run(&["operation", "cancel", &nobody]));
}
