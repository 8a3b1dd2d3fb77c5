//! The old primary after a cutover, and the end of the migration.

use tokio_postgres::Client;

use crate::fleet::{Fleet, LIMIT, said};
use crate::support::guard::signal;
use crate::support::{connect, eventually};

const ROLE: &str = "CREATE ROLE shop LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO shop; \
    GRANT USAGE ON SCHEMA segue TO shop; CREATE TABLE besides (id int); GRANT ALL ON besides TO shop";

async fn as_shop(fleet: &Fleet) -> Client {
    connect(&fleet.pair.source.dsn_with("//postgres@", "//shop@")).await
}

/// The leader looks at the roles by itself, and may come before the cutover's last step.
fn by_the_leader(fleet: &Fleet, changed: &str) -> bool {
    let said = format!("roles of applications on the source were changed {changed}");
    fleet.members.iter().any(|member| member.logs().contains(&said))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applications_cannot_write_to_the_old_primary_until_it_is_the_primary_again() {
    let more = "read_only_roles = [\"shop\"]\n[tables]\nexclude = [\"public.besides\"]\n";
    let fleet = Fleet::in_shift_with(2, more).await;
    let refused = fleet.change(0, "cutover", &[]);
    let told = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("there is no role shop on the source"), "{told}");

    fleet.pair.source.run(ROLE).await;
    let before = as_shop(&fleet).await;
    before.batch_execute("INSERT INTO besides VALUES (1)").await.unwrap();
    let told = fleet.changed("cutover").await;
    let told = told.contains("1 roles are read-only on the source, 1 of their sessions");
    assert!(told || by_the_leader(&fleet, "roles=1 ended=1 read_only=true"));
    assert!(before.batch_execute("SELECT 1").await.is_err(), "its session was ended");

    let after = as_shop(&fleet).await;
    after.batch_execute("SELECT count(*) FROM besides").await.unwrap();
    let refused = after.batch_execute("INSERT INTO besides VALUES (2)").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");
    // Whoever takes the setting back does not get past the trigger.
    after.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    let insert = "INSERT INTO ticket (id, note) VALUES (1000, 'by hand')";
    let refused = after.batch_execute(insert).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");

    let told = fleet.changed("rollback").await;
    let told = told.contains("1 roles may write on the source again");
    assert!(told || by_the_leader(&fleet, "roles=1 ended=0 read_only=false"));
    as_shop(&fleet).await.batch_execute("INSERT INTO besides VALUES (3)").await.unwrap();
    assert_eq!(fleet.pair.source.rows("SELECT id FROM besides ORDER BY id").await, ["1", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_migration_ends_behind_its_gate_and_leaves_the_target_alone() {
    let fleet = Fleet::in_shift(2).await;
    let (source, target) = (&fleet.pair.source, &fleet.pair.target);
    let early = fleet.members[0].run(&["complete", "--yes"]);
    assert!(!early.status.success(), "not from shift: {}", said(&early));
    fleet.changed("cutover").await;
    fleet.settled_at_all().await;
    let told = fleet.until_done(&["complete", "--yes"]).await;
    assert!(told.contains("the target is alone") && told.contains("DROP SCHEMA segue"), "{told}");
    assert_eq!(fleet.phase().await, "target_only");
    fleet.settled("target_only").await;

    // The target takes writes of everybody, and nothing of them is copied any more.
    target.run("INSERT INTO ticket (note) VALUES ('after')").await;
    let waiting = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
    assert_eq!(target.rows(waiting).await, ["0"]);
    assert_eq!(source.rows("SELECT count(*) FROM ticket WHERE note = 'after'").await, ["0"]);
    let back = fleet.change(0, "rollback", &[]);
    assert!(!back.status.success(), "there is no way back: {}", said(&back));
    fleet.members[0].succeed(&["capture", "remove"]);
    target.run("DROP SCHEMA segue CASCADE; INSERT INTO ticket (note) VALUES ('free')").await;
}

/// A standby that is promoted without the flip would be a second primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standbys_of_the_old_primary_are_waited_for_and_told_of() {
    let fleet = Fleet::in_shift(1).await;
    let mut standby = fleet.source.receive_log();
    let streams = "SELECT state FROM pg_stat_replication";
    eventually("the standby streams", LIMIT, || async {
        (fleet.pair.source.rows(streams).await == ["streaming"]).then_some(())
    })
    .await;
    let told = fleet.changed("cutover").await;
    assert!(told.contains("reversed; 1 standbys have it"), "{told}");
    fleet.changed("rollback").await;

    // Stopped, it cannot say so.
    signal("STOP", &[standby.id()]);
    let told = fleet.changed("cutover").await;
    assert!(told.contains("1 of 1 standbys have not confirmed it"), "{told}");
    signal("CONT", &[standby.id()]);
    standby.kill().unwrap();
    standby.wait().unwrap();
}
