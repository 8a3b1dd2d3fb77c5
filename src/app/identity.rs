//! Whether both databases of the configuration are the two sides of one migration, and how they
//! become that.

use std::time::Duration;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::config::Config;
use crate::domain::control::Phase;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::{Side, Sides};
use crate::postgres::identity::{self, Found, Identity};

/// What both sides say, as far as they could be asked; nothing where a database carries no
/// identity.
type Read = Sides<Result<Option<Found>, SqlFault>>;

/// When one side has said who both are, the other is waited for no longer than this: whatever is
/// opened there later is held against it.
const SECOND_WAIT: Duration = Duration::from_secs(2);

/// Looks whether both databases are the two sides of one migration. From then on every session that
/// is opened is held against that. A side that is away is looked at when it comes back.
///
/// # Errors
///
/// [`AppError`]: they are not, or no `segue init` has made them that; or neither can be asked.
pub(super) async fn established(
    config: &Config,
    databases: &Databases,
) -> Result<Identity, AppError> {
    let read = read(databases).await;
    let names = Names { config };
    let identity = names.agreed(&read)?;
    databases.expect(&identity);
    Ok(identity)
}

/// Makes both databases the two sides of a new migration, or goes on where that was interrupted.
/// Segue's tables must be there. `before` is what [`may_establish`] has found.
///
/// If we crash between the two, the source says that the target has not taken it up, and the next
/// one goes on with the same ids.
///
/// # Errors
///
/// Whatever a database says.
pub(crate) async fn establish(
    databases: &Databases,
    before: Option<Identity>,
) -> Result<(), AppError> {
    let wanted = before.unwrap_or_default();
    let own = databases.own();
    let source = own.source.get().await?;
    identity::write(&source, &wanted, false).await?;
    // Another init may have been faster.
    let Some(found) = identity::read(&source).await? else { return Ok(()) };
    let wanted = found.identity;
    let target = own.target.get().await?;
    identity::write(&target, &wanted, true).await?;
    match identity::read(&target).await? {
        Some(found) if found.identity == wanted => {}
        _ => return Err(other_migration(Side::Target, "another init was faster")),
    }
    identity::pair(&source, &wanted).await?;
    drop((source, target));
    databases.expect(&wanted);
    Ok(())
}

/// Whether `segue init` may work on both databases: nothing is written before. Answers the ids that
/// an init has begun with that was interrupted, or that stand.
///
/// # Errors
///
/// [`AppError`] where they are not of one migration.
pub(crate) async fn may_establish(
    config: &Config,
    databases: &Databases,
) -> Result<Option<Identity>, AppError> {
    let own = databases.own();
    let on = async |side: Side| -> Result<Option<Found>, SqlFault> {
        let session = own.of(side).get().await?;
        identity::read(&session).await
    };
    let (source, target) = (on(Side::Source).await?, on(Side::Target).await?);
    let names = Names { config };
    match (source, target) {
        (None, None) => Ok(None),
        (Some(source), None) if !source.paired && source.side == Side::Source => {
            Ok(Some(source.identity))
        }
        (Some(source), Some(target))
            if source.identity == target.identity
                && source.side == Side::Source
                && target.side == Side::Target =>
        {
            Ok(Some(source.identity))
        }
        (source, target) => Err(names.refusal(source.as_ref(), target.as_ref())),
    }
}

/// Gives the source another target, whose copy begins anew. The target that it had is left as it
/// is; members whose configuration names it are refused from then on.
///
/// If we crash in it, the next `segue adopt target` goes on.
///
/// # Errors
///
/// [`AppError`]: the phase relies on the present target, sidecars are there that work by it, or the
/// database belongs to a migration already.
pub(crate) async fn may_adopt(
    config: &Config,
    databases: &Databases,
) -> Result<Option<Identity>, AppError> {
    let own = databases.own();
    let source = own.source.get().await?;
    let names = Names { config };
    let Some(found) = identity::read(&source).await?.filter(|it| it.side == Side::Source) else {
        return Err(names.refusal(None, None));
    };
    let session = own.target.get().await?;
    let target = identity::read(&session).await?;
    drop(session);
    if let Some(target) = target {
        if target.identity == found.identity && target.side == Side::Target {
            return Ok(None);
        }
        return Err(other_migration(
            Side::Target,
            &format!(
                "{} is {target}; drop its schema segue first, if nobody needs it",
                names.of(Side::Target)
            ),
        ));
    }
    let (phase, members) = identity::in_use(&source).await?;
    if !matches!(phase, Phase::SourceOnly | Phase::DualWrite) {
        let message = format!("the phase is {phase}, which relies on the target that there is");
        let fault = SqlFault::new(FaultKind::Refused, "refused.adopt", message);
        return Err(fault
            .with_hint("discard its copy first: segue init --phase source_only")
            .into());
    }
    if !members.is_empty() {
        let message = format!("sidecars work by the target that there is: {members}");
        let fault = SqlFault::new(FaultKind::Refused, "refused.adopt", message);
        return Err(fault.with_hint("stop them, and start them with the new target").into());
    }
    let identity = match found.paired {
        true => {
            let sides =
                Sides { source: found.identity.sides.source, target: Identity::new().sides.target };
            Identity { sides, ..found.identity }
        }
        // An adoption that was interrupted.
        false => found.identity,
    };
    Ok(Some(identity))
}

/// Writes what [`may_adopt`] has allowed. Segue's tables must be on the target.
///
/// # Errors
///
/// Whatever a database says.
pub(crate) async fn adopt(
    databases: &Databases,
    identity: &Identity,
    (by, reason): (&str, &str),
) -> Result<(), AppError> {
    let source = databases.own().source.get().await?;
    identity::adopt(&source, identity, by, reason).await?;
    drop(source);
    establish(databases, Some(*identity)).await
}

/// Asks both at once. The one that answers second may be away.
async fn read(databases: &Databases) -> Read {
    let own = databases.own();
    let ask = async |side: Side| -> Result<Option<Found>, SqlFault> {
        let session = own.of(side).get().await?;
        identity::read(&session).await
    };
    let (mut source, mut target) = (Box::pin(ask(Side::Source)), Box::pin(ask(Side::Target)));
    tokio::select! {
        first = &mut source => {
            let second = within(Side::Target, &first, target).await;
            Sides { source: first, target: second }
        }
        first = &mut target => {
            let second = within(Side::Source, &first, source).await;
            Sides { source: second, target: first }
        }
    }
}

/// The second answer. Where the first one told nothing, it is needed.
async fn within(
    side: Side,
    first: &Result<Option<Found>, SqlFault>,
    second: impl Future<Output = Result<Option<Found>, SqlFault>>,
) -> Result<Option<Found>, SqlFault> {
    if !matches!(first, Ok(Some(_))) {
        return second.await;
    }
    match tokio::time::timeout(SECOND_WAIT, second).await {
        Ok(second) => second,
        Err(_) => {
            let message = "it does not answer; it is looked at when it does";
            Err(SqlFault::new(FaultKind::Unavailable, "identity.away", message).on(side))
        }
    }
}

/// The two databases as the configuration names them.
struct Names<'a> {
    config: &'a Config,
}

// === impl Names ===

impl Names<'_> {
    fn of(&self, side: Side) -> String {
        let database = self.config.database(side);
        let hosts: Vec<String> =
            database.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("{side} {}/{}", hosts.join(","), database.dbname)
    }

    /// What both say, where they agree, or one says where the other is away.
    fn agreed(&self, read: &Read) -> Result<Identity, AppError> {
        match (&read.source, &read.target) {
            (Err(fault), Err(_)) => Err(fault.clone().into()),
            // A way to a database that is wrong is not one that is away.
            (Err(fault), _) | (_, Err(fault)) if fault.kind == FaultKind::Refused => {
                Err(fault.clone().into())
            }
            (Ok(source), Ok(target)) => match (source, target) {
                (Some(source), Some(target))
                    if source.identity == target.identity
                        && (source.side, target.side) == (Side::Source, Side::Target)
                        && source.paired =>
                {
                    Ok(source.identity)
                }
                _ => Err(self.refusal(source.as_ref(), target.as_ref())),
            },
            (Ok(Some(found)), Err(fault)) | (Err(fault), Ok(Some(found))) => {
                let (asked, away) = match read.source {
                    Ok(_) => (Side::Source, Side::Target),
                    Err(_) => (Side::Target, Side::Source),
                };
                if found.side != asked || !found.paired {
                    return Err(self.one_sided(found, asked));
                }
                tracing::warn!(side = %away, %fault, "whose side it is could not be looked at yet");
                Ok(found.identity)
            }
            (Ok(None), Err(_)) => Err(self.refusal(None, None)),
            (Err(_), Ok(None)) => Err(self.refusal(None, None)),
        }
    }

    fn one_sided(&self, found: &Found, asked: Side) -> AppError {
        let (source, target) = match asked {
            Side::Source => (Some(found), None),
            Side::Target => (None, Some(found)),
        };
        self.refusal(source, target)
    }

    /// Why they are not the two sides of one migration, with both names and the way out.
    fn refusal(&self, source: Option<&Found>, target: Option<&Found>) -> AppError {
        let told = |side: Side, found: Option<&Found>| match found {
            Some(found) if found.system.is_empty() => format!("{} is {found}", self.of(side)),
            Some(found) => format!("{} is {found} ({})", self.of(side), found.system),
            None => format!("{} carries no identity of a migration", self.of(side)),
        };
        let both = format!("{}, and {}", told(Side::Source, source), told(Side::Target, target));
        let (message, hint) = match (source, target) {
            (None, None) => {
                (format!("no migration has been set up: {both}"), "run segue init".to_owned())
            }
            (Some(source), None) if !source.paired => (
                format!("setting up the migration was interrupted: {both}"),
                "run segue init again, or segue adopt target where that was begun".to_owned(),
            ),
            _ => (
                format!("these are not the two sides of one migration: {both}"),
                "correct source.dsn or target.dsn; where the target is a new one on purpose: \
                 segue adopt target --reason"
                    .to_owned(),
            ),
        };
        SqlFault::new(FaultKind::Refused, "refused.identity", message).with_hint(hint).into()
    }
}

fn other_migration(side: Side, why: &str) -> AppError {
    let message = format!("the {side} belongs to a migration already: {why}");
    SqlFault::new(FaultKind::Refused, "refused.identity", message)
        .with_hint("see segue init and segue adopt target")
        .on(side)
        .into()
}
