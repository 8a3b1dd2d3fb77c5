//! A side's catalogue, read whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::{Error, IsolationLevel, Row, Transaction};

use super::sql;
use crate::dialect::PlainCatalogue;
use crate::domain::fault::SqlFault;
use crate::domain::reach::{
    Body, Catalogue, Function, Named, OnWrite, OwnPath, Relation, RelationKind, SYSTEM,
};
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::domain::table::TableName;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::asked;
use crate::postgres::session::settings::LOOK_SILENCE;
use crate::statement::names;

/// Segue's tables are not there yet: nothing is of the migration.
const ABSENT: [&str; 2] = [sqlstate::UNDEFINED_TABLE, sqlstate::INVALID_SCHEMA_NAME];

/// Arguments of a function whose signature is not asked for.
const ANY_ARGUMENTS: (usize, usize) = (0, usize::MAX);

/// What the registry says of a side's tables: whether no reconcile of the whole table is pending.
type Registered = HashMap<TableName, bool>;

/// Names found in definitions, by relation; nothing where one cannot be parsed.
type Definitions = HashMap<TableName, Option<Named>>;

/// Reads a side's catalogue.
/// Where `assumed` are given, these are the tables of the migration.
pub(super) async fn load(
    own: &Pool,
    search_path: Vec<String>,
    assumed: Option<&[TableName]>,
) -> Result<Catalogue, SqlFault> {
    let mut session = own.get().await?;
    let (registered, there) = match assumed {
        Some(tables) => {
            (tables.iter().map(|table| (table.clone(), true)).collect(), HashSet::new())
        }
        None => registered(&session).await?,
    };
    let plain = session.dialect().plain_catalogue();
    let side = session.side();
    let read = async {
        let builder = session.driver_mut().build_transaction().read_only(true);
        let builder = match plain {
            Some(_) => builder,
            None => builder.isolation_level(IsolationLevel::RepeatableRead),
        };
        let transaction = builder.start().await?;
        transaction.batch_execute(LOOK_SILENCE).await?;
        let mut catalogue = Catalogue::default();
        catalogue.search_path = search_path;
        catalogue.registered_there = there;
        match plain {
            Some(plain) => of_plain(&transaction, plain, &registered, &mut catalogue).await?,
            None => of_postgres(&transaction, &registered, &mut catalogue).await?,
        }
        transaction.commit().await?;
        Ok(catalogue)
    };
    read.await
        .map_err(|error: Error| crate::postgres::session::fault::from_error(error, side, true))
}

/// What tells two states of a side's catalogue apart; nothing where it must be read to tell.
pub(super) async fn stamp(own: &Pool) -> Result<Option<String>, SqlFault> {
    let session = own.get().await?;
    if session.dialect().plain_catalogue().is_some() {
        return Ok(None);
    }
    let catalogue = session.prepared(sql::STAMP).await?;
    let row = session.query_one(&catalogue.statement, &[]).await;
    let stamp: String = row.and_then(|row| row.try_get(0))?;
    let own_stamp = match session.query_one(sql::OWN_STAMP, &[]).await {
        Ok(row) => row.try_get(0)?,
        Err(fault) => absent(fault).map(|()| String::new())?,
    };
    Ok(Some(format!("{stamp}/{own_stamp}")))
}

fn absent(fault: SqlFault) -> Result<(), SqlFault> {
    if ABSENT.contains(&&*fault.sqlstate) { Ok(()) } else { Err(fault) }
}

/// The schemas in which callers' names are looked for, asked on a session like theirs.
pub(super) async fn search_path(reads: &Pool) -> Result<Vec<String>, SqlFault> {
    let session = reads.get().await?;
    let sql = "SELECT pg_catalog.current_schemas(true)::text[]";
    let row = session.query_one(sql, &[]).await;
    row.and_then(|row| row.try_get(0))
}

/// By their names on this side, and their names on the other.
async fn registered(session: &Lease) -> Result<(Registered, HashSet<TableName>), SqlFault> {
    let rows = match session.query(sql::REGISTERED, &[]).await {
        Ok(rows) => rows,
        Err(fault) => return absent(fault).map(|()| Default::default()),
    };
    let (here, there) = match session.side() {
        Side::Source => (0, 2),
        Side::Target => (2, 0),
    };
    let name = |row: &asked::Row, at: usize| -> Result<TableName, SqlFault> {
        Ok(TableName::new(row.try_get::<_, String>(at)?, row.try_get::<_, String>(at + 1)?))
    };
    let table = |row| Ok((name(row, here)?, row.try_get(4)?));
    let tables = rows.iter().map(table).collect::<Result<_, SqlFault>>()?;
    let others = rows.iter().map(|row| name(row, there)).collect::<Result<_, SqlFault>>()?;
    Ok((tables, others))
}

async fn of_postgres(
    transaction: &Transaction<'_>,
    registered: &Registered,
    catalogue: &mut Catalogue,
) -> Result<(), Error> {
    // Names in definitions are printed in full.
    let no_path = "SELECT pg_catalog.set_config('search_path', '', true)";
    transaction.query_one(no_path, &[]).await?;
    let definitions = definitions(transaction).await?;
    let mut on_write = on_write(transaction).await?;
    for row in transaction.query(&sql::relations(), &[]).await? {
        let name = name_at(&row, 0)?;
        let belongs_to = match row.try_get::<_, Option<String>>(5)? {
            Some(_) => Some(name_at(&row, 4)?),
            None => None,
        };
        let mut relation = relation(&name, row.try_get(2)?, belongs_to, registered, &definitions);
        relation.of_extension = row.try_get(3)?;
        relation.captured = row.try_get(6)?;
        relation.on_write = on_write.remove(&name).unwrap_or_default();
        catalogue.add_relation(name, relation);
    }
    for row in transaction.query(sql::BUILT_IN, &[]).await? {
        catalogue.add_function(row.try_get(0)?, built_in(row.try_get(1)?));
    }
    for row in transaction.query(&sql::functions(), &[]).await? {
        let (name, function) = function(&row)?;
        catalogue.add_function(name, function);
    }
    for row in transaction.query(sql::OPERATORS, &[]).await? {
        catalogue.operators.insert(row.try_get(0)?, row.try_get(1)?);
    }
    for row in transaction.query(sql::SCRIPTED_OPERATORS, &[]).await? {
        catalogue.scripted_operators.insert(row.try_get(0)?);
    }
    for row in transaction.query(sql::CASTS, &[]).await? {
        let (name, implicit): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        let (volatile, scripted): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
        catalogue.implicit_volatile_cast |= volatile && implicit;
        catalogue.implicit_scripted_cast |= scripted && implicit;
        catalogue.volatile_casts.extend(volatile.then(|| name.clone()));
        catalogue.scripted_casts.extend(scripted.then_some(name));
    }
    catalogue.lists_all_functions = true;
    Ok(())
}

async fn definitions(transaction: &Transaction<'_>) -> Result<Definitions, Error> {
    let mut definitions = Definitions::new();
    for row in transaction.query(&sql::rules(), &[]).await? {
        let parsed = names::of_sql(row.try_get(2)?);
        let none = || Some(Named { reads_only: true, ..Named::default() });
        let entry = definitions.entry(name_at(&row, 0)?).or_insert_with(none);
        *entry = match (entry.take(), parsed) {
            (Some(mut all), Some(more)) => {
                all.absorb(&more);
                Some(all)
            }
            _ => None,
        };
    }
    Ok(definitions)
}

async fn on_write(transaction: &Transaction<'_>) -> Result<HashMap<TableName, OnWrite>, Error> {
    let mut found: HashMap<TableName, OnWrite> = HashMap::new();
    for row in transaction.query(&sql::on_write(), &[]).await? {
        let entry = found.entry(name_at(&row, 0)?).or_default();
        let other = name_at(&row, 2)?;
        match row.try_get(4)? {
            true => entry.triggers.push(other),
            false => entry.cascades.push(other),
        }
    }
    Ok(found)
}

/// The catalogue tells less there: a table that is registered counts as captured.
async fn of_plain(
    transaction: &Transaction<'_>,
    plain: PlainCatalogue,
    registered: &Registered,
    catalogue: &mut Catalogue,
) -> Result<(), Error> {
    for row in transaction.query(plain.relations, &[]).await? {
        let name = name_at(&row, 0)?;
        let kind: &str = row.try_get(2)?;
        let mut definitions = Definitions::new();
        if kind == "v" {
            let text: Option<&str> = row.try_get(3)?;
            definitions.insert(name.clone(), text.and_then(names::of_sql));
        }
        let relation = relation(&name, kind, None, registered, &definitions);
        catalogue.add_relation(name, Relation { captured: true, ..relation });
    }
    for row in transaction.query(plain.functions, &[]).await? {
        let (schema, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let volatile = match row.try_get::<_, Option<&str>>(2)? {
            Some(volatility) => volatility == "v",
            None => !crate::statement::is_harmless(&name),
        };
        let body = match row.try_get::<_, Option<&str>>(3)? {
            _ if schema == SYSTEM => Body::Nothing,
            Some(text) => Body::Names(Arc::new(names::of_words(text)), OwnPath(false)),
            None => Body::Unknown,
        };
        let function = Function { schema, arguments: ANY_ARGUMENTS, volatile, body };
        catalogue.add_function(name, function);
    }
    Ok(())
}

fn relation(
    name: &TableName,
    kind: &str,
    belongs_to: Option<TableName>,
    registered: &Registered,
    definitions: &Definitions,
) -> Relation {
    let kind = match kind {
        "v" => RelationKind::View,
        "m" => RelationKind::MaterializedView,
        "S" => RelationKind::Sequence,
        _ => RelationKind::Table,
    };
    let names = match definitions.get(name) {
        Some(Some(named)) => Ok(Arc::new(named.clone())),
        Some(None) => Err(()),
        None => Ok(Arc::default()),
    };
    let copied = registered.get(belongs_to.as_ref().unwrap_or(name)).copied();
    Relation {
        kind,
        of_extension: false,
        belongs_to,
        registered: copied.is_some(),
        captured: false,
        copied: copied.unwrap_or(false),
        names,
        on_write: OnWrite::default(),
    }
}

fn built_in(volatile: bool) -> Function {
    let schema = SYSTEM.to_owned();
    Function { schema, arguments: ANY_ARGUMENTS, volatile, body: Body::Nothing }
}

fn function(row: &Row) -> Result<(String, Function), Error> {
    let of_extension: bool = row.try_get(3)?;
    let language: &str = row.try_get(4)?;
    let body: &str = row.try_get(5)?;
    let definition: Option<&str> = row.try_get(6)?;
    let (fewest, most): (i64, i64) = (row.try_get(7)?, row.try_get(8)?);
    let own_path = OwnPath(row.try_get(9)?);
    let names = |named: Option<Named>| match named {
        Some(named) => Body::Names(Arc::new(named), own_path),
        None => Body::Unknown,
    };
    let body = match (language, definition) {
        _ if of_extension => Body::Nothing,
        ("sql", Some(definition)) => names(names::of_sql(definition)),
        ("sql", None) => names(names::of_sql(body)),
        ("plpgsql", _) => names(Some(names::of_words(body))),
        _ => Body::Unknown,
    };
    let count = |count: i64| usize::try_from(count).unwrap_or_default();
    let function = Function {
        schema: row.try_get(0)?,
        arguments: (count(fewest), count(most)),
        volatile: row.try_get(2)?,
        body,
    };
    Ok((row.try_get(1)?, function))
}

fn name_at(row: &Row, at: usize) -> Result<TableName, Error> {
    Ok(TableName::new(row.try_get::<_, String>(at)?, row.try_get::<_, String>(at + 1)?))
}
