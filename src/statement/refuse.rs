//! What segue does not take, why, and the way out.
//!
//! Refused is what the trigger cannot capture, what would change a pooled connection for
//! its next user, and what has a call of its own.

use std::collections::BTreeSet;

use crate::domain::reason::Reason;
use crate::statement::tree::Value;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::statement::{StatementKind, classify, functions, tree};

/// A cursor that outlives its transaction, in the parser's bits.
const CURSOR_WITH_HOLD: i64 = 0x20;

const POOLED: &str = "connections are shared, the next caller would get it as well";

fn refused(reason: Reason, message: impl Into<String>, way_out: &str) -> SqlFault {
    SqlFault::new(FaultKind::Refused, reason, message).with_hint(way_out)
}

pub(super) fn empty() -> SqlFault {
    refused(Reason::RefusedEmpty, "the statement is empty", "send one SQL statement")
}

pub(super) fn multiple(sql: &str, second: &Value) -> SqlFault {
    let mut fault = refused(
        Reason::RefusedMultiple,
        "the text holds more than one statement",
        "send them as the statements of one Batch call, which is atomic as well",
    );
    let start = usize::try_from(tree::number(second, "stmt_location")).unwrap_or(0);
    let blank = sql.get(start..).map_or(0, |rest| rest.len() - rest.trim_start().len());
    fault.position = position(sql, start + blank);
    fault
}

pub(super) fn outside_transaction(summary: &str) -> SqlFault {
    refused(
        Reason::RefusedOutsideTransaction,
        format!("{summary} has no effect outside a transaction"),
        "open one with the Begin call and send it there",
    )
}

/// The refusal of a statement that reads, outside a transaction, what another statement of its
/// caller's has left in the session: that ran in another session, or was reset since.
pub(super) fn alone(root: &Value, called: &BTreeSet<String>) -> Option<SqlFault> {
    // What asks for the next value itself reads that.
    if called.contains("nextval") {
        return None;
    }
    let (_, body) = tree::node(root)?;
    // RETURNING is computed after the INSERT, of its own row.
    let fields = body.fields().unwrap_or_default().iter();
    let elsewhere: BTreeSet<String> = fields
        .filter(|(field, _)| *field != "returning_clause")
        .flat_map(|(_, value)| functions::called(value))
        .collect();
    let name = ["lastval", "currval"].into_iter().find(|name| elsewhere.contains(*name))?;
    Some(refused(
        Reason::RefusedSequenceState,
        format!("{name}() tells the last value of this session, and {POOLED}"),
        "take the value from the INSERT itself: INSERT … RETURNING id; or send both statements \
         in one Batch, or in a transaction opened with Begin",
    ))
}

/// The refusal of a statement, where it is refused.
pub(super) fn refusal(root: &Value, kind: StatementKind, sql: &str) -> Option<SqlFault> {
    let (name, body) = tree::node(root)?;
    let inner = if kind == StatementKind::Explain { body.get("query")? } else { root };
    let by_root = match kind {
        StatementKind::Other => Some(other(name, body, root)),
        StatementKind::Explain if classify::kind(inner) == StatementKind::Other => {
            let (inner_name, inner_body) = tree::node(inner)?;
            Some(other(inner_name, inner_body, inner))
        }
        StatementKind::Set => guarded_setting(tree::text(body, "name")),
        StatementKind::Cursor if tree::number(body, "options") & CURSOR_WITH_HOLD != 0 => {
            Some(refused(
                Reason::RefusedCursorHold,
                "a cursor WITH HOLD outlives its transaction, and connections are shared",
                "declare it without WITH HOLD and read it inside the transaction",
            ))
        }
        StatementKind::Call => do_block(name, body),
        _ => None,
    };
    by_root.or_else(|| inside(root, sql))
}

/// Refusals that may stand anywhere in a statement.
fn inside(root: &Value, sql: &str) -> Option<SqlFault> {
    let mut found = None;
    tree::walk(root, &mut |kind, body| {
        if found.is_some() {
            return;
        }
        found = match kind {
            "IntoClause" => Some(ddl("SELECT INTO")),
            "FuncCall" => function(body),
            _ => None,
        };
        if let Some(fault) = found.as_mut() {
            let at = usize::try_from(tree::number(body, "location")).unwrap_or(0);
            fault.position = if at > 0 { position(sql, at) } else { 0 };
        }
    });
    found
}

fn function(call: &Value) -> Option<SqlFault> {
    let name = tree::function_name(call);
    if name == "pg_advisory_unlock_all" {
        return Some(refused(
            Reason::RefusedAdvisoryLock,
            "pg_advisory_unlock_all() would also release the locks that fence this migration",
            "use pg_advisory_xact_lock, which needs no unlocking",
        ));
    }
    if functions::is_session_lock(&name) {
        return Some(refused(
            Reason::RefusedAdvisoryLock,
            format!("{name}() works on a lock of the session, and {POOLED}"),
            "use pg_advisory_xact_lock inside a transaction; the lock ends with it",
        ));
    }
    if functions::is_large_object(&name) {
        return Some(refused(
            Reason::RefusedLargeObject,
            format!("{name}() changes large objects, which no trigger can capture"),
            "keep the contents in a bytea column",
        ));
    }
    (name == "set_config").then(|| set_config(call)).flatten()
}

fn set_config(call: &Value) -> Option<SqlFault> {
    let arguments = tree::list(call, "args");
    match arguments.first().and_then(tree::constant).and_then(Value::as_str) {
        Some(setting) => {
            if let Some(fault) = guarded_setting(setting) {
                return Some(fault);
            }
        }
        None => {
            return Some(refused(
                Reason::RefusedSet,
                "set_config() with a computed name could change a setting that segue relies on",
                "write the setting's name as a constant",
            ));
        }
    }
    let is_local = arguments.get(2).and_then(is_true);
    (is_local != Some(true)).then(|| {
        refused(
            Reason::RefusedSet,
            format!("set_config() without is_local changes the session, and {POOLED}"),
            "pass true as its third argument, inside a transaction",
        )
    })
}

/// The value of a literal truth value, also in its older spelling `'t'::bool`.
fn is_true(argument: &Value) -> Option<bool> {
    if let Some(("TypeCast", cast)) = tree::node(argument) {
        let text = cast.get("arg").and_then(tree::constant)?.as_str()?;
        return Some(matches!(text, "t" | "true" | "on" | "1"));
    }
    tree::constant(argument)?.as_bool()
}

/// Settings that would switch capture off or forge what it records.
fn guarded_setting(name: &str) -> Option<SqlFault> {
    let name = name.to_ascii_lowercase();
    let guarded = name == "session_replication_role" || name.starts_with("segue.");
    guarded.then(|| {
        refused(
            Reason::RefusedCapture,
            format!("{name} steers how writes are captured; a caller may not change it"),
            "leave it out",
        )
    })
}

/// `DO` is opaque to the parser; its words at least are looked at.
fn do_block(name: &str, body: &Value) -> Option<SqlFault> {
    if name != "DoStmt" {
        return None;
    }
    let mut code = String::new();
    tree::walk(body, &mut |kind, option| {
        if kind == "DefElem" && tree::text(option, "defname") == "as" {
            let text = option.get("arg").and_then(tree::node).map(|(_, b)| tree::text(b, "sval"));
            code.push_str(text.unwrap_or_default());
        }
    });
    let forbidden = code
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .map(str::to_ascii_uppercase)
        .find(|word| {
            matches!(word.as_str(), "CREATE" | "ALTER" | "DROP" | "COMMIT" | "ROLLBACK" | "LISTEN")
        })?;
    Some(refused(
        Reason::RefusedDo,
        format!("the DO block holds the word {forbidden}, and what it does cannot be captured"),
        "send its statements through the calls, or make it a function",
    ))
}

fn ddl(what: &str) -> SqlFault {
    refused(
        Reason::RefusedDdl,
        format!("{what} changes the schema, which segue does not carry to the other side"),
        "make the change on both databases by hand before dual_write begins; for temporary \
         results use a WITH query",
    )
}

/// Statements that are known by their root only.
fn other(name: &str, body: &Value, root: &Value) -> SqlFault {
    let words = classify::statement_name(root);
    match name {
        "TransactionStmt" => transaction(tree::number(body, "kind")),
        "VariableSetStmt" => refused(
            Reason::RefusedSet,
            format!("a plain SET or RESET changes the session, and {POOLED}"),
            "use SET LOCAL inside a transaction, or give the role a default with ALTER ROLE",
        ),
        "DiscardStmt" => refused(
            Reason::RefusedDiscard,
            "DISCARD would throw away what segue keeps on the connection",
            "leave it out: segue resets connections itself",
        ),
        "ListenStmt" | "UnlistenStmt" | "NotifyStmt" => refused(
            Reason::RefusedListen,
            format!("{words} belongs to one connection, and connections are shared"),
            "listen on a connection of your own; to notify, SELECT pg_notify(…) in the write",
        ),
        "PrepareStmt" | "ExecuteStmt" | "DeallocateStmt" => refused(
            Reason::RefusedPrepare,
            "PREPARE, EXECUTE and DEALLOCATE name statements of one connection, and connections are shared",
            "send the statement itself with parameters: segue prepares it once for all",
        ),
        "CopyStmt" => refused(
            Reason::RefusedCopy,
            "COPY has a stream of its own that the calls do not carry",
            "use INSERT with array parameters and unnest(), or COPY on a connection of your own",
        ),
        "LoadStmt" => refused(
            Reason::RefusedLoad,
            "LOAD changes the session's server process",
            "set session_preload_libraries for the role",
        ),
        "VacuumStmt" | "ClusterStmt" | "ReindexStmt" | "CheckPointStmt" | "RefreshMatViewStmt"
        | "AlterSystemStmt" => refused(
            Reason::RefusedMaintenance,
            format!("{words} is maintenance of one database"),
            "run it on that database directly",
        ),
        _ => ddl(&words),
    }
}

fn transaction(kind: i64) -> SqlFault {
    use pg_query::protobuf::TransactionStmtKind as Kind;
    let two_phase =
        [Kind::TransStmtPrepare, Kind::TransStmtCommitPrepared, Kind::TransStmtRollbackPrepared];
    if two_phase.iter().any(|phase| kind == i64::from(*phase as i32)) {
        return refused(
            Reason::RefusedTwoPhase,
            "a prepared transaction can commit after the cutover, out of the fence's sight",
            "commit in one phase",
        );
    }
    refused(
        Reason::RefusedTransactionControl,
        "transactions are opened and ended by calls, not by SQL",
        "use the Begin, Commit and Rollback calls, or Batch",
    )
}

fn position(sql: &str, byte: usize) -> u32 {
    let before = sql.get(..byte).map_or(0, |prefix| prefix.chars().count());
    u32::try_from(before + 1).unwrap_or(0)
}
