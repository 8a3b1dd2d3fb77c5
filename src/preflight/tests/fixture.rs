//! Two sides that are equal: `parent` and its `child`.

use std::sync::Arc;

use crate::dialect::Dialect;
use crate::domain::pg_type::{PgType, TypeKind};
use crate::domain::relation::{
    Column, ForeignKey, KeyColumn, Persistence, PrimaryKey, RowSecurity, Table, TableKind, Trigger,
    UniqueIndex,
};
use crate::domain::table::{TableMapping, TableName};
use crate::preflight::describe::{
    Callers, Catalogue, Collation, ColumnFacts, Constraint, Migrated, Role, Sequence, Server,
    TableFacts, World,
};

pub(super) fn ty(name: &str) -> PgType {
    let (name, kind) = match name.strip_suffix("[]") {
        Some(element) => (format!("_{element}"), TypeKind::Array(Arc::new(ty(element)))),
        None => (name.to_owned(), TypeKind::Simple),
    };
    PgType { oid: 1, name, schema: "pg_catalog".to_owned(), kind }
}

pub(super) fn enumeration(labels: &[&str]) -> PgType {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    let (name, schema) = ("status".to_owned(), "public".to_owned());
    PgType { oid: 2, name, schema, kind: TypeKind::Enum(labels) }
}

pub(super) fn domain(base: PgType) -> PgType {
    let kind = TypeKind::Domain(Arc::new(base));
    PgType { oid: 3, name: "positive".to_owned(), schema: "public".to_owned(), kind }
}

pub(super) fn collation(locale: &str, is_blind: bool) -> Collation {
    Collation { provider: "icu".to_owned(), locale: locale.to_owned(), is_blind }
}

pub(super) fn sequence() -> Sequence {
    Sequence {
        name: TableName::new("public", "parent_id_seq"),
        data_type: "bigint".to_owned(),
        start: 1,
        min: 1,
        max: i64::MAX,
        increment: 1,
        cycles: false,
        last: Some(100),
        largest: Some(100),
        is_owned: true,
        missing_rights: Vec::new(),
        is_plain: true,
    }
}

/// Makes the sequence of `parent` one that counts down, on both sides.
pub(super) fn descending(world: &mut World, last: i64) {
    for side in [on_source as fn(&mut World) -> &mut TableFacts, on_target] {
        let sequence = facts(side(world), "id").sequence.as_mut().unwrap();
        (sequence.increment, sequence.start, sequence.largest) = (-1, -1, Some(-1));
        (sequence.min, sequence.max, sequence.last) = (-1000, -1, Some(last));
    }
}

pub(super) fn trigger(name: &str, enabled: char) -> Trigger {
    let definition = format!("CREATE TRIGGER {name} AFTER INSERT ON t EXECUTE FUNCTION f()");
    Trigger { name: name.to_owned(), enabled, definition }
}

pub(super) fn constraint(name: &str, definition: &str) -> Constraint {
    let (name, definition) = (name.to_owned(), definition.to_owned());
    Constraint { name, definition, is_valid: true }
}

pub(super) fn unique(name: &str, columns: &[&str]) -> UniqueIndex {
    UniqueIndex {
        name: name.to_owned(),
        columns: columns.iter().map(|column| Some((*column).to_owned())).collect(),
        partial: false,
        nulls_not_distinct: false,
        definition: format!(
            "CREATE UNIQUE INDEX {name} ON public.parent USING btree ({})",
            columns.join(", ")
        ),
    }
}

/// Puts a column into a table, in the place of one of that name.
pub(super) fn put(facts: &mut TableFacts, name: &str, ty: PgType, modifier: i32) {
    let number = i16::try_from(facts.table.columns.len()).unwrap_or(0);
    let column = Column {
        number,
        name: name.to_owned(),
        type_oid: ty.oid,
        type_sql: format!("{}({modifier})", ty.name),
        base_type: ty.base().name.clone(),
        base_schema: ty.base().schema.clone(),
        type_modifier: modifier,
        not_null: false,
        generated: None,
        identity: None,
        default: None,
        deterministic: true,
    };
    facts.table.columns.retain(|column| column.name != name);
    facts.table.columns.push(column);
    let is_text = matches!(ty.name.as_str(), "text" | "varchar" | "bpchar");
    facts.columns.insert(
        name.to_owned(),
        ColumnFacts {
            ty: Arc::new(ty),
            collation: is_text.then(|| collation("en-US", false)),
            domain_checks: Vec::new(),
            domain_not_null: false,
            extension: None,
            sequence: None,
        },
    );
}

/// Puts a column of these types on the two sides of `parent`.
pub(super) fn pair(world: &mut World, source: (PgType, i32), target: (PgType, i32)) {
    put(on_source(world), "x", source.0, source.1);
    put(on_target(world), "x", target.0, target.1);
}

/// A column of `parent`.
pub(super) fn column<'a>(facts: &'a mut TableFacts, name: &str) -> &'a mut Column {
    facts.table.columns.iter_mut().find(|column| column.name == name).unwrap()
}

/// What else is known of it.
pub(super) fn facts<'a>(facts: &'a mut TableFacts, name: &str) -> &'a mut ColumnFacts {
    facts.columns.get_mut(name).unwrap()
}

/// `parent` on the source.
pub(super) fn on_source(world: &mut World) -> &mut TableFacts {
    world.tables[0].source.as_mut().unwrap()
}

/// `parent` on the target.
pub(super) fn on_target(world: &mut World) -> &mut TableFacts {
    world.tables[0].target.as_mut().unwrap()
}

/// `child` on both sides.
pub(super) fn children(world: &mut World) -> [&mut TableFacts; 2] {
    let child = &mut world.tables[1];
    [child.source.as_mut().unwrap(), child.target.as_mut().unwrap()]
}

pub(super) fn foreign_key(name: &str, referenced: &str) -> ForeignKey {
    ForeignKey {
        name: name.to_owned(),
        columns: vec!["id".to_owned()],
        referenced: TableName::new("public", referenced),
        referenced_columns: vec!["id".to_owned()],
        deferrable: false,
    }
}

fn table(name: &str) -> TableFacts {
    let table = Table {
        oid: 100,
        name: TableName::new("public", name),
        kind: TableKind::Ordinary,
        persistence: Persistence::Permanent,
        owner: "postgres".to_owned(),
        is_partition: false,
        inherits: false,
        of_extension: false,
        subscribed: false,
        row_security: RowSecurity::Off,
        columns: Vec::new(),
        primary_key: Some(PrimaryKey {
            name: format!("{name}_pkey"),
            columns: vec![KeyColumn {
                name: "id".to_owned(),
                base_type: "int4".to_owned(),
                base_schema: "pg_catalog".to_owned(),
                text_equality: true,
            }],
            deferrable: false,
        }),
        unique_indexes: Vec::new(),
        foreign_keys: Vec::new(),
        partitions: Vec::new(),
        triggers: Vec::new(),
        rules: Vec::new(),
    };
    let mut facts = TableFacts::of(table);
    put(&mut facts, "id", ty("int4"), -1);
    column(&mut facts, "id").not_null = true;
    put(&mut facts, "note", ty("text"), -1);
    facts
}

fn side() -> Catalogue {
    let settings = [("TimeZone", "UTC"), ("max_prepared_transactions", "0")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Catalogue {
        server: Server {
            dialect: Dialect::POSTGRESQL.with_version_num(170_000),
            settings: settings.into(),
            database: "shop".to_owned(),
            encoding: "UTF8".to_owned(),
            collation: collation("en-US", false),
            ..Server::default()
        },
        role: Role { name: "segue".to_owned(), may_be_replica: Some(true), ..Role::default() },
        callers: Callers { name: "shop_app".to_owned(), ..Callers::default() },
        ..Catalogue::default()
    }
}

pub(super) fn world() -> World {
    let mapping = |name: &str| {
        let name = TableName::new("public", name);
        TableMapping { source: name.clone(), target: name }
    };
    let mut parent = table("parent");
    (parent.rows, parent.bytes) = (Some(25_000), Some(5_000_000));
    column(&mut parent, "id").default = Some("nextval('parent_id_seq'::regclass)".to_owned());
    facts(&mut parent, "id").sequence = Some(sequence());
    parent.checks.push(constraint("few", "CHECK ((id < 1000000))"));
    let mut child = table("child");
    child.table.foreign_keys.push(foreign_key("child_id_fkey", "parent"));
    let both = |facts: TableFacts, name: &str| Migrated {
        mapping: mapping(name),
        source: Some(facts.clone()),
        target: Some(facts),
        unfit: Vec::new(),
    };
    World {
        source: side(),
        target: side(),
        tables: vec![both(parent, "parent"), both(child, "child")],
        mappings: vec![mapping("parent"), mapping("child")],
        found: Vec::new(),
    }
}
