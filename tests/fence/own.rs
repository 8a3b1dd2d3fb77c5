//! What a stopped process leaves behind in a database: who waits for it ends it, and so does the
//! server.

use std::time::{Duration, Instant};

use segue::domain::control::{ControlState, Percentage, Phase, Version};
use segue::domain::side::{Side, Sides};
use segue::ports::control::{ControlChange, ControlStore};
use segue::postgres::control::ControlTable;
use segue::postgres::own_transactions::end_silent;
use segue::postgres::pool::{self, Pool};
use segue::postgres::session::settings::{Purpose, SessionLimits};
use segue::postgres::session::silence::silence_max;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::Client;

use crate::support::{Database, Major, eventually, shared};
use crate::{LEASE, connector, set, side};

/// The exclusive lock of copies, as a promotion takes it.
const COPIES: &str = "SELECT pg_advisory_xact_lock(1936156270, -1)";
const CHANGE: &str = "UPDATE segue.control SET reason = 'never' WHERE id = 1";
/// That of whoever sets segue up.
const SETUP: &str = "SELECT pg_advisory_xact_lock(8315166040912822273)";
/// Far more than a promotion may be silent, and less than any limit of a server here.
const SOON: Duration = Duration::from_secs(6);
/// Of members whose sessions are ended by their servers.
const SHORT: Duration = Duration::from_secs(2);

fn pool(side: Side, database: &Database, limits: SessionLimits) -> Pool {
    let params =
        pool::Params { limits, ..pool::Params::new(Purpose::Own, 4, Duration::from_secs(10)) };
    Pool::new(connector(side, database), params).unwrap()
}

/// What a member has before it whose source has flipped.
async fn flipped() -> (Database, ControlTable, Database) {
    let (source, target) = (side(Side::Source).await, side(Side::Target).await);
    set(&target, 2, Phase::Shift).await;
    let own = |side, database| pool(side, database, SessionLimits::control(LEASE));
    let pools = Sides { source: own(Side::Source, &source), target: own(Side::Target, &target) };
    (target, ControlTable::new(pools), source)
}

async fn promote(store: &ControlTable) -> Duration {
    let begun = Instant::now();
    let present = store.read(Side::Target).await.unwrap().unwrap();
    let to = ControlChange {
        state: ControlState { epoch: 3, phase: Phase::Reversed },
        revision: present.revision + 1,
        target_percentage: Percentage::ZERO,
        held: false,
        reads_off: None,
        reason: String::new(),
        changed_by: String::new(),
        event: None,
    };
    let from = Version { epoch: 2, revision: present.revision };
    assert!(store.compare_and_set(Side::Target, Some(from), to).await.unwrap());
    begun.elapsed()
}

/// A session of a process that was stopped within a transaction.
async fn stopped_in(database: &Database, statements: &str) -> Client {
    let client = database.client().await;
    client.batch_execute(&format!("BEGIN; {statements}")).await.unwrap();
    client
}

#[tokio::test]
async fn a_promoter_that_is_stopped_is_ended_by_the_next_whatever_it_holds() {
    for held in [
        COPIES,
        CHANGE,
        "SELECT 1; SELECT pg_advisory_xact_lock(1936156270, -1); \
        UPDATE segue.control SET epoch = 9 WHERE id = 1",
    ] {
        let (target, store, _source) = flipped().await;
        let stopped = stopped_in(&target, held).await;
        let took = promote(&store).await;
        println!("{held}: {took:?}");
        assert!(took < SOON, "{held}: {took:?}");
        stopped.batch_execute("COMMIT").await.unwrap_err();
        let row = target.rows("SELECT epoch, phase, reason FROM segue.control").await;
        assert_eq!(row, ["3|reversed|"], "{held}");
    }
}

/// One whose last message was cut off in the middle: neither at work nor idle in a transaction, so
/// that no timeout of the server ends it.
#[tokio::test]
async fn a_promoter_that_was_cut_off_within_a_request_is_ended_by_the_next() {
    let (target, store, _source) = flipped().await;
    let mut cut = Unsynced::open(&target).await;
    cut.execute(CHANGE).await;
    let took = promote(&store).await;
    assert!(took < SOON, "{took:?}");
    assert!(cut.is_ended().await);
    assert_eq!(target.rows("SELECT epoch FROM segue.control").await, ["3"]);
}

/// A caller's open transaction that has locked the row by itself is none of segue's, and stays.
#[tokio::test]
async fn nothing_but_segues_own_is_ended() {
    let database = side(Side::Source).await;
    set(&database, 2, Phase::Shift).await;
    let writer = stopped_in(&database, "UPDATE item SET n = 5 WHERE id = 1").await;
    let reader = stopped_in(&database, "SELECT * FROM segue.control FOR SHARE").await;
    let own = pool(Side::Source, &database, SessionLimits::own(LEASE));
    let session = own.get().await.unwrap();
    let silent = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' \
        AND datname = current_database() AND state_change < clock_timestamp() - interval '1 s'";
    eventually("both are silent", LEASE, || async {
        (database.rows(silent).await == ["2"]).then_some(())
    })
    .await;
    assert_eq!(end_silent(&session, Duration::ZERO).await.unwrap(), 0);
    writer.batch_execute("COMMIT").await.unwrap();
    reader.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn whoever_waits_ends_each_of_segues_own_and_no_earlier_than_it_may() {
    let database = side(Side::Source).await;
    let own = pool(Side::Source, &database, SessionLimits::own(LEASE));
    let session = own.get().await.unwrap();
    for held in [
        COPIES,
        CHANGE,
        SETUP,
        "SELECT pg_advisory_lock(1936156270, 0)",
        "SELECT pg_advisory_lock(1936156270, 7)",
        "LOCK TABLE segue.outbox_3 IN ACCESS EXCLUSIVE MODE",
        "UPDATE segue.outbox_state SET capture_gaps = capture_gaps",
        "UPDATE segue.leader SET term = term",
        "DELETE FROM segue.member",
        "DELETE FROM segue.pause",
        "DELETE FROM segue.pause_report",
        "DELETE FROM segue.server_seen",
    ] {
        let stopped = stopped_in(&database, held).await;
        assert_eq!(end_silent(&session, LEASE).await.unwrap(), 0, "{held}: too early");
        eventually(held, LEASE, || async {
            end_silent(&session, Duration::ZERO).await.unwrap();
            stopped.is_closed().then_some(())
        })
        .await;
    }
}

/// Nobody else has to be there: the server ends them by itself.
#[tokio::test]
async fn the_server_ends_segues_own_transactions_before_the_lease_is_over() {
    for major in [Major::V15, Major::V18] {
        let database = Database::create(shared(major), "CREATE TABLE item (id int)").await;
        for limits in [SessionLimits::own(SHORT), SessionLimits::control(SHORT)] {
            let own = pool(Side::Source, &database, limits);
            let session = own.get().await.unwrap();
            session.batch_execute("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE").await.unwrap();
            let begun = Instant::now();
            database.run("SET lock_timeout = '20s'; INSERT INTO item VALUES (1)").await;
            let took = begun.elapsed();
            assert!(took >= silence_max(SHORT) / 2 && took < SHORT + SHORT, "{took:?}");
            session.batch_execute("COMMIT").await.unwrap_err();
        }
    }
}

/// A client that stops in the middle of a request of the extended protocol.
struct Unsynced(TcpStream);

impl Unsynced {
    async fn open(database: &Database) -> Self {
        let dsn = segue::dsn::Dsn::parse(database.dsn(), &|_: &str| None).unwrap();
        let port = dsn.hosts[0].port;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let parameters = format!("user\0postgres\0database\0{}\0\0", database.name());
        let mut startup = 196_608_i32.to_be_bytes().to_vec();
        startup.extend(parameters.as_bytes());
        let length = i32::try_from(startup.len() + 4).unwrap();
        stream.write_all(&[&length.to_be_bytes()[..], &startup].concat()).await.unwrap();
        let mut opened = Self(stream);
        // `ReadyForQuery`.
        opened.read_until(b"Z\0\0\0\x05I").await;
        opened
    }

    /// Parse, bind and execute, and no sync.
    async fn execute(&mut self, sql: &str) {
        let message = |kind: u8, body: &[u8]| {
            let length = i32::try_from(body.len() + 4).unwrap();
            [&[kind], &length.to_be_bytes()[..], body].concat()
        };
        let parse = message(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
        let bind = message(b'B', b"\0\0\0\0\0\0\0\0");
        let execute = message(b'E', b"\0\0\0\0\0");
        let flush = message(b'H', b"");
        self.0.write_all(&[parse, bind, execute, flush].concat()).await.unwrap();
        self.read_until(b"UPDATE 1").await;
    }

    async fn read_until(&mut self, wanted: &[u8]) {
        let (mut read, mut buffer) = (Vec::<u8>::new(), [0; 4096]);
        while !read.windows(wanted.len()).any(|bytes| bytes == wanted) {
            let length = self.0.read(&mut buffer).await.unwrap();
            assert!(length > 0, "the server has closed the connection");
            read.extend(&buffer[..length]);
        }
    }

    /// Whether the server has closed the connection, or does.
    async fn is_ended(&mut self) -> bool {
        let mut rest = Vec::new();
        tokio::time::timeout(LEASE, self.0.read_to_end(&mut rest)).await.is_ok()
    }
}
