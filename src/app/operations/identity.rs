//! Whether both databases of the configuration are the two sides of one migration, and how they
//! become that.

use std::time::Duration;

use uuid::Uuid;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::setup;
use crate::config::Config;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::identity::{Asked, Identity, Seen, Standing, judge};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::postgres::identity;
use crate::postgres::identity::adopt::{Told, note};
use crate::postgres::schema::{self, Migrated, Permission};

/// What was found on each side, as far as it could be asked.
type Read = Sides<Result<Seen, SqlFault>>;

/// When one side has said who both are, the other is waited for no longer than this: whatever is
/// opened there later is held against it.
const SECOND_WAIT: Duration = Duration::from_secs(1);

/// What was found out, with nothing written.
pub(crate) struct Asking {
    /// What the databases are to each other.
    pub(crate) standing: Standing,
    /// What each of them said; nothing of one that is away.
    pub(crate) seen: Sides<Option<Seen>>,
}

/// Asks both databases who they are, on sessions of its own: those of `databases` are opened when
/// it is known whom they must be with.
///
/// # Errors
///
/// Neither can be asked, or a way to one of them is wrong. For an operator both must be there.
pub(crate) async fn ask(config: &Config, asked: Asked) -> Result<Asking, AppError> {
    let read = Box::pin(read(&Databases::open(config)?, asked)).await;
    for side in [Side::Source, Side::Target] {
        let (Err(fault), there) = (read.of(side), read.of(side.other())) else { continue };
        let tells = |seen: &Seen| seen.found.is_some() || seen.names_itself(side.other());
        // Waiting does not help where the way to a database is wrong.
        let is_away = fault.kind == FaultKind::Unavailable;
        if asked == Asked::ToSetUp || !is_away || !there.as_ref().is_ok_and(tells) {
            return Err(fault.clone().into());
        }
        tracing::warn!(%side, %fault, "whose side it is will be looked at when it is back");
    }
    let seen = Sides { source: read.source.ok(), target: read.target.ok() };
    let standing = judge(&names(config), &seen, asked);
    Ok(Asking { standing, seen })
}

/// Looks whether both databases are the two sides of one migration. From then on every session of
/// `databases` is held against that, which is answered. Two that belong to no migration yet, or were
/// set up by a segue that wrote no identities, become one's sides, if segue's tables may be changed.
/// `None` where that must wait for a shadow that is away.
///
/// # Errors
///
/// [`AppError`]: they are not, or neither can be asked.
pub(in crate::app) async fn established(
    config: &Config,
    databases: &Databases,
    permission: Permission,
) -> Result<Option<Identity>, AppError> {
    let Asking { standing, seen } = ask(config, Asked::ToGoOn).await?;
    match standing {
        Standing::Agreed(identity) => {
            databases.expect(&identity);
            for side in [Side::Source, Side::Target] {
                // Of one that is away the other one tells.
                let other = seen.of(side.other()).as_ref().and_then(|seen| seen.found.as_ref());
                let known = other.map_or(0, |found| found.other_generation);
                databases.expect_generation(side, known);
            }
            Ok(Some(identity))
        }
        Standing::TakeOn { begun, earlier } => {
            may_change(&seen, permission)?;
            take_on(config, databases, begun, earlier).await.map(|(identity, _)| Some(identity))
        }
        Standing::NotYet => Ok(None),
        Standing::Refused { message, hint } => Err(refused(message, hint)),
    }
}

/// The same for an operator who sets the migration up; answers what was done to segue's tables.
///
/// If we crash here, whatever was done stands, and the next one goes on from there.
///
/// # Errors
///
/// [`AppError`]: they belong to another migration, or a side is away. Nothing is written then.
pub(crate) async fn set_up(
    config: &Config,
    databases: &Databases,
) -> Result<Sides<Migrated>, AppError> {
    let (begun, earlier) = match ask(config, Asked::ToSetUp).await?.standing {
        Standing::Agreed(identity) => (Some(identity), false),
        Standing::TakeOn { begun, earlier } => (begun, earlier),
        Standing::NotYet => (None, false),
        Standing::Refused { message, hint } => return Err(refused(message, hint)),
    };
    take_on(config, databases, begun, earlier).await.map(|(_, migrated)| migrated)
}

/// Whether a command may change what is of segue in these databases. Nothing is written.
///
/// # Errors
///
/// [`AppError`]: they are not the two sides of one migration, or one of them is away.
pub(crate) async fn may_work(config: &Config) -> Result<(), AppError> {
    match ask(config, Asked::ToSetUp).await?.standing {
        Standing::Refused { message, hint } => Err(refused(message, hint)),
        Standing::Agreed(_) | Standing::TakeOn { .. } | Standing::NotYet => Ok(()),
    }
}

fn may_change(seen: &Sides<Option<Seen>>, permission: Permission) -> Result<(), AppError> {
    let needed = schema::version_needed();
    for side in [Side::Source, Side::Target] {
        let found = seen.of(side).as_ref().map_or(0, |seen| seen.version);
        if permission == Permission::Look && found < needed {
            return Err(AppError::NotSetUp { side, found, needed });
        }
    }
    Ok(())
}

/// Makes both databases the two sides of a migration, in words where an earlier segue set it up.
async fn take_on(
    config: &Config,
    databases: &Databases,
    begun: Option<Identity>,
    earlier: bool,
) -> Result<(Identity, Sides<Migrated>), AppError> {
    let migrated = setup::migrate(databases, Permission::Change).await?;
    let identity = establish(databases, begun).await?;
    if earlier {
        let names = names(config);
        let reason = format!(
            "an earlier segue wrote no identities: taken on were {} and {}, as the two sides of \
             migration {}",
            names.source, names.target, identity.migration
        );
        tracing::warn!("{reason}");
        let source = databases.own().source.get().await?;
        let told = Told { by: "segue", reason: &reason, forced: false };
        note(&source, identity.migration, told).await?;
    }
    Ok((identity, migrated))
}

/// Makes both databases the two sides of a new migration, or goes on where that was interrupted.
/// Segue's tables must be there.
///
/// If we crash between the two, the source says that the target has not taken it up, and the next
/// one goes on with the same ids.
///
/// # Errors
///
/// Whatever a database says.
pub(crate) async fn establish(
    databases: &Databases,
    begun: Option<Identity>,
) -> Result<Identity, AppError> {
    let new = || Identity {
        migration: Uuid::new_v4(),
        sides: Sides { source: Uuid::new_v4(), target: Uuid::new_v4() },
    };
    let wanted = begun.unwrap_or_else(new);
    let own = databases.own();
    let source = own.source.get().await?;
    identity::write(&source, &wanted, false).await?;
    // Another one may have been faster.
    let Some(found) = identity::read(&source).await? else {
        return Err(faster(Side::Source));
    };
    let wanted = found.identity;
    let target = own.target.get().await?;
    identity::write(&target, &wanted, true).await?;
    match identity::read(&target).await? {
        Some(found) if found.identity == wanted => {}
        _ => return Err(faster(Side::Target)),
    }
    identity::pair(&source, &wanted).await?;
    drop((source, target));
    databases.expect(&wanted);
    Ok(wanted)
}

fn faster(side: Side) -> AppError {
    let message = "another segue set it up at the same time, and as a side of another migration";
    SqlFault::new(FaultKind::Refused, Reason::RefusedIdentity, message)
        .with_hint("see which configuration names it as well")
        .on(side)
        .into()
}

pub(crate) fn refused(message: String, hint: String) -> AppError {
    SqlFault::new(FaultKind::Refused, Reason::RefusedIdentity, message).with_hint(hint).into()
}

/// Asks both at once. The one that answers second may be away.
async fn read(databases: &Databases, asked: Asked) -> Read {
    let own = databases.own();
    let ask = async |side: Side| -> Result<Seen, SqlFault> {
        let session = own.of(side).get().await?;
        identity::seen(&session).await
    };
    if asked == Asked::ToSetUp {
        let (source, target) = tokio::join!(ask(Side::Source), ask(Side::Target));
        return Sides { source, target };
    }
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

/// The second answer. Where the first one is not of the primary by its own row, it is needed.
async fn within(
    side: Side,
    first: &Result<Seen, SqlFault>,
    second: impl Future<Output = Result<Seen, SqlFault>>,
) -> Result<Seen, SqlFault> {
    let tells = first.as_ref().is_ok_and(|seen| seen.names_itself(side.other()));
    if !tells {
        return second.await;
    }
    match tokio::time::timeout(SECOND_WAIT, second).await {
        Ok(second) => second,
        Err(_) => {
            let message = format!("no answer within {SECOND_WAIT:?}, and nothing waits for it now");
            Err(SqlFault::new(FaultKind::Unavailable, Reason::UnavailableShadow, message).on(side))
        }
    }
}

/// The two databases as the configuration names them.
pub(crate) fn names(config: &Config) -> Sides<String> {
    let of = |side: Side| {
        let database = config.database(side);
        format!("{side} {}/{}", database.dsn.places(), database.dsn.database)
    };
    Sides { source: of(Side::Source), target: of(Side::Target) }
}
