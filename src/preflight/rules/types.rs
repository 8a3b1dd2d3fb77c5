//! Types of one column on both sides: what each can hold of the other.

use std::sync::Arc;

use crate::domain::pg_type::{PgType, TypeKind};
use crate::domain::side::Side;
use crate::domain::table::{quote_identifier, quote_literal};
use crate::preflight::carry::{Carry, Declared, carry};
use crate::preflight::codes::Code;
use crate::preflight::describe::{ColumnPair, Pair, SideColumn};
use crate::preflight::expression::gist;
use crate::preflight::finding::Finding;

pub(super) fn of(pair: &Pair<'_>, columns: ColumnPair<'_>, found: &mut Vec<Finding>) {
    let place = Place { pair, columns };
    if is_object_id(&columns.source.facts.ty) {
        let text = format!("a column of type {}", columns.source.column.type_sql);
        found.push(place.finding(Code::ObjectId, Side::Source, text));
        return;
    }
    if let (Some(here), Some(there)) =
        (labels(&columns.source.facts.ty), labels(&columns.target.facts.ty))
    {
        place.enums(here, there, found);
    } else {
        place.plain(found);
    }
    place.domains(found);
}

/// `regclass` and its kin.
fn is_object_id(ty: &PgType) -> bool {
    match &ty.base().kind {
        TypeKind::Array(element) => is_object_id(element),
        _ => ty.base().schema == "pg_catalog" && ty.base().name.starts_with("reg"),
    }
}

/// The labels of an enumeration, or of an array of one.
fn labels(ty: &Arc<PgType>) -> Option<&[String]> {
    match &ty.base().kind {
        TypeKind::Enum(labels) => Some(labels),
        TypeKind::Array(element) => match &element.base().kind {
            TypeKind::Enum(labels) => Some(labels),
            _ => None,
        },
        _ => None,
    }
}

fn declared(column: SideColumn<'_>) -> Declared<'_> {
    Declared::new(&column.facts.ty, column.column.type_modifier)
}

#[derive(Clone, Copy)]
struct Place<'a> {
    pair: &'a Pair<'a>,
    columns: ColumnPair<'a>,
}

impl Place<'_> {
    fn finding(self, code: Code, side: Side, text: String) -> Finding {
        let table = &self.pair.on(side).table.name;
        Finding::new(code, side, text).table(table).object(&self.columns.source.column.name)
    }

    fn types(self) -> String {
        let ColumnPair { source, target } = self.columns;
        format!(
            "{} on the source, {} on the target",
            source.column.type_sql, target.column.type_sql
        )
    }

    fn alter(self, side: Side, to: &SideColumn<'_>) -> String {
        let column = quote_identifier(&to.column.name);
        let table = self.pair.on(side).table.name.quoted();
        format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE {}", to.column.type_sql)
    }

    fn plain(self, found: &mut Vec<Finding>) {
        let ColumnPair { source, target } = self.columns;
        let (here, there) = (declared(source), declared(target));
        let name = &source.column.name;
        match carry(here, there) {
            Carry::All => {}
            Carry::Less(lost) => {
                let unique = self.pair.target.is_unique_by(name) && !is_padding(here, there);
                let code = if unique { Code::CoarserUnique } else { Code::Coarser };
                let text = format!("{}: without {lost}", self.types());
                found.push(
                    self.finding(code, Side::Target, text).sql(self.alter(Side::Target, &source)),
                );
            }
            Carry::Part(which) => {
                let text = format!("{}: no room for {which}", self.types());
                let finding = self.finding(Code::Narrower, Side::Target, text);
                found.push(finding.sql(self.alter(Side::Target, &source)));
            }
            Carry::Never => {
                let text = self.types();
                let finding = self.finding(Code::NoCounterpart, Side::Target, text);
                found.push(finding);
                return;
            }
        }
        match carry(there, here) {
            Carry::Part(which) => {
                let text = format!("{}: no room on the source for {which}", self.types());
                found.push(self.finding(Code::Wider, Side::Source, text));
            }
            Carry::Less(lost) if carry(here, there) == Carry::All => {
                let text = format!("{}: the source is without {lost}", self.types());
                found.push(self.finding(Code::Finer, Side::Source, text));
            }
            _ => {}
        }
    }

    fn enums(self, here: &[String], there: &[String], found: &mut Vec<Finding>) {
        let ColumnPair { source, target } = self.columns;
        let missing = |from: &[String], to: &[String]| -> Vec<String> {
            from.iter().filter(|label| !to.contains(label)).cloned().collect()
        };
        for (code, side, column, lacking) in [
            (Code::EnumLabels, Side::Target, target, missing(here, there)),
            (Code::EnumLabelsBack, Side::Source, source, missing(there, here)),
        ] {
            if lacking.is_empty() {
                continue;
            }
            let text = format!("the {side}'s type has no {}", lacking.join(", "));
            let mut finding = self.finding(code, side, text);
            let type_sql = column.column.type_sql.trim_end_matches("[]");
            for label in &lacking {
                let label = quote_literal(label);
                let label = label.trim_start();
                finding = finding.sql(format!("ALTER TYPE {type_sql} ADD VALUE {label}"));
            }
            found.push(finding);
        }
        let kept = |labels: &[String], other: &[String]| -> Vec<String> {
            labels.iter().filter(|label| other.contains(label)).cloned().collect()
        };
        let (order, other) = (kept(here, there), kept(there, here));
        if order != other {
            let text =
                format!("{} on the source, {} on the target", order.join(" < "), other.join(" < "));
            found.push(self.finding(Code::EnumOrder, Side::Target, text));
        }
    }

    /// What domains say beyond their type.
    fn domains(self, found: &mut Vec<Finding>) {
        let ColumnPair { source, target } = self.columns;
        let checks = |column: SideColumn<'_>| -> Vec<(String, String)> {
            column.facts.domain_checks.iter().map(|sql| (gist(sql), sql.clone())).collect()
        };
        let (here, there) = (checks(source), checks(target));
        let lacks = |checks: &[(String, String)], gist: &str| checks.iter().all(|it| it.0 != gist);
        for (gist, sql) in &there {
            if lacks(&here, gist) {
                let text = format!("domain {}: {sql}", target.column.type_sql);
                found.push(self.finding(Code::DomainStricter, Side::Target, text));
            }
        }
        for (gist, sql) in &here {
            if lacks(&there, gist) {
                let text = format!("domain {} of the source: {sql}", source.column.type_sql);
                found.push(self.finding(Code::DomainLooser, Side::Target, text));
            }
        }
    }
}

/// `char(n)` without its padding still tells apart what `char(n)` does.
fn is_padding(from: Declared<'_>, to: Declared<'_>) -> bool {
    from.ty.name == "bpchar" && to.ty.name != "bpchar"
}
