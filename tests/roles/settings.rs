//! The role's own settings apply to its calls as they do without segue.

use segue::grpc::proto::Side;

use crate::world::{World, told};

async fn with_setting(setting: &str) -> World {
    let world = World::with_roles("", "").await;
    for side in world.both() {
        side.run(&world.fill(&format!("ALTER ROLE {{app}} SET {setting}"))).await;
    }
    world
}

async fn restarted(setting: &str) -> World {
    let mut world = with_setting(setting).await;
    assert!(world.segue.terminate().await);
    world.segue.serve().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_path_of_the_role_finds_its_tables() {
    let world = restarted("search_path = shop, public").await;
    assert_eq!(world.values("SELECT v FROM plain").await, ["shop"]);
    world.execute("INSERT INTO plain VALUES (2, 'by its path')").await.unwrap();
    let there = "SELECT count(*) FROM shop.plain";
    assert_eq!(world.pair.source.rows(there).await, ["2"]);
    world.dual_write().await;
    world.forced("shadow_read").await;
    world.shifted().await;
    // Routing finds the same tables as the role does.
    let (seen, side) = world.query("SELECT v FROM plain WHERE id = 1").await.unwrap();
    assert_eq!((seen, side), (vec!["shop".to_owned()], Side::Target));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_of_the_role_stops_its_statements_and_not_segues_work() {
    let world = restarted("statement_timeout = '300ms'").await;
    for fault in [
        world.query("SELECT pg_sleep(20)").await.map(drop).unwrap_err(),
        world
            .execute("INSERT INTO shop.plain SELECT 3, 'x' FROM pg_sleep(20)")
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert_eq!(told(&fault).sqlstate, "57014", "{fault:?}");
    }
    world.dual_write().await;
    world.execute("INSERT INTO shop.plain VALUES (4, 'quick')").await.unwrap();
    world.equal("shop.plain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_isolation_of_the_role_is_that_of_its_transactions() {
    let world = restarted("default_transaction_isolation = 'repeatable read'").await;
    world.dual_write().await;
    let asked = "SELECT current_setting('transaction_isolation')";
    assert_eq!(world.values(asked).await, ["repeatable read"]);
    let transaction = world.begin().await;
    assert_eq!(world.query_in(asked, &transaction).await.unwrap().0, ["repeatable read"]);
    let count = "SELECT count(*) FROM shop.plain";
    let before = world.query_in(count, &transaction).await.unwrap().0;
    world.execute("INSERT INTO shop.plain VALUES (5, 'meanwhile')").await.unwrap();
    assert_eq!(world.query_in(count, &transaction).await.unwrap().0, before);
    world.commit(transaction).await;
    world.equal("shop.plain").await;
}

/// As without segue: its reads are answered, its writes refused, with the reason and the side.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_read_only_reads() {
    let world = restarted("default_transaction_read_only = on").await;
    world.dual_write().await;
    assert_eq!(world.values("SELECT v FROM shop.plain").await, ["shop"]);
    let refused = told(&world.execute("INSERT INTO shop.plain VALUES (6, 'x')").await.unwrap_err());
    assert_eq!((&*refused.sqlstate, refused.side()), ("25006", Side::Source), "{refused:?}");
    let transaction = world.begin().await;
    let write = "INSERT INTO shop.plain VALUES (6, 'x')";
    let refused = told(&world.execute_in(write, &transaction).await.unwrap_err());
    assert_eq!(refused.sqlstate, "25006", "{refused:?}");
}

/// A login without rights that begins as the application's role: a caller that resets the role is
/// that role again.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_may_begin_as_another_role() {
    let world = World::with_roles(
        "NOINHERIT",
        "DO $$ BEGIN CREATE ROLE {app}_real; END $$; GRANT {app}_real TO {app};
         GRANT USAGE ON SCHEMA shop TO {app}_real; GRANT SELECT, INSERT ON shop.plain TO {app}_real;
         ALTER ROLE {app} SET role = '{app}_real';
         CREATE FUNCTION shop.take_back() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN
            RESET ROLE; RETURN current_user; END $f$",
    )
    .await;
    world.dual_write().await;
    let real = format!("{}_real", world.app);
    assert_eq!(world.values("SELECT current_user::text").await.concat(), real);
    let back = world.execute("SELECT shop.take_back()").await.unwrap();
    assert_eq!(crate::world::returned(&back), real);
    world.execute("INSERT INTO shop.plain VALUES (9, 'as another role')").await.unwrap();
    assert_eq!(world.values("SELECT current_user::text").await.concat(), real);
    world.equal("shop.plain").await;
}
