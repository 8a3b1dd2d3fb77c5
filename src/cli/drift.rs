//! `segue drift`: programs that wrote on the side that follows, past segue.

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::Ending;
use crate::cli::admin::Client;
use crate::cli::print::{self, counted, indented, time, wrapped};
use crate::cli::words;
use crate::grpc::proto::{
    ForeignTable, ForeignWriter, ListForeignWritersRequest, Resolution,
    ResolveForeignWritersRequest,
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
            long,
            env = "USER",
            default_value = "unknown",
            hide_default_value = true,
            hide_env = true
        )]
        actor: String,
    },
}

/// Beside the margin, within 80 columns.
const LINE_WIDTH: usize = 76;

pub(super) async fn list(client: &mut Client, json: bool) -> Result<Ending> {
    let mut writers = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListForeignWritersRequest { page_size: 0, page_token };
        let page = client.list_foreign_writers(request).await?.into_inner();
        writers.extend(page.writers);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    if json {
        let documents: Vec<Value> = writers.iter().map(document).collect();
        print::out(&format!("{}\n", Value::Array(documents)));
    } else {
        print::out(&page(&writers));
    }
    Ok(if writers.iter().any(is_open) { Ending::Differences } else { Ending::Done })
}

pub(super) async fn resolve(client: &mut Client, command: DriftCommand, json: bool) -> Result<()> {
    let DriftCommand::Resolve { writer, all: _, reason, actor } = command;
    let id = writer.unwrap_or_default();
    let request = ResolveForeignWritersRequest { id, reason, actor };
    let resolved = client.resolve_foreign_writers(request).await?.into_inner().resolved;
    print::out(&if json {
        format!("{}\n", json!({ "resolved": resolved }))
    } else {
        format!("resolved: {}\n", counted(resolved, "program"))
    });
    Ok(())
}

fn is_open(writer: &ForeignWriter) -> bool {
    writer.resolution.is_none()
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
        let ForeignWriter { id, role, application, address, .. } = writer;
        page += &format!("\n{id}  role {role}, application {application:?}, from {address}\n");
        let mut lines = vec![format!(
            "on the {}, first {}, last {}",
            words::side(writer.side),
            time(writer.first_seen),
            time(writer.last_seen)
        )];
        lines.extend(writer.tables.iter().map(table));
        if let Some(Resolution { at, actor, reason }) = &writer.resolution {
            lines.push(format!("resolved by {actor} at {}: {reason}", time(*at)));
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
        "side": words::side(writer.side),
        "role": writer.role,
        "application": writer.application,
        "address": writer.address,
        "tables": tables.map(|it| json!({
            "table": it.table, "keys": it.keys, "whole": it.whole,
        })).collect::<Vec<_>>(),
        "first_seen": time(writer.first_seen),
        "last_seen": time(writer.last_seen),
        "resolution": writer.resolution.as_ref().map(|it| json!({
            "at": time(it.at), "actor": it.actor, "reason": it.reason,
        })),
    })
}

/// One line of the status.
pub(super) fn line(writer: &ForeignWriter) -> String {
    let ForeignWriter { role, application, address, tables, .. } = writer;
    let side = words::side(writer.side);
    let tables: Vec<String> = tables.iter().map(table).collect();
    format!(
        "role {role}, application {application:?}, from {address}, on the {side}: {}",
        tables.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::Side;

    #[test]
    fn who_wrote_what_and_what_became_of_it_is_told() {
        let at = |s| Some(prost_types::Timestamp { seconds: s, nanos: 0 });
        let table = |name: &str, keys, whole| ForeignTable { table: name.to_owned(), keys, whole };
        let open = ForeignWriter {
            id: "0123456789ab".to_owned(),
            side: Side::Target.into(),
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
            resolution: Some(Resolution {
                at: at(120),
                actor: "me".to_owned(),
                reason: "a test".to_owned(),
            }),
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
