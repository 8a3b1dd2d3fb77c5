//! To CockroachDB and back, on a stand-in for it (`support/stand_in.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use segue::failpoint::FailPoint;

use crate::crashes::lost_at_each;
use crate::fleet::{Fleet, LIMIT, load, said};
use crate::ledger::Ledger;
use crate::stopped::{PLACES, stopped_at_each};
use crate::support::eventually;
use crate::there_and_back::there_and_back;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_cockroach_and_back_and_there_again_under_load() {
    there_and_back(Fleet::onto_cockroach(3).await).await;
}

/// A transaction of segue's meets another one more often than a stand-in without contention between
/// ranges shows: one of so many commits fails, and now and then a statement before.
const CONFLICT_ONE_OF: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_cockroach_and_back_where_transactions_meet_one_another() {
    there_and_back(Fleet::onto_cockroach_in_conflict(3, CONFLICT_ONE_OF).await).await;
}

async fn reversed() -> Fleet {
    let fleet = Fleet::onto_cockroach(3).await;
    fleet.changed("cutover").await;
    assert_eq!(fleet.phase().await, "reversed");
    fleet
}

/// Stopped under load, with writes on their way; woken when all is over. No lock keeps it out, and
/// nobody can end its sessions: only the row that each of its writes reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_stopped_cannot_write_to_cockroach_afterwards() {
    let fleet = reversed().await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(200).await;
    fleet.members[2].signal("STOP");
    fleet.changed("rollback").await;
    assert_eq!(fleet.phase().await, "shift");
    clients.acknowledged(200).await;

    // From here on the target may change by the copy alone.
    fleet.pair.target.run(WATCH).await;
    fleet.members[2].signal("CONT");
    clients.acknowledged(400).await;
    clients.stop().await;
    assert_eq!(fleet.pair.target.rows("SELECT count(*) FROM intruder").await, ["0"]);
    fleet.everything_agrees(&ledger).await;
}

/// Notes every change of an account that is not a copy.
const WATCH: &str = "
CREATE TABLE intruder (at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION note_intruder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('segue.copies', true) IS DISTINCT FROM 'on' THEN
        INSERT INTO intruder DEFAULT VALUES;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON account
    FOR EACH ROW EXECUTE FUNCTION note_intruder();";

/// Serializable transactions of others are captured until the fence, and refused from then on;
/// those that nothing orders are refused all along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_go_round_segue_are_fenced_there_as_well() {
    let fleet = reversed().await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(100).await;
    let unordered = fleet.pair.target.client().await;
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; INSERT INTO ticket (note) VALUES ('x')";
    let error = unordered.batch_execute(begin).await.unwrap_err();
    let said = error.as_db_error().unwrap();
    assert_eq!(said.code().code(), "55000");
    assert!(said.hint().unwrap().contains("SERIALIZABLE"), "{said:?}");
    drop(unordered);

    let stop = Arc::new(AtomicBool::new(false));
    let (client, stopped) = (fleet.pair.target.client().await, Arc::clone(&stop));
    let outsider = tokio::spawn(async move {
        let (mut written, mut refused) = (Vec::new(), 0_u64);
        while !stopped.load(Ordering::Relaxed) {
            client.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1").await.unwrap();
            let insert = "INSERT INTO ticket (note) VALUES ('round') RETURNING id";
            match client.query_one(insert, &[]).await {
                Ok(row) => {
                    if client.batch_execute("COMMIT").await.is_ok() {
                        written.push(row.get::<_, i64>(0));
                    }
                }
                Err(error) => {
                    let code = error.code().map(|code| code.code().to_owned());
                    let expected = ["25006", "40001"];
                    assert!(code.is_some_and(|it| expected.contains(&&*it)), "{error:?}");
                    client.batch_execute("ROLLBACK").await.unwrap();
                    refused += 1;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (written, refused)
    });
    fleet.changed("rollback").await;
    clients.acknowledged(100).await;
    stop.store(true, Ordering::Relaxed);
    let (mut written, refused) = outsider.await.unwrap();
    println!("written {}, refused {refused}", written.len());
    assert!(!written.is_empty() && refused > 0);
    clients.stop().await;
    fleet.everything_agrees(&ledger).await;
    written.sort_unstable();
    let ids = "SELECT id FROM ticket WHERE note = 'round' ORDER BY id";
    let expected: Vec<String> = written.iter().map(ToString::to_string).collect();
    assert_eq!(fleet.pair.target.rows(ids).await, expected);
    assert_eq!(fleet.pair.source.rows(ids).await, expected);
}

/// Whoever rolls back is lost at each place; its mark is taken off, or its work is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinator_of_a_rollback_is_lost_at_every_step() {
    lost_at_each(reversed().await, FailPoint::OF_A_CUTOVER, 2).await;
}

/// It sleeps past the end of its mark, and wakes to a flip that it may not make any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinator_of_a_rollback_is_stopped_and_wakes() {
    stopped_at_each(reversed().await, &PLACES).await;
}

/// Labels of seats are never as long as a seat's may be.
const BACKFILL: [&str; 6] =
    ["backfill", "--empty-target", "--chunk-rows", "1000", "--accept", "column.narrower"];

/// From the first command to the way back: a history is copied, both sides are verified in either
/// direction, and what was planted is found and mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_way_by_its_commands() {
    let mut fleet = Fleet::before_cockroach().await;
    let history = "INSERT INTO account (id, version, note, body) SELECT i, 1, 'n' || i, \
        json_build_object('n', i) FROM generate_series(-5000, -1) AS i; \
        INSERT INTO line SELECT i, 1 FROM generate_series(-5000, -1) AS i";
    fleet.pair.source.run(history).await;
    fleet.members[0].succeed(&["init"]);
    fleet.members[0].serve().await;
    fleet.advance("dual_write").await;
    let told = fleet.members[0].succeed(&BACKFILL);
    println!("{told}");
    let rows = "SELECT count(*) FROM account";
    assert_eq!(fleet.pair.target.rows(rows).await, ["5000"]);
    println!("{}", fleet.members[0].succeed(&["verify"]));

    // What is not a copy is refused; planted as one, it is found.
    let spoil = "BEGIN; SELECT set_config('segue.copies', 'on', true); \
        UPDATE account SET note = 'spoilt' WHERE id = -2000; COMMIT";
    fleet.pair.target.run(spoil).await;
    let found = fleet.members[0].run(&["verify"]);
    assert_eq!(found.status.code(), Some(3), "{}", said(&found));
    fleet.members[0].succeed(&["verify", "--repair"]);

    fleet.advance("shadow_read").await;
    fleet.advance("shift").await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(100).await;
    fleet.changed("cutover").await;
    assert_eq!(fleet.phase().await, "reversed");
    clients.acknowledged(100).await;
    println!("{}", fleet.members[0].succeed(&["verify"]));
    let spoil = "UPDATE account SET note = 'spoilt' WHERE id = -3000";
    fleet.pair.source.run_as_copy(spoil).await;
    eventually("it is found", LIMIT, || async {
        let refused = said(&fleet.change(0, "rollback", &[]));
        assert_eq!(fleet.phase().await, "reversed", "{refused}");
        println!("{refused}");
        refused.contains("account differs").then_some(())
    })
    .await;
    fleet.members[0].succeed(&["verify", "--repair"]);
    fleet.changed("rollback").await;
    clients.acknowledged(100).await;
    clients.stop().await;
    ledger.no_errors("in the end");
    // The ledger knows of nothing that was there before.
    fleet.pair.source.run("DELETE FROM account WHERE id < 0").await;
    fleet.everything_agrees(&ledger).await;
}

/// Whoever has claimed it is stopped, and nobody can end its session: the rollback copies what is
/// left by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_member_has_claimed_is_copied_by_the_rollback() {
    let fleet = reversed().await;
    let (source, target) = (&fleet.pair.source, &fleet.pair.target);
    let claim = waiting_key(
        &fleet,
        "(SELECT table_id FROM segue.migrated_table \
        WHERE target_name = 'ticket')",
    )
    .await;
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT * FROM segue.outbox FOR UPDATE";
    claim.batch_execute(begin).await.unwrap();
    fleet.changed("rollback").await;
    assert_eq!(fleet.phase().await, "shift");
    let note = "SELECT note FROM ticket WHERE id = 7";
    assert_eq!(source.rows(note).await, ["uncaptured"]);
    assert_eq!(target.rows(note).await, ["uncaptured"]);
    drop(claim);
}

/// Called off with the fence standing: it is lifted at once, and not when it comes to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_that_is_called_off_leaves_no_fence_behind() {
    let fleet = reversed().await;
    drop(waiting_key(&fleet, "4711").await);
    eventually("it comes so far", LIMIT, || async {
        let output = fleet.members[0].run(&["rollback", "--yes", "--max-pause", "2s"]);
        let said = said(&output);
        assert!(!output.status.success(), "{said}");
        println!("{said}");
        said.contains("1 keys are not on the source yet").then_some(())
    })
    .await;
    let fence = "SELECT phase, fenced_by FROM segue.control";
    assert_eq!(fleet.pair.target.rows(fence).await, ["reversed|NULL"]);
    // Nobody need come by for it.
    fleet.pair.target.run("INSERT INTO ticket (note) VALUES ('at once')").await;
}

/// A change that nobody captured, with its key in the outbox for later; answers a session there.
async fn waiting_key(fleet: &Fleet, table_id: &str) -> tokio_postgres::Client {
    let target = &fleet.pair.target;
    let uncaptured = "BEGIN; SELECT set_config('segue.copies', 'on', true); \
        UPDATE ticket SET note = 'uncaptured' WHERE id = 7; COMMIT";
    let key = format!(
        "INSERT INTO segue.outbox (slot, table_id, key, next_attempt_at) \
         VALUES (0, {table_id}, '{{7}}', now() + '1 hour'::interval)"
    );
    target.run("DELETE FROM segue.outbox").await;
    target.run(uncaptured).await;
    target.run(&key).await;
    target.client().await
}

/// Whoever had it is lost, and nobody writes through segue: those who go round it are let in again
/// all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_was_left_behind_is_lifted_by_any_member() {
    let fleet = reversed().await;
    let target = &fleet.pair.target;
    let fence = "UPDATE segue.control SET fenced_by = gen_random_uuid(), \
        fenced_until = clock_timestamp() + '1 second'::interval";
    target.run(fence).await;
    eventually("it is lifted", LIMIT, || async {
        (target.rows("SELECT fenced_by FROM segue.control").await == ["NULL"]).then_some(())
    })
    .await;
    target.run("INSERT INTO ticket (note) VALUES ('round')").await;
}
