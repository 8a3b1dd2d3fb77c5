//! `segue phase` and `segue history`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::Ending;
use crate::cli::admin::Client;
use crate::cli::phase_args::{AskedArgs, PhaseCommand};
use crate::cli::print::{self, indented, table, time, wrapped};
use crate::domain::history::Figures;
use crate::grpc::proto::change_phase_request::Step;
use crate::grpc::proto::{
    AdvancePhase, ChangePhaseRequest, ChangePhaseResponse, Gate, GetPhaseRequest, HistoryEvent,
    ListHistoryRequest, PhaseBack, PhaseReport, ResumeSchedule,
};

/// Within 80 columns.
const TEXT_WIDTH: usize = 76;

pub(super) async fn show(client: &mut Client, json: bool) -> Result<()> {
    let report = client.get_phase(GetPhaseRequest {}).await?.into_inner();
    print::out(&if json { format!("{}\n", document(&report)) } else { page(&report) });
    Ok(())
}

pub(super) async fn change(
    client: &mut Client,
    command: PhaseCommand,
    json: bool,
) -> Result<Ending> {
    let (step, AskedArgs { by, reason }) = match command {
        PhaseCommand::Advance { to, force, asked } => {
            let to = to.map(|phase| phase.to_string()).unwrap_or_default();
            (Step::Advance(AdvancePhase { to, force }), asked)
        }
        PhaseCommand::Back { give_up_copy, asked } => {
            (Step::Back(PhaseBack { give_up_copy }), asked)
        }
        PhaseCommand::Percentage { percent, asked } => (Step::TargetPercentage(percent), asked),
        PhaseCommand::Resume { asked } => (Step::Resume(ResumeSchedule {}), asked),
    };
    let request = ChangePhaseRequest { step: Some(step), by, reason };
    let answer = client.change_phase(request).await?.into_inner();
    print::out(&if json { format!("{}\n", changed_document(&answer)) } else { changed(&answer) });
    Ok(match (answer.done, answer.mark.as_str()) {
        (true, _) => Ending::Done,
        (false, "inconclusive") => Ending::Inconclusive,
        (false, _) => Ending::Refused,
    })
}

pub(super) async fn history(client: &mut Client, json: bool, limit: u32) -> Result<()> {
    let events = client.list_history(ListHistoryRequest { limit }).await?.into_inner().events;
    if json {
        let documents: Vec<Value> = events.iter().map(event_document).collect();
        print::out(&format!("{}\n", Value::Array(documents)));
    } else if events.is_empty() {
        print::out("nothing was changed yet\n");
    } else {
        print::out(&events.iter().map(|event| told(event, true)).collect::<String>());
    }
    Ok(())
}

fn changed(answer: &ChangePhaseResponse) -> String {
    if answer.done {
        let share = match answer.phase.as_str() {
            "shift" => format!(", {} % of the reads on the target", answer.target_percentage),
            _ => String::new(),
        };
        return format!("phase {}, epoch {}{share}\n", answer.phase, answer.epoch);
    }
    let word = match answer.mark.as_str() {
        "inconclusive" => "there is too little evidence, and the phase stays as it is",
        _ => "a gate refuses, and the phase stays as it is",
    };
    format!("{}{word}\n", gates(&answer.gates))
}

fn page(report: &PhaseReport) -> String {
    let mut page = format!(
        "phase {} since {}, epoch {} ({})\n",
        report.phase,
        time(report.since),
        report.epoch,
        standing(report)
    );
    if report.phase == "shift" {
        let held = if report.schedule_held { ", the schedule is held" } else { "" };
        page += &format!("{} % of the reads on the target{held}\n", report.target_percentage);
    }
    if !report.reason.is_empty() {
        let reason = format!("{}: {}", report.changed_by, report.reason);
        page += &indented(&wrapped(&reason, TEXT_WIDTH), 2);
    }
    if report.gates.is_empty() {
        return page + "no phase follows\n";
    }
    page + &format!("\ngates to {}:\n{}", report.next, gates(&report.gates))
}

pub(super) fn standing(report: &PhaseReport) -> String {
    match (report.settled, report.settled_at) {
        (true, Some(at)) => format!("settled at {}", time(Some(at))),
        (true, None) => "settling".to_owned(),
        (false, _) => format!("waits for {}", report.waits_for.join("; ")),
    }
}

/// The marks as a table, and below each gate its figures, which may be long.
pub(super) fn gates(gates: &[Gate]) -> String {
    let row = |gate: &Gate| vec![gate.name.clone(), gate.mark.clone(), gate.wanted.clone()];
    let rows: Vec<_> = gates.iter().map(row).collect();
    let listed = table(&["gate", "mark", "wanted"], &rows);
    let mut page = String::new();
    let found = std::iter::once(None).chain(gates.iter().map(Some));
    for (line, gate) in listed.lines().zip(found) {
        page += line;
        page.push('\n');
        if let Some(gate) = gate {
            page += &indented(&wrapped(&gate.found, TEXT_WIDTH), 4);
        }
    }
    page
}

/// One event: what, who, why, and the figures that it was decided by.
pub(super) fn told(event: &HistoryEvent, whole: bool) -> String {
    let what = match event.kind.as_str() {
        "phase" => format!("{} -> {}", event.from_phase, event.to_phase),
        "percentage" => format!("{} % -> {} %", event.from_percentage, event.to_percentage),
        kind => format!("{kind} in {}", event.to_phase),
    };
    let forced = if event.forced { ", FORCED" } else { "" };
    let head = format!(
        "{}  {what}  (epoch {}, {}{forced})\n",
        time(event.at),
        event.epoch,
        event.changed_by
    );
    let mut text = head + &indented(&wrapped(&event.reason, TEXT_WIDTH), 2);
    if whole && event.kind == "phase" {
        text += &indented(&wrapped(&Figures::parse(&event.figures).lines(), TEXT_WIDTH - 2), 4);
    }
    text
}

fn document(report: &PhaseReport) -> Value {
    json!({
        "phase": report.phase,
        "epoch": report.epoch,
        "since": time(report.since),
        "reason": report.reason,
        "changed_by": report.changed_by,
        "settled": report.settled,
        "settled_at": report.settled_at.map(|at| time(Some(at))),
        "waits_for": report.waits_for,
        "target_percentage": report.target_percentage,
        "schedule_held": report.schedule_held,
        "next": report.next,
        "gates": gates_document(&report.gates),
    })
}

pub(super) fn gates_document(gates: &[Gate]) -> Value {
    let document = |gate: &Gate| json!({ "name": gate.name, "mark": gate.mark, "found": gate.found, "wanted": gate.wanted });
    Value::Array(gates.iter().map(document).collect())
}

fn changed_document(answer: &ChangePhaseResponse) -> Value {
    json!({
        "done": answer.done,
        "mark": answer.mark,
        "gates": gates_document(&answer.gates),
        "phase": answer.phase,
        "epoch": answer.epoch,
        "target_percentage": answer.target_percentage,
    })
}

pub(super) fn event_document(event: &HistoryEvent) -> Value {
    json!({
        "at": time(event.at),
        "kind": event.kind,
        "epoch": event.epoch,
        "from_phase": event.from_phase,
        "to_phase": event.to_phase,
        "from_percentage": event.from_percentage,
        "to_percentage": event.to_percentage,
        "forced": event.forced,
        "changed_by": event.changed_by,
        "reason": event.reason,
        "figures": Figures::parse(&event.figures).document(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_a_table_with_their_figures() {
        let gate = |name: &str, mark: &str, found: &str, wanted: &str| Gate {
            name: name.to_owned(),
            mark: mark.to_owned(),
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        };
        let report = PhaseReport {
            phase: "dual_write".to_owned(),
            epoch: 2,
            settled: false,
            waits_for: vec!["b is at epoch 1".to_owned()],
            next: "shadow_read".to_owned(),
            gates: vec![
                gate("settled", "inconclusive", "b is at epoch 1", "every member"),
                gate("outbox", "pass", "0 waiting", "nothing stuck"),
            ],
            ..PhaseReport::default()
        };
        let expected = "\
phase dual_write since -, epoch 2 (waits for b is at epoch 1)

gates to shadow_read:
gate     mark          wanted
settled  inconclusive  every member
    b is at epoch 1
outbox   pass          nothing stuck
    0 waiting
";
        assert_eq!(page(&report), expected);
    }

    #[test]
    fn an_event_says_what_who_and_why() {
        let event = HistoryEvent {
            kind: "percentage".to_owned(),
            epoch: 4,
            from_percentage: 100.0,
            changed_by: "segue".to_owned(),
            reason: "2 % of the target's reads failed".to_owned(),
            ..HistoryEvent::default()
        };
        let expected = "-  100 % -> 0 %  (epoch 4, segue)\n  2 % of the target's reads failed\n";
        assert_eq!(told(&event, true), expected);
    }
}
