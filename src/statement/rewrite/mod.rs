//! Statements written anew without a construct that the databases read differently.
//!
//! A rewrite is run on both sides. It must show at least as much of the data as the
//! statement does: were a real difference to vanish in it, the evidence would lie. So an
//! integer division becomes an exact one, and not `div()`, which drops the remainder.

use pg_query::protobuf::{
    AExpr, AExprKind, CollateClause, FuncCall, ParseResult, ResTarget, SelectStmt, SortBy,
    SortByDir, SortByNulls, TypeCast, TypeName,
};
use pg_query::{Node, NodeEnum};

use crate::statement::depth;
use crate::statement::{Analysis, StatementKind};

mod citext;
mod visit;

/// Rewrites of one construct that are tried one by one, where it stands several times.
const SINGLE_MAX: usize = 4;

/// A statement written anew, to be run on both sides with the same parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The category of the construct that is gone.
    pub category: &'static str,
    /// The statement.
    pub sql: String,
    /// The same with its constants replaced, as it may be shown.
    pub normalized: String,
    /// Whether it means on PostgreSQL what the statement meant, so that it can be
    /// recommended as it is; others only serve as evidence.
    pub keeps_meaning: bool,
}

/// The rewrites that can be made of a read by machine, the likeliest first.
pub fn machine(analysis: &Analysis) -> Vec<Rewrite> {
    if analysis.kind != StatementKind::Select || analysis.writes {
        return Vec::new();
    }
    // A statement that could be analysed can be parsed again.
    depth::with_stack(&analysis.sql, || Ok(all(analysis))).unwrap_or_default()
}

fn all(analysis: &Analysis) -> Vec<Rewrite> {
    let Ok(parsed) = pg_query::parse(&analysis.sql, 0) else {
        return Vec::new();
    };
    let mut maker = Maker { tree: parsed.protobuf, made: Vec::new() };
    let has = |category: &str| analysis.shape.patterns.contains(category);
    if has("aggregate_order") {
        maker.each("aggregate_order", true, order_aggregate);
    }
    if has("json_as_text") {
        maker.outputs();
    }
    if has("shift_width") {
        maker.each("shift_width", false, widen_shift);
    }
    if has("int_division") {
        maker.each("int_division", false, divide_exactly);
    }
    if has("null_order") {
        maker.each("null_order", true, place_nulls);
    }
    if has("collation_range") {
        maker.each_and_single("collation_range", compare_by_bytes);
    }
    if has("collation_order") {
        maker.sort_keys();
    }
    if has("citext") {
        maker.each_and_single("citext", citext::compare_with_case);
    }
    maker.made
}

struct Maker {
    tree: ParseResult,
    made: Vec<Rewrite>,
}

// === impl Maker ===

impl Maker {
    /// Changes all places at once.
    fn each(
        &mut self,
        category: &'static str,
        keeps_meaning: bool,
        change: fn(&mut NodeEnum) -> bool,
    ) {
        let mut tree = self.tree.clone();
        let mut changed = 0;
        visit::statement(&mut tree, &mut |node| changed += usize::from(change(node)));
        if changed > 0 {
            self.keep(category, keeps_meaning, &tree);
        }
    }

    /// Changes all places at once, then one after the other: only some may be of the type
    /// that the change is for.
    fn each_and_single(&mut self, category: &'static str, change: fn(&mut NodeEnum) -> bool) {
        let mut tree = self.tree.clone();
        let mut places = 0;
        visit::statement(&mut tree, &mut |node| places += usize::from(change(node)));
        if places == 0 {
            return;
        }
        self.keep(category, false, &tree);
        for wanted in 0..places.min(SINGLE_MAX) {
            if places == 1 {
                break;
            }
            let mut tree = self.tree.clone();
            let mut place = 0;
            visit::statement(&mut tree, &mut |node| {
                let mut copy = node.clone();
                if change(&mut copy) {
                    if place == wanted {
                        *node = copy;
                    }
                    place += 1;
                }
            });
            self.keep(category, false, &tree);
        }
    }

    /// Shows what a text or a digest was made of.
    fn outputs(&mut self) {
        let mut tree = self.tree.clone();
        let Some(select) = outermost(&mut tree) else { return };
        let mut changed = false;
        for target in &mut select.target_list {
            if let Some(NodeEnum::ResTarget(target)) = target.node.as_mut()
                && let Some(inner) = target.val.as_deref().and_then(inside_text)
            {
                target.val = Some(Box::new(inner));
                changed = true;
            }
        }
        if changed {
            self.keep("json_as_text", false, &tree);
        }
    }

    /// Sorts by one key's bytes, one key after the other: the types of keys are not known.
    fn sort_keys(&mut self) {
        let mut tree = self.tree.clone();
        let keys = outermost(&mut tree).map_or(0, |select| select.sort_clause.len());
        for wanted in 0..keys.min(SINGLE_MAX) {
            let mut tree = self.tree.clone();
            visit::statement(&mut tree, &mut |node| {
                place_nulls(node);
            });
            let Some(select) = outermost(&mut tree) else { return };
            let targets = select.target_list.clone();
            let Some(NodeEnum::SortBy(key)) =
                select.sort_clause.get_mut(wanted).and_then(|key| key.node.as_mut())
            else {
                continue;
            };
            let Some(expression) = key.node.take().and_then(|key| meant(*key, &targets)) else {
                continue;
            };
            key.node = Some(Box::new(by_bytes(expression)));
            self.keep("collation_order", false, &tree);
        }
    }

    fn keep(&mut self, category: &'static str, keeps_meaning: bool, tree: &ParseResult) {
        if let Ok(sql) = pg_query::deparse(tree, pg_query::DeparseOptions::default()) {
            let normalized = pg_query::normalize(&sql).unwrap_or_default();
            self.made.push(Rewrite { category, sql, normalized, keeps_meaning });
        }
    }
}

fn outermost(tree: &mut ParseResult) -> Option<&mut SelectStmt> {
    match tree.stmts.first_mut()?.stmt.as_mut()?.node.as_mut()? {
        NodeEnum::SelectStmt(select) => Some(select),
        _ => None,
    }
}

fn node(inner: NodeEnum) -> Node {
    Node { node: Some(inner) }
}

fn name(text: &str) -> Node {
    node(NodeEnum::String(pg_query::protobuf::String { sval: text.to_owned() }))
}

fn cast(arg: Node, type_name: &str) -> Node {
    let names = vec![name("pg_catalog"), name(type_name)];
    let type_name = TypeName { names, typemod: -1, ..TypeName::default() };
    node(NodeEnum::TypeCast(Box::new(TypeCast {
        arg: Some(Box::new(arg)),
        type_name: Some(type_name),
        location: 0,
    })))
}

fn by_bytes(arg: Node) -> Node {
    node(NodeEnum::CollateClause(Box::new(CollateClause {
        arg: Some(Box::new(arg)),
        collname: vec![name("C")],
        location: 0,
    })))
}

fn operator(expression: &AExpr) -> &str {
    match expression.name.last().and_then(|name| name.node.as_ref()) {
        Some(NodeEnum::String(name)) => &name.sval,
        _ => "",
    }
}

/// NULLs where PostgreSQL puts them: last, and first where descending.
fn place_nulls(inner: &mut NodeEnum) -> bool {
    let NodeEnum::SortBy(key) = inner else { return false };
    if key.sortby_nulls != SortByNulls::SortbyNullsDefault as i32
        || key.sortby_dir == SortByDir::SortbyUsing as i32
    {
        return false;
    }
    let first = key.sortby_dir == SortByDir::SortbyDesc as i32;
    key.sortby_nulls =
        if first { SortByNulls::SortbyNullsFirst } else { SortByNulls::SortbyNullsLast } as i32;
    true
}

fn divide_exactly(inner: &mut NodeEnum) -> bool {
    let NodeEnum::AExpr(expression) = inner else { return false };
    if operator(expression) != "/" {
        return false;
    }
    let (Some(left), Some(right)) = (expression.lexpr.take(), expression.rexpr.take()) else {
        return false;
    };
    expression.lexpr = Some(Box::new(cast(*left, "numeric")));
    expression.rexpr = Some(Box::new(cast(*right, "numeric")));
    true
}

fn widen_shift(inner: &mut NodeEnum) -> bool {
    let NodeEnum::AExpr(expression) = inner else { return false };
    if !matches!(operator(expression), "<<" | ">>") {
        return false;
    }
    let Some(left) = expression.lexpr.take() else { return false };
    expression.lexpr = Some(Box::new(cast(*left, "int8")));
    true
}

fn compare_by_bytes(inner: &mut NodeEnum) -> bool {
    let NodeEnum::AExpr(expression) = inner else { return false };
    let ranges = [
        AExprKind::AexprBetween,
        AExprKind::AexprNotBetween,
        AExprKind::AexprBetweenSym,
        AExprKind::AexprNotBetweenSym,
    ];
    let is_range = ranges.iter().any(|range| expression.kind == *range as i32);
    if !is_range && !matches!(operator(expression), "<" | ">" | "<=" | ">=") {
        return false;
    }
    // A number says that this is no comparison of texts.
    let is_number = |side: &Option<Box<Node>>| {
        matches!(side.as_deref().and_then(|side| side.node.as_ref()),
            Some(NodeEnum::AConst(constant)) if matches!(constant.val,
                Some(pg_query::protobuf::a_const::Val::Ival(_)
                    | pg_query::protobuf::a_const::Val::Fval(_))))
    };
    if is_number(&expression.lexpr) || is_number(&expression.rexpr) {
        return false;
    }
    let Some(left) = expression.lexpr.take() else { return false };
    expression.lexpr = Some(Box::new(by_bytes(*left)));
    true
}

fn order_aggregate(inner: &mut NodeEnum) -> bool {
    let NodeEnum::FuncCall(call) = inner else { return false };
    if !call.agg_order.is_empty() || !is_ordered_aggregate(call) {
        return false;
    }
    let Some(arg) = call.args.first().cloned() else { return false };
    // With DISTINCT only an argument itself can be sorted by.
    let key = if call.agg_distinct { arg } else { by_bytes(cast(arg, "text")) };
    call.agg_order = vec![node(NodeEnum::SortBy(Box::new(SortBy {
        node: Some(Box::new(key)),
        sortby_dir: SortByDir::SortbyDefault as i32,
        sortby_nulls: SortByNulls::SortbyNullsLast as i32,
        use_op: Vec::new(),
        location: -1,
    })))];
    true
}

fn function(call: &FuncCall) -> &str {
    match call.funcname.last().and_then(|name| name.node.as_ref()) {
        Some(NodeEnum::String(name)) => &name.sval,
        _ => "",
    }
}

fn is_ordered_aggregate(call: &FuncCall) -> bool {
    call.over.is_none()
        && matches!(
            function(call),
            "string_agg"
                | "array_agg"
                | "json_agg"
                | "jsonb_agg"
                | "json_object_agg"
                | "jsonb_object_agg"
                | "xmlagg"
        )
}

/// What a cast to text, or a digest of one, was made of.
fn inside_text(value: &Node) -> Option<Node> {
    match value.node.as_ref()? {
        NodeEnum::TypeCast(cast) => {
            let ty = cast.type_name.as_ref()?.names.last()?.node.as_ref()?;
            let NodeEnum::String(ty) = ty else { return None };
            let inner = cast.arg.as_deref()?;
            match inner.node.as_ref()? {
                NodeEnum::AConst(_) | NodeEnum::ParamRef(_) => None,
                _ if matches!(&*ty.sval, "text" | "varchar" | "bpchar") => {
                    Some(inside_text(inner).unwrap_or_else(|| inner.clone()))
                }
                _ => None,
            }
        }
        NodeEnum::FuncCall(call) if matches!(function(call), "md5" | "sha256" | "hashtext") => {
            inside_text(call.args.first()?)
        }
        _ => None,
    }
}

/// The expression that a sort key stands for, where it is a position or an alias: those
/// cannot stand under `COLLATE`. `None` where it surely is no text.
fn meant(key: Node, targets: &[Node]) -> Option<Node> {
    let target = |wanted: &dyn Fn(usize, &ResTarget) -> bool| {
        targets.iter().enumerate().find_map(|(at, target)| match target.node.as_ref()? {
            NodeEnum::ResTarget(target) if wanted(at, target) => target.val.as_deref().cloned(),
            _ => None,
        })
    };
    match key.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            pg_query::protobuf::a_const::Val::Ival(position) => {
                let position = usize::try_from(position.ival).ok()?.checked_sub(1)?;
                target(&|at, _| at == position)
            }
            _ => None,
        },
        NodeEnum::ColumnRef(column) if column.fields.len() == 1 => {
            let alias = match column.fields.first()?.node.as_ref()? {
                NodeEnum::String(alias) => alias.sval.clone(),
                _ => return None,
            };
            Some(target(&|_, target| target.name == alias).unwrap_or(key))
        }
        NodeEnum::CollateClause(_) => None,
        _ => Some(key),
    }
}
