//! The target is the primary: what is not migrated is read and written on the source all the same.

use segue::grpc::proto::Side;

use crate::support::{Pair, eventually};
use crate::world::{EXCLUDED, LIMIT, ROWS, TABLES, World, told};

const MORE: &str = "
CREATE FUNCTION note(t text) RETURNS int LANGUAGE plpgsql AS
    'BEGIN INSERT INTO nokey VALUES (9, t); RETURN 9; END';
";

/// What a trigger writes, on both sides.
const TRIGGERED: &str = "
CREATE TABLE logged (id int PRIMARY KEY, v text);
CREATE TABLE logged_parent (id int PRIMARY KEY);
CREATE TABLE logged_child (id int PRIMARY KEY,
    parent int REFERENCES logged_parent ON DELETE CASCADE);
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO nokey VALUES (OLD.id, TG_OP); RETURN OLD; END';
CREATE TRIGGER log_it AFTER UPDATE OR DELETE ON logged FOR EACH ROW EXECUTE FUNCTION log_it();
CREATE TRIGGER log_it AFTER DELETE ON logged_child FOR EACH ROW EXECUTE FUNCTION log_it();
";

const READS: &[(&str, &str, Side)] = &[
    ("SELECT count(*) FROM good", "2", Side::Target),
    ("SELECT count(*) FROM over_good", "2", Side::Target),
    ("SELECT of_good()", "2", Side::Target),
    ("SELECT last_value >= 41 FROM numbers", "true", Side::Target),
    ("SELECT count(*) FROM pg_class WHERE relname = 'there_alone'", "1", Side::Target),
    ("SELECT count(*) FROM there_alone", "1", Side::Target),
    ("SELECT count(*) FROM there_alone t JOIN good g ON g.id = t.id", "1", Side::Target),
    ("SELECT count(*) FROM nokey", "3", Side::Source),
    ("SELECT count(*) FROM un", "3", Side::Source),
    ("SELECT count(*) FROM left_out", "3", Side::Source),
    ("SELECT count(*) FROM parent", "3", Side::Source),
    ("SELECT count(*) FROM here_alone", "3", Side::Source),
    ("SELECT count(*) FROM over_nokey", "3", Side::Source),
    ("SELECT count(*) FROM stored", "2", Side::Source),
    ("SELECT last_value FROM left_out_id_seq", "3", Side::Source),
    ("SELECT in_plpgsql()", "3", Side::Source),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_migrated_stays_on_the_source_when_the_target_is_the_primary() {
    let world = World::shifted(EXCLUDED).await;
    for side in [&world.pair.source, &world.pair.target] {
        side.run(MORE).await;
    }
    world.cut_over();
    world
        .pair
        .target
        .run("CREATE TABLE there_alone (id int PRIMARY KEY); INSERT INTO there_alone VALUES (1)")
        .await;
    // A table made a moment ago is not known yet.
    eventually("the new table is known", LIMIT, || async {
        world.query("SELECT count(*) FROM there_alone").await.is_ok().then_some(())
    })
    .await;
    let mut wrong = Vec::new();
    for (sql, expected, side) in READS {
        match world.query(sql).await {
            Ok(found) if found == (vec![(*expected).to_owned()], *side) => {}
            found => wrong.push(format!("{sql}: {found:?}, not {expected} by {side:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    // Writes.
    assert_eq!(world.execute("INSERT INTO nokey VALUES (3, 'after')").await.unwrap(), 1);
    assert_eq!(world.execute("UPDATE nokey SET b = 'z' WHERE a = 2").await.unwrap(), 2);
    assert_eq!(world.execute("SELECT note('through a function')").await.unwrap(), 1);
    assert_eq!(world.execute("INSERT INTO left_out (v) VALUES ('w')").await.unwrap(), 1);
    assert_eq!(world.execute("INSERT INTO good VALUES (3, 'c')").await.unwrap(), 1);
    assert_eq!(world.counts("nokey").await, ("5".to_owned(), "0".to_owned()));
    assert_eq!(world.counts("left_out").await, ("4".to_owned(), "0".to_owned()));
    eventually("the migrated row comes back to the source", LIMIT, || async {
        (world.counts("good").await == ("3".to_owned(), "3".to_owned())).then_some(())
    })
    .await;

    needs_both(&world).await;
    transactions(&world).await;
}

async fn needs_both(world: &World) {
    for sql in [
        "SELECT count(*) FROM good g JOIN nokey n ON n.a = g.id",
        "SELECT count(*) FROM over_view",
        "SELECT count(*) FROM good WHERE id = in_sql()",
    ] {
        let refused = world.query(sql).await.unwrap_err();
        let (reason, hint) = told(&refused);
        assert_eq!(reason, "refused.both_sides", "{sql}: {refused:?}");
        assert!(hint.contains("tables.stay"), "{hint}");
        assert!(refused.message().contains("public.nokey"), "{}", refused.message());
    }
    let refused = world.execute("INSERT INTO good SELECT a, b FROM nokey").await.unwrap_err();
    assert_eq!(told(&refused).0, "refused.both_sides");
    let (reason, hint) = told(&world.query("SELECT made_up()").await.unwrap_err());
    assert_eq!(reason, "refused.unknown_function");
    assert!(hint.contains("tables.functions"), "{hint}");
    assert_eq!(world.counts("good").await, ("3".to_owned(), "3".to_owned()));
}

/// A write whose trigger writes to what is not migrated needs both sides as well; reads of such a
/// table do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trigger_writes_counts_as_written_by_the_statement() {
    let sql = format!("{TABLES}{TRIGGERED}");
    let rows = "INSERT INTO logged VALUES (1, 'a');
        INSERT INTO logged_parent VALUES (1); INSERT INTO logged_child VALUES (1, 1);";
    let pair = Pair::fresh(&format!("{sql}{ROWS}{rows}"), &sql).await;
    let world = World::over(pair, "shift", EXCLUDED).await;
    world.at_all().await;
    // The source is the primary, and has both.
    assert_eq!(world.execute("UPDATE logged SET v = 'b' WHERE id = 1").await.unwrap(), 1);
    assert_eq!(world.counts("nokey").await.0, "4");
    world.cut_over();
    for write in [
        "UPDATE logged SET v = 'c' WHERE id = 1",
        "DELETE FROM logged_child WHERE id = 1",
        "DELETE FROM logged_parent WHERE id = 1",
    ] {
        let (reason, hint) = told(&world.execute(write).await.unwrap_err());
        assert_eq!(reason, "refused.both_sides", "{write}");
        assert!(hint.contains("public.nokey"), "{hint}");
    }
    let read = world.query("SELECT v FROM logged WHERE id = 1").await.unwrap();
    assert_eq!(read, (vec!["b".to_owned()], Side::Target));
    let both = world.counts("nokey").await;
    assert_eq!(both, ("4".to_owned(), "0".to_owned()), "nothing was written to the target's copy");
}

/// The first statement decides the side.
async fn transactions(world: &World) {
    let before = world.counts("nokey").await;
    let on_source = world.begin().await;
    world.execute_in("INSERT INTO nokey VALUES (5, 'in one')", &on_source).await.unwrap();
    let seen = world.query_in("SELECT count(*) FROM nokey WHERE a = 5", &on_source).await.unwrap();
    assert_eq!(seen, (vec!["1".to_owned()], Side::Source));
    assert_eq!(world.query_in("SELECT 7", &on_source).await.unwrap().0, ["7"]);
    let refused = world.execute_in("INSERT INTO good VALUES (4, 'd')", &on_source).await;
    let (reason, hint) = told(&refused.unwrap_err());
    assert_eq!(reason, "refused.transaction_side");
    assert!(hint.contains("a transaction of its own"), "{hint}");
    assert_eq!(world.counts("nokey").await, before, "it is not committed");
    world.commit(on_source).await;
    assert_eq!(world.counts("nokey").await.0, "6");

    let on_target = world.begin().await;
    world.execute_in("INSERT INTO good VALUES (4, 'd')", &on_target).await.unwrap();
    let refused = world.execute_in("INSERT INTO nokey VALUES (6, 'x')", &on_target).await;
    assert_eq!(told(&refused.unwrap_err()).0, "refused.transaction_side");
    world.commit(on_target).await;
    assert_eq!(world.counts("nokey").await, ("6".to_owned(), "0".to_owned()));
    eventually("the migrated row comes back to the source", LIMIT, || async {
        (world.counts("good").await == ("4".to_owned(), "4".to_owned())).then_some(())
    })
    .await;
}

/// What is declared is where the declaration says, and a declared function is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_says_where_tables_stay() {
    let tables = "
exclude = [\"public.here_alone\"]
[tables.stay]
\"public.nokey\" = \"source\"
\"public.un\" = \"primary\"
\"public.left_out\" = \"target\"
\"public.parent\" = \"source\"
\"public.child\" = \"source\"
\"public.stored\" = \"primary\"
[tables.functions]
\"public.made_up\" = \"source\"
";
    let world = World::shifted(tables).await;
    world.pair.target.run("INSERT INTO un VALUES (1); INSERT INTO left_out (v) VALUES ('t')").await;
    let before = [("un", "3", Side::Source), ("left_out", "1", Side::Target)];
    for (table, rows, side) in before {
        let found = world.query(&format!("SELECT count(*) FROM {table}")).await.unwrap();
        assert_eq!(found, (vec![rows.to_owned()], side), "{table} before");
    }
    world.execute("INSERT INTO left_out (v) VALUES ('u')").await.unwrap();
    assert_eq!(world.counts("left_out").await, ("3".to_owned(), "2".to_owned()));
    world.cut_over();
    for (sql, rows, side) in [
        ("SELECT count(*) FROM un", "1", Side::Target),
        ("SELECT count(*) FROM un JOIN good USING (id)", "1", Side::Target),
        ("SELECT count(*) FROM left_out", "2", Side::Target),
        ("SELECT count(*) FROM nokey", "3", Side::Source),
        ("SELECT made_up()", "3", Side::Source),
    ] {
        let found = world.query(sql).await.unwrap();
        assert_eq!(found, (vec![rows.to_owned()], side), "{sql}");
    }
}
