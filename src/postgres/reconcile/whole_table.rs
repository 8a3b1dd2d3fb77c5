//! Every row of a table, as after `TRUNCATE`, or of a range of its key.

use std::collections::BTreeSet;
use std::time::Instant;

use tokio_postgres::types::ToSql;

use crate::domain::key::KeyValues;
use crate::domain::key_range::KeyRange;
use crate::postgres::chunk::{KeySql, Order};
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::outbox::RowKey;
use crate::postgres::outbox::ranges::{NotedRange, form};
use crate::postgres::pool::Pool;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::lock::{
    PASS_TABLE, PASS_TABLE_BY_ROW, SHARE_TABLES_BY_ROW, TABLE_LOCK_CLASS, slot_of_table,
};
use crate::postgres::reconcile::session::{Transaction, begin_listing};
use crate::postgres::reconcile::sets::Large;
use crate::postgres::reconcile::{Reconciler, Report, Stopped};
use crate::postgres::session::ServerFacts;

/// Keys of one page.
const PAGE_KEYS: i64 = 500;

/// How far a table has been gone through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The side whose keys are listed.
    role: Role,
    /// The last key that was done.
    after: Option<Vec<String>>,
    /// Keys that were gone through, on both sides together.
    keys: u64,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { role: Role::Shadow, after: None, keys: 0 }
    }
}

impl Cursor {
    /// Keys that were gone through, on both sides together.
    pub fn keys(&self) -> u64 {
        self.keys
    }
}

impl Reconciler {
    /// Reconciles every key of the range that either side has, page by page, until `until`. The
    /// report is that of these pages; [`Stopped::Late`] means that there is more to do, from
    /// `cursor` on.
    ///
    /// A reconcile that read the primary before the `TRUNCATE` may still be about to insert a
    /// row that no listing shows. So the table's lock is taken and released first: all of
    /// those have ended then, and whoever comes later reads what we read.
    pub async fn whole_table(
        &self,
        table_id: i32,
        range: &KeyRange,
        cursor: &mut Cursor,
        until: Instant,
    ) -> Report {
        let mut report = Report::default();
        let passed = (table_id, range);
        if let Err(halt) = self.every_key(passed, cursor, until, &mut report).await {
            match halt {
                Halt::Away(fault) => report.stopped = Some(Stopped::Away(Box::new(fault))),
                Halt::Crash(_) => report.stopped = Some(Stopped::Crash),
                Halt::Late => report.stopped = Some(Stopped::Late),
                Halt::Shifted => report.stopped = Some(Stopped::Shifted),
                Halt::Set(reason) | Halt::Table(reason) => {
                    report.failed.push((no_key(table_id), reason));
                }
                Halt::Again(fault) | Halt::Stale(fault) => {
                    self.shapes.forget();
                    report.failed.push((no_key(table_id), fault.to_string()));
                }
                other => report.failed.push((no_key(table_id), format!("{other:?}"))),
            }
        }
        report
    }

    async fn every_key(
        &self,
        (table_id, range): (i32, &KeyRange),
        cursor: &mut Cursor,
        until: Instant,
        report: &mut Report,
    ) -> Result<(), Halt> {
        // A table is gone through after its key was changed, too: not by the old one.
        if *cursor == Cursor::default() {
            self.shapes.forget_if_old();
        }
        let mut shapes = self.shapes().await?;
        if !matches!(shapes.get(&table_id), Some(Ok(_))) && self.shapes.forget_if_old() {
            shapes = self.shapes().await?;
        }
        let is_fit = matches!(shapes.get(&table_id), Some(Ok(_)));
        if !is_fit && !self.retired(BTreeSet::from([table_id])).await?.is_empty() {
            return Ok(());
        }
        let shape = match shapes.get(&table_id) {
            Some(Ok(shape)) => shape,
            Some(Err(reason)) => return Err(Halt::Set(reason.clone())),
            None => {
                return Err(Halt::Set(format!(
                    "table id {table_id} is not in segue.migrated_table"
                )));
            }
        };
        if *cursor == Cursor::default() {
            let (keys_as, deadline) = (self.foreign_keys().await?, self.params.deadline);
            let barrier =
                Transaction::open_shadow(&self.shadow, keys_as, (deadline, deadline * 4)).await?;
            let client = barrier.client()?;
            let passed = match client.dialect().has_advisory_locks() {
                true => client.query(PASS_TABLE, &[&TABLE_LOCK_CLASS, &table_id]).await,
                false => client.query(PASS_TABLE_BY_ROW, &[&slot_of_table(table_id)]).await,
            };
            passed?;
            barrier.end("COMMIT").await?;
        }
        loop {
            loop {
                let rest = KeyRange {
                    after: cursor.after.clone().or_else(|| range.after.clone()),
                    until: range.until.clone(),
                };
                let page = self.page(shape, cursor.role, &rest).await?;
                let Some(last) = page.last().cloned() else { break };
                let count = page.len() as u64;
                let full = count >= PAGE_KEYS.unsigned_abs();
                let row_key = |values: &KeyValues| RowKey { table_id, values: values.clone() };
                let keys = page.iter().map(row_key).collect();
                // What is done is told by how far it went.
                let of_page = self.reconcile_here(keys, Large::InOrder).await;
                report.changed += of_page.changed;
                let failed = of_page.failed.iter().map(|(key, _)| key);
                let seen: BTreeSet<&RowKey> = of_page.done.iter().chain(failed).collect();
                let left = page.iter().position(|values| !seen.contains(&row_key(values)));
                report.failed.extend(of_page.failed);
                if of_page.stopped.is_some() {
                    // A page of large rows takes more than one turn.
                    let done = left.and_then(|left| page.get(left.checked_sub(1)?)).cloned();
                    cursor.after = done.or(cursor.after.take());
                    report.stopped = of_page.stopped;
                    return Ok(());
                }
                cursor.after = Some(last);
                cursor.keys += count;
                if Instant::now() > until {
                    return Err(Halt::Late);
                }
                if !full {
                    break;
                }
            }
            if cursor.role == Role::Primary {
                return Ok(());
            }
            *cursor = Cursor { role: Role::Primary, after: None, keys: cursor.keys };
        }
    }

    /// Whether both sides have a range: the key is what it was when it was cut, its index gives the
    /// same order on both, and the shadow's types have its ends.
    pub(super) async fn both_have(&self, table_id: i32, noted: &NotedRange) -> Result<bool, Halt> {
        let shapes = self.shapes().await?;
        let Some(Ok(shape)) = shapes.get(&table_id) else { return Ok(false) };
        let form = shape.key.iter().map(|column| form(&column.name, &column.primary_cast));
        let serves = |role| KeySql::new(shape, role, Order::Same).index_serves();
        if !form.eq(noted.key_form.iter().cloned())
            || !serves(Role::Primary)
            || !serves(Role::Shadow)
        {
            return Ok(false);
        }
        if shape.key.iter().all(|column| column.primary_cast == column.shadow_cast) {
            return Ok(true);
        }
        match self.page_of(shape, Role::Shadow, &noted.range, 1).await {
            Err(Halt::Set(_)) => Ok(false),
            listed => listed.map(|_| true),
        }
    }

    /// The next keys of one side, in the order of its index.
    async fn page(
        &self,
        shape: &TableShape,
        role: Role,
        range: &KeyRange,
    ) -> Result<Vec<Vec<String>>, Halt> {
        self.page_of(shape, role, range, PAGE_KEYS).await
    }

    async fn page_of(
        &self,
        shape: &TableShape,
        role: Role,
        range: &KeyRange,
        keys_max: i64,
    ) -> Result<Vec<Vec<String>>, Halt> {
        let pool: &Pool = match role {
            Role::Primary => &self.primary,
            Role::Shadow => &self.shadow,
        };
        let deadline = self.params.deadline;
        let begin = |facts: &ServerFacts| begin_listing(facts, deadline);
        let transaction = Transaction::open_by(pool, begin).await?;
        let client = transaction.client()?;
        if role == Role::Shadow && !client.dialect().has_advisory_locks() {
            // Of two transactions that touch nothing in common the later one may be put first: this
            // reads the row of the barrier, and so comes after it.
            let row = [slot_of_table(shape.table_id)];
            client.query(SHARE_TABLES_BY_ROW, &[&&row[..]]).await?;
        }
        let listing =
            client.prepared(&page_sql(shape, role, range, keys_max)).await.map_err(of_fault)?;
        let ends = range.after.iter().chain(&range.until).flatten();
        let params: Vec<&(dyn ToSql + Sync)> = ends.map(|text| text as _).collect();
        let rows = client.query(&listing.statement, &params).await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            let values = (0..row.len()).map(|index| row.try_get(index)).collect::<Result<_, _>>();
            keys.push(values?);
        }
        // Committed, so that what it has read counts.
        transaction.end("COMMIT").await?;
        Ok(keys)
    }
}

/// The ends of the range are its parameters.
fn page_sql(shape: &TableShape, role: Role, range: &KeyRange, keys_max: i64) -> String {
    let columns: Vec<String> = shape.key.iter().map(|key| format!("t.{}", key.name)).collect();
    let mut conditions = Vec::new();
    let mut params = 0;
    for (key, end) in [(&range.after, End::After), (&range.until, End::Until)] {
        if key.is_some() {
            conditions.push(bound(shape, role, end, params));
            params += shape.key.len();
        }
    }
    let condition = match conditions.as_slice() {
        [] => String::new(),
        conditions => format!(" WHERE {}", conditions.join(" AND ")),
    };
    format!(
        "SELECT {} FROM {} AS t{condition} ORDER BY {} LIMIT {keys_max}",
        shape.key_texts(),
        shape.quoted(role),
        columns.join(", ")
    )
}

/// Which end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    After,
    Until,
}

/// `(t.a, t.b) > (bounds)`, or `<=`, which an index serves as it is. With operators of an extension
/// it is spelt out: found by the search path, others would be taken, and rows left out.
fn bound(shape: &TableShape, role: Role, end: End, params: usize) -> String {
    let mut names = Vec::new();
    let mut bounds = Vec::new();
    let mut spelt = String::new();
    let mut plain = true;
    for (n, key) in shape.key.iter().enumerate() {
        let (cast, equals, after) = match role {
            Role::Primary => (&key.primary_cast, &key.primary_equals, &key.primary_after),
            Role::Shadow => (&key.shadow_cast, &key.shadow_equals, &key.shadow_after),
        };
        let name = format!("t.{}", key.name);
        let bound = format!("${}::pg_catalog.text::{cast}", params + n + 1);
        let last = n + 1 == shape.key.len();
        spelt.push_str(&format!("({name} {after} {bound}"));
        if !last {
            spelt.push_str(&format!(" OR ({name} {equals} {bound} AND "));
        }
        plain &= equals == "=" && after == ">";
        names.push(name);
        bounds.push(bound);
    }
    if plain {
        let operator = if end == End::After { ">" } else { "<=" };
        return format!("({}) {operator} ({})", names.join(", "), bounds.join(", "));
    }
    spelt.push_str(&")".repeat(2 * shape.key.len() - 1));
    // Of an order, what is not after a key comes no later than it.
    if end == End::After { spelt } else { format!("NOT ({spelt})") }
}

fn no_key(table_id: i32) -> RowKey {
    RowKey { table_id, values: Vec::new() }
}
