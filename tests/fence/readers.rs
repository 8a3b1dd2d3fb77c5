//! Sessions that answer reads: whose they are, and what they found when they were opened.

use std::sync::Arc;
use std::time::Duration;

use segue::domain::call::{BoundStatement, CallContext, ResultLimits};
use segue::domain::control::{ControlState, Phase};
use segue::domain::fault::{Outcome, SqlFault};
use segue::domain::fleet::MemberId;
use segue::domain::reason::Reason;
use segue::domain::side::Side;
use segue::ports::{Database as _, ReadRequest};
use segue::postgres::control::read_on;
use segue::postgres::fence::writers::terminate;
use segue::postgres::fence::{FenceControl, key_of_member, read_sessions};
use segue::postgres::pool::{self, Pool};
use segue::postgres::session::settings::Purpose;
use segue::postgres::statements::database::{self, PostgresDatabase};
use segue::postgres::statements::read::ReadConnections;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::eventually;
use crate::{LEASE, connector, exclusive, set, side};

const WAIT: Duration = Duration::from_secs(10);
const ITEMS: &str = "SELECT n FROM item";

async fn read(segue: &PostgresDatabase, sql: &str, under: ControlState) -> Result<(), SqlFault> {
    let statement = BoundStatement { sql: Arc::from(sql), name: None, params: [].into() };
    let context = CallContext {
        deadline: None,
        routing_key: None,
        cancelled: CancellationToken::new(),
        limits: ResultLimits { rows_max: 10, bytes_max: 1000 },
        admitted: Some(under),
    };
    let request = ReadRequest { statement, context };
    match sql == ITEMS {
        true => segue.read_shared(request).await.map(drop),
        false => segue.read(request).await.map(drop),
    }
}

#[tokio::test]
async fn a_session_for_reads_shows_whose_it_is_and_one_opened_after_a_flip_finds_it() {
    let database = side(Side::Source).await;
    let old = set(&database, 2, Phase::Shift).await;
    let look = exclusive(Side::Source, &database).await;
    let row = read_on(look.session()).await.unwrap().unwrap();
    let (_known, row) = watch::channel(row);
    let (control, member) = (FenceControl::default(), MemberId(7 << 40 | 5));
    let params = pool::Params::new(Purpose::Read, 4, WAIT);
    let connector = connector(Side::Source, &database);
    let readers = control.readers(Side::Source);
    let reads = Pool::of_readers(connector.clone(), params, readers).unwrap();
    let writes = Pool::new(connector, pool::Params::new(Purpose::Write, 1, WAIT)).unwrap();
    let (reads, tasks) = (ReadConnections::new(reads), TaskTracker::new());
    let segue = PostgresDatabase::new(database::Params { reads, writes, tasks });
    let shown = || async { read_sessions(look.session()).await.unwrap().unwrap() };

    // Before it is known which member serves nobody is shown, and afterwards its sessions are.
    read(&segue, ITEMS, old).await.unwrap();
    assert_eq!(shown().await, []);
    control.read_as(member, row);
    read(&segue, ITEMS, old).await.unwrap();
    let [session] = shown().await.try_into().unwrap();
    assert_eq!(session.key, key_of_member(member));

    // It is shown all the time while it is reset, and closed where a function gave its lock up.
    read(&segue, "SELECT set_config('app.tenant', '5', false)", old).await.unwrap();
    read(&segue, ITEMS, old).await.unwrap();
    assert_eq!(shown().await, std::slice::from_ref(&session));
    read(&segue, "SELECT pg_advisory_unlock_all()", old).await.unwrap();
    read(&segue, ITEMS, old).await.unwrap();
    let [second] = shown().await.try_into().unwrap();
    assert_ne!(second.pid, session.pid);

    let new = set(&database, 3, Phase::Reversed).await;
    read(&segue, ITEMS, old).await.unwrap();
    terminate(look.session(), second.pid).await.unwrap();
    let fault = eventually("a session is opened after the flip", LEASE, || async {
        let fault = read(&segue, ITEMS, old).await.expect_err("an answer of the old primary");
        (fault.reason == Reason::FenceNotPrimary).then_some(fault)
    })
    .await;
    assert!(fault.retryable && fault.outcome == Outcome::NotApplied, "{fault:?}");
    tokio::time::timeout(WAIT, control.fell_behind()).await.expect("the member is told to look");
    // What stays on this side is read under the new row.
    read(&segue, ITEMS, new).await.unwrap();
    assert!(read(&segue, ITEMS, old).await.is_err());
}
