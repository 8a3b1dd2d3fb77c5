//! Asking the servers how large the rows of a set are.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::key::KeyValues;
use crate::postgres::mapping::table::Role;
use crate::postgres::memory::HeldRows;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::group::group;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::read::TableKeys;
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::sizes::{
    Known, Ready, Room, RowSize, SET_BYTES, WIDE_BYTES, parts, total,
};
use crate::postgres::reconcile::{Reconciler, select};

// === impl Reconciler ===

impl Reconciler {
    /// What can be done with a set. Where rows of its tables were large lately, both servers are
    /// asked first.
    ///
    /// # Errors
    ///
    /// A side that is away.
    pub(super) async fn room(
        &self,
        set: &BTreeSet<RowKey>,
        known: &mut Known,
    ) -> Result<Ready, SqlFault> {
        let deadline = self.params.deadline;
        if !set.iter().all(|key| known.contains_key(key)) {
            if !self.sizes.are_large(set) {
                return Ok(Ready::Whole(self.sizes.guessed(set, deadline)));
            }
            self.measure(set, known).await?;
        }
        let row_max = self.params.row_bytes_max;
        let large = |key: &&RowKey| known.get(key).is_some_and(|size| size.primary > row_max);
        let large: Vec<&RowKey> = set.iter().filter(large).collect();
        if !large.is_empty() {
            let shapes = self.shapes().await.ok();
            let reason = |key: &RowKey| {
                let table =
                    shapes.as_ref().and_then(|shapes| shapes.get(&key.table_id)?.as_ref().ok());
                let table = table.map_or_else(String::new, |it| format!(" of {}", it.primary));
                let bytes = known.get(key).map_or(0, |size| size.primary);
                format!(
                    "the row{table} with the key ({}) has about {} MiB, more than the {} MiB of \
                     limits.row_bytes_max",
                    key.values.join(", "),
                    bytes >> 20,
                    row_max >> 20
                )
            };
            let reasons = large.into_iter().map(|key| (key.clone(), reason(key))).collect();
            return Ok(Ready::TooLarge(reasons));
        }
        let bytes = total(set, known);
        if bytes > SET_BYTES && set.len() > 1 {
            return Ok(Ready::Parts(parts(set, known)));
        }
        Ok(Ready::Whole(Room::of_rows(bytes, deadline)))
    }

    /// What is to be done after a set had more than its room. Answers the sets to go on with.
    ///
    /// # Errors
    ///
    /// A side that is away.
    pub(super) async fn larger(
        &self,
        set: BTreeSet<RowKey>,
        known: &mut Known,
    ) -> Result<Vec<BTreeSet<RowKey>>, SqlFault> {
        self.measure(&set, known).await?;
        if let (Some(key), 1) = (set.first(), set.len()) {
            // Whatever its size is said to be.
            let size = known.entry(key.clone()).or_default();
            size.either = size.either.max(WIDE_BYTES);
            return Ok(vec![set]);
        }
        if total(&set, known) > SET_BYTES {
            return Ok(vec![set]);
        }
        // What the servers say is too little.
        let middle = set.len() / 2;
        let mut keys = set.into_iter();
        Ok(vec![keys.by_ref().take(middle).collect(), keys.collect()])
    }

    /// Keys of a table, more than were read at once, in parts by their sizes, each with its bytes.
    ///
    /// # Errors
    ///
    /// A side that is away.
    pub(in crate::postgres) async fn by_size(
        &self,
        table_id: i32,
        mut keys: Vec<KeyValues>,
    ) -> Result<Vec<(Vec<KeyValues>, u64)>, SqlFault> {
        let row_key = |values: &KeyValues| RowKey { table_id, values: values.clone() };
        let mut known = Known::new();
        self.measure(&keys.iter().map(row_key).collect(), &mut known).await?;
        if keys.len() == 1 {
            // Whatever its size is said to be.
            let bytes = known.values().map(|size| size.either).max().unwrap_or(0);
            return Ok(vec![(keys, bytes.max(WIDE_BYTES))]);
        }
        let whole = known.values().map(|size| size.either).sum::<u64>() <= SET_BYTES;
        if whole {
            // What the servers say is too little.
            let rest = keys.split_off(keys.len() / 2);
            return Ok(vec![(keys, 0), (rest, 0)]);
        }
        let mut parts: Vec<(Vec<KeyValues>, u64)> = Vec::new();
        for values in keys {
            let bytes = known.get(&row_key(&values)).map_or(0, |size| size.either);
            match parts.last_mut() {
                Some((part, sum)) if *sum + bytes <= SET_BYTES => {
                    part.push(values);
                    *sum += bytes;
                }
                _ => parts.push((vec![values], bytes)),
            }
        }
        Ok(parts)
    }

    /// Memory for rows that are read, of the whole process. Who has a share reconciles nothing.
    pub(in crate::postgres) async fn hold(&self, room: Room) -> HeldRows {
        self.params.memory.hold(room.memory()).await
    }

    /// Notes the sizes of a set's rows. Where they cannot be had, each is taken to be a set of its
    /// own: the attempt finds out what is wrong.
    async fn measure(&self, set: &BTreeSet<RowKey>, known: &mut Known) -> Result<(), SqlFault> {
        match self.sizes_of(set).await {
            Ok(sizes) => {
                self.sizes.measured(&sizes);
                known.extend(sizes);
            }
            Err(Halt::Away(fault)) => return Err(fault),
            Err(halt) => {
                tracing::debug!(?halt, "the sizes of rows are not known");
                let size = RowSize { primary: SET_BYTES, either: SET_BYTES };
                known.extend(set.iter().map(|key| (key.clone(), size)));
            }
        }
        Ok(())
    }

    /// About how many bytes the row of each key has.
    async fn sizes_of(&self, keys: &BTreeSet<RowKey>) -> Result<Known, Halt> {
        let shapes = self.shapes().await?;
        let tables = group(keys, &shapes)?;
        let side = |role| {
            let tables = &tables;
            async move {
                let transaction =
                    Transaction::open_reading(self.pool(role), self.params.deadline).await?;
                let of = |table| measure(&transaction, role, table);
                let sizes = try_join_all(tables.iter().map(of)).await?;
                transaction.end("ROLLBACK").await?;
                Ok::<_, Halt>(sizes)
            }
        };
        let (primary, shadow) = tokio::try_join!(side(Role::Primary), side(Role::Shadow))?;
        let mut sizes: Known = keys.iter().map(|key| (key.clone(), RowSize::default())).collect();
        for (key, bytes) in primary.into_iter().flatten() {
            sizes.insert(key, RowSize { primary: bytes, either: bytes });
        }
        for (key, bytes) in shadow.into_iter().flatten() {
            let size = sizes.entry(key).or_default();
            size.either = size.either.max(bytes);
        }
        Ok(sizes)
    }
}

async fn measure(
    transaction: &Transaction,
    role: Role,
    table: &TableKeys,
) -> Result<Vec<(RowKey, u64)>, Halt> {
    let client = transaction.client()?;
    let statement = client.prepared(&select::sizes(&table.shape, role)).await.map_err(of_fault)?;
    let arrays = table.arrays(&(0..table.keys.len()));
    let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
    let mut sizes = Vec::new();
    for row in client.query(&statement.statement, &params).await? {
        let (place, bytes): (i64, f64) = (row.try_get(0)?, row.try_get(1)?);
        let values = usize::try_from(place - 1).ok().and_then(|place| table.keys.get(place));
        if let Some(values) = values {
            let key = RowKey { table_id: table.shape.table_id, values: values.clone() };
            // Never negative, and of some gigabytes at most.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            sizes.push((key, bytes.max(0.0) as u64));
        }
    }
    Ok(sizes)
}
