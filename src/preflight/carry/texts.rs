//! Texts, labels, documents.

use crate::preflight::carry::{Carry, Declared};

/// Added to the modifier of `varchar` and `char`.
const MODIFIER_BASE: i32 = 4;
/// Bytes of a `name`.
const NAME_BYTES: usize = 63;

/// Types whose values are texts without padding.
pub(super) fn is_text(declared: Declared<'_>) -> bool {
    matches!(declared.name(), "text" | "varchar" | "citext" | "name" | "xml")
}

/// The most characters that a text may have; `None` for no limit.
pub(in crate::preflight) fn characters(declared: Declared<'_>) -> Option<usize> {
    match declared.name() {
        "name" => Some(NAME_BYTES),
        "varchar" | "bpchar" if declared.modifier >= MODIFIER_BASE => {
            usize::try_from(declared.modifier - MODIFIER_BASE).ok()
        }
        _ => None,
    }
}

pub(super) fn carry(from: Declared<'_>, to: Declared<'_>) -> Option<Carry> {
    let padded = |it: Declared<'_>| it.name() == "bpchar";
    let textual = |it: Declared<'_>| is_text(it) || padded(it);
    match (from.name(), to.name()) {
        ("xml", "xml") => return Some(Carry::All),
        (_, "xml") if textual(from) => {
            return Some(Carry::Part("texts that are no XML".to_owned()));
        }
        _ => {}
    }
    if textual(from) && textual(to) {
        if let Some(limit) = characters(to)
            && characters(from).is_none_or(|length| length > limit)
        {
            return Some(Carry::Part(format!("texts of more than {limit} characters")));
        }
        return Some(match (padded(from), padded(to)) {
            (true, false) => {
                Carry::Less("spaces at the end, by which char(n) is filled".to_owned())
            }
            (false, true) => Carry::Part("texts with spaces at the end, which are cut".to_owned()),
            _ => Carry::All,
        });
    }
    match (from.name(), to.name()) {
        ("json" | "jsonb", "json") | ("jsonb", "jsonb") => Some(Carry::All),
        ("json", "jsonb") => Some(Carry::Less(
            "white space, the order of keys, all but the last of equal keys".to_owned(),
        )),
        ("json" | "jsonb", _) if is_text(to) && to.name() != "xml" => {
            Some(unlimited(to, "documents"))
        }
        (_, "json" | "jsonb") if is_text(from) => {
            Some(Carry::Part("texts that are no JSON".to_owned()))
        }
        ("uuid", _) if is_text(to) && to.name() != "xml" => Some(match characters(to) {
            Some(limit) if limit < 36 => Carry::Part("all uuids".to_owned()),
            _ => Carry::All,
        }),
        (_, "uuid") if is_text(from) => Some(Carry::Part("texts that are no uuid".to_owned())),
        _ => None,
    }
}

fn unlimited(to: Declared<'_>, what: &str) -> Carry {
    match characters(to) {
        Some(limit) => Carry::Part(format!("{what} of more than {limit} characters")),
        None => Carry::All,
    }
}
