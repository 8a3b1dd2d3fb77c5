//! Writing a plan on the shadow, in few round trips.

use std::collections::BTreeMap;

use crate::domain::sqlstate;
use crate::postgres::pool::Lease;
use futures_util::future::join_all;
use tokio_postgres::types::ToSql;

use crate::postgres::mapping::cells::{carry_from, keep};
use crate::postgres::mapping::image::Image;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::plan::TablePlan;
use crate::postgres::reconcile::read::TableKeys;
use crate::postgres::session::param::RawParam;
use crate::value::Parameter;

/// Rows of one INSERT, largest first: few texts, so that few statements are prepared.
const INSERT_ROWS: [usize; 3] = [64, 8, 1];
/// Bytes of one INSERT of several rows: the message is there beside its rows, and a session's
/// buffers keep the size of its largest.
const INSERT_BYTES: usize = 256 << 10;
/// The protocol's limit on the parameters of one statement.
const PARAMETERS_MAX: usize = 65_535;

/// One table's part of a set, read and planned.
#[derive(Debug)]
pub struct Planned<'a> {
    /// The table and its keys.
    pub table: &'a TableKeys,
    /// The primary's rows.
    pub primary: &'a [Option<Image>],
    /// The shadow's rows.
    pub shadow: &'a [Option<Image>],
    /// What is to be written.
    pub plan: TablePlan,
}

/// One statement with its parameters, and the rows that it must affect.
struct Write {
    sql: String,
    params: Vec<RawParam>,
    rows: u64,
}

/// All that is to be written, in its order. It has the values themselves, and shares them with the
/// rows that they are from until they are sent.
pub(super) struct Writes {
    deletes: u64,
    /// By table.
    out: Vec<Vec<usize>>,
    into: Vec<Vec<Write>>,
}

/// Writes all tables' plans: first everything that goes out, children before parents, then
/// what changes and what comes in, parents before children. `tables` stand in that order.
///
/// # Errors
///
/// What the database reports; [`Halt::Keys`] where a value does not fit the shadow's type.
// Modelled as `Action::Apply` in tests/model.
pub async fn apply(client: &Lease, tables: &[Planned<'_>]) -> Result<u64, Halt> {
    let keys: Vec<&TableKeys> = tables.iter().map(|table| table.table).collect();
    Writes::of(tables)?.run(client, &keys).await
}

// === impl Writes ===

impl Writes {
    /// What these plans say.
    ///
    /// # Errors
    ///
    /// [`Halt::Keys`] where a value does not fit the shadow's type.
    pub(super) fn of(tables: &[Planned<'_>]) -> Result<Self, Halt> {
        let mut all = Self { deletes: 0, out: Vec::new(), into: Vec::new() };
        let mut bad = Vec::new();
        for table in tables {
            let plan = &table.plan;
            let out: Vec<usize> = plan.deletes.iter().chain(&plan.reinserts).copied().collect();
            all.out.push(out);
            all.deletes += plan.deletes.len() as u64;
            let mut writes = updates(table, &mut bad);
            writes.extend(inserts(table, &plan.inserts, false, &mut bad));
            writes.extend(inserts(table, &plan.reinserts, true, &mut bad));
            all.into.push(writes);
        }
        if bad.is_empty() { Ok(all) } else { Err(Halt::Keys(bad)) }
    }

    /// Writes it into the tables that the plans were of; answers how many rows that were.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub(super) async fn run(self, client: &Lease, tables: &[&TableKeys]) -> Result<u64, Halt> {
        for (table, out) in tables.iter().zip(&self.out).rev() {
            remove(client, table, out).await?;
        }
        let mut changed = self.deletes;
        for (table, writes) in tables.iter().zip(self.into) {
            changed += run(client, table, writes).await?;
        }
        Ok(changed)
    }
}

async fn remove(client: &Lease, table: &TableKeys, keys: &[usize]) -> Result<(), Halt> {
    if keys.is_empty() {
        return Ok(());
    }
    let statement = client.prepared(&table.shape.delete_by_keys()).await.map_err(of_fault)?;
    let arrays = table.arrays(&keys.iter().copied());
    let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
    let rows = client.execute(&statement.statement, &params).await?;
    expect_rows(table, rows, keys.len() as u64)
}

fn updates(table: &Planned<'_>, bad: &mut Vec<(RowKey, String)>) -> Vec<Write> {
    let shape = &table.table.shape;
    let mut writes = Vec::with_capacity(table.plan.updates.len());
    for update in &table.plan.updates {
        let Some(image) = &table.primary[update.key] else { continue };
        let cells = update.pairs.iter().map(|index| {
            let pair = &shape.pairs[*index];
            carry_from(pair, image)
        });
        match cells.collect::<Result<Vec<_>, _>>() {
            Ok(mut params) => {
                let key = &table.table.keys[update.key];
                params.extend(
                    key.iter().map(|text| RawParam(Parameter::text(text.clone().into_bytes()))),
                );
                writes.push(Write { sql: shape.update_one(&update.pairs), params, rows: 1 });
            }
            Err(reason) => bad.push((row_key(table, update.key), reason)),
        }
    }
    writes
}

fn inserts(
    table: &Planned<'_>,
    keys: &[usize],
    whole: bool,
    bad: &mut Vec<(RowKey, String)>,
) -> Vec<Write> {
    let shape = &table.table.shape;
    let own: &[usize] = if whole { &shape.shadow_only } else { &[] };
    let width = shape.pairs.len() + own.len();
    let mut writes = Vec::new();
    let mut rest = keys;
    while !rest.is_empty() {
        let bytes = |rows: usize| {
            let images = rest.iter().take(rows).filter_map(|key| table.primary[*key].as_ref());
            images.map(Image::size).sum::<usize>()
        };
        let rows = INSERT_ROWS
            .into_iter()
            .find(|rows| {
                *rows <= rest.len()
                    && rows * width <= PARAMETERS_MAX
                    && bytes(*rows) <= INSERT_BYTES
            })
            .unwrap_or(1);
        let (now, later) = rest.split_at(rows);
        rest = later;
        let mut params = Vec::with_capacity(rows * width);
        for key in now {
            let Some(image) = &table.primary[*key] else { continue };
            let cells = shape.pairs.iter().map(|pair| carry_from(pair, image));
            match cells.collect::<Result<Vec<_>, _>>() {
                Ok(cells) => params.extend(cells),
                Err(reason) => bad.push((row_key(table, *key), reason)),
            }
            if let Some(before) = &table.shadow[*key] {
                params.extend(own.iter().map(|index| keep(shape, *index, before.cell(*index))));
            }
        }
        writes.push(Write { sql: shape.insert_many(rows, whole), params, rows: rows as u64 });
    }
    writes
}

/// Sends all statements before the first answer is awaited.
async fn run(client: &Lease, table: &TableKeys, writes: Vec<Write>) -> Result<u64, Halt> {
    let mut statements = BTreeMap::new();
    for write in &writes {
        if !statements.contains_key(&write.sql) {
            let statement = client.prepared(&write.sql).await.map_err(of_fault)?;
            statements.insert(write.sql.clone(), statement);
        }
    }
    let wanted: Vec<u64> = writes.iter().map(|write| write.rows).collect();
    // What is sent is given up: a large value is there in the message alone.
    let answers = join_all(writes.into_iter().filter_map(|write| {
        let statement = statements.get(&write.sql)?;
        Some(client.execute_raw(&statement.statement, write.params))
    }))
    .await;
    let mut changed = 0;
    let mut first: Option<Halt> = None;
    for (answer, wanted) in answers.into_iter().zip(wanted) {
        match answer {
            Ok(rows) => {
                changed += rows;
                if let Err(halt) = expect_rows(table, rows, wanted) {
                    first.get_or_insert(halt);
                }
            }
            // After the first error the rest only say that the transaction is aborted.
            Err(fault) if fault.sqlstate == sqlstate::IN_FAILED_SQL_TRANSACTION => {}
            Err(fault) => {
                first.get_or_insert_with(|| fault.into());
            }
        }
    }
    first.map_or(Ok(changed), Err)
}

/// A rule, a trigger that fires always or row security would swallow a write without an
/// error: that must not pass for done.
fn expect_rows(table: &TableKeys, rows: u64, wanted: u64) -> Result<(), Halt> {
    if rows == wanted {
        return Ok(());
    }
    Err(Halt::Set(format!(
        "the shadow's table {} took {rows} of {wanted} rows; look for a rule or a trigger there \
         that swallows writes",
        table.shape.shadow
    )))
}

fn row_key(table: &Planned<'_>, key: usize) -> RowKey {
    RowKey { table_id: table.table.shape.table_id, values: table.table.keys[key].clone() }
}
