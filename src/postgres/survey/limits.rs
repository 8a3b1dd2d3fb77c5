//! What is set for segue's role or its database, and how many sessions they may have.

use crate::domain::fault::SqlFault;
use crate::postgres::survey::ask::Asker;
use crate::preflight::harmful_settings;
use crate::preflight::limits::{RoleSetting, Sessions};

/// Settings of the role and of the database, each once, as the server goes by them: those of the
/// role in the database come before those of the role, and these before the database's. Only what
/// segue's own session does not have, and what harms it. The transaction that asks has a search
/// path of its own, and what commits are is judged by itself.
const SETTINGS: &str = "
SELECT DISTINCT ON (s.name) s.name,
    pg_catalog.substr(c.entry, pg_catalog.strpos(c.entry, '=') + 1),
    pg_catalog.concat_ws(' in ',
        'role ' || pg_catalog.quote_ident(CASE r.setrole WHEN me.oid THEN me.rolname END),
        'database ' || pg_catalog.quote_ident(CASE r.setdatabase WHEN d.oid THEN d.datname END),
        CASE WHEN r.setrole = 0 AND r.setdatabase = 0 THEN 'all roles' END),
    CASE WHEN s.setting <> s.reset_val THEN pg_catalog.current_setting(s.name) END
FROM pg_catalog.pg_db_role_setting AS r
JOIN pg_catalog.pg_roles AS me ON me.rolname = session_user
JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database()
CROSS JOIN LATERAL pg_catalog.unnest(r.setconfig) AS c(entry)
JOIN pg_catalog.pg_settings AS s
    ON pg_catalog.lower(s.name) = pg_catalog.lower(pg_catalog.split_part(c.entry, '=', 1))
WHERE r.setrole IN (0, me.oid) AND r.setdatabase IN (0, d.oid) AND s.name NOT IN ('search_path', 'synchronous_commit')
ORDER BY s.name, r.setrole = 0, r.setdatabase = 0";

/// A limit of -1 is none, and a superuser is let in whatever there is.
const SESSIONS: &str = "
SELECT CASE WHEN me.rolconnlimit >= 0 AND NOT me.rolsuper THEN me.rolconnlimit END,
    CASE WHEN d.datconnlimit >= 0 AND NOT me.rolsuper THEN d.datconnlimit END
FROM pg_catalog.pg_roles AS me, pg_catalog.pg_database AS d
WHERE me.rolname = session_user AND d.datname = pg_catalog.current_database()";

/// What differs from it in segue's sessions, or harms them.
pub(super) async fn settings(asker: &mut Asker<'_>) -> Result<Vec<RoleSetting>, SqlFault> {
    if !asker.lease().dialect().tells_limits_of_roles() {
        return Ok(Vec::new());
    }
    let question = "settings of the role and the database (pg_db_role_setting)";
    let mut found = Vec::new();
    for row in asker.rows(question, SETTINGS, &[]).await? {
        let read = || -> Result<RoleSetting, SqlFault> {
            Ok(RoleSetting {
                name: row.try_get(0)?,
                value: row.try_get(1)?,
                place: row.try_get(2)?,
                overridden_by: row.try_get(3)?,
            })
        };
        let setting = read()?;
        let harms = harmful_settings().any(|name| name == setting.name);
        if harms || setting.overridden_by.is_some() {
            found.push(setting);
        }
    }
    Ok(found)
}

/// How many there may be, beside how many one sidecar may open: as segue's role, and in all.
pub(super) async fn sessions(
    asker: &mut Asker<'_>,
    (of_role, of_sidecar): (usize, usize),
) -> Result<Sessions, SqlFault> {
    let mut sessions = Sessions { of_role, of_sidecar, ..Sessions::default() };
    if !asker.lease().dialect().tells_limits_of_roles() {
        return Ok(sessions);
    }
    let rows = asker.rows("limits on connections (pg_roles)", SESSIONS, &[]).await?;
    if let Some(row) = rows.first() {
        let max = |index| -> Result<Option<u32>, SqlFault> {
            Ok(row.try_get::<_, Option<i32>>(index)?.and_then(|max| u32::try_from(max).ok()))
        };
        sessions.role_max = max(0)?;
        sessions.database_max = max(1)?;
    }
    Ok(sessions)
}
