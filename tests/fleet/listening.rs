//! Members hear of a change of the control row, and need not wait until they read it in turn.

use std::sync::Arc;
use std::time::Duration;

use segue::control::{Control, Params};
use segue::domain::control::Percentage;
use segue::domain::reason::Reason;
use segue::domain::side::{Side, Sides};
use segue::dsn::Dsn;
use segue::ports::control::{ControlChange, ControlStore};
use segue::postgres::control::ControlTable;
use segue::postgres::pool::{self, Pool};
use segue::postgres::session::connect::Connector;
use segue::postgres::session::settings::Purpose;
use segue::telemetry::metrics::Metrics;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::{Pair, Segue, eventually};
use crate::world::{ITEMS, LIMIT};

/// So long nobody reads the row in turn.
const NEVER: Duration = Duration::from_secs(3600);

async fn migration() -> (Pair, Arc<ControlTable>) {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    let pool = |side, dsn: &str| {
        let connector = Connector::new(side, Dsn::parse(dsn, &|_: &str| None).unwrap()).unwrap();
        Pool::new(connector, pool::Params::new(Purpose::Own, 4, LIMIT)).unwrap()
    };
    let pools = Sides {
        source: pool(Side::Source, pair.source.dsn()),
        target: pool(Side::Target, pair.target.dsn()),
    };
    (pair, Arc::new(ControlTable::new(pools)))
}

async fn change(store: &ControlTable, percent: f64) {
    let row = store.read(Side::Source).await.unwrap().unwrap();
    let to = ControlChange {
        revision: row.revision + 1,
        target_percentage: Percentage::of(percent).unwrap(),
        ..ControlChange::to(&row)
    };
    assert!(store.compare_and_set(Side::Source, Some(row.version()), to).await.unwrap());
}

async fn listeners(pair: &Pair) -> Vec<String> {
    const SQL: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
        AND query LIKE 'LISTEN %'";
    pair.source.rows(SQL).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_heard_of_before_the_row_is_read_in_turn() {
    let (pair, store) = migration().await;
    let params = Params { poll_interval: NEVER, read_timeout: LIMIT };
    let heard = Arc::<ControlTable>::clone(&store);
    let (control, follower) = Control::start(params, heard, Metrics::new()).await.unwrap();
    let stop = CancellationToken::new();
    let following = tokio::spawn(follower.run(stop.clone()));
    eventually("it listens", LIMIT, || async { (listeners(&pair).await.len() == 1).then_some(()) })
        .await;
    let mut changes = control.subscribe();
    for percent in [5.0, 20.0, 50.0] {
        change(&store, percent).await;
        let heard = changes.wait_for(|row| row.target_percentage.percent() >= percent);
        tokio::time::timeout(LIMIT, heard).await.expect("it is heard of").unwrap();
    }
    stop.cancel();
    following.await.unwrap();
    eventually("nobody listens", LIMIT, || async {
        listeners(&pair).await.is_empty().then_some(())
    })
    .await;
}

/// Whoever lost his session is told, reads the row when he listens again, and hears the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_session_is_told_and_what_was_missed_is_read() {
    let (pair, store) = migration().await;
    let changed = Notify::new();
    for attempt in [1.0, 2.0] {
        let listening = store.listen(Side::Source, &changed);
        let ended = async {
            // Woken at its beginning for what was missed, and then by the change.
            changed.notified().await;
            change(&store, attempt).await;
            changed.notified().await;
            let pid = listeners(&pair).await.remove(0);
            pair.source.run(&format!("SELECT pg_terminate_backend({pid})")).await;
        };
        let (fault, ()) = tokio::time::timeout(LIMIT, async { tokio::join!(listening, ended) })
            .await
            .expect("the end of the session is noticed");
        assert_eq!(fault.unwrap_err().reason, Reason::ControlListen, "attempt {attempt}");
    }
}
