//! Functions by what they do to an answer or to the session.

use std::collections::BTreeSet;

use crate::statement::tree::Value;

use crate::statement::tree;

/// Names of the functions that a statement calls, in lower case.
pub(crate) fn called(root: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    tree::walk(root, &mut |kind, body| match kind {
        "FuncCall" => {
            found.insert(tree::function_name(body));
        }
        "SqlvalueFunction" => {
            found.insert(sql_value_function(tree::number(body, "op")).to_owned());
        }
        _ => {}
    });
    found
}

/// The keyword functions (`CURRENT_DATE`, …), by the number the parser gives them.
fn sql_value_function(op: i64) -> &'static str {
    match op {
        1 => "current_date",
        2 | 3 => "current_time",
        4 | 5 => "current_timestamp",
        6 | 7 => "localtime",
        8 | 9 => "localtimestamp",
        10..=12 => "current_user",
        13 => "session_user",
        14 => "current_database",
        _ => "current_schema",
    }
}

/// Functions that change something: sequences, other sessions, locks.
pub(crate) fn writes(name: &str) -> bool {
    matches!(name, "nextval" | "setval" | "pg_notify" | "set_config" | "pg_logical_emit_message")
        || name.starts_with("pg_advisory_")
        || name.starts_with("pg_try_advisory_")
        || is_large_object(name)
}

/// Locks that stay with the connection after the transaction.
pub(crate) fn is_session_lock(name: &str) -> bool {
    matches!(
        name,
        "pg_advisory_lock"
            | "pg_advisory_lock_shared"
            | "pg_try_advisory_lock"
            | "pg_try_advisory_lock_shared"
            | "pg_advisory_unlock"
            | "pg_advisory_unlock_shared"
    )
}

/// Large objects live outside tables, where no trigger sees them.
pub(crate) fn is_large_object(name: &str) -> bool {
    name == "lowrite" || (name.starts_with("lo_") && name != "lo_get" && name != "lo_export")
}

/// Functions whose result is the time of the statement.
pub(crate) fn is_time(name: &str) -> bool {
    matches!(
        name,
        "now"
            | "transaction_timestamp"
            | "statement_timestamp"
            | "clock_timestamp"
            | "timeofday"
            | "current_date"
            | "current_time"
            | "current_timestamp"
            | "localtime"
            | "localtimestamp"
    )
}

/// Functions whose result differs from call to call.
pub(crate) fn is_random(name: &str) -> bool {
    matches!(
        name,
        "random"
            | "random_normal"
            | "gen_random_uuid"
            | "gen_random_bytes"
            | "uuidv4"
            | "uuidv7"
            | "gen_salt"
            | "nextval"
            | "currval"
            | "lastval"
            | "unique_rowid"
            | "txid_current"
            | "pg_current_xact_id"
    ) || name.starts_with("uuid_generate_v1")
        || name == "uuid_generate_v4"
}

/// Functions that tell about the server, the session or the user.
pub(crate) fn is_environment(name: &str) -> bool {
    matches!(
        name,
        "version"
            | "current_database"
            | "current_catalog"
            | "current_schema"
            | "current_schemas"
            | "current_setting"
            | "current_user"
            | "session_user"
            | "current_query"
            | "inet_client_addr"
            | "inet_client_port"
            | "inet_server_addr"
            | "inet_server_port"
            | "pg_backend_pid"
            | "pg_postmaster_start_time"
            | "pg_conf_load_time"
            | "pg_is_in_recovery"
            | "pg_column_size"
            | "txid_current_snapshot"
            | "pg_current_snapshot"
    ) || (name.starts_with("pg_") && (name.ends_with("_size") || name.contains("_wal_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_in_every_corner() {
        let sql = "WITH c AS (VALUES (pg_catalog.random())) \
                   SELECT max(now()) FILTER (WHERE app.f(x)) OVER (ORDER BY a()) \
                   FROM c, LATERAL b() WHERE CURRENT_DATE > ANY (ARRAY[d()]) LIMIT e()";
        let parsed = pg_query::parse(sql, 0).unwrap();
        let tree = Value::of(&parsed.protobuf).unwrap();
        let expected = ["a", "app.f", "b", "current_date", "d", "e", "max", "now", "random"];
        assert_eq!(called(&tree).iter().collect::<Vec<_>>(), expected);
    }
}
