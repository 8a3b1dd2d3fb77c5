//! Triggers and rules of both sides.

use std::collections::BTreeSet;

use crate::domain::side::Side;
use crate::domain::table::quote_identifier;
use crate::preflight::codes::Code;
use crate::preflight::describe::{Pair, World};
use crate::preflight::finding::Finding;
use crate::preflight::rules::BOTH;

/// Capture's own.
const OWN: &str = "segue_capture_";

pub(super) fn of(world: &World, pair: &Pair<'_>, found: &mut Vec<Finding>) {
    let finding = |code, side: Side, object: &str, text: String| {
        Finding::new(code, side, text).table(&pair.on(side).table.name).object(object)
    };
    for side in BOTH {
        for (object, sql) in &pair.on(side).always {
            let text = format!("{object} fires for copied rows as well");
            found.push(finding(Code::TriggerAlways, side, object, text).sql(sql.clone()));
        }
    }
    let has_replica = |side| world.side(side).server.dialect.has_replication_role();
    let of_source = acting(pair, Side::Source);
    let of_target = acting(pair, Side::Target);
    for side in BOTH.into_iter().filter(|side| !has_replica(*side)) {
        for object in acting(pair, side) {
            found.push(finding(Code::TriggerActive, side, &object, format!("{object} is active")));
        }
    }
    for object in of_target.difference(&of_source) {
        if has_replica(Side::Target) {
            let text = format!("{object} is only on the target");
            found.push(
                finding(Code::TriggerAdded, Side::Target, object, text).sql(drop_it(pair, object)),
            );
        }
    }
    for object in of_source.difference(&of_target) {
        let text = format!("{object} is only on the source: {}", definition(pair, object));
        found.push(finding(Code::TriggerDropped, Side::Target, object, text));
    }
}

/// `trigger x` and `rule y`, those that are switched off left out.
fn acting(pair: &Pair<'_>, side: Side) -> BTreeSet<String> {
    let facts = pair.on(side);
    let triggers = facts.table.triggers.iter();
    let triggers = triggers
        .filter(|trigger| trigger.enabled != 'D' && !trigger.name.starts_with(OWN))
        .map(|trigger| format!("trigger {}", trigger.name));
    triggers.chain(facts.table.rules.iter().map(|rule| format!("rule {}", rule.name))).collect()
}

fn definition(pair: &Pair<'_>, object: &str) -> String {
    let table = &pair.source.table;
    let found = match object.split_once(' ') {
        Some(("trigger", name)) => {
            table.triggers.iter().find(|it| it.name == name).map(|it| it.definition.clone())
        }
        Some((_, name)) => {
            table.rules.iter().find(|it| it.name == name).map(|it| it.definition.clone())
        }
        None => None,
    };
    found.unwrap_or_default()
}

fn drop_it(pair: &Pair<'_>, object: &str) -> String {
    let (kind, name) = object.split_once(' ').unwrap_or(("trigger", object));
    format!(
        "DROP {} {} ON {}",
        kind.to_uppercase(),
        quote_identifier(name),
        pair.target.table.name.quoted()
    )
}
