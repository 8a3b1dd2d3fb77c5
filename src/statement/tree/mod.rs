//! The parse tree as a generic tree, so that a walk misses no node.
//!
//! The typed tree has some 270 kinds of nodes; a walk by hand over the ones that seem to
//! matter would miss a write in a corner of the grammar.

mod value;

use crate::domain::table::TableRef;

pub(crate) use value::Value;

/// A node's kind and its fields, where the value is a node.
///
/// Fields of a fixed type carry no kind in the tree; the ones that matter here are known
/// by their fields.
pub(crate) fn node(value: &Value) -> Option<(&str, &Value)> {
    let fields = value.fields()?;
    if let [("node", inner)] = fields {
        return inner.fields()?.first().map(|(kind, body)| (*kind, body));
    }
    let has = |field| value.get(field).is_some();
    let kind = if has("relpersistence") && has("relname") {
        "RangeVar"
    } else if has("funcname") && has("agg_star") {
        "FuncCall"
    } else if has("target_list") && has("limit_option") {
        "SelectStmt"
    } else if has("table_space_name") && has("on_commit") {
        "IntoClause"
    } else {
        return None;
    };
    Some((kind, value))
}

/// Visits every node under `value`, parents first.
pub(crate) fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str, &'a Value)) {
    if let Some((kind, body)) = node(value) {
        visit(kind, body);
        return children(body, |child| walk(child, visit));
    }
    children(value, |child| walk(child, visit));
}

fn children<'a>(value: &'a Value, mut each: impl FnMut(&'a Value)) {
    match value {
        Value::List(items) => items.iter().for_each(each),
        Value::Fields(fields) => fields.iter().for_each(|(_, value)| each(value)),
        _ => {}
    }
}

/// A text field; empty where it is absent.
pub(crate) fn text<'a>(body: &'a Value, field: &str) -> &'a str {
    body.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A number field; 0 where it is absent.
pub(crate) fn number(body: &Value, field: &str) -> i64 {
    body.get(field).and_then(Value::as_i64).unwrap_or_default()
}

/// A field that is true.
pub(crate) fn flag(body: &Value, field: &str) -> bool {
    body.get(field).and_then(Value::as_bool).unwrap_or_default()
}

/// A list field; empty where it is absent.
pub(crate) fn list<'a>(body: &'a Value, field: &str) -> &'a [Value] {
    body.get(field).and_then(Value::as_list).unwrap_or_default()
}

/// The texts of a list of names.
pub(crate) fn names<'a>(body: &'a Value, field: &str) -> Vec<&'a str> {
    list(body, field).iter().filter_map(|item| Some(text(node(item)?.1, "sval"))).collect()
}

/// The name of a called function in lower case: without `pg_catalog`, with any other schema.
pub(crate) fn function_name(call: &Value) -> String {
    let names = names(call, "funcname");
    match names.as_slice() {
        ["pg_catalog", name] | [name] => (*name).to_owned(),
        other => other.join("."),
    }
}

/// The value of a constant: a text, a number or a truth value.
pub(crate) fn constant(value: &Value) -> Option<&Value> {
    let (kind, body) = node(value)?;
    if kind != "AConst" {
        return None;
    }
    let (_, typed) = body.get("val")?.fields()?.first()?;
    typed.fields()?.first().map(|(_, value)| value)
}

/// The same tree without positions, to compare expressions by.
pub(crate) fn without_locations(value: &Value) -> Value {
    match value {
        Value::Fields(fields) => Value::Fields(
            fields
                .iter()
                .filter(|(name, _)| *name != "location")
                .map(|(name, field)| (*name, without_locations(field)))
                .collect(),
        ),
        Value::List(items) => Value::List(items.iter().map(without_locations).collect()),
        other => other.clone(),
    }
}

/// Tables that a statement names, without the names of its `WITH` queries.
pub(crate) fn tables(root: &Value) -> Vec<TableRef> {
    let mut found = Vec::new();
    collect_tables(root, &[], &mut found);
    found.sort();
    found.dedup();
    found
}

/// Tables that a statement writes to by itself.
pub(crate) fn written(root: &Value) -> Vec<TableRef> {
    let mut found = Vec::new();
    let mut note = |range: &Value| {
        let (schema, name) = (text(range, "schemaname"), text(range, "relname"));
        let schema = (!schema.is_empty()).then(|| schema.to_owned());
        found.extend((!name.is_empty()).then(|| TableRef { schema, name: name.to_owned() }));
    };
    walk(root, &mut |kind, body| match kind {
        "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" | "CopyStmt" => {
            if let Some(range) = body.get("relation") {
                note(range);
            }
        }
        "TruncateStmt" => {
            list(body, "relations").iter().filter_map(node).for_each(|(_, range)| note(range));
        }
        _ => {}
    });
    found
}

fn collect_tables<'a>(value: &'a Value, hidden: &[&'a str], found: &mut Vec<TableRef>) {
    let body = match node(value) {
        Some(("RangeVar", body)) => {
            let (schema, name) = (text(body, "schemaname"), text(body, "relname"));
            if !schema.is_empty() || !hidden.contains(&name) {
                let schema = (!schema.is_empty()).then(|| schema.to_owned());
                found.push(TableRef { schema, name: name.to_owned() });
            }
            return;
        }
        // `FOR UPDATE OF` names what stands in FROM, by its alias.
        Some(("LockingClause", _)) => return,
        Some((_, body)) => body,
        None => value,
    };
    let writes =
        matches!(node(value), Some(("InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt", _)));
    let mut hidden = hidden.to_vec();
    if let Some(with) = body.get("with_clause").filter(|with| with.is_object()) {
        let queries: Vec<_> = list(with, "ctes").iter().filter_map(node).map(|(_, b)| b).collect();
        if flag(with, "recursive") {
            hidden.extend(queries.iter().map(|query| text(query, "ctename")));
        }
        for query in queries {
            // Without RECURSIVE a query does not see its own name, nor the later ones.
            collect_tables(query, &hidden, found);
            hidden.push(text(query, "ctename"));
        }
    }
    match body {
        Value::Fields(fields) => {
            for (name, field) in fields {
                match *name {
                    "with_clause" => {}
                    // What is written is a table, whatever the names of the `WITH` queries are.
                    "relation" if writes => collect_tables(field, &[], found),
                    _ => collect_tables(field, &hidden, found),
                }
            }
        }
        Value::List(items) => items.iter().for_each(|i| collect_tables(i, &hidden, found)),
        _ => {}
    }
}
