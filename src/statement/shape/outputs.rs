//! Which constructs can have changed which output column.

use std::collections::BTreeSet;

use crate::statement::shape::patterns;
use crate::statement::tree::{self, Value};

/// Functions whose result depends on which rows there are, and on their order.
const AGGREGATES: &[&str] = &[
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "count",
    "every",
    "json_agg",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_object_agg",
    "max",
    "min",
    "mode",
    "percentile_cont",
    "percentile_disc",
    "stddev",
    "string_agg",
    "sum",
    "variance",
    "xmlagg",
];

/// What a column of the answer is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Constructs in its own expression.
    patterns: BTreeSet<&'static str>,
    /// It depends on what the rest of the statement selects.
    gathers: bool,
}

/// How each column is made; nothing where positions cannot be told, or where columns come from
/// a query inside.
pub(crate) fn made(body: &Value) -> Option<Vec<Made>> {
    let is_plain = body.get("larg").is_none_or(|left| !left.is_object())
        && body.get("with_clause").is_none_or(|with| !with.is_object());
    let mut inner = false;
    for from in tree::list(body, "from_clause") {
        tree::walk(from, &mut |kind, _| {
            inner |= matches!(kind, "RangeSubselect" | "RangeFunction");
        });
    }
    if !is_plain || inner {
        return None;
    }
    let targets = tree::list(body, "target_list").iter().filter_map(tree::node);
    targets
        .map(|(_, target)| {
            let value = target.get("val").unwrap_or(&Value::Null);
            (!super::is_star(value))
                .then(|| Made { patterns: patterns::patterns(value), gathers: gathers(value) })
        })
        .collect()
}

fn gathers(value: &Value) -> bool {
    let mut found = false;
    tree::walk(value, &mut |kind, body| match kind {
        "SubLink" => found = true,
        "FuncCall" => {
            let name = tree::function_name(body);
            found |= AGGREGATES.contains(&name.as_str())
                || name.contains('.')
                || body.get("over").is_some_and(Value::is_object)
                || body.get("agg_filter").is_some_and(Value::is_object)
                || tree::flag(body, "agg_star")
                || !tree::list(body, "agg_order").is_empty();
        }
        _ => {}
    });
    found
}

// === impl Made ===

impl Made {
    /// Whether a construct of the statement can have changed this column.
    pub(crate) fn by(&self, category: &str) -> bool {
        self.gathers || self.patterns.contains(category)
    }
}
