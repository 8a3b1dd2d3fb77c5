//! An operator hears of tables that statements touch and that are not migrated.

use serde_json::Value;

use crate::world::{EXCLUDED, World, until};

fn relations_gate(world: &World) -> (String, String) {
    let shown: Value =
        serde_json::from_slice(&world.segue.run(&["phase", "--json"]).stdout).unwrap();
    let gates = shown["gates"].as_array().unwrap();
    let gate = gates.iter().find(|gate| gate["name"] == "relations").unwrap().clone();
    (gate["mark"].as_str().unwrap().to_owned(), gate["found"].as_str().unwrap().to_owned())
}

fn checked(world: &World) -> Value {
    serde_json::from_slice(&world.segue.run(&["check", "--json"]).stdout).unwrap()
}

/// What `segue check` found of a relation that is not migrated.
fn found_of(checked: &Value, name: &str) -> String {
    let findings = checked["findings"].as_array().unwrap();
    let is = |it: &&Value| it["code"] == "table.not_migrated" && it["table"] == name;
    let found: Vec<&Value> = findings.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{name}: {checked:#}");
    found[0]["found"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_on_a_table_that_is_not_migrated_fails_the_gate_until_it_is_declared() {
    let mut world = World::new(EXCLUDED).await;
    assert_eq!(relations_gate(&world).0, "pass");
    for _ in 0..3 {
        world.query("SELECT count(*) FROM good g JOIN nokey n ON n.a = g.id").await.unwrap();
    }
    world.execute("INSERT INTO nokey VALUES (4, 'q')").await.unwrap();
    let seen = |now: &Value| now["fleet"]["unmigrated"].as_array().is_some_and(|it| it.len() == 2);
    let now = until(&world.segue, "the statements are told", seen).await;
    let first = &now["fleet"]["unmigrated"][0];
    assert_eq!((&first["calls"], &first["relations"][0]), (&3.into(), &"public.nokey".into()));
    let (mark, found) = relations_gate(&world);
    assert_eq!(mark, "fail");
    for part in ["public.nokey", "INSERT nokey", "3 calls", "tables.stay"] {
        assert!(found.contains(part), "{part} is not in {found}");
    }
    let page = world.segue.succeed(&["status"]);
    assert!(page.contains("stays") && page.contains("public.nokey"), "{page}");

    // So does the check, which says that the view stays before anybody has touched it.
    let checked = checked(&world);
    let [nokey, view] = ["public.nokey", "public.over_nokey"].map(|name| found_of(&checked, name));
    for part in ["INSERT nokey (1 call)", "SELECT", "(3 calls)"] {
        assert!(nokey.contains(part), "{part} is not in {nokey}");
    }
    assert!(view.contains("it touches public.nokey"), "{view}");
    assert!(!view.contains("statements seen"), "{view}");

    // Declared, it is known to stay.
    assert!(world.segue.terminate().await);
    world.segue.configure("[tables.stay]\n\"public.nokey\" = \"source\"\n");
    world.segue.serve().await;
    world.query("SELECT count(*) FROM nokey").await.unwrap();
    assert_eq!(relations_gate(&world).0, "pass");
}
