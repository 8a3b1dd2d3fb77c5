//! Every expression of a read, to be changed in place, the inner ones first.

use pg_query::protobuf::{ParseResult, SelectStmt, WindowDef};
use pg_query::{Node, NodeEnum};

type Change<'a> = &'a mut dyn FnMut(&mut NodeEnum);

/// Visits the expressions of a statement.
pub(super) fn statement(tree: &mut ParseResult, change: Change<'_>) {
    for statement in &mut tree.stmts {
        if let Some(root) = statement.stmt.as_mut() {
            node(root, change);
        }
    }
}

fn node(node: &mut Node, change: Change<'_>) {
    if let Some(inner) = node.node.as_mut() {
        below(inner, change);
        change(inner);
    }
}

fn list(nodes: &mut [Node], change: Change<'_>) {
    for one in nodes {
        node(one, change);
    }
}

fn optional(place: &mut Option<Box<Node>>, change: Change<'_>) {
    if let Some(one) = place {
        node(one, change);
    }
}

/// What is not named here holds no expression, or none that a rewrite could be about.
fn below(inner: &mut NodeEnum, change: Change<'_>) {
    match inner {
        NodeEnum::SelectStmt(inner) => select(inner, change),
        NodeEnum::CommonTableExpr(inner) => optional(&mut inner.ctequery, change),
        NodeEnum::RangeSubselect(inner) => optional(&mut inner.subquery, change),
        NodeEnum::RangeFunction(inner) => list(&mut inner.functions, change),
        NodeEnum::JoinExpr(inner) => {
            optional(&mut inner.larg, change);
            optional(&mut inner.rarg, change);
            optional(&mut inner.quals, change);
        }
        NodeEnum::ResTarget(inner) => optional(&mut inner.val, change),
        NodeEnum::SortBy(inner) => optional(&mut inner.node, change),
        NodeEnum::WindowDef(inner) => window(inner, change),
        NodeEnum::AExpr(inner) => {
            optional(&mut inner.lexpr, change);
            optional(&mut inner.rexpr, change);
        }
        NodeEnum::BoolExpr(inner) => list(&mut inner.args, change),
        NodeEnum::FuncCall(inner) => {
            list(&mut inner.args, change);
            list(&mut inner.agg_order, change);
            optional(&mut inner.agg_filter, change);
            if let Some(over) = inner.over.as_mut() {
                window(over, change);
            }
        }
        NodeEnum::TypeCast(inner) => optional(&mut inner.arg, change),
        NodeEnum::CollateClause(inner) => optional(&mut inner.arg, change),
        NodeEnum::SubLink(inner) => {
            optional(&mut inner.testexpr, change);
            optional(&mut inner.subselect, change);
        }
        NodeEnum::CaseExpr(inner) => {
            optional(&mut inner.arg, change);
            list(&mut inner.args, change);
            optional(&mut inner.defresult, change);
        }
        NodeEnum::CaseWhen(inner) => {
            optional(&mut inner.expr, change);
            optional(&mut inner.result, change);
        }
        NodeEnum::CoalesceExpr(inner) => list(&mut inner.args, change),
        NodeEnum::MinMaxExpr(inner) => list(&mut inner.args, change),
        NodeEnum::NullTest(inner) => optional(&mut inner.arg, change),
        NodeEnum::BooleanTest(inner) => optional(&mut inner.arg, change),
        NodeEnum::AArrayExpr(inner) => list(&mut inner.elements, change),
        NodeEnum::AIndirection(inner) => optional(&mut inner.arg, change),
        NodeEnum::RowExpr(inner) => list(&mut inner.args, change),
        NodeEnum::List(inner) => list(&mut inner.items, change),
        _ => {}
    }
}

fn select(inner: &mut SelectStmt, change: Change<'_>) {
    if let Some(with) = inner.with_clause.as_mut() {
        list(&mut with.ctes, change);
    }
    for nodes in [
        &mut inner.distinct_clause,
        &mut inner.target_list,
        &mut inner.from_clause,
        &mut inner.group_clause,
        &mut inner.window_clause,
        &mut inner.values_lists,
        &mut inner.sort_clause,
    ] {
        list(nodes, change);
    }
    for place in [
        &mut inner.where_clause,
        &mut inner.having_clause,
        &mut inner.limit_offset,
        &mut inner.limit_count,
    ] {
        optional(place, change);
    }
    for branch in [&mut inner.larg, &mut inner.rarg].into_iter().flatten() {
        select(branch, change);
    }
}

fn window(inner: &mut WindowDef, change: Change<'_>) {
    list(&mut inner.partition_clause, change);
    list(&mut inner.order_clause, change);
    optional(&mut inner.start_offset, change);
    optional(&mut inner.end_offset, change);
}
