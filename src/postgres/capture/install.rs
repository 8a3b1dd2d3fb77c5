//! Putting capture on.

use tokio_postgres::{Client, Transaction};

use super::always::Rights;
use super::event::Event;
use super::form::Form;
use super::retire::without_retired;
use super::verify::{form_of, key_names, missing, row_form_of, writers_lacking};
use super::{Captured, Params, Refusal, Report, on_side, registry, tables};
use crate::domain::control::Phase;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::domain::table::{TableMapping, TableName, quote_identifier, quote_literal};
use crate::postgres::capture::setup_lock::{lock_setup, under_lock};
use crate::postgres::catalog::{self, Table};
use crate::postgres::outbox::SLOT_NOW;
use crate::postgres::schema::{self, SetupError};
use crate::postgres::session::fault::sqlstate_of;

/// Puts capture on all these tables that can have it; safe to repeat, and without any lock
/// where nothing is missing.
///
/// If we crash here, some tables are captured and others are not: harmless, since no phase
/// relies on capture before this has returned, and done by running it again.
///
/// # Errors
///
/// [`SetupError`], with the SQL to run where privileges are missing.
pub async fn install(
    client: &mut Client,
    params: &Params,
    mappings: &[TableMapping],
) -> Result<Report, SetupError> {
    let failed = SetupError::database(params.side);
    let dialect = schema::dialect(client).await.map_err(&failed)?;
    if !dialect.can_be_source() && params.side == Side::Source {
        return Err(SetupError::Unsupported { side: params.side });
    }
    let mappings = &without_retired(client, mappings).await.map_err(&failed)?;
    let (found, refused) = sort_out(client, params.side, mappings).await?;
    let mut captured = Vec::new();
    for (mapping, table) in found {
        captured.push(match dialect.captures_by_row() {
            true => install_rows(client, params, mapping, &table).await?,
            false => install_one(client, params, mapping, &table).await?,
        });
    }
    Ok(Report { captured, refused })
}

/// The SQL that [`install`] would run on an empty slate. Tables without an id get the next
/// free ones, as `install` would give them.
///
/// # Errors
///
/// Whatever the database says.
pub async fn print(
    client: &Client,
    params: &Params,
    mappings: &[TableMapping],
) -> Result<(String, Vec<Refusal>), SetupError> {
    let failed = SetupError::database(params.side);
    let dialect = schema::dialect(client).await.map_err(&failed)?;
    let (found, refused) = sort_out(client, params.side, mappings).await?;
    let listed: Vec<TableMapping> = found.iter().map(|(mapping, _)| (*mapping).clone()).collect();
    let ids = if schema::version(client).await.map_err(&failed)? > 0 {
        registry::ids(client, params.side, &listed).await.map_err(&failed)?
    } else {
        vec![None; listed.len()]
    };
    let mut free = ids.iter().flatten().max().copied().unwrap_or(0);
    let mut sql = String::new();
    for ((_, table), id) in found.iter().zip(ids) {
        let id = id.unwrap_or_else(|| {
            free += 1;
            free
        });
        sql.push_str(&format!("-- {}\n", table.name));
        if dialect.captures_by_row() {
            let form = row_form_of(params.side, table, id);
            sql.push_str(&form.create_function());
            sql.push_str(&form.create_trigger(&table.name));
            continue;
        }
        let form = form_of(params.side, table, id);
        for event in form.events() {
            sql.push_str(&form.function(event).create());
        }
        for relation in relations(table) {
            for event in form.events() {
                sql.push_str(&form.trigger(event, &relation));
                sql.push_str(&form.always(event, &relation));
            }
        }
    }
    let oids: Vec<u32> = found.iter().map(|(_, table)| table.oid).collect();
    for (role, grants) in writers_lacking(client, dialect, &oids).await.map_err(&failed)? {
        sql.push_str(&format!("-- {role} may write to these tables, and fires their triggers\n"));
        sql.extend(grants.iter().map(|grant| format!("{grant};\n")));
    }
    Ok((sql, refused))
}

fn relations(table: &Table) -> Vec<TableName> {
    let mut relations = vec![table.name.clone()];
    relations.extend(table.partitions.iter().map(|partition| partition.name.clone()));
    relations
}

type Sorted<'a> = (Vec<(&'a TableMapping, Table)>, Vec<Refusal>);

async fn sort_out<'a>(
    client: &Client,
    side: Side,
    mappings: &'a [TableMapping],
) -> Result<Sorted<'a>, SetupError> {
    let names: Vec<TableName> =
        mappings.iter().map(|mapping| on_side(mapping, side).clone()).collect();
    let tables = catalog::load(client, &names).await.map_err(SetupError::database(side))?;
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for (mapping, name) in mappings.iter().zip(names) {
        match tables.iter().find(|table| table.name == name) {
            None => refused.push(Refusal {
                message: format!("{name} is not there; make it, or take it out of the mapping"),
                reason: Reason::RefusedNoTable,
                table: name,
            }),
            Some(table) => match tables::refusal(table) {
                Some(refusal) => refused.push(refusal),
                None => found.push((mapping, table.clone())),
            },
        }
    }
    Ok((found, refused))
}

async fn install_one(
    client: &mut Client,
    params: &Params,
    mapping: &TableMapping,
    table: &Table,
) -> Result<Captured, SetupError> {
    let side = params.side;
    let failed = SetupError::database(side);
    let transaction = client.transaction().await.map_err(&failed)?;
    lock_setup(&transaction).await.map_err(&failed)?;
    let (table_id, current) =
        registered(&transaction, side, mapping, table).await.map_err(&failed)?;
    let form = form_of(side, table, table_id);
    let missing = missing(&transaction, &form, table).await.map_err(&failed)?;
    let functions: String =
        missing.functions.iter().map(|(event, _)| form.function(*event).create()).collect();
    // Only a function or a trigger that differs is made anew, and with another key the
    // condition on it too: then the trigger for changed keys cannot be told by its shape.
    let mut wanted: Vec<(TableName, u32, Vec<Event>)> = Vec::new();
    for (relation, oid, event, _) in missing.triggers {
        match wanted.iter_mut().find(|(_, known, _)| *known == oid) {
            Some((_, _, events)) => events.push(event),
            None => wanted.push((relation, oid, vec![event])),
        }
    }
    if missing.functions.iter().any(|(event, _)| *event == Event::Key) {
        match wanted.iter_mut().find(|(_, oid, _)| *oid == table.oid) {
            Some((_, _, events)) if events.contains(&Event::Key) => {}
            Some((_, _, events)) => events.push(Event::Key),
            None => wanted.push((table.name.clone(), table.oid, vec![Event::Key])),
        }
    }
    transaction.batch_execute(&functions).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;
    let changed = !current || !functions.is_empty() || !wanted.is_empty();
    for (relation, oid, events) in wanted {
        put_on(client, params, &form, &relation, oid, &events).await?;
    }
    Ok(Captured { table_id, mapping: mapping.clone(), changed })
}

/// The table's id, and whether it had it already.
async fn registered(
    transaction: &Transaction<'_>,
    side: Side,
    mapping: &TableMapping,
    table: &Table,
) -> Result<(i32, bool), tokio_postgres::Error> {
    let keys = key_names(table);
    let known = registry::ids(transaction, side, std::slice::from_ref(mapping)).await?;
    if let Some(id) = known.first().copied().flatten()
        && registry::is_current(transaction, id, mapping, &keys).await?
    {
        return Ok((id, true));
    }
    let renamed = match known.first().copied().flatten() {
        Some(_) => None,
        None => registry::renamed(transaction, side, table.oid).await?,
    };
    if let Some((_, before)) = &renamed {
        let (table, other) = (&table.name, side.other());
        tracing::warn!(%side, %before, %table, "a table was renamed: rename it on the {other} too");
    }
    let renamed = renamed.map(|(id, _)| id);
    Ok((registry::register(transaction, side, mapping, &keys, renamed).await?, false))
}

/// The same on CockroachDB. The new trigger is put on before the old ones are taken off: a key
/// that is noted twice does no harm.
///
/// *If we crash here*, running it again does the rest.
async fn install_rows(
    client: &mut Client,
    params: &Params,
    mapping: &TableMapping,
    table: &Table,
) -> Result<Captured, SetupError> {
    let side = params.side;
    let failed = SetupError::database(side);
    let transaction = client.transaction().await.map_err(&failed)?;
    let (table_id, current) =
        registered(&transaction, side, mapping, table).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;
    let form = row_form_of(side, table, table_id);
    let standing = form.standing(client, table.oid).await.map_err(&failed)?;
    let mut statements = Vec::new();
    if !standing.function {
        statements.push(form.create_function());
    }
    if !standing.trigger {
        statements.push(form.create_trigger(&table.name));
    }
    for old in &standing.others {
        let (old, table) = (quote_identifier(old), table.name.quoted());
        statements.push(format!("DROP TRIGGER IF EXISTS {old} ON {table}"));
    }
    let changed = !current || !statements.is_empty();
    // One by one: there each is a change of the schema.
    for statement in statements {
        client.batch_execute(&statement).await.map_err(&failed)?;
    }
    Ok(Captured { table_id, mapping: mapping.clone(), changed })
}

async fn put_on(
    client: &mut Client,
    params: &Params,
    form: &Form<'_>,
    relation: &TableName,
    oid: u32,
    events: &[Event],
) -> Result<(), SetupError> {
    let mut sql: String = events.iter().map(|event| form.trigger(*event, relation)).collect();
    // In the same transaction: from the moment at which the table counts as captured, it counts as
    // not copied as well, where the phase relies on capture.
    sql.push_str(&whole_table(params.side, form.table_id));
    let rights = Rights::on(client, oid).await.map_err(SetupError::database(params.side))?;
    sql.push_str(&rights.statements(form, params.side, relation, oid, events)?);
    match under_lock(client, params, relation, oid, &sql).await {
        Err(SetupError::Database { source, .. })
            if sqlstate_of(&source) == sqlstate::INSUFFICIENT_PRIVILEGE =>
        {
            let role = current_user(client, params.side).await?;
            Err(SetupError::Privilege {
                side: params.side,
                action: format!("put triggers on {relation}"),
                message: source.to_string(),
                sql: format!(
                    "GRANT TRIGGER ON TABLE {} TO {};",
                    relation.quoted(),
                    quote_identifier(&role)
                ),
                role,
            })
        }
        result => result,
    }
}

/// Asks for a reconcile of the whole table, where the side is the primary and has a shadow.
fn whole_table(side: Side, table_id: i32) -> String {
    let relies = |phase: &&Phase| phase.captures() && phase.primary() == side;
    let phases = Phase::ALL.iter().filter(relies).map(|phase| quote_literal(phase.as_str()));
    let phases = phases.collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO segue.outbox (slot, table_id, key) SELECT {SLOT_NOW}, {table_id}, NULL \
         FROM segue.control WHERE id = 1 AND phase IN ({phases});\n"
    )
}

pub(super) async fn current_user(client: &Client, side: Side) -> Result<String, SetupError> {
    let row = client.query_one("SELECT current_user::text", &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(SetupError::database(side))
}
