//! `segue cutover`, `segue rollback` and `segue complete`.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::cli::Ending;
use crate::cli::admin::Client;
use crate::cli::phase;
use crate::cli::phase_args::{AskedArgs, CutoverArgs};
use crate::cli::print::{self, indented, wrapped};
use crate::cli::proofs;
use crate::domain::rounded::rounded;
use crate::grpc::proto::change_phase_request::Step;
use crate::grpc::proto::cutover_event::Event;
use crate::grpc::proto::{
    AdvancePhase, ChangePhaseRequest, CutoverEnd, CutoverRequest, CutoverStep,
};

/// Within 80 columns.
const TEXT_WIDTH: usize = 76;

pub(super) async fn run(client: &mut Client, to: &str, args: CutoverArgs) -> Result<Ending> {
    let CutoverArgs { rehearse, force, max_pause, yes, json, asked } = args;
    let AskedArgs { by, reason } = asked;
    if !rehearse && !yes {
        let what = format!(
            "writes will wait for at most {max_pause:?} while the {to} becomes the primary"
        );
        agreed(&what)?;
    }
    let pause_max_ms = u32::try_from(max_pause.as_millis().max(1)).unwrap_or(u32::MAX);
    let request = CutoverRequest { to: to.to_owned(), rehearse, pause_max_ms, by, reason, force };
    let mut events = client.cutover(request).await?.into_inner();
    let mut ended = None;
    while let Some(event) = events.message().await? {
        match event.event {
            Some(Event::Step(step)) if json => print::out(&format!("{}\n", step_document(&step))),
            Some(Event::Step(step)) => print::out(&told(&step)),
            Some(Event::End(end)) => ended = Some(end),
            None => {}
        }
    }
    let Some(end) = ended else {
        bail!("the sidecar ended in the middle; `segue status` says which database is the primary")
    };
    print::out(&match json {
        true => format!("{}\n", end_document(&end)),
        false => proofs::of_cutover(&end.proofs) + &told_end(&end),
    });
    Ok(match (end.outcome.as_str(), end.mark.as_str()) {
        ("done" | "rehearsed", _) => Ending::Done,
        ("refused", "inconclusive") => Ending::Inconclusive,
        ("refused", _) => Ending::Refused,
        _ => bail!("called off: {}", end.reason),
    })
}

/// The last step, behind its gate.
pub(super) async fn complete(client: &mut Client, yes: bool, asked: AskedArgs) -> Result<Ending> {
    if !yes {
        agreed("the source is not kept current any more, and there is no way back")?;
    }
    let AskedArgs { by, reason } = asked;
    let advance = AdvancePhase { to: "target_only".to_owned(), force: false };
    let request = ChangePhaseRequest { step: Some(Step::Advance(advance)), by, reason };
    let answer = client.change_phase(request).await?.into_inner();
    if answer.done {
        print::out(
            "the migration is done: the target is alone\n\
             to remove segue: point the applications at the target, stop the sidecars, run\n  \
             segue capture remove\nand then, on both databases,\n  DROP SCHEMA segue CASCADE;\n",
        );
        return Ok(Ending::Done);
    }
    print::out(&phase::gates(&answer.gates));
    Ok(if answer.mark == "inconclusive" { Ending::Inconclusive } else { Ending::Refused })
}

/// Asks, where there is somebody to ask.
pub(super) fn agreed(what: &str) -> Result<()> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("{what}; say so with --yes");
    }
    print::out(&format!("{what}. Go on? [y/N] "));
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was done"),
    }
}

/// A step is a line when it has ended: what it took, and what it found.
fn told(step: &CutoverStep) -> String {
    match step.state.as_str() {
        "begun" => String::new(),
        state => {
            let failed = if state == "failed" { "  FAILED" } else { "" };
            let took =
                rounded(Duration::try_from_secs_f64(step.took_ms / 1000.0).unwrap_or_default());
            let head = format!("{:<10} {took:>8}{failed}\n", step.step);
            head + &indented(&wrapped(&step.detail, TEXT_WIDTH - 2), 4)
        }
    }
}

fn told_end(end: &CutoverEnd) -> String {
    let now = format!("phase {}, epoch {}", end.phase, end.epoch);
    match end.outcome.as_str() {
        "done" => format!("done: {now}; writes were held for {:.0} ms\n", end.paused_ms),
        "rehearsed" => {
            format!("rehearsed: {now} as before; writes were held for {:.0} ms\n", end.paused_ms)
        }
        "refused" => {
            format!("{}a gate refuses, and nothing was done: {now}\n", phase::gates(&end.gates))
        }
        _ => format!("nothing has changed: {now}; writes were held for {:.0} ms\n", end.paused_ms),
    }
}

fn step_document(step: &CutoverStep) -> Value {
    json!({
        "step": step.step,
        "state": step.state,
        "took_ms": step.took_ms,
        "detail": step.detail,
    })
}

fn end_document(end: &CutoverEnd) -> Value {
    let gates: Vec<Value> = end
        .gates
        .iter()
        .map(|gate| json!({"name": gate.name, "mark": gate.mark, "found": gate.found, "wanted": gate.wanted}))
        .collect();
    json!({
        "outcome": end.outcome,
        "reason": end.reason,
        "mark": end.mark,
        "gates": gates,
        "paused_ms": end.paused_ms,
        "phase": end.phase,
        "epoch": end.epoch,
        "proofs": proofs::document(&end.proofs),
    })
}
