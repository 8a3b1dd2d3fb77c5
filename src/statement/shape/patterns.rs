//! Constructs that the two databases are known to read differently.
//!
//! A pattern is a category of the catalogue. It says that a difference *may* come from the
//! statement; the comparer wants evidence before it believes so.

use std::collections::BTreeSet;

use crate::statement::tree::Value;

use crate::statement::tree;

/// Categories whose construct stands somewhere in the statement.
pub(crate) fn patterns(root: &Value) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut selects = 0;
    tree::walk(root, &mut |kind, body| match kind {
        "AExpr" => operator(body, &mut found),
        "FuncCall" => function(body, &mut found),
        "TypeCast" => cast(body, &mut found),
        "SortBy" if tree::number(body, "sortby_nulls") == SORT_NULLS_DEFAULT => {
            found.insert("null_order");
            found.insert("collation_order");
        }
        "ColumnRef" => column(body, &mut found),
        "SelectStmt" => {
            select(body, selects > 0, &mut found);
            selects += 1;
        }
        "AArrayExpr" if is_nested_array(body) => {
            found.insert("array_dimensions");
        }
        "LockingClause" => {
            found.insert("row_locks");
        }
        "CommonTableExpr" if returns_nothing(body) => {
            found.insert("with_without_returning");
        }
        "InsertStmt" if tree::number(body, "override") > OVERRIDING_NOT_SET => {
            found.insert("overriding_value");
        }
        _ => {}
    });
    found
}

const OVERRIDING_NOT_SET: i64 = pg_query::protobuf::OverridingKind::OverridingNotSet as i64;
const SORT_NULLS_DEFAULT: i64 = pg_query::protobuf::SortByNulls::SortbyNullsDefault as i64;

fn operator(body: &Value, found: &mut BTreeSet<&'static str>) {
    use pg_query::protobuf::AExprKind as Kind;
    let between = [
        Kind::AexprBetween,
        Kind::AexprNotBetween,
        Kind::AexprBetweenSym,
        Kind::AexprNotBetweenSym,
    ];
    let kind = tree::number(body, "kind");
    if between.iter().any(|between| kind == i64::from(*between as i32)) {
        if may_be_text(body) {
            found.insert("collation_range");
        }
        return;
    }
    if kind == i64::from(Kind::AexprLike as i32) || kind == i64::from(Kind::AexprIlike as i32) {
        found.insert("citext");
        return;
    }
    match tree::names(body, "name").last().copied().unwrap_or_default() {
        "/" if may_be_integer(body) => {
            found.insert("int_division");
        }
        "<<" | ">>" => {
            found.insert("shift_width");
        }
        // With one operand it is the bitwise NOT, with two a match.
        "~" if body.get("lexpr").is_some_and(Value::is_object) => {
            found.insert("regex");
        }
        "&" | "#" | "|" | "~" => {
            found.insert("bit_precedence");
        }
        "<" | ">" | "<=" | ">=" if may_be_text(body) => {
            found.insert("collation_range");
        }
        "=" | "<>" => {
            found.insert("citext");
            if operands(body).any(|operand| is_fine_timestamp(&operand)) {
                found.insert("timestamp_equality");
            }
        }
        "~*" | "!~" | "!~*" => {
            found.insert("regex");
        }
        _ => {}
    }
}

fn operands(body: &Value) -> impl Iterator<Item = Value> {
    let mut all = Vec::new();
    for field in ["lexpr", "rexpr"] {
        // The two bounds of BETWEEN are a list.
        if let Some(operand) = body.get(field) {
            match tree::node(operand) {
                Some(("List", list)) => all.extend(tree::list(list, "items").iter().cloned()),
                _ => all.push(operand.clone()),
            }
        }
    }
    all.into_iter()
}

/// Neither operand is a decimal by its spelling.
fn may_be_integer(body: &Value) -> bool {
    !operands(body).any(|operand| match tree::node(&operand) {
        Some(("AConst", body)) => {
            let value = |kind| body.get("val").and_then(|value| value.get(kind));
            value("Fval").is_some() || value("Sval").is_some()
        }
        Some(("TypeCast", body)) => matches!(
            type_name(body),
            "numeric" | "float4" | "float8" | "decimal" | "interval" | "money"
        ),
        _ => false,
    })
}

/// Both operands may be text by their spelling.
fn may_be_text(body: &Value) -> bool {
    operands(body).all(|operand| match tree::node(&operand) {
        Some(("AConst", _)) => tree::constant(&operand)
            .and_then(Value::as_str)
            // A date, a time or a number in quotes is hardly compared as text.
            .is_some_and(|text| !text.starts_with(|first: char| first.is_ascii_digit())),
        Some(("TypeCast", body)) => matches!(type_name(body), "text" | "varchar" | "bpchar"),
        Some(("ColumnRef" | "ParamRef", _)) => true,
        Some(("FuncCall", body)) => {
            matches!(&*tree::function_name(body), "lower" | "upper" | "trim" | "btrim" | "concat")
        }
        Some(("CollateClause", _)) => false,
        _ => false,
    })
}

/// A text constant with more than three digits of a second.
fn is_fine_timestamp(operand: &Value) -> bool {
    const MILLISECOND_DIGITS: usize = 3;
    let inner = match tree::node(operand) {
        Some(("TypeCast", body)) => body.get("arg").unwrap_or(&Value::Null),
        _ => operand,
    };
    let Some(text) = tree::constant(inner).and_then(Value::as_str) else {
        return false;
    };
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.split_once('.').is_some_and(|(before, fraction)| {
            before.contains(':')
                && fraction.chars().take_while(char::is_ascii_digit).count() > MILLISECOND_DIGITS
        })
}

/// The last part of a cast's type.
pub(crate) fn type_name(cast: &Value) -> &str {
    cast.get("type_name")
        .map(|ty| tree::names(ty, "names"))
        .unwrap_or_default()
        .last()
        .copied()
        .unwrap_or_default()
}

fn function(body: &Value, found: &mut BTreeSet<&'static str>) {
    let name = tree::function_name(body);
    let ordered = !tree::list(body, "agg_order").is_empty();
    match name.as_str() {
        "string_agg" | "array_agg" | "json_agg" | "jsonb_agg" | "json_object_agg"
        | "jsonb_object_agg" | "xmlagg"
            if !ordered =>
        {
            found.insert("aggregate_order");
        }
        "first_value" | "last_value" | "nth_value" | "lag" | "lead" | "row_number" | "ntile" => {
            found.insert("window_order");
        }
        "octet_length" | "bit_length" => {
            found.insert("char_length");
        }
        "min" | "max" | "greatest" | "least" => {
            found.insert("collation_order");
        }
        "lower" | "upper" | "initcap" => {
            found.insert("collation_case");
        }
        "jsonb_object_keys" | "json_object_keys" | "jsonb_each" | "json_each"
        | "jsonb_each_text" | "json_each_text" => {
            found.insert("json_set_order");
        }
        "md5" | "sha256" | "digest" | "hashtext" => {
            found.insert("json_as_text");
        }
        "format_type" => {
            found.insert("object_name_text");
        }
        "to_char" | "date_part" | "extract" => {
            found.insert("format_function");
        }
        "regexp_replace" | "regexp_match" | "regexp_matches" | "substring" => {
            found.insert("regex");
        }
        _ if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") => {
            found.insert("advisory_lock");
        }
        _ => {}
    }
}

fn cast(body: &Value, found: &mut BTreeSet<&'static str>) {
    if matches!(type_name(body), "text" | "varchar" | "bpchar") {
        found.insert("json_as_text");
        found.insert("numeric_exponent_text");
    }
    if matches!(type_name(body), "regclass" | "regtype" | "regproc" | "regprocedure") {
        found.insert("object_name_text");
    }
}

fn column(body: &Value, found: &mut BTreeSet<&'static str>) {
    let name = tree::names(body, "fields").last().copied().unwrap_or_default();
    if matches!(name, "ctid" | "xmin" | "xmax" | "cmin" | "cmax" | "tableoid") {
        found.insert("system_column");
    }
}

fn select(body: &Value, is_inner: bool, found: &mut BTreeSet<&'static str>) {
    let has_order = !tree::list(body, "sort_clause").is_empty();
    let has_limit = body.get("limit_count").is_some_and(Value::is_object)
        || body.get("limit_offset").is_some_and(Value::is_object);
    if is_inner && has_limit {
        found.insert("limit_in_subquery");
    }
    // `DISTINCT` is a list of one empty node, `DISTINCT ON` one of expressions.
    let distinct_on = tree::list(body, "distinct_clause").iter().any(|on| tree::node(on).is_some());
    if distinct_on {
        found.insert(if has_order { "distinct_on_ties" } else { "distinct_on" });
    }
}

/// A part of `WITH` that writes, and has no rows.
fn returns_nothing(part: &Value) -> bool {
    let query = part.get("ctequery").and_then(tree::node);
    query.is_some_and(|(kind, body)| {
        matches!(kind, "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt")
            && !body.get("returning_clause").is_some_and(Value::is_object)
            && tree::list(body, "returning_list").is_empty()
    })
}

fn is_nested_array(body: &Value) -> bool {
    tree::list(body, "elements").iter().filter_map(tree::node).any(|(kind, _)| kind == "AArrayExpr")
}
