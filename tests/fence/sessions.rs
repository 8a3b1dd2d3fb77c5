//! Sessions of members.

use std::time::Duration;

use segue::domain::control::{ControlState, Phase};
use segue::domain::fault::Outcome;
use segue::domain::reason::Reason;
use segue::domain::side::Side;
use segue::postgres::fence::{FenceControl, writers};
use segue::postgres::pool::{self, Pool};
use segue::postgres::session::settings::Purpose;
use tokio_util::sync::CancellationToken;

use crate::support::{Database, eventually};
use crate::{ATTEMPT, LEASE, connector, exclusive, set, side};

const WAIT: Duration = Duration::from_millis(400);
const WRITE: &str = "UPDATE item SET n = n + 1 WHERE id = 1";

/// A member's pool, and what the member knows.
struct Member {
    pool: Pool,
    control: FenceControl,
    stop: CancellationToken,
}

impl Member {
    fn new(side: Side, database: &Database, known: ControlState) -> Self {
        let control = FenceControl::default();
        control.set(Some(known));
        let params = pool::Params::new(Purpose::Write, 4, Duration::from_secs(10));
        let fence = control.fence(side, WAIT);
        let pool = Pool::fenced(connector(side, database), params, fence).unwrap();
        let (kept, stop) = (pool.clone(), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(async move { kept.keep_current(stopped).await });
        Self { pool, control, stop }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn sessions_follow_the_epoch_without_failing_anybody() {
    let database = side(Side::Source).await;
    let first = set(&database, 2, Phase::ShadowRead).await;
    let member = Member::new(Side::Source, &database, first);
    let (open, other) = (member.pool.get().await.unwrap(), member.pool.get().await.unwrap());
    open.batch_execute("BEGIN; INSERT INTO item VALUES (5)").await.unwrap();
    let process = other.facts().backend_pid;
    drop(other);
    let look = exclusive(Side::Source, &database).await;
    let old = |writer: &writers::Writer| writer.is_of_other_epoch(3);
    assert_eq!(look.writers().await.unwrap().iter().filter(|it| old(it)).count(), 2);

    let next = set(&database, 3, Phase::Shift).await;
    member.control.set(Some(next));
    // What is open goes on under the old lock, and is seen; what rests gives it up.
    eventually("one session is left", LEASE, || async {
        let writers = look.writers().await.unwrap();
        (writers.iter().filter(|it| old(it)).count() == 1).then_some(())
    })
    .await;
    // The same connection under the new lock.
    let again = member.pool.get().await.unwrap();
    assert_eq!(again.facts().backend_pid, process);
    again.batch_execute(WRITE).await.unwrap();
    open.batch_execute("COMMIT").await.unwrap();
    drop(open);
    eventually("none is left", LEASE, || async {
        let writers = look.writers().await.unwrap();
        (!writers.iter().any(old)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_member_that_is_behind_does_not_get_in() {
    let database = side(Side::Source).await;
    let stale = set(&database, 2, Phase::Shift).await;
    let member = Member::new(Side::Source, &database, stale);
    let moved = set(&database, 3, Phase::Reversed).await;
    let fault = member.pool.get().await.unwrap_err();
    assert_eq!((fault.reason, fault.outcome), (Reason::UnavailableFenced, Outcome::NotApplied));
    assert!(fault.retryable && fault.message.contains("epoch 2"), "{fault}");
    // It was told to look.
    tokio::time::timeout(LEASE, member.control.fell_behind()).await.unwrap();
    member.control.set(Some(moved));
    let fault = member.pool.get().await.unwrap_err();
    assert!(fault.says_look_again(), "{fault:?}");
    // Neither attempt left a lock behind.
    let look = exclusive(Side::Source, &database).await;
    eventually("no lock is left", LEASE, || async {
        look.writers().await.unwrap().is_empty().then_some(())
    })
    .await;
}

/// A session that was opened in time, by a member that nobody hears of any more.
#[tokio::test]
async fn a_lost_members_session_is_in_the_way_until_it_is_ended() {
    let database = side(Side::Source).await;
    let known = set(&database, 2, Phase::Shift).await;
    let lost = Member::new(Side::Source, &database, known);
    let session = lost.pool.get().await.unwrap();
    session.batch_execute("BEGIN").await.unwrap();
    let fence = exclusive(Side::Source, &database).await;
    assert!(!fence.acquire(2, ATTEMPT).await.unwrap());
    // Also where the epoch has gone on without it.
    set(&database, 3, Phase::Shift).await;
    assert!(fence.acquire(3, ATTEMPT).await.unwrap());
    let [writer] = fence.writers().await.unwrap().try_into().unwrap();
    assert!(writer.is_of_other_epoch(3), "{writer}");
    fence.terminate(writer.pid).await.unwrap();
    eventually("it is gone", LEASE, || async {
        fence.writers().await.unwrap().is_empty().then_some(())
    })
    .await;
    session.batch_execute(&format!("{WRITE}; COMMIT")).await.unwrap_err();
    assert_eq!(database.rows("SELECT n FROM item WHERE id = 1").await, ["0"]);
}

#[tokio::test]
async fn nobody_gets_in_while_the_fence_is_held_and_all_do_after() {
    let database = side(Side::Source).await;
    let known = set(&database, 2, Phase::Shift).await;
    let member = Member::new(Side::Source, &database, known);
    let fence = exclusive(Side::Source, &database).await;
    assert!(fence.acquire(2, ATTEMPT).await.unwrap());
    let fault = member.pool.get().await.unwrap_err();
    assert_eq!((fault.reason, fault.outcome), (Reason::UnavailableFenced, Outcome::NotApplied));
    fence.release().await.unwrap();
    member.pool.get().await.unwrap().batch_execute(WRITE).await.unwrap();
    // A member that pauses gives its locks up by itself.
    member.control.set(None);
    eventually("no lock is held", LEASE, || async {
        (member.control.holders() == 0).then_some(())
    })
    .await;
    assert!(fence.acquire(2, ATTEMPT).await.unwrap());
}

/// An application's default isolation must not make the look older than the lock.
#[tokio::test]
async fn the_look_is_younger_than_the_lock_whatever_the_default_isolation() {
    let database = side(Side::Source).await;
    let name = database.name().to_owned();
    database
        .run(&format!(
            "ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
        ))
        .await;
    let known = set(&database, 2, Phase::Shift).await;
    let fence = exclusive(Side::Source, &database).await;
    assert!(fence.acquire(2, ATTEMPT).await.unwrap());
    let member = Member::new(Side::Source, &database, known);
    let entering = {
        let pool = member.pool.clone();
        tokio::spawn(async move { pool.get().await.map(drop) })
    };
    let flip = "UPDATE segue.control SET epoch = 3, phase = 'reversed' WHERE id = 1 AND epoch = 2";
    assert_eq!(fence.session().execute(flip, &[]).await.unwrap(), 1);
    fence.release().await.unwrap();
    assert!(entering.await.unwrap().is_err());
}
