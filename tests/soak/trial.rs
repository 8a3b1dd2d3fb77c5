//! What is done on purpose while all are well, what the faults that follow may not change of it, and
//! the commands by which operators see it and resolve it.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::ledger::Load;
use crate::plan::Trial;
use crate::support::{Segue, eventually};
use crate::traps::Traps;
use crate::world::World;
use crate::{drift, left, limits, shifted, stuck};

/// For what sidecars do by themselves, or an operator by a command that may be given again.
pub const LIMIT: Duration = Duration::from_secs(300);

/// A trial that was begun.
pub enum Begun {
    None,
    Shifted(shifted::Shifted),
    Unwatched(drift::Unwatched),
    Limits,
    Stuck(Box<stuck::Aside>),
}

/// Begins the trial of a round, with load and traps going on, and judges what can be judged at once.
pub async fn begin(
    trial: Trial,
    round: i64,
    world: &mut World,
    (load, traps): (&Load, &Traps),
) -> Begun {
    match trial {
        Trial::None => Begun::None,
        Trial::Restarts => {
            let shifted = shifted::Shifted::begin(world, traps).await;
            shifted::restart(world, traps, load).await;
            Begun::Shifted(shifted)
        }
        Trial::Control => {
            let shifted = shifted::Shifted::begin(world, traps).await;
            shifted::control(world).await;
            shifted::stop_the_coordinator(world, load, round).await;
            Begun::Shifted(shifted)
        }
        Trial::Unwatched => Begun::Unwatched(drift::Unwatched::begin(world, round).await),
        Trial::Limits => {
            limits::begin(world, load).await;
            Begun::Limits
        }
        Trial::Left => {
            left::begin(world, load, round).await;
            Begun::None
        }
        Trial::Stuck => Begun::Stuck(Box::new(stuck::Aside::begin(world).await)),
    }
}

// === impl Begun ===

impl Begun {
    /// Judges it when the faults are over, and brings everything back to where it was.
    pub async fn end(self, world: &mut World, traps: &Traps) {
        match self {
            Self::None => {}
            Self::Shifted(shifted) => shifted.end(world, traps).await,
            Self::Unwatched(unwatched) => unwatched.end(world).await,
            Self::Limits => limits::end(world).await,
            Self::Stuck(aside) => aside.end().await,
        }
    }
}

/// All that a command printed, in one line.
pub fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    text.concat().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a command prints as JSON; nothing where it fails.
pub fn printed(segue: &Segue, arguments: &[&str]) -> Option<Value> {
    serde_json::from_slice(&segue.run(arguments).stdout).ok()
}

/// Waits until the status is as it should be.
pub async fn until(segue: &Segue, what: &str, holds: impl Fn(&Value) -> bool) {
    eventually(what, LIMIT, || async {
        holds(&printed(segue, &["status", "--json"])?).then_some(())
    })
    .await;
}

/// Gives a command until it succeeds; gives what it printed.
pub async fn done(segue: &Segue, arguments: &[&str]) -> String {
    eventually(&format!("{arguments:?}"), LIMIT, || async {
        let output = segue.run(arguments);
        let told = said(&output);
        if !output.status.success() {
            println!("{arguments:?}: {told}");
        }
        output.status.success().then_some(told)
    })
    .await
}
