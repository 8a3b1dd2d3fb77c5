//! Row security, in every phase.

use segue::grpc::proto::Side;

use crate::world::{World, told};

/// What one caller may see and do, whichever side answers.
async fn apart(world: &World, side: Side, id: i32) {
    let at = |what: &str| format!("{what}, with the {side:?} asked");
    let (names, answered) =
        world.query("SELECT current_user || '/' || session_user").await.unwrap();
    assert_eq!(names, [format!("{0}/{0}", world.app)], "{}", at("roles"));
    let _ = answered;
    // By the role: nobody sees rows of others, nor writes them.
    let (seen, answered) = world.query("SELECT id FROM shop.mine WHERE id < 10").await.unwrap();
    assert_eq!((seen, answered), (vec!["2".to_owned()], side), "{}", at("rows of the role"));
    let write = format!("INSERT INTO shop.mine (id, v) VALUES ({id}, 'new') RETURNING who::text");
    let answer = world.execute(&write).await.unwrap();
    assert_eq!(crate::world::returned(&answer), world.app, "{}", at("the owner of a new row"));
    let foreign = format!("INSERT INTO shop.mine VALUES ({}, 'somebody', 'x')", id + 1);
    let refused = told(&world.execute(&foreign).await.unwrap_err());
    assert_eq!(refused.sqlstate, "42501", "{refused:?}");
    let others = world.execute("UPDATE shop.mine SET v = 'taken' WHERE id = 1").await.unwrap();
    assert_eq!(others.affected_rows(), 0, "{}", at("an update of another's row"));
    // By a setting of the transaction: it ends with it.
    for (tenant, count) in [("a", "1"), ("b", "2")] {
        let transaction = world.begin().await;
        let set = format!("SELECT set_config('app.tenant', '{tenant}', true)");
        world.execute_in(&set, &transaction).await.unwrap();
        let rented = "SELECT count(*) FROM shop.rented WHERE id < 10";
        let (seen, _) = world.query_in(rented, &transaction).await.unwrap();
        assert_eq!(seen, [count], "{}", at(tenant));
        let row = format!(
            "INSERT INTO shop.rented VALUES ({}, '{tenant}', 'new')",
            id + count.len() as i32 + tenant.as_bytes()[0] as i32
        );
        world.execute_in(&row, &transaction).await.unwrap();
        world.commit(transaction).await;
    }
    let none = world.values("SELECT count(*) FROM shop.rented").await;
    assert_eq!(none, ["0"], "{}", at("no tenant, no rows"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_security_keeps_callers_apart_in_every_phase() {
    let world = World::new("").await;
    apart(&world, Side::Source, 1000).await;
    world.dual_write().await;
    apart(&world, Side::Source, 2000).await;
    world.forced("shadow_read").await;
    apart(&world, Side::Source, 3000).await;
    for table in ["shop.mine", "shop.rented", "shop.closed"] {
        world.equal(table).await;
    }
    world.shifted().await;
    apart(&world, Side::Target, 4000).await;
    world.cut_over();
    apart(&world, Side::Target, 5000).await;
    for table in ["shop.mine", "shop.rented", "shop.closed"] {
        world.equal(table).await;
    }
    // Segue's own work has seen every row all the time.
    let all = "SELECT count(*) FROM shop.rented";
    assert_eq!(world.pair.target.rows(all).await, ["13"]);
    let taken = "SELECT count(*) FROM shop.mine WHERE v = 'taken'";
    assert_eq!(world.pair.target.rows(taken).await, ["0"]);
    let checked = world.segue.run(&["verify"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
