//! What callers' statements run as.

use crate::domain::side::Side;
use crate::domain::table::quote_identifier;
use crate::preflight::codes::Code;
use crate::preflight::describe::{Callers, Pair, World};
use crate::preflight::finding::Finding;
use crate::preflight::rules::BOTH;

pub(super) fn all(world: &World, found: &mut Vec<Finding>) {
    for side in BOTH {
        role(side, &world.side(side).callers, found);
        for (name, grants) in &world.side(side).capture_lacks {
            let text =
                format!("role {name} may write to tables of the migration, but not to the outbox");
            let finding = Finding::new(Code::CaptureInvoker, side, text).object(name);
            found.push(grants.iter().fold(finding, |finding, sql| finding.sql(sql.as_str())));
        }
    }
    for (side, facts) in world.each() {
        let callers = &world.side(side).callers;
        let (table, name) = (&facts.table.name, &callers.name);
        if facts.callers_see_all {
            let text =
                format!("row security does not apply to {name}, as which callers' statements run");
            found.push(Finding::new(Code::CallersUnprotected, side, text).table(table));
        }
        if facts.callers_own && !callers.is_own {
            let text = format!("{name}, as which callers' statements run, owns it");
            found.push(Finding::new(Code::CallersOwner, side, text).table(table));
        }
    }
    for pair in world.pairs() {
        rights(world, &pair, found);
    }
}

fn role(side: Side, callers: &Callers, found: &mut Vec<Finding>) {
    let name = &callers.name;
    let new = |code, text: String| Finding::new(code, side, text);
    if let Some(why) = &callers.cannot_log_in {
        found.push(new(Code::CallersLogin, format!("callers' statements cannot be run: {why}")));
    }
    if callers.is_own {
        let text = format!("callers' statements run as segue's own role, {name}");
        found.push(new(Code::CallersOneRole, text));
    }
    for power in &callers.powers {
        found.push(new(Code::CallersPowers, format!("role {name} {power}")));
    }
    if let Some(sql) = &callers.lacks {
        let text = format!("role {name} may not call segue's functions");
        let finding = new(Code::CallersFunctions, text).object("segue");
        // Each statement by itself, as all findings have them.
        let statements = sql.lines().map(|line| line.trim_end_matches(';'));
        found.push(statements.fold(finding, Finding::sql));
    }
    if let Some(sql) = &callers.cannot_be_ended {
        let text = format!("segue's role may not see and end sessions of {name}");
        found.push(new(Code::CallersEnding, text).sql(sql.as_str()));
    }
    if callers.read_only {
        let text = format!("default_transaction_read_only is on for {name}");
        let sql =
            format!("ALTER ROLE {} RESET default_transaction_read_only", quote_identifier(name));
        found.push(
            new(Code::CallersReadOnly, text).object("default_transaction_read_only").sql(sql),
        );
    }
}

/// What the role may do on one side alone.
fn rights(world: &World, pair: &Pair<'_>, found: &mut Vec<Finding>) {
    for side in BOTH {
        let (here, there) = (pair.on(side), pair.on(side.other()));
        let name = &world.side(side).callers.name;
        // Nothing is known of one that could not be asked.
        if [side, side.other()].iter().any(|side| world.side(*side).callers.name.is_empty()) {
            continue;
        }
        let lacks = |right: &&String| !there.callers_lack.contains(right);
        let missing: Vec<&str> =
            here.callers_lack.iter().filter(lacks).map(String::as_str).collect();
        if missing.is_empty() {
            continue;
        }
        let rights = missing.join(", ");
        let text = format!("role {name} has not {rights}, which it has on the {}", side.other());
        found.push(Finding::new(Code::CallersRights, side, text).table(&here.table.name));
    }
}
