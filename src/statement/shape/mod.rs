//! What the comparer must know of a statement: order, limit, volatility, and constructs
//! that the two databases are known to read differently.

use std::collections::BTreeSet;

pub use pinned::Pinned;

use crate::statement::tree::Value;

use crate::domain::table::TableRef;
use crate::statement::{StatementKind, functions, tree};

mod outputs;
mod patterns;
mod pinned;

/// Facts about a statement that decide how its answers are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// The keys of the outermost `ORDER BY`; empty where there is none.
    pub order_by: Vec<SortKey>,
    /// The columns of the outermost `DISTINCT ON`; empty where there is none.
    pub distinct_on: Vec<Output>,
    /// The outermost `LIMIT`, `OFFSET` or `FETCH`.
    pub limit: Option<Limit>,
    /// Functions called anywhere, in lower case.
    pub functions: BTreeSet<String>,
    /// Constructs from the catalogue of differences, by category.
    pub patterns: BTreeSet<&'static str>,
    /// Whether the result differs from call to call.
    pub volatile: bool,
    /// Whether it reads the server's or the session's state instead of data.
    pub environment: bool,
    /// Whether it reads system catalogues.
    pub system_catalog: bool,
    /// Columns that are to be equal to a value.
    pub pinned: Vec<(String, Pinned)>,
    /// What the columns of the answer are made of, where that can be told.
    pub(crate) made: Option<Vec<outputs::Made>>,
    /// Columns that an `INSERT` gives itself; `None` where it names none.
    pub inserted_columns: Option<BTreeSet<String>>,
}

impl Shape {
    /// Whether a construct can have changed the column at this place; true where nobody can tell.
    pub fn may_come_from(&self, at: usize, category: &str) -> bool {
        let made = self.made.as_ref().and_then(|made| made.get(at));
        made.is_none_or(|made| made.by(category))
    }
}

/// How many rows a statement asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The count, where it is a constant.
    pub count: Option<u64>,
    /// Whether rows are left out at the beginning.
    pub offset: bool,
    /// `WITH TIES`: ties are all in or all out.
    pub with_ties: bool,
}

/// One key of an `ORDER BY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    /// Where the key shows in the answer.
    pub output: Output,
    /// Whether it descends.
    pub descending: bool,
    /// Where the statement puts NULLs.
    pub nulls: Nulls,
}

/// The output column that holds a sort key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// By position, from 0.
    Position(usize),
    /// By the name of a column, found among the answer's columns (`SELECT *`).
    Name(String),
    /// It is not in the answer.
    Unseen,
}

/// Where NULLs stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// Not said; databases disagree.
    Default,
    /// First.
    First,
    /// Last.
    Last,
}

/// The shape of a statement.
pub(crate) fn shape(
    root: &Value,
    kind: StatementKind,
    tables: &[TableRef],
    called: BTreeSet<String>,
) -> Shape {
    let body = tree::node(root).map_or(&Value::Null, |(_, body)| body);
    let select = kind == StatementKind::Select;
    Shape {
        order_by: if select { order_by(body) } else { Vec::new() },
        distinct_on: if select { distinct_on(body) } else { Vec::new() },
        limit: select.then(|| limit(body)).flatten(),
        pinned: pinned::pinned(body),
        made: if select { outputs::made(body) } else { None },
        patterns: patterns::patterns(root),
        volatile: is_volatile(root, body, &called),
        environment: matches!(kind, StatementKind::Show | StatementKind::Explain)
            || called.iter().any(|name| functions::is_environment(name)),
        system_catalog: tables.iter().any(is_system),
        inserted_columns: (kind == StatementKind::Insert).then(|| inserted(body)).flatten(),
        functions: called,
    }
}

fn is_system(table: &TableRef) -> bool {
    match table.schema.as_deref() {
        Some(schema) => {
            matches!(schema, "pg_catalog" | "information_schema" | "crdb_internal")
        }
        None => table.name.starts_with("pg_"),
    }
}

/// Random anywhere, a sample of a table, or the time among the outputs. The time in a
/// condition is left to the second look: it rarely decides.
fn is_volatile(root: &Value, body: &Value, called: &BTreeSet<String>) -> bool {
    let mut found = called.iter().any(|name| functions::is_random(name));
    tree::walk(root, &mut |kind, _| found |= kind == "RangeTableSample");
    for outputs in ["target_list", "values_lists", "returning_clause"] {
        if let Some(outputs) = body.get(outputs) {
            found |= functions::called(outputs).iter().any(|name| functions::is_time(name));
        }
    }
    found
}

fn inserted(body: &Value) -> Option<BTreeSet<String>> {
    let columns: BTreeSet<String> = tree::list(body, "cols")
        .iter()
        .filter_map(tree::node)
        .map(|(_, column)| tree::text(column, "name").to_owned())
        .collect();
    (!columns.is_empty()).then_some(columns)
}

fn limit(body: &Value) -> Option<Limit> {
    let count = body.get("limit_count").filter(|count| count.is_object());
    let offset = body.get("limit_offset").is_some_and(Value::is_object);
    // `LIMIT ALL` and `LIMIT NULL` are a constant without a value.
    let is_all = count.is_some_and(|count| {
        tree::node(count).is_some_and(|(_, constant)| tree::flag(constant, "isnull"))
    });
    if (count.is_none() || is_all) && !offset {
        return None;
    }
    let with_ties = i64::from(pg_query::protobuf::LimitOption::WithTies as i32);
    Some(Limit {
        count: count.and_then(tree::constant).and_then(Value::as_u64),
        offset,
        with_ties: tree::number(body, "limit_option") == with_ties,
    })
}

fn order_by(body: &Value) -> Vec<SortKey> {
    use pg_query::protobuf::{SortByDir, SortByNulls};
    let keys = tree::list(body, "sort_clause");
    if keys.is_empty() {
        return Vec::new();
    }
    let targets = targets(body);
    let is_star = targets.iter().any(|(_, value)| is_star(value));
    keys.iter()
        .filter_map(tree::node)
        .map(|(_, key)| {
            let expression = key.get("node").unwrap_or(&Value::Null);
            let nulls = tree::number(key, "sortby_nulls");
            SortKey {
                output: output(expression, &targets, is_star),
                descending: tree::number(key, "sortby_dir")
                    == i64::from(SortByDir::SortbyDesc as i32),
                nulls: if nulls == i64::from(SortByNulls::SortbyNullsFirst as i32) {
                    Nulls::First
                } else if nulls == i64::from(SortByNulls::SortbyNullsLast as i32) {
                    Nulls::Last
                } else {
                    Nulls::Default
                },
            }
        })
        .collect()
}

/// `DISTINCT` alone is a list of one empty node.
fn distinct_on(body: &Value) -> Vec<Output> {
    let keys = tree::list(body, "distinct_clause");
    if keys.is_empty() {
        return Vec::new();
    }
    let targets = targets(body);
    let is_star = targets.iter().any(|(_, value)| is_star(value));
    keys.iter()
        .filter(|key| tree::node(key).is_some())
        .map(|key| output(key, &targets, is_star))
        .collect()
}

/// Names and expressions of the outputs; those of a set operation are its first branch's.
fn targets(body: &Value) -> Vec<(String, Value)> {
    if let Some(left) = body.get("larg").filter(|left| left.is_object()) {
        // Only names can be sorted by there.
        let left = tree::node(left).map_or(left, |(_, body)| body);
        return targets(left).into_iter().map(|(name, _)| (name, Value::Null)).collect();
    }
    tree::list(body, "target_list")
        .iter()
        .filter_map(tree::node)
        .map(|(_, target)| {
            let value = tree::without_locations(target.get("val").unwrap_or(&Value::Null));
            let name = match tree::text(target, "name") {
                "" => column_name(&value).unwrap_or_default().to_owned(),
                alias => alias.to_owned(),
            };
            (name, value)
        })
        .collect()
}

fn is_star(value: &Value) -> bool {
    let Some(("ColumnRef", body)) = tree::node(value) else {
        return false;
    };
    tree::list(body, "fields").iter().filter_map(tree::node).any(|(kind, _)| kind == "AStar")
}

/// The last part of a plain column's name.
fn column_name(value: &Value) -> Option<&str> {
    let ("ColumnRef", body) = tree::node(value)? else {
        return None;
    };
    tree::names(body, "fields").last().copied()
}

fn output(expression: &Value, targets: &[(String, Value)], is_star: bool) -> Output {
    // A key under COLLATE is still that column's value.
    if let Some(("CollateClause", body)) = tree::node(expression) {
        return output(body.get("arg").unwrap_or(&Value::Null), targets, is_star);
    }
    if let Some(position) = tree::constant(expression).and_then(Value::as_u64) {
        // `*` may expand before it, but the position counts the expanded columns.
        return usize::try_from(position)
            .ok()
            .and_then(|position| position.checked_sub(1))
            .map_or(Output::Unseen, Output::Position);
    }
    let plain = tree::without_locations(expression);
    let name = column_name(&plain);
    match (position(&plain, targets), name) {
        (Some(at), _) if !is_star => Output::Position(at),
        (_, Some(name)) if is_star => Output::Name(name.to_owned()),
        _ => Output::Unseen,
    }
}

/// The target that a sort key means: an alias goes before a column, as in SQL.
fn position(key: &Value, targets: &[(String, Value)]) -> Option<usize> {
    let name = column_name(key);
    let is_qualified = qualifiers(key) > 0;
    let by_alias = || targets.iter().position(|(alias, _)| !is_qualified && name == Some(alias));
    let by_expression = || targets.iter().position(|(_, value)| value == key);
    // `ORDER BY t.a` may mean the output `a`, where no other output could be meant.
    let by_column = || {
        let mut same = (targets.iter().enumerate()).filter(|(_, (_, value))| {
            name.is_some()
                && column_name(value) == name
                && (qualifiers(value) == 0 || !is_qualified)
        });
        let (at, _) = same.next()?;
        same.next().is_none().then_some(at)
    };
    by_alias().or_else(by_expression).or_else(by_column)
}

/// How many names stand before the column's own.
fn qualifiers(value: &Value) -> usize {
    match tree::node(value) {
        Some(("ColumnRef", body)) => tree::list(body, "fields").len().saturating_sub(1),
        _ => 0,
    }
}
