//! Reads the shapes of the migrated tables from both catalogues.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::compare::common::{Form, form};
use crate::dialect::Dialect;
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::domain::sqlstate::{self, class};
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::mapping::cells;
use crate::postgres::mapping::form::across;
use crate::postgres::mapping::key_column::key_column;
use crate::postgres::mapping::queries::{COLUMNS, KEY, REFERENCES, TABLES, UNFIT, UNIQUES};
use crate::postgres::mapping::side::{ColumnFacts, SideColumns};
use crate::postgres::mapping::table::{ForeignKey, KeyColumn, Pair, TableShape, UniqueIndex};
use crate::postgres::pool::Lease;
use crate::postgres::session::Session;
use crate::postgres::session::asked::Row;
use crate::postgres::session::types;

/// A table's shape, or why its rows cannot be reconciled.
pub type Shape = Result<Arc<TableShape>, String>;

/// Columns of the primary that are knowingly not copied.
pub type IgnoredColumns = BTreeMap<TableName, BTreeSet<String>>;

/// A table that is to be looked at on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its small id.
    pub table_id: i32,
    /// Where it is.
    pub mapping: TableMapping,
    /// The columns of its key, in order.
    pub key: Vec<String>,
}

/// Reads all shapes. `copied` says that rows are written as a replica's, which keeps ordinary
/// triggers and rules of the shadow out. Both clients must be in a transaction with an empty search path.
/// A table that cannot be reconciled is there with its reason; only a fault of the
/// connection fails the whole.
///
/// # Errors
///
/// What a database reports, with the side that did.
pub async fn load(
    primary: &Lease,
    shadow: &Lease,
    primary_side: Side,
    ignored: &IgnoredColumns,
    copied: bool,
) -> Result<HashMap<i32, Shape>, (Side, SqlFault)> {
    let tables = registered(primary).await.map_err(|error| (primary_side, error))?;
    load_these(primary, shadow, primary_side, &tables, ignored, copied).await
}

/// The tables in the registry of a side.
///
/// # Errors
///
/// What the database reports.
pub async fn registered(client: &Session) -> Result<Vec<Registered>, SqlFault> {
    let read = |row: &Row| -> Result<Registered, SqlFault> {
        let text = |index| row.try_get::<_, String>(index);
        Ok(Registered {
            table_id: row.try_get(0)?,
            mapping: TableMapping {
                source: TableName::new(text(1)?, text(2)?),
                target: TableName::new(text(3)?, text(4)?),
            },
            key: row.try_get(5)?,
        })
    };
    client.query(TABLES, &[]).await?.iter().map(read).collect()
}

/// As [`load`], for tables that need not be in the registry.
///
/// # Errors
///
/// What a database reports, with the side that did.
pub async fn load_these(
    primary: &Lease,
    shadow: &Lease,
    primary_side: Side,
    tables: &[Registered],
    ignored: &IgnoredColumns,
    copied: bool,
) -> Result<HashMap<i32, Shape>, (Side, SqlFault)> {
    let mut shapes = HashMap::with_capacity(tables.len());
    for table in tables {
        let on = |side| table.mapping.on(side).clone();
        let names = (on(primary_side), on(primary_side.other()));
        let (id, key) = (table.table_id, &table.key);
        let shape =
            load_one(primary, shadow, primary_side, id, names, key, (ignored, copied)).await?;
        shapes.insert(id, shape);
    }
    Ok(shapes)
}

async fn load_one(
    primary: &Lease,
    shadow: &Lease,
    primary_side: Side,
    table_id: i32,
    (primary_name, shadow_name): (TableName, TableName),
    key: &[String],
    (ignored, copied): (&IgnoredColumns, bool),
) -> Result<Shape, (Side, SqlFault)> {
    let shadow_side = primary_side.other();
    let on_primary = match side_columns(primary, &primary_name).await {
        Ok(columns) => columns,
        Err(error) => return missing(primary_side, &primary_name, error),
    };
    let on_shadow = match side_columns(shadow, &shadow_name).await {
        Ok(columns) => columns,
        Err(error) => return missing(shadow_side, &shadow_name, error),
    };
    let unique = UNIQUES.replace("{is_index}", &shadow.dialect().is_index("c.oid", "i.indexrelid"));
    let uniques = shadow
        .query(&unique, &[&shadow_name.quoted()])
        .await
        .map_err(|error| (shadow_side, error))?;
    let mut unique_columns = BTreeSet::new();
    let mut indexes = Vec::new();
    for row in uniques {
        let at = |error| (shadow_side, error);
        unique_columns.extend(row.try_get::<_, Vec<String>>(4).map_err(at)?);
        indexes.push(UniqueIndex {
            name: row.try_get(0).map_err(at)?,
            parts: row.try_get(1).map_err(at)?,
            predicate: row.try_get(2).map_err(at)?,
            nulls_equal: row.try_get(3).map_err(at)?,
            operators: operators(row.try_get(5).map_err(at)?),
        });
    }
    let references =
        references(shadow, &shadow_name).await.map_err(|error| (shadow_side, error))?;
    if copied {
        let unfit = shadow.query_opt(UNFIT, &[&shadow_name.quoted()]).await;
        if let Some(row) = unfit.map_err(|error| (shadow_side, error))? {
            let why: String = row.try_get(0).map_err(|error| (shadow_side, error))?;
            return Ok(Err(format!("table {shadow_name} of the {shadow_side} is unfit: {why}")));
        }
    }
    let nothing = BTreeSet::new();
    let ignored = ignored.get(&primary_name).unwrap_or(&nothing);
    let dialects = [primary.dialect(), shadow.dialect()];
    let across = across(dialects);
    let parts = assemble(&on_primary, &on_shadow, key, &unique_columns, ignored, across);
    let parts = parts.map(|mut parts| {
        parts.0.iter_mut().for_each(|pair| pair.shadow_dialect = dialects[1]);
        parts
    });
    let parts = parts.and_then(|parts| match dialects[1].overrides_identity() {
        true => Ok(parts),
        false => writable(parts, &on_shadow),
    });
    Ok(parts.map(|(pairs, generated, shadow_only, key)| {
        let shadow_only_types = own_types(&on_shadow, &shadow_only);
        Arc::new(TableShape {
            table_id,
            primary: primary_name,
            shadow: shadow_name,
            primary_columns: on_primary.columns,
            shadow_columns: on_shadow.columns,
            pairs,
            generated,
            dialects,
            shadow_only_types,
            shadow_only,
            key,
            uniques: indexes,
            references,
        })
    }))
}

/// The parts, unless the shadow makes a value itself that is to be written.
fn writable(parts: Parts, shadow: &SideColumns) -> Result<Parts, String> {
    let made = parts.0.iter().find(|pair| pair.identity_always);
    let Some(pair) = made else { return Ok(parts) };
    Err(format!(
        "column {:?} of the shadow is GENERATED ALWAYS AS IDENTITY, which no INSERT can override on \
         CockroachDB; make it GENERATED BY DEFAULT there",
        shadow.columns[pair.shadow].name
    ))
}

/// The opclass of an index on CockroachDB names no operator.
fn operators(found: Vec<Option<String>>) -> Vec<String> {
    found.into_iter().map(|operator| operator.unwrap_or_else(|| "=".to_owned())).collect()
}

fn own_types(side: &SideColumns, own: &[usize]) -> Vec<String> {
    let full_type = |index: &usize| side.casts.get(&side.columns[*index].name);
    own.iter().filter_map(full_type).map(|facts| facts.full_type.clone()).collect()
}

/// A table that is not there is that table's fault; anything else is the connection's.
fn missing(side: Side, table: &TableName, error: SqlFault) -> Result<Shape, (Side, SqlFault)> {
    match error.sqlstate.as_str() {
        state
            if state.starts_with(class::SYNTAX_OR_ACCESS)
                || state == sqlstate::INVALID_SCHEMA_NAME =>
        {
            Ok(Err(format!(
                "table {table} cannot be read on the {side}: {}; make it there, rename it there \
                 where it was renamed on the other side, or take it out of the migration: \
                 `segue tables retire`",
                error.message
            )))
        }
        _ => Err((side, error)),
    }
}

async fn side_columns(client: &Session, table: &TableName) -> Result<SideColumns, SqlFault> {
    // A savepoint, so that a table that is missing does not end the transaction.
    client.batch_execute("SAVEPOINT shape").await?;
    let read = read_columns(client, table).await;
    let end = if read.is_ok() { "RELEASE shape" } else { "ROLLBACK TO shape" };
    client.batch_execute(end).await?;
    read
}

async fn read_columns(client: &Session, table: &TableName) -> Result<SideColumns, SqlFault> {
    let quoted = table.quoted();
    let statement = client.prepare_once(&format!("SELECT t.* FROM {quoted} AS t")).await?;
    let mut side = SideColumns {
        columns: types::columns(statement.columns()).to_vec(),
        casts: HashMap::new(),
        key_equals: HashMap::new(),
        key_after: HashMap::new(),
        key_until: HashMap::new(),
    };
    for row in client.query(COLUMNS, &[&quoted]).await? {
        let facts = ColumnFacts {
            cast: row.try_get(1)?,
            full_type: row.try_get(2)?,
            generated: row.try_get(3)?,
            identity_always: row.try_get(4)?,
            blind_collation: row.try_get(5)?,
            required: row.try_get(6)?,
            bytewise: row.try_get(7)?,
        };
        side.casts.insert(row.try_get(0)?, facts);
    }
    for row in client.query(KEY, &[&quoted]).await? {
        let operator = row.try_get::<_, Option<String>>(2)?.unwrap_or_default();
        let operators = match row.try_get::<_, Option<i16>>(1)? {
            Some(2) => &mut side.key_until,
            Some(5) => &mut side.key_after,
            _ => &mut side.key_equals,
        };
        operators.insert(row.try_get(0)?, operator);
    }
    Ok(side)
}

async fn references(client: &Session, table: &TableName) -> Result<Vec<ForeignKey>, SqlFault> {
    let rows = client.query(REFERENCES, &[&table.quoted()]).await?;
    rows.iter()
        .map(|row| {
            Ok(ForeignKey {
                name: row.try_get(0)?,
                child: table.clone(),
                child_columns: row.try_get(3)?,
                parent: TableName::new(row.try_get::<_, String>(1)?, row.try_get::<_, String>(2)?),
                parent_columns: row.try_get(4)?,
            })
        })
        .collect()
}

type Parts = (Vec<Pair>, Vec<Pair>, Vec<usize>, Vec<KeyColumn>);

fn assemble(
    primary: &SideColumns,
    shadow: &SideColumns,
    key: &[String],
    unique: &BTreeSet<String>,
    ignored: &BTreeSet<String>,
    across: bool,
) -> Result<Parts, String> {
    let (mut pairs, mut generated) = (Vec::new(), Vec::new());
    for (index, column) in primary.columns.iter().enumerate() {
        let Some(found) = shadow.columns.iter().position(|other| other.name == column.name) else {
            if ignored.contains(&column.name) {
                continue;
            }
            return Err(format!(
                "column {:?} is missing on the shadow; add it there or list it as ignored",
                column.name
            ));
        };
        let facts = shadow.casts.get(&column.name);
        if ignored.contains(&column.name) {
            continue;
        }
        // What the shadow computes cannot be written. What only the primary computes is data.
        let written = !facts.is_some_and(|facts| facts.generated);
        let judged = cells::pair(column.clone(), shadow.columns[found].clone());
        let form = form(&judged);
        let places = if written { &mut pairs } else { &mut generated };
        places.push(Pair {
            primary: index,
            shadow: found,
            compared: None,
            by_text: form == Form::Text && !across,
            judged,
            form,
            shadow_type: facts.map(|facts| facts.full_type.clone()).unwrap_or_default(),
            unique: unique.contains(&column.name),
            identity_always: facts.is_some_and(|facts| facts.identity_always),
            shadow_dialect: Dialect::default(),
        });
    }
    let cast = |pair: &&mut Pair| !across && !matches!(pair.form, Form::Own(_) | Form::Text);
    for (place, pair) in pairs.iter_mut().chain(&mut generated).filter(cast).enumerate() {
        pair.compared = Some(place);
    }
    let shadow_only: Vec<usize> = (0..shadow.columns.len())
        .filter(|index| {
            let name = &shadow.columns[*index].name;
            !pairs.iter().any(|pair: &Pair| pair.shadow == *index)
                && !shadow.casts.get(name).is_some_and(|facts| facts.generated)
        })
        .collect();
    for index in &shadow_only {
        let name = &shadow.columns[*index].name;
        if shadow.casts.get(name).is_some_and(|facts| facts.required) {
            return Err(format!(
                "column {name:?} is NOT NULL on the shadow, has no default there, and the primary \
                 does not have it; give it a default, or let it be NULL"
            ));
        }
    }
    let key = key.iter().map(|name| key_column(name, primary, shadow)).collect::<Result<_, _>>()?;
    Ok((pairs, generated, shadow_only, key))
}
