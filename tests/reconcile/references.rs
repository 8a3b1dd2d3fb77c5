//! Foreign keys that stay active on the shadow: a parent that cannot go before its children have.

use segue::postgres::reconcile::Params;
use segue::postgres::reconcile::session::ForeignKeys;

use crate::support::Pair;
use crate::world::{self, Way, batch, drain, waiting};

const CHILDREN: u32 = 10;
const LATER: &str = "UPDATE segue.outbox SET next_attempt_at = now() + '1 hour'::interval \
    WHERE forgotten_at IS NULL AND table_id = (SELECT table_id FROM segue.migrated_table \
        WHERE source_name = 'item')";
const NOW: &str = "UPDATE segue.outbox SET next_attempt_at = now() WHERE forgotten_at IS NULL";

/// A parent and its children are gone on the source; only the parent's key is due.
async fn parent_before_its_children(params: &Params) -> (Pair, Way) {
    let pair = world::pair().await;
    let way = Way::forth(&pair);
    pair.source.run("INSERT INTO app.parent VALUES (1, 'a')").await;
    let children = format!(
        "INSERT INTO app.item (id, parent_id, code) \
         SELECT n, 1, n::text FROM generate_series(1, {CHILDREN}) AS n"
    );
    pair.source.run(&children).await;
    drain(&way.worker_with(params.clone(), batch())).await;
    world::assert_equal(&pair).await;
    pair.source.run("DELETE FROM app.item; DELETE FROM app.parent").await;
    pair.source.run(LATER).await;
    (pair, way)
}

async fn stuck_until_the_children_are_done(params: Params, reason: &str) {
    let (pair, way) = parent_before_its_children(&params).await;
    let worker = way.worker_with(params, batch());
    drain(&worker).await;
    let left = waiting(&pair.source).await;
    assert!(left.iter().any(|row| row.contains(reason)), "{left:?}");
    // The children's own keys come to their turn.
    pair.source.run(NOW).await;
    drain(&worker).await;
    pair.source.run(NOW).await;
    drain(&worker).await;
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    world::assert_equal(&pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_with_more_children_than_a_set_may_have_is_stuck_until_they_are_done() {
    let active = ForeignKeys::Active;
    let params = Params { foreign_keys: active, set_max: 4, ..world::params() };
    stuck_until_the_children_are_done(params, "keys stand in its way").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_whose_children_keep_coming_is_stuck_until_they_are_done() {
    let active = ForeignKeys::Active;
    let params = Params { foreign_keys: active, attempts_max: 1, ..world::params() };
    stuck_until_the_children_are_done(params, "rows that refer to it keep changing").await;
}
