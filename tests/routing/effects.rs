//! What has effects runs once: it is not sampled, not looked at again, and not shifted.

use segue::grpc::proto::Side;

use crate::support::eventually;
use crate::world::{EXCLUDED, LIMIT, World};

/// An effect that a read-only session lets pass, and that can be counted: a line in the log.
const FUNCTIONS: &str = "
CREATE FUNCTION effect() RETURNS int LANGUAGE plpgsql AS
    'BEGIN RAISE LOG ''segue test: the effect took place''; RETURN 1; END';
CREATE FUNCTION calm(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i + 1';
CREATE FUNCTION by_stable() RETURNS int LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN effect(); END';
CREATE FUNCTION named() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 5; END';
CREATE VIEW with_effect AS SELECT id, effect() AS e FROM good;
CREATE FUNCTION plus(a good, b int) RETURNS int LANGUAGE plpgsql AS
    'BEGIN RETURN effect() + b; END';
CREATE OPERATOR <+> (LEFTARG = good, RIGHTARG = int, FUNCTION = plus);
";
/// On the target alone these functions are volatile.
const CALM_ON_SOURCE: &str = "CREATE FUNCTION split() RETURNS int LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN 5; END';
CREATE FUNCTION probe() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 5; END';";
const VOLATILE_ON_TARGET: &str = "CREATE FUNCTION split() RETURNS int LANGUAGE plpgsql AS
    'BEGIN RAISE LOG ''segue test: the effect took place''; RETURN 5; END';
CREATE FUNCTION probe() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 5; END';";

fn effects() -> usize {
    use crate::support::{Major, shared};
    [Major::V15, Major::V18]
        .iter()
        .map(|major| {
            shared(*major).logs().matches("LOG:  segue test: the effect took place").count()
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_with_effects_runs_exactly_once() {
    let world = World::new(EXCLUDED).await;
    for side in [&world.pair.source, &world.pair.target] {
        side.run(FUNCTIONS).await;
    }
    world.pair.source.run(CALM_ON_SOURCE).await;
    world.pair.target.run(VOLATILE_ON_TARGET).await;
    // A function that was made on the target a moment ago counts as absent there until segue has
    // looked at that catalogue again.
    eventually("the target's functions are known", LIMIT, || async {
        let before = world.left_out("volatile_function");
        world.query("SELECT probe()").await.unwrap();
        (world.left_out("volatile_function") > before).then_some(())
    })
    .await;
    let begun = effects();
    for shifted in [false, true] {
        if shifted {
            world.forced("shift").await;
            world.at_all().await;
        }
        for sql in [
            "SELECT effect()",
            "SELECT id FROM good WHERE effect() = 1 LIMIT 1",
            "SELECT e FROM with_effect LIMIT 1",
            "SELECT by_stable()",
            "SELECT good <+> 1 FROM good LIMIT 1",
        ] {
            let before = effects();
            let (rows, side) = world.query(sql).await.unwrap();
            assert_eq!((rows.len(), side), (1, Side::Source), "{sql}");
            assert_eq!(effects() - before, 1, "{sql}, shifted: {shifted}");
        }
        // What both catalogues call calm is compared, and so is what the configuration names.
        for sql in ["SELECT calm(1)", "SELECT named()"] {
            let before = status_taken(&world);
            eventually("a calm read is sampled", LIMIT, || async {
                world.query(sql).await.unwrap();
                (status_taken(&world) > before).then_some(())
            })
            .await;
        }
        // Calm on the primary alone is not calm.
        let before = effects();
        assert_eq!(
            world.query("SELECT split()").await.unwrap(),
            (vec!["5".to_owned()], Side::Source)
        );
        assert_eq!(effects(), before);
    }
    // Nothing of it came later.
    assert_eq!(effects() - begun, 10);
    let left_out = world.left_out("volatile_function");
    assert!(left_out >= 8, "{left_out} were left out");
    let found = world.segue.run(&["mismatches"]);
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("volatile_function") && found.contains("may have effects"), "{found}");
}

fn status_taken(world: &World) -> u64 {
    crate::world::status(&world.segue)["sampling"]["sampled_total"].as_u64().unwrap()
}
