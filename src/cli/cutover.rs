//! `segue cutover`, `segue rollback` and `segue complete`.

use std::io::{BufRead, IsTerminal};

use anyhow::{Result, bail};

use crate::cli::admin::Client;
use crate::cli::phase_args::{AskedArgs, CutoverArgs};
use crate::cli::print;
use crate::cli::{Ending, operation, phase, words};
use crate::domain::side::Side;
use crate::grpc::proto::change_phase_request::Step;
use crate::grpc::proto::{AdvancePhase, ChangePhaseRequest, GateMark, Phase, StartCutoverRequest};

pub(super) async fn run(client: &mut Client, to: Side, args: CutoverArgs) -> Result<Ending> {
    let CutoverArgs { rehearse, force, max_pause, yes, json, reach, asked } = args;
    let AskedArgs { actor, reason } = asked;
    if !rehearse && !yes {
        let what = format!(
            "writes will wait for at most {max_pause:?} while the {to} becomes the primary"
        );
        agreed(&what)?;
    }
    let request = StartCutoverRequest {
        operation_id: operation::new_id(),
        to: words::of_side(to),
        rehearse,
        pause_max: words::lasting(max_pause),
        actor,
        reason,
        force,
    };
    let id = operation::started((json, reach), &mut *client, async |client: &mut Client| {
        Ok(client.start_cutover(request.clone()).await?.into_inner().operation)
    })
    .await?;
    operation::follow(client, &id, 0, (json, reach)).await
}

/// The last step, behind its gate.
pub(super) async fn complete(client: &mut Client, yes: bool, asked: AskedArgs) -> Result<Ending> {
    if !yes {
        agreed("the source is not kept current any more, and there is no way back")?;
    }
    let AskedArgs { actor, reason } = asked;
    let advance = AdvancePhase { to: Phase::TargetOnly.into(), force: false };
    let request = ChangePhaseRequest { step: Some(Step::Advance(advance)), actor, reason };
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
    let inconclusive = answer.mark() == GateMark::Inconclusive;
    Ok(if inconclusive { Ending::Inconclusive } else { Ending::Refused })
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
