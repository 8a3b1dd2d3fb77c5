//! Rows of both sides by their keys. What cannot be read is told apart from what is not there:
//! an error is no absence.

use std::sync::Arc;

use crate::domain::key::KeyValues;
use crate::domain::sqlstate;
use crate::domain::table::quote_identifier;
use crate::postgres::mapping::image::Image;
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::reconcile::halt::{Halt, is_of_values, of_fault};
use crate::postgres::reconcile::meter::Meter;
use crate::postgres::reconcile::read::{TableKeys, read_all};
use crate::postgres::reconcile::select::presence;
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::sizes::Room;
use crate::postgres::reconcile::wanted::Wanted;
use crate::postgres::reconcile::wide::digested;
use crate::postgres::verify::outbox::{Depth, Noted, noted};
use crate::postgres::verify::{Table, Verifier};

/// What a side has of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// No row.
    Absent,
    /// This row.
    There(Image),
    /// A row, or perhaps one, that cannot be read, and why.
    Unread(String),
}

/// What was read of keys, in their order.
pub(super) type Rows = Vec<Reading>;

/// The bytes of a text are none in the encoding of the session: nothing that a key of the other
/// side could be the reason for.
const UNDECODABLE: [&str; 2] =
    [sqlstate::CHARACTER_NOT_IN_REPERTOIRE, sqlstate::UNTRANSLATABLE_CHARACTER];

// === impl Reading ===

impl Reading {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::There(image) => image.size() as u64,
            Self::Absent | Self::Unread(_) => 0,
        }
    }
}

impl From<Option<Image>> for Reading {
    fn from(row: Option<Image>) -> Self {
        row.map_or(Self::Absent, Self::There)
    }
}

// === impl Verifier ===

impl Verifier {
    /// The primary's rows and what the outbox says of them, in one snapshot.
    pub(super) async fn primary_now(
        &self,
        table: &Table,
        (keys, room): (&[KeyValues], Room),
        depth: Depth,
    ) -> Result<(Rows, Vec<Noted>), Halt> {
        let transaction =
            Transaction::open_reading(self.reconciler.pool(Role::Primary), room.deadline).await?;
        let client = transaction.client()?;
        let noted = noted(client, &table.shape, keys, depth).await?;
        if !keys.iter().all(|key| fits(&table.shape, Role::Primary, key)) {
            transaction.end("ROLLBACK").await?;
            return Ok((self.rows(table, Role::Primary, (keys, room)).await?, noted));
        }
        let wanted = Wanted::Compared;
        let how = (Role::Primary, wanted, room);
        match self.read(&transaction, &table.shape, keys, how).await {
            Ok((rows, largest)) => {
                transaction.end_after("ROLLBACK", largest).await?;
                Ok((rows, noted))
            }
            // The transaction has failed; each key is looked at by itself.
            Err(Halt::Set(_) | Halt::Uncast(_)) => {
                Ok((self.rows(table, Role::Primary, (keys, room)).await?, noted))
            }
            Err(halt) => Err(halt),
        }
    }

    /// Rows by their keys. A key that is no value of a side's type is not there.
    pub(super) async fn rows(
        &self,
        table: &Table,
        role: Role,
        (keys, room): (&[KeyValues], Room),
    ) -> Result<Rows, Halt> {
        let mut rows = vec![Reading::Absent; keys.len()];
        let fitting = |(_, key): &(usize, &KeyValues)| fits(&table.shape, role, key);
        let (places, keys): (Vec<usize>, Vec<KeyValues>) =
            keys.iter().enumerate().filter(fitting).map(|(n, key)| (n, key.clone())).unzip();
        let found = self.rows_that_fit(table, role, (&keys, room)).await?;
        for (place, row) in places.into_iter().zip(found) {
            rows[place] = row;
        }
        Ok(rows)
    }

    async fn rows_that_fit(
        &self,
        table: &Table,
        role: Role,
        (keys, room): (&[KeyValues], Room),
    ) -> Result<Rows, Halt> {
        let mut rows = vec![Reading::Absent; keys.len()];
        let mut left = vec![(0, keys.len(), Wanted::Compared)];
        while let Some((from, to, wanted)) = left.pop() {
            let Some(part) = keys.get(from..to).filter(|part| !part.is_empty()) else { continue };
            let transaction =
                Transaction::open_reading(self.reconciler.pool(role), room.deadline).await?;
            match self.read(&transaction, &table.shape, part, (role, wanted, room)).await {
                Ok((found, largest)) => {
                    transaction.end_after("ROLLBACK", largest).await?;
                    for (place, row) in rows.iter_mut().skip(from).zip(found) {
                        *place = row;
                    }
                }
                // A value that has no image in the coarser type is none of its values.
                Err(Halt::Uncast(_)) if part.len() == 1 && wanted != Wanted::Columns => {
                    left.push((from, to, Wanted::Columns));
                }
                Err(Halt::Set(reason) | Halt::Uncast(reason)) if part.len() == 1 => {
                    rows[from] = self.unread(table, role, &part[0], reason).await?;
                }
                Err(Halt::Set(_) | Halt::Uncast(_)) => {
                    let middle = from + part.len() / 2;
                    left.extend([(from, middle, wanted), (middle, to, wanted)]);
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(rows)
    }

    /// A row that could not be read, by whether there is one: nothing is asked but its key.
    async fn unread(
        &self,
        table: &Table,
        role: Role,
        key: &KeyValues,
        reason: String,
    ) -> Result<Reading, Halt> {
        let transaction =
            Transaction::open_reading(self.reconciler.pool(role), self.params.deadline).await?;
        let client = transaction.client()?;
        let asked = client.prepared(&presence(&table.shape, role)).await.map_err(of_fault)?;
        let keys = TableKeys { shape: Arc::clone(&table.shape), keys: vec![key.clone()] };
        let arrays = keys.arrays(&(0..1));
        let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            arrays.iter().map(|array| array as _).collect();
        let fault = match client.query(&asked.statement, &params).await {
            Ok(rows) if rows.is_empty() => return Ok(Reading::Absent),
            Ok(_) => return Ok(Reading::Unread(reason)),
            Err(fault) => fault,
        };
        let code = fault.sqlstate.clone();
        match of_fault(fault) {
            // The key itself is no value there.
            Halt::Set(_) if is_of_values(&code) && !UNDECODABLE.contains(&code.as_str()) => {
                Ok(Reading::Absent)
            }
            Halt::Set(_) => Ok(Reading::Unread(reason)),
            halt => Err(halt),
        }
    }

    /// Rows of keys, and the bytes of the largest that was sent. A row that goes alone is read by
    /// the digests of its large values.
    async fn read(
        &self,
        transaction: &Transaction,
        shape: &Arc<TableShape>,
        keys: &[KeyValues],
        (role, wanted, room): (Role, Wanted, Room),
    ) -> Result<(Rows, usize), Halt> {
        let tables = [TableKeys { shape: Arc::clone(shape), keys: keys.to_vec() }];
        let (client, side, meter) =
            (transaction.client()?, transaction.side(), Meter::new(room.bytes_max));
        let read = match room.is_wide() && !shape.across() {
            true => digested(transaction, role, &tables, (&self.nonce, wanted)).await?,
            false => read_all(client, side, role, &tables, wanted, &meter).await?,
        };
        Ok((read.into_iter().flatten().map(Reading::from).collect(), meter.largest()))
    }
}

/// Whether an integer of the key is one that the side's column can hold. Other keys are left to
/// the server to judge.
pub(super) fn fits(shape: &TableShape, role: Role, key: &KeyValues) -> bool {
    let columns = match role {
        Role::Primary => &shape.primary_columns,
        Role::Shadow => &shape.shadow_columns,
    };
    shape.key.iter().zip(key).all(|(part, text)| {
        let column = columns.iter().find(|column| quote_identifier(&column.name) == part.name);
        match column.map(|column| column.ty.base().name.as_str()) {
            Some("int2") => text.parse::<i16>().is_ok(),
            Some("int4") => text.parse::<i32>().is_ok(),
            _ => true,
        }
    })
}
