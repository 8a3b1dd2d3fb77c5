//! With all reads on the target: what is not migrated is read where it is.

use segue::grpc::proto::Side;

use crate::support::eventually;
use crate::world::{EXCLUDED, LIMIT, World};

/// A read, its answer, and the side that must give it.
const READS: &[(&str, &str, Side)] = &[
    ("SELECT count(*) FROM good", "2", Side::Target),
    ("SELECT count(*) FROM over_good", "2", Side::Target),
    ("SELECT count(*) FROM part", "3", Side::Target),
    ("SELECT count(*) FROM part_1", "3", Side::Target),
    ("SELECT of_good()", "2", Side::Target),
    ("WITH nokey AS (SELECT 1 AS a FROM good) SELECT count(*) FROM nokey", "2", Side::Target),
    ("SELECT count(*) FROM nokey", "3", Side::Source),
    ("SELECT count(*) FROM public.nokey", "3", Side::Source),
    ("TABLE un ORDER BY id LIMIT 1", "1", Side::Source),
    ("SELECT count(*) FROM un", "3", Side::Source),
    ("SELECT count(*) FROM left_out", "3", Side::Source),
    ("SELECT count(*) FROM parent", "3", Side::Source),
    ("SELECT count(*) FROM child", "1", Side::Source),
    ("SELECT count(*) FROM here_alone", "3", Side::Source),
    ("SELECT count(*) FROM over_nokey", "3", Side::Source),
    ("SELECT count(*) FROM over_view", "3", Side::Source),
    ("SELECT count(*) FROM stored", "2", Side::Source),
    ("SELECT last_value FROM numbers", "41", Side::Source),
    ("SELECT in_sql()", "3", Side::Source),
    ("SELECT in_standard_sql()", "3", Side::Source),
    ("SELECT in_plpgsql()", "3", Side::Source),
    ("SELECT made_up()", "3", Side::Source),
    ("SELECT count(*) FROM good g JOIN nokey n ON n.a = g.id", "3", Side::Source),
    ("SELECT (SELECT count(*) FROM nokey) FROM good LIMIT 1", "3", Side::Source),
    ("WITH x AS (SELECT a FROM nokey) SELECT count(*) FROM x", "3", Side::Source),
    ("SELECT count(*) FROM good WHERE id IN (SELECT a FROM nokey)", "2", Side::Source),
    ("SELECT count(*) FROM good, LATERAL (SELECT in_sql()) AS f", "2", Side::Source),
    ("SELECT count(*) FROM pg_class WHERE relname = 'nokey'", "1", Side::Source),
    ("SELECT 1", "1", Side::Source),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_migrated_is_read_on_the_source_at_100_percent() {
    let world = World::shifted(EXCLUDED).await;
    let mut wrong = Vec::new();
    for (sql, expected, side) in READS {
        let found = world.query(sql).await.unwrap();
        if found != (vec![(*expected).to_owned()], *side) {
            wrong.push(format!("{sql}: {found:?}, not {expected} by {side:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // None of it was compared, and that is told.
    eventually("samples are counted as left out", LIMIT, || async {
        (world.left_out("not_migrated") >= 15).then_some(())
    })
    .await;
    let found = world.segue.run(&["mismatches"]);
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.starts_with("no differences"), "{found}");
    assert!(found.contains("left out") && found.contains("not_migrated"), "{found}");
}

/// It is read on the source from its first moment, and on the target once it is captured there
/// and all of its rows have arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_made_after_init_is_read_on_the_source_until_it_is_copied() {
    let world = World::shifted(EXCLUDED).await;
    let made = "CREATE TABLE late (id int PRIMARY KEY)";
    world.pair.target.run(made).await;
    world
        .pair
        .source
        .run(&format!("{made}; INSERT INTO late SELECT generate_series(1, 700)"))
        .await;
    let count = "SELECT count(*) FROM late";
    assert_eq!(world.query(count).await.unwrap(), (vec!["700".to_owned()], Side::Source));
    // The same for one that is dropped and made again: the copy has the old rows until it is
    // captured and reconciled.
    world
        .pair
        .source
        .run("DROP TABLE good CASCADE; CREATE TABLE good (id int PRIMARY KEY, v text)")
        .await;
    eventually("the new table is read on the source", LIMIT, || async {
        let found = world.query("SELECT count(*) FROM good").await.unwrap();
        (found == (vec!["0".to_owned()], Side::Source)).then_some(())
    })
    .await;
    // An operator does not wait for the next look.
    world.segue.succeed(&["capture", "install"]);
    for (table, rows) in [("late", "700"), ("good", "0")] {
        let count = format!("SELECT count(*) FROM {table}");
        eventually("it is adopted, with all of its rows", LIMIT, || async {
            let (found, side) = world.query(&count).await.unwrap();
            assert_eq!(found, [rows], "{table} by {side:?}");
            (side == Side::Target).then_some(())
        })
        .await;
    }
}
