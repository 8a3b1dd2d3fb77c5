//! A row that is too large for anything beside it: its large values are compared by what the
//! servers make of them, and read only where they are written.
//!
//! The transaction is that of [`attempt`], lock before read and all. What differs is what is held
//! in memory: of the shadow's row never a large value; of the primary's all of them, and once more
//! in each of the buffers through which they come and go.
//!
//! [`attempt`]: crate::postgres::reconcile::attempt

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::table::quote_identifier;
use crate::postgres::crash;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::Reconciler;
use crate::postgres::reconcile::apply::{Planned, apply};
use crate::postgres::reconcile::attempt::{Readings, group, lock, still_registered};
use crate::postgres::reconcile::halt::{Halt, of_fault, on};
use crate::postgres::reconcile::image::Image;
use crate::postgres::reconcile::plan::{TablePlan, Update};
use crate::postgres::reconcile::read::{TableKeys, prepare_rows, read_all};
use crate::postgres::reconcile::session::{Transaction, begin_primary};
use crate::postgres::reconcile::shape::{Pair, Role, TableShape};
use crate::postgres::reconcile::sizes::{Meter, Room};

/// Bytes from which a value is compared by its digest.
const LARGE_BYTES: usize = 1 << 20;

impl Reconciler {
    /// An attempt on one row that is too large for [`Reconciler::attempt`].
    ///
    /// If we crash anywhere before the commit, the shadow rolls back and the outbox still has the
    /// key.
    pub(super) async fn attempt_wide(
        &self,
        keys: &BTreeSet<RowKey>,
        holders_first: bool,
        room: Room,
    ) -> Result<u64, Halt> {
        let shapes = self.shapes().await?;
        let tables = group(keys, &shapes)?;
        let keys_as = self.foreign_keys().await?;
        let shadow = Transaction::open_shadow(&self.shadow, keys_as, room.deadline).await?;
        lock(&shadow, &tables).await?;
        self.params.crash.pass(crash::AFTER_LOCK)?;
        let nonce = Uuid::new_v4().simple().to_string();
        let on_shadow = digested(&shadow, Role::Shadow, &tables, &nonce).await?;
        let primary = Transaction::open(&self.primary, &begin_primary(room.deadline)).await?;
        still_registered(&primary, &tables).await?;
        let of_primary = digested(&primary, Role::Primary, &tables, &nonce).await?;
        let readings = Readings { primary: of_primary, shadow: on_shadow, bytes: room.bytes };
        self.params.crash.pass(crash::AFTER_READ)?;
        let planned = self.plan_all(&shadow, &tables, &readings, holders_first, &shapes).await?;
        if planned.iter().all(|table| table.plan.is_empty()) {
            primary.end("ROLLBACK").await?;
            shadow.end("COMMIT").await?;
            self.params.crash.pass(crash::AFTER_SHADOW_COMMIT)?;
            return Ok(0);
        }
        let needed = planned.iter().any(|table| writes_large(table, &nonce));
        let plans: Vec<TablePlan> = planned.into_iter().map(|table| table.plan).collect();
        let Readings { primary: of_primary, shadow: on_shadow, .. } = readings;
        // In the snapshot in which they were compared. The session keeps what it has read: closed.
        let whole = match needed {
            true => {
                let meter = Meter::new(u64::MAX);
                let (client, side) = (primary.client()?, primary.side());
                read_all(client, side, Role::Primary, &tables, &meter).await?
            }
            false => of_primary,
        };
        primary.close("ROLLBACK").await?;
        let planned: Vec<Planned<'_>> = plans
            .into_iter()
            .zip(tables.iter().zip(whole.iter().zip(&on_shadow)))
            .map(|(plan, (table, (primary, shadow)))| Planned { table, primary, shadow, plan })
            .collect();
        let applied = apply(shadow.client()?, shadow.side(), &planned).await;
        let changed = match applied {
            Ok(changed) => changed,
            Err(halt) => return Err(self.learn(shadow, &planned, keys, &shapes, halt).await),
        };
        self.params.crash.pass(crash::AFTER_APPLY)?;
        // So does this one keep what it has sent.
        shadow.close("COMMIT").await?;
        self.params.crash.pass(crash::AFTER_SHADOW_COMMIT)?;
        Ok(changed)
    }
}

/// Whether a plan writes a value of which there is but the digest.
fn writes_large(table: &Planned<'_>, nonce: &str) -> bool {
    let is_digest = |cell: Option<&[u8]>| {
        cell.is_some_and(|cell| cell.windows(nonce.len()).take(3).any(|it| it == nonce.as_bytes()))
    };
    let plan = &table.plan;
    let large = |update: &Update| {
        let pairs = update.pairs.iter().map(|pair| table.table.shape.pairs[*pair].primary);
        let image = table.primary[update.key].as_ref();
        image.is_some_and(|image| pairs.into_iter().any(|column| is_digest(image.cell(column))))
    };
    !plan.inserts.is_empty() || !plan.reinserts.is_empty() || plan.updates.iter().any(large)
}

/// The rows with a digest in the place of each large value. A value that is large on one side only
/// differs from the digest: nobody can know the nonce, and store what looks like one.
async fn digested(
    transaction: &Transaction,
    role: Role,
    tables: &[TableKeys],
    nonce: &str,
) -> Result<Vec<Vec<Option<Image>>>, Halt> {
    let (client, on) = (transaction.client()?, on(transaction.side()));
    let mut all = Vec::with_capacity(tables.len());
    for table in tables {
        // The columns are as they were when the table was looked at.
        prepare_rows(client, transaction.side(), role, table).await?;
        let statement = client.prepared(&sql(&table.shape, role)).await.map_err(of_fault)?;
        let arrays = table.arrays(&(0..table.keys.len()));
        let mut params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
        params.push(&nonce);
        let mut images: Vec<Option<Image>> = vec![None; table.keys.len()];
        for row in client.query(&statement.statement, &params).await.map_err(on)? {
            let place: i64 = row.try_get(0).map_err(on)?;
            let place = usize::try_from(place - 1).ok().and_then(|place| images.get_mut(place));
            if let Some(place) = place {
                *place = Some(Image::from_row(&row, 1).map_err(on)?);
            }
        }
        all.push(images);
    }
    Ok(all)
}

fn sql(shape: &TableShape, role: Role) -> String {
    let columns = match role {
        Role::Primary => &shape.primary_columns,
        Role::Shadow => &shape.shadow_columns,
    };
    let nonce = format!("${}::pg_catalog.text", shape.key.len() + 1);
    let cells = columns.iter().enumerate().map(|(index, column)| {
        let name = format!("t.{}", quote_identifier(&column.name));
        let of = |pair: &&Pair| match role {
            Role::Primary => pair.primary == index,
            Role::Shadow => pair.shadow == index,
        };
        match shape.pairs.iter().find(of).and_then(Digest::of) {
            None => name,
            Some(digest) => digest.cell(&name, &nonce),
        }
    });
    let cells: Vec<String> = std::iter::once("k.n".to_owned()).chain(cells).collect();
    format!(
        "SELECT {} FROM {} JOIN {} AS t ON {}",
        cells.join(", "),
        shape.key_source(),
        shape.quoted(role),
        shape.key_match(role, |index| format!("k.k{}", index + 1))
    )
}

/// How a value is digested and shown as one of its own type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest {
    size: &'static str,
    bytes: &'static str,
    shown: &'static str,
}

const TEXT: Digest = Digest { size: "{}", bytes: "pg_catalog.textsend({}::text)", shown: "{}" };
const BYTES: Digest =
    Digest { size: "{}", bytes: "{}", shown: "pg_catalog.convert_to({}, 'UTF8')" };
const JSON: Digest = Digest {
    size: "{}::text",
    bytes: "pg_catalog.textsend({}::text)",
    shown: "pg_catalog.to_json({})",
};
const JSONB: Digest = Digest { shown: "pg_catalog.to_jsonb({})", ..JSON };

// === impl Digest ===

impl Digest {
    /// Of pairs whose columns have the same type, so that equal bytes are equal values.
    fn of(pair: &Pair) -> Option<Self> {
        if !pair.same_type() {
            return None;
        }
        match pair.judged.primary.ty.oid {
            // char(n) has its spaces, varchar(n) its limit; both are texts.
            25 | 1043 => Some(TEXT),
            17 => Some(BYTES),
            114 => Some(JSON),
            3802 => Some(JSONB),
            _ => None,
        }
    }

    fn cell(self, name: &str, nonce: &str) -> String {
        let size = self.size.replace("{}", name);
        let bytes = self.bytes.replace("{}", name);
        let digest = format!("({nonce} || pg_catalog.encode(pg_catalog.sha256({bytes}), 'hex'))");
        let shown = self.shown.replace("{}", &digest);
        format!(
            "CASE WHEN pg_catalog.octet_length({size}) > {LARGE_BYTES} THEN {shown} ELSE {name} END"
        )
    }
}
