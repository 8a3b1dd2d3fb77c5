//! The fence on real servers: who may write where, and who finds out.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod epoch_row;
mod own;
mod readers;
mod sessions;
mod trigger;

use segue::domain::control::{ControlState, Phase};
use segue::domain::side::Side;
use segue::dsn::Dsn;
use segue::postgres::capture::{self, Params};
use segue::postgres::cutover::Exclusive;
use segue::postgres::schema::{self, Permission};
use segue::postgres::session::connect::Connector;
use std::time::Duration;
use support::{Database, Major, shared};

const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
    INSERT INTO item VALUES (1, 0), (2, 0)";
const LEASE: Duration = Duration::from_secs(20);
/// What one attempt at the exclusive lock may take.
const ATTEMPT: Duration = Duration::from_millis(150);

/// A side of a migration with capture on its one table.
async fn side(side: Side) -> Database {
    let major = if side == Side::Source { Major::V15 } else { Major::V18 };
    let database = Database::create(shared(major), TABLE).await;
    let mut owner = database.client().await;
    schema::migrate(&mut owner, side, Permission::Change).await.unwrap();
    let (tables, _) = capture::default_tables(&owner).await.unwrap();
    capture::install(&mut owner, &Params::new(side), &tables).await.unwrap();
    database
}

fn connector(side: Side, database: &Database) -> Connector {
    Connector::new(side, Dsn::parse(database.dsn(), &|_: &str| None).unwrap()).unwrap()
}

async fn exclusive(side: Side, database: &Database) -> Exclusive {
    Exclusive::open(&connector(side, database), LEASE).await.unwrap()
}

/// What the control row is changed to, as any change of it does.
async fn set(database: &Database, epoch: u64, phase: Phase) -> ControlState {
    let sql = format!("UPDATE segue.control SET epoch = {epoch}, phase = '{phase}' WHERE id = 1");
    database.run(&sql).await;
    ControlState { epoch, phase }
}

fn sqlstate(error: &tokio_postgres::Error) -> String {
    error.code().map(|code| code.code().to_owned()).unwrap_or_default()
}
