//! Columns that a statement asks to be equal to a value.

use crate::statement::tree::{self, Value};

/// What a column is to be equal to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// A constant, as it stands there.
    Text(String),
    /// A parameter, from 0.
    Parameter(usize),
}

/// `column = value` in the outermost `WHERE`, alone or joined by `AND`.
pub(crate) fn pinned(body: &Value) -> Vec<(String, Pinned)> {
    let mut found = Vec::new();
    if let Some(condition) = body.get("where_clause") {
        conjunct(condition, &mut found);
    }
    found
}

fn conjunct(condition: &Value, found: &mut Vec<(String, Pinned)>) {
    use pg_query::protobuf::{AExprKind, BoolExprType};
    match tree::node(condition) {
        Some(("BoolExpr", body))
            if tree::number(body, "boolop") == i64::from(BoolExprType::AndExpr as i32) =>
        {
            tree::list(body, "args").iter().for_each(|part| conjunct(part, found));
        }
        Some(("AExpr", body))
            if tree::number(body, "kind") == i64::from(AExprKind::AexprOp as i32)
                && tree::names(body, "name").last() == Some(&"=") =>
        {
            let sides = (body.get("lexpr"), body.get("rexpr"));
            let (Some(left), Some(right)) = sides else { return };
            found.extend(pair(left, right).or_else(|| pair(right, left)));
        }
        _ => {}
    }
}

fn pair(column: &Value, value: &Value) -> Option<(String, Pinned)> {
    let name = super::column_name(column)?.to_owned();
    let pinned = match tree::node(value)? {
        ("TypeCast", body) => return pair(column, body.get("arg")?),
        ("ParamRef", body) => {
            let number = usize::try_from(tree::number(body, "number")).ok()?;
            Pinned::Parameter(number.checked_sub(1)?)
        }
        _ => match tree::constant(value)? {
            Value::Text(text) => Pinned::Text(text.to_string()),
            Value::Number(number) => Pinned::Text(number.to_string()),
            _ => return None,
        },
    };
    Some((name, pinned))
}
