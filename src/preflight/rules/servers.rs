//! Servers, their settings, extensions, large objects.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::side::Side;
use crate::domain::table::{quote_identifier, quote_literal};
use crate::preflight::codes::Code;
use crate::preflight::describe::{Catalogue, Server, World};
use crate::preflight::finding::Finding;

/// Settings that an application may notice.
pub(in crate::preflight) const COMPARED: [&str; 15] = [
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "bytea_output",
    "default_transaction_isolation",
    "default_transaction_deferrable",
    "extra_float_digits",
    "lc_monetary",
    "lc_numeric",
    "lock_timeout",
    "row_security",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "transform_null_equals",
];

/// What one server says of itself.
pub(super) fn one(side: Side, catalogue: &Catalogue, found: &mut Vec<Finding>) {
    let server = &catalogue.server;
    let new = |code, text: String| Finding::new(code, side, text);
    if server.in_recovery {
        found.push(new(Code::Standby, "the server is a standby".to_owned()));
    } else if server.read_only {
        let sql = format!(
            "ALTER DATABASE {} SET default_transaction_read_only = off",
            quote_identifier(&server.database)
        );
        let text = "default_transaction_read_only is on".to_owned();
        found.push(new(Code::ReadOnly, text).object("default_transaction_read_only").sql(sql));
    }
    if server.dialect.is_too_old() {
        found.push(new(Code::TooOld, server.dialect.to_string()));
    }
    for gid in &catalogue.prepared {
        let sql = format!("ROLLBACK PREPARED {}", quote_literal(gid).trim_start());
        let text = format!("prepared transaction {gid:?} is open");
        found.push(new(Code::PreparedOpen, text).object(gid).sql(sql));
    }
    settings(side, server, found);
    for (what, why) in &catalogue.not_asked {
        found.push(new(Code::NotAsked, format!("{what}: {why}")).object(*what));
    }
}

fn settings(side: Side, server: &Server, found: &mut Vec<Finding>) {
    let is = |name: &str, value: &str| server.settings.get(name).is_some_and(|it| it == value);
    let database = quote_identifier(&server.database);
    if is("synchronous_commit", "off") {
        found.push(
            Finding::new(Code::AsyncCommit, side, "synchronous_commit is off")
                .object("synchronous_commit")
                .sql(format!("ALTER DATABASE {database} SET synchronous_commit = on")),
        );
    }
    for name in ["fsync", "full_page_writes"] {
        if is(name, "off") {
            let sql = format!("ALTER SYSTEM SET {name} = on");
            let finding = Finding::new(Code::UnsafeDisk, side, format!("{name} is off"));
            found.push(finding.object(name).sql(sql));
        }
    }
    if let Some(number) = server.settings.get("max_prepared_transactions")
        && number != "0"
    {
        let text = format!("max_prepared_transactions is {number}");
        found.push(
            Finding::new(Code::PreparedAllowed, side, text).object("max_prepared_transactions"),
        );
    }
}

/// What the two servers are to one another.
pub(super) fn both(world: &World, found: &mut Vec<Finding>) {
    let (source, target) = (&world.source.server, &world.target.server);
    encodings(source, target, found);
    let collated = [source, target].iter().all(|it| it.dialect.has_database_collation());
    if collated && source.collation != target.collation {
        let text = format!(
            "{} on the source, {} on the target",
            source.collation.described(),
            target.collation.described()
        );
        found.push(Finding::new(Code::Collation, Side::Target, text).object("LC_COLLATE"));
    }
    for name in COMPARED {
        let (Some(here), Some(there)) = (source.settings.get(name), target.settings.get(name))
        else {
            continue;
        };
        if here != there {
            let text = format!("{} on the source, {} on the target", shown(here), shown(there));
            let sql = setting_sql(target, name, here);
            let finding = Finding::new(Code::Setting, Side::Target, text).object(name);
            found.push(finding.sql(sql));
        }
    }
    extensions(world, found);
    large_objects(world, found);
}

fn shown(value: &str) -> String {
    if value.is_empty() { "empty".to_owned() } else { value.to_owned() }
}

fn setting_sql(target: &Server, name: &str, value: &str) -> String {
    // A list of names is a list, not one text.
    let value = if name == "search_path" || name == "DateStyle" {
        value.to_owned()
    } else {
        quote_literal(value).trim_start().to_owned()
    };
    let value = if value.is_empty() { "''".to_owned() } else { value };
    format!("ALTER DATABASE {} SET {name} = {value}", quote_identifier(&target.database))
}

fn encodings(source: &Server, target: &Server, found: &mut Vec<Finding>) {
    if source.encoding.is_empty() || target.encoding.is_empty() {
        return;
    }
    let text = format!("{} on the source, {} on the target", source.encoding, target.encoding);
    // SQL_ASCII says nothing of what its bytes mean, so that not all of them are texts.
    let odd = [source, target].iter().any(|server| server.encoding == "SQL_ASCII");
    if odd || (source.encoding != target.encoding && target.encoding != "UTF8") {
        found.push(Finding::new(Code::Encoding, Side::Target, text).object("encoding"));
    } else if source.encoding != target.encoding {
        found.push(Finding::new(Code::EncodingBack, Side::Source, text).object("encoding"));
    }
}

/// Extensions that columns of the source rest on.
fn extensions(world: &World, found: &mut Vec<Finding>) {
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for it in world.tables.iter().filter_map(|it| it.source.as_ref()) {
        for column in it.all_columns() {
            if let Some(extension) = &column.facts.extension {
                let place = format!("{}.{}", it.table.name, column.column.name);
                used.entry(extension).or_default().insert(place);
            }
        }
    }
    for (name, places) in used {
        let here = world.source.extensions.get(name);
        match (here, world.target.extensions.get(name)) {
            (_, None) => {
                let places = places.into_iter().collect::<Vec<_>>().join(", ");
                let text = format!("extension {name} is not on the target; used by {places}");
                let mut finding =
                    Finding::new(Code::ExtensionMissing, Side::Target, text).object(name);
                if world.target.server.dialect.has_extensions() {
                    finding = finding.sql(format!("CREATE EXTENSION {}", quote_identifier(name)));
                }
                found.push(finding);
            }
            (Some(here), Some(there)) if here != there => {
                let text = format!("{here} on the source, {there} on the target");
                found.push(Finding::new(Code::ExtensionVersion, Side::Target, text).object(name));
            }
            _ => {}
        }
    }
}

fn large_objects(world: &World, found: &mut Vec<Finding>) {
    if !world.source.has_large_objects {
        return;
    }
    let text = "the database has large objects (pg_largeobject)";
    found.push(Finding::new(Code::LargeObjects, Side::Source, text).object("large objects"));
    for it in world.tables.iter().filter_map(|it| it.source.as_ref()) {
        for column in it.all_columns() {
            let base = column.facts.ty.base();
            if column.facts.ty.name == "lo" || base.name == "oid" {
                let text = format!("a column of type {}", column.column.type_sql);
                found.push(
                    Finding::new(Code::LargeObject, Side::Source, text)
                        .table(&it.table.name)
                        .object(&column.column.name),
                );
            }
        }
    }
}

impl crate::preflight::describe::Collation {
    /// `libc en_US.UTF-8`.
    pub(in crate::preflight) fn described(&self) -> String {
        let blind = if self.is_blind { ", which takes different texts for equal" } else { "" };
        format!("{} {}{blind}", self.provider, shown(&self.locale))
    }

    /// Texts are ordered as their bytes are.
    pub(in crate::preflight) fn is_bytewise(&self) -> bool {
        let locale = self.locale.as_str();
        self.provider == "builtin"
            || (self.provider == "libc"
                && matches!(locale, "C" | "POSIX" | "C.UTF-8" | "C.utf8" | "C.UTF8"))
    }
}
