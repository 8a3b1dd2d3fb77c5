//! The ring, the window, the size.

use std::time::Duration;

use segue::domain::key::OutboxMark;
use segue::domain::side::Side;
use segue::domain::table::TableRef;
use segue::ports::PendingKeys;
use segue::ports::reconcile::{OutboxSize, Upkeep};
use segue::postgres::outbox::servers::Servers;
use segue::postgres::outbox::upkeep::{OutboxUpkeep, UpkeepParams};

use crate::support::{Major, Options, Server};
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

#[tokio::test]
async fn past_its_limit_the_copy_is_given_up_and_writers_go_on() {
    let pair = world::pair().await;
    pair.source.run("UPDATE segue.control SET phase = 'dual_write'").await;
    pair.source
        .run("INSERT INTO app.parent SELECT n, 'p' || n FROM generate_series(1, 2000) AS n")
        .await;
    let outbox = Way::forth(&pair).outbox();
    let upkeep = OutboxUpkeep::new(outbox.clone(), UpkeepParams { bytes_max: 10_000, ..params() });
    let size = upkeep.check_size().await.unwrap();
    assert!(matches!(size, OutboxSize::GivenUp { bytes } if bytes > 10_000), "{size:?}");
    let control = pair.source.rows("SELECT phase, epoch, reason FROM segue.control").await;
    assert!(control[0].starts_with("source_only|2|the outbox has"), "{control:?}");
    pair.source.run("INSERT INTO app.parent VALUES (0, 'after')").await;
    let status = outbox.status().await.unwrap();
    assert_eq!(status.pending, 0);
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
    assert!(matches!(size, OutboxSize::Within { bytes } if bytes < 1_000_000), "{size:?}");
    assert_eq!(pair.source.rows("SELECT phase FROM segue.control").await, ["dual_write"]);
}

#[tokio::test]
async fn a_server_that_was_restarted_recalls_the_window_once() {
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
    target.stop_fast();
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
    // Another timeline: what the lost transactions wrote is named by no key.
    pair.target.run("INSERT INTO moved.parent VALUES (3, 'of a lost transaction')").await;
    pair.source.run("UPDATE segue.server_seen SET timeline = 'old' WHERE side = 'source'").await;
    assert_eq!(servers().check().await.unwrap(), 2 + 3);
    drain(&Way::forth(&pair).worker()).await;
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    world::assert_equal(&pair).await;
}
