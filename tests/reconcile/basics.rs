//! One member, one thing at a time.

use crate::world::{self, Way, assert_equal, drain, waiting};

const ROWS: &str = "
INSERT INTO app.parent SELECT n, 'parent ' || n FROM generate_series(1, 50) AS n;
INSERT INTO app.item (id, parent_id, code, note, amount, state, doc, tags)
    SELECT n, n % 50 + 1, 'Code ' || n, nullif('note ' || n, 'note 7'), n / 3.0, 'paid',
        '{\"b\": 1, \"a\": [1.50, null]}', ARRAY['x', NULL, 'y\"z']
    FROM generate_series(1, 1500) AS n;
INSERT INTO app.pair SELECT 'a, {' || n || '}\"\\', gen_random_uuid(), n FROM generate_series(1, 300) AS n;
";

#[tokio::test]
async fn rows_of_all_kinds_become_equal_and_the_outbox_empty() {
    let pair = world::pair().await;
    pair.source.run(ROWS).await;
    let worker = Way::forth(&pair).worker();
    let done = drain(&worker).await;
    assert_eq!((done.keys, done.failed), (1850, 0));
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    assert_equal(&pair).await;

    pair.source
        .run(
            "UPDATE app.item SET note = note || '!' WHERE id % 3 = 0; \
             UPDATE app.item SET id = id + 10000 WHERE id % 10 = 0; \
             DELETE FROM app.item WHERE id % 7 = 0; \
             UPDATE app.pair SET a = a || 'x' WHERE v < 50; \
             DELETE FROM app.pair WHERE v > 290",
        )
        .await;
    drain(&worker).await;
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    assert_equal(&pair).await;
    // Nothing differs any more: the same keys again write nothing.
    pair.source.run("UPDATE app.item SET note = note").await;
    assert_eq!(drain(&worker).await.changed, 0);
}
