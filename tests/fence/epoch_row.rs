//! The fence of CockroachDB, on a stand-in for it (`support/stand_in.rs`).
//!
//! Both databases give the same promise, that transactions come one after the other in some
//! order. What the fence needs of it is shown here; that CockroachDB keeps it is not.

use std::sync::Arc;
use std::time::Duration;

use segue::domain::call::{
    BoundStatement, CallContext, Isolation, ResultLimits, TransactionId, TransactionOptions,
};
use segue::domain::control::Phase;
use segue::domain::fault::{Outcome, SqlFault};
use segue::domain::key::WriteId;
use segue::domain::reason::Reason;
use segue::domain::side::{Side, Sides};
use segue::domain::value::{Array, Value};
use segue::dsn::Dsn;
use segue::ports::control::{ControlChange, ControlStore as _};
use segue::ports::{Database as _, Transactions as _, WriteRequest};
use segue::postgres::capture::{self, Params};
use segue::postgres::control::{ControlTable, read_on};
use segue::postgres::cutover::Exclusive;
use segue::postgres::fence::FenceControl;
use segue::postgres::pool::{self, Pool};
use segue::postgres::schema::{self, Permission};
use segue::postgres::session::connect::Connector;
use segue::postgres::session::settings::Purpose;
use segue::postgres::statements::database::{self, PostgresDatabase};
use segue::postgres::statements::read::ReadConnections;
use segue::postgres::statements::transactions::{self, PostgresTransactions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::stand_in::Cockroach;
use crate::support::{Database, Major, Proxy, connect, eventually, shared};
use crate::{ATTEMPT, LEASE, set};

const WAIT: Duration = Duration::from_secs(10);
const WRITE: &str = "INSERT INTO item VALUES (1)";
/// Of the fence that lapses.
const SHORT: Duration = Duration::from_millis(300);

/// A member that knows of epoch 2, in which the stand-in is the primary.
struct Member {
    database: Database,
    connector: Connector,
    segue: PostgresDatabase,
    transactions: PostgresTransactions,
    writes: Pool,
    _proxy: Option<Proxy>,
}

impl Member {
    async fn new() -> Self {
        let side = Side::Target;
        let item = "CREATE TABLE item (id int PRIMARY KEY)";
        let Cockroach { database, dsn, proxy } = Cockroach::create(shared(Major::V15), item).await;
        let mut owner = connect(&dsn).await;
        schema::migrate(&mut owner, side, Permission::Change).await.unwrap();
        let (tables, _) = capture::default_tables(&owner).await.unwrap();
        capture::install(&mut owner, &Params::new(side), &tables).await.unwrap();
        let known = set(&database, 2, Phase::Reversed).await;
        let dsn = Dsn::parse(&dsn, &|_: &str| None).unwrap();
        let connector = Connector::new(side, dsn).unwrap();
        let control = FenceControl::default();
        control.set(Some(known));
        let fence = control.fence(side, WAIT);
        let params = |purpose| pool::Params::new(purpose, 4, WAIT);
        let writes = Pool::fenced(connector.clone(), params(Purpose::Write), fence).unwrap();
        let reads = Pool::new(connector.clone(), params(Purpose::Read)).unwrap();
        let tasks = TaskTracker::new();
        let transactions = PostgresTransactions::new(transactions::Params {
            writes: writes.clone(),
            open_max: 4,
            tasks: tasks.clone(),
        });
        let reads = ReadConnections::new(reads);
        let segue =
            PostgresDatabase::new(database::Params { reads, writes: writes.clone(), tasks });
        Self { database, connector, segue, transactions, writes, _proxy: proxy }
    }

    async fn write(&self) -> Result<(), SqlFault> {
        self.write_by(WRITE).await
    }

    async fn write_by(&self, sql: &str) -> Result<(), SqlFault> {
        self.write_of(sql, &[]).await
    }

    async fn write_of(&self, sql: &str, params: &[Value]) -> Result<(), SqlFault> {
        let request = WriteRequest {
            statements: vec![BoundStatement { params: params.into(), ..statements(sql).remove(0) }],
            writes: true,
            write_id: WriteId(rand::random()),
            idempotency: None,
            context: context(),
        };
        self.segue.write(request).await.map(drop)
    }

    async fn begin(&self, isolation: Option<Isolation>) -> TransactionId {
        let options =
            TransactionOptions { isolation, read_only: false, idle_max: WAIT, total_max: WAIT };
        self.transactions.begin(options, WriteId(1), context()).await.unwrap()
    }

    async fn items(&self) -> Vec<String> {
        self.database.rows("SELECT id FROM item ORDER BY id").await
    }

    async fn exclusive(&self, lease: Duration) -> Exclusive {
        Exclusive::open(&self.connector, lease).await.unwrap()
    }

    /// What a flip makes of the row, and whether it could.
    async fn flip(&self, fence: &Exclusive) -> bool {
        let mut row = read_on(fence.session()).await.unwrap().unwrap();
        let from = row.version();
        row.state.epoch += 1;
        row.state.phase = Phase::Shift;
        row.revision += 1;
        fence.change(from, ControlChange::to(&row)).await.unwrap()
    }
}

fn statements(sql: &str) -> Vec<BoundStatement> {
    vec![BoundStatement { sql: Arc::from(sql), name: None, params: [].into() }]
}

fn context() -> CallContext {
    CallContext {
        deadline: None,
        routing_key: None,
        cancelled: CancellationToken::new(),
        limits: ResultLimits { rows_max: 10, bytes_max: 1000 },
        admitted: None,
    }
}

#[tokio::test]
async fn a_write_under_an_older_epoch_is_refused() {
    let member = Member::new().await;
    assert!(member.writes.get().await.unwrap().dialect().fences_by_mark());
    // Its session was opened in time, and is not told.
    let old = member.writes.get().await.unwrap();
    drop(old);
    set(&member.database, 3, Phase::Reversed).await;
    let fault = member.write().await.unwrap_err();
    assert!(fault.says_look_again(), "{fault:?}");
    assert_eq!(fault.outcome, Outcome::NotApplied);
    assert_eq!(member.items().await, [""; 0]);
    set(&member.database, 2, Phase::Reversed).await;
    member.write().await.unwrap();
    assert_eq!(member.items().await, ["1"]);
}

/// No trigger sees it there.
#[tokio::test]
async fn a_truncate_is_refused() {
    let member = Member::new().await;
    member.write().await.unwrap();
    for sql in ["TRUNCATE item", "/* all */ truncate table item"] {
        let fault = member.write_by(sql).await.unwrap_err();
        assert_eq!((fault.reason, fault.outcome), (Reason::RefusedTruncate, Outcome::NotApplied));
    }
    assert_eq!(member.items().await, ["1"]);
    member.write_by("DELETE FROM item").await.unwrap();
    assert_eq!(member.items().await, [""; 0]);
}

/// In binary form numbers lose the zeros at their end, and lower bounds are forgotten.
#[tokio::test]
async fn what_a_caller_writes_is_there_as_it_was_or_is_refused() {
    let member = Member::new().await;
    let made = "CREATE TABLE thing (id int PRIMARY KEY, n numeric, a numeric[], i int4[])";
    member.database.run(made).await;
    let number = |text: &str| Value::Numeric(text.to_owned());
    let array = |of: &str, dimensions: &[(u32, i32)], elements: &[Value]| {
        let (element_type, elements) = (of.to_owned(), elements.to_vec());
        Value::Array(Array { element_type, dimensions: dimensions.to_vec(), elements })
    };
    let insert = "INSERT INTO thing VALUES ($1, $2, $3, $4)";
    let several = array("numeric", &[(2, 1)], &[number("1.000"), number("10000.0")]);
    let ints = [1, 2, 3, 4].map(Value::Int64);
    let plain = array("int4", &[(4, 1)], &ints);
    member
        .write_of(insert, &[Value::Int64(1), number("2.500"), several.clone(), plain])
        .await
        .unwrap();
    for dimensions in [&[(2, 1), (2, 1)][..], &[(4, 7)]] {
        let params =
            [Value::Int64(2), number("0"), several.clone(), array("int4", dimensions, &ints)];
        let fault = member.write_of(insert, &params).await.unwrap_err();
        assert_eq!(fault.outcome, Outcome::NotApplied);
        assert!(fault.message.contains("arrays of one dimension only"), "{fault:?}");
    }
    let there = member.database.rows("SELECT n, a, i FROM thing").await;
    assert_eq!(there, ["2.500|{1.000,10000.0}|{1,2,3,4}"]);
}

/// Why the look at the whole outbox is part of the fence.
#[tokio::test]
async fn the_mark_alone_does_not_stop_who_has_looked() {
    let member = Member::new().await;
    let id = member.begin(None).await;
    let mark = "UPDATE segue.control SET fenced_by = '7d5f0d9e-1111-4222-8333-444455556666'";
    member.database.run(mark).await;
    // The capture trigger looks in the same snapshot.
    member.transactions.write(id, statements(WRITE), context()).await.unwrap();
    member.transactions.commit(id, context()).await.unwrap();
}

/// A member that stands still between its look and its commit, whatever isolation its caller
/// asked for.
#[tokio::test]
async fn nothing_commits_behind_the_fence() {
    let isolations = [None, Some(Isolation::ReadCommitted), Some(Isolation::RepeatableRead)];
    for isolation in isolations {
        for written_before in [false, true] {
            let member = Member::new().await;
            let id = member.begin(isolation).await;
            let write = || member.transactions.write(id, statements(WRITE), context());
            let mut written = Ok(());
            if written_before {
                write().await.unwrap();
            }
            let fence = member.exclusive(LEASE).await;
            assert!(fence.acquire(2, ATTEMPT).await.unwrap());
            if !written_before {
                written = write().await.map(drop);
            }
            let committed = member.transactions.commit(id, context()).await;
            let case = format!("{isolation:?}, written before: {written_before}");
            let fault = written.and(committed.map(drop)).expect_err(&case);
            assert_eq!((&*fault.sqlstate, fault.outcome), ("40001", Outcome::NotApplied), "{case}");
            assert_eq!(member.items().await, [""; 0]);
            assert!(member.flip(&fence).await, "{case}");
        }
    }
}

#[tokio::test]
async fn a_fence_keeps_writers_and_others_out_until_it_is_lifted() {
    let member = Member::new().await;
    let (one, other) = (member.exclusive(LEASE).await, member.exclusive(LEASE).await);
    assert!(!one.acquire(1, ATTEMPT).await.unwrap(), "the epoch is another one");
    assert!(one.acquire(2, ATTEMPT).await.unwrap());
    assert!(one.acquire(2, ATTEMPT).await.unwrap(), "it has it already");
    assert!(!other.acquire(2, ATTEMPT).await.unwrap());
    assert!(!member.flip(&other).await, "the flip is the holder's");
    let waiting = member.write();
    tokio::pin!(waiting);
    let held = tokio::time::timeout(SHORT, &mut waiting).await;
    assert!(held.is_err(), "a new session waits: {held:?}");
    // Not the other one's to lift.
    assert!(!other.release().await.unwrap());
    assert!(!other.acquire(2, ATTEMPT).await.unwrap());
    assert!(one.release().await.unwrap());
    waiting.await.unwrap();
    assert_eq!(member.items().await, ["1"]);
    assert!(!member.flip(&one).await, "it has lifted it");
    assert!(other.acquire(2, ATTEMPT).await.unwrap());
    assert!(member.flip(&other).await);
    // It went with the flip.
    let row =
        member.database.rows("SELECT phase, fenced_by, fenced_until FROM segue.control").await;
    assert_eq!(row, ["shift|NULL|NULL"]);
}

/// A holder that sleeps past the end of its mark, while nobody changes the epoch: whoever wants
/// to write takes the mark off, and the flip that the holder wakes up to is refused.
#[tokio::test]
async fn a_holder_that_slept_too_long_cannot_flip() {
    let member = Member::new().await;
    let fence = member.exclusive(SHORT).await;
    assert!(fence.acquire(2, ATTEMPT).await.unwrap());
    member.write().await.unwrap();
    assert_eq!(member.items().await, ["1"]);
    let fault = fence.outbox_rows().await.unwrap_err();
    assert_eq!(fault.reason, Reason::CutoverFenceLost);
    assert!(!member.flip(&fence).await);
    assert!(!fence.release().await.unwrap(), "what it would rehearse was not fenced");
    let row = member.database.rows("SELECT epoch, phase FROM segue.control").await;
    assert_eq!(row, ["2|reversed"]);
}

/// As long as it is heard of, the mark stays.
#[tokio::test]
async fn a_holder_that_is_heard_of_keeps_its_mark() {
    let member = Member::new().await;
    let fence = member.exclusive(SHORT).await;
    assert!(fence.acquire(2, ATTEMPT).await.unwrap());
    tokio::select! {
        () = fence.be_heard(SHORT / 5) => panic!("it never ends"),
        written = member.write() => panic!("written under the fence: {written:?}"),
        () = tokio::time::sleep(SHORT * 4) => {}
    }
    assert!(member.flip(&fence).await);
}

/// Another one's mark that is past its end is no hindrance either.
#[tokio::test]
async fn a_lapsed_fence_is_taken_over() {
    let member = Member::new().await;
    let (lost, next) = (member.exclusive(SHORT).await, member.exclusive(LEASE).await);
    assert!(lost.acquire(2, ATTEMPT).await.unwrap());
    eventually("the mark has ended", WAIT, || async {
        next.acquire(2, ATTEMPT).await.unwrap().then_some(())
    })
    .await;
    assert!(!member.flip(&lost).await);
    assert!(member.flip(&next).await);
}

/// A reconcile that has looked, and sleeps when its side is made the primary: callers change or
/// only read what it is about to delete.
#[tokio::test]
async fn a_copy_that_has_looked_cannot_undo_what_was_written_since() {
    for callers in [
        "UPDATE item SET id = 8 WHERE id = 7",
        "INSERT INTO item SELECT max(id) + 1 FROM item WHERE id = 7",
    ] {
        let member = Member::new().await;
        member.database.run("INSERT INTO item VALUES (7)").await;
        set(&member.database, 2, Phase::Shift).await;
        let copy = member.database.client().await;
        copy.batch_execute(
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT set_config('segue.copies', 'on', true); \
             SELECT phase FROM segue.control WHERE id = 1; SELECT * FROM item WHERE id = 7",
        )
        .await
        .unwrap();
        let params = pool::Params::new(Purpose::Own, 2, WAIT);
        let pool = Pool::new(member.connector.clone(), params).unwrap();
        let store = ControlTable::new(Sides { source: pool.clone(), target: pool });
        let row = store.read(Side::Target).await.unwrap().unwrap();
        let mut next = row.clone();
        (next.state.phase, next.revision) = (Phase::Reversed, row.revision + 1);
        let to = ControlChange::to(&next);
        assert!(store.compare_and_set(Side::Target, Some(row.version()), to).await.unwrap());
        member.database.run(callers).await;
        let late = copy.batch_execute("DELETE FROM item WHERE id = 7; COMMIT").await;
        let code = late.expect_err(callers).code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("40001"), "{callers}");
        assert!(member.items().await.contains(&"8".to_owned()), "{callers}");
    }
}
