//! `segue drift`: programs that wrote on the side that follows, past segue.

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::Ending;
use crate::cli::admin::Client;
use crate::cli::print::{self, counted, indented, time, wrapped};
use crate::grpc::proto::{
    ForeignTable, ForeignWriter, ListForeignWritersRequest, ResolveForeignWritersRequest,
};

#[derive(Debug, Subcommand)]
pub(super) enum DriftCommand {
    /// Take a program off the list until it writes again; recorded with who and why
    Resolve {
        /// The id that `segue drift` shows
        #[arg(required_unless_present = "all")]
        writer: Option<String>,
        /// Every program of the list
        #[arg(long, conflicts_with = "writer")]
        all: bool,
        /// What you found, and what was done about it; recorded
        #[arg(long)]
        reason: String,
        /// Who decides; recorded [default: the user]
        #[arg(
            long = "by",
            env = "USER",
            default_value = "unknown",
            hide_default_value = true,
            hide_env = true
        )]
        by: String,
    },
}

/// Beside the margin, within 80 columns.
const LINE_WIDTH: usize = 76;

pub(super) async fn list(client: &mut Client, json: bool) -> Result<Ending> {
    let request = ListForeignWritersRequest {};
    let writers = client.list_foreign_writers(request).await?.into_inner().writers;
    if json {
        let documents: Vec<Value> = writers.iter().map(document).collect();
        print::out(&format!("{}\n", Value::Array(documents)));
    } else {
        print::out(&page(&writers));
    }
    Ok(if writers.iter().any(is_open) { Ending::Differences } else { Ending::Done })
}

pub(super) async fn resolve(client: &mut Client, command: DriftCommand) -> Result<()> {
    let DriftCommand::Resolve { writer, all: _, reason, by } = command;
    let id = writer.unwrap_or_default();
    let request = ResolveForeignWritersRequest { id, reason, resolved_by: by };
    let resolved = client.resolve_foreign_writers(request).await?.into_inner().resolved;
    print::out(&format!("resolved: {}\n", counted(resolved, "program")));
    Ok(())
}

fn is_open(writer: &ForeignWriter) -> bool {
    writer.resolved_at.is_none()
}

fn page(writers: &[ForeignWriter]) -> String {
    let open = writers.iter().filter(|it| is_open(it)).count();
    if writers.is_empty() {
        return "no program was seen that writes on the side that follows\n".to_owned();
    }
    let mut page = match open {
        0 => "nothing to resolve\n".to_owned(),
        open => format!("{} to look into\n", counted(open as u64, "program")),
    };
    for writer in writers {
        let ForeignWriter { id, side, role, application, address, .. } = writer;
        page += &format!("\n{id}  role {role}, application {application:?}, from {address}\n");
        let mut lines = vec![format!(
            "on the {side}, first {}, last {}",
            time(writer.first_seen),
            time(writer.last_seen)
        )];
        lines.extend(writer.tables.iter().map(table));
        if !is_open(writer) {
            lines.push(format!(
                "resolved by {} at {}: {}",
                writer.resolved_by,
                time(writer.resolved_at),
                writer.resolved_reason
            ));
        }
        page += &indented(&wrapped(&lines.join("\n"), LINE_WIDTH), 2);
    }
    page
}

fn table(it: &ForeignTable) -> String {
    let whole = match it.whole {
        0 => String::new(),
        times => format!(", and all of it {}", counted(times, "time")),
    };
    format!("{}: {}{whole}", it.table, counted(it.keys, "key"))
}

pub(super) fn document(writer: &ForeignWriter) -> Value {
    let tables = writer.tables.iter();
    json!({
        "id": writer.id,
        "side": writer.side,
        "role": writer.role,
        "application": writer.application,
        "address": writer.address,
        "tables": tables.map(|it| json!({
            "table": it.table, "keys": it.keys, "whole": it.whole,
        })).collect::<Vec<_>>(),
        "first_seen": time(writer.first_seen),
        "last_seen": time(writer.last_seen),
        "resolved_at": writer.resolved_at.map(|at| time(Some(at))),
        "resolved_by": writer.resolved_by,
        "resolved_reason": writer.resolved_reason,
    })
}

/// One line of the status.
pub(super) fn line(writer: &ForeignWriter) -> String {
    let ForeignWriter { role, application, address, side, tables, .. } = writer;
    let tables: Vec<String> = tables.iter().map(table).collect();
    format!(
        "role {role}, application {application:?}, from {address}, on the {side}: {}",
        tables.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wrote_what_and_what_became_of_it_is_told() {
        let at = |s| Some(prost_types::Timestamp { seconds: s, nanos: 0 });
        let table = |name: &str, keys, whole| ForeignTable { table: name.to_owned(), keys, whole };
        let open = ForeignWriter {
            id: "0123456789ab".to_owned(),
            side: "target".to_owned(),
            role: "etl".to_owned(),
            application: "nightly load".to_owned(),
            address: "10.0.0.9".to_owned(),
            tables: vec![table("app.a", 1200, 0), table("app.b", 0, 1)],
            first_seen: at(0),
            last_seen: at(60),
            ..ForeignWriter::default()
        };
        let resolved = ForeignWriter {
            id: "ba9876543210".to_owned(),
            tables: vec![table("app.c", 1, 0)],
            resolved_at: at(120),
            resolved_by: "me".to_owned(),
            resolved_reason: "a test".to_owned(),
            ..open.clone()
        };
        let page = page(&[open, resolved]);
        for part in [
            "1 program to look into\n",
            "0123456789ab  role etl, application \"nightly load\", from 10.0.0.9\n",
            "app.a: 1,200 keys\n",
            "app.b: no keys, and all of it 1 time\n",
            "resolved by me at ",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        assert!(super::page(&[]).starts_with("no program"), "an empty list says so");
    }
}
