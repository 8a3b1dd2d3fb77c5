//! Sequences that columns take their numbers from.

use crate::domain::side::Side;
use crate::domain::table::{quote_identifier, quote_literal};
use crate::preflight::codes::Code;
use crate::preflight::describe::{Pair, Sequence, World};
use crate::preflight::finding::Finding;

pub(super) fn all(world: &World, found: &mut Vec<Finding>) {
    for (side, facts) in world.each() {
        let role = &world.side(side).role.name;
        for column in facts.all_columns() {
            let Some(sequence) = &column.facts.sequence else { continue };
            let finding = |code, text: String| {
                Finding::new(code, side, text).table(&facts.table.name).object(&column.column.name)
            };
            if !sequence.missing_rights.is_empty() {
                let rights = sequence.missing_rights.join(", ");
                let text = format!("role {role} may not {rights} sequence {}", sequence.name);
                let sql = format!(
                    "GRANT {rights} ON SEQUENCE {} TO {}",
                    sequence.name.quoted(),
                    quote_identifier(role)
                );
                found.push(finding(Code::SequenceRights, text).sql(sql));
            }
            if !sequence.is_owned {
                let text = format!("sequence {} is not owned by the column", sequence.name);
                let sql = format!(
                    "ALTER SEQUENCE {} OWNED BY {}.{}",
                    sequence.name.quoted(),
                    facts.table.name.quoted(),
                    quote_identifier(&column.column.name)
                );
                found.push(finding(Code::SequenceOwned, text).sql(sql));
            }
            // The target's is set by the cutover; it is behind until then.
            if side == Side::Source
                && let Some(largest) = behind(sequence)
            {
                let text = format!(
                    "sequence {} is at {}, and the column has {largest}",
                    sequence.name,
                    sequence.last.map_or_else(|| "its start".to_owned(), |last| last.to_string())
                );
                let name = quote_literal(&sequence.name.quoted());
                let sql = format!("SELECT pg_catalog.setval({}, {largest})", name.trim_start());
                found.push(finding(Code::SequenceBehind, text).sql(sql));
            }
        }
    }
    for pair in world.pairs() {
        pairs(&pair, found);
    }
}

/// The largest number of the column, where the sequence has not come to it yet.
fn behind(sequence: &Sequence) -> Option<i64> {
    let largest = sequence.largest?;
    let ahead = match sequence.last {
        Some(last) => last >= largest,
        None => sequence.start > largest,
    };
    (sequence.increment > 0 && !ahead).then_some(largest)
}

/// Where the source stands, where the target's sequence cannot be set to it or has no number left
/// after it, though the source has. Two that are alike are never named, whichever way they count
/// and however near their end they are.
fn out_of_range(here: &Sequence, there: &Sequence) -> Option<i64> {
    let alike = |it: &Sequence| (it.min, it.max, it.increment, it.cycles);
    if alike(here) == alike(there) {
        return None;
    }
    let last = here.last.unwrap_or(here.start);
    // The cutover leaves one that begins anew as it is where it cannot be set.
    if here.cycles && there.cycles {
        return None;
    }
    let ascends = there.increment > 0;
    // What the cutover has to pass, in the order in which the target counts.
    let reached = if ascends { last.max(here.largest.unwrap_or(i64::MIN)) } else { last };
    let is_full = if ascends { reached >= there.max } else { reached <= there.min };
    let ends_alike = here.increment.signum() == there.increment.signum()
        && !here.cycles
        && !there.cycles
        && if ascends { here.max <= there.max } else { here.min >= there.min };
    (is_full && !ends_alike).then_some(reached)
}

fn pairs(pair: &Pair<'_>, found: &mut Vec<Finding>) {
    for columns in pair.columns() {
        let (Some(here), Some(there)) =
            (&columns.source.facts.sequence, &columns.target.facts.sequence)
        else {
            continue;
        };
        let finding = |code, text: String| {
            Finding::new(code, Side::Target, text)
                .table(&pair.target.table.name)
                .object(&columns.target.column.name)
        };
        if let Some(reached) = out_of_range(here, there) {
            let text = format!(
                "the source's sequence {} is at {reached}, the target's {}, a {}, goes from {} to {}",
                here.name, there.name, there.data_type, there.min, there.max
            );
            let sql = format!(
                "ALTER SEQUENCE {} AS {} INCREMENT {} MINVALUE {} MAXVALUE {}",
                there.name.quoted(),
                here.data_type,
                here.increment,
                here.min,
                here.max
            );
            found.push(finding(Code::SequenceRange, text).sql(sql));
        }
        if (here.increment, here.cycles) != (there.increment, there.cycles) {
            let shown = |it: &Sequence| {
                let end = if it.cycles { "CYCLE" } else { "NO CYCLE" };
                format!("INCREMENT {} {end}", it.increment)
            };
            let text = format!("{} on the source, {} on the target", shown(here), shown(there));
            let sql = format!("ALTER SEQUENCE {} {}", there.name.quoted(), shown(here));
            found.push(finding(Code::SequenceStep, text).sql(sql));
        }
    }
}
