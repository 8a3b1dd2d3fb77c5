//! Which tables can be captured, and why the others cannot.

use tokio_postgres::{Error, GenericClient};

use crate::domain::reason::Reason;
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::catalog::{self, Persistence, Table, TableKind};

/// A table that is not migrated, with the reason and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The table.
    pub table: TableName,
    /// A stable name: `refused.no_primary_key`.
    pub reason: Reason,
    /// Why, and what to do about it.
    pub message: String,
}

/// `segue.idempotency`, which is migrated like any other table.
pub fn idempotency() -> TableMapping {
    let name = TableName::new("segue", "idempotency");
    TableMapping { source: name.clone(), target: name }
}

/// The tables that are migrated where the configuration names none: all that can be, in the
/// order of their names, `segue.idempotency` first. Partitions belong to their table, and
/// tables of extensions are made by the extension on the other side.
///
/// # Errors
///
/// Whatever the database says.
pub async fn default_tables<C: GenericClient>(
    client: &C,
) -> Result<(Vec<TableMapping>, Vec<Refusal>), Error> {
    let mut mappings = vec![idempotency()];
    let mut refused = Vec::new();
    for table in catalog::all(client).await? {
        if table.is_partition || table.of_extension {
            continue;
        }
        match refusal(&table) {
            Some(refusal) => refused.push(refusal),
            None => mappings.push(TableMapping { source: table.name.clone(), target: table.name }),
        }
    }
    Ok((mappings, refused))
}

/// Why a table cannot be captured, where it cannot.
pub(in crate::postgres) fn refusal(table: &Table) -> Option<Refusal> {
    let name = &table.name;
    let refuse = |reason, message| Some(Refusal { table: name.clone(), reason, message });
    match table.kind {
        TableKind::Ordinary | TableKind::Partitioned => {}
        TableKind::Foreign => {
            return refuse(
                Reason::RefusedForeignTable,
                format!("{name} is a foreign table; migrate it where its rows are"),
            );
        }
        TableKind::View | TableKind::Other => {
            return refuse(
                Reason::RefusedNotATable,
                format!("{name} holds no rows of its own; map the tables under it"),
            );
        }
    }
    if table.is_partition {
        return refuse(
            Reason::RefusedPartition,
            format!("{name} is a partition; map the partitioned table that it belongs to"),
        );
    }
    if table.inherits {
        return refuse(
            Reason::RefusedInheritance,
            format!(
                "{name} is part of an inheritance tree; turn the tree into a partitioned table, or end it by ALTER TABLE … NO INHERIT"
            ),
        );
    }
    if table.persistence != Persistence::Permanent {
        return refuse(
            Reason::RefusedUnlogged,
            format!(
                "{name} loses its rows in a crash; run ALTER TABLE {} SET LOGGED",
                name.quoted()
            ),
        );
    }
    if table.primary_key.is_none() {
        return refuse(
            Reason::RefusedNoPrimaryKey,
            format!(
                "{name} has no primary key; run ALTER TABLE {} ADD PRIMARY KEY (…), of a unique index on columns that are NOT NULL where there is one",
                name.quoted()
            ),
        );
    }
    if table.subscribed {
        return refuse(
            Reason::RefusedSubscription,
            format!(
                "{name} is filled by logical replication, whose writes fire no trigger; migrate it from its publisher, or end the subscription"
            ),
        );
    }
    let odd = table.partitions.iter().find(|partition| {
        partition.kind == TableKind::Foreign || partition.persistence != Persistence::Permanent
    });
    if let Some(partition) = odd {
        return refuse(
            Reason::RefusedPartitionKind,
            format!(
                "partition {} of {name} is foreign or unlogged; detach it, or make it an ordinary one",
                partition.name
            ),
        );
    }
    None
}
