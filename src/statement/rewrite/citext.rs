//! Conditions on columns that ignore case: the same with case, where a column is of that type.
//!
//! `a = 'x'` becomes `a = 'x' AND CASE WHEN a is citext THEN a::text = 'x' ELSE true END`. On a
//! side where no column is, nothing changes, so that a difference of the data stays one; and the
//! condition is there as it was, so that its index serves.

use pg_query::protobuf::{
    AExpr, AExprKind, BoolExpr, BoolExprType, CaseExpr, CaseWhen, CoercionForm, FuncCall,
    a_const::Val,
};
use pg_query::{Node, NodeEnum};

use super::{cast, name, node, operator};

/// Changes one condition; tells whether it was one.
pub(super) fn compare_with_case(inner: &mut NodeEnum) -> bool {
    let NodeEnum::AExpr(expression) = inner else { return false };
    let kinds = [AExprKind::AexprOp, AExprKind::AexprIn, AExprKind::AexprLike];
    let is_kind = kinds.iter().any(|kind| expression.kind == *kind as i32);
    if !is_kind || !matches!(operator(expression), "=" | "~~") {
        return false;
    }
    let sides = [expression.lexpr.as_deref(), expression.rexpr.as_deref()];
    let columns: Vec<Node> =
        sides.into_iter().flatten().filter(|it| is_column(it)).cloned().collect();
    let others = sides.into_iter().flatten().all(|it| is_column(it) || may_be_text(it));
    if columns.is_empty() || !others {
        return false;
    }
    let as_text = |side: &Option<Box<Node>>| {
        let side = side.as_deref().cloned()?;
        Some(Box::new(if is_column(&side) { cast(side, "text") } else { side }))
    };
    let with_case = AExpr {
        lexpr: as_text(&expression.lexpr),
        rexpr: as_text(&expression.rexpr),
        ..(**expression).clone()
    };
    let is_citext = any(columns.into_iter().map(is_citext).collect());
    let when = CaseWhen {
        expr: Some(Box::new(is_citext)),
        result: Some(Box::new(node(NodeEnum::AExpr(Box::new(with_case))))),
        ..CaseWhen::default()
    };
    let case = CaseExpr {
        args: vec![node(NodeEnum::CaseWhen(Box::new(when)))],
        defresult: Some(Box::new(truth())),
        ..CaseExpr::default()
    };
    let whole =
        vec![node(NodeEnum::AExpr(expression.clone())), node(NodeEnum::CaseExpr(Box::new(case)))];
    *inner = boolean(BoolExprType::AndExpr, whole);
    true
}

fn is_column(value: &Node) -> bool {
    matches!(value.node, Some(NodeEnum::ColumnRef(_)))
}

/// A text that has letters, a parameter, or a list of these.
fn may_be_text(value: &Node) -> bool {
    match &value.node {
        Some(NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::AConst(constant)) => matches!(&constant.val,
            Some(Val::Sval(text)) if text.sval.chars().any(char::is_alphabetic)),
        Some(NodeEnum::List(list)) => list.items.iter().all(may_be_text),
        _ => false,
    }
}

/// `pg_typeof(column)::text LIKE '%citext'`: with its schema where that is not in the search path.
fn is_citext(column: Node) -> Node {
    let type_of = FuncCall {
        funcname: vec![name("pg_catalog"), name("pg_typeof")],
        args: vec![column],
        // The deparser ends the process where an enumeration is left at zero.
        funcformat: CoercionForm::CoerceExplicitCall as i32,
        ..FuncCall::default()
    };
    let like = AExpr {
        kind: AExprKind::AexprLike as i32,
        name: vec![name("~~")],
        lexpr: Some(Box::new(cast(node(NodeEnum::FuncCall(Box::new(type_of))), "text"))),
        rexpr: Some(Box::new(constant(Val::Sval(pg_query::protobuf::String {
            sval: "%citext".to_owned(),
        })))),
        ..AExpr::default()
    };
    node(NodeEnum::AExpr(Box::new(like)))
}

fn any(mut conditions: Vec<Node>) -> Node {
    match conditions.len() {
        1 => conditions.remove(0),
        _ => node(boolean(BoolExprType::OrExpr, conditions)),
    }
}

fn boolean(kind: BoolExprType, args: Vec<Node>) -> NodeEnum {
    NodeEnum::BoolExpr(Box::new(BoolExpr { boolop: kind as i32, args, ..BoolExpr::default() }))
}

fn truth() -> Node {
    constant(Val::Boolval(pg_query::protobuf::Boolean { boolval: true }))
}

fn constant(value: Val) -> Node {
    let constant = pg_query::protobuf::AConst { val: Some(value), ..Default::default() };
    node(NodeEnum::AConst(constant))
}
