//! `segue phase` and `segue history`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::Ending;
use crate::cli::admin::Client;
use crate::cli::phase_args::{AskedArgs, PhaseCommand};
use crate::cli::print::{self, indented, table, time, wrapped};
use crate::cli::words;
use crate::domain::history::Figures;
use crate::grpc::proto::change_phase_request::Step;
use crate::grpc::proto::{
    AdvancePhase, ChangePhaseRequest, ChangePhaseResponse, Gate, GateMark, GetPhaseRequest,
    HistoryEvent, HistoryEventKind, ListHistoryRequest, Phase, PhaseBack, PhaseReport,
    ResumeSchedule,
};

/// Within 80 columns.
const TEXT_WIDTH: usize = 76;

pub(super) async fn show(client: &mut Client, json: bool) -> Result<()> {
    let report = client.get_phase(GetPhaseRequest {}).await?.into_inner().phase;
    let report = report.unwrap_or_default();
    print::out(&if json { format!("{}\n", document(&report)) } else { page(&report) });
    Ok(())
}

pub(super) async fn change(
    client: &mut Client,
    command: PhaseCommand,
    json: bool,
) -> Result<Ending> {
    let (step, AskedArgs { actor, reason }) = match command {
        PhaseCommand::Advance { to, force, asked } => {
            let to = to.map(Phase::from).unwrap_or_default().into();
            (Step::Advance(AdvancePhase { to, force }), asked)
        }
        PhaseCommand::Back { give_up_copy, asked } => {
            (Step::Back(PhaseBack { give_up_copy }), asked)
        }
        PhaseCommand::Percentage { percent, asked } => (Step::TargetPercentage(percent), asked),
        PhaseCommand::Resume { asked } => (Step::Resume(ResumeSchedule {}), asked),
    };
    let request = ChangePhaseRequest { step: Some(step), actor, reason };
    let answer = client.change_phase(request).await?.into_inner();
    print::out(&if json { format!("{}\n", changed_document(&answer)) } else { changed(&answer) });
    Ok(match (answer.done, answer.mark()) {
        (true, _) => Ending::Done,
        (false, GateMark::Inconclusive) => Ending::Inconclusive,
        (false, _) => Ending::Refused,
    })
}

pub(super) async fn history(client: &mut Client, json: bool, limit: u32) -> Result<()> {
    let mut events = Vec::new();
    let mut page_token = String::new();
    while let Some(page_size) = print::left_of(limit, events.len()) {
        let request = ListHistoryRequest { page_size, page_token };
        let page = client.list_history(request).await?.into_inner();
        events.extend(page.events);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
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
        let share = match answer.phase() {
            Phase::Shift => format!(", {} % of the reads on the target", answer.target_percentage),
            _ => String::new(),
        };
        // Only a step back leads there, and it stops capture.
        let capture = if answer.phase() == Phase::SourceOnly { "capture: off\n" } else { "" };
        let phase = words::phase(answer.phase);
        return format!("phase {phase}, epoch {}{share}\n{capture}", answer.epoch);
    }
    let word = match answer.mark() {
        GateMark::Inconclusive => "there is too little evidence, and the phase stays as it is",
        _ => "a gate refuses, and the phase stays as it is",
    };
    format!("{}{word}\n", gates(&answer.gates))
}

fn page(report: &PhaseReport) -> String {
    let mut page = format!(
        "phase {} since {}, epoch {} ({})\n",
        words::phase(report.phase),
        time(report.since),
        report.epoch,
        standing(report)
    );
    if report.phase() == Phase::Shift {
        let held = if report.schedule_held { ", the schedule is held" } else { "" };
        page += &format!("{} % of the reads on the target{held}\n", report.target_percentage);
    }
    if !report.reason.is_empty() {
        let reason = format!("{}: {}", report.actor, report.reason);
        page += &indented(&wrapped(&reason, TEXT_WIDTH), 2);
    }
    if report.gates.is_empty() {
        return page + "no phase follows\n";
    }
    page + &format!("\ngates to {}:\n{}", words::phase(report.next), gates(&report.gates))
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
    let row = |gate: &Gate| vec![gate.name.clone(), words::mark(gate.mark), gate.wanted.clone()];
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
    let (from, to) = (words::phase(event.from_phase), words::phase(event.to_phase));
    let what = match event.kind() {
        HistoryEventKind::Phase => format!("{from} -> {to}"),
        HistoryEventKind::Percentage => {
            format!("{} % -> {} %", event.from_percentage, event.to_percentage)
        }
        _ => format!("{} in {to}", words::event_kind(event.kind)),
    };
    let forced = if event.forced { ", FORCED" } else { "" };
    let head =
        format!("{}  {what}  (epoch {}, {}{forced})\n", time(event.at), event.epoch, event.actor);
    let mut text = head + &indented(&wrapped(&event.reason, TEXT_WIDTH), 2);
    if whole && event.kind() == HistoryEventKind::Phase {
        text += &indented(&wrapped(&Figures::parse(&event.figures).lines(), TEXT_WIDTH - 2), 4);
    }
    text
}

fn document(report: &PhaseReport) -> Value {
    json!({
        "phase": words::phase(report.phase),
        "epoch": report.epoch,
        "since": time(report.since),
        "actor": report.actor,
        "reason": report.reason,
        "settled": report.settled,
        "settled_at": report.settled_at.map(|at| time(Some(at))),
        "waits_for": report.waits_for,
        "target_percentage": report.target_percentage,
        "schedule_held": report.schedule_held,
        "next": words::phase(report.next),
        "gates": gates_document(&report.gates),
    })
}

pub(super) fn gates_document(gates: &[Gate]) -> Value {
    let document = |gate: &Gate| json!({ "name": gate.name, "mark": words::mark(gate.mark), "found": gate.found, "wanted": gate.wanted });
    Value::Array(gates.iter().map(document).collect())
}

fn changed_document(answer: &ChangePhaseResponse) -> Value {
    json!({
        "done": answer.done,
        "mark": words::mark(answer.mark),
        "gates": gates_document(&answer.gates),
        "phase": words::phase(answer.phase),
        "epoch": answer.epoch,
        "target_percentage": answer.target_percentage,
    })
}

pub(super) fn event_document(event: &HistoryEvent) -> Value {
    json!({
        "at": time(event.at),
        "kind": words::event_kind(event.kind),
        "epoch": event.epoch,
        "from_phase": words::phase(event.from_phase),
        "to_phase": words::phase(event.to_phase),
        "from_percentage": event.from_percentage,
        "to_percentage": event.to_percentage,
        "forced": event.forced,
        "actor": event.actor,
        "reason": event.reason,
        "figures": Figures::parse(&event.figures).document(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_a_table_with_their_figures() {
        let gate = |name: &str, mark: GateMark, found: &str, wanted: &str| Gate {
            name: name.to_owned(),
            mark: mark.into(),
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        };
        let report = PhaseReport {
            phase: Phase::DualWrite.into(),
            epoch: 2,
            settled: false,
            waits_for: vec!["b is at epoch 1".to_owned()],
            next: Phase::ShadowRead.into(),
            gates: vec![
                gate("settled", GateMark::Inconclusive, "b is at epoch 1", "every member"),
                gate("outbox", GateMark::Pass, "0 waiting", "nothing stuck"),
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
            kind: HistoryEventKind::Percentage.into(),
            epoch: 4,
            from_percentage: 100.0,
            actor: "segue".to_owned(),
            reason: "2 % of the target's reads failed".to_owned(),
            ..HistoryEvent::default()
        };
        let expected = "-  100 % -> 0 %  (epoch 4, segue)\n  2 % of the target's reads failed\n";
        assert_eq!(told(&event, true), expected);
    }
}
