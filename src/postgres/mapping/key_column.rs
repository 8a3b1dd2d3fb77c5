//! A column of the primary key, from what both catalogues say of it.

use crate::domain::pg_type::{Column, TypeKind};
use crate::domain::table::quote_identifier;
use crate::postgres::mapping::canon::Canon;
use crate::postgres::mapping::side::{ColumnFacts, SideColumns};
use crate::postgres::mapping::table::{KeyColumn, Sort};

/// Integers of all widths, and texts, name the same keys on both sides. All other types must
/// be the same, precision included: a key that one side rounds is another key there.
fn key_family(column: &Column, facts: &ColumnFacts) -> String {
    match column.ty.name.as_str() {
        "int2" | "int4" | "int8" => "integer".to_owned(),
        "text" | "varchar" if facts.blind_collation.is_none() => "text".to_owned(),
        _ if matches!(column.ty.kind, TypeKind::Enum(_)) => "enum".to_owned(),
        _ => described(facts),
    }
}

fn described(facts: &ColumnFacts) -> String {
    match &facts.blind_collation {
        Some(collation) => format!("{} (collation {collation})", facts.full_type),
        None => facts.full_type.clone(),
    }
}

/// Pairs a key column of both sides.
///
/// # Errors
///
/// Why the two do not name the same keys.
pub(super) fn key_column(
    name: &str,
    primary: &SideColumns,
    shadow: &SideColumns,
) -> Result<KeyColumn, String> {
    let find = |side: &SideColumns, role: &str| -> Result<Column, String> {
        if side.key_equals.len() != primary.key_equals.len() || !side.key_equals.contains_key(name)
        {
            return Err(format!(
                "the {role}'s primary key is not the one that {name:?} belongs to"
            ));
        }
        side.columns
            .iter()
            .find(|column| column.name == name)
            .cloned()
            .ok_or_else(|| format!("key column {name:?} is missing on the {role}"))
    };
    let (on_primary, on_shadow) = (find(primary, "primary")?, find(shadow, "shadow")?);
    let facts = |side: &'_ SideColumns| side.casts.contains_key(name);
    if !facts(primary) || !facts(shadow) {
        return Err(format!("key column {name:?} is not in the catalogue"));
    }
    let (primary_facts, shadow_facts) = (&primary.casts[name], &shadow.casts[name]);
    let families = (key_family(&on_primary, primary_facts), key_family(&on_shadow, shadow_facts));
    if families.0 != families.1 {
        return Err(format!(
            "key column {name:?} is {} on the primary and {} on the shadow, which do not name \
             the same keys; give both sides the same type",
            described(primary_facts),
            described(shadow_facts)
        ));
    }
    let is_enum = matches!(on_primary.ty.kind, TypeKind::Enum(_));
    let deterministic =
        primary_facts.blind_collation.is_none() && shadow_facts.blind_collation.is_none();
    let or = |found: Option<&String>, usual: &str| match found {
        Some(operator) if !operator.is_empty() => operator.clone(),
        _ => usual.to_owned(),
    };
    let equals = |side: &SideColumns| or(side.key_equals.get(name), "=");
    let after = |side: &SideColumns| or(side.key_after.get(name), ">");
    let until = |side: &SideColumns| or(side.key_until.get(name), "<=");
    let sort = |facts: &ColumnFacts| match (&on_primary.ty.kind, &on_shadow.ty.kind) {
        (TypeKind::Enum(one), TypeKind::Enum(other)) if one != other => Sort::Labels,
        _ if !facts.bytewise => Sort::Bytes,
        _ => Sort::Own,
    };
    Ok(KeyColumn {
        name: quote_identifier(name),
        primary_cast: primary_facts.cast.clone(),
        shadow_cast: shadow_facts.cast.clone(),
        primary_equals: equals(primary),
        shadow_equals: equals(shadow),
        primary_after: after(primary),
        shadow_after: after(shadow),
        primary_until: until(primary),
        shadow_until: until(shadow),
        primary_sort: sort(primary_facts),
        shadow_sort: sort(shadow_facts),
        canon: Canon::of(&on_primary.ty.name, is_enum, deterministic),
    })
}
