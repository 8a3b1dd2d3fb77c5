//! Tables that are gone through in several turns, and how far each is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::SystemTime;

use crate::domain::key::WriteId;
use crate::postgres::outbox::claim::RowPlace;
use crate::postgres::reconcile::whole_table::Cursor;

/// How far this member has come with the tables and ranges that it goes through.
pub(super) type Tables = Mutex<BTreeMap<Passed, Progress>>;

/// What is gone through: a table, or a range of its key.
pub(super) type Passed = (i32, Option<WriteId>);

/// How far this member has come with a table, and for which outbox rows: one that came later
/// counts from its own beginning.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub(super) covered: BTreeSet<(RowPlace, SystemTime)>,
    pub(super) cursor: Cursor,
    /// Whom the shadow was seen to be when it began.
    pub(super) shadow: Option<String>,
}
