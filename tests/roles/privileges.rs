//! What the application's role may not do, it may not do through segue; and what segue's role may,
//! nothing that a caller runs can.

use segue::grpc::proto::{Outcome, Side};

use crate::support::{eventually, try_connect};
use crate::world::{LIMIT, World, returned, told};

const TRAPS: &str = "
CREATE FUNCTION shop.become() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE 'SET ROLE {segue}'; RETURN current_user; END $$;
CREATE FUNCTION shop.become_by_setting() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('role', '{segue}', false); RETURN current_user; END $$;
CREATE FUNCTION shop.authorize() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE 'SET SESSION AUTHORIZATION {segue}'; RETURN current_user; END $$;
CREATE FUNCTION shop.take_back() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    RESET ROLE; RESET SESSION AUTHORIZATION; SET SESSION AUTHORIZATION DEFAULT; RESET ALL;
    RETURN current_user || '/' || session_user; END $$;
CREATE FUNCTION shop.token() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    RETURN (SELECT token FROM segue.copy_token); END $$;
CREATE FUNCTION shop.pretend() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('segue.copies', 'on', false);
    PERFORM set_config('session_replication_role', 'replica', false); RETURN 'done';
    EXCEPTION WHEN insufficient_privilege THEN
    PERFORM set_config('segue.copies', 'on', false); RETURN 'half'; END $$;
CREATE FUNCTION shop.forget() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM segue.outbox; END $$;
CREATE FUNCTION shop.invent() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO segue.outbox (slot, table_id) VALUES (0, 1); END $$;
CREATE FUNCTION shop.promote() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    UPDATE segue.control SET epoch = 99; END $$;
CREATE FUNCTION shop.keys() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
    RETURN (SELECT count(*) FROM segue.idempotency); END $$;
CREATE FUNCTION shop.switch_off() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    ALTER TABLE shop.plain DISABLE TRIGGER ALL; END $$;
CREATE FUNCTION shop.replace_capture() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE (SELECT format('CREATE OR REPLACE FUNCTION segue.%I() RETURNS trigger LANGUAGE plpgsql
        AS ''BEGIN RETURN NULL; END''', proname) FROM pg_proc
        WHERE pronamespace = 'segue'::regnamespace AND proname ~ '^capture_.*insert' LIMIT 1); END $$;
";

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_function_gets_at_nothing_of_segues() {
    let world = World::new(TRAPS).await;
    world.dual_write().await;
    for refused in [
        "become",
        "become_by_setting",
        "authorize",
        "token",
        "forget",
        "invent",
        "promote",
        "keys",
        "switch_off",
        "replace_capture",
    ] {
        let call = format!("SELECT shop.{refused}()");
        let fault = world.execute(&call).await.expect_err(refused);
        assert_eq!(told(&fault).sqlstate, "42501", "{refused}: {fault:?}");
        let fault = world.query(&call).await.expect_err(refused);
        let sqlstate = told(&fault).sqlstate;
        // A session for reads refuses some of them as writes.
        assert!(["42501", "25006"].contains(&&*sqlstate), "{refused}: {fault:?}");
    }
    let back = world.execute("SELECT shop.take_back()").await.unwrap();
    assert_eq!(returned(&back), format!("{0}/{0}", world.app));
    world.execute("SELECT shop.pretend()").await.unwrap();
    for id in 10..20 {
        world.execute(&format!("INSERT INTO shop.plain VALUES ({id}, 'captured')")).await.unwrap();
    }
    let transaction = world.begin().await;
    world.execute_in("SELECT shop.pretend()", &transaction).await.unwrap();
    world.execute_in("INSERT INTO shop.plain VALUES (20, 'captured')", &transaction).await.unwrap();
    world.commit(transaction).await;
    let noted = "SELECT count(DISTINCT key) FROM segue.outbox WHERE key[1]::int BETWEEN 10 AND 20";
    assert_eq!(world.pair.source.rows(noted).await, ["11"]);
    world.equal("shop.plain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_role_has_no_right_in_segues_schema_but_on_a_few_functions() {
    let world = World::new("").await;
    world.dual_write().await;
    for side in world.both() {
        let rights = world.fill(
            "SELECT coalesce(string_agg(c.relname, ','), '') FROM pg_class AS c
             WHERE c.relnamespace = 'segue'::regnamespace AND c.relkind IN ('r', 'p')
             AND has_table_privilege('{app}', c.oid,
                'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')",
        );
        assert_eq!(side.rows(&rights).await, [""]);
        let functions = world.fill(
            "SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'segue'::regnamespace
             AND has_function_privilege('{app}', p.oid, 'EXECUTE') ORDER BY 1",
        );
        let few = [
            "control_state",
            "find_answer",
            "has_crashed_since",
            "is_noted",
            "keep_answer",
            "take_key",
            "whose",
        ];
        assert_eq!(side.rows(&functions).await, few);
        let role = world.fill(
            "SELECT rolsuper, rolbypassrls, pg_has_role('{app}', '{segue}', 'MEMBER'),
                has_schema_privilege('{app}', 'segue', 'CREATE')
             FROM pg_roles WHERE rolname = '{app}'",
        );
        assert_eq!(side.rows(&role).await, ["f|f|f|f"]);
    }
    // What it writes past segue is captured all the same.
    let source = &world.pair.source;
    let dsn = source.dsn_with("postgres@", &format!("{}@", world.app));
    let client = try_connect(&dsn).await.unwrap();
    client.batch_execute("INSERT INTO shop.plain VALUES (7, 'past segue')").await.unwrap();
    world.equal("shop.plain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_role_may_not_read_is_refused_with_the_side() {
    let world = World::new("").await;
    let refused = told(&world.query("SELECT v FROM shop.closed").await.unwrap_err());
    assert_eq!((&*refused.sqlstate, refused.side()), ("42501", Side::Source), "{refused:?}");
    let refused = told(&world.execute("DELETE FROM shop.closed").await.unwrap_err());
    assert_eq!((&*refused.sqlstate, refused.side()), ("42501", Side::Source), "{refused:?}");
    assert_eq!(refused.outcome(), Outcome::NotApplied);
    world.dual_write().await;
    world.forced("shadow_read").await;
    world.shifted().await;
    world.cut_over();
    let refused = told(&world.query("SELECT v FROM shop.closed").await.unwrap_err());
    assert_eq!((&*refused.sqlstate, refused.side()), ("42501", Side::Target), "{refused:?}");
    let refused = told(&world.execute("DELETE FROM shop.closed").await.unwrap_err());
    assert_eq!((&*refused.sqlstate, refused.side()), ("42501", Side::Target), "{refused:?}");
    let answer = world.execute("INSERT INTO shop.plain VALUES (8, 'on the target')").await.unwrap();
    assert_eq!(answer.affected_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_effect_once_for_a_role_without_rights_on_the_table() {
    let world = World::new("").await;
    world.dual_write().await;
    let write = "INSERT INTO shop.plain VALUES (30, 'once') RETURNING id";
    let first = world.keyed(write, "k").await.unwrap();
    let again = world.keyed(write, "k").await.unwrap();
    assert!(!first.already_applied && again.already_applied, "{again:?}");
    assert_eq!(returned(&first), returned(&again));
    let other = world.keyed("INSERT INTO shop.plain VALUES (31, 'other')", "k").await.unwrap_err();
    assert_eq!(told(&other).reason, "idempotency.content_differs");
    // Whoever knows a key alone is told nothing, and changes nothing.
    let known = "SELECT is_same::text || coalesce(length(answer)::text, '-') \
        FROM segue.find_answer('k', 'x')";
    assert_eq!(world.values(known).await, ["false-"]);
    world.execute("SELECT segue.keep_answer('k', 'forged')").await.unwrap();
    assert_eq!(returned(&world.keyed(write, "k").await.unwrap()), returned(&first));
    world.equal("shop.plain").await;
}

/// Of a session that is lost it is found out what it did, as the application's role.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_session_is_ended_is_known_not_to_be_applied() {
    let world = World::new("").await;
    world.dual_write().await;
    let slow = [
        "INSERT INTO shop.plain VALUES (40, 'never')",
        "INSERT INTO shop.plain SELECT 41, 'never' FROM pg_sleep(60)",
    ];
    let end = async {
        eventually("the write runs", LIMIT, || async {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND state = 'active' AND query ~ 'INSERT.*pg_sleep' \
                AND pid <> pg_backend_pid()";
            (!world.pair.source.rows(end).await.is_empty()).then_some(())
        })
        .await;
    };
    let (lost, ()) = tokio::join!(world.batch(&slow), end);
    let lost = told(&lost.unwrap_err());
    assert_eq!(lost.outcome(), Outcome::NotApplied, "{lost:?}");
}

/// Segue's role is no superuser here, and has what it was told that it needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_callers_session_of_a_lost_sidecar_is_ended_by_the_others() {
    let world = World::new("").await;
    world.dual_write().await;
    let other = world.another().await;
    world
        .until("both are there", |now| now["fleet"]["members"].as_array().unwrap().len() == 2)
        .await;
    world.begun_at(&other, "INSERT INTO shop.plain VALUES (50, 'never committed')").await;
    other.signal("STOP");
    // It is settled when no session of the epoch before is left in the database.
    world.forced("shadow_read").await;
    other.signal("CONT");
    assert_eq!(world.values("SELECT count(*) FROM shop.plain WHERE id = 50").await, ["0"]);
}

/// The right goes while a sidecar runs; the advice of the refusal gives it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_init_grants_and_somebody_took_is_granted_by_it_again() {
    let world = World::new("").await;
    let write = "INSERT INTO shop.plain VALUES (40, 'again') RETURNING id";
    let take = world.fill("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA segue FROM {app}");
    world.pair.source.run(&take).await;
    let refused = told(&world.keyed(write, "k").await.unwrap_err());
    assert_eq!(refused.reason, "refused.not_admitted", "{refused:?}");
    assert!(refused.hint.contains("run `segue init`"), "{refused:?}");
    world.segue.succeed(&["init"]);
    assert_eq!(returned(&world.keyed(write, "k").await.unwrap()), "40");
}
