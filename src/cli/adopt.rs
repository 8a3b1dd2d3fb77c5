//! `segue adopt`: asks an operator for what is given up by it, and does it.

use anyhow::Result;

use crate::app::operations::adoption::{self, Because};
use crate::cli::args::AdoptCommand;
use crate::cli::cutover::agreed;
use crate::cli::print;
use crate::config::{Config, Sources};

pub(super) async fn run(sources: &Sources, command: AdoptCommand) -> Result<()> {
    let config = Config::load(sources)?;
    match command {
        AdoptCommand::Target { reason, yes } => target(&config, &because(reason), yes).await,
        AdoptCommand::Primary { reason, yes } => primary(&config, &because(reason), yes).await,
    }
}

/// Another database becomes the target, whose copy begins again.
async fn target(config: &Config, because: &Because, yes: bool) -> Result<()> {
    let Some(new) = adoption::new_target(config).await? else {
        print::out("it is the target of this migration already\n");
        return Ok(());
    };
    if !yes {
        let name = &new.name;
        agreed(&format!(
            "the copy begins again on {name}, no read goes there until then, and the target that \
             there was is followed no longer"
        ))?;
    }
    let phase = adoption::adopt_target(config, &new, because).await?;
    let name = &new.name;
    print::out(&format!("{name} is the target now, phase {phase}\n"));
    if phase.captures() {
        print::out("start the sidecars, then copy the history to it: segue backfill\n");
    }
    Ok(())
}

/// A primary that went back in time, or is elsewhere than it was, is gone on with.
async fn primary(config: &Config, because: &Because, yes: bool) -> Result<()> {
    let Some(old) = adoption::old_primary(config).await? else {
        print::out("nothing is wrong with the primary\n");
        return Ok(());
    };
    print::out(&format!("{}\n", old.found));
    if !yes {
        agreed("what it lost is given up, and is taken from the other side as well")?;
    }
    let phase = adoption::adopt_primary(config, &old, because).await?;
    print::out(&format!(
        "the primary is gone on with as it is, phase {phase}; all of it is compared again\n"
    ));
    Ok(())
}

fn because(reason: String) -> Because {
    Because { by: std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned()), reason }
}
