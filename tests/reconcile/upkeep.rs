//! The ring, the window, the size.

use std::sync::Arc;
use std::time::Duration;

use segue::domain::control::{ControlState, Phase};
use segue::domain::key::{OutboxMark, WriteId};
use segue::domain::side::{Side, Sides};
use segue::domain::table::TableRef;
use segue::ports::reconcile::{OutboxWork, Upkeep};
use segue::ports::settled::OutboxLookup;
use segue::ports::{ControlView, PendingKeys};
use segue::postgres::outbox::lookup::Lookup;
use segue::postgres::outbox::servers::Servers;
use segue::postgres::outbox::upkeep::{OutboxUpkeep, UpkeepParams};
use segue::postgres::reconcile::batch::BatchParams;

use crate::support::{Major, Options, Pair, Server};
use crate::world::{self, Way, drain, waiting};

fn params() -> UpkeepParams {
    UpkeepParams {
        window: Duration::from_secs(3600),
        lock_wait: Duration::from_millis(200),
        bytes_max: 1 << 30,
        idempotency_kept: Duration::from_secs(24 * 3600),
        rows_max: 10_000,
    }
}

#[tokio::test]
async fn only_parts_that_are_wholly_forgotten_and_old_are_emptied() {
    let pair = world::pair().await;
    let (old, young) = ("now() - '3 hours'::interval", "now()");
    let now = pair.source.rows("SELECT floor(extract(epoch FROM now()) / 600)::int8 % 12").await;
    let now: i16 = now[0].parse().unwrap();
    let slot = |ahead: i16| (now + ahead) % 12;
    for (ahead, forgotten) in [(3, old), (4, "NULL"), (5, young), (6, old), (0, old)] {
        pair.source
            .run(&format!(
                "INSERT INTO segue.outbox (slot, table_id, key, forgotten_at) \
                 VALUES ({}, 1, '{{1}}', {forgotten})",
                slot(ahead)
            ))
            .await;
    }
    pair.source
        .run(&format!(
            "INSERT INTO segue.outbox (slot, table_id, key) VALUES ({}, 1, '{{2}}')",
            slot(6)
        ))
        .await;
    let upkeep = OutboxUpkeep::new(Way::forth(&pair).outbox(), params());
    assert_eq!(upkeep.truncate_ring().await.unwrap(), 1);
    let left =
        pair.source.rows("SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL").await;
    assert_eq!(left, ["2"], "no row that waits may ever go");
    // A writer's open transaction holds its part: it is left for another time, and soon.
    pair.source
        .run(&format!("INSERT INTO segue.outbox (slot, table_id, key, forgotten_at) VALUES ({}, 1, '{{1}}', {old})", slot(3)))
        .await;
    let writer = pair.source.client().await;
    writer
        .batch_execute(&format!(
            "BEGIN; INSERT INTO segue.outbox (slot, table_id, key) VALUES ({}, 1, '{{9}}')",
            slot(3)
        ))
        .await
        .unwrap();
    assert_eq!(upkeep.truncate_ring().await.unwrap(), 0);
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(upkeep.truncate_ring().await.unwrap(), 0);
}

const LIMIT: u64 = 1 << 20;

/// Ten times the limit, done in the part of now, where keys wait as well.
#[tokio::test]
async fn what_is_done_goes_at_once_under_pressure_and_ends_nothing() {
    let pair = world::pair().await;
    pair.source.run("UPDATE segue.control SET phase = 'dual_write'").await;
    let now = "(floor(extract(epoch FROM now()) / 600)::int8 % 12)";
    pair.source
        .run(&format!(
            "INSERT INTO segue.outbox (slot, table_id, key, forgotten_at) \
             SELECT {now}, 1, ARRAY[n::text], now() FROM generate_series(1, 100000) AS n"
        ))
        .await;
    pair.source
        .run("INSERT INTO app.parent SELECT n, 'p' || n FROM generate_series(1, 10) AS n")
        .await;
    let outbox = Way::forth(&pair).outbox();
    let before = outbox.status().await.unwrap();
    assert!(before.bytes > 10 * LIMIT, "{before:?}");
    assert!(before.pending_bytes < LIMIT / 100, "{before:?}");
    let upkeep = OutboxUpkeep::new(outbox.clone(), UpkeepParams { bytes_max: LIMIT, ..params() });
    let size = upkeep.check_size().await.unwrap();
    assert!(size.window_shrunk && size.folded == 0, "{size:?}");
    let left = pair.source.rows("SELECT count(*), count(forgotten_at) FROM segue.outbox").await;
    assert_eq!(left, ["10|0"]);
    let noted = "SELECT removed_until > now() - '1 minute'::interval FROM segue.outbox_state";
    assert_eq!(pair.source.rows(noted).await, ["t"]);
    let control = pair.source.rows("SELECT phase, epoch FROM segue.control").await;
    assert_eq!(control, ["dual_write|1"]);
    // While it is over its limit, a row that is forgotten has no second version.
    drain(&Way::forth(&pair).worker_on(outbox.clone())).await;
    let left = pair.source.rows("SELECT count(*) FROM segue.outbox").await;
    assert_eq!(left, ["0"]);
    world::assert_equal(&pair).await;
    // Within its limit again, the window is kept again.
    pair.source.run("TRUNCATE segue.outbox").await;
    assert!(!upkeep.check_size().await.unwrap().window_shrunk);
    pair.source.run("UPDATE app.parent SET name = 'new' WHERE id = 1").await;
    drain(&Way::forth(&pair).worker_on(outbox)).await;
    let left = pair.source.rows("SELECT count(forgotten_at) FROM segue.outbox").await;
    assert_eq!(left, ["1"]);
}

/// What a chunk of the backfill asks for stays, unless it alone is far too much.
#[tokio::test]
async fn what_a_chunk_asks_for_goes_last_and_is_noted() {
    let pair = world::pair().await;
    let now = "(floor(extract(epoch FROM now()) / 600)::int8 % 12)";
    let done = |rows: u32| {
        format!(
            "INSERT INTO segue.outbox (slot, table_id, key, forgotten_at) \
             SELECT {now}, 1, ARRAY[n::text], now() FROM generate_series(1, {rows}) AS n"
        )
    };
    pair.source.run(&done(12_000)).await;
    let hold = "INSERT INTO segue.outbox_hold VALUES (gen_random_uuid(), \
        now() - '1 hour'::interval, now() + '1 hour'::interval)";
    pair.source.run(hold).await;
    let outbox = Way::forth(&pair).outbox();
    let upkeep = OutboxUpkeep::new(outbox, UpkeepParams { bytes_max: LIMIT, ..params() });
    let size = upkeep.check_size().await.unwrap();
    assert!(size.bytes > LIMIT && size.bytes < 2 * LIMIT, "{size:?}");
    let left = "SELECT count(*) FROM segue.outbox";
    assert_eq!(pair.source.rows(left).await, ["12000"]);
    pair.source.run(&done(12_000)).await;
    upkeep.check_size().await.unwrap();
    assert_eq!(pair.source.rows(left).await, ["0"]);
    let noted = "SELECT removed_until IS NOT NULL FROM segue.outbox_state";
    assert_eq!(pair.source.rows(noted).await, ["t"]);
}

async fn folded(pair: &Pair) -> Vec<String> {
    let sql = "SELECT table_id, keys FROM segue.pending_table ORDER BY 1";
    pair.source.rows(sql).await
}

struct DualWrite;

impl ControlView for DualWrite {
    fn current(&self) -> ControlState {
        ControlState { epoch: 1, phase: Phase::DualWrite }
    }
}

fn lookup(pair: &Pair) -> Lookup {
    let pools = Sides {
        source: world::pool(Side::Source, pair.source.dsn(), 1),
        target: world::pool(Side::Target, pair.target.dsn(), 1),
    };
    Lookup::new(pools, Arc::new(DualWrite))
}

/// Whether a write that the outbox has no row of counts as waiting.
async fn a_settled_write_waits(pair: &Pair) -> bool {
    !lookup(pair).waiting(&[WriteId(7)]).await.unwrap().writes.is_empty()
}

/// The target is away, and one table passes the limit: it is pending as ranges, the other key by
/// key. When the target is well, everything is equal, rows that were deleted included.
#[tokio::test]
async fn keys_past_the_limit_are_folded_into_their_table_and_all_is_equal_in_the_end() {
    let pair = world::pair().await;
    pair.source.run("UPDATE segue.control SET phase = 'dual_write'").await;
    let way = Way::forth(&pair);
    pair.source
        .run("INSERT INTO app.parent SELECT n, 'p' || n FROM generate_series(1, 3000) AS n")
        .await;
    drain(&way.worker()).await;
    pair.source
        .run(
            "UPDATE app.parent SET name = 'new ' || id WHERE id <= 2000; \
             DELETE FROM app.parent WHERE id > 2500; \
             INSERT INTO app.parent SELECT n, 'q' || n FROM generate_series(5001, 25000) AS n; \
             INSERT INTO app.pair (a, b, v) VALUES ('a', gen_random_uuid(), 1), ('b', gen_random_uuid(), 2)",
        )
        .await;
    let outbox = way.outbox();
    let upkeep = OutboxUpkeep::new(outbox.clone(), UpkeepParams { bytes_max: LIMIT, ..params() });
    let before = outbox.status().await.unwrap();
    assert!(before.pending_bytes > LIMIT, "{before:?}");
    let size = upkeep.check_size().await.unwrap();
    assert_eq!(size.folded, 22_500);
    assert!(size.pending_bytes < LIMIT / 100, "{size:?}");
    let parent = pair
        .source
        .rows(
            "SELECT table_id FROM segue.migrated_table \
        WHERE source_name = 'parent'",
        )
        .await[0]
        .clone();
    assert_eq!(folded(&pair).await, [format!("{parent}|22500")]);
    let status = outbox.status().await.unwrap();
    assert_eq!(status.folded[0].table, "app.parent");
    assert!(status.oldest_age_s >= before.oldest_age_s, "the age of what waits is kept");
    // Whoever waits for one of these writes waits on: nobody can tell that it is there.
    assert!(a_settled_write_waits(&pair).await);
    let control = pair.source.rows("SELECT phase, epoch FROM segue.control").await;
    assert_eq!(control, ["dual_write|1"]);
    let told = pair.source.rows("SELECT kind, left(reason, 42) FROM segue.history").await;
    assert_eq!(told, ["outbox|app.parent is pending as ranges of its key"]);
    // Capture stands, and the other table is followed key by key.
    pair.source.run("UPDATE app.parent SET name = 'newer' WHERE id = 1").await;
    assert!(
        waiting(&pair.source).await.iter().any(|row| row.starts_with(&format!("{parent}|{{1}}")))
    );
    drain(&way.worker()).await;
    world::assert_equal(&pair).await;
    assert_eq!(waiting(&pair.source).await, [""; 0]);
    assert_eq!(folded(&pair).await, [""; 0]);
    assert!(!a_settled_write_waits(&pair).await);
    assert_eq!(outbox.status().await.unwrap().folded, []);
}

/// A pass through the table is under way, in several turns, when more keys are folded: it does not
/// forget what stands for them.
#[tokio::test]
async fn keys_folded_during_a_pass_have_a_pass_of_their_own() {
    let pair = world::pair().await;
    let way = Way::forth(&pair);
    pair.source
        .run("INSERT INTO app.parent SELECT n, 'p' || n FROM generate_series(1, 20000) AS n")
        .await;
    let outbox = way.outbox();
    let upkeep = OutboxUpkeep::new(outbox.clone(), UpkeepParams { bytes_max: LIMIT, ..params() });
    assert_eq!(upkeep.check_size().await.unwrap().folded, 20_000);
    // Each turn is one page.
    let batch = BatchParams { whole_table_max: Duration::ZERO, ..world::batch() };
    let worker = way.worker_with(world::params(), batch);
    for _ in 0..4 {
        worker.work().await.unwrap();
    }
    let seen = "SELECT keys_seen BETWEEN 1 AND 19999 FROM segue.pending_table";
    assert_eq!(pair.source.rows(seen).await, ["t"]);
    // Rows that the pass has behind it change, and what says so is folded.
    pair.source.run("UPDATE app.parent SET name = 'new ' || id").await;
    assert_eq!(upkeep.check_size().await.unwrap().folded, 20_000);
    pair.source.run("UPDATE app.parent SET name = 'newer ' || id").await;
    assert_eq!(upkeep.check_size().await.unwrap().folded, 20_000);
    let rows = "SELECT max(n) FROM (SELECT count(*) AS n FROM segue.outbox \
        WHERE key IS NULL AND forgotten_at IS NULL GROUP BY write_id) AS of_each";
    let rows: u32 = pair.source.rows(rows).await[0].parse().unwrap();
    assert!(rows <= 3, "{rows} rows stand for one range");
    drain(&worker).await;
    world::assert_equal(&pair).await;
    assert_eq!(folded(&pair).await, [""; 0]);
}

/// Keys that a member has claimed are not folded, and it forgets only them.
#[tokio::test]
async fn a_key_that_is_claimed_is_left_to_its_claim() {
    let pair = world::pair().await;
    let way = Way::forth(&pair);
    pair.source
        .run("INSERT INTO app.parent SELECT n, 'p' || n FROM generate_series(1, 20000) AS n")
        .await;
    let claim = pair.source.client().await;
    claim
        .batch_execute("BEGIN; SELECT 1 FROM segue.outbox WHERE key = '{7}' FOR UPDATE")
        .await
        .unwrap();
    let upkeep = OutboxUpkeep::new(way.outbox(), UpkeepParams { bytes_max: LIMIT, ..params() });
    assert_eq!(upkeep.check_size().await.unwrap().folded, 19_999);
    claim.batch_execute("ROLLBACK").await.unwrap();
    let left = "SELECT count(*), min(key) FROM segue.outbox \
        WHERE forgotten_at IS NULL AND key IS NOT NULL";
    assert_eq!(pair.source.rows(left).await, ["1|{7}"]);
    drain(&way.worker()).await;
    world::assert_equal(&pair).await;
}

/// Keys that fail are folded last: their reasons are worth more than their space.
#[tokio::test]
async fn keys_with_a_reason_are_kept_while_others_make_room() {
    let pair = world::pair().await;
    let way = Way::forth(&pair);
    pair.source
        .run(
            "INSERT INTO app.parent SELECT n, 'p' || n FROM generate_series(1, 20000) AS n; \
             UPDATE segue.outbox SET attempts = 3, last_error = 'why' WHERE key = '{7}'",
        )
        .await;
    let upkeep = OutboxUpkeep::new(way.outbox(), UpkeepParams { bytes_max: LIMIT, ..params() });
    assert_eq!(upkeep.check_size().await.unwrap().folded, 19_999);
    assert!(waiting(&pair.source).await.iter().any(|row| row.ends_with("|{7}|3|why")));
}

#[tokio::test]
async fn the_comparer_learns_what_is_pending_for_its_tables() {
    let pair = world::pair().await;
    let outbox = Way::forth(&pair).outbox();
    let before = outbox.mark().await.unwrap();
    pair.source.run("INSERT INTO app.parent VALUES (1, 'a')").await;
    let after = outbox.mark().await.unwrap();
    assert!(OutboxMark(before.0 + 60_000_000) > after && after > before);
    let table = |schema: Option<&str>, name: &str| {
        vec![TableRef { schema: schema.map(str::to_owned), name: name.to_owned() }]
    };
    assert!(outbox.pending(&table(None, "parent"), after).await.unwrap());
    assert!(outbox.pending(&table(Some("app"), "parent"), after).await.unwrap());
    assert!(!outbox.pending(&table(None, "parent"), before).await.unwrap());
    assert!(!outbox.pending(&table(None, "item"), after).await.unwrap());
    assert!(outbox.pending(&table(None, "some_view"), after).await.unwrap());
    assert!(!outbox.pending(&[], after).await.unwrap());
}

#[tokio::test]
async fn a_full_outbox_of_what_is_done_is_thinned_and_the_copy_is_kept() {
    let pair = world::pair().await;
    pair.source.run("UPDATE segue.control SET phase = 'dual_write'").await;
    let now = pair.source.rows("SELECT floor(extract(epoch FROM now()) / 600)::int8 % 12").await;
    let now: i16 = now[0].parse().unwrap();
    pair.source
        .run(&format!(
            "INSERT INTO segue.outbox (slot, table_id, key, forgotten_at) \
             SELECT {}, 1, '{{1}}', now() FROM generate_series(1, 20000)",
            (now + 5) % 12
        ))
        .await;
    let outbox = Way::forth(&pair).outbox();
    let upkeep = OutboxUpkeep::new(outbox, UpkeepParams { bytes_max: 1_000_000, ..params() });
    let size = upkeep.check_size().await.unwrap();
    assert!(size.bytes < 1_000_000 && size.folded == 0, "{size:?}");
    assert_eq!(pair.source.rows("SELECT phase FROM segue.control").await, ["dual_write"]);
}

#[tokio::test]
async fn a_server_that_crashed_recalls_the_window_once() {
    let source = Server::start(Major::V15, &Options::default());
    let target = Server::start(Major::V18, &Options::default());
    let pair = world::pair_within(&source, &target).await;
    pair.source.run("INSERT INTO app.parent VALUES (1, 'a'), (2, 'b')").await;
    let worker = Way::forth(&pair).worker();
    drain(&worker).await;
    let servers = || {
        Servers::new(
            world::pool(Side::Source, pair.source.dsn(), 4),
            world::pool(Side::Target, pair.target.dsn(), 4),
        )
    };
    assert_eq!(servers().check().await.unwrap(), 0, "the first look only notes");
    assert_eq!(servers().check().await.unwrap(), 0);
    // A standby that lacked the last commit took the target's place.
    pair.target.run("DELETE FROM moved.parent WHERE id = 2").await;
    target.stop_immediate();
    assert_eq!(servers().check().await.unwrap(), 0, "a target that is away is no fault");
    target.restart();
    assert_eq!(servers().check().await.unwrap(), 2);
    assert_eq!(servers().check().await.unwrap(), 0, "once");
    assert_eq!(waiting(&pair.source).await.len(), 2);
    drain(&worker).await;
    world::assert_equal(&pair).await;
    source.restart();
    assert_eq!(servers().check().await.unwrap(), 2);
    drain(&Way::forth(&pair).worker()).await;
    // What was shut down in order has lost nothing, on either side.
    for server in [&source, &target] {
        server.stop_fast();
        server.restart();
        assert_eq!(servers().check().await.unwrap(), 0);
    }
    // Another timeline: what the lost transactions wrote is named by no key.
    pair.target.run("INSERT INTO moved.parent VALUES (3, 'of a lost transaction')").await;
    pair.source.run("UPDATE segue.server_seen SET timeline = 'old' WHERE side = 'source'").await;
    assert_eq!(servers().check().await.unwrap(), 2 + 3);
    drain(&Way::forth(&pair).worker()).await;
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    world::assert_equal(&pair).await;
}

/// What a token stands for that names no writes any more.
#[tokio::test]
async fn a_moment_is_after_all_that_waits_whatever_the_clock_was_set_to() {
    let pair = world::pair().await;
    let lookup = lookup(&pair);
    let before = lookup.oldest().await.unwrap();
    assert_eq!(before.since, None, "nothing waits");
    // Written before the clock was set back by an hour.
    pair.source
        .run(
            "INSERT INTO segue.outbox (slot, table_id, key, created_at) VALUES \
            (1, 1, '{1}', now() + '1 hour'), (1, 1, '{2}', now())",
        )
        .await;
    let waits = lookup.oldest().await.unwrap();
    assert!(waits.since.is_some_and(|since| before.now < since && since < waits.now), "{waits:?}");
    pair.source.run("DELETE FROM segue.outbox WHERE key = '{2}'").await;
    let late = lookup.oldest().await.unwrap();
    assert!(late.since.is_some_and(|since| since <= late.now), "{late:?}");
    // A table that is pending as a whole says no longer since when.
    pair.source
        .run("INSERT INTO segue.pending_table (table_id, keys, since, reason) VALUES (1, 1, now(), 'x')")
        .await;
    assert!(lookup.oldest().await.unwrap().since.is_some_and(|since| since < before.now));
}
