//! `segue outbox`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::admin::Client;
use crate::cli::print::{self, counted, table, time};
use crate::grpc::proto::{ListOutboxRequest, OutboxEntry, ReplayOutboxRequest};

pub(super) async fn list(client: &mut Client, stuck: bool, json: bool, limit: u32) -> Result<()> {
    let request = ListOutboxRequest { limit, stuck_only: stuck };
    let entries = client.list_outbox(request).await?.into_inner().entries;
    if json {
        let documents: Vec<Value> = entries.iter().map(document).collect();
        print::out(&format!("{}\n", Value::Array(documents)));
    } else {
        print::out(&page(&entries, stuck, limit));
    }
    Ok(())
}

pub(super) async fn replay(client: &mut Client, table: Option<String>, json: bool) -> Result<()> {
    let request = ReplayOutboxRequest { table: table.unwrap_or_default() };
    let made_due = client.replay_outbox(request).await?.into_inner().made_due;
    print::out(&if json {
        format!("{}\n", json!({ "made_due": made_due }))
    } else {
        format!("{} made due now\n", counted(made_due, "row"))
    });
    Ok(())
}

fn page(entries: &[OutboxEntry], stuck: bool, limit: u32) -> String {
    if entries.is_empty() {
        let what = if stuck { "nothing is stuck" } else { "nothing waits: the shadow is current" };
        return format!("{what}\n");
    }
    let row = |entry: &OutboxEntry| {
        vec![
            entry.table.clone(),
            key(entry),
            time(entry.created_at),
            entry.attempts.to_string(),
            time(entry.next_attempt_at),
            if entry.stuck { "stuck".to_owned() } else { String::new() },
            entry.last_error.clone(),
        ]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    let heads = ["table", "key", "written at", "attempts", "next attempt", "", "last error"];
    let mut page = table(&heads, &rows);
    if u32::try_from(entries.len()).is_ok_and(|shown| shown >= limit) {
        page += "there may be more; raise --limit to see them\n";
    }
    page
}

fn key(entry: &OutboxEntry) -> String {
    if entry.key.is_empty() { "(whole table)".to_owned() } else { entry.key.join(", ") }
}

fn document(entry: &OutboxEntry) -> Value {
    json!({
        "table": entry.table,
        "key": entry.key,
        "write_id": entry.write_id,
        "created_at": time(entry.created_at),
        "attempts": entry.attempts,
        "next_attempt_at": time(entry.next_attempt_at),
        "last_error": entry.last_error,
        "stuck": entry.stuck,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_full() {
        assert_eq!(page(&[], true, 10), "nothing is stuck\n");
        let entry = OutboxEntry {
            table: "public.orders".to_owned(),
            key: vec!["7".to_owned(), "a".to_owned()],
            attempts: 9,
            stuck: true,
            last_error: "23503".to_owned(),
            ..OutboxEntry::default()
        };
        let page = page(&[entry], false, 1);
        assert!(page.contains("public.orders  7, a"), "{page}");
        assert!(page.contains("stuck  23503") && page.contains("raise --limit"), "{page}");
    }
}
