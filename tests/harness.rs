//! The harness itself: what the other tests rely on.

mod support;

use std::process::Command;
use std::time::Duration;

use support::guard::processes_in;
use support::{
    Bouncer, Database, Durability, Major, Options, Pair, PoolMode, Proxy, Server, connect,
    eventually, eventually_blocking, try_connect,
};

const LIMIT: Duration = Duration::from_secs(20);
/// Set for the copy of this test binary that is killed.
const VICTIM: &str = "SEGUE_TEST_VICTIM";

#[tokio::test]
async fn a_pair_is_two_versions_and_empty_databases() {
    let pair = Pair::fresh("CREATE TABLE t (a int)", "CREATE TABLE t (a int8)").await;
    let version = "SELECT current_setting('server_version_num')::int / 10000";
    assert_eq!(pair.source.rows(version).await, ["15"]);
    if std::env::var("COCKROACH_URL").is_err() {
        assert_eq!(pair.target.rows(version).await, ["18"]);
    }
    assert_eq!(pair.source.rows("SELECT NULL, count(*) FROM t").await, ["NULL|0"]);
    let other = Pair::fresh("", "").await;
    assert_ne!(other.source.name(), pair.source.name());
}

#[tokio::test]
async fn a_server_crashes_stalls_and_comes_back_with_what_was_committed() {
    let options = Options { durability: Durability::Fsync, ..Options::default() };
    let server = Server::start(Major::V18, &options);
    let database =
        Database::create(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    server.stop_immediate();
    assert!(try_connect(database.dsn()).await.is_err());
    server.restart();
    assert_eq!(database.rows("SELECT a FROM t").await, ["1"]);

    let client = database.client().await;
    server.stall();
    let asked = client.simple_query("SELECT 1");
    tokio::pin!(asked);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut asked).await;
    assert!(early.is_err(), "a stalled server answered");
    server.resume();
    tokio::time::timeout(LIMIT, asked).await.expect("it goes on").expect("and answers");
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let options = Options { password: Some("s3cret".to_owned()), ..Options::default() };
    let server = Server::start(Major::V15, &options);
    connect(&server.dsn("postgres")).await;
    assert!(try_connect(&server.dsn("postgres").replace("s3cret", "wrong")).await.is_err());
}

#[tokio::test]
async fn a_proxy_makes_the_faults_of_a_network() {
    let server = support::shared(Major::V15);
    let proxy = Proxy::start(server.port());
    let dsn = server.dsn_by_port("postgres", proxy.port());

    let client = connect(&dsn).await;
    client.simple_query("SELECT 1").await.expect("traffic goes through");
    proxy.pause();
    let held = tokio::time::timeout(Duration::from_millis(200), client.simple_query("SELECT 1"));
    assert!(held.await.is_err(), "a paused proxy let an answer through");
    proxy.resume();
    client.simple_query("SELECT 1").await.expect("it goes on where it was");

    proxy.refuse(true);
    eventually("new connections are refused", LIMIT, || async { try_connect(&dsn).await.err() })
        .await;
    client.simple_query("SELECT 1").await.expect("open connections stay");
    proxy.refuse(false);
    eventually("new connections are taken", LIMIT, || async { try_connect(&dsn).await.ok() }).await;

    proxy.cut_after(1000);
    client.simple_query("SELECT repeat('x', 100000)").await.expect_err("cut in mid-answer");
    let client = connect(&dsn).await;
    client.simple_query("SELECT repeat('x', 100000)").await.expect("once only");

    proxy.reset();
    eventually("the connection is gone", LIMIT, || async { client.is_closed().then_some(()) })
        .await;
    eventually("and counted", LIMIT, || async { (proxy.open_connections() == 0).then_some(()) })
        .await;
}

#[tokio::test]
async fn pgbouncer_answers_in_front_of_a_server() {
    let bouncer = Bouncer::start(support::shared(Major::V15), PoolMode::Transaction);
    let dsn = support::shared(Major::V15).dsn_by_port("postgres", bouncer.port());
    connect(&dsn).await.simple_query("SELECT 1").await.expect("a pooled answer");
}

/// The victim's side of the next test: tells where its server is, and waits to be killed.
#[test]
fn victim() {
    if std::env::var(VICTIM).is_err() {
        return;
    }
    let server = Server::start(Major::V15, &Options::default());
    server.stall();
    let folder = server.socket_folder().to_owned();
    std::fs::write(std::env::var(VICTIM).unwrap(), folder.to_str().unwrap()).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn nothing_is_left_of_a_killed_test_though_its_server_is_stalled() {
    let note = tempfile::NamedTempFile::new().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim"])
        .env(VICTIM, note.path())
        .spawn()
        .unwrap();
    let folder = eventually_blocking("the victim has a server", LIMIT, || {
        let told = std::fs::read_to_string(note.path()).ok()?;
        (!told.is_empty()).then_some(std::path::PathBuf::from(told))
    });
    assert!(!processes_in(&folder).is_empty());
    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually_blocking("processes and folder are gone", LIMIT, || {
        (processes_in(&folder).is_empty() && !folder.exists()).then_some(())
    });
}
