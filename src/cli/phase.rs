//! Sets the phase of a single sidecar's migration, until phases come with their gates.

use anyhow::{Result, bail};

use crate::domain::control::Phase;
use crate::postgres::session::Session;

const READ: &str = "SELECT epoch, phase FROM segue.control WHERE id = 1";
const SET: &str = "UPDATE segue.control SET epoch = $1, phase = $2, reason = 'segue init', \
     changed_by = SESSION_USER::text, changed_at = pg_catalog.clock_timestamp() \
     WHERE id = 1 AND epoch = $3";

/// Sets it on both sides and answers the new epoch, which is above both earlier ones.
///
/// The source's row is set first, since it is the one that counts. If we crash before the
/// target's, the target has a lower epoch, which the next change passes.
pub(super) async fn set(source: &Session, target: &Session, phase: Phase) -> Result<i64> {
    let (on_source, on_target) = (read(source).await?, read(target).await?);
    let current: Option<Phase> = on_source.1.parse().ok();
    if on_source == on_target && current == Some(phase) {
        return Ok(on_source.0);
    }
    if !matches!(current, Some(Phase::SourceOnly | Phase::DualWrite | Phase::ShadowRead)) {
        bail!("the migration is in phase {}, which init does not leave", on_source.1);
    }
    let epoch = on_source.0.max(on_target.0) + 1;
    for (session, earlier) in [(source, on_source.0), (target, on_target.0)] {
        let changed = session.execute(SET, &[&epoch, &phase.as_str(), &earlier]).await?;
        if changed != 1 {
            bail!("somebody else changed the phase at this moment; look at it and try again");
        }
    }
    Ok(epoch)
}

async fn read(session: &Session) -> Result<(i64, String)> {
    let row = session.query_one(READ, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
