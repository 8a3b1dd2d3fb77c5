//! What is set for segue's role or the database, and how many sessions it may open.

use crate::domain::side::Side;
use crate::domain::table::quote_identifier;
use crate::preflight::codes::Code;
use crate::preflight::describe::Catalogue;
use crate::preflight::finding::Finding;
use crate::preflight::limits::{HARMFUL, RoleSetting};

pub(super) fn one(side: Side, catalogue: &Catalogue, found: &mut Vec<Finding>) {
    found.extend(catalogue.role.settings.iter().filter_map(|it| setting(side, catalogue, it)));
    sessions(side, catalogue, found);
}

fn setting(side: Side, catalogue: &Catalogue, it: &RoleSetting) -> Option<Finding> {
    let RoleSetting { name, value, place, overridden_by } = it;
    if let Some(own) = overridden_by {
        let text = format!("{value:?} for {place}; segue's sessions have {own:?}");
        return Some(Finding::new(Code::RoleSetting, side, text).object(name));
    }
    let (_, harmless) = HARMFUL.iter().find(|(harmful, _)| harmful == name)?;
    if value == harmless {
        return None;
    }
    let (role, database) = (&catalogue.role.name, &catalogue.server.database);
    let sql = format!(
        "ALTER ROLE {} IN DATABASE {} SET {name} = {harmless}",
        quote_identifier(role),
        quote_identifier(database)
    );
    let text = format!("{value:?} for {place}, and segue's sessions keep it");
    Some(Finding::new(Code::RoleSettingKept, side, text).object(name).sql(sql))
}

fn sessions(side: Side, catalogue: &Catalogue, found: &mut Vec<Finding>) {
    let (role, database) = (&catalogue.role.name, &catalogue.server.database);
    let sessions = &catalogue.role.sessions;
    let limits = [
        ("role", role, sessions.role_max, sessions.of_role),
        ("database", database, sessions.database_max, sessions.of_sidecar),
    ];
    for (kind, name, max, wanted) in limits {
        let Some(max) = max.filter(|max| (*max as usize) < wanted) else { continue };
        let text = format!(
            "{kind} {name} lets in {max} sessions, and one sidecar may open {wanted}; each more \
             needs as many"
        );
        let of = format!("{} {}", kind.to_uppercase(), quote_identifier(name));
        let sql = format!("ALTER {of} CONNECTION LIMIT -1");
        let finding = Finding::new(Code::RoleSessions, side, text);
        found.push(finding.object(format!("connection limit of the {kind}")).sql(sql));
    }
}
