//! Operations, their events and results, for people and as JSON.

use serde_json::{Value, json};

use crate::cli::print::{count, counted, indented, time, wrapped};
use crate::cli::{phase, proofs, words};
use crate::domain::rounded::rounded;
use crate::grpc::proto::operation::Result as Outcome;
use crate::grpc::proto::operation_event::Event;
use crate::grpc::proto::{
    BackfillTable, CutoverOutcome, CutoverResult, CutoverStep, CutoverStepState, Operation,
    OperationEvent, OperationState, VerifyResult, VerifyTable,
};

/// Within 80 columns.
const TEXT_WIDTH: usize = 76;

/// A step is a line when it has ended.
pub(super) fn is_shown(event: &OperationEvent) -> bool {
    match &event.event {
        Some(Event::CutoverStep(step)) => step.state() != CutoverStepState::Begun,
        other => other.is_some(),
    }
}

pub(super) fn told(event: &OperationEvent) -> String {
    match &event.event {
        Some(Event::CutoverStep(step)) => told_step(step),
        Some(Event::BackfillTable(table)) => {
            format!("{}: copied, {}\n", table.table, counted(table.rows, "row"))
        }
        Some(Event::VerifyTable(table)) => format!("{}\n", told_table(table)),
        Some(Event::Note(note)) => wrapped(note, TEXT_WIDTH) + "\n",
        None => String::new(),
    }
}

/// What it took, and what it found.
fn told_step(step: &CutoverStep) -> String {
    let failed = if step.state() == CutoverStepState::Failed { "  FAILED" } else { "" };
    let (name, took) = (words::step(step.name), rounded(words::elapsed(step.took)));
    let head = format!("{name:<10} {took:>8}{failed}\n");
    head + &indented(&wrapped(&step.detail, TEXT_WIDTH - 2), 4)
}

fn told_table(table: &VerifyTable) -> String {
    let mut parts = vec![counted(table.rows, "row")];
    for (number, what) in [
        (table.differences, "differ"),
        (table.uncopied, "are not copied yet"),
        (table.pending, "are pending"),
        (table.unread, "could not be read"),
        (table.repaired, "were repaired"),
    ] {
        if number > 0 {
            parts.push(format!("{} {what}", count(number)));
        }
    }
    if parts.len() == 1 && table.failure.is_empty() {
        parts.push("equal".to_owned());
    }
    if !table.failure.is_empty() {
        parts.push(format!("NOT ALL COMPARED: {}", table.failure));
    }
    format!("{}: {}", table.table, parts.join(", "))
}

pub(super) fn told_end(operation: &Operation) -> String {
    match &operation.result {
        Some(Outcome::CutoverResult(result)) => {
            proofs::of_cutover(&result.proofs) + &told_cutover(result)
        }
        Some(Outcome::VerifyResult(result)) if is_done(operation) => match result.equal {
            true => "equal\n".to_owned(),
            false => "not equal: `segue verify` names the rows\n".to_owned(),
        },
        Some(Outcome::BackfillResult(result)) if is_done(operation) => {
            let failed: u64 = result.tables.iter().map(|it| it.failed).sum();
            match failed {
                0 => "copied\n".to_owned(),
                failed => format!(
                    "copied; {} are in the outbox: see `segue outbox --stuck`\n",
                    counted(failed, "row")
                ),
            }
        }
        _ => String::new(),
    }
}

fn is_done(operation: &Operation) -> bool {
    operation.state() == OperationState::Succeeded
}

fn told_cutover(end: &CutoverResult) -> String {
    let now = format!("phase {}, epoch {}", words::phase(end.phase), end.epoch);
    let held = format!("writes were held for {:.0} ms", words::millis(end.paused));
    match end.outcome() {
        CutoverOutcome::Done => format!("done: {now}; {held}\n"),
        CutoverOutcome::Rehearsed => format!("rehearsed: {now} as before; {held}\n"),
        CutoverOutcome::Refused => {
            format!("{}a gate refuses, and nothing was done: {now}\n", phase::gates(&end.gates))
        }
        _ => format!("nothing has changed: {now}; {held}\n"),
    }
}

/// An event as a line of JSON.
pub(super) fn event_document(event: &OperationEvent) -> Value {
    let mut document = match &event.event {
        Some(Event::CutoverStep(step)) => json!({
            "event": "step",
            "step": words::step(step.name),
            "state": words::step_state(step.state),
            "took_ms": words::millis(step.took),
            "detail": step.detail,
        }),
        Some(Event::BackfillTable(table)) => {
            json!({ "event": "backfill_table", "table": backfill_document(table) })
        }
        Some(Event::VerifyTable(table)) => {
            json!({ "event": "verify_table", "table": verify_document(table) })
        }
        Some(Event::Note(note)) => json!({ "event": "note", "note": note }),
        None => json!({ "event": "unknown" }),
    };
    document["number"] = json!(event.number);
    document["at"] = json!(time(event.at));
    document
}

/// How it ended, as the last line of JSON.
pub(super) fn result_document(operation: &Operation) -> Value {
    let mut document = match &operation.result {
        Some(Outcome::CutoverResult(result)) => cutover_document(result),
        Some(Outcome::BackfillResult(result)) => json!({
            "tables": result.tables.iter().map(backfill_document).collect::<Vec<_>>(),
        }),
        Some(Outcome::VerifyResult(VerifyResult { tables, equal })) => json!({
            "equal": equal,
            "tables": tables.iter().map(verify_document).collect::<Vec<_>>(),
        }),
        None => json!({}),
    };
    document["event"] = json!("end");
    document["operation"] = json!(operation.id);
    document["operation_state"] = json!(words::operation_state(operation.state));
    document["failure"] = json!(operation.failure);
    document
}

fn cutover_document(end: &CutoverResult) -> Value {
    json!({
        "outcome": words::outcome(end.outcome),
        "reason": end.reason,
        "mark": words::mark(end.mark),
        "gates": phase::gates_document(&end.gates),
        "paused_ms": words::millis(end.paused),
        "phase": words::phase(end.phase),
        "epoch": end.epoch,
        "proofs": proofs::document(&end.proofs),
    })
}

/// A copied table, as in the status.
pub(super) fn backfill_document(table: &BackfillTable) -> Value {
    json!({
        "table": table.table, "rows": table.rows, "rows_expected": table.rows_expected,
        "bytes": table.bytes, "chunks": table.chunks, "chunks_done": table.chunks_done,
        "chunks_claimed": table.chunks_claimed, "done": table.done,
        "reconciled": table.reconciled, "failed": table.failed,
    })
}

fn verify_document(table: &VerifyTable) -> Value {
    json!({
        "table": table.table, "chunks": table.chunks, "chunks_differing": table.chunks_differing,
        "rows": table.rows, "differences": table.differences, "uncopied": table.uncopied,
        "pending": table.pending, "unread": table.unread, "repaired": table.repaired,
        "failure": table.failure,
    })
}

/// An operation.
pub(super) fn document(operation: &Operation) -> Value {
    let rows = [("id", &operation.id), ("actor", &operation.actor), ("reason", &operation.reason)];
    let mut document = json!({
        "kind": words::operation_kind(operation.kind),
        "state": words::operation_state(operation.state),
        "created_at": time(operation.created_at),
        "ended_at": operation.ended_at.map(|at| time(Some(at))),
        "member_id": operation.member_id,
        "member_name": operation.member_name,
        "last_event": operation.last_event,
        "events_dropped": operation.events_dropped,
        "cancellable": operation.cancellable,
        "cancellation": operation.cancellation.as_ref().map(|it| json!({
            "at": time(it.at), "actor": it.actor, "reason": it.reason,
        })),
        "progress": operation.progress,
        "progress_share": operation.progress_share,
        "failure": operation.failure,
    });
    for (name, value) in rows {
        document[name] = json!(value);
    }
    document
}
