//! Entries of lists as messages.

use crate::domain::mismatch::Mismatch;
use crate::domain::status::OutboxEntry;
use crate::grpc::proto;
use crate::grpc::words::at;

pub(super) fn mismatch(found: Mismatch) -> proto::Mismatch {
    proto::Mismatch {
        fingerprint: found.key.fingerprint,
        verdict: proto::Verdict::from(found.key.verdict).into(),
        category: found.key.category,
        statement: found.statement,
        statement_name: found.statement_name.as_deref().unwrap_or_default().to_owned(),
        count: found.count,
        first_seen: at(found.first_seen),
        last_seen: at(found.last_seen),
        reason: found.reason,
        rewrite: found.rewrite,
        example: found.example,
        rules: found.rules.into_iter().collect(),
        suspected: found.suspected,
    }
}

pub(super) fn entry(entry: OutboxEntry) -> proto::OutboxEntry {
    proto::OutboxEntry {
        table: entry.key.table.to_string(),
        key: entry.key.values.unwrap_or_default(),
        write_id: entry.write_id.map(|id| id.to_string()).unwrap_or_default(),
        created_at: at(entry.created_at),
        attempts: entry.attempts,
        next_attempt_at: at(entry.next_attempt_at),
        last_error: entry.last_error,
        stuck: entry.stuck,
    }
}
