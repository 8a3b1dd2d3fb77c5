//! Columns and their defaults.

use super::Vector;
use crate::dialect::Dialect;
use crate::domain::pg_type::{PgType, TypeKind};
use crate::domain::relation::{Generated, Identity};
use crate::preflight::describe::World;
use crate::preflight::tests::fixture::*;

pub(super) fn columns() -> Vec<Vector> {
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
                w.target.server.dialect = Dialect::COCKROACHDB;
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
                w.source.server.dialect = Dialect::POSTGRESQL.with_version_num(160_000);
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

pub(super) fn defaults() -> Vec<Vector> {
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
        ("descending sequences that are alike", |w| descending(w, -5), &[]),
        (
            "descending sequences of which the target's ends before",
            |w| {
                descending(w, -50);
                facts(on_target(w), "id").sequence.as_mut().unwrap().min = -40;
            },
            &["sequence.range target public.parent.id"],
        ),
        (
            "cycling sequences that are alike, at their end",
            |w| {
                for on_side in [on_source as fn(&mut World) -> &mut _, on_target] {
                    let sequence = facts(on_side(w), "id").sequence.as_mut();
                    let sequence = sequence.unwrap();
                    (sequence.cycles, sequence.max, sequence.last) = (true, 100, Some(100));
                }
            },
            &[],
        ),
        (
            "sequences at an end that is the same",
            |w| {
                for on_side in [on_source as fn(&mut World) -> &mut _, on_target] {
                    let sequence = facts(on_side(w), "id").sequence.as_mut();
                    sequence.unwrap().max = 100;
                }
            },
            &[],
        ),
        (
            "a sequence inside an expression",
            |w| {
                let sequence = facts(on_target(w), "id").sequence.as_mut().unwrap();
                (sequence.last, sequence.is_plain) = (Some(3_000_000_000), false);
            },
            &[],
        ),
        (
            "not null by a check on the source",
            |w| {
                column(on_target(w), "note").not_null = true;
                on_source(w).checks.push(constraint("n", "CHECK ((note IS NOT NULL))"));
            },
            &[],
        ),
        (
            "a check on the target that the source's column needs not",
            |w| {
                for facts in [on_source as fn(&mut World) -> &mut _, on_target] {
                    column(facts(w), "note").not_null = true;
                }
                on_target(w).checks.push(constraint("n", "CHECK ((note IS NOT NULL))"));
            },
            &[],
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
