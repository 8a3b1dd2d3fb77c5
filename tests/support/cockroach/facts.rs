//! What CockroachDB's public texts say of its dialect: `dialect.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// A release, as `25.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(u32, u32);

impl Release {
    /// The oldest that segue names.
    pub const OLDEST: Self = Self(25, 3);
    /// The latest that the texts are of.
    pub const LATEST: Self = Self(26, 3);

    pub fn parse(text: &str) -> Self {
        let parts = text
            .split_once('.')
            .and_then(|(year, number)| Some(Self(year.parse().ok()?, number.parse().ok()?)));
        parts.unwrap_or_else(|| panic!("{text:?} is no release such as 25.3"))
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl<'de> serde::Deserialize<'de> for Release {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(from)?))
    }
}

#[derive(Debug, serde::Deserialize)]
pub struct Facts {
    pub catalog: Catalog,
    pub functions: BTreeMap<String, Function>,
    pub functions_absent: BTreeMap<String, String>,
    pub settings: Settings,
    pub types: BTreeSet<String>,
    pub gated_schemas: Vec<String>,
    /// From which release what is gated is refused.
    pub gated_since: Release,
    pub system_columns_absent: BTreeSet<String>,
    pub triggers: Triggers,
    pub plpgsql: PlPgSql,
}

#[derive(Debug, serde::Deserialize)]
pub struct Catalog {
    /// By schema and name.
    pub tables: BTreeMap<String, Table>,
    /// They are there; their columns were not looked up.
    pub further_tables: BTreeSet<String>,
}

#[derive(Debug, Default, serde::Deserialize)]
pub struct Table {
    pub columns: BTreeSet<String>,
    #[serde(default)]
    pub always_null: BTreeSet<String>,
    #[serde(default)]
    pub empty: bool,
    /// Columns that have one value in all rows.
    #[serde(default)]
    pub constant: BTreeMap<String, String>,
}

#[derive(Debug, serde::Deserialize)]
pub struct Function {
    /// `(string, int) string`; alternatives of a type are set apart by `|`, what may repeat ends in
    /// `...`. None where they were not looked up.
    #[serde(default)]
    pub signatures: Vec<String>,
    pub since: Option<Release>,
}

#[derive(Debug, serde::Deserialize)]
pub struct Settings {
    pub known: BTreeSet<String>,
    pub absent: BTreeSet<String>,
    /// What has no effect, or another one, before a release.
    pub effective_since: BTreeMap<String, Release>,
}

#[derive(Debug, serde::Deserialize)]
pub struct Triggers {
    pub or_replace_since: Release,
    pub disable_since: Release,
}

#[derive(Debug, serde::Deserialize)]
pub struct PlPgSql {
    /// Kinds of statements, as PostgreSQL's parser calls them.
    pub absent_statements: BTreeSet<String>,
    pub absent_variables: BTreeSet<String>,
}

impl Facts {
    pub fn load() -> Self {
        serde_json::from_str(include_str!("dialect.json")).expect("dialect.json has this form")
    }

    /// Those that all of the process share.
    pub fn known() -> &'static Self {
        static KNOWN: LazyLock<Facts> = LazyLock::new(Facts::load);
        &KNOWN
    }

    /// A table of the catalogue by its name, with or without its schema.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Table> {
        self.catalog.tables.get(&format!("{}.{name}", schema_of(schema)))
    }

    /// Whether the name belongs to the catalogue at all.
    pub fn is_catalog(schema: &str, name: &str) -> bool {
        matches!(schema, "pg_catalog" | "information_schema")
            || schema.is_empty() && name.starts_with("pg_")
    }
}

/// What stands on everyone's search path need not be named.
fn schema_of(schema: &str) -> &str {
    if schema.is_empty() { "pg_catalog" } else { schema }
}

impl Function {
    /// Whether it gives an integer, which has eight bytes there.
    pub fn gives_integer(&self) -> bool {
        let gives = |it: &String| it.rsplit_once(')').is_some_and(|(_, it)| it.trim() == "int");
        !self.signatures.is_empty() && self.signatures.iter().all(gives)
    }
}

/// The types of one way to call a function.
pub struct Signature<'a>(Vec<&'a str>);

impl<'a> Signature<'a> {
    pub fn parse(text: &'a str) -> Self {
        let end = text.find(')').unwrap_or_else(|| panic!("{text:?} is no signature"));
        let inside = text[..end].trim_start_matches('(').trim();
        Self(inside.split(',').map(str::trim).filter(|it| !it.is_empty()).collect())
    }

    /// Whether it takes so many.
    pub fn takes(&self, count: usize) -> bool {
        match self.0.last() {
            Some(last) if last.ends_with("...") => count + 1 >= self.0.len(),
            _ => count == self.0.len(),
        }
    }

    /// What may stand at a place.
    pub fn types_at(&self, at: usize) -> BTreeSet<&'a str> {
        let Some(of) = self.0.get(at).or(self.0.last()) else { return BTreeSet::new() };
        of.trim_end_matches("...").split('|').collect()
    }
}
