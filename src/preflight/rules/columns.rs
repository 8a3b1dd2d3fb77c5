//! Columns: there at all, NULL or not, computed, numbered, collated.

use crate::domain::pg_type::{PgType, TypeKind};
use crate::domain::relation::Generated;
use crate::domain::side::Side;
use crate::domain::table::quote_identifier;
use crate::preflight::codes::Code;
use crate::preflight::describe::{Collation, ColumnPair, Pair, Server, SideColumn, World};
use crate::preflight::expression::gist;
use crate::preflight::finding::Finding;
use crate::preflight::rules::BOTH;

/// Intervals have infinity from here on.
/// CockroachDB's own columns, which nobody sees.
const HIDDEN: &str = "crdb_internal_";

pub(super) fn of(world: &World, pair: &Pair<'_>, found: &mut Vec<Finding>) {
    for side in BOTH {
        missing(pair, side, found);
    }
    for columns in pair.columns() {
        let place = Place { pair, columns };
        place.nulls(found);
        place.generated(found);
        place.collations(found);
        place.servers(&world.source.server, &world.target.server, found);
    }
}

/// Columns that only the other side has.
fn missing(pair: &Pair<'_>, side: Side, found: &mut Vec<Finding>) {
    let (here, there) = (&pair.on(side).table, &pair.on(side.other()).table);
    let lacking = there.columns.iter().filter(|column| here.column(&column.name).is_none());
    for column in lacking.filter(|column| !column.name.starts_with(HIDDEN)) {
        let text = format!(
            "the {side} has no column {} {}, which the {} has",
            column.name,
            column.type_sql,
            side.other()
        );
        let sql = format!(
            "ALTER TABLE {} ADD COLUMN {} {}",
            here.name.quoted(),
            quote_identifier(&column.name),
            column.type_sql
        );
        found.push(
            Finding::new(Code::ColumnMissing, side, text)
                .table(&here.name)
                .object(&column.name)
                .sql(sql),
        );
    }
}

#[derive(Clone, Copy)]
struct Place<'a> {
    pair: &'a Pair<'a>,
    columns: ColumnPair<'a>,
}

impl Place<'_> {
    fn finding(self, code: Code, side: Side, text: impl Into<String>) -> Finding {
        let table = &self.pair.on(side).table.name;
        Finding::new(code, side, text).table(table).object(&self.columns.source.column.name)
    }

    fn alter(self, side: Side, how: &str) -> String {
        let table = self.pair.on(side).table.name.quoted();
        let column = quote_identifier(&self.columns.source.column.name);
        format!("ALTER TABLE {table} ALTER COLUMN {column} {how}")
    }

    fn nulls(self, found: &mut Vec<Finding>) {
        // A check that says the same is as good.
        let wanted = gist(&format!("CHECK {} IS NOT NULL", self.columns.source.column.name));
        let is_checked = |side: Side| {
            let mut checks = self.pair.on(side).checks.iter();
            checks.any(|check| check.is_valid && gist(&check.definition) == wanted)
        };
        let refuses = |it: SideColumn<'_>, side| {
            it.column.not_null || it.facts.domain_not_null || is_checked(side)
        };
        let ColumnPair { source, target } = self.columns;
        match (refuses(source, Side::Source), refuses(target, Side::Target)) {
            (false, true) => found.push(
                self.finding(Code::NotNull, Side::Target, "NOT NULL on the target only")
                    .sql(self.alter(Side::Target, "DROP NOT NULL")),
            ),
            (true, false) => found.push(
                self.finding(Code::Nullable, Side::Target, "NOT NULL on the source only")
                    .sql(self.alter(Side::Target, "SET NOT NULL")),
            ),
            _ => {}
        }
    }

    fn generated(self, found: &mut Vec<Finding>) {
        let (source, target) = (self.columns.source.column, self.columns.target.column);
        let expression =
            |column: &crate::domain::relation::Column| column.default.clone().unwrap_or_default();
        match (source.generated, target.generated) {
            (None, Some(how)) => {
                let text = format!("generated on the target only: {}", expression(target));
                let mut finding = self.finding(Code::Generated, Side::Target, text);
                // A virtual one has no values that could stay.
                if how == Generated::Stored {
                    finding = finding.sql(self.alter(Side::Target, "DROP EXPRESSION"));
                }
                found.push(finding);
            }
            (Some(_), None) => {
                let text = format!("generated on the source only: {}", expression(source));
                found.push(self.finding(Code::GeneratedSource, Side::Target, text));
            }
            (Some(here), Some(there)) => {
                let (one, other) = (expression(source), expression(target));
                if gist(&one) != gist(&other) {
                    let text = format!("{one} on the source, {other} on the target");
                    found.push(self.finding(Code::Generated, Side::Target, text));
                } else if here != there {
                    let text =
                        format!("{} on the source, {} on the target", kept(here), kept(there));
                    found.push(self.finding(Code::GeneratedKind, Side::Target, text));
                }
            }
            (None, None) => {}
        }
    }

    fn collations(self, found: &mut Vec<Finding>) {
        let ColumnPair { source, target } = self.columns;
        let name = &source.column.name;
        let folds = |it: SideColumn<'_>| {
            it.facts.ty.base().name == "citext"
                || it.facts.collation.as_ref().is_some_and(|collation| collation.is_blind)
        };
        let unique = |side| self.pair.on(side).is_unique_by(name);
        let shown = |it: SideColumn<'_>| {
            let collation = it.facts.collation.as_ref();
            let collation =
                collation.map_or_else(|| "no collation".to_owned(), Collation::described);
            format!("{} {collation}", it.column.type_sql)
        };
        let text = format!("{} on the source, {} on the target", shown(source), shown(target));
        match (folds(source), folds(target)) {
            (false, true) if unique(Side::Target) => {
                found.push(self.finding(Code::CollationUnique, Side::Target, text));
                return;
            }
            (true, false) | (false, true) => {
                found.push(self.finding(Code::ColumnCollation, Side::Target, text));
                return;
            }
            _ => {}
        }
        let (Some(here), Some(there)) = (&source.facts.collation, &target.facts.collation) else {
            return;
        };
        if here != there && !(here.is_bytewise() && there.is_bytewise()) {
            found.push(self.finding(Code::ColumnCollation, Side::Target, text));
        }
    }

    /// What only some servers can hold.
    fn servers(self, source: &Server, target: &Server, found: &mut Vec<Finding>) {
        let ColumnPair { source: one, target: other } = self.columns;
        let names = (one.facts.ty.base(), other.facts.ty.base());
        let is_interval = |ty: &PgType| element(ty).name == "interval";
        if is_interval(names.0) && is_interval(names.1) {
            let has = |server: &Server| server.dialect.has_infinite_intervals();
            if has(source) != has(target) {
                let side = if has(source) { Side::Target } else { Side::Source };
                let text = format!("the {side}'s server has no infinite interval");
                found.push(self.finding(Code::InfinityBack, side, text));
            }
        }
        let is_array = |ty: &PgType| matches!(ty.kind, TypeKind::Array(_));
        for (side, server) in [(Side::Source, source), (Side::Target, target)] {
            if !server.dialect.has_array_dimensions() && is_array(names.0) && is_array(names.1) {
                let text = format!("an array of type {}", one.column.type_sql);
                found.push(self.finding(Code::ArrayDimensions, side, text));
            }
        }
        if element(names.0).name == "json" && element(names.1).name == "jsonb" {
            found.push(self.finding(Code::JsonStricter, Side::Target, "json becomes jsonb"));
        }
    }
}

fn element(ty: &PgType) -> &PgType {
    match &ty.kind {
        TypeKind::Array(element) => element.base(),
        _ => ty,
    }
}

fn kept(generated: Generated) -> &'static str {
    match generated {
        Generated::Stored => "stored",
        Generated::Virtual => "virtual",
    }
}
