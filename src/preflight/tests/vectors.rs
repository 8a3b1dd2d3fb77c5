//! One change of two equal sides for each rule, at least.

use super::fixture::*;
use crate::domain::pg_type::{PgType, TypeKind};
use crate::domain::relation::{Generated, Identity, RowSecurity, Rule, TableKind};
use crate::domain::side::Side;
use crate::domain::table::TableName;
use crate::preflight::describe::{SegueSchema, World};
use crate::preflight::{Code, Finding};

type Vector = (&'static str, fn(&mut World), &'static [&'static str]);

pub(super) fn all() -> Vec<Vector> {
    [servers(), roles(), tables(), keys(), columns(), defaults(), constraints(), relations()]
        .concat()
}

fn set(world: &mut World, name: &str, value: &str) {
    world.source.server.settings.insert(name.to_owned(), value.to_owned());
    world.target.server.settings.insert(name.to_owned(), value.to_owned());
}

fn servers() -> Vec<Vector> {
    vec![
        (
            "a pooler, found on the way",
            |w| w.found.push(Finding::new(Code::Pooler, Side::Source, "a pooler")),
            &["server.pooler source "],
        ),
        (
            "an unreadable catalogue, found on the way",
            |w| w.found.push(Finding::new(Code::Unreadable, Side::Target, "refused")),
            &["server.unreadable target "],
        ),
        ("a standby", |w| w.source.server.in_recovery = true, &["server.standby source "]),
        (
            "read-only",
            |w| w.target.server.read_only = true,
            &["server.read_only target default_transaction_read_only"],
        ),
        ("an old server", |w| w.target.server.version = 130_012, &["server.too_old target "]),
        (
            "not asked",
            |w| w.target.not_asked.push(("policies", "no such table".to_owned())),
            &["server.not_asked target policies"],
        ),
        (
            "prepared",
            |w| w.source.prepared.push("gid".to_owned()),
            &["server.prepared_open source gid"],
        ),
        (
            "may prepare",
            |w| set(w, "max_prepared_transactions", "10"),
            &[
                "server.prepared_allowed source max_prepared_transactions",
                "server.prepared_allowed target max_prepared_transactions",
            ],
        ),
        (
            "asynchronous",
            |w| drop(w.source.server.settings.insert("synchronous_commit".into(), "off".into())),
            &["server.async_commit source synchronous_commit"],
        ),
        (
            "fsync",
            |w| drop(w.target.server.settings.insert("fsync".into(), "off".into())),
            &["server.unsafe_disk target fsync"],
        ),
        (
            "a smaller encoding",
            |w| w.target.server.encoding = "LATIN1".into(),
            &["server.encoding target encoding"],
        ),
        (
            "no encoding",
            |w| w.source.server.encoding = "SQL_ASCII".into(),
            &["server.encoding target encoding"],
        ),
        (
            "a larger encoding",
            |w| w.source.server.encoding = "LATIN1".into(),
            &["server.encoding_back source encoding"],
        ),
        (
            "another locale",
            |w| w.target.server.collation = collation("de-DE", false),
            &["server.collation target LC_COLLATE"],
        ),
        (
            "another zone",
            |w| drop(w.target.server.settings.insert("TimeZone".into(), "Asia/Tokyo".into())),
            &["server.setting target TimeZone"],
        ),
        (
            "large objects",
            |w| {
                w.source.has_large_objects = true;
                pair(w, (ty("oid"), -1), (ty("oid"), -1));
            },
            &[
                "server.large_objects source large objects",
                "column.large_object source public.parent.x",
            ],
        ),
        (
            "an extension that is used and missing",
            |w| {
                facts(on_source(w), "note").extension = Some("citext".into());
                w.source.extensions.insert("citext".into(), "1.6".into());
                w.source.extensions.insert("unused".into(), "1".into());
            },
            &["server.extension_missing target citext"],
        ),
        (
            "an extension of another version",
            |w| {
                facts(on_source(w), "note").extension = Some("citext".into());
                w.source.extensions.insert("citext".into(), "1.6".into());
                w.target.extensions.insert("citext".into(), "1.5".into());
            },
            &["server.extension_version target citext"],
        ),
    ]
}

fn roles() -> Vec<Vector> {
    vec![
        (
            "not a replica",
            |w| w.target.role.may_be_replica = Some(false),
            &["role.replication_role target session_replication_role"],
        ),
        (
            "no schema",
            |w| w.source.role.schema = SegueSchema::CannotBeMade,
            &["role.schema source segue"],
        ),
        (
            "another's schema",
            |w| w.source.role.schema = SegueSchema::OfAnother,
            &["role.schema source segue"],
        ),
        (
            "a closed schema",
            |w| {
                w.target.role.closed_schemas.push("public".into());
                // Reconcile's word for it is the same fault.
                w.tables[0].unfit.push((Side::Target, "no such table".into()));
            },
            &["role.schema_usage target public"],
        ),
        (
            "no right to write",
            |w| on_target(w).missing_rights.push("INSERT".into()),
            &["role.table_rights target public.parent"],
        ),
        (
            "hidden rows",
            |w| on_source(w).hidden_rows = true,
            &["role.row_security source public.parent"],
        ),
        (
            "no right to a sequence",
            |w| {
                let sequence = facts(on_target(w), "id").sequence.as_mut();
                sequence.unwrap().missing_rights.push("UPDATE".into());
            },
            &["role.sequence_rights target public.parent.id"],
        ),
    ]
}

fn refuse(world: &mut World, reason: &'static str) {
    on_source(world).refused = Some((reason, "it is refused".to_owned()));
}

fn tables() -> Vec<Vector> {
    vec![
        ("missing", |w| w.tables[1].target = None, &["table.missing target public.child"]),
        (
            "no key",
            |w| refuse(w, "refused.no_primary_key"),
            &["table.no_primary_key source public.parent"],
        ),
        ("unlogged", |w| refuse(w, "refused.unlogged"), &["table.unlogged source public.parent"]),
        (
            "foreign",
            |w| refuse(w, "refused.foreign_table"),
            &["table.foreign source public.parent"],
        ),
        (
            "a view",
            |w| refuse(w, "refused.not_a_table"),
            &["table.not_a_table source public.parent"],
        ),
        (
            "a view of other columns",
            |w| {
                on_target(w).table.kind = TableKind::View;
                on_target(w).table.columns.clear();
            },
            &[],
        ),
        (
            "a partition",
            |w| refuse(w, "refused.partition"),
            &["table.partition source public.parent"],
        ),
        (
            "an odd partition",
            |w| refuse(w, "refused.partition_kind"),
            &["table.partition_kind source public.parent"],
        ),
        (
            "inheritance",
            |w| refuse(w, "refused.inheritance"),
            &["table.inheritance source public.parent"],
        ),
        (
            "subscribed",
            |w| refuse(w, "refused.subscription"),
            &["table.subscribed source public.parent"],
        ),
        (
            "partitioned on one side",
            |w| on_target(w).table.kind = TableKind::Partitioned,
            &["table.partitioned target public.parent"],
        ),
        (
            "a stray",
            |w| w.target.strays.push(TableName::new("public", "other")),
            &["table.only_on_target target public.other"],
        ),
        (
            "published",
            |w| on_source(w).publications.push("cdc".into()),
            &["table.published source public.parent.cdc"],
        ),
        (
            "row security and a policy on the source only",
            |w| {
                on_source(w).table.row_security = RowSecurity::On;
                on_source(w).policies.insert("own".into(), "FOR ALL".into());
            },
            &[
                "table.row_security target public.parent",
                "table.row_security target public.parent.own",
            ],
        ),
        (
            "what reconcile refuses and no rule knows",
            |w| w.tables[0].unfit.push((Side::Target, "it is odd".into())),
            &["table.unfit target public.parent"],
        ),
        (
            "what reconcile refuses and a rule has told",
            |w| {
                w.tables[0].unfit.push((Side::Target, "no key".into()));
                refuse(w, "refused.no_primary_key");
            },
            &["table.no_primary_key source public.parent"],
        ),
    ]
}

fn key_of<'a>(world: &'a mut World, names: &[&str]) -> &'a mut World {
    let table = &mut on_target(world).table;
    let key = table.primary_key.as_mut().unwrap();
    let first = key.columns[0].clone();
    key.columns = names
        .iter()
        .map(|name| {
            let mut column = first.clone();
            column.name = (*name).to_owned();
            column
        })
        .collect();
    world
}

fn keys() -> Vec<Vector> {
    vec![
        (
            "other columns",
            |w| {
                key_of(w, &["id", "note"]);
            },
            &["key.columns target public.parent"],
        ),
        (
            "another order",
            |w| {
                key_of(w, &["id", "note"]);
                on_source(w).table.primary_key = on_target(w).table.primary_key.clone();
                key_of(w, &["note", "id"]);
            },
            &["key.order target public.parent"],
        ),
        (
            "deferrable",
            |w| on_target(w).table.primary_key.as_mut().unwrap().deferrable = true,
            &["key.deferrable target public.parent.parent_pkey"],
        ),
        (
            "wider integers",
            |w| {
                put(on_target(w), "id", ty("int8"), -1);
                column(on_target(w), "id").not_null = true;
                column(on_source(w), "id").default = None;
                facts(on_source(w), "id").sequence = None;
            },
            &["column.wider source public.parent.id"],
        ),
        (
            "deferrable on the source",
            |w| on_source(w).table.primary_key.as_mut().unwrap().deferrable = true,
            &[],
        ),
        (
            "a coarser key",
            |w| {
                for (facts, modifier) in
                    [(on_source as fn(&mut World) -> &mut _, 6), (on_target, 3)]
                {
                    put(facts(w), "id", ty("timestamp"), modifier);
                }
            },
            &["key.type target public.parent.id", "column.coarser_unique target public.parent.id"],
        ),
    ]
}

fn columns() -> Vec<Vector> {
    vec![
        (
            "missing on the target",
            |w| put(on_source(w), "x", ty("int4"), -1),
            &["column.missing target public.parent.x"],
        ),
        (
            "missing on the source",
            |w| put(on_target(w), "x", ty("int4"), -1),
            &["column.missing source public.parent.x"],
        ),
        (
            "CockroachDB's own",
            |w| put(on_target(w), "crdb_internal_id_shard_16", ty("int4"), -1),
            &[],
        ),
        (
            "no counterpart",
            |w| pair(w, (ty("bool"), -1), (ty("int4"), -1)),
            &["column.no_counterpart target public.parent.x"],
        ),
        (
            "narrower",
            |w| pair(w, (ty("int8"), -1), (ty("int4"), -1)),
            &["column.narrower target public.parent.x"],
        ),
        (
            "shorter",
            |w| pair(w, (ty("varchar"), 24), (ty("varchar"), 14)),
            &["column.narrower target public.parent.x"],
        ),
        (
            "coarser",
            |w| pair(w, (ty("timestamptz"), 6), (ty("timestamptz"), 3)),
            &["column.coarser target public.parent.x"],
        ),
        (
            "coarser and unique",
            |w| {
                pair(w, (ty("timestamptz"), 6), (ty("timestamptz"), 3));
                on_source(w).table.unique_indexes.push(unique("u", &["x"]));
                on_target(w).table.unique_indexes.push(unique("u", &["x"]));
            },
            &["column.coarser_unique target public.parent.x"],
        ),
        (
            "wider",
            |w| pair(w, (ty("varchar"), 24), (ty("text"), -1)),
            &["column.wider source public.parent.x"],
        ),
        (
            "finer",
            |w| pair(w, (ty("time"), 3), (ty("time"), 6)),
            &["column.finer source public.parent.x"],
        ),
        (
            "labels",
            |w| pair(w, (enumeration(&["a", "b"]), -1), (enumeration(&["c", "a"]), -1)),
            &[
                "column.enum_labels target public.parent.x",
                "column.enum_labels_back source public.parent.x",
            ],
        ),
        (
            "labels in another order",
            |w| pair(w, (enumeration(&["a", "b"]), -1), (enumeration(&["b", "a"]), -1)),
            &["column.enum_order target public.parent.x"],
        ),
        (
            "NOT NULL on the target",
            |w| column(on_target(w), "note").not_null = true,
            &["column.not_null target public.parent.note"],
        ),
        (
            "NOT NULL by a domain",
            |w| facts(on_target(w), "note").domain_not_null = true,
            &["column.not_null target public.parent.note"],
        ),
        (
            "NOT NULL on the source",
            |w| column(on_source(w), "note").not_null = true,
            &["column.nullable target public.parent.note"],
        ),
        (
            "generated on the target",
            |w| column(on_target(w), "note").generated = Some(Generated::Stored),
            &["column.generated target public.parent.note"],
        ),
        (
            "generated differently",
            |w| {
                for (facts, sql) in
                    [(on_source as fn(&mut World) -> &mut _, "id + 1"), (on_target, "id + 2")]
                {
                    let column = column(facts(w), "note");
                    (column.generated, column.default) =
                        (Some(Generated::Stored), Some(sql.into()));
                }
            },
            &["column.generated target public.parent.note"],
        ),
        (
            "generated on the source",
            |w| column(on_source(w), "note").generated = Some(Generated::Stored),
            &["column.generated_source target public.parent.note"],
        ),
        (
            "generated and kept, or not",
            |w| {
                column(on_source(w), "note").generated = Some(Generated::Stored);
                column(on_target(w), "note").generated = Some(Generated::Virtual);
            },
            &["column.generated_kind target public.parent.note"],
        ),
        (
            "another collation",
            |w| facts(on_target(w), "note").collation = Some(collation("C", false)),
            &["column.collation target public.parent.note"],
        ),
        (
            "a blind collation in a unique index",
            |w| {
                facts(on_target(w), "note").collation = Some(collation("und-ci", true));
                on_source(w).table.unique_indexes.push(unique("u", &["note"]));
                on_target(w).table.unique_indexes.push(unique("u", &["note"]));
            },
            &["column.collation_unique target public.parent.note"],
        ),
        (
            "an object's id",
            |w| pair(w, (ty("regclass"), -1), (ty("regclass"), -1)),
            &["column.object_id source public.parent.x"],
        ),
        (
            "arrays on CockroachDB",
            |w| {
                w.target.server.is_cockroach = true;
                pair(w, (ty("int4[]"), -1), (ty("int4[]"), -1));
            },
            &["column.array_dimensions target public.parent.x"],
        ),
        (
            "json",
            |w| pair(w, (ty("json"), -1), (ty("jsonb"), -1)),
            &["column.coarser target public.parent.x", "column.json target public.parent.x"],
        ),
        (
            "infinite spans",
            |w| {
                w.source.server.version = 160_000;
                pair(w, (ty("interval"), -1), (ty("interval"), -1));
            },
            &["column.infinity source public.parent.x"],
        ),
        (
            "domains",
            |w| {
                pair(w, (domain(ty("int4")), -1), (domain(ty("int4")), -1));
                facts(on_source(w), "x").domain_checks.push("CHECK ((VALUE > 0))".into());
                facts(on_target(w), "x").domain_checks.push("CHECK ((VALUE > 1))".into());
            },
            &[
                "column.domain_stricter target public.parent.x",
                "column.domain_looser target public.parent.x",
            ],
        ),
        (
            "a composite of another shape",
            |w| {
                let composite = |fields: &[&str]| {
                    let fields = fields.iter().map(|it| (it.to_string(), ty(it).into()));
                    let kind = TypeKind::Composite(fields.collect());
                    PgType { oid: 9, name: "c".into(), schema: "public".into(), kind }
                };
                pair(w, (composite(&["int4", "text"]), -1), (composite(&["int4", "int4"]), -1));
            },
            &["column.no_counterpart target public.parent.x"],
        ),
    ]
}

fn defaults() -> Vec<Vector> {
    vec![
        (
            "missing",
            |w| column(on_source(w), "note").default = Some("'a'::text".into()),
            &["column.default_missing target public.parent.note"],
        ),
        (
            "added",
            |w| column(on_target(w), "note").default = Some("'a'::text".into()),
            &["column.default_added target public.parent.note"],
        ),
        (
            "another",
            |w| {
                column(on_source(w), "note").default = Some("'a'::text".into());
                column(on_target(w), "note").default = Some("'b'::text".into());
            },
            &["column.default_differs target public.parent.note"],
        ),
        (
            "numbers that do not come back",
            |w| {
                put(on_target(w), "id", ty("int8"), -1);
                column(on_target(w), "id").not_null = true;
                column(on_target(w), "id").default = Some("public.unique_rowid()".into());
            },
            &[
                "column.wider source public.parent.id",
                "column.default_too_big source public.parent.id",
            ],
        ),
        (
            "a sequence beyond the source's integers",
            |w| {
                let sequence = facts(on_target(w), "id").sequence.as_mut().unwrap();
                sequence.last = Some(3_000_000_000);
            },
            &["column.default_too_big source public.parent.id"],
        ),
        (
            "uuids into a short text",
            |w| {
                pair(w, (ty("varchar"), 24), (ty("varchar"), 24));
                column(on_target(w), "x").default = Some("gen_random_uuid()".into());
            },
            &[
                "column.default_too_big source public.parent.x",
                "column.default_added target public.parent.x",
            ],
        ),
        (
            "identity",
            |w| column(on_target(w), "id").identity = Some(Identity::Always),
            &["column.identity target public.parent.id"],
        ),
        (
            "a sequence behind its column",
            |w| facts(on_source(w), "id").sequence.as_mut().unwrap().largest = Some(101),
            &["sequence.behind source public.parent.id"],
        ),
        (
            "a sequence never used behind its column",
            |w| facts(on_source(w), "id").sequence.as_mut().unwrap().last = None,
            &["sequence.behind source public.parent.id"],
        ),
        (
            "a sequence too short",
            |w| facts(on_target(w), "id").sequence.as_mut().unwrap().max = 100,
            &["sequence.range target public.parent.id"],
        ),
        (
            "other steps",
            |w| facts(on_target(w), "id").sequence.as_mut().unwrap().cycles = true,
            &["sequence.step target public.parent.id"],
        ),
        (
            "owned by nobody",
            |w| facts(on_target(w), "id").sequence.as_mut().unwrap().is_owned = false,
            &["sequence.owned target public.parent.id"],
        ),
    ]
}

fn constraints() -> Vec<Vector> {
    vec![
        (
            "a check on the target",
            |w| on_target(w).checks.push(constraint("c", "CHECK ((id > 0))")),
            &["constraint.check_target target public.parent.c"],
        ),
        (
            "a check on the source",
            |w| on_source(w).checks.push(constraint("c", "CHECK ((id > 0))")),
            &["constraint.check_source target public.parent.c"],
        ),
        (
            "two checks of one name",
            |w| on_target(w).checks[0].definition = "CHECK ((id < 5))".into(),
            &["constraint.check_differs target public.parent.few"],
        ),
        (
            "one check by two names",
            |w| on_target(w).checks[0] = constraint("other", "CHECK (id < (1000000)::bigint)"),
            &[],
        ),
        (
            "not valid on the source",
            |w| {
                let check = &mut on_source(w).checks[0];
                check.is_valid = false;
                check.definition += " NOT VALID";
            },
            &["constraint.check_not_valid source public.parent.few"],
        ),
        (
            "unique on the target",
            |w| on_target(w).table.unique_indexes.push(unique("u", &["note"])),
            &["constraint.unique_target target public.parent.u"],
        ),
        (
            "unique on the source",
            |w| on_source(w).table.unique_indexes.push(unique("u", &["note"])),
            &["constraint.unique_source target public.parent.u"],
        ),
        (
            "unique by more columns than the key",
            |w| on_target(w).table.unique_indexes.push(unique("u", &["note", "id"])),
            &[],
        ),
        (
            "unique by an expression on both",
            |w| {
                for (facts, name) in
                    [(on_source as fn(&mut World) -> &mut _, "a"), (on_target, "b")]
                {
                    let mut index = unique(name, &["lower(note)"]);
                    index.columns = vec![None];
                    facts(w).table.unique_indexes.push(index);
                }
            },
            &[],
        ),
        (
            "unique where NULLs are equal",
            |w| {
                on_source(w).table.unique_indexes.push(unique("u", &["note"]));
                let mut index = unique("u", &["note"]);
                index.nulls_not_distinct = true;
                index.definition += " NULLS NOT DISTINCT";
                on_target(w).table.unique_indexes.push(index);
            },
            &["constraint.unique_target target public.parent.u"],
        ),
        (
            "exclusions",
            |w| {
                on_source(w).exclusions.push(constraint("a", "EXCLUDE USING gist (r WITH &&)"));
                on_target(w).exclusions.push(constraint("b", "EXCLUDE USING gist (s WITH &&)"));
            },
            &[
                "constraint.exclusion_target target public.parent.b",
                "constraint.exclusion_source target public.parent.a",
            ],
        ),
    ]
}

fn relations() -> Vec<Vector> {
    vec![
        (
            "a foreign key on the target",
            |w| children(w)[0].table.foreign_keys.clear(),
            &["foreign_key.added target public.child.child_id_fkey"],
        ),
        (
            "a foreign key on an active target",
            |w| {
                w.target.server.is_cockroach = true;
                children(w)[0].table.foreign_keys.clear();
            },
            &["foreign_key.added_active target public.child.child_id_fkey"],
        ),
        (
            "a foreign key on the source",
            |w| children(w)[1].table.foreign_keys.clear(),
            &["foreign_key.dropped target public.child.child_id_fkey"],
        ),
        (
            "other actions",
            |w| {
                let actions = &mut children(w)[0].actions;
                actions.insert("child_id_fkey".into(), "ON DELETE CASCADE".into());
            },
            &["foreign_key.differs target public.child.child_id_fkey"],
        ),
        (
            "a parent that is not migrated",
            |w| {
                for child in children(w) {
                    child.table.foreign_keys.push(foreign_key("outside", "countries"));
                }
            },
            &["foreign_key.outside target public.child.outside"],
        ),
        (
            "a parent that is not migrated, on an active target",
            |w| {
                w.target.server.is_cockroach = true;
                for child in children(w) {
                    child.table.foreign_keys.push(foreign_key("outside", "countries"));
                }
            },
            &["foreign_key.outside_active target public.child.outside"],
        ),
        (
            "a circle",
            |w| {
                on_source(w).table.foreign_keys.push(foreign_key("back", "child"));
                on_target(w).table.foreign_keys.push(foreign_key("back", "child"));
            },
            &["foreign_key.cycle target public.child"],
        ),
        (
            "an active circle",
            |w| {
                w.target.server.is_cockroach = true;
                on_source(w).table.foreign_keys.push(foreign_key("back", "child"));
                on_target(w).table.foreign_keys.push(foreign_key("back", "child"));
            },
            &["foreign_key.cycle_active target public.child"],
        ),
        (
            "a table that refers to itself",
            |w| {
                on_source(w).table.foreign_keys.push(foreign_key("self", "parent"));
                on_target(w).table.foreign_keys.push(foreign_key("self", "parent"));
            },
            &[],
        ),
        (
            "always",
            |w| on_target(w).always.push(("trigger t".into(), "ALTER TABLE …".into())),
            &["trigger.always target public.parent.trigger t"],
        ),
        (
            "a trigger on an active target",
            |w| {
                w.target.server.is_cockroach = true;
                on_source(w).table.triggers.push(trigger("t", 'O'));
                on_target(w).table.triggers.push(trigger("t", 'O'));
            },
            &["trigger.active target public.parent.trigger t"],
        ),
        (
            "a trigger on the target",
            |w| on_target(w).table.triggers.push(trigger("t", 'O')),
            &["trigger.added target public.parent.trigger t"],
        ),
        (
            "a rule on the source",
            |w| {
                let rule = Rule { name: "r".into(), definition: "CREATE RULE r".into() };
                on_source(w).table.rules.push(rule);
            },
            &["trigger.dropped target public.parent.rule r"],
        ),
        (
            "capture's own trigger, and one that is switched off",
            |w| {
                on_source(w).table.triggers.push(trigger("segue_capture_1", 'O'));
                on_target(w).table.triggers.push(trigger("t", 'D'));
            },
            &[],
        ),
    ]
}
