//! `segue status`.

use std::io::IsTerminal;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::admin::Client;
use crate::cli::print::{self, bytes, count, counted, indented, seconds, time, wrapped};
use crate::cli::{drift, phase, proofs, words};
use crate::grpc::proto::{
    BackfillTable, CallStatus, FleetStatus, GetStatusRequest, JobProgress, Member, OutboxStatus,
    Phase, SamplingStatus, SideCalls, Status, UnmigratedStatement, WatchStatusRequest,
};

/// Beside the titles, within 80 columns.
const PART_WIDTH: usize = 69;
const WARNING_WIDTH: usize = 77;
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(super) async fn run(client: &mut Client, watch: bool, json: bool) -> Result<()> {
    if !watch {
        let status = client.get_status(GetStatusRequest {}).await?.into_inner().status;
        show(&status.unwrap_or_default(), json, false);
        return Ok(());
    }
    let request = WatchStatusRequest { interval: None };
    let mut stream = client.watch_status(request).await?.into_inner();
    let redraw = !json && std::io::stdout().is_terminal();
    while let Some(status) = stream.message().await? {
        show(&status.status.unwrap_or_default(), json, redraw);
    }
    Ok(())
}

fn show(status: &Status, json: bool, redraw: bool) {
    if json {
        return print::out(&format!("{}\n", document(status)));
    }
    let clear = if redraw { CLEAR } else { "" };
    print::out(&format!("{clear}{}\n", page(status)));
}

fn page(status: &Status) -> String {
    let since = match status.phase_since {
        Some(since) => format!(" since {}", time(Some(since))),
        None => String::new(),
    };
    let reason = match status.phase_reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let phase = words::phase(status.phase);
    let phase = format!("{phase} (epoch {}){since}{reason}", status.epoch);
    let mut page = entry("phase", &phase);
    if let Some(fleet) = &status.fleet {
        page += &fleet_lines(fleet);
    }
    page += &format!("calls     {}\n", calls("read", status.reads));
    page += &format!("          {}\n", calls("write", status.writes));
    page += &outbox(&status.outbox.clone().unwrap_or_default());
    page += &backfill(status);
    let proven = status.verify.as_ref().and_then(proofs::of_status);
    page += &entry("verified", proven.as_deref().unwrap_or("never"));
    page += &sampling(&status.sampling.clone().unwrap_or_default());
    let verdicts: Vec<String> = status
        .verdicts
        .iter()
        .filter(|verdict| verdict.count > 0)
        .map(|verdict| format!("{} {}", count(verdict.count), words::verdict(verdict.verdict)))
        .collect();
    let verdicts = if verdicts.is_empty() { "none yet".to_owned() } else { verdicts.join(", ") };
    page += &entry("verdicts", &verdicts);
    if let Some(fleet) = &status.fleet {
        page += &evidence_lines(fleet);
    }
    for warning in &status.warnings {
        let moved = indented(&wrapped(warning, WARNING_WIDTH), 2);
        page += &format!("! {}", moved.trim_start());
    }
    page += &format!("segue {} at {}\n", status.version, time(status.at));
    page
}

/// The epoch, the members, and what both sides did in the latest window.
fn fleet_lines(fleet: &FleetStatus) -> String {
    let phase = fleet.phase.clone().unwrap_or_default();
    let mut page = entry("epoch", &phase::standing(&phase));
    if phase.phase() == Phase::Shift {
        let held = if phase.schedule_held { ", the schedule is held" } else { "" };
        let share = format!("{} % of the reads on the target{held}", phase.target_percentage);
        page += &entry("shift", &share);
    }
    let members: Vec<String> = fleet.members.iter().map(member).collect();
    let members = if members.is_empty() { "none".to_owned() } else { members.join("\n") };
    page += &entry("members", &members);
    let mut sides = vec![format!("in the latest {}:", seconds(words::seconds(fleet.window)))];
    for side in &fleet.sides {
        for (kind, calls) in [("reads", side.reads), ("writes", side.writes)] {
            let calls = calls.unwrap_or_default();
            if calls.calls > 0 {
                sides.push(format!("{}: {}", words::side(side.side), side_calls(kind, calls)));
            }
        }
    }
    if sides.len() == 1 {
        sides.push("no statement ended".to_owned());
    }
    page += &entry("sides", &sides.join("\n"));
    let stays = |it: &UnmigratedStatement| {
        format!("{}: {} by {}", it.relations.join(", "), counted(it.calls, "call"), it.summary)
    };
    let stays: Vec<String> = fleet.unmigrated.iter().map(stays).collect();
    if !stays.is_empty() {
        page += &entry("stays", &stays.join("\n"));
    }
    let drift: Vec<String> = fleet.foreign_writers.iter().map(drift::line).collect();
    if drift.is_empty() { page } else { page + &entry("drift", &drift.join("\n")) }
}

fn member(member: &Member) -> String {
    let leads = if member.is_leader { ", leads" } else { "" };
    let left = words::seconds(member.lease_remaining);
    let lease = if left > 0.0 {
        format!("lease for {}", seconds(left))
    } else {
        format!("LEASE ENDED {} ago", seconds(-left))
    };
    let Member { name, version, epoch, .. } = member;
    format!("{name} (segue {version}): epoch {epoch}, {lease}{leads}")
}

fn side_calls(kind: &str, calls: SideCalls) -> String {
    let SideCalls { calls, errors, p50, p95, p99 } = calls;
    let [p50_ms, p95_ms, p99_ms] = [p50, p95, p99].map(words::millis);
    format!(
        "{} {kind}, {} failed, p50 {p50_ms:.2} p95 {p95_ms:.2} p99 {p99_ms:.2} ms",
        count(calls),
        count(errors)
    )
}

/// Backfill, verify, the gates and the latest events.
fn evidence_lines(fleet: &FleetStatus) -> String {
    let mut page = String::new();
    for (title, progress) in [("backfill", &fleet.backfill), ("verify", &fleet.verify)] {
        let JobProgress { state, text } = progress.clone().unwrap_or_default();
        page += &entry(title, &format!("{}: {text}", words::job(state)));
    }
    let phase = fleet.phase.clone().unwrap_or_default();
    if !phase.gates.is_empty() {
        let marks =
            phase.gates.iter().map(|gate| format!("{} {}", gate.name, words::mark(gate.mark)));
        let marks = marks.collect::<Vec<_>>().join(", ");
        page += &entry(
            "gates",
            &format!("to {}: {marks}; see `segue phase`", words::phase(phase.next)),
        );
    }
    if !fleet.events.is_empty() {
        let events: String = fleet.events.iter().map(|event| phase::told(event, false)).collect();
        page += &entry("events", &events);
    }
    page
}

/// A line of the page, or more where it is long.
fn entry(title: &str, content: &str) -> String {
    let moved = indented(&wrapped(content, PART_WIDTH), 10);
    format!("{title:9} {}", moved.trim_start())
}

fn calls(kind: &str, calls: Option<CallStatus>) -> String {
    let calls = calls.unwrap_or_default();
    if calls.total == 0 {
        return format!("no {kind}s yet");
    }
    let failed = if calls.failed == 0 {
        "none failed".to_owned()
    } else {
        format!("{} failed", count(calls.failed))
    };
    let (p50, p99) = (words::millis(calls.p50), words::millis(calls.p99));
    format!("{}, {failed}, p50 {p50:.2} ms, p99 {p99:.2} ms", counted(calls.total, kind))
}

fn outbox(outbox: &OutboxStatus) -> String {
    let waiting = match outbox.pending {
        0 => "nothing waits".to_owned(),
        pending => format!(
            "{} waiting, the oldest for {}",
            counted(pending, "row"),
            seconds(words::seconds(outbox.oldest_age))
        ),
    };
    let stuck =
        if outbox.stuck == 0 { String::new() } else { format!(", {} stuck", count(outbox.stuck)) };
    let size = format!("{} of {}", bytes(outbox.pending_bytes), bytes(outbox.max_bytes));
    let failed = if outbox.failed_total == 0 {
        String::new()
    } else {
        format!(", {}", counted(outbox.failed_total, "failed attempt"))
    };
    let done =
        format!("{} reconciled by this sidecar{failed}", counted(outbox.reconciled_total, "key"));
    let disk = bytes(outbox.bytes);
    entry("outbox", &format!("{waiting}{stuck}; {size}\n{done}; {disk} on disk"))
}

/// Tables that are not done one by one, the others together.
fn backfill(status: &Status) -> String {
    if status.backfill.is_empty() {
        return entry("backfill", "none yet");
    }
    let (done, open): (Vec<&BackfillTable>, Vec<_>) =
        status.backfill.iter().partition(|table| table.done);
    let mut lines = Vec::new();
    if !done.is_empty() {
        let rows = done.iter().map(|table| table.rows).sum();
        lines.push(format!(
            "{} complete, {}",
            counted(done.len() as u64, "table"),
            counted(rows, "row")
        ));
    }
    for table in open {
        lines.push(format!(
            "{}: {} of about {} rows, {} of {} chunks cut so far, {} under way",
            table.table,
            count(table.rows),
            count(table.rows_expected),
            count(table.chunks_done),
            count(table.chunks),
            count(table.chunks_claimed)
        ));
    }
    let failed = status.backfill.iter().map(|table| table.failed).sum();
    if failed > 0 {
        lines
            .push(format!("{} could not be copied and wait in the outbox", counted(failed, "row")));
    }
    for worker in status.backfill_workers.iter().filter(|worker| worker.alive) {
        let slow = match worker.throttled.as_str() {
            "" => String::new(),
            cause => format!(", slowed down to {:.0} % by {cause}", worker.share * 100.0),
        };
        lines.push(format!(
            "{} at {}{slow}",
            counted(worker.workers.into(), "worker"),
            worker.host
        ));
    }
    entry("backfill", &lines.join("\n"))
}

fn sampling(sampling: &SamplingStatus) -> String {
    let rate = sampling.rate * 100.0;
    let mut dropped: Vec<_> = sampling.dropped.iter().filter(|(_, count)| **count > 0).collect();
    dropped.sort();
    let dropped = match dropped.as_slice() {
        [] => "none dropped".to_owned(),
        dropped => {
            let words = dropped.iter().map(|(reason, n)| format!("{} {reason}", count(**n)));
            format!("dropped: {}", words.collect::<Vec<_>>().join(", "))
        }
    };
    let content =
        format!("{rate} % of reads; {}, {dropped}", counted(sampling.sampled_total, "sample"));
    entry("samples", &content)
}

fn document(status: &Status) -> Value {
    let outbox = status.outbox.clone().unwrap_or_default();
    let sampling = status.sampling.clone().unwrap_or_default();
    let verify = status.verify.clone().unwrap_or_default();
    let verdicts = status.verdicts.iter().map(|it| (words::verdict(it.verdict), json!(it.count)));
    let calls = |calls: Option<CallStatus>| {
        let calls = calls.unwrap_or_default();
        json!({
            "total": calls.total, "failed": calls.failed,
            "p50_ms": words::millis(calls.p50), "p99_ms": words::millis(calls.p99),
        })
    };
    let mut document = json!({
        "version": status.version,
        "at": time(status.at),
        "phase": words::phase(status.phase),
        "epoch": status.epoch,
        "phase_since": status.phase_since.map(|since| time(Some(since))),
        "phase_reason": status.phase_reason,
        "reads": calls(status.reads),
        "writes": calls(status.writes),
        "outbox": {
            "pending": outbox.pending, "stuck": outbox.stuck,
            "oldest_age_s": words::seconds(outbox.oldest_age),
            "bytes": outbox.bytes, "max_bytes": outbox.max_bytes,
            "pending_bytes": outbox.pending_bytes,
            "folded": outbox.folded.iter().map(|table| json!({
                "table": table.table, "keys": table.keys, "oldest_age_s": words::seconds(table.oldest_age),
                "rows": table.rows, "keys_seen": table.keys_seen,
                "remaining_s": table.remaining.map(|it| words::seconds(Some(it))),
                "ranges": table.ranges, "ranges_total": table.ranges_total,
            })).collect::<Vec<_>>(),
            "reconciled_total": outbox.reconciled_total, "failed_total": outbox.failed_total,
        },
        "backfill": status.backfill.iter().map(|table| json!({
            "table": table.table, "rows": table.rows, "rows_expected": table.rows_expected,
            "bytes": table.bytes, "chunks": table.chunks, "chunks_done": table.chunks_done,
            "chunks_claimed": table.chunks_claimed, "done": table.done,
            "reconciled": table.reconciled, "failed": table.failed,
        })).collect::<Vec<_>>(),
        "backfill_workers": status.backfill_workers.iter().map(|worker| json!({
            "host": worker.host, "workers": worker.workers, "alive": worker.alive,
            "throttled": worker.throttled, "share": worker.share,
        })).collect::<Vec<_>>(),
        "verify": {
            "chunks": verify.chunks, "proven": verify.proven, "written": verify.written,
            "oldest_age_s": words::seconds(verify.oldest_age), "tables": proofs::document(&verify.tables),
        },
        "sampling": {
            "rate": sampling.rate, "sampled_total": sampling.sampled_total,
            "dropped": sampling.dropped,
        },
        "verdicts": verdicts.collect::<serde_json::Map<_, _>>(),
        "warnings": status.warnings,
    });
    if let (Some(fields), Some(fleet)) = (document.as_object_mut(), &status.fleet) {
        fields.insert("fleet".to_owned(), fleet_document(fleet));
    }
    document
}

fn fleet_document(fleet: &FleetStatus) -> Value {
    let phase = fleet.phase.clone().unwrap_or_default();
    let member = |it: &Member| {
        json!({
            "id": it.id, "name": it.name, "address": it.address, "version": it.version,
            "epoch": it.epoch, "started_at": time(it.started_at),
            "lease_remaining_s": words::seconds(it.lease_remaining), "is_leader": it.is_leader,
        })
    };
    let calls = |calls: Option<SideCalls>| {
        let SideCalls { calls, errors, p50, p95, p99 } = calls.unwrap_or_default();
        let [p50_ms, p95_ms, p99_ms] = [p50, p95, p99].map(words::millis);
        json!({
            "calls": calls, "errors": errors,
            "p50_ms": p50_ms, "p95_ms": p95_ms, "p99_ms": p99_ms,
        })
    };
    let sides = fleet.sides.iter().map(|side| {
        let figures = json!({ "reads": calls(side.reads), "writes": calls(side.writes) });
        (words::side(side.side), figures)
    });
    let progress = |progress: &Option<JobProgress>| {
        let JobProgress { state, text } = progress.clone().unwrap_or_default();
        json!({ "state": words::job(state), "text": text })
    };
    let unmigrated = fleet.unmigrated.iter().map(|it| {
        json!({
            "fingerprint": it.fingerprint, "summary": it.summary,
            "relations": it.relations, "calls": it.calls,
        })
    });
    let unmigrated: Vec<Value> = unmigrated.collect();
    json!({
        "unmigrated": unmigrated,
        "foreign_writers": fleet.foreign_writers.iter().map(drift::document).collect::<Vec<_>>(),
        "settled": phase.settled,
        "settled_at": phase.settled_at.map(|at| time(Some(at))),
        "waits_for": phase.waits_for,
        "target_percentage": phase.target_percentage,
        "schedule_held": phase.schedule_held,
        "members": fleet.members.iter().map(member).collect::<Vec<_>>(),
        "window_s": words::seconds(fleet.window),
        "sides": sides.collect::<serde_json::Map<_, _>>(),
        "judged": fleet.judged,
        "mismatches": fleet.mismatches,
        "backfill": progress(&fleet.backfill),
        "verify": progress(&fleet.verify),
        "next": words::phase(phase.next),
        "gates": phase::gates_document(&phase.gates),
        "events": fleet.events.iter().map(phase::event_document).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::BackfillWorker;

    #[test]
    fn a_copy_under_way_is_told_table_by_table() {
        let table = |name: &str, done| BackfillTable {
            table: name.to_owned(),
            rows: 12_000,
            rows_expected: 40_000,
            chunks: 8,
            chunks_done: 3,
            chunks_claimed: 2,
            failed: 1,
            done,
            ..BackfillTable::default()
        };
        let worker = BackfillWorker {
            host: "db-7, process 12".to_owned(),
            workers: 4,
            alive: true,
            throttled: "the outbox's age".to_owned(),
            share: 0.25,
        };
        let page = page(&Status {
            backfill: vec![table("app.a", true), table("app.b", true), table("app.c", false)],
            backfill_workers: vec![worker, BackfillWorker::default()],
            ..Status::default()
        });
        let expected = "\
backfill  2 tables complete, 24,000 rows
          app.c: 12,000 of about 40,000 rows, 3 of 8 chunks cut so far, 2 under
          way
          3 rows could not be copied and wait in the outbox
          4 workers at db-7, process 12, slowed down to 25 % by the outbox's
          age
";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn an_empty_status_is_honest() {
        let page = page(&Status { phase: Phase::DualWrite.into(), epoch: 3, ..Status::default() });
        for line in ["phase     dual_write (epoch 3)", "no reads yet", "nothing waits", "none yet"]
        {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}
