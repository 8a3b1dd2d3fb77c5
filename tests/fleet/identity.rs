//! A configuration, or a name in it, that leads to another database than the migration's.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tonic::Code;

use crate::support::{Database, Major, Pair, Proxy, Segue, Server, connect, eventually, shared};
use crate::world::{ITEMS, LIMIT, QUICK, client, history, read, settled, status, until, write};

const REFUSED: i32 = 4;
/// Within this a database that answers in the place of another is told of.
const COUNT: &str = "SELECT count(*) FROM item";
const WAITING: &str = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
const ROWS: &str = "SELECT id, version FROM item ORDER BY id";

async fn set_up(pair: &Pair, phase: &str) -> Segue {
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), QUICK);
    segue.init_in(phase).await;
    segue
}

/// Neither a sidecar nor a command works with these two; what they say.
async fn refused(source: &str, target: &str, commands: &[&[&str]]) -> String {
    let mut stray = Segue::prepare(source, target, QUICK);
    stray.spawn();
    let ended = stray.ended().await;
    assert!(!ended.success(), "it serves another database:\n{}", stray.logs());
    for command in commands {
        let output = stray.run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(REFUSED), "{command:?}: {said}");
        assert!(
            said.contains("correct source.dsn or target.dsn") || said.contains("swap"),
            "{said}"
        );
    }
    stray.logs()
}

async fn equal(pair: &Pair) {
    eventually("both sides are equal", LIMIT, || async {
        let (source, target) = (pair.source.rows(ROWS).await, pair.target.rows(ROWS).await);
        let waiting = pair.source.rows(WAITING).await;
        (source == target && waiting == ["0"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_target_is_refused_and_nothing_is_written_there() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let mut member = set_up(&pair, "dual_write").await;
    let server = shared(Major::V18);
    let empty = Database::create(server, ITEMS).await;
    let apart = Pair::fresh(ITEMS, ITEMS).await;
    set_up(&apart, "dual_write").await;
    // A copy of the right one, with all that segue has there.
    let copy = Database::create(server, "").await;
    let admin = connect(&server.dsn("postgres")).await;
    let name = copy.name();
    admin.batch_execute(&format!("DROP DATABASE {name}")).await.unwrap();
    let copied = format!("CREATE DATABASE {name} TEMPLATE {}", pair.target.name());
    eventually("nobody is connected to the target", LIMIT, || async {
        admin.batch_execute(&copied).await.ok()
    })
    .await;
    member.serve().await;
    let mut sql = client(&member);
    for id in 0..20 {
        write(&mut sql, id, 1).await.unwrap();
    }
    let commands: [&[&str]; 5] = [
        &["init"],
        &["backfill"],
        &["verify", "--repair"],
        &["capture", "install"],
        &["capture", "remove"],
    ];
    for other in [&empty, &apart.target, &copy] {
        let said = refused(pair.source.dsn(), other.dsn(), &commands).await;
        let source = pair.source.name();
        assert!(said.contains(&format!("/{source}")) && said.contains(other.name()), "{said}");
        assert!(said.contains("segue adopt target --reason"), "{said}");
        assert_eq!(other.rows(COUNT).await, ["0"], "{}", other.name());
    }
    let schema = "SELECT count(*) FROM pg_namespace WHERE nspname = 'segue'";
    assert_eq!(empty.rows(schema).await, ["0"], "segue's tables were made there");
    equal(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_source_and_swapped_sides_are_refused() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    set_up(&pair, "dual_write").await;
    let other = Database::create(shared(Major::V15), ITEMS).await;
    let (source, target) = (pair.source.dsn(), pair.target.dsn());
    let commands: [&[&str]; 3] = [&["init"], &["backfill"], &["verify"]];
    let said = refused(target, source, &commands).await;
    assert!(said.contains("source and target are swapped"), "{said}");
    let said = refused(other.dsn(), target, &commands[..1]).await;
    assert!(said.contains(other.name()) && said.contains(pair.target.name()), "{said}");
    let idle: [&[&str]; 1] = [&["backfill", "--source-is-idle"]];
    refused(other.dsn(), target, &idle).await;
}

/// A database of the same name on another server, where a name in the DNS or a balancer leads from
/// one session to the next.
async fn elsewhere(name: &str) -> (Server, Database) {
    let server = Server::start(Major::V18, &crate::support::Options::default());
    let other = Database::create(&server, ITEMS).await;
    let admin = connect(&server.dsn("postgres")).await;
    let renamed = format!("ALTER DATABASE {} RENAME TO {name}", other.name());
    eventually("nobody is connected", LIMIT, || async { admin.batch_execute(&renamed).await.ok() })
        .await;
    (server, other)
}

async fn count(server: &Server, database: &str) -> i64 {
    let client = connect(&server.dsn(database)).await;
    client.query_one(COUNT, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_to_another_target_gives_no_session_with_it() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let right = shared(Major::V18);
    let name = pair.target.name();
    let (wrong, _renamed) = elsewhere(name).await;
    let proxy = Proxy::start(right.port());
    let by_proxy = right.dsn_by_port(name, proxy.port());
    let mut member = Segue::prepare(pair.source.dsn(), &by_proxy, QUICK);
    member.init_in("dual_write").await;
    member.serve().await;
    let mut sql = client(&member);
    write(&mut sql, 1, 1).await.unwrap();
    // First one that segue knows nothing of, then one of another migration.
    for round in 0..2 {
        if round == 1 {
            let apart = Database::create(shared(Major::V15), ITEMS).await;
            let other = Segue::prepare(apart.dsn(), &wrong.dsn(name), QUICK);
            other.init_in("dual_write").await;
        }
        proxy.lead_to(wrong.port());
        proxy.reset();
        for id in 10..30 {
            write(&mut sql, id, round).await.expect("callers need nothing of the target");
        }
        let told = until(&member, "it is told", |now| {
            now["warnings"].to_string().contains("correct target.dsn")
        });
        let told = told.await["warnings"].to_string();
        assert!(told.contains("is not the target of this migration"), "{told}");
        assert!(told.contains(name) && told.contains("target.dsn"), "{told}");
        assert_eq!(count(&wrong, name).await, 0, "rows were written to another database");
        proxy.lead_to(right.port());
        proxy.reset();
        equal(&pair).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_to_another_source_takes_no_call() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let right = shared(Major::V15);
    let name = pair.source.name();
    let (wrong, _renamed) = elsewhere(name).await;
    let proxy = Proxy::start(right.port());
    let by_proxy = right.dsn_by_port(name, proxy.port());
    let mut member = Segue::prepare(&by_proxy, pair.target.dsn(), QUICK);
    member.init_in("dual_write").await;
    member.serve().await;
    let mut sql = client(&member);
    write(&mut sql, 1, 1).await.unwrap();
    proxy.lead_to(wrong.port());
    proxy.reset();
    let refused = eventually("calls are refused", LIMIT, || {
        let mut sql = sql.clone();
        async move {
            let refused = write(&mut sql, 2, 2).await.err()?;
            refused.message().contains("is not the source of this migration").then_some(refused)
        }
    })
    .await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(read(&mut sql, 1, "").await.is_err(), "another database was read");
    assert_eq!(count(&wrong, name).await, 0);
    proxy.lead_to(right.port());
    proxy.reset();
    eventually("calls are answered again", LIMIT, || {
        let mut sql = sql.clone();
        async move { write(&mut sql, 3, 3).await.ok() }
    })
    .await;
    equal(&pair).await;
    assert_eq!(pair.source.rows("SELECT count(*) FROM item WHERE id = 2").await, ["0"]);
}

/// The folder of a server that is stopped, as a backup or in its place.
fn copy_folder(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

fn own_servers() -> (Server, Server) {
    let options = crate::support::Options::default();
    (Server::start(Major::V15, &options), Server::start(Major::V18, &options))
}

/// Generations have been noted on both sides after the backup.
async fn noted(pair: &Pair) {
    for database in [&pair.source, &pair.target] {
        let known = "SELECT other_generation FROM segue.identity";
        let before: i64 = database.rows(known).await[0].parse().unwrap();
        eventually("a generation is noted", LIMIT, || async {
            let now: i64 = database.rows(known).await[0].parse().unwrap();
            (now > before + 1).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_target_is_noticed_and_copied_again() {
    let (source, target) = own_servers();
    let pair = Pair::within(&source, &target, ITEMS, ITEMS).await;
    let mut member = set_up(&pair, "dual_write").await;
    let (data, backup) =
        (target.socket_folder().join("data"), target.socket_folder().join("backup"));
    target.stop_fast();
    copy_folder(&data, &backup);
    target.restart();
    member.serve().await;
    let mut sql = client(&member);
    for id in 0..50 {
        write(&mut sql, id, 1).await.unwrap();
    }
    equal(&pair).await;
    member.succeed(&["backfill"]);
    member.succeed(&["verify"]);
    // As long ago as a backup is: nothing of it is in the window any more.
    pair.source.run("DELETE FROM segue.outbox WHERE forgotten_at IS NOT NULL").await;
    noted(&pair).await;

    target.stop_fast();
    copy_folder(&backup, &data);
    target.restart();
    assert_eq!(pair.target.rows(COUNT).await, ["0"]);
    let told = until(&member, "it is told", |now| {
        now["warnings"].to_string().contains("the target went back in time")
    });
    told.await;
    equal(&pair).await;
    assert_eq!(pair.target.rows(COUNT).await, ["50"]);
    let events = serde_json::to_string(&history(&member)).unwrap();
    assert!(events.contains("the target went back in time"), "{events}");
    let now = until(&member, "proofs are void", |now| now["warnings"].to_string().contains("void"));
    let now = now.await["warnings"].to_string();
    assert!(now.contains("the proofs of public.item are void: the target went back"), "{now}");
    // Once, and sessions are open again.
    write(&mut sql, 60, 1).await.unwrap();
    equal(&pair).await;
    let times = "SELECT count(*) FROM segue.history WHERE reason LIKE '%went back%'";
    assert_eq!(pair.source.rows(times).await, ["1"]);
    member.succeed(&["verify"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_primary_is_gone_on_with_only_by_command() {
    let (source, target) = own_servers();
    let pair = Pair::within(&source, &target, ITEMS, ITEMS).await;
    let mut member = set_up(&pair, "dual_write").await;
    pair.source.run("INSERT INTO item VALUES (1, 1)").await;
    let (data, backup) =
        (source.socket_folder().join("data"), source.socket_folder().join("backup"));
    source.stop_fast();
    copy_folder(&data, &backup);
    source.restart();
    member.serve().await;
    let mut sql = client(&member);
    for id in 10..50 {
        write(&mut sql, id, 1).await.unwrap();
    }
    equal(&pair).await;
    noted(&pair).await;

    source.stop_fast();
    copy_folder(&backup, &data);
    source.restart();
    let refused = eventually("calls are refused", LIMIT, || {
        let mut sql = sql.clone();
        async move {
            let refused = write(&mut sql, 2, 2).await.err()?;
            refused.message().contains("went back in time").then_some(refused)
        }
    })
    .await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let told = until(&member, "it is told", |now| now["warnings"].to_string().contains("adopt"));
    assert!(told.await["warnings"].to_string().contains("segue adopt primary --reason"));
    member.terminate().await;
    member.spawn();
    assert!(!member.ended().await.success());
    assert!(member.logs().contains("segue adopt primary --reason"), "{}", member.logs());
    assert_eq!(pair.target.rows(COUNT).await, ["41"], "the target was changed by itself");

    let asked = member.run(&["adopt", "primary", "--reason", "the disk is gone"]);
    assert!(!asked.status.success(), "it was not asked");
    let said = member.succeed(&["adopt", "primary", "--reason", "the disk is gone", "--yes"]);
    assert!(said.contains("went back in time"), "{said}");
    member.serve().await;
    let mut sql = client(&member);
    write(&mut sql, 3, 3).await.unwrap();
    equal(&pair).await;
    assert_eq!(pair.target.rows(ROWS).await, ["1|1", "3|3"]);
    let events = serde_json::to_string(&history(&member)).unwrap();
    assert!(events.contains("the disk is gone"), "{events}");
}

/// A standby has its primary's identity, place and generation, and a timeline of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_is_the_database_that_it_was() {
    let (source, target) = own_servers();
    let pair = Pair::within(&source, &target, ITEMS, ITEMS).await;
    let mut member = set_up(&pair, "dual_write").await;
    member.serve().await;
    let mut sql = client(&member);
    write(&mut sql, 1, 1).await.unwrap();
    noted(&pair).await;
    let timeline = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)";
    for (server, database) in [(&source, &pair.source), (&target, &pair.target)] {
        let before = database.rows(timeline).await;
        database.run("ALTER SYSTEM SET restore_command = '/bin/false'").await;
        server.stop_fast();
        let data = server.socket_folder().join("data");
        let signal = Command::new("cp")
            .arg("-a")
            .arg(data.join("PG_VERSION"))
            .arg(data.join("recovery.signal"))
            .status();
        assert!(signal.unwrap().success());
        server.restart();
        eventually("it is promoted", LIMIT, || async {
            (database.rows("SELECT pg_is_in_recovery()").await == ["f"]).then_some(())
        })
        .await;
        assert_ne!(database.rows(timeline).await, before, "it has no timeline of its own");
        eventually("calls are answered again", LIMIT, || {
            let mut sql = sql.clone();
            async move { write(&mut sql, 2, 2).await.ok() }
        })
        .await;
        equal(&pair).await;
    }
    let warnings = status(&member)["warnings"].to_string();
    assert!(!warnings.contains("went back"), "{warnings}");
}

/// A segue of before wrote no identities.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_was_set_up_before_is_taken_on_in_words() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let mut member = set_up(&pair, "dual_write").await;
    let version = segue::postgres::schema::IDENTITY_SINCE;
    for database in [&pair.source, &pair.target] {
        let earlier = format!(
            "DROP TABLE segue.identity; DELETE FROM segue.schema_version WHERE version >= {version}"
        );
        database.run(&earlier).await;
    }
    let empty = Database::create(shared(Major::V18), ITEMS).await;
    refused(pair.source.dsn(), empty.dsn(), &[]).await;
    member.serve().await;
    write(&mut client(&member), 1, 1).await.unwrap();
    equal(&pair).await;
    let events = serde_json::to_string(&history(&member)).unwrap();
    assert!(
        events.contains("taken on were source") && events.contains(pair.target.name()),
        "{events}"
    );
    let ids = |own: &str, other: &str| {
        format!("SELECT migration_id, {own}, {other}, paired FROM segue.identity")
    };
    let source = pair.source.rows(&ids("own_id::text", "other_id::text")).await;
    assert_eq!(source, pair.target.rows(&ids("other_id::text", "own_id::text")).await);
    refused(pair.source.dsn(), empty.dsn(), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_target_is_adopted_by_command_and_its_copy_begins_again() {
    let history_rows =
        format!("{ITEMS}; INSERT INTO item SELECT n, n FROM generate_series(1, 300) n");
    let pair = Pair::fresh(&history_rows, ITEMS).await;
    let mut member = set_up(&pair, "dual_write").await;
    member.serve().await;
    until(&member, "the phase has settled", settled).await;
    member.succeed(&["backfill"]);
    member.succeed(&["verify"]);
    member.succeed(&["phase", "advance", "--to", "shadow_read", "--force", "--reason", "a test"]);

    let other = Database::create(shared(Major::V18), ITEMS).await;
    let mut next = Segue::prepare(pair.source.dsn(), other.dsn(), QUICK);
    let adopt = ["adopt", "target", "--reason", "the first one was too small", "--yes"];
    let busy = next.run(&adopt);
    assert_eq!(busy.status.code(), Some(REFUSED), "{busy:?}");
    assert!(String::from_utf8_lossy(&busy.stderr).contains("sidecars work by the target"));
    assert!(member.terminate().await);
    let asked = next.run(&adopt[..4]);
    assert!(String::from_utf8_lossy(&asked.stderr).contains("the copy begins again on target"));
    refused(pair.source.dsn(), other.dsn(), &[&["backfill"]]).await;
    assert_eq!(other.rows(COUNT).await, ["0"]);

    let said = next.succeed(&adopt);
    assert!(said.contains("phase dual_write"), "{said}");
    assert!(next.succeed(&adopt).contains("already"));
    next.serve().await;
    until(&next, "the phase has settled", settled).await;
    let mut sql = client(&next);
    write(&mut sql, 1, 1000).await.unwrap();
    let ready = next.run(&["phase", "advance", "--to", "shadow_read", "--reason", "a test"]);
    assert!(!ready.status.success(), "the copy of before was trusted");
    next.succeed(&["backfill"]);
    next.succeed(&["verify"]);
    let adopted = Pair { source: pair.source, target: other };
    equal(&adopted).await;
    assert_eq!(adopted.target.rows(COUNT).await, ["300"]);
    let events = serde_json::to_string(&history(&next)).unwrap();
    assert!(events.contains("the first one was too small"), "{events}");
    // The earlier one is no target any more.
    let said = refused(adopted.source.dsn(), pair.target.dsn(), &[&["backfill"]]).await;
    assert!(said.contains("not the one that this migration has now"), "{said}");
    tokio::time::timeout(Duration::from_secs(60), equal(&adopted)).await.unwrap();
}
