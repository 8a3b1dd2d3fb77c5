//! Check and exclusion constraints, unique indexes.

use std::collections::BTreeSet;

use crate::domain::relation::UniqueIndex;
use crate::domain::side::Side;
use crate::domain::table::quote_identifier;
use crate::preflight::codes::Code;
use crate::preflight::definition::rule_of;
use crate::preflight::describe::{Constraint, Pair, TableFacts};
use crate::preflight::finding::Finding;

pub(super) fn of(pair: &Pair<'_>, found: &mut Vec<Finding>) {
    checks(pair, found);
    exclusions(pair, found);
    uniques(pair, found);
}

fn finding(pair: &Pair<'_>, code: Code, side: Side, name: &str, text: String) -> Finding {
    Finding::new(code, side, text).table(&pair.on(side).table.name).object(name)
}

fn drop_it(pair: &Pair<'_>, name: &str) -> String {
    let table = pair.target.table.name.quoted();
    format!("ALTER TABLE {table} DROP CONSTRAINT {}", quote_identifier(name))
}

fn add_it(pair: &Pair<'_>, it: &Constraint) -> String {
    let table = pair.target.table.name.quoted();
    let definition = it.definition.trim_end_matches(" NOT VALID");
    format!("ALTER TABLE {table} ADD CONSTRAINT {} {definition}", quote_identifier(&it.name))
}

fn checks(pair: &Pair<'_>, found: &mut Vec<Finding>) {
    let (source, target) = (&pair.source.checks, &pair.target.checks);
    let meaning = |it: &Constraint| rule_of(&it.definition);
    let twin = |it: &Constraint, others: &[Constraint]| {
        others.iter().find(|other| meaning(other) == meaning(it)).cloned()
    };
    let namesake = |it: &Constraint, others: &[Constraint]| {
        others.iter().find(|other| other.name == it.name).cloned()
    };
    for it in target {
        match (twin(it, source), namesake(it, source)) {
            (Some(other), _) if !other.is_valid => {
                let text = format!("NOT VALID on the source: {}", other.definition);
                let sql = format!(
                    "ALTER TABLE {} VALIDATE CONSTRAINT {}",
                    pair.source.table.name.quoted(),
                    quote_identifier(&other.name)
                );
                let finding = finding(pair, Code::CheckNotValid, Side::Source, &other.name, text);
                found.push(finding.sql(sql));
            }
            (Some(_), _) => {}
            (None, Some(other)) => {
                let text =
                    format!("{} on the source, {} on the target", other.definition, it.definition);
                found.push(finding(pair, Code::CheckDiffers, Side::Target, &it.name, text));
            }
            (None, None) if is_not_null(it, pair.source) => {}
            // It refuses nothing.
            (None, None) if it.definition.ends_with(" NOT ENFORCED") => {}
            (None, None) => {
                let text = format!("only on the target: {}", it.definition);
                let finding = finding(pair, Code::CheckTarget, Side::Target, &it.name, text);
                found.push(finding.sql(drop_it(pair, &it.name)));
            }
        }
    }
    for it in source {
        let is_held = twin(it, target).is_some() || namesake(it, target).is_some();
        if !is_held && !is_not_null(it, pair.target) {
            let text = format!("only on the source: {}", it.definition);
            let finding = finding(pair, Code::CheckSource, Side::Target, &it.name, text);
            found.push(finding.sql(add_it(pair, it)));
        }
    }
}

/// Whether a check says of a column that it is not NULL, and the table says so itself.
fn is_not_null(it: &Constraint, other: &TableFacts) -> bool {
    let mut columns = other.table.columns.iter().filter(|column| column.not_null);
    columns.any(|column| {
        let quoted = quote_identifier(&column.name);
        rule_of(&it.definition) == rule_of(&format!("CHECK {quoted} IS NOT NULL"))
    })
}

fn exclusions(pair: &Pair<'_>, found: &mut Vec<Finding>) {
    let (source, target) = (&pair.source.exclusions, &pair.target.exclusions);
    let twin = |others: &[Constraint], it: &Constraint| {
        others.iter().find(|other| rule_of(&other.definition) == rule_of(&it.definition)).cloned()
    };
    for it in target {
        if let Some(other) = twin(source, it) {
            if moment(&other) != moment(it) {
                let text =
                    format!("{} on the source, {} on the target", other.definition, it.definition);
                found.push(finding(pair, Code::ExclusionTime, Side::Target, &it.name, text));
            }
            continue;
        }
        let text = format!("only on the target: {}", it.definition);
        let finding = finding(pair, Code::ExclusionTarget, Side::Target, &it.name, text);
        found.push(finding.sql(drop_it(pair, &it.name)));
    }
    for it in source.iter().filter(|it| twin(target, it).is_none()) {
        let text = format!("only on the source: {}", it.definition);
        let finding = finding(pair, Code::ExclusionSource, Side::Target, &it.name, text);
        found.push(finding.sql(add_it(pair, it)));
    }
}

/// When it is looked at: ` DEFERRABLE INITIALLY DEFERRED`, or nothing for at once.
fn moment(it: &Constraint) -> &str {
    it.definition.find(" DEFERRABLE").map_or("", |at| &it.definition[at..])
}

fn uniques(pair: &Pair<'_>, found: &mut Vec<Finding>) {
    let (source, target) = (pair.source, pair.target);
    for index in &target.table.unique_indexes {
        if !is_implied(index, target, source) {
            let text = format!("only on the target: {}", index.definition);
            found.push(finding(pair, Code::UniqueTarget, Side::Target, &index.name, text));
        }
    }
    for index in &source.table.unique_indexes {
        if !is_implied(index, source, target) {
            let text = format!("only on the source: {}", index.definition);
            found.push(finding(pair, Code::UniqueSource, Side::Target, &index.name, text));
        }
    }
}

/// Whether rows that `other` takes always satisfy an index of `own`.
fn is_implied(index: &UniqueIndex, own: &TableFacts, other: &TableFacts) -> bool {
    let kept: Option<BTreeSet<&str>> = index.columns.iter().map(Option::as_deref).collect();
    if let Some(columns) = kept {
        let key = other.table.primary_key.iter().map(|key| {
            key.columns.iter().map(|column| column.name.as_str()).collect::<BTreeSet<_>>()
        });
        if key.into_iter().any(|key| key.is_subset(&columns)) {
            return true;
        }
        // Unique by fewer columns is stricter; where NULLs are equal, more so.
        let stricter = |it: &UniqueIndex| {
            let fewer: Option<BTreeSet<&str>> = it.columns.iter().map(Option::as_deref).collect();
            !it.partial
                && (it.nulls_not_distinct || !index.nulls_not_distinct)
                && fewer.is_some_and(|fewer| fewer.is_subset(&columns))
        };
        if other.table.unique_indexes.iter().any(stricter) {
            return true;
        }
    }
    let meaning = |facts: &TableFacts, it: &UniqueIndex| shape(it, &facts.table.name.to_string());
    let wanted = meaning(own, index);
    other.table.unique_indexes.iter().any(|it| meaning(other, it) == wanted)
}

/// What comes after the table's name in the definition: columns, expressions, condition.
fn shape(index: &UniqueIndex, table: &str) -> String {
    let rest = index.definition.split_once(" USING ").map_or(index.definition.as_str(), |it| it.1);
    rule_of(&rest.replace(table, ""))
}
