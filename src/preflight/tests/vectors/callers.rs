//! The role of callers' statements.

use super::Vector;
use crate::preflight::tests::fixture::*;

pub(super) fn callers() -> Vec<Vector> {
    vec![
        ("one role", |w| w.source.callers.is_own = true, &["callers.one_role source "]),
        (
            "a login that does not work",
            |w| w.target.callers.cannot_log_in = Some("no such role".into()),
            &["callers.login target "],
        ),
        (
            "too much power",
            |w| w.source.callers.powers = vec!["is a superuser".into(), "has BYPASSRLS".into()],
            &["callers.powers source ", "callers.powers source "],
        ),
        (
            "no functions",
            |w| w.target.callers.lacks = Some("GRANT a TO b;\nGRANT c TO d;\n".into()),
            &["callers.functions target segue"],
        ),
        (
            "a program's role that cannot fire capture's triggers",
            |w| w.target.capture_lacks = vec![("etl".into(), vec!["GRANT a TO etl".into()])],
            &["capture.invoker target etl"],
        ),
        (
            "sessions that cannot be ended",
            |w| w.source.callers.cannot_be_ended = Some("GRANT a TO b".into()),
            &["callers.ending source "],
        ),
        (
            "read-only",
            |w| w.source.callers.read_only = true,
            &["callers.read_only source default_transaction_read_only"],
        ),
        (
            "row security that does not apply",
            |w| on_target(w).callers_see_all = true,
            &["callers.unprotected target public.parent"],
        ),
        ("an owner", |w| on_source(w).callers_own = true, &["callers.owner source public.parent"]),
        (
            "an owner that is segue's own role",
            |w| {
                on_source(w).callers_own = true;
                w.source.callers.is_own = true;
            },
            &["callers.one_role source "],
        ),
        (
            "a right that only the source gives",
            |w| on_target(w).callers_lack = vec!["INSERT".into(), "DELETE".into()],
            &["callers.rights target public.parent"],
        ),
        (
            "a right that neither gives",
            |w| {
                on_source(w).callers_lack = vec!["DELETE".into()];
                on_target(w).callers_lack = vec!["DELETE".into()];
            },
            &[],
        ),
        (
            "rights of a role that could not be asked",
            |w| {
                on_target(w).callers_lack = vec!["INSERT".into()];
                w.target.callers.name.clear();
            },
            &[],
        ),
    ]
}
