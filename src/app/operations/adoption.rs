//! `segue adopt`: what segue does not do by itself, since something is given up by it.

use uuid::Uuid;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::identity::{self, Asking, refused};
use crate::app::operations::setup;
use crate::config::Config;
use crate::control::change::bring_up;
use crate::control::{PhaseChange, read_once};
use crate::domain::control::Phase;
use crate::domain::identity::{Asked, Found, Identity, Place, Seen, Standing};
use crate::domain::side::{Side, Sides};
use crate::ports::control::ControlStore;
use crate::postgres::control::ControlTable;
use crate::postgres::identity as table;
use crate::postgres::identity::adopt::{self, Told};
use crate::postgres::identity::generation;
use crate::postgres::schema::Permission;

/// Who asks, and why.
#[derive(Debug, Clone)]
pub struct Because {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Another target, found fit to be adopted.
#[derive(Debug, Clone)]
pub struct NewTarget {
    identity: Identity,
    phase: Phase,
    /// As the configuration names it.
    pub name: String,
}

/// Whether the database that the configuration names may become the target. Nothing is written.
/// `None` where it is that already.
///
/// # Errors
///
/// [`AppError`]: the target that there is cannot be given up, sidecars work by it, or the database
/// belongs to another migration.
pub async fn new_target(config: &Config) -> Result<Option<NewTarget>, AppError> {
    let Asking { standing, seen } = identity::ask(config, Asked::ToSetUp).await?;
    if matches!(standing, Standing::Agreed(_)) {
        return Ok(None);
    }
    let names = identity::names(config);
    let (Some(source), Some(target)) = (&seen.source, &seen.target) else {
        return Err(refused("both databases are needed".to_owned(), "start both".to_owned()));
    };
    let Some(found) = source.found.as_ref().filter(|it| it.side == Side::Source) else {
        let message = format!("{} is not the source of a migration", names.source);
        return Err(refused(message, "correct source.dsn, or run segue init".to_owned()));
    };
    fits(found, target, &names)?;
    let phase = source.control.map_or(Phase::SourceOnly, |(_, phase)| phase);
    if !adopt::may_lose_target(phase) {
        let message = format!("the phase is {phase}, in which the target is the primary");
        return Err(refused(message, "correct target.dsn; go back by segue rollback".to_owned()));
    }
    let databases = Databases::open(config)?;
    let session = databases.own().source.get().await?;
    let members = adopt::members(&session).await?;
    if !members.is_empty() {
        let message = format!("sidecars work by the target that there is: {members}");
        return Err(refused(message, "stop them, and start them with the new target".to_owned()));
    }
    let sides = match found.paired {
        true => Sides { source: found.identity.sides.source, target: Uuid::new_v4() },
        // An adoption that was interrupted.
        false => found.identity.sides,
    };
    let identity = Identity { sides, ..found.identity };
    Ok(Some(NewTarget { identity, phase, name: names.target }))
}

/// A database of no migration fits, and a copy of the target that there is.
fn fits(source: &Found, target: &Seen, names: &Sides<String>) -> Result<(), AppError> {
    let Some(found) = &target.found else { return Ok(()) };
    let is_copy = found.identity == source.identity && found.side == Side::Target;
    if is_copy || (found.identity.migration == source.identity.migration && !source.paired) {
        return Ok(());
    }
    let message = format!("{} belongs to a migration already: it is {found}", names.target);
    let hint = "correct target.dsn; if what is there is not needed, drop its schema segue first";
    Err(refused(message, hint.to_owned()))
}

/// Makes it the target, whose copy begins again. The target that there was is left as it is;
/// sidecars whose configuration names it are refused from then on.
///
/// If we crash in it, no sidecar starts, or none with the new target, and the next
/// `segue adopt target` goes on.
///
/// # Errors
///
/// Whatever a database says.
pub async fn adopt_target(
    config: &Config,
    new: &NewTarget,
    because: &Because,
) -> Result<Phase, AppError> {
    let databases = Databases::open(config)?;
    setup::migrate(&databases, Permission::Change).await?;
    let own = databases.own();
    let reason = format!("{} was adopted as the target: {}", new.name, because.reason);
    // What is left there may name the target the primary.
    adopt::clear(&*own.target.get().await?).await?;
    let phase = if new.phase.captures() { Phase::DualWrite } else { Phase::SourceOnly };
    let change = PhaseChange { phase, reason: reason.clone(), changed_by: because.by.clone() };
    setup::change_phase(&databases, &change).await?;
    let told = Told { by: &because.by, reason: &reason, forced: true };
    adopt::rename_target(&*own.source.get().await?, &new.identity, told).await?;
    identity::establish(&databases, Some(new.identity)).await?;
    Ok(phase)
}

/// A primary that went back in time, or is elsewhere than it was.
#[derive(Debug, Clone)]
pub struct OldPrimary {
    side: Side,
    here: Place,
    generation: i64,
    /// What segue found wrong with it.
    pub found: String,
}

/// Whether the primary is one that an operator has to say something of. Nothing is written. `None`
/// where there is nothing wrong with it.
///
/// # Errors
///
/// [`AppError`]: something else is wrong, or a side is away.
pub async fn old_primary(config: &Config) -> Result<Option<OldPrimary>, AppError> {
    let Asking { standing, seen } = identity::ask(config, Asked::ToSetUp).await?;
    let Standing::Refused { message, hint } = standing else { return Ok(None) };
    let of = |side: Side| {
        let seen = seen.of(side).as_ref()?;
        Some((seen, seen.found.as_ref()?))
    };
    let (Some(source), Some(target)) = (of(Side::Source), of(Side::Target)) else {
        return Err(refused(message, hint));
    };
    let side = match (source.0.control, target.0.control) {
        (Some(one), Some(other)) if other.0 > one.0 => other.1.primary(),
        (Some(one), _) => one.1.primary(),
        (None, _) => Side::Source,
    };
    let (primary, shadow) = if side == Side::Source { (source, target) } else { (target, source) };
    let is_pair = source.1.identity == target.1.identity && source.1.side == Side::Source;
    let in_place = |(seen, found): (&Seen, &Found)| found.written_at.agrees(&seen.here);
    let is_old = primary.1.generation < shadow.1.other_generation || !in_place(primary);
    if !is_pair || !source.1.paired || !in_place(shadow) || !is_old {
        return Err(refused(message, hint));
    }
    let generation = primary.1.generation.max(shadow.1.other_generation) + 1;
    Ok(Some(OldPrimary { side, here: primary.0.here.clone(), generation, found: message }))
}

/// Goes on with it: everything that it has is reconciled to the other side, so that what it lost
/// goes there as well, and nothing is proven any more.
///
/// If we crash in it, no sidecar is let in yet, and the next `segue adopt primary` begins again.
///
/// # Errors
///
/// Whatever a database says.
pub async fn adopt_primary(
    config: &Config,
    old: &OldPrimary,
    because: &Because,
) -> Result<Phase, AppError> {
    let databases = Databases::open(config)?;
    setup::migrate(&databases, Permission::Change).await?;
    // Its control row may be an older one as well, and epochs only rise.
    let store = ControlTable::new(databases.own());
    let row = newest(&store).await?;
    bring_up(&store, old.side, &row).await?;
    let phase = row.state.phase;
    let by = because.by.clone();
    let reason = format!("the {} was gone on with as it is: {}", old.side, because.reason);
    let back = if phase.shifts() { Phase::ShadowRead } else { phase };
    let change = PhaseChange { phase: back, reason: reason.clone(), changed_by: by };
    setup::change_phase(&databases, &change).await?;
    let session = databases.own().of(old.side).get().await?;
    let told = Told { by: &because.by, reason: &reason, forced: true };
    if back.captures() {
        generation::again(&session, Uuid::new_v4(), told).await?;
    } else {
        adopt::note(&session, Uuid::new_v4(), told).await?;
    }
    table::adopt::take_as_it_is(&session, &old.here, old.generation).await?;
    Ok(back)
}

/// The control row of the higher version, whichever side has it.
async fn newest(store: &ControlTable) -> Result<crate::domain::control::ControlRow, AppError> {
    let (source, target) = (store.read(Side::Source).await?, store.read(Side::Target).await?);
    match (source, target) {
        (Some(one), Some(other)) => Ok(if other.version() > one.version() { other } else { one }),
        _ => Ok(read_once(store).await?),
    }
}
