//! What a side's catalogue says of relations and functions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::domain::reach::Named;
use crate::domain::table::{TableName, TableRef};

/// What kind of relation a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// It has rows of its own, or those of its partitions: ordinary, partitioned, foreign.
    Table,
    /// It has the rows of others.
    View,
    /// It has a copy of the rows of others.
    MaterializedView,
    /// A sequence.
    Sequence,
}

/// What a write to a relation brings with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnWrite {
    /// Functions of its triggers, without segue's own and those that are switched off.
    pub triggers: Vec<TableName>,
    /// Tables whose foreign keys pass deletes and updates on to them.
    pub cascades: Vec<TableName>,
}

/// One relation of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its kind.
    pub kind: RelationKind,
    /// It came with an extension.
    pub of_extension: bool,
    /// The table that it belongs to: a partition's root, a sequence's owner.
    pub belongs_to: Option<TableName>,
    /// It is registered as a table of the migration, or its root is.
    pub registered: bool,
    /// Each write to it is captured.
    pub captured: bool,
    /// No reconcile of the whole table is pending.
    pub copied: bool,
    /// What its definition, its rules and its policies name; `Err` where they cannot be parsed.
    pub names: Result<Arc<Named>, ()>,
    /// What runs or is written besides where it is written to.
    pub on_write: OnWrite,
}

/// What is known of a function's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// It touches no relation of the application: built-in, or of an extension.
    Nothing,
    /// What it names. Unqualified names are found by the caller's search path, or, where the
    /// function sets its own, in any schema.
    Names(Arc<Named>, OwnPath),
    /// Nobody can tell.
    Unknown,
}

/// Whether a function sets a search path of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnPath(pub bool);

/// One function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its schema.
    pub schema: String,
    /// Fewest and most arguments that it takes.
    pub arguments: (usize, usize),
    /// The catalogue calls it volatile.
    pub volatile: bool,
    /// What it does.
    pub body: Body,
}

/// What a side's catalogue says.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Schemas that unqualified names are looked for in, for callers.
    pub search_path: Vec<String>,
    /// Operators, by their bare names, and whether a function of theirs is volatile.
    pub operators: HashMap<String, bool>,
    /// Those of the operators that call a function which may leave something in the session: one
    /// that is not in C.
    pub scripted_operators: HashSet<String>,
    /// Types, by their bare names, that such a function casts to.
    pub scripted_casts: BTreeSet<String>,
    /// Such a function may be called by a cast that no statement shows.
    pub implicit_scripted_cast: bool,
    /// Types, by their bare names, that a volatile function casts to.
    pub volatile_casts: BTreeSet<String>,
    /// A volatile function may be called by a cast that no statement shows.
    pub implicit_volatile_cast: bool,
    /// A function or an operator that is not listed does not exist.
    pub lists_all_functions: bool,
    /// Names on the other side of the tables that this side has registered.
    pub registered_there: HashSet<TableName>,
    relations: HashMap<TableName, Relation>,
    by_name: HashMap<String, Vec<TableName>>,
    functions: HashMap<String, Vec<Function>>,
}

/// The schema of what comes with the server.
pub const SYSTEM: &str = "pg_catalog";

// === impl Catalogue ===

impl Catalogue {
    /// Adds a relation.
    pub fn add_relation(&mut self, name: TableName, relation: Relation) {
        self.by_name.entry(name.name.clone()).or_default().push(name.clone());
        self.relations.insert(name, relation);
    }

    /// Adds a function.
    pub fn add_function(&mut self, name: String, function: Function) {
        self.functions.entry(name).or_default().push(function);
    }

    /// The relation of this name.
    pub fn relation(&self, name: &TableName) -> Option<&Relation> {
        self.relations.get(name)
    }

    /// Every relation.
    pub fn relations(&self) -> impl Iterator<Item = (&TableName, &Relation)> {
        self.relations.iter()
    }

    /// The relation that a statement names, found along a search path.
    pub fn find(&self, named: &TableRef, path: &[String]) -> Option<(&TableName, &Relation)> {
        let of = |schema: &String| {
            self.relations.get_key_value(&TableName::new(schema.as_str(), named.name.as_str()))
        };
        match &named.schema {
            Some(schema) => of(schema),
            None => path.iter().find_map(of),
        }
    }

    /// Every function that did not come with the server, with its name.
    pub fn all_functions(&self) -> impl Iterator<Item = (&str, &Function)> {
        self.functions.iter().flat_map(|(name, all)| {
            let own = all.iter().filter(|function| function.schema != SYSTEM);
            own.map(move |function| (name.as_str(), function))
        })
    }

    /// Relations with this bare name, in any schema.
    pub fn named(&self, name: &str) -> &[TableName] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Functions of this name that a call may mean: those that take its number of arguments, or
    /// all where none does.
    pub fn functions(
        &self,
        schema: Option<&str>,
        name: &str,
        arguments: Option<usize>,
        path: Option<&[String]>,
    ) -> Vec<&Function> {
        let all = self.functions.get(name).map_or(&[][..], Vec::as_slice);
        let seen = |it: &&Function| match (schema, path) {
            (Some(schema), _) => it.schema == schema,
            (None, Some(path)) => it.schema == SYSTEM || path.contains(&it.schema),
            (None, None) => true,
        };
        let visible: Vec<&Function> = all.iter().filter(seen).collect();
        let fits = |it: &&&Function| {
            arguments.is_none_or(|count| (it.arguments.0..=it.arguments.1).contains(&count))
        };
        let fitting: Vec<&Function> = visible.iter().filter(fits).copied().collect();
        if fitting.is_empty() { visible } else { fitting }
    }
}
