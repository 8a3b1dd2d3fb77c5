//! Primary keys: whether the same key names the same row.

use crate::domain::pg_type::TypeKind;
use crate::domain::side::Side;
use crate::preflight::codes::Code;
use crate::preflight::describe::{Pair, SideColumn};
use crate::preflight::finding::Finding;

pub(super) fn of(pair: &Pair<'_>, found: &mut Vec<Finding>) {
    let (source, target) = (pair.source, pair.target);
    let (Some(here), Some(there)) = (&source.table.primary_key, &target.table.primary_key) else {
        return;
    };
    let name = &target.table.name;
    // Only the target's history is copied by ON CONFLICT.
    if there.deferrable {
        let text = format!("primary key {} is deferrable", there.name);
        let finding = Finding::new(Code::KeyDeferrable, Side::Target, text);
        found.push(finding.table(name).object(&there.name));
    }
    let list = |key: &crate::domain::relation::PrimaryKey| {
        key.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>()
    };
    let (on_source, on_target) = (list(here), list(there));
    let text = format!(
        "({}) on the source, ({}) on the target",
        on_source.join(", "),
        on_target.join(", ")
    );
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    if sorted(&on_source) != sorted(&on_target) {
        found.push(Finding::new(Code::KeyColumns, Side::Target, text).table(name));
        return;
    }
    if on_source != on_target {
        found.push(Finding::new(Code::KeyOrder, Side::Target, text).table(name));
    }
    for column in &on_source {
        let (Some(one), Some(other)) = (source.column(column), target.column(column)) else {
            continue;
        };
        if family(one) != family(other) {
            let text =
                format!("{} on the source, {} on the target", described(one), described(other));
            let finding = Finding::new(Code::KeyType, Side::Target, text);
            found.push(finding.table(name).object(column));
        }
    }
}

/// Integers of all widths name the same keys, so do texts that are equal only where their bytes
/// are, and labels. Any other type must be the same, its precision included.
fn family(it: SideColumn<'_>) -> String {
    let base = it.facts.ty.base();
    let blind = it.facts.collation.as_ref().is_some_and(|collation| collation.is_blind);
    match base.name.as_str() {
        "int2" | "int4" | "int8" => "integer".to_owned(),
        "text" | "varchar" if !blind => "text".to_owned(),
        _ if matches!(base.kind, TypeKind::Enum(_)) => "enum".to_owned(),
        name => format!("{name} {} {}", it.column.type_modifier, described(it)),
    }
}

fn described(it: SideColumn<'_>) -> String {
    match it.facts.collation.as_ref().filter(|collation| collation.is_blind) {
        Some(collation) => format!("{} (collation {})", it.column.type_sql, collation.described()),
        None => it.column.type_sql.clone(),
    }
}
