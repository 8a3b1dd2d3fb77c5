//! What the shadow answers with "the same again" is done again, within the batch.

use segue::ports::reconcile::OutboxWork;
use segue::postgres::reconcile::Params;

use crate::support::Pair;
use crate::world::{self, Way, assert_equal, drain, waiting};

/// The shadow raises `state` at the first `times` rows that are written. A sequence counts
/// them, as it does not go back with the attempt that fails.
async fn raise(pair: &Pair, state: &str, times: u32) {
    pair.target
        .run(&format!(
            "CREATE SEQUENCE IF NOT EXISTS moved.written; \
             SELECT setval('moved.written', 1, false); \
             CREATE OR REPLACE FUNCTION moved.accepted() RETURNS boolean LANGUAGE plpgsql AS $$ \
             BEGIN \
                IF nextval('moved.written') <= {times} THEN \
                    RAISE EXCEPTION 'not now' USING ERRCODE = '{state}'; \
                END IF; \
                RETURN true; \
             END $$; \
             ALTER TABLE moved.pair DROP CONSTRAINT IF EXISTS accepted; \
             ALTER TABLE moved.pair ADD CONSTRAINT accepted CHECK (moved.accepted()) NOT VALID"
        ))
        .await;
}

async fn written(pair: &Pair) -> i64 {
    pair.target.rows("SELECT last_value FROM moved.written").await[0].parse().unwrap()
}

/// An insert and an update that are refused twice and then taken: one batch, no failure. It is
/// one key alone: a set of more would be halved, and its halves would be taken anyway.
async fn twice_and_then_no_more(state: &str) {
    let pair = world::pair().await;
    let worker = Way::forth(&pair).worker();
    let changes =
        ["INSERT INTO app.pair VALUES ('a', gen_random_uuid(), 1)", "UPDATE app.pair SET v = 2"];
    for change in changes {
        raise(&pair, state, 2).await;
        pair.source.run(change).await;
        let done = worker.work().await.unwrap();
        assert_eq!((done.keys, done.reconciled, done.failed), (1, 1, 0), "{state}");
        assert_eq!(written(&pair).await, 3, "{state}: the shadow was to refuse twice");
        let tries = "SELECT max(attempts), count(last_error) FROM segue.outbox";
        assert_eq!(pair.source.rows(tries).await, ["0|0"], "{state}: a failure was recorded");
        assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
        assert_equal(&pair).await;
    }
}

#[tokio::test]
async fn a_serialization_failure_of_the_shadow_is_tried_again_within_the_batch() {
    twice_and_then_no_more("40001").await;
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_on_the_shadow_is_tried_again_within_the_batch() {
    twice_and_then_no_more("40003").await;
}

#[tokio::test]
async fn a_serialization_failure_that_does_not_end_is_given_back_with_its_reason() {
    let pair = world::pair().await;
    raise(&pair, "40001", 1_000_000).await;
    let params = Params { attempts_max: 3, ..world::params() };
    let worker = Way::forth(&pair).worker_with(params, world::batch());
    pair.source.run("INSERT INTO app.pair VALUES ('a', gen_random_uuid(), 1)").await;
    let done = worker.work().await.unwrap();
    assert_eq!((done.reconciled, done.failed), (0, 1));
    assert_eq!(written(&pair).await, 3);
    let stuck = waiting(&pair.source).await;
    assert!(stuck[0].contains("|1|given back after 3 attempts"), "{stuck:?}");
    assert!(stuck[0].contains("40001"), "{stuck:?}");

    raise(&pair, "40001", 0).await;
    // Its pause may be over already, and then there is nothing to make due.
    assert!(Way::forth(&pair).outbox().retry(None).await.unwrap() <= 1);
    assert_eq!(drain(&worker).await.failed, 0);
    assert_equal(&pair).await;
}
