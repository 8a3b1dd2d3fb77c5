//! Tables and their keys.

use super::Vector;
use crate::domain::reach::Noted;
use crate::domain::reason::Reason;
use crate::domain::relation::{RowSecurity, TableKind};
use crate::domain::side::Side;
use crate::domain::table::TableName;
use crate::preflight::describe::World;
use crate::preflight::tests::fixture::*;

fn refuse(world: &mut World, reason: Reason) {
    on_source(world).refused = Some((reason, "it is refused".to_owned()));
}

pub(super) fn tables() -> Vec<Vector> {
    vec![
        ("missing", |w| w.tables[1].target = None, &["table.missing target public.child"]),
        (
            "no key",
            |w| refuse(w, Reason::RefusedNoPrimaryKey),
            &["table.no_primary_key source public.parent"],
        ),
        (
            "unlogged",
            |w| refuse(w, Reason::RefusedUnlogged),
            &["table.unlogged source public.parent"],
        ),
        (
            "foreign",
            |w| refuse(w, Reason::RefusedForeignTable),
            &["table.foreign source public.parent"],
        ),
        (
            "a view",
            |w| refuse(w, Reason::RefusedNotATable),
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
            |w| refuse(w, Reason::RefusedPartition),
            &["table.partition source public.parent"],
        ),
        (
            "an odd partition",
            |w| refuse(w, Reason::RefusedPartitionKind),
            &["table.partition_kind source public.parent"],
        ),
        (
            "inheritance",
            |w| refuse(w, Reason::RefusedInheritance),
            &["table.inheritance source public.parent"],
        ),
        (
            "subscribed",
            |w| refuse(w, Reason::RefusedSubscription),
            &["table.subscribed source public.parent"],
        ),
        (
            "partitioned on one side",
            |w| on_target(w).table.kind = TableKind::Partitioned,
            &["table.partitioned target public.parent"],
        ),
        (
            "a table that stays",
            |w| {
                let view = TableName::new("public", "over_log");
                w.source.staying.push((view, "it is over public.log".to_owned()));
            },
            &["table.not_migrated source public.over_log"],
        ),
        (
            "statements on what stays, and on what is left out",
            |w| {
                let view = TableName::new("public", "over_log");
                w.source.staying.push((view, "it is over public.log".to_owned()));
                w.source.touching.push(Noted {
                    fingerprint: "1".to_owned(),
                    summary: "SELECT over_log".to_owned(),
                    relations: ["public.over_log", "public.log", "unheard_of"]
                        .map(str::to_owned)
                        .into(),
                    count: 2,
                });
            },
            &[
                "table.not_migrated source public.log",
                "table.not_migrated source public.over_log",
                "table.not_migrated source unheard_of",
            ],
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
                refuse(w, Reason::RefusedNoPrimaryKey);
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

pub(super) fn keys() -> Vec<Vector> {
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
