//! What a statement is, and whether it writes.

use std::collections::BTreeSet;

use crate::statement::tree::Value;

use crate::domain::table::TableRef;
use crate::statement::{StatementKind, functions, harmless, tree};

/// The kind of a statement by its root node.
pub(crate) fn kind(root: &Value) -> StatementKind {
    let Some((name, body)) = tree::node(root) else {
        return StatementKind::Other;
    };
    match name {
        "SelectStmt" => StatementKind::Select,
        "InsertStmt" => StatementKind::Insert,
        "UpdateStmt" => StatementKind::Update,
        "DeleteStmt" => StatementKind::Delete,
        "MergeStmt" => StatementKind::Merge,
        "TruncateStmt" => StatementKind::Truncate,
        "ExplainStmt" => StatementKind::Explain,
        "VariableShowStmt" => StatementKind::Show,
        "CallStmt" | "DoStmt" => StatementKind::Call,
        "ConstraintsSetStmt" => StatementKind::Set,
        "VariableSetStmt" if is_local_setting(body) => StatementKind::Set,
        "TransactionStmt" if is_savepoint(tree::number(body, "kind")) => StatementKind::Savepoint,
        "LockStmt" => StatementKind::Lock,
        "DeclareCursorStmt" | "FetchStmt" | "ClosePortalStmt" => StatementKind::Cursor,
        _ => StatementKind::Other,
    }
}

fn is_local_setting(body: &Value) -> bool {
    use pg_query::protobuf::VariableSetKind::VarSetMulti;
    let multi = tree::number(body, "kind") == i64::from(VarSetMulti as i32);
    let name = tree::text(body, "name");
    if multi { name.starts_with("TRANSACTION") } else { tree::flag(body, "is_local") }
}

fn is_savepoint(kind: i64) -> bool {
    use pg_query::protobuf::TransactionStmtKind as Kind;
    [Kind::TransStmtSavepoint, Kind::TransStmtRelease, Kind::TransStmtRollbackTo]
        .iter()
        .any(|savepoint| kind == i64::from(*savepoint as i32))
}

/// Whether it only makes sense inside a transaction.
pub(crate) fn transaction_only(kind: StatementKind) -> bool {
    matches!(
        kind,
        StatementKind::Set | StatementKind::Savepoint | StatementKind::Lock | StatementKind::Cursor
    )
}

/// Whether a statement may change something.
pub(crate) fn writes(root: &Value, kind: StatementKind, called: &BTreeSet<String>) -> bool {
    match kind {
        StatementKind::Truncate
        | StatementKind::Call
        | StatementKind::Lock
        | StatementKind::Other => true,
        StatementKind::Show | StatementKind::Set | StatementKind::Savepoint => false,
        StatementKind::Explain if !explain_runs(root) => false,
        _ => called.iter().any(|name| functions::writes(name)) || has_writing_node(root),
    }
}

/// Whether it surely leaves the session as it was. Of functions only the well-known ones are
/// believed; others may change a setting, or take their time.
pub(crate) fn leaves_nothing(kind: StatementKind, called: &BTreeSet<String>) -> bool {
    kind == StatementKind::Select && called.iter().all(|name| harmless::is_harmless(name))
}

pub(crate) fn has_writing_node(root: &Value) -> bool {
    let mut found = false;
    tree::walk(root, &mut |kind, _| {
        found |= matches!(
            kind,
            "InsertStmt"
                | "UpdateStmt"
                | "DeleteStmt"
                | "MergeStmt"
                | "LockingClause"
                | "IntoClause"
                | "CreateTableAsStmt"
                | "ExecuteStmt"
        );
    });
    found
}

/// Whether `EXPLAIN` runs the statement. The last option of a name counts.
pub(crate) fn explain_runs(root: &Value) -> bool {
    let Some((_, body)) = tree::node(root) else {
        return false;
    };
    let mut runs = false;
    for (_, option) in tree::list(body, "options").iter().filter_map(tree::node) {
        if tree::text(option, "defname").eq_ignore_ascii_case("analyze") {
            let value = option.get("arg").and_then(tree::node).map(|(_, value)| {
                let text = tree::text(value, "sval").to_ascii_lowercase();
                let number = value.get("ival").and_then(Value::as_i64);
                !matches!(text.as_str(), "false" | "off") && number != Some(0)
            });
            runs = value.unwrap_or(true);
        }
    }
    runs
}

/// A few words for people and for `db.query.summary`: no constants.
pub(crate) fn summary(root: &Value, kind: StatementKind, tables: &[TableRef]) -> String {
    const TABLES_MAX: usize = 3;
    let verb = match kind {
        StatementKind::Select => "SELECT",
        StatementKind::Insert => "INSERT",
        StatementKind::Update => "UPDATE",
        StatementKind::Delete => "DELETE",
        StatementKind::Merge => "MERGE",
        StatementKind::Truncate => "TRUNCATE",
        StatementKind::Explain => "EXPLAIN",
        StatementKind::Show => "SHOW",
        StatementKind::Call => "CALL",
        StatementKind::Set => "SET",
        StatementKind::Savepoint => "SAVEPOINT",
        StatementKind::Lock => "LOCK",
        StatementKind::Cursor => "CURSOR",
        StatementKind::Other => "",
    };
    let target = target(root);
    let mut words: Vec<&str> = vec![verb];
    words.extend(target);
    words.extend(
        tables.iter().map(|table| table.name.as_str()).filter(|name| Some(*name) != target),
    );
    words.retain(|word| !word.is_empty());
    words.truncate(1 + TABLES_MAX);
    if verb.is_empty() { statement_name(root) } else { words.join(" ") }
}

/// The table that a write changes; it comes first in a summary.
fn target(root: &Value) -> Option<&str> {
    let (kind, body) = tree::node(root)?;
    if kind == "CallStmt" {
        let names = tree::names(body.get("funccall")?, "funcname");
        return names.last().copied();
    }
    body.get("relation").filter(|relation| relation.is_object()).map(|r| tree::text(r, "relname"))
}

/// `CREATE TABLE`-like words out of a node's name: `AlterTableStmt` gives `ALTER TABLE`.
pub(crate) fn statement_name(root: &Value) -> String {
    let name = tree::node(root).map_or("", |(kind, _)| kind);
    let mut words = String::new();
    for letter in name.strip_suffix("Stmt").unwrap_or(name).chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_uppercase());
    }
    if words == "CREATE" { "CREATE TABLE".to_owned() } else { words }
}
