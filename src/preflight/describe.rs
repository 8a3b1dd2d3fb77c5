//! What is known of both sides: filled by whoever asks them, judged by the rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dialect::Dialect;
use crate::domain::pg_type::PgType;
use crate::domain::reach::Noted;
use crate::domain::reason::Reason;
use crate::domain::relation::{Column, Table};
use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName};
use crate::preflight::finding::Finding;
use crate::preflight::limits::{RoleSetting, Sessions};

/// Both sides of a migration.
#[derive(Debug, Clone)]
pub struct World {
    /// The database being left.
    pub source: Catalogue,
    /// The database being moved to.
    pub target: Catalogue,
    /// The tables of the migration, those of segue itself left out.
    pub tables: Vec<Migrated>,
    /// All tables of the migration, also where only some of them are looked at.
    pub mappings: Vec<TableMapping>,
    /// What was found on the way, before there was anything to judge.
    pub found: Vec<Finding>,
}

/// A table of the migration on both sides.
#[derive(Debug, Clone)]
pub struct Migrated {
    /// Where it is.
    pub mapping: TableMapping,
    /// The source's, where it is there.
    pub source: Option<TableFacts>,
    /// The target's, where it is there.
    pub target: Option<TableFacts>,
    /// Why reconcile would refuse it: the side that follows then, and the reason.
    pub unfit: Vec<(Side, String)>,
}

/// One side as a whole.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// The server and the database.
    pub server: Server,
    /// Segue's role.
    pub role: Role,
    /// The role of callers' statements.
    pub callers: Callers,
    /// Other roles that may write to tables of the migration and cannot fire capture's triggers, each
    /// with the statements that let it.
    pub capture_lacks: Vec<(String, Vec<String>)>,
    /// Extensions and their versions.
    pub extensions: BTreeMap<String, String>,
    /// Names of prepared transactions that are open in this database.
    pub prepared: Vec<String>,
    /// There is at least one large object.
    pub has_large_objects: bool,
    /// Tables outside of the migration: on the target, where all that are there are taken.
    pub strays: Vec<TableName>,
    /// Relations and functions that are not migrated and not declared, each with what is so.
    pub staying: Vec<(TableName, String)>,
    /// Statements that the sidecars have seen and that touch what is not migrated and not declared,
    /// the most frequent first.
    pub touching: Vec<Noted>,
    /// What could not be asked, and why.
    pub not_asked: Vec<(&'static str, String)>,
}

/// A server and its database.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// What it speaks.
    pub dialect: Dialect,
    /// A standby.
    pub in_recovery: bool,
    /// Transactions begin read-only.
    pub read_only: bool,
    /// Settings as a session begins with them: of callers, where an application notices them.
    pub settings: BTreeMap<String, String>,
    /// The database's name.
    pub database: String,
    /// The database's encoding.
    pub encoding: String,
    /// The database's collation.
    pub collation: Collation,
}

/// How texts are ordered and when they are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collation {
    /// `libc`, `icu` or `builtin`.
    pub provider: String,
    /// The provider's name for it.
    pub locale: String,
    /// Texts that differ may be equal to it.
    pub is_blind: bool,
}

/// Segue's role on a side.
#[derive(Debug, Clone, Default)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// It may set `session_replication_role`; unknown where that was not asked.
    pub may_be_replica: Option<bool>,
    /// What an owner of the tables must run before the role can make its triggers fire in every
    /// session; nothing where it can, or where the side has no such setting.
    pub always_missing: Option<String>,
    /// Segue's schema.
    pub schema: SegueSchema,
    /// Schemas of the migrated tables that it may not use.
    pub closed_schemas: Vec<String>,
    /// What is set for it or for its database, and its sessions do not have, or are harmed by.
    pub settings: Vec<RoleSetting>,
    /// How many sessions it may open, and wants to.
    pub sessions: Sessions,
}

/// The role of callers' statements on a side.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    /// Its name.
    pub name: String,
    /// It is segue's own as well.
    pub is_own: bool,
    /// Why it cannot log in.
    pub cannot_log_in: Option<String>,
    /// Its transactions begin read-only.
    pub read_only: bool,
    /// What it may do that would undo what it is for.
    pub powers: Vec<String>,
    /// What must be granted before its sessions can do what segue asks of them.
    pub lacks: Option<String>,
    /// What must be granted before segue can end its sessions.
    pub cannot_be_ended: Option<String>,
}

/// Segue's schema as its role finds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SegueSchema {
    /// It is there and the role's, or can be made by it.
    #[default]
    Usable,
    /// It is not there, and the role may not make it.
    CannotBeMade,
    /// It is somebody else's.
    OfAnother,
}

/// A table with all that the rules look at.
#[derive(Debug, Clone)]
pub struct TableFacts {
    /// Columns, keys, indexes, foreign keys, triggers, rules, partitions.
    pub table: Table,
    /// Why it cannot be captured: a stable name and a sentence.
    pub refused: Option<(Reason, String)>,
    /// More of each column, by its name.
    pub columns: BTreeMap<String, ColumnFacts>,
    /// Check constraints.
    pub checks: Vec<Constraint>,
    /// Exclusion constraints.
    pub exclusions: Vec<Constraint>,
    /// What the table's foreign keys do, by their names: `ON DELETE …`, `DEFERRABLE …`.
    pub actions: BTreeMap<String, String>,
    /// Triggers and rules that fire for copied rows, those of partitions included: `trigger x`,
    /// and the statement that makes it an ordinary one.
    pub always: Vec<(String, String)>,
    /// Names of policies, each with its definition.
    pub policies: BTreeMap<String, String>,
    /// Publications that the table is in.
    pub publications: Vec<String>,
    /// Rights that segue's role lacks.
    pub missing_rights: Vec<String>,
    /// Row security hides rows from segue's role.
    pub hidden_rows: bool,
    /// Rights that the role of callers' statements lacks, of all that there are.
    pub callers_lack: Vec<String>,
    /// Row security is on, and does not apply to that role.
    pub callers_see_all: bool,
    /// That role owns the table.
    pub callers_own: bool,
    /// Rows by the server's estimate; unknown where it has never counted.
    pub rows: Option<u64>,
    /// Bytes on the disk without indexes, partitions included; unknown where it was not told.
    pub bytes: Option<u64>,
}

impl TableFacts {
    /// A table of which no more is known yet.
    pub fn of(table: Table) -> Self {
        Self {
            table,
            refused: None,
            columns: BTreeMap::new(),
            checks: Vec::new(),
            exclusions: Vec::new(),
            actions: BTreeMap::new(),
            always: Vec::new(),
            policies: BTreeMap::new(),
            publications: Vec::new(),
            missing_rights: Vec::new(),
            hidden_rows: false,
            callers_lack: Vec::new(),
            callers_see_all: false,
            callers_own: false,
            rows: None,
            bytes: None,
        }
    }
}

/// More of a column.
#[derive(Debug, Clone)]
pub struct ColumnFacts {
    /// Its type, whatever it is made of.
    pub ty: Arc<PgType>,
    /// Its collation; `None` for a type without.
    pub collation: Option<Collation>,
    /// Constraints of the domains it is of.
    pub domain_checks: Vec<String>,
    /// A domain it is of is NOT NULL.
    pub domain_not_null: bool,
    /// The extension that brought its type.
    pub extension: Option<String>,
    /// The sequence that its default or identity takes numbers from.
    pub sequence: Option<Sequence>,
}

/// A constraint that the server writes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Its name.
    pub name: String,
    /// `CHECK (…)`, `EXCLUDE USING …`.
    pub definition: String,
    /// All rows satisfy it, the old ones too.
    pub is_valid: bool,
}

/// A sequence that a column takes its values from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Its name.
    pub name: TableName,
    /// `smallint`, `integer` or `bigint`.
    pub data_type: String,
    /// Its first number.
    pub start: i64,
    /// Its smallest number.
    pub min: i64,
    /// Its largest number.
    pub max: i64,
    /// Its step.
    pub increment: i64,
    /// It begins again at the end.
    pub cycles: bool,
    /// The last number given out; `None` where none was, or it may not be read.
    pub last: Option<i64>,
    /// The largest number in the column; `None` where that was not asked, or there is none.
    pub largest: Option<i64>,
    /// It goes with the column when that is dropped.
    pub is_owned: bool,
    /// Rights that segue's role lacks.
    pub missing_rights: Vec<String>,
    /// The column has its numbers as they are: it holds integers, and its default asks for
    /// nothing else.
    pub is_plain: bool,
}

// === impl World ===

impl World {
    /// The catalogue of a side.
    pub fn side(&self, side: Side) -> &Catalogue {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// The tables that are there on both sides.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        self.tables.iter().filter_map(|it| {
            Some(Pair {
                mapping: &it.mapping,
                source: it.source.as_ref()?,
                target: it.target.as_ref()?,
            })
        })
    }

    /// Every table that is there, on each side.
    pub fn each(&self) -> impl Iterator<Item = (Side, &TableFacts)> {
        self.tables.iter().flat_map(|it| {
            let of = |side, facts: &'_ Option<TableFacts>| facts.is_some().then_some(side);
            [of(Side::Source, &it.source), of(Side::Target, &it.target)]
                .into_iter()
                .flatten()
                .filter_map(|side| Some((side, it.on(side)?)))
        })
    }
}

// === impl Migrated ===

impl Migrated {
    /// The table of a side, where it is there.
    pub fn on(&self, side: Side) -> Option<&TableFacts> {
        match side {
            Side::Source => self.source.as_ref(),
            Side::Target => self.target.as_ref(),
        }
    }
}

/// A table that both sides have.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Where it is.
    pub mapping: &'a TableMapping,
    /// The source's.
    pub source: &'a TableFacts,
    /// The target's.
    pub target: &'a TableFacts,
}

/// A column that both sides have.
#[derive(Debug, Clone, Copy)]
pub struct ColumnPair<'a> {
    /// The source's.
    pub source: SideColumn<'a>,
    /// The target's.
    pub target: SideColumn<'a>,
}

/// A column of one side.
#[derive(Debug, Clone, Copy)]
pub struct SideColumn<'a> {
    /// What the catalogue says of it.
    pub column: &'a Column,
    /// And what else.
    pub facts: &'a ColumnFacts,
}

// === impl Pair ===

impl<'a> Pair<'a> {
    /// Columns that both sides have, by name.
    pub fn columns(&self) -> impl Iterator<Item = ColumnPair<'a>> {
        let (source, target) = (self.source, self.target);
        source.table.columns.iter().filter_map(move |column| {
            Some(ColumnPair {
                source: source.column(&column.name)?,
                target: target.column(&column.name)?,
            })
        })
    }

    /// The facts of a side.
    pub fn on(&self, side: Side) -> &'a TableFacts {
        match side {
            Side::Source => self.source,
            Side::Target => self.target,
        }
    }
}

// === impl TableFacts ===

impl TableFacts {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<SideColumn<'_>> {
        Some(SideColumn { column: self.table.column(name)?, facts: self.columns.get(name)? })
    }

    /// All columns.
    pub fn all_columns(&self) -> impl Iterator<Item = SideColumn<'_>> {
        self.table.columns.iter().filter_map(|column| self.column(&column.name))
    }

    /// Whether the primary key or a unique index rests on the column.
    pub fn is_unique_by(&self, column: &str) -> bool {
        let in_key = self.table.primary_key.iter().flat_map(|key| &key.columns);
        let of_indexes = self.table.unique_indexes.iter().flat_map(|index| &index.columns);
        in_key.map(|key| &key.name).chain(of_indexes.flatten()).any(|name| name == column)
    }

    /// Whether the column is of the primary key.
    pub fn is_key(&self, column: &str) -> bool {
        self.table.primary_key.iter().flat_map(|key| &key.columns).any(|key| key.name == column)
    }
}
