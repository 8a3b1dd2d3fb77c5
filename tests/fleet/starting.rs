//! A sidecar that starts while a database is ill.

use std::time::{Duration, Instant};

use crate::support::{Pair, Proxy, Segue};
use crate::world::{ITEMS, client, write};

/// Of a test's build on a loaded machine. A target that takes connections and says nothing used to
/// hold up the start for as long as connecting may take, more than once.
const START_MAX: Duration = Duration::from_secs(8);

/// In `dual_write` callers need nothing of the target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_frozen_does_not_delay_the_start() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let port = |dsn: &str| dsn.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    let upstream = port(pair.target.dsn());
    let proxy = Proxy::start(upstream.parse().unwrap());
    let target = pair.target.dsn_with(&format!(":{upstream}/"), &format!(":{}/", proxy.port()));
    let mut segue = Segue::prepare(pair.source.dsn(), &target, "");
    segue.init_in("dual_write").await;
    proxy.pause();
    let begun = Instant::now();
    segue.serve().await;
    let took = begun.elapsed();
    println!("serving after {took:?}");
    assert!(took < START_MAX, "{took:?}");
    write(&mut client(&segue), 1, 1).await.unwrap();
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
