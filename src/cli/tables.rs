//! `segue tables`.

use anyhow::Result;
use serde_json::json;

use crate::app::databases::Databases;
use crate::app::operations::tables::{self, Asked, Listed, State};
use crate::cli::Refused;
use crate::cli::args::TablesCommand;
use crate::cli::phase_args::AskedArgs;
use crate::cli::print::{self, counted};
use crate::config::{Config, Sources};
use crate::domain::table::TableName;

pub(super) async fn run(
    sources: &Sources,
    command: Option<TablesCommand>,
    json: bool,
) -> Result<()> {
    let config = Config::load(sources)?;
    let databases = Databases::open(&config)?;
    match command {
        None | Some(TablesCommand::List) => {
            let listed = tables::list(&config, &databases).await?;
            print::out(&if json { document(&listed) } else { page(&listed) });
        }
        Some(TablesCommand::Retire { table, asked }) => {
            let done = tables::retire(&config, &databases, &name(&table)?, &of(asked)).await?;
            print::out(&if json {
                let (settled, triggers) = (done.settled, done.triggers);
                let done = json!({ "retired": table, "settled": settled, "triggers": triggers });
                format!("{done}\n")
            } else {
                format!(
                    "{table} is retired: {} settled, {} taken off\n",
                    counted(done.settled, "key"),
                    counted(done.triggers, "trigger")
                )
            });
        }
        Some(TablesCommand::Adopt { table, asked }) => {
            tables::adopt(&config, &databases, &name(&table)?, &of(asked)).await?;
            print::out(&if json {
                format!("{}\n", json!({ "adopted": table }))
            } else {
                format!("{table} is captured again, and copied whole\n")
            });
        }
    }
    Ok(())
}

fn of(asked: AskedArgs) -> Asked {
    Asked { by: asked.actor, reason: asked.reason }
}

fn name(text: &str) -> Result<TableName> {
    let (schema, name) = text.split_once('.').unwrap_or(("public", text));
    if schema.is_empty() || name.is_empty() {
        return Err(Refused(format!("{text:?} is no table; write schema.table")).into());
    }
    Ok(TableName::new(schema, name))
}

fn page(listed: &[Listed]) -> String {
    let row = |it: &Listed| {
        vec![
            it.mapping.source.to_string(),
            it.state.as_str().to_owned(),
            print::count(it.pending),
            print::count(it.failed),
        ]
    };
    let rows: Vec<_> = listed.iter().map(row).collect();
    let shown = print::table(&["table", "state", "keys", "failed"], &rows);
    let mut page = String::new();
    let notes = std::iter::once(None).chain(listed.iter().map(Some));
    for (line, it) in shown.lines().zip(notes) {
        page += line;
        page.push('\n');
        let Some(it) = it else { continue };
        let table = &it.mapping.source;
        page += &match &it.state {
            State::Migrated => String::new(),
            State::Gone | State::Excluded => {
                format!(
                    "  it is captured still: `segue tables retire {table} --reason …` ends that\n"
                )
            }
            State::Retired(why) => format!("  {why}\n"),
        };
    }
    page
}

fn document(listed: &[Listed]) -> String {
    let each = listed.iter().map(|it| {
        let why = if let State::Retired(why) = &it.state { why.as_str() } else { "" };
        json!({
            "source": it.mapping.source.to_string(), "target": it.mapping.target.to_string(),
            "state": it.state.as_str(), "pending": it.pending, "failed": it.failed, "why": why,
        })
    });
    format!("{}\n", serde_json::Value::Array(each.collect()))
}
