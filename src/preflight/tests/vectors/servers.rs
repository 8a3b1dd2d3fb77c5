//! Servers and roles.

use super::Vector;
use crate::dialect::Dialect;
use crate::domain::side::Side;
use crate::preflight::describe::{SegueSchema, World};
use crate::preflight::limits::{RoleSetting, Sessions};
use crate::preflight::tests::fixture::*;
use crate::preflight::{Code, Finding};

fn set(world: &mut World, name: &str, value: &str) {
    world.source.server.settings.insert(name.to_owned(), value.to_owned());
    world.target.server.settings.insert(name.to_owned(), value.to_owned());
}

pub(super) fn servers() -> Vec<Vector> {
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
        (
            "an old server",
            |w| w.target.server.dialect = Dialect::POSTGRESQL.with_version_num(130_012),
            &["server.too_old target "],
        ),
        (
            "an old CockroachDB",
            |w| w.target.server.dialect = Dialect::of_version("CockroachDB CCL v25.2.4 (x86_64)"),
            &["server.too_old target "],
        ),
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

/// One that segue's sessions have otherwise, or keep.
fn set_for_role(name: &str, overridden_by: Option<&str>) -> RoleSetting {
    RoleSetting {
        name: name.to_owned(),
        value: "1".to_owned(),
        place: "role segue".to_owned(),
        overridden_by: overridden_by.map(str::to_owned),
    }
}

pub(super) fn roles() -> Vec<Vector> {
    vec![
        (
            "a setting that segue overrides",
            |w| w.source.role.settings.push(set_for_role("statement_timeout", Some("1min"))),
            &["role.setting source statement_timeout"],
        ),
        (
            "a setting that harms segue",
            |w| w.target.role.settings.push(set_for_role("temp_file_limit", None)),
            &["role.setting_kept target temp_file_limit"],
        ),
        (
            "a harmful setting that is set to what harms nothing",
            |w| {
                let setting = set_for_role("session_replication_role", None);
                let value = "origin".to_owned();
                w.source.role.settings.push(RoleSetting { value, ..setting });
            },
            &[],
        ),
        (
            "a setting that segue keeps, and that harms nothing",
            |w| w.target.role.settings.push(set_for_role("work_mem", None)),
            &[],
        ),
        (
            "fewer sessions for the role than a sidecar opens, and enough of the database",
            |w| {
                w.source.role.sessions = Sessions {
                    role_max: Some(11),
                    database_max: Some(40),
                    of_role: 12,
                    of_sidecar: 40,
                };
            },
            &["role.sessions source connection limit of the role"],
        ),
        (
            "fewer sessions for the database than a sidecar opens",
            |w| {
                w.source.role.sessions = Sessions {
                    role_max: None,
                    database_max: Some(39),
                    of_role: 12,
                    of_sidecar: 40,
                };
            },
            &["role.sessions source connection limit of the database"],
        ),
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
            "tables of another owner",
            |w| w.target.role.always_missing = Some("SELECT".to_owned()),
            &["role.always_rights target segue.enable_always"],
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
