//! One member, one thing at a time.

use segue::ports::reconcile::OutboxWork;

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

#[tokio::test]
async fn a_changed_note_leaves_the_finer_timestamp_of_the_way_back_alone() {
    let pair = world::pair().await;
    pair.source
        .run(
            "INSERT INTO app.item (id, code, amount, at) \
             VALUES (1, 'a', 1, '2024-05-06 07:08:09.123456+00')",
        )
        .await;
    drain(&Way::forth(&pair).worker()).await;
    let own = ("moved", "item", "own");
    for database in [&pair.source, &pair.target] {
        database.run("UPDATE segue.control SET phase = 'reversed'").await;
    }
    let back = Way::back(&pair).worker_with(world::ignoring(own), world::batch());
    pair.target.run("UPDATE moved.item SET note = 'from the target'").await;
    let done = drain(&back).await;
    assert_eq!((done.changed, done.failed), (1, 0));
    let rows = pair.source.rows("SELECT note, extract(microseconds FROM at) FROM app.item").await;
    assert_eq!(rows, ["from the target|9123456"]);
    pair.target.run("UPDATE moved.item SET at = '2024-05-06 07:08:10.5+00'").await;
    drain(&back).await;
    let rows = pair.source.rows("SELECT extract(microseconds FROM at)::int FROM app.item").await;
    assert_eq!(rows, ["10500000"]);
}

#[tokio::test]
async fn unique_values_are_swapped_and_the_shadows_own_columns_kept() {
    let pair = world::pair().await;
    let worker = Way::forth(&pair).worker();
    pair.source
        .run(
            "INSERT INTO app.item (id, code, amount) SELECT n, 'C' || n, n \
             FROM generate_series(1, 10) AS n",
        )
        .await;
    drain(&worker).await;
    pair.target.run("UPDATE moved.item SET own = 'mine ' || id").await;
    pair.source
        .run(
            "BEGIN; UPDATE app.item SET code = 'x' WHERE id = 1; \
             UPDATE app.item SET code = 'c1' WHERE id = 2; \
             UPDATE app.item SET code = 'C2' WHERE id = 1; COMMIT",
        )
        .await;
    let done = drain(&worker).await;
    assert_eq!(done.failed, 0);
    assert_equal(&pair).await;
    let own = pair.target.rows("SELECT count(*) FROM moved.item WHERE own = 'mine ' || id").await;
    assert_eq!(own, ["10"]);
}

#[tokio::test]
async fn a_holder_whose_own_row_is_not_claimed_is_taken_into_the_set() {
    let pair = world::pair().await;
    let worker = Way::forth(&pair).worker();
    pair.source
        .run("INSERT INTO app.item (id, code, amount) VALUES (1, 'a', 1), (2, 'b', 2)")
        .await;
    drain(&worker).await;
    pair.source
        .run("UPDATE app.item SET code = 'free' WHERE id = 2; UPDATE app.item SET code = 'b' WHERE id = 1")
        .await;
    // The row of the holder waits for another time.
    pair.source
        .run("UPDATE segue.outbox SET next_attempt_at = 'infinity' WHERE key = '{2}' AND forgotten_at IS NULL")
        .await;
    assert_eq!(drain(&worker).await.failed, 0);
    assert_equal(&pair).await;
}

#[tokio::test]
async fn a_poison_row_is_given_back_with_its_reason_and_holds_nobody_up() {
    let pair = world::pair().await;
    let worker = Way::forth(&pair).worker();
    pair.target.run("ALTER TABLE moved.item ADD CHECK (note <> 'poison')").await;
    pair.source
        .run(
            "INSERT INTO app.item (id, code, amount, note) SELECT n, 'c' || n, n, \
             CASE WHEN n IN (77, 200) THEN 'poison' ELSE 'fine' END FROM generate_series(1, 300) AS n",
        )
        .await;
    let done = worker.work().await.unwrap();
    assert_eq!((done.reconciled, done.failed), (298, 2));
    let stuck = waiting(&pair.source).await;
    assert_eq!(stuck.len(), 2);
    assert!(stuck[0].starts_with("2|{200}|1|") && stuck[0].contains("23514"), "{stuck:?}");
    let outbox = Way::forth(&pair).outbox();
    let listed = outbox.list(&world::first(10), false).await.unwrap().items;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].key.table.to_string(), "app.item");
    assert!(
        !listed[0].stuck && listed[0].last_error.contains("poison")
            || listed[0].last_error.contains("check")
    );
    // It fails again later and later, and is done once the fault is gone.
    pair.source
        .run("UPDATE segue.outbox SET next_attempt_at = now() WHERE forgotten_at IS NULL")
        .await;
    drain(&worker).await;
    pair.source.run("UPDATE app.item SET note = 'cured' WHERE note = 'poison'").await;
    assert!(outbox.retry(None).await.unwrap() <= 4);
    drain(&worker).await;
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    assert_equal(&pair).await;
}

#[tokio::test]
async fn truncate_empties_the_shadow_and_what_came_after_stays() {
    let pair = world::pair().await;
    let worker = Way::forth(&pair).worker();
    pair.source
        .run("INSERT INTO app.pair SELECT 'a' || n, gen_random_uuid(), n FROM generate_series(1, 1300) AS n")
        .await;
    drain(&worker).await;
    pair.source
        .run("TRUNCATE app.pair; INSERT INTO app.pair VALUES ('new', gen_random_uuid(), 1)")
        .await;
    assert_eq!(drain(&worker).await.failed, 0);
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    assert_equal(&pair).await;
}

#[tokio::test]
async fn a_column_added_on_the_primary_alone_is_never_left_out_in_silence() {
    let pair = world::pair().await;
    let worker = Way::forth(&pair).worker();
    pair.source.run("INSERT INTO app.parent VALUES (1, 'a')").await;
    drain(&worker).await;
    pair.source.run("ALTER TABLE app.parent ADD extra int; UPDATE app.parent SET extra = 5").await;
    assert_eq!(worker.work().await.unwrap().failed, 1);
    let stuck = waiting(&pair.source).await;
    assert!(stuck[0].contains("\"extra\" is missing on the shadow"), "{stuck:?}");
    pair.target.run("ALTER TABLE moved.parent ADD extra int").await;
    pair.source
        .run("UPDATE segue.outbox SET next_attempt_at = now() WHERE forgotten_at IS NULL")
        .await;
    Way::forth(&pair).worker().work().await.unwrap();
    assert_eq!(pair.target.rows("SELECT extra FROM moved.parent").await, ["5"]);
}

#[tokio::test]
async fn rows_are_found_by_the_primary_keys_index_on_both_sides() {
    let pair = world::pair().await;
    pair.source.run(ROWS).await;
    drain(&Way::forth(&pair).worker()).await;
    for (database, table, cast) in
        [(&pair.source, "app.item", "integer"), (&pair.target, "moved.item", "bigint")]
    {
        database
            .run(&format!(
                "INSERT INTO {table} (id, code, amount, state, at) OVERRIDING SYSTEM VALUE \
                 SELECT n, 'more ' || n, 1, 'new', now() FROM generate_series(100000, 140000) AS n; \
                 ANALYZE {table}"
            ))
            .await;
        let plan = database
            .rows(&format!(
                "SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT k.n, t.* FROM \
                 ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[])) WITH ORDINALITY AS k(k1, n) \
                 JOIN {table} AS t ON t.\"id\" = k.k1::{cast}; EXPLAIN EXECUTE q ('{{1,2,3}}')"
            ))
            .await
            .join("\n");
        assert!(plan.contains("Index Scan using item_pkey"), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rows_of_one_key_are_stuck_until_the_table_has_a_key_again() {
    let pair = world::pair().await;
    let worker = Way::forth(&pair).worker();
    pair.source.run("INSERT INTO app.parent VALUES (1, 'a')").await;
    drain(&worker).await;
    pair.source
        .run(
            "ALTER TABLE app.parent DROP CONSTRAINT parent_pkey CASCADE; \
             INSERT INTO app.parent VALUES (2, 'b'), (2, 'c')",
        )
        .await;
    drain(&worker).await;
    let stuck = waiting(&pair.source).await;
    assert!(stuck.iter().all(|row| row.contains("has two rows with one key")), "{stuck:?}");
    assert!(!stuck.is_empty());
    pair.source
        .run(
            "DELETE FROM app.parent WHERE ctid = (SELECT max(ctid) FROM app.parent); \
             ALTER TABLE app.parent ADD PRIMARY KEY (id); \
             UPDATE segue.outbox SET next_attempt_at = now() WHERE forgotten_at IS NULL",
        )
        .await;
    drain(&worker).await;
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    world::assert_equal(&pair).await;
}
