//! A shadow that loses a commit between that commit and the forgetting of its keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use segue::domain::side::Side;
use segue::failpoint::{FailPoint, FailPoints};
use segue::ports::reconcile::OutboxWork;
use segue::postgres::outbox::servers::Servers;

use crate::support::{Database, connect};
use crate::world::{self, Way, drain, waiting};

/// Runs SQL from where no future can be awaited.
fn at_once(database: &Database, sql: &'static str) {
    let dsn = database.dsn().to_owned();
    let run = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { connect(&dsn).await.batch_execute(sql).await.unwrap() });
    });
    run.join().unwrap();
}

/// The trace that the model found: the shadow commits, fails over to a server without that
/// commit, the window is recalled, and only then the batch wants to forget its rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_recall_between_the_shadows_commit_and_the_forgetting_loses_nothing() {
    let pair = Arc::new(world::pair().await);
    let servers = Servers::new(
        world::pool(Side::Source, pair.source.dsn(), 4),
        world::pool(Side::Target, pair.target.dsn(), 4),
    );
    servers.check().await.unwrap();
    pair.source.run("INSERT INTO app.parent VALUES (1, 'a')").await;

    let (once, failing) = (AtomicBool::new(true), Arc::clone(&pair));
    let failpoints = FailPoints::losing_where(move |place| {
        if place == FailPoint::AfterShadowCommit && once.swap(false, Ordering::SeqCst) {
            at_once(&failing.target, "DELETE FROM moved.parent");
            // As `Servers::check` leaves it: the row is not forgotten yet, and so not recalled.
            at_once(
                &failing.source,
                "UPDATE segue.outbox SET forgotten_at = NULL WHERE forgotten_at IS NOT NULL;
                 UPDATE segue.server_seen SET incarnation = 'another' WHERE side = 'target'",
            );
        }
        false
    });
    let params = segue::postgres::reconcile::Params { failpoints, ..world::params() };
    let worker = Way::forth(&pair).worker_with(params, world::batch());
    let done = worker.work().await.unwrap();
    assert_eq!((done.reconciled, done.more), (0, true), "{done:?}");
    assert_eq!(waiting(&pair.source).await.len(), 1, "the row was forgotten");
    drain(&worker).await;
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    world::assert_equal(&pair).await;
}

/// What was written and forgotten long ago is due again, and waits since then: its old age would take
/// all reads off the target.
#[tokio::test]
async fn a_key_that_is_recalled_has_the_age_of_its_recall() {
    use segue::postgres::outbox::Outbox;

    let pair = world::pair().await;
    let pool = |side, dsn| world::pool(side, dsn, 4);
    let servers =
        Servers::new(pool(Side::Source, pair.source.dsn()), pool(Side::Target, pair.target.dsn()));
    servers.check().await.unwrap();
    let worker = Way::forth(&pair).worker();
    let outbox = Outbox::new(pool(Side::Source, pair.source.dsn()));
    for restart in 0..3 {
        pair.source
            .run(&format!("INSERT INTO app.parent VALUES ({restart}, 'parent {restart}')"))
            .await;
        drain(&worker).await;
        pair.source
            .run(&format!(
                "UPDATE segue.outbox SET created_at = created_at - interval '40 minutes'; \
                 UPDATE segue.server_seen SET incarnation = 'another {restart}' WHERE side = 'source'"
            ))
            .await;
        assert!(servers.check().await.unwrap() > 0, "restart {restart}: nothing was recalled");
        let status = outbox.status().await.unwrap();
        assert!(status.pending > 0);
        assert!(status.oldest_age_s < 60.0, "restart {restart}: {}", status.oldest_age_s);
    }
    drain(&worker).await;
    world::assert_equal(&pair).await;
}
