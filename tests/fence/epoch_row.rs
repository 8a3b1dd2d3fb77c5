//! The fence of CockroachDB, on a stand-in: PostgreSQL whose transactions are serializable, which
//! says at login that it is CockroachDB, and has the one function that the fence calls.
//!
//! Both databases give the same promise, that transactions come one after the other in some
//! order. What the fence needs of it is shown here; that CockroachDB keeps it is not.

use std::sync::Arc;
use std::time::Duration;

use segue::domain::call::{
    BoundStatement, CallContext, Isolation, ResultLimits, TransactionOptions,
};
use segue::domain::control::{ControlState, Phase};
use segue::domain::fault::{Outcome, SqlFault};
use segue::domain::key::WriteId;
use segue::domain::side::Side;
use segue::ports::{Database as _, Transactions as _, WriteRequest};
use segue::postgres::connect::Connector;
use segue::postgres::database::{self, PostgresDatabase};
use segue::postgres::dsn::Dsn;
use segue::postgres::fence::FenceControl;
use segue::postgres::pool::{self, Pool};
use segue::postgres::read::ReadConnections;
use segue::postgres::schema::{self, Permission};
use segue::postgres::settings::Purpose;
use segue::postgres::transactions::{self, PostgresTransactions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::set;
use crate::support::{Database, Major, Proxy, shared};

/// `noted` is what a capture trigger writes to.
const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE noted (id int);
    CREATE SCHEMA crdb_internal;
    CREATE FUNCTION crdb_internal.force_error(code text, message text) RETURNS int
    LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', message USING ERRCODE = code; END $$;";
const WAIT: Duration = Duration::from_secs(10);
const WRITE: [&str; 2] = ["INSERT INTO item VALUES (1)", "INSERT INTO noted VALUES (1)"];

/// A member that knows of epoch 2.
struct Member {
    database: Database,
    segue: PostgresDatabase,
    transactions: PostgresTransactions,
    writes: Pool,
    _proxy: Proxy,
}

impl Member {
    async fn new() -> Self {
        let server = shared(Major::V15);
        let database = Database::create(server, SCHEMA).await;
        let isolation = "default_transaction_isolation = 'serializable'";
        database.run(&format!("ALTER DATABASE {} SET {isolation}", database.name())).await;
        let mut owner = database.client().await;
        schema::migrate(&mut owner, Side::Source, Permission::Change).await.unwrap();
        let known = set(&database, 2, Phase::Shift).await;
        let proxy = Proxy::reporting(server.port(), "crdb_version", "a stand-in for CockroachDB");
        let dsn = Dsn::parse(&server.dsn_by_port(database.name(), proxy.port()), |_| None).unwrap();
        let connector = Connector::new(Side::Source, dsn).unwrap();
        let control = FenceControl::default();
        control.set(Some(known));
        let fence = control.fence(Side::Source, WAIT);
        let params = |purpose| pool::Params::new(purpose, 4, WAIT);
        let writes = Pool::fenced(connector.clone(), params(Purpose::Write), fence).unwrap();
        let reads = Pool::new(connector, params(Purpose::Read)).unwrap();
        let tasks = TaskTracker::new();
        let transactions = PostgresTransactions::new(transactions::Params {
            writes: writes.clone(),
            open_max: 4,
            tasks: tasks.clone(),
        });
        let reads = ReadConnections::new(reads);
        let segue =
            PostgresDatabase::new(database::Params { reads, writes: writes.clone(), tasks });
        Self { database, segue, transactions, writes, _proxy: proxy }
    }

    async fn write(&self) -> Result<(), SqlFault> {
        let request = WriteRequest {
            statements: statements(),
            write_id: WriteId(rand::random()),
            idempotency: None,
            context: context(),
        };
        self.segue.write(request).await.map(drop)
    }

    async fn is_untouched(&self) {
        assert_eq!(self.database.rows("SELECT id FROM item").await, [""; 0]);
    }

    /// What a cutover does there: it takes the epoch on, and then looks at all that was noted.
    async fn fence_and_look(&self) -> ControlState {
        let next = set(&self.database, 3, Phase::Shift).await;
        assert_eq!(self.database.rows("SELECT count(*) FROM noted").await, ["0"]);
        next
    }
}

fn statements() -> Vec<BoundStatement> {
    let bound = |sql: &str| BoundStatement { sql: Arc::from(sql), name: None, params: [].into() };
    WRITE.map(bound).into()
}

fn context() -> CallContext {
    CallContext {
        deadline: None,
        routing_key: None,
        cancelled: CancellationToken::new(),
        limits: ResultLimits { rows_max: 10, bytes_max: 1000 },
    }
}

#[tokio::test]
async fn a_write_under_an_older_epoch_is_refused() {
    let member = Member::new().await;
    assert!(member.writes.get().await.unwrap().facts().is_cockroach);
    // Its session was opened in time, and is not told.
    let old = member.writes.get().await.unwrap();
    drop(old);
    set(&member.database, 3, Phase::Shift).await;
    let fault = member.write().await.unwrap_err();
    assert!(fault.says_look_again(), "{fault:?}");
    assert_eq!(fault.outcome, Outcome::NotApplied);
    member.is_untouched().await;
    set(&member.database, 2, Phase::Shift).await;
    member.write().await.unwrap();
    assert_eq!(member.database.rows("SELECT id FROM item").await, ["1"]);
}

/// Why the look at what was noted is part of the fence.
#[tokio::test]
async fn a_change_of_the_epoch_alone_does_not_stop_who_has_looked() {
    let member = Member::new().await;
    let options =
        TransactionOptions { isolation: None, read_only: false, idle_max: WAIT, total_max: WAIT };
    let id = member.transactions.begin(options, WriteId(1), context()).await.unwrap();
    set(&member.database, 3, Phase::Shift).await;
    member.transactions.write(id, statements(), context()).await.unwrap();
    member.transactions.commit(id, context()).await.unwrap();
}

/// A member that stands still between its look and its commit, whatever isolation its caller
/// asked for.
#[tokio::test]
async fn nothing_commits_behind_the_look_at_what_was_noted() {
    let isolations = [None, Some(Isolation::ReadCommitted), Some(Isolation::RepeatableRead)];
    for isolation in isolations {
        for written_before in [false, true] {
            let member = Member::new().await;
            let options =
                TransactionOptions { isolation, read_only: false, idle_max: WAIT, total_max: WAIT };
            let id = member.transactions.begin(options, WriteId(1), context()).await.unwrap();
            let write = || member.transactions.write(id, statements(), context());
            let mut written = Ok(());
            if written_before {
                write().await.unwrap();
            }
            member.fence_and_look().await;
            if !written_before {
                written = write().await.map(drop);
            }
            let committed = member.transactions.commit(id, context()).await;
            let case = format!("{isolation:?}, written before: {written_before}");
            let fault = written.and(committed.map(drop)).expect_err(&case);
            assert_eq!((&*fault.sqlstate, fault.outcome), ("40001", Outcome::NotApplied), "{case}");
            member.is_untouched().await;
        }
    }
}
