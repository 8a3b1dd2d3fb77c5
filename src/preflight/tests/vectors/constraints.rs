//! Constraints, and what hangs on tables.

use super::Vector;
use crate::dialect::Dialect;
use crate::domain::relation::Rule;
use crate::preflight::describe::World;
use crate::preflight::tests::fixture::*;

pub(super) fn constraints() -> Vec<Vector> {
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
            "a check on the target that is not enforced",
            |w| on_target(w).checks.push(constraint("c", "CHECK ((id > 0)) NOT ENFORCED")),
            &[],
        ),
        (
            "an exclusion at another moment",
            |w| {
                let rule = "EXCLUDE USING gist (note WITH =)";
                on_target(w).exclusions.push(constraint("e", rule));
                on_source(w).exclusions.push(constraint("e", &format!("{rule} DEFERRABLE")));
            },
            &["constraint.exclusion_time target public.parent.e"],
        ),
        (
            "an index that is kept otherwise",
            |w| {
                for (facts, tail) in [
                    (on_source as fn(&mut World) -> &mut _, ""),
                    (on_target, " INCLUDE (id) WITH (fillfactor='70')"),
                ] {
                    let mut index = unique("u", &["lower(note)"]);
                    index.columns = vec![None];
                    index.definition += tail;
                    facts(w).table.unique_indexes.push(index);
                }
            },
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

pub(super) fn relations() -> Vec<Vector> {
    vec![
        (
            "a foreign key on the target",
            |w| children(w)[0].table.foreign_keys.clear(),
            &["foreign_key.added target public.child.child_id_fkey"],
        ),
        (
            "a foreign key on an active target",
            |w| {
                w.target.server.dialect = Dialect::COCKROACHDB;
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
                w.target.server.dialect = Dialect::COCKROACHDB;
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
                w.target.server.dialect = Dialect::COCKROACHDB;
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
                w.target.server.dialect = Dialect::COCKROACHDB;
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
