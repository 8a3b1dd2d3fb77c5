//! Preflight: asks both databases, and judges what they say. Backfill and cutover begin by it.

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::setup;
use crate::config::Config;
use crate::control::figures;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reach::Noted;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate::{INVALID_SCHEMA_NAME, UNDEFINED_TABLE, class};
use crate::domain::table::{TableMapping, TableName};
use crate::ports::fleet::FleetStore;
use crate::postgres::capture::Refusal;
use crate::postgres::control::members::FleetTable;
use crate::postgres::relations;
use crate::postgres::survey::{self, survey};
use crate::preflight::{self, Pace, Report};

/// What a check looks at.
#[derive(Debug, Clone)]
pub struct Params {
    /// Only these tables of the source, as `schema.table` or, where that is clear, `table`;
    /// empty for all of the migration.
    pub tables: Vec<String>,
    /// What times are estimated by.
    pub pace: Pace,
}

/// Looks for whatever would make the migration diverge in silence, get stuck, or not be
/// undoable. Reads only.
///
/// # Errors
///
/// [`AppError`] where a side cannot be reached, or a table is named that is not of the migration.
pub async fn check(
    config: &Config,
    databases: &Databases,
    params: &Params,
) -> Result<Report, AppError> {
    let (mut mappings, refused) = match setup::tables(config, databases).await {
        Ok(found) => found,
        // The survey says on which side, and which way out there is.
        Err(AppError::Database(fault))
            if fault.kind == FaultKind::Refused
                || fault.sqlstate.starts_with(class::SYNTAX_OR_ACCESS) =>
        {
            Default::default()
        }
        Err(error) => return Err(error),
    };
    mappings.retain(|mapping| mapping.source.schema != "segue");
    let is = |name: &String, table: &TableName| *name == table.to_string() || *name == table.name;
    let named = |table: &TableName| {
        params.tables.is_empty() || params.tables.iter().any(|name| is(name, table))
    };
    let tables: Vec<TableMapping> =
        mappings.iter().filter(|mapping| named(&mapping.source)).cloned().collect();
    let strays = config.tables.mapped.is_empty() && params.tables.is_empty();
    let sessions = databases.sessions_max(config);
    let asked = survey::Params { tables: &tables, mappings: &mappings, strays, sessions };
    let mut world = survey(&databases.own(), &databases.of_callers(), asked).await?;
    let sources = tables.iter().map(|mapping| &mapping.source);
    let all: Vec<&TableName> = sources.chain(refused.iter().map(|it| &it.table)).collect();
    // Where a side could not be asked, the tables are not known.
    let asked_both = world.found.is_empty();
    if let Some(name) = params.tables.iter().find(|name| !all.iter().any(|it| is(name, it)))
        && asked_both
    {
        let message = format!("table {name} is not of the migration");
        let fault = SqlFault::new(FaultKind::NotFound, Reason::CheckTable, message);
        let hint = "write schema.table as the source has it; see tables.map and tables.exclude";
        return Err(fault.with_hint(hint).into());
    }
    world.target.strays.retain(|table| !all.contains(&table) && !setup::is_excluded(config, table));
    if asked_both && params.tables.is_empty() {
        world.source.staying = staying(config, databases, &mappings, &refused).await?;
        match touching(databases).await {
            Ok(touching) => world.source.touching = touching,
            Err(why) => world.source.not_asked.push(("statements seen", why.to_string())),
        }
    }
    let refused = refused.iter().filter(|refusal| named(&refusal.table));
    let refused = refused.map(|it| preflight::refused(&it.table, it.reason, &it.message));
    world.found.extend(refused);
    Ok(preflight::check(&world, params.pace))
}

/// Statements that the sidecars which run now have seen on what is not migrated. Before the first
/// `segue init` there are none.
async fn touching(databases: &Databases) -> Result<Vec<Noted>, SqlFault> {
    match FleetTable::new(databases.own()).fleet(Side::Source).await {
        Ok(fleet) => Ok(figures::unmigrated(&fleet)),
        Err(fault) if [UNDEFINED_TABLE, INVALID_SCHEMA_NAME].contains(&&*fault.sqlstate) => {
            Ok(Vec::new())
        }
        Err(fault) => Err(fault),
    }
}

/// What is not migrated and not declared. Tables that are refused are told of as such.
async fn staying(
    config: &Config,
    databases: &Databases,
    mappings: &[TableMapping],
    refused: &[Refusal],
) -> Result<Vec<(TableName, String)>, AppError> {
    let policy = crate::app::relations::policy(config);
    let migrated: Vec<TableName> = mappings.iter().map(|it| it.source.clone()).collect();
    let own = databases.own();
    let mut staying = relations::staying(own.of(Side::Source), &migrated, &policy).await?;
    // What the configuration leaves out is known to whoever wrote it; the gate asks for its owner.
    staying.retain(|(table, _)| {
        !policy.leaves_out(table) && !refused.iter().any(|refusal| refusal.table == *table)
    });
    Ok(staying)
}
