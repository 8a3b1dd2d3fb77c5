//! The spans of segue. None of them holds a parameter's value, a key or a server's message,
//! which may quote one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::domain::backfill::Copied;
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::domain::side::Side;
use crate::telemetry::names;

/// Where a database is, for its spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which one.
    pub side: Side,
    /// The host.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The database's name.
    pub namespace: String,
}

macro_rules! call_span {
    ($name:literal, $method:ident) => {
        tracing::info_span!(
            $name,
            otel.name = $method,
            otel.kind = "server",
            otel.status_code = Empty,
            { names::RPC_SYSTEM_NAME } = "grpc",
            { names::RPC_METHOD } = $method,
            { names::RPC_RESPONSE_STATUS_CODE } = Empty,
            { names::DB_RESPONSE_STATUS_CODE } = Empty,
            { names::ERROR_TYPE } = Empty,
        )
    };
}

/// The span of one call, `method` being `segue.v1.Sql/Query`. The caller's trace is joined by
/// setting its parent afterwards.
pub fn call(method: &'static str) -> Span {
    call_span!("call", method)
}

/// The same for a call whose caller has no trace.
pub fn call_of_its_own(method: &'static str) -> Span {
    call_span!("call_of_its_own", method)
}

/// Whether spans of a name are made although none is exported, so that log lines bear ids.
/// Those of every single call would cost more than all else that is done for it.
pub(super) fn made_for_logs(name: &str) -> bool {
    !matches!(name, "call_of_its_own" | "statement" | "capture")
}

/// The span of one statement on a database, under the present one.
pub fn statement(peer: &Peer, summary: &str) -> Span {
    tracing::info_span!(
        "statement",
        otel.name = summary,
        otel.kind = "client",
        otel.status_code = Empty,
        { names::DB_SYSTEM_NAME } = names::POSTGRESQL,
        { names::DB_NAMESPACE } = peer.namespace,
        { names::DB_QUERY_SUMMARY } = summary,
        { names::DB_RESPONSE_STATUS_CODE } = Empty,
        { names::DB_RESPONSE_RETURNED_ROWS } = Empty,
        { names::SERVER_ADDRESS } = peer.address,
        { names::SERVER_PORT } = peer.port,
        { names::ERROR_TYPE } = Empty,
        { names::SIDE } = peer.side.as_str(),
        { names::STATEMENT_NAME } = Empty,
    )
}

/// Notes the name of a statement from the query files.
pub fn note_name(span: &Span, name: Option<&str>) {
    if let Some(name) = name {
        span.record(names::STATEMENT_NAME, name);
    }
}

/// Notes how a call or a statement failed: codes, never the message.
pub fn note_fault(span: &Span, fault: &SqlFault) {
    span.record("otel.status_code", "ERROR");
    if fault.sqlstate.is_empty() {
        span.record(names::ERROR_TYPE, fault.reason.as_str());
    } else {
        span.record(names::DB_RESPONSE_STATUS_CODE, fault.sqlstate.as_str());
        span.record(names::ERROR_TYPE, fault.sqlstate.as_str());
    }
}

/// Notes under a write's span that the capture recorded its keys in the same transaction: as
/// an event and as a child. The child has no length of its own, since the capture's time is
/// part of the statement's.
pub fn captured(span: &Span, write_id: WriteId) {
    let write_id = write_id.to_string();
    drop(tracing::info_span!(
        parent: span,
        "capture",
        otel.name = names::CAPTURE_SPAN,
        otel.kind = "internal",
        { names::WRITE_ID } = write_id.as_str(),
    ));
    span.add_event(names::CAPTURED, vec![KeyValue::new(names::WRITE_ID, write_id)]);
}

/// A trace of its own for a change of the share of the target's reads: 0 to 100, and why.
pub fn shift_changed(from: f64, to: f64, kind: &'static str, reason: &str) {
    drop(tracing::info_span!(
        parent: None,
        "shift",
        otel.name = names::SHIFT_SPAN,
        otel.kind = "internal",
        otel.status_code = if kind == "rollback" { "ERROR" } else { "OK" },
        { names::SHIFT_FROM } = from,
        { names::SHIFT_TO } = to,
        { names::SHIFT_KIND } = kind,
        { names::SHIFT_REASON } = reason,
    ));
}

/// A trace of its own for one batch of keys, linked to the calls that wrote them.
pub fn reconcile(
    shadow: Side,
    keys: usize,
    writers: impl IntoIterator<Item = SpanContext>,
) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "reconcile",
        otel.name = names::RECONCILE_SPAN,
        otel.kind = "internal",
        otel.status_code = Empty,
        { names::SIDE } = shadow.as_str(),
        { names::KEYS } = keys,
        { names::ROWS_WRITTEN } = Empty,
        { names::KEYS_FAILED } = Empty,
        { names::DB_RESPONSE_STATUS_CODE } = Empty,
        { names::ERROR_TYPE } = Empty,
    );
    for writer in writers {
        span.add_link(writer);
    }
    span
}

/// A trace of its own for one run of a backfill.
pub fn backfill(workers: u32) -> Span {
    tracing::info_span!(
        parent: None,
        "backfill",
        otel.name = names::BACKFILL_SPAN,
        otel.kind = "internal",
        { names::WORKERS } = workers,
    )
}

/// The span of one attempt on a chunk, under the run's.
pub fn chunk(table_id: i32, number: i64, attempt: u32) -> Span {
    tracing::info_span!(
        "chunk",
        otel.name = names::CHUNK_SPAN,
        otel.kind = "internal",
        otel.status_code = Empty,
        { names::TABLE_ID } = table_id,
        { names::CHUNK } = number,
        { names::ATTEMPT } = attempt,
        { names::CHUNK_WAY } = Empty,
        { names::CHUNK_ROWS } = Empty,
        { names::CHUNK_BYTES } = Empty,
        { names::KEYS } = Empty,
        { names::KEYS_FAILED } = Empty,
    )
}

/// Notes what became of a chunk.
pub fn note_copied(span: &Span, copied: Option<&Copied>) {
    let Some(copied) = copied else {
        span.record("otel.status_code", "ERROR");
        return;
    };
    span.record(names::CHUNK_WAY, copied.way.as_str());
    span.record(names::CHUNK_ROWS, copied.rows);
    span.record(names::CHUNK_BYTES, copied.bytes);
    span.record(names::KEYS, copied.reconciled);
    span.record(names::KEYS_FAILED, copied.failed);
}

/// A trace of its own for a run of verify.
pub fn verify() -> Span {
    tracing::info_span!(
        parent: None,
        "verify",
        otel.name = names::VERIFY_SPAN,
        otel.kind = "internal",
        otel.status_code = Empty,
    )
}

/// One chunk of it.
pub fn verify_chunk(table: &str) -> Span {
    tracing::info_span!(
        "verify_chunk",
        otel.name = names::VERIFY_CHUNK_SPAN,
        otel.kind = "internal",
        otel.status_code = Empty,
        { names::TABLE } = table,
        { names::ROWS } = Empty,
        { names::ROWS_READ } = Empty,
        { names::DIFFERENCES } = Empty,
        { names::DB_RESPONSE_STATUS_CODE } = Empty,
        { names::ERROR_TYPE } = Empty,
    )
}

/// A trace of its own for one sampled read, linked to the caller's.
pub fn shadow_read(caller: &Span, shadow: &'static str) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "shadow_read",
        otel.name = names::SHADOW_READ_SPAN,
        otel.kind = "internal",
        otel.status_code = Empty,
        { names::SIDE } = shadow,
        { names::VERDICT } = Empty,
        { names::CATEGORY } = Empty,
        { names::RULES } = Empty,
        { names::DROPPED } = Empty,
        { names::STATEMENT_NAME } = Empty,
    );
    if let Some(context) = context_of(caller) {
        span.add_link(context);
    }
    span
}

/// Notes a comparison's result on the present span, as attributes and as an event.
pub fn record_verdict<'a>(
    verdict: &'static str,
    category: &'static str,
    rules: impl IntoIterator<Item = &'a str>,
) {
    let rules = rules.into_iter().collect::<Vec<_>>().join(",");
    let span = Span::current();
    span.record(names::VERDICT, verdict);
    let mut attributes = vec![KeyValue::new(names::VERDICT, verdict)];
    if !category.is_empty() {
        span.record(names::CATEGORY, category);
        attributes.push(KeyValue::new(names::CATEGORY, category));
    }
    if !rules.is_empty() {
        span.record(names::RULES, rules.as_str());
        attributes.push(KeyValue::new(names::RULES, rules));
    }
    span.add_event(names::COMPARED, attributes);
}

/// The span as OpenTelemetry knows it, where it is traced at all.
pub fn context_of(span: &Span) -> Option<SpanContext> {
    let context = span.context().span().span_context().clone();
    context.is_valid().then_some(context)
}

/// Which call made a write, so that its reconcile can be linked to it. Holds the latest
/// writes of this member only: a link is a convenience, and memory is bounded.
#[derive(Debug)]
pub struct Writers {
    capacity: usize,
    inner: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    by_write: HashMap<WriteId, SpanContext>,
    in_order: VecDeque<WriteId>,
}

// === impl Writers ===

impl Writers {
    /// Remembers at most so many writes.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    /// Remembers the call that made a write. Costs nothing where the call is not traced.
    pub fn remember(&self, write: WriteId, call: &Span) {
        let Some(context) = context_of(call).filter(SpanContext::is_sampled) else { return };
        let mut latest = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.by_write.insert(write, context).is_none() {
            latest.in_order.push_back(write);
        }
        while latest.in_order.len() > self.capacity {
            if let Some(oldest) = latest.in_order.pop_front() {
                latest.by_write.remove(&oldest);
            }
        }
    }

    /// Whether no write is remembered: none was traced.
    pub fn is_empty(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).by_write.is_empty()
    }

    /// The calls that made these writes, as far as they are remembered, at most so many.
    pub fn of(
        &self,
        writes: impl IntoIterator<Item = WriteId>,
        calls_max: usize,
    ) -> Vec<SpanContext> {
        let latest = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let known = writes.into_iter().filter_map(|write| latest.by_write.get(&write).cloned());
        known.take(calls_max).collect()
    }
}
