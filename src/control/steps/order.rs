//! Which phase follows which by an operator's step. The cutover has commands of its own.

use crate::domain::control::Phase;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;

/// The phase that an operator goes on to.
pub(super) fn next_by_hand(phase: Phase, to: Option<Phase>) -> Result<Phase, SqlFault> {
    let own = |what: &str| {
        let message = format!("{phase} is left by a command of its own");
        Err(refused(Reason::RefusedOwnCommand, message, what))
    };
    match phase {
        Phase::SourceOnly => Ok(Phase::DualWrite),
        Phase::DualWrite => Ok(Phase::ShadowRead),
        Phase::ShadowRead => Ok(Phase::Shift),
        Phase::Shift | Phase::Cutover => own("run `segue cutover`"),
        // The end is not come to by going on, but by name.
        Phase::Reversed if to == Some(Phase::TargetOnly) => Ok(Phase::TargetOnly),
        Phase::Reversed => own("run `segue complete`, or `segue rollback` to go back"),
        Phase::TargetOnly => {
            let message = "target_only is the last phase: the migration is done";
            let hint = "segue can be taken out of the way: point the application at the target, stop \
                        the sidecars, and run `segue capture remove`";
            Err(refused(Reason::RefusedLastPhase, message, hint))
        }
    }
}

/// The phase that an operator goes back to.
pub(super) fn before_by_hand(phase: Phase) -> Result<Phase, SqlFault> {
    match phase {
        Phase::SourceOnly => {
            let message = "source_only is the first phase: there is nothing to go back to";
            Err(refused(Reason::RefusedFirstPhase, message, "`segue phase advance` goes on"))
        }
        Phase::DualWrite => Ok(Phase::SourceOnly),
        Phase::ShadowRead => Ok(Phase::DualWrite),
        Phase::Shift => Ok(Phase::ShadowRead),
        Phase::Cutover | Phase::Reversed => {
            let message = format!("the way back from {phase} is a cutover of its own");
            Err(refused(Reason::RefusedOwnCommand, message, "run `segue rollback`"))
        }
        Phase::TargetOnly => {
            let message = "target_only cannot be undone: the source is not kept current any more";
            Err(refused(Reason::RefusedLastPhase, message, "a way back would be a new migration"))
        }
    }
}

/// A step that will not be made, and the way out.
pub(super) fn refused(reason: Reason, message: impl Into<String>, hint: &str) -> SqlFault {
    SqlFault::new(FaultKind::Precondition, reason, message).with_hint(hint)
}
