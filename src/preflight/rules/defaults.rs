//! Where values come from that an INSERT leaves out: defaults, sequences, identity.

use crate::domain::relation::Identity;
use crate::domain::side::Side;
use crate::domain::table::quote_identifier;
use crate::preflight::carry::{Declared, characters, range};
use crate::preflight::codes::Code;
use crate::preflight::describe::{ColumnPair, Pair, SideColumn};
use crate::preflight::expression::{Source, source_of};
use crate::preflight::finding::Finding;

/// `unique_rowid()` has made numbers larger than this since 1970.
const ROW_ID_LEAST: i64 = 1 << 53;
const UUID_CHARACTERS: usize = 36;

pub(super) fn of(pair: &Pair<'_>, columns: ColumnPair<'_>, found: &mut Vec<Finding>) {
    let ColumnPair { source, target } = columns;
    if source.column.generated.is_some() || target.column.generated.is_some() {
        return;
    }
    let finding = |code, side: Side, text: String| {
        let table = &pair.on(side).table.name;
        Finding::new(code, side, text).table(table).object(&source.column.name)
    };
    let too_big = too_big(columns);
    if let Some(text) = &too_big {
        found.push(finding(Code::DefaultTooBig, Side::Source, text.clone()));
    }
    if source.column.identity != target.column.identity {
        let text = format!("{} on the source, {} on the target", origin(source), origin(target));
        found.push(finding(Code::Identity, Side::Target, text));
        return;
    }
    let read = |column: SideColumn<'_>| column.column.default.as_deref().map(source_of);
    let text = format!("{} on the source, {} on the target", origin(source), origin(target));
    match (read(source), read(target)) {
        (Some(here), None) => {
            let mut finding = finding(Code::DefaultMissing, Side::Target, text);
            if let (Source::Other(_) | Source::Uuid, Some(default)) = (here, &source.column.default)
            {
                finding = finding.sql(format!(
                    "ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {default}",
                    pair.target.table.name.quoted(),
                    quote_identifier(&source.column.name)
                ));
            }
            found.push(finding);
        }
        (None, Some(_)) => found.push(finding(Code::DefaultAdded, Side::Target, text)),
        (Some(here), Some(there)) if here != there && too_big.is_none() => {
            found.push(finding(Code::DefaultDiffers, Side::Target, text));
        }
        _ => {}
    }
}

/// What the target makes by itself and the source's column cannot hold.
fn too_big(columns: ColumnPair<'_>) -> Option<String> {
    let ColumnPair { source, target } = columns;
    let base = source.facts.ty.base();
    let sql = &source.column.type_sql;
    if let Some(sequence) = &target.facts.sequence
        && sequence.is_plain
        && let Some((least, most)) = range(&base.name)
    {
        // Where it stands now; what it may reach later is told of the column's width.
        let now = sequence.last.unwrap_or(sequence.start);
        if now < least || now > most {
            return Some(format!(
                "the target's sequence {} is at {now}, and the source's column is {sql}",
                sequence.name
            ));
        }
    }
    let default = target.column.default.as_deref()?;
    match source_of(default) {
        Source::RowId => {
            let (_, most) = range(&base.name)?;
            (most < ROW_ID_LEAST).then(|| {
                format!("the target numbers by {default}, and the source's column is {sql}")
            })
        }
        Source::Uuid => {
            let declared = Declared::new(&source.facts.ty, source.column.type_modifier);
            let room = characters(declared)?;
            (room < UUID_CHARACTERS).then(|| {
                format!("the target makes uuids by {default}, and the source's column is {sql}")
            })
        }
        _ => None,
    }
}

/// Where a column's values come from, for people.
fn origin(it: SideColumn<'_>) -> String {
    match (it.column.identity, &it.column.default) {
        (Some(Identity::Always), _) => "an identity ALWAYS".to_owned(),
        (Some(Identity::ByDefault), _) => "an identity BY DEFAULT".to_owned(),
        (None, Some(default)) => format!("default {default}"),
        (None, None) => "no default".to_owned(),
    }
}
