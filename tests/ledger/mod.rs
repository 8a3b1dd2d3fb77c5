//! What the clients were told, held against what the databases hold.
//!
//! Each account has one writer at a time, so that the last acknowledged version of it is known.
//! A write whose outcome nobody told leaves two states possible; its accounts are written no
//! more, since it may still come to pass. One that surely was not applied leaves the old state.
//!
//! - [`book`]: every write, what was told of it, and which states that leaves possible
//! - [`calls`]: the calls by which clients write and read, and what their answers tell
//! - [`load`]: clients that go on until they are stopped
//! - [`check`]: both databases against the book, at rest and while everything moves

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod book;
pub mod calls;
pub mod check;
pub mod load;

pub use book::{Ledger, Told};
pub use check::{Auditor, agree, agree_under, holds};
pub use load::{Load, Mix};

/// Tables of the ledger on the source. Lines go with their account wherever it goes; labels of
/// seats are swapped in one statement.
pub const SOURCE_SCHEMA: &str = "
CREATE TABLE account (
    id int PRIMARY KEY,
    version bigint NOT NULL,
    note text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    body json NOT NULL DEFAULT '{}'
);
CREATE TABLE line (
    account int REFERENCES account ON DELETE CASCADE ON UPDATE CASCADE,
    n int,
    PRIMARY KEY (account, n)
);
CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO counter SELECT i, 0 FROM generate_series(1, 4) AS i;
CREATE TABLE seat (id int PRIMARY KEY, label text NOT NULL UNIQUE DEFERRABLE);
INSERT INTO seat SELECT i, 'label ' || i FROM generate_series(1, 6) AS i;";

/// The same on the target, with other types, no cascade, and no putting off of constraints.
pub const TARGET_SCHEMA: &str = "
CREATE TABLE account (
    id int8 PRIMARY KEY,
    version int8 NOT NULL,
    note text COLLATE \"C\",
    changed_at timestamptz(3) NOT NULL DEFAULT now(),
    body jsonb NOT NULL DEFAULT '{}'
);
CREATE TABLE line (account int8 REFERENCES account, n int8, PRIMARY KEY (account, n));
CREATE TABLE counter (id int8 PRIMARY KEY, n int8 NOT NULL);
INSERT INTO counter SELECT i, 0 FROM generate_series(1, 4) AS i;
CREATE TABLE seat (id int8 PRIMARY KEY, label varchar(20) NOT NULL UNIQUE);
INSERT INTO seat SELECT i, 'label ' || i FROM generate_series(1, 6) AS i;";

/// Rows of `counter`, which all clients share.
pub const COUNTERS: i64 = 4;
/// Rows of `seat`, which all clients share.
pub const SEATS: i64 = 6;
