//! Whether both sides' rows are the same, found out by moving as few of them as may be.
//!
//! A chunk is a key range. Both sides add it up at once ([`sums`]); equal sums are equal rows.
//! Where they differ the range is cut until few rows are left (`narrow`), and these are read
//! and compared column by column, as reconcile does (`look`). A row that differs is asked of
//! the outbox, and looked at again, before it is called a difference.
//!
//! What was proven, and when, is kept for later ([`proof`]).
//!
//! Nothing here writes but [`Reconciler::reconcile`], when a repair is asked for.

mod ask;
pub mod chunk;
mod judge;
mod look;
mod narrow;
mod outbox;
pub mod proof;
pub mod proven;
mod rows;
pub mod sums;
pub mod sweep;
mod uncopied;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::dialect::Dialect;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::table::TableName;
use crate::postgres::chunk::{KeySql, Order};
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::reconcile::Reconciler;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::wide;
use crate::postgres::verify::sums::Hash;

/// What verifying needs to know.
#[derive(Debug, Clone)]
pub struct Params {
    /// Rows of a chunk.
    pub chunk_rows: u64,
    /// Chunks at once; each takes a session on either side.
    pub workers: usize,
    /// One statement's limit.
    pub deadline: Duration,
    /// How long a row that waits for the outbox is looked at again.
    pub pending_max: Duration,
    /// Reconcile what differs.
    pub repair: bool,
    /// Hash rows as text although both servers could do better.
    pub as_text: bool,
    /// Where tests step in.
    pub between: Between,
}

/// Something that is awaited between the readings of the primary and of the shadow: nothing, but
/// in tests, which write there.
#[derive(Clone, Default)]
pub struct Between(Option<Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>>);

// === impl Between ===

impl Between {
    /// This.
    pub fn new(step: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(step)))
    }

    async fn pass(&self) {
        if let Some(step) = &self.0 {
            step().await;
        }
    }
}

impl std::fmt::Debug for Between {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Between").field(&self.0.is_some()).finish()
    }
}

impl Default for Params {
    fn default() -> Self {
        Self {
            chunk_rows: 10_000,
            workers: 2,
            deadline: Duration::from_secs(60),
            pending_max: Duration::from_secs(30),
            repair: false,
            as_text: false,
            between: Between::default(),
        }
    }
}

/// Compares both sides of a migration.
#[derive(Debug)]
pub struct Verifier {
    reconciler: Arc<Reconciler>,
    params: Params,
    /// What stands before the digest of a large value.
    nonce: String,
}

/// A table that can be verified.
#[derive(Debug, Clone)]
pub struct Table {
    /// Both sides' columns and keys.
    pub shape: Arc<TableShape>,
    hash: Hash,
    /// What the primary and the shadow speak.
    dialects: [Dialect; 2],
    /// Rows by the primary's statistics; `None` where it has none.
    pub rows_estimate: Option<u64>,
}

/// A migrated table, or why it cannot be verified.
pub type Verifiable = (TableName, Result<Table, String>);

// === impl Table ===

impl Table {
    /// Whether a range is found by an index on both sides.
    pub fn index_serves(&self) -> bool {
        [Role::Primary, Role::Shadow].iter().all(|role| self.key(*role).index_serves())
    }

    /// Its name on the source, given which side is the primary: configuration goes by it.
    pub fn source_name(&self, primary: Side) -> &TableName {
        match primary {
            Side::Source => &self.shape.primary,
            Side::Target => &self.shape.shadow,
        }
    }

    fn key(&self, role: Role) -> KeySql<'_> {
        KeySql::new(&self.shape, role, Order::Same)
    }
}

// === impl Verifier ===

impl Verifier {
    /// A verifier of the reconciler's two sides.
    pub fn new(reconciler: Arc<Reconciler>, params: Params) -> Self {
        Self { reconciler, params, nonce: wide::nonce() }
    }

    /// What it was made with.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The side whose rows are the right ones.
    pub fn primary(&self) -> Side {
        self.reconciler.pool(Role::Primary).side()
    }

    /// The migrated tables in the order of their names on the primary.
    ///
    /// # Errors
    ///
    /// What a database reports.
    pub async fn tables(&self) -> Result<Vec<Verifiable>, SqlFault> {
        self.reconciler.forget_shapes();
        let shapes = self.reconciler.shapes().await.map_err(fault_of)?;
        let names = self.names().await?;
        let (hash, dialects) = self.hash().await?;
        let mut tables = Vec::new();
        for (table_id, shape) in shapes.iter() {
            let (name, rows_estimate) = names
                .get(table_id)
                .cloned()
                .unwrap_or_else(|| (TableName::new("?", format!("table id {table_id}")), None));
            let table = shape.clone().map(|shape| Table { shape, hash, dialects, rows_estimate });
            tables.push((name, table));
        }
        tables.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(tables)
    }

    async fn names(&self) -> Result<HashMap<i32, (TableName, Option<u64>)>, SqlFault> {
        let side = self.reconciler.pool(Role::Primary).side();
        let sql = format!(
            "SELECT m.table_id, m.{side}_schema, m.{side}_name, \
                 CASE WHEN c.reltuples >= 0 THEN c.reltuples::pg_catalog.int8 END \
             FROM segue.migrated_table AS m \
             LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = m.{side}_schema \
             LEFT JOIN pg_catalog.pg_class AS c \
                 ON c.relnamespace = n.oid AND c.relname = m.{side}_name"
        );
        let rows = self.ask(Role::Primary, &sql).await.map_err(|failed| fault_of(failed.halt()))?;
        let mut names = HashMap::new();
        for row in rows {
            if let [Some(id), Some(schema), Some(name), rows] = row.as_slice()
                && let Ok(id) = id.parse()
            {
                let rows = rows.as_ref().and_then(|rows| rows.parse().ok());
                names.insert(id, (TableName::new(schema, name), rows));
            }
        }
        Ok(names)
    }

    /// The best hash that both servers have in common.
    async fn hash(&self) -> Result<(Hash, [Dialect; 2]), SqlFault> {
        let mut dialects = [Dialect::default(); 2];
        for (role, dialect) in [Role::Primary, Role::Shadow].into_iter().zip(&mut dialects) {
            *dialect = self.reconciler.pool(role).get().await?.dialect();
        }
        if self.params.as_text || !dialects.iter().all(|dialect| dialect.hashes_records()) {
            return Ok((Hash::Text, dialects));
        }
        let (one, other) =
            tokio::join!(self.ask(Role::Primary, sums::PROBE), self.ask(Role::Shadow, sums::PROBE));
        let same = matches!((one, other), (Ok(one), Ok(other)) if one == other);
        Ok((if same { Hash::Binary } else { Hash::Text }, dialects))
    }
}

/// What ended a piece of work, for people.
fn fault_of(halt: Halt) -> SqlFault {
    let own = |message: String| SqlFault::new(FaultKind::Internal, Reason::VerifyChunk, message);
    match halt {
        Halt::Away(fault)
        | Halt::Again(fault)
        | Halt::Stale(fault)
        | Halt::Unique(fault)
        | Halt::ForeignKey(fault) => fault,
        Halt::Set(reason) | Halt::Table(reason) => own(reason),
        Halt::Late => own("a statement took longer than its limit".to_owned())
            .with_hint("verify smaller chunks: --chunk-rows"),
        other => own(format!("{other:?}")),
    }
}
