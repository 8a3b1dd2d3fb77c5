//! Segue's own locks on the primary are never what ends a statement of the application.

use std::time::Duration;

use segue::ports::reconcile::OutboxWork;

use crate::support::eventually;
use crate::world::{self, Way, drain, waiting};

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_that_meets_a_reconcile_is_not_the_victim_of_the_deadlock() {
    let pair = world::pair().await;
    pair.source.run("INSERT INTO app.parent VALUES (1, 'a')").await;
    pair.source.run("INSERT INTO app.item (id, parent_id, code) VALUES (1, 1, 'c')").await;
    // As `TRUNCATE item, parent` does, one lock after the other; it looks for a deadlock
    // before the reconcile would.
    let application = pair.source.client().await;
    application
        .batch_execute(
            "SET deadlock_timeout = '600ms'; BEGIN; LOCK app.item IN ACCESS EXCLUSIVE MODE",
        )
        .await
        .unwrap();
    let worker = Way::forth(&pair).worker();
    let working = tokio::spawn(async move {
        let done = worker.work().await;
        (worker, done)
    });
    let observer = pair.source.client().await;
    eventually("the reconcile waits for the item", Duration::from_secs(20), || async {
        let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted
            AND relation = 'app.item'::regclass AND mode = 'AccessShareLock'";
        (observer.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
    })
    .await;
    application.batch_execute("LOCK app.parent IN ACCESS EXCLUSIVE MODE; COMMIT").await.unwrap();
    let (worker, _) = working.await.unwrap();
    pair.source
        .run("UPDATE segue.outbox SET next_attempt_at = now() WHERE forgotten_at IS NULL")
        .await;
    drain(&worker).await;
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    world::assert_equal(&pair).await;
}
