//! The role that callers' statements run as, where it is not segue's own.

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::config::Config;
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::postgres::schema::{self, Permission};
use crate::postgres::session::settings::Purpose;

/// A role that callers' statements run as on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its name, as the server tells it.
    pub role: String,
    /// Something had to be granted.
    pub granted: bool,
}

/// Sees to it that the role of callers' statements may call what its sessions need of segue's
/// schema. Nothing where segue's own role runs them.
///
/// # Errors
///
/// [`AppError`] where the role cannot log in, or where it lacks something that may not be granted.
pub async fn admit(
    config: &Config,
    databases: &Databases,
    side: Side,
    permission: Permission,
) -> Result<Option<Admitted>, AppError> {
    let Some(login) = &config.database(side).application else { return Ok(None) };
    let role = role_of_callers(databases, side).await.map_err(|fault| {
        let hint = format!("callers' statements run as {}: see {side}.application", login.user);
        fault.with_hint(hint)
    })?;
    let own = databases.own().of(side).get().await?;
    let granted = schema::admit_callers(own.driver(), side, &role, permission).await?;
    Ok(Some(Admitted { role, granted }))
}

/// A role may begin as another one, by a setting of its own (`ALTER ROLE … SET role`).
async fn role_of_callers(databases: &Databases, side: Side) -> Result<String, SqlFault> {
    // Until it is admitted it may not ask whose database this is, as sessions of callers do.
    let connector = databases.samples(side).connector().unheld();
    let session = connector.connect(Purpose::Read).await?;
    let row = session.repeatable().query_one("SELECT current_user::text", &[]).await;
    row.and_then(|row| row.try_get(0))
}

/// The same at a start, where what is missing keeps nobody from what he can do without it: a role
/// that cannot log in now may do so later, and its callers are told until then.
///
/// # Errors
///
/// [`AppError`] where the role lacks something that may not be granted.
pub(in crate::app) async fn at_start(
    config: &Config,
    databases: &Databases,
    side: Side,
    permission: Permission,
) -> Result<(), AppError> {
    match admit(config, databases, side, permission).await {
        Ok(None) => {
            tracing::warn!(
                %side,
                "callers' statements run as segue's own role: row security does not apply to them, \
                 and they may change segue's tables; set application to a login of its own"
            );
        }
        Ok(Some(Admitted { role, granted })) => {
            tracing::info!(%side, role, granted, "callers' statements run as a role of their own");
        }
        Err(AppError::Database(fault)) => {
            tracing::error!(%side, %fault, hint = fault.hint, "callers' statements cannot be run yet");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
