//! Asks both databases for everything that preflight judges by.
//!
//! Each side is read in one read-only transaction, so that what is read belongs together. A
//! question that a server does not understand, or that the role may not ask, is noted as not
//! asked and the others go on; only without its tables and columns nothing can be said.

mod ask;
mod callers;
mod columns;
mod constraints;
mod limits;
mod sequences;
mod server;
mod sizes;
mod types;

use std::collections::BTreeMap;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::{Side, Sides};
use crate::domain::sqlstate::class;
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::capture::refusal;
use crate::postgres::catalog;
use crate::postgres::catalog::rights::RIGHTS;
use crate::postgres::mapping::load::{IgnoredColumns, Registered, load_these};
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::settings::BEGIN_LOOK_AT_ONE_STATE;
use crate::preflight::describe::{Callers, Catalogue, Migrated, TableFacts, World};
use crate::preflight::{Code, Finding};
use ask::Asker;

/// What segue does to a table at some time, on either side.
const RIGHTS_NEEDED: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRIGGER"];

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    /// The tables to look at.
    pub tables: &'a [TableMapping],
    /// All tables of the migration.
    pub mappings: &'a [TableMapping],
    /// Tell of tables that only the target has.
    pub strays: bool,
    /// Sessions that one sidecar may open with each side: as segue's role, and in all.
    pub sessions: Sides<(usize, usize)>,
}

/// Asks both sides, as segue's role and as that of callers' statements.
///
/// # Errors
///
/// A side that cannot be reached, or a connection that is lost. A way to a database that is
/// refused, such as a transaction pooler, is a finding.
pub async fn survey(
    own: &Sides<Pool>,
    callers: &Sides<Pool>,
    params: Params<'_>,
) -> Result<World, SqlFault> {
    let mut world = World {
        source: Catalogue::default(),
        target: Catalogue::default(),
        tables: Vec::new(),
        mappings: params.mappings.to_vec(),
        found: Vec::new(),
    };
    let (source, target) = tokio::join!(own.source.get(), own.target.get());
    let source = refused_is_found(Side::Source, source, &mut world.found)?;
    let target = refused_is_found(Side::Target, target, &mut world.found)?;
    // Of one side alone nothing can be compared.
    let (Some(source), Some(target)) = (source, target) else { return Ok(world) };
    let names = |side| params.tables.iter().map(|it| it.on(side).clone()).collect::<Vec<_>>();
    let (on_source, on_target) = (names(Side::Source), names(Side::Target));
    // Before a transaction is open, which the server would end where this takes its time.
    let (of_source, of_target) = tokio::join!(
        callers::ask(&callers.source, &on_source),
        callers::ask(&callers.target, &on_target)
    );
    let of_source = refused_is_found(Side::Source, of_source, &mut world.found)?;
    let of_target = refused_is_found(Side::Target, of_target, &mut world.found)?;
    let (Some(of_source), Some(of_target)) = (of_source, of_target) else { return Ok(world) };
    let (here, there) = tokio::join!(
        read(&source, of_source, &on_source, params.sessions.source),
        read(&target, of_target, &on_target, params.sessions.target)
    );
    let here = readable(Side::Source, here, &mut world.found)?;
    let there = readable(Side::Target, there, &mut world.found)?;
    let (Some((on_source, mut here)), Some((on_target, mut there))) = (here, there) else {
        return Ok(world);
    };
    world.source = on_source;
    world.target = on_target;
    if params.strays {
        world.target.strays = strays(&target, params.mappings).await?;
    }
    for mapping in params.tables {
        world.tables.push(Migrated {
            mapping: mapping.clone(),
            source: here.remove(&mapping.source),
            target: there.remove(&mapping.target),
            unfit: Vec::new(),
        });
    }
    for primary_side in [Side::Source, Side::Target] {
        let (primary, shadow) = match primary_side {
            Side::Source => (&source, &target),
            Side::Target => (&target, &source),
        };
        unfit(primary, shadow, &mut world).await?;
    }
    for lease in [source, target] {
        lease.batch_execute("ROLLBACK").await?;
    }
    Ok(world)
}

fn refused_is_found<T>(
    side: Side,
    way: Result<T, SqlFault>,
    found: &mut Vec<Finding>,
) -> Result<Option<T>, SqlFault> {
    match way {
        Ok(way) => Ok(Some(way)),
        Err(fault) if fault.kind == FaultKind::Refused => {
            found.push(Finding::new(Code::Pooler, side, fault.message));
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

/// A server that answers, but not this, will not do so later.
fn readable<T>(
    side: Side,
    read: Result<T, SqlFault>,
    found: &mut Vec<Finding>,
) -> Result<Option<T>, SqlFault> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(fault)
            if fault.sqlstate.starts_with(class::SYNTAX_OR_ACCESS)
                || fault.sqlstate.starts_with(class::FEATURE_NOT_SUPPORTED) =>
        {
            found.push(Finding::new(Code::Unreadable, side, fault.to_string()));
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

/// One side: what is known of it as a whole, and of each table that is there.
async fn read(
    lease: &Lease,
    of_callers: callers::Asked,
    names: &[TableName],
    sessions: (usize, usize),
) -> Result<(Catalogue, BTreeMap<TableName, TableFacts>), SqlFault> {
    // Definitions are then written with the schemas of what they name.
    lease.batch_execute(BEGIN_LOOK_AT_ONE_STATE).await?;
    let mut asker = Asker::new(lease);
    let mut catalogue = Catalogue {
        server: server::server(&mut asker).await?,
        role: server::role(&mut asker, names).await?,
        callers: Callers::default(),
        capture_lacks: Vec::new(),
        extensions: server::extensions(&mut asker).await?,
        prepared: server::prepared(&mut asker).await?,
        has_large_objects: server::has_large_objects(&mut asker).await?,
        strays: Vec::new(),
        staying: Vec::new(),
        touching: Vec::new(),
        not_asked: Vec::new(),
    };
    catalogue.role.settings = limits::settings(&mut asker).await?;
    catalogue.role.sessions = limits::sessions(&mut asker, sessions).await?;
    let mut tables = BTreeMap::new();
    let found = catalog::load(lease.driver(), names).await;
    for table in found.map_err(|error| lease.fault(error, true))? {
        let refused = refusal(&table).map(|refusal| (refusal.reason, refusal.message));
        let facts = TableFacts { refused, ..TableFacts::of(table) };
        tables.insert(facts.table.oid, facts);
    }
    rights(&mut asker, names, &mut tables).await?;
    callers::fill(of_callers, &mut asker, &mut catalogue, &mut tables).await?;
    callers::fill_writers(&mut asker, &mut catalogue, &tables).await?;
    columns::fill(lease, &catalogue.server.collation, &mut tables).await?;
    constraints::fill(&mut asker, &mut tables).await?;
    sequences::fill(&mut asker, &mut tables).await?;
    sizes::fill(&mut asker, &mut tables).await?;
    catalogue.not_asked = asker.not_asked;
    let by_name = tables.into_values().map(|facts| (facts.table.name.clone(), facts));
    Ok((catalogue, by_name.collect()))
}

async fn rights(
    asker: &mut Asker<'_>,
    names: &[TableName],
    tables: &mut BTreeMap<u32, TableFacts>,
) -> Result<(), SqlFault> {
    let schemas: Vec<&str> = names.iter().map(|table| table.schema.as_str()).collect();
    let relations: Vec<&str> = names.iter().map(|table| table.name.as_str()).collect();
    let needed: &[&str] = &RIGHTS_NEEDED;
    let question = "rights on tables (has_table_privilege)";
    for row in asker.rows(question, RIGHTS, &[&schemas, &relations, &needed]).await? {
        let read = || -> Result<(TableName, bool, Vec<String>), SqlFault> {
            let name = TableName::new(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?);
            Ok((name, row.try_get(3)?, row.try_get(4)?))
        };
        let (name, hidden, missing) = read()?;
        if let Some(facts) = tables.values_mut().find(|facts| facts.table.name == name) {
            facts.hidden_rows = hidden;
            facts.missing_rights = missing;
        }
    }
    Ok(())
}

async fn strays(lease: &Lease, mappings: &[TableMapping]) -> Result<Vec<TableName>, SqlFault> {
    let all = catalog::names(lease.driver()).await;
    let all = all.map_err(|error| lease.fault(error, true))?;
    let mapped = |name: &TableName| mappings.iter().any(|mapping| mapping.target == *name);
    Ok(all.into_iter().filter(|name| !mapped(name)).collect())
}

/// What reconcile itself says of tables that both sides have, so that nothing that it would
/// refuse is passed over by the rules.
async fn unfit(primary: &Lease, shadow: &Lease, world: &mut World) -> Result<(), SqlFault> {
    let primary_side = primary.facts().side;
    let shadow_side = primary_side.other();
    let mut registered = Vec::new();
    for (index, it) in world.tables.iter().enumerate() {
        let key = it.on(primary_side).and_then(|facts| facts.table.primary_key.as_ref());
        let (Some(key), Some(_), Ok(table_id)) = (key, it.on(shadow_side), i32::try_from(index))
        else {
            continue;
        };
        let key = key.columns.iter().map(|column| column.name.clone()).collect();
        registered.push(Registered { table_id, mapping: it.mapping.clone(), key });
    }
    let ignored = IgnoredColumns::new();
    let copied = shadow.dialect().has_replication_role();
    let shapes = load_these(primary, shadow, primary_side, &registered, &ignored, copied).await;
    let shapes = shapes.map_err(|(_, fault)| fault)?;
    for (id, shape) in shapes {
        let table = usize::try_from(id).ok().and_then(|index| world.tables.get_mut(index));
        if let (Some(table), Err(reason)) = (table, shape) {
            table.unfit.push((shadow_side, reason));
        }
    }
    Ok(())
}
