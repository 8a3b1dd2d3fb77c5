//! A transaction that sets a search path of its own: from then on an unqualified name may mean
//! another table than before, which may be on the other side.

use segue::grpc::proto::{self, Side};
use tonic::Status;

use crate::support::Pair;
use crate::world::{EXCLUDED, ROWS, TABLES, World, told};

/// Tables of the same names in another schema, on both sides; these are not migrated.
const ELSEWHERE: &str = "
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.good (id int PRIMARY KEY, v text);
CREATE FUNCTION go_elsewhere() RETURNS void LANGUAGE plpgsql AS
    'BEGIN SET LOCAL search_path = elsewhere, public; END';
CREATE FUNCTION go_elsewhere_in_sql() RETURNS text LANGUAGE sql AS
    $$ SELECT set_config('search_path', 'elsewhere, public', true) $$;
CREATE FUNCTION keeps_its_path() RETURNS bigint LANGUAGE plpgsql SET search_path = elsewhere AS
    'BEGIN RETURN 7; END';
CREATE FUNCTION sets_a_tenant() RETURNS text LANGUAGE sql AS
    $$ SELECT set_config('app.tenant', '5', true) $$;
";

/// What changes the path, in a transaction.
const WAYS: [&str; 6] = [
    "SET LOCAL search_path TO elsewhere, public",
    "SET LOCAL SCHEMA 'elsewhere'",
    "SELECT set_config('search_path', 'elsewhere, public', true)",
    "SELECT set_config('Search_Path', lower('ELSEWHERE, PUBLIC'), true)",
    "SELECT go_elsewhere()",
    "SELECT go_elsewhere_in_sql()",
];

/// What leaves it as it is.
const OTHERS: [&str; 4] = [
    "SET LOCAL work_mem = '1MB'",
    "SELECT set_config('app.tenant', '5', true)",
    "SELECT keeps_its_path()",
    "SELECT sets_a_tenant()",
];

async fn world() -> World {
    let sql = format!("{TABLES}{ELSEWHERE}");
    let rows = "INSERT INTO elsewhere.good VALUES (1, 'e'), (2, 'e'), (3, 'e')";
    let pair = Pair::fresh(&format!("{sql}{ROWS}{rows}"), &sql).await;
    let tables = EXCLUDED.replace("exclude = [", "exclude = [\"elsewhere.good\", ");
    let world = World::over(pair, "shift", &tables).await;
    world.at_all().await;
    world
}

async fn batch(world: &World, statements: &[&str]) -> Result<(), Status> {
    let statement = |sql: &&str| proto::Statement {
        text: Some(proto::statement::Text::Sql((*sql).to_owned())),
        params: Vec::new(),
    };
    let statements = statements.iter().map(statement).collect();
    let request = proto::BatchRequest { statements, ..proto::BatchRequest::default() };
    world.client.clone().batch(request).await.map(drop)
}

fn is_refused(status: &Status, what: &str) {
    let (reason, hint) = told(status);
    assert_eq!(reason, "refused.both_sides", "{what}: {status:?}");
    assert!(status.message().contains("elsewhere.good"), "{what}: {status:?}");
    assert!(hint.contains("search_path") && hint.contains("with its schema"), "{what}: {hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_a_transaction_with_a_search_path_of_its_own_counts_as_any_of_that_name() {
    let world = world().await;
    world.cut_over();
    let before = (world.counts("good").await, world.counts("elsewhere.good").await);
    let write = "INSERT INTO good VALUES (9, 'n')";
    for way in WAYS {
        // What the transaction names before is as ever.
        let open = world.begin().await;
        world.execute_in("UPDATE good SET v = v WHERE id = 1", &open).await.unwrap();
        world.execute_in(way, &open).await.unwrap();
        is_refused(&world.execute_in(write, &open).await.unwrap_err(), way);
        is_refused(&world.query_in("SELECT count(*) FROM good", &open).await.unwrap_err(), way);
        // Where its schema is given, or no other table has the name, it is known.
        let found = world.query_in("SELECT count(*) FROM public.good", &open).await.unwrap();
        assert_eq!(found, (vec!["2".to_owned()], Side::Target), "{way}");
        if !way.contains("SCHEMA") {
            let found = world.query_in("SELECT count(*) FROM part", &open).await.unwrap();
            assert_eq!(found, (vec!["3".to_owned()], Side::Target), "{way}");
        }
        let rolled_back = proto::RollbackRequest { transaction_id: open };
        world.client.clone().rollback(rolled_back).await.unwrap();
        is_refused(&batch(&world, &[way, write]).await.unwrap_err(), way);
    }
    assert_eq!((world.counts("good").await, world.counts("elsewhere.good").await), before);
    for other in OTHERS {
        let open = world.begin().await;
        world.execute_in(other, &open).await.unwrap();
        let found = world.query_in("SELECT count(*) FROM good", &open).await.unwrap();
        assert_eq!(found, (vec!["2".to_owned()], Side::Target), "{other}");
        world.commit(open).await;
    }
    // It ends with the transaction.
    let found = world.query("SELECT count(*) FROM good").await.unwrap();
    assert_eq!(found, (vec!["2".to_owned()], Side::Target));
}
