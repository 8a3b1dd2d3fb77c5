//! Those who are not told: a member that is stopped, and writers that go round segue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fleet::{Fleet, load, said};
use crate::ledger::Ledger;

/// Stopped under load, with sessions open and writes on their way; woken when all is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_stopped_cannot_write_to_the_old_primary_afterwards() {
    let fleet = Fleet::in_shift(3).await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(200).await;
    fleet.members[2].signal("STOP");
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid > 0 \
        AND classid = 1936156270 AND granted";
    let sessions: i64 = fleet.pair.source.rows(sql).await[0].parse().unwrap();
    assert!(sessions > 0, "sessions show themselves");
    fleet.changed("cutover").await;
    assert_eq!(fleet.phase().await, "reversed");
    clients.acknowledged(200).await;

    // From here on the source may change by the copy alone: its triggers see all others.
    fleet.pair.source.run(WATCH).await;
    fleet.members[2].signal("CONT");
    clients.acknowledged(400).await;
    clients.stop().await;
    assert_eq!(fleet.pair.source.rows("SELECT count(*) FROM intruder").await, ["0"]);
    fleet.everything_agrees(&ledger).await;
    let log = fleet.members[1].logs() + &fleet.members[0].logs();
    assert!(log.contains("a session of a lost member is ended"), "the fence ended its sessions");
}

/// Notes every change of an account that is not a copy.
const WATCH: &str = "
CREATE TABLE intruder (at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION note_intruder() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO intruder DEFAULT VALUES; RETURN NULL; END';
CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON account
    FOR EACH ROW EXECUTE FUNCTION note_intruder();";

/// As psql would, all through a cutover, in both kinds of transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_go_round_segue_are_fenced() {
    let fleet = Fleet::in_shift(2).await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(100).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut outsiders = Vec::new();
    for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
        let (client, stop) = (fleet.pair.source.client().await, Arc::clone(&stop));
        outsiders.push(tokio::spawn(async move {
            let (mut written, mut refused) = (Vec::new(), 0_u64);
            while !stop.load(Ordering::Relaxed) {
                let begin = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT 1");
                client.batch_execute(&begin).await.unwrap();
                let insert = "INSERT INTO ticket (note) VALUES ('round') RETURNING id";
                let made = client.query_one(insert, &[]).await;
                match made {
                    Ok(row) => {
                        if client.batch_execute("COMMIT").await.is_ok() {
                            written.push(i64::from(row.get::<_, i32>(0)));
                        }
                    }
                    Err(error) => {
                        let code = error.code().map(|code| code.code().to_owned());
                        assert!(
                            code.as_deref().is_some_and(|it| ["25006", "40001"].contains(&it)),
                            "{error:?}"
                        );
                        client.batch_execute("ROLLBACK").await.unwrap();
                        refused += 1;
                    }
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (written, refused)
        }));
    }
    fleet.changed("cutover").await;
    clients.acknowledged(100).await;
    stop.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    for outsider in outsiders {
        let (ids, refused) = outsider.await.unwrap();
        println!("written {}, refused {refused}", ids.len());
        assert!(!ids.is_empty() && refused > 0);
        written.extend(ids);
    }
    clients.stop().await;
    fleet.everything_agrees(&ledger).await;
    // What they were told is there is there, on both sides; nothing else is.
    written.sort_unstable();
    let ids = "SELECT id FROM ticket WHERE note = 'round' ORDER BY id";
    let expected: Vec<String> = written.iter().map(ToString::to_string).collect();
    assert_eq!(fleet.pair.target.rows(ids).await, expected);
    assert_eq!(fleet.pair.source.rows(ids).await, expected);
}

/// A transaction that stays open calls the cutover off, and is not killed for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_calls_the_cutover_off() {
    let fleet = Fleet::in_shift(2).await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(100).await;
    fleet.settled_at_all().await;
    let open = fleet.pair.source.client().await;
    open.batch_execute("BEGIN; INSERT INTO ticket (note) VALUES ('open')").await.unwrap();
    let asked = ["cutover", "--yes", "--force", "--reason", "a test", "--max-pause", "3s"];
    let output = fleet.members[0].run(&asked);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("transaction"), "{told}");
    clients.acknowledged(100).await;
    open.batch_execute("COMMIT").await.unwrap();
    assert_eq!(fleet.phase().await, "shift");
    fleet.changed("cutover").await;
    clients.acknowledged(100).await;
    clients.stop().await;
    ledger.no_errors("in the end");
    fleet.everything_agrees(&ledger).await;
}
