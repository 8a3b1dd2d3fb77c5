//! Tables as a whole.

use std::collections::BTreeSet;

use crate::domain::reach::Noted;
use crate::domain::reason::Reason;
use crate::domain::relation::{RowSecurity, TableKind};
use crate::domain::side::Side;
use crate::domain::table::TableName;
use crate::preflight::codes::{Code, Severity};
use crate::preflight::describe::{Catalogue, Pair, World};
use crate::preflight::expression::gist;
use crate::preflight::finding::Finding;
use crate::preflight::rules::BOTH;

pub(super) fn all(world: &World, found: &mut Vec<Finding>) {
    for it in &world.tables {
        for side in BOTH.into_iter().filter(|side| it.on(*side).is_none()) {
            let table = it.mapping.on(side);
            let text = format!("there is no such table on the {side}");
            found.push(Finding::new(Code::TableMissing, side, text).table(table));
        }
    }
    for (side, facts) in world.each() {
        let table = &facts.table.name;
        if let Some((reason, message)) = &facts.refused {
            found.push(refused(side, table, *reason, message));
        }
        for publication in &facts.publications {
            let text = format!("it is in publication {publication}");
            found.push(Finding::new(Code::Published, side, text).table(table).object(publication));
        }
    }
    for pair in world.pairs() {
        partitions(&pair, found);
        row_security(&pair, found);
    }
    not_migrated(world, found);
    for table in &world.target.strays {
        let text = "it is only on the target";
        found.push(Finding::new(Code::OnlyOnTarget, Side::Target, text).table(table));
    }
}

/// Statements that a finding names; the status lists all of them.
const STATEMENTS_TOLD: usize = 3;

/// What stays on the source, each with the statements that were seen to touch it. What the
/// configuration leaves out is told only where there are such statements.
fn not_migrated(world: &World, found: &mut Vec<Finding>) {
    let Catalogue { staying, touching, .. } = &world.source;
    let finding = |text: String| Finding::new(Code::NotMigrated, Side::Source, text);
    let told: BTreeSet<String> = staying.iter().map(|(table, _)| table.to_string()).collect();
    for (table, text) in staying {
        let seen = seen(touching, &table.to_string());
        let seen = seen.map(|seen| format!("; {seen}")).unwrap_or_default();
        found.push(finding(format!("{text}{seen}")).table(table));
    }
    let touched: BTreeSet<&String> = touching.iter().flat_map(|it| &it.relations).collect();
    for name in touched.into_iter().filter(|name| !told.contains(*name)) {
        let Some(seen) = seen(touching, name) else { continue };
        let finding = finding(format!("it is not migrated and not declared; {seen}"));
        found.push(match name.split_once('.') {
            Some((schema, table)) => finding.table(&TableName::new(schema, table)),
            None => finding.object(name),
        });
    }
}

/// The statements that touch it, the most frequent first.
fn seen(touching: &[Noted], name: &str) -> Option<String> {
    let all: Vec<&Noted> = touching.iter().filter(|it| it.relations.contains(name)).collect();
    let told = all.iter().take(STATEMENTS_TOLD).map(|it| {
        format!("{} ({} {})", it.summary, it.count, if it.count == 1 { "call" } else { "calls" })
    });
    let told = told.collect::<Vec<_>>().join(", ");
    let more = match all.len().saturating_sub(STATEMENTS_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!all.is_empty()).then(|| format!("statements seen that touch it: {told}{more}"))
}

/// A table that cannot be captured, by the reason's stable name.
pub(in crate::preflight) fn refused(
    side: Side,
    table: &TableName,
    reason: Reason,
    message: &str,
) -> Finding {
    with_remedy(Finding::new(code_of(reason), side, message).table(table))
}

/// The names that capture gives its reasons.
fn code_of(reason: Reason) -> Code {
    match reason {
        Reason::RefusedNoPrimaryKey => Code::NoPrimaryKey,
        Reason::RefusedUnlogged => Code::Unlogged,
        Reason::RefusedForeignTable => Code::ForeignTable,
        Reason::RefusedNotATable => Code::NotATable,
        Reason::RefusedPartition => Code::OnlyPartition,
        Reason::RefusedPartitionKind => Code::PartitionKind,
        Reason::RefusedInheritance => Code::Inheritance,
        Reason::RefusedSubscription => Code::Subscribed,
        _ => Code::Unfit,
    }
}

fn with_remedy(finding: Finding) -> Finding {
    let Some(table) = &finding.table else { return finding };
    let quoted = table.quoted();
    match finding.code {
        Code::NoPrimaryKey => finding.sql(format!("ALTER TABLE {quoted} ADD PRIMARY KEY (…)")),
        Code::Unlogged => finding.sql(format!("ALTER TABLE {quoted} SET LOGGED")),
        _ => finding,
    }
}

fn partitions(pair: &Pair<'_>, found: &mut Vec<Finding>) {
    let is = |side| pair.on(side).table.kind == TableKind::Partitioned;
    if is(Side::Source) != is(Side::Target) {
        let side = if is(Side::Source) { Side::Source } else { Side::Target };
        let text = format!("it is partitioned on the {side} only");
        found.push(
            Finding::new(Code::Partitioned, Side::Target, text).table(&pair.target.table.name),
        );
    }
}

fn row_security(pair: &Pair<'_>, found: &mut Vec<Finding>) {
    let (source, target) = (pair.source, pair.target);
    let new = |text: String| {
        Finding::new(Code::SecurityDiffers, Side::Target, text).table(&target.table.name)
    };
    let (here, there) = (source.table.row_security, target.table.row_security);
    if here != there {
        let text =
            format!("row security is {} on the source, {} on the target", word(here), word(there));
        let quoted = target.table.name.quoted();
        let how = match here {
            RowSecurity::Off => "DISABLE ROW LEVEL SECURITY",
            RowSecurity::On if there == RowSecurity::Forced => "NO FORCE ROW LEVEL SECURITY",
            RowSecurity::On => "ENABLE ROW LEVEL SECURITY",
            RowSecurity::Forced => "ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        };
        found.push(new(text).sql(format!("ALTER TABLE {quoted} {how}")));
    }
    // Policies of a table whose row security is off on both sides do nothing.
    if here == RowSecurity::Off && there == RowSecurity::Off {
        return;
    }
    for (name, definition) in &source.policies {
        match target.policies.get(name) {
            None => found.push(new(format!("policy {name} is missing: {definition}")).object(name)),
            Some(other) if gist(other) != gist(definition) => {
                let text =
                    format!("policy {name} is {definition} on the source, {other} on the target");
                found.push(new(text).object(name));
            }
            Some(_) => {}
        }
    }
    for name in target.policies.keys().filter(|name| !source.policies.contains_key(*name)) {
        found.push(new(format!("policy {name} is only on the target")).object(name));
    }
}

fn word(security: RowSecurity) -> &'static str {
    match security {
        RowSecurity::Off => "off",
        RowSecurity::On => "on",
        RowSecurity::Forced => "forced",
    }
}

/// What reconcile would refuse, where no rule above has said why.
pub(super) fn unfit(world: &World, found: &mut Vec<Finding>) {
    for it in &world.tables {
        let explained = found.iter().any(|finding| {
            finding.severity() == Severity::Blocks
                && BOTH.iter().any(|side| {
                    finding.side == *side
                        && finding.table.as_ref().is_some_and(|table| table == it.mapping.on(*side))
                })
        });
        let closed = BOTH.iter().any(|side| {
            world.side(*side).role.closed_schemas.contains(&it.mapping.on(*side).schema)
        });
        if explained || closed {
            continue;
        }
        for (side, reason) in &it.unfit {
            let table = it.mapping.on(*side);
            found.push(Finding::new(Code::Unfit, *side, reason.clone()).table(table));
        }
    }
}
