//! A sidecar that starts while a database is ill.

use std::time::{Duration, Instant};

use crate::support::{Database, Pair, Proxy, Segue};
use crate::world::{ITEMS, QUICK, client, forced, settled, until, write};

/// A side that takes connections and says nothing is waited for longer than a test waits for a start:
/// whoever waits for it does not serve in time, on however slow a machine.
const NEVER: &str = "connect_timeout = \"10m\"\npool_wait_max = \"10m\"";

/// A database by way of a proxy, and what the configuration says of it.
fn behind_proxy(database: &Database) -> (Proxy, String) {
    let port = database.dsn().rsplit(':').next().unwrap().split('/').next().unwrap();
    let proxy = Proxy::start(port.parse().unwrap());
    let dsn = database.dsn_with(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    (proxy, format!("dsn = \"{dsn}\"\n{NEVER}"))
}

/// In `dual_write` callers need nothing of the target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_frozen_does_not_delay_the_start() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let (proxy, target) = behind_proxy(&pair.target);
    let source = format!("dsn = \"{}\"", pair.source.dsn());
    let mut segue = Segue::prepare_with(&source, &target, "");
    segue.init_in("dual_write").await;
    proxy.pause();
    segue.serve().await;
    write(&mut client(&segue), 1, 1).await.unwrap();
    proxy.resume();
}

/// In `reversed` they need nothing of the source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_frozen_does_not_delay_the_start_after_the_cutover() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let (proxy, source) = behind_proxy(&pair.source);
    let target = format!("dsn = \"{}\"", pair.target.dsn());
    let mut segue = Segue::prepare_with(&source, &target, QUICK);
    segue.init_in("shadow_read").await;
    segue.serve().await;
    forced(&segue, "shift").await;
    let cutover = ["cutover", "--yes", "--force", "--reason", "a test", "--max-pause", "60s"];
    segue.succeed(&cutover);
    until(&segue, "reversed settles", |now| now["phase"] == "reversed" && settled(now)).await;
    assert!(segue.terminate().await, "{}", segue.logs());
    proxy.pause();
    segue.serve().await;
    write(&mut client(&segue), 1, 1).await.unwrap();
    assert_eq!(pair.target.rows("SELECT id FROM item").await, ["1"]);
    proxy.resume();
}

/// While a sidecar waits for the database that it needs, callers are refused at once: they turn to
/// another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_refused_until_they_are_answered() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let port = |dsn: &str| dsn.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    let upstream = port(pair.source.dsn());
    let proxy = Proxy::start(upstream.parse().unwrap());
    let source = pair.source.dsn_with(&format!(":{upstream}/"), &format!(":{}/", proxy.port()));
    let mut segue = Segue::prepare(&source, pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    proxy.pause();
    segue.spawn_with(&[]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        let refused = write(&mut client(&segue), 1, 1).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
        assert!(asked.elapsed() < Duration::from_secs(1), "a call was left hanging");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    proxy.resume();
    crate::support::eventually("it serves", crate::world::LIMIT, || async {
        write(&mut client(&segue), 1, 1).await.ok()
    })
    .await;
}
