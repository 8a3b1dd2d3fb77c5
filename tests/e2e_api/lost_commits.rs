//! The connection is lost within the COMMIT that a call brings with it: with its last statement
//! (`commit: true`), in the flight of a batch, or behind the answer that is kept with its key.

use std::time::Duration;

use segue::grpc::proto::{self, Outcome, TransactionSelector as Selector};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::calls::{Bench, SCHEMA, Sql, batch, client, detail, execute};
use crate::support::{Database, Major, Pair, Proxy, Segue, eventually, shared};

const WAIT: Duration = Duration::from_secs(30);

/// COMMIT takes its time where a row of this kind was written.
const SLOW_COMMIT: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_sleep(0.7); RETURN NULL; END$$;
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.body = 'slow') EXECUTE FUNCTION slow();";

/// How a call brings its COMMIT.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Brings {
    /// It begins a transaction and commits it.
    Whole,
    /// It commits one that an earlier call began.
    Last,
    /// Its statements and COMMIT go in one flight.
    Batch,
    /// A key is kept beside what it wrote.
    Key,
}

const ALL: [Brings; 4] = [Brings::Whole, Brings::Last, Brings::Batch, Brings::Key];

/// When the connection is lost.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// COMMIT runs.
    Before,
    /// It is done, and its answer on its way.
    After,
}

/// Answers whether the write was there already.
type Written = Result<bool, Status>;

fn insert(id: usize) -> String {
    format!("INSERT INTO note VALUES ({id}, 'slow') RETURNING id")
}

fn keyed(id: usize) -> proto::ExecuteRequest {
    proto::ExecuteRequest { idempotency_key: format!("key {id}"), ..execute(&insert(id)) }
}

async fn call(mut sql: Sql, brings: Brings, id: usize) -> JoinHandle<Written> {
    let begin = || Selector::begin(proto::TransactionOptions::default());
    let within =
        |selector, sql: &str| proto::ExecuteRequest { transaction: Some(selector), ..execute(sql) };
    let request = match brings {
        Brings::Whole => within(begin().and_commit(), &insert(id)),
        Brings::Last => {
            let first = within(begin(), "DELETE FROM note WHERE id < 0");
            let begun = sql.execute(first).await.unwrap().into_inner().transaction_id;
            within(Selector::open(begun).unwrap().and_commit(), &insert(id))
        }
        Brings::Batch => {
            let insert = format!("INSERT INTO note VALUES ({id}, 'slow')");
            let two = batch(&[&insert, "DELETE FROM note WHERE id < 0"]);
            return tokio::spawn(async move {
                sql.batch(two).await.map(|answer| answer.into_inner().already_applied)
            });
        }
        Brings::Key => keyed(id),
    };
    tokio::spawn(async move {
        sql.execute(request).await.map(|answer| answer.into_inner().already_applied)
    })
}

/// A sidecar whose way to the source can be cut.
struct World {
    bench: Bench,
    proxy: Proxy,
}

impl World {
    async fn start() -> Self {
        let server = shared(Major::V15);
        let pair = Pair {
            source: Database::create(server, SCHEMA).await,
            target: Database::create(shared(Major::V18), SCHEMA).await,
        };
        let proxy = Proxy::start(server.port());
        let dsn = server.dsn_by_port(pair.source.name(), proxy.port());
        let limits = "[limits]\ndeadline_default = \"5s\"\n";
        let mut segue = Segue::prepare(&dsn, pair.target.dsn(), limits);
        segue.init_in("shadow_read").await;
        segue.serve().await;
        pair.source.run(SLOW_COMMIT).await;
        Self { bench: Bench { sql: client(&segue).await, segue, pair }, proxy }
    }

    async fn count(&self, id: usize) -> String {
        let count = format!("SELECT count(*) FROM note WHERE id = {id}");
        self.bench.pair.source.rows(&count).await.remove(0)
    }

    /// Loses the connection of a call within its COMMIT; `away`: and all others, for longer than
    /// segue looks for what became of it.
    async fn lost(&self, brings: Brings, cut: Cut, id: usize, away: bool) -> Written {
        let running = call(self.bench.sql.clone(), brings, id).await;
        let in_commit = "SELECT 1 FROM pg_stat_activity \
                         WHERE datname = current_database() AND wait_event = 'PgSleep'";
        eventually("COMMIT runs", WAIT, || async {
            (self.bench.pair.source.rows(in_commit).await == ["1"]).then_some(())
        })
        .await;
        if cut == Cut::After {
            self.proxy.hold_answers(true);
            eventually("COMMIT is done", WAIT, || async {
                (self.count(id).await == "1").then_some(())
            })
            .await;
        }
        self.proxy.refuse(true);
        self.proxy.reset();
        // What is held back is gone with its connection, and not let through.
        eventually("the connections are lost", WAIT, || async {
            (self.proxy.open_connections() == 0).then_some(())
        })
        .await;
        self.proxy.hold_answers(false);
        self.proxy.refuse(away);
        let written = running.await.unwrap();
        self.proxy.refuse(false);
        written
    }

    /// A write with its key, sent again until it is taken.
    async fn again(&self, id: usize) -> proto::ExecuteResponse {
        eventually("the key is looked up", WAIT, || async {
            let answer = self.bench.sql.clone().execute(keyed(id)).await;
            answer.ok().map(tonic::Response::into_inner)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_commit_whose_answer_is_lost_is_looked_up() {
    let world = World::start().await;
    for (id, brings) in (1..).zip(ALL) {
        let written = world.lost(brings, Cut::After, id, false).await;
        assert_eq!(world.count(id).await, "1", "{brings:?}");
        match (brings, written) {
            // The key tells by itself what became of it.
            (Brings::Key, written) => assert!(written.unwrap(), "it found its own first answer"),
            (_, written) => {
                let status = written.unwrap_err();
                assert_eq!(detail(&status).outcome(), Outcome::Applied, "{brings:?}: {status:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_commit_that_is_cut_off_before_its_end_was_not_applied() {
    let world = World::start().await;
    for (id, brings) in (1..).zip(ALL) {
        let status = world.lost(brings, Cut::Before, id, false).await.unwrap_err();
        let outcome = detail(&status).outcome();
        assert_eq!(world.count(id).await, "0", "{brings:?}: {status:?}");
        match brings {
            // Nothing tells a transaction that left no row from one that was never committed, where
            // its id went with the flight.
            Brings::Batch => assert_ne!(outcome, Outcome::Applied, "{status:?}"),
            _ => assert_eq!(outcome, Outcome::NotApplied, "{brings:?}: {status:?}"),
        }
        if brings == Brings::Key {
            assert!(!world.again(id).await.already_applied, "the key is free");
            assert_eq!(world.count(id).await, "1");
        }
    }
}

/// What cannot be looked up is said to be unknown, and the key settles it when the call is repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_commit_that_cannot_be_looked_up_is_unknown_and_its_key_settles_it() {
    let world = World::start().await;
    for (id, brings) in (1..).zip(ALL) {
        // Of the round before.
        world.again(100 + id).await;
        let status = world.lost(brings, Cut::After, id, true).await.unwrap_err();
        let detail = detail(&status);
        assert_eq!(detail.outcome(), Outcome::Unknown, "{brings:?}: {status:?}");
        assert!(!detail.retryable, "{brings:?}: {status:?}");
        if brings == Brings::Key {
            let answer = world.again(id).await;
            assert!(answer.already_applied && answer.typed_rows().len() == 1, "{answer:?}");
        }
        assert_eq!(world.count(id).await, "1", "{brings:?}");
    }
}
