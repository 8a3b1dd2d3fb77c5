//! Whether capture stands as it should: found from the catalogue, without a lock.

use tokio_postgres::{Error, GenericClient, Row};

use super::event::Event;
use super::form::{Form, Function};
use super::retire::without_retired;
use super::rows::RowForm;
use super::{Params, on_side, registry, tables};
use crate::dialect::Dialect;
use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::catalog::{self, Table, TableKind};
use crate::postgres::schema;

/// `pg_trigger.tgenabled` of a trigger that fires in every session.
const ALWAYS: &str = "A";

/// Something that is not as [`super::install`] would make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The table or partition.
    pub table: TableName,
    /// What is wrong with it.
    pub what: String,
}

/// What must be made anew for a table.
#[derive(Debug, Default)]
pub(super) struct Missing {
    pub(super) functions: Vec<(Event, &'static str)>,
    pub(super) triggers: Vec<(TableName, u32, Event, &'static str)>,
}

/// Looks whether all these tables are captured, partitions made since included. An empty
/// answer means that each write to them is captured.
///
/// # Errors
///
/// Whatever the database says.
pub async fn verify_installed<C: GenericClient>(
    client: &C,
    params: &Params,
    mappings: &[TableMapping],
) -> Result<Vec<Drift>, Error> {
    let mappings = &without_retired(client, mappings).await?;
    let names: Vec<TableName> =
        mappings.iter().map(|mapping| on_side(mapping, params.side).clone()).collect();
    let found = catalog::load(client, &names).await?;
    let ids = registry::ids(client, params.side, mappings).await?;
    let dialect = schema::dialect(client).await?;
    let mut drifts = Vec::new();
    for (mapping, id) in mappings.iter().zip(ids) {
        let name = on_side(mapping, params.side);
        let mut drift = |table: &TableName, what: String| {
            drifts.push(Drift { table: table.clone(), what });
        };
        let Some(table) = found.iter().find(|table| table.name == *name) else {
            drift(name, "the table is not there".to_owned());
            continue;
        };
        if let Some(refusal) = tables::refusal(table) {
            drift(name, refusal.message);
            continue;
        }
        let Some(id) = id else {
            drift(name, "capture was never installed".to_owned());
            continue;
        };
        let keys = key_names(table);
        if !registry::is_current(client, id, mapping, &keys).await? {
            drift(name, "the mapping or the primary key has changed".to_owned());
        }
        if dialect.captures_by_row() {
            let form = row_form_of(params.side, table, id);
            if let Some(what) = form.standing(client, table.oid).await?.fault() {
                drift(name, format!("trigger {} is {what}", form.trigger()));
            }
            continue;
        }
        let missing = missing(client, &form_of(params.side, table, id), table).await?;
        for (event, what) in missing.functions {
            drift(name, format!("the function for {} is {what}", event.suffix()));
        }
        for (relation, _, event, what) in missing.triggers {
            drift(&relation, format!("trigger {} is {what}", event.trigger()));
        }
    }
    Ok(drifts)
}

/// The ids of the tables that these drifts are of, partitions' by their table.
///
/// # Errors
///
/// Whatever the database says.
pub async fn ids_of<C: GenericClient>(
    client: &C,
    params: &Params,
    mappings: &[TableMapping],
    drifts: &[Drift],
) -> Result<Vec<i32>, Error> {
    if drifts.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<TableName> =
        mappings.iter().map(|mapping| on_side(mapping, params.side).clone()).collect();
    let found = catalog::load(client, &names).await?;
    let ids = registry::ids(client, params.side, mappings).await?;
    let drifted = |name: &TableName| {
        let table = found.iter().find(|table| table.name == *name);
        let parts = table.into_iter().flat_map(|table| &table.partitions);
        let mut all = parts.map(|part| &part.name).chain([name]);
        all.any(|name| drifts.iter().any(|drift| drift.table == *name))
    };
    Ok(names.iter().zip(ids).filter(|(name, _)| drifted(name)).filter_map(|(_, id)| id).collect())
}

/// Roles other than the asking one whose own writes to these tables (by their ids) capture's trigger
/// would refuse, for want of rights on segue's tables; each with the statements that grant them. None
/// where triggers run as segue's role, or segue has not been set up.
///
/// # Errors
///
/// Whatever the database says.
pub async fn writers_lacking<C: GenericClient>(
    client: &C,
    dialect: Dialect,
    oids: &[u32],
) -> Result<Vec<(String, Vec<String>)>, Error> {
    let Some(asked) = dialect.writers_without_capture() else { return Ok(Vec::new()) };
    if schema::version(client).await? == 0 {
        return Ok(Vec::new());
    }
    let rows = client.query(asked, &[&oids]).await?;
    let lacking = |row: &Row| {
        let role: String = row.try_get(0)?;
        let grants = dialect.grants_for_capture(&role);
        Ok((role, grants))
    };
    rows.iter().map(lacking).collect()
}

/// The form that a table's capture has where it is by row.
pub(super) fn row_form_of(side: Side, table: &Table, table_id: i32) -> RowForm<'_> {
    let key = table.primary_key.as_ref().map_or(&[][..], |key| key.columns.as_slice());
    RowForm { side, table_id, key }
}

/// The form that a table's capture has.
pub(super) fn form_of(side: Side, table: &Table, table_id: i32) -> Form<'_> {
    Form {
        side,
        table_id,
        key: table.primary_key.as_ref().map_or(&[], |key| key.columns.as_slice()),
        partitioned: table.kind == TableKind::Partitioned,
    }
}

/// The names of a table's key columns, in order.
pub(super) fn key_names(table: &Table) -> Vec<&str> {
    table
        .primary_key
        .iter()
        .flat_map(|key| key.columns.iter().map(|column| column.name.as_str()))
        .collect()
}

/// Compares what stands with the form.
pub(super) async fn missing<C: GenericClient>(
    client: &C,
    form: &Form<'_>,
    table: &Table,
) -> Result<Missing, Error> {
    let mut missing = Missing::default();
    for event in form.events() {
        if let Some(what) = function_fault(client, &form.function(event)).await? {
            missing.functions.push((event, what));
        }
    }
    let mut relations = vec![(table.name.clone(), table.oid)];
    relations.extend(table.partitions.iter().map(|part| (part.name.clone(), part.oid)));
    let oids: Vec<u32> = relations.iter().map(|(_, oid)| *oid).collect();
    let rows = client
        .query(
            "SELECT t.tgrelid, t.tgname::text, p.proname::text, t.tgtype, t.tgenabled::text,
                t.tgoldtable::text, t.tgnewtable::text
             FROM pg_catalog.pg_trigger AS t
             JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
             JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'segue'
             WHERE t.tgrelid = ANY ($1)",
            &[&oids],
        )
        .await?;
    for (relation, oid) in relations {
        for event in form.events() {
            let (old, new) = form.transition_tables(event);
            let mut fault = Some("missing");
            for row in &rows {
                if row.try_get::<_, u32>(0)? != oid || row.try_get::<_, &str>(1)? != event.trigger()
                {
                    continue;
                }
                let enabled = row.try_get::<_, &str>(4)?;
                fault = if enabled == "D" {
                    Some("disabled")
                } else if enabled != ALWAYS {
                    Some("silent in some sessions, by their session_replication_role")
                } else if row.try_get::<_, &str>(2)? == form.function_name(event)
                    && row.try_get::<_, i16>(3)? == event.catalogue_type()
                    && row.try_get::<_, Option<&str>>(5)? == old
                    && row.try_get::<_, Option<&str>>(6)? == new
                {
                    None
                } else {
                    Some("of another form")
                };
            }
            if let Some(what) = fault {
                missing.triggers.push((relation.clone(), oid, event, what));
            }
        }
    }
    Ok(missing)
}

async fn function_fault<C: GenericClient>(
    client: &C,
    wanted: &Function,
) -> Result<Option<&'static str>, Error> {
    let row = client
        .query_opt(
            "SELECT p.prosrc, p.prosecdef, coalesce(p.proconfig, '{}')
             FROM pg_catalog.pg_proc AS p
             JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
             WHERE n.nspname = 'segue' AND p.proname = $1 AND p.pronargs = 0",
            &[&wanted.name],
        )
        .await?;
    let Some(row) = row else { return Ok(Some("missing")) };
    let settings: Vec<String> = row.try_get(2)?;
    Ok(if row.try_get::<_, &str>(0)? == super::form::NO_OP_BODY {
        Some("switched off: the copy was given up")
    } else if row.try_get::<_, &str>(0)? == wanted.body
        && row.try_get(1)?
        && settings == wanted.settings
    {
        None
    } else {
        Some("of another form")
    })
}
