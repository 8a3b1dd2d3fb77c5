//! `segue outbox`.

use std::time::SystemTime;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::admin::Client;
use crate::cli::print::{self, clipped, counted, seconds, table, time};
use crate::grpc::proto::{ListOutboxRequest, OutboxEntry, RetryOutboxRequest};

pub(super) async fn list(client: &mut Client, stuck: bool, json: bool, limit: u32) -> Result<()> {
    let mut entries = Vec::new();
    let mut page_token = String::new();
    while let Some(page_size) = print::left_of(limit, entries.len()) {
        let request = ListOutboxRequest { page_size, page_token, failed_only: stuck };
        let page = client.list_outbox(request).await?.into_inner();
        entries.extend(page.entries);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    if json {
        let documents: Vec<Value> = entries.iter().map(document).collect();
        print::out(&format!("{}\n", Value::Array(documents)));
    } else {
        print::out(&page(&entries, stuck, limit, SystemTime::now()));
    }
    Ok(())
}

pub(super) async fn retry(client: &mut Client, table: Option<String>, json: bool) -> Result<()> {
    let request = RetryOutboxRequest { table: table.unwrap_or_default() };
    let made_due = client.retry_outbox(request).await?.into_inner().made_due;
    print::out(&if json {
        format!("{}\n", json!({ "made_due": made_due }))
    } else {
        format!("{} made due now\n", counted(made_due, "row"))
    });
    Ok(())
}

/// Widest table and key that are shown: both with the rest fit into 80 columns.
const TABLE_WIDTH: usize = 24;
const KEY_WIDTH: usize = 22;

fn page(entries: &[OutboxEntry], stuck: bool, limit: u32, now: SystemTime) -> String {
    if entries.is_empty() {
        let what =
            if stuck { "nothing has failed" } else { "nothing waits: the shadow is current" };
        return format!("{what}\n");
    }
    let row = |entry: &OutboxEntry| {
        vec![
            clipped(&entry.table, TABLE_WIDTH),
            clipped(&key(entry), KEY_WIDTH),
            since(entry.created_at, now),
            entry.attempts.to_string(),
            until(entry.next_attempt_at, now),
        ]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    let listed = table(&["table", "key", "waits", "tries", "next"], &rows);
    let mut page = String::new();
    // The first line is of the heads.
    let errors = std::iter::once(None).chain(entries.iter().map(Some));
    for (line, entry) in listed.lines().zip(errors) {
        page += line;
        page.push('\n');
        if let Some(entry) = entry.filter(|entry| !entry.last_error.is_empty()) {
            let word = if entry.stuck { "stuck: " } else { "failed, and is tried again: " };
            page += &format!("  {word}{}\n", entry.last_error);
        }
    }
    if u32::try_from(entries.len()).is_ok_and(|shown| shown >= limit) {
        page += "there may be more; raise --limit to see them\n";
    }
    page
}

fn since(stamp: Option<prost_types::Timestamp>, now: SystemTime) -> String {
    let time = stamp.and_then(|stamp| SystemTime::try_from(stamp).ok());
    time.map_or_else(
        || "-".to_owned(),
        |time| seconds(now.duration_since(time).unwrap_or_default().as_secs_f64()),
    )
}

fn until(stamp: Option<prost_types::Timestamp>, now: SystemTime) -> String {
    let time = stamp.and_then(|stamp| SystemTime::try_from(stamp).ok());
    match time.map(|time| time.duration_since(now)) {
        None => "-".to_owned(),
        Some(Ok(wait)) => format!("in {}", seconds(wait.as_secs_f64())),
        Some(Err(_)) => "due".to_owned(),
    }
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
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(100);
        assert_eq!(page(&[], true, 10, now), "nothing has failed\n");
        let entry = OutboxEntry {
            table: "public.orders".to_owned(),
            key: vec!["7".to_owned(), "a".repeat(90)],
            created_at: Some(SystemTime::UNIX_EPOCH.into()),
            next_attempt_at: Some((now + std::time::Duration::from_secs(30)).into()),
            attempts: 9,
            stuck: true,
            last_error: "23503".to_owned(),
            ..OutboxEntry::default()
        };
        let page = page(&[entry], false, 1, now);
        let expected = "\
table          key                          waits  tries  next
public.orders  7, aaaaaaaaaaaaaaaaaa…  1 min 40 s      9  in 30 s
  stuck: 23503
there may be more; raise --limit to see them
";
        assert_eq!(page, expected);
    }
}
