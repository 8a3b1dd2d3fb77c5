//! Functions of PostgreSQL that compute something from their arguments and do nothing else.

/// In the order of the manual's chapters; each list is sorted.
const HARMLESS: &[&[&str]] = &[
    // Logic, comparison, conditions.
    &["coalesce", "greatest", "least", "num_nonnulls", "num_nulls", "nullif"],
    // Numbers.
    &[
        "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "ceiling", "cos", "cot",
        "degrees", "div", "exp", "factorial", "floor", "gcd", "lcm", "ln", "log", "log10",
        "min_scale", "mod", "pi", "power", "radians", "random", "round", "scale", "sign", "sin",
        "sqrt", "tan", "trim_scale", "trunc", "width_bucket",
    ],
    // Texts and bytes.
    &[
        "ascii", "bit_length", "btrim", "char_length", "character_length", "chr", "concat",
        "concat_ws", "convert_from", "convert_to", "decode", "encode", "format", "get_byte",
        "initcap", "left", "length", "lower", "lpad", "ltrim", "md5", "normalize", "octet_length",
        "overlay", "position", "quote_ident", "quote_literal", "quote_nullable", "regexp_count",
        "regexp_instr", "regexp_like", "regexp_match", "regexp_matches", "regexp_replace",
        "regexp_split_to_array", "regexp_split_to_table", "regexp_substr", "replace", "reverse",
        "right", "rpad", "rtrim", "sha224", "sha256", "sha384", "sha512", "split_part",
        "starts_with", "string_to_array", "string_to_table", "strpos", "substr", "substring",
        "to_char", "to_date", "to_hex", "to_number", "to_timestamp", "translate", "trim", "upper",
    ],
    // Times.
    &[
        "age", "clock_timestamp", "current_date", "current_time", "current_timestamp",
        "date_bin", "date_part", "date_trunc", "extract", "isfinite", "justify_days",
        "justify_hours", "justify_interval", "localtime", "localtimestamp", "make_date",
        "make_interval", "make_time", "make_timestamp", "make_timestamptz", "now",
        "statement_timestamp", "timezone", "transaction_timestamp",
    ],
    // Ranges, arrays, UUIDs, network addresses.
    &[
        "array_append", "array_cat", "array_dims", "array_fill", "array_length", "array_lower",
        "array_ndims", "array_position", "array_positions", "array_prepend", "array_remove",
        "array_replace", "array_to_string", "array_upper", "cardinality", "gen_random_uuid",
        "host", "int4range", "int8range", "isempty", "lower_inc", "lower_inf", "masklen",
        "network", "numrange", "range_merge", "tsrange", "tstzrange", "unnest", "upper_inc",
        "upper_inf", "uuidv4", "uuidv7",
    ],
    // JSON.
    &[
        "array_to_json", "json_agg", "json_array_elements", "json_array_elements_text",
        "json_array_length", "json_build_array", "json_build_object", "json_each",
        "json_each_text", "json_extract_path", "json_extract_path_text", "json_object",
        "json_object_agg", "json_object_keys", "json_strip_nulls", "json_to_record",
        "json_to_recordset", "json_typeof", "jsonb_agg", "jsonb_array_elements",
        "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array",
        "jsonb_build_object", "jsonb_each", "jsonb_each_text", "jsonb_extract_path",
        "jsonb_extract_path_text", "jsonb_insert", "jsonb_object", "jsonb_object_agg",
        "jsonb_object_keys", "jsonb_path_exists", "jsonb_path_query", "jsonb_path_query_array",
        "jsonb_path_query_first", "jsonb_pretty", "jsonb_set", "jsonb_strip_nulls",
        "jsonb_to_record", "jsonb_to_recordset", "jsonb_typeof", "row_to_json", "to_json",
        "to_jsonb",
    ],
    // Text search.
    &[
        "phraseto_tsquery", "plainto_tsquery", "setweight", "to_tsquery", "to_tsvector",
        "ts_headline", "ts_rank", "ts_rank_cd", "websearch_to_tsquery",
    ],
    // Aggregates, windows, sets.
    &[
        "any_value", "array_agg", "avg", "bit_and", "bit_or", "bool_and", "bool_or", "corr",
        "count", "cume_dist", "dense_rank", "every", "first_value", "generate_series",
        "generate_subscripts", "lag", "last_value", "lead", "max", "min", "mode", "nth_value",
        "ntile", "percent_rank", "percentile_cont", "percentile_disc", "rank", "row_number",
        "stddev", "stddev_pop", "stddev_samp", "string_agg", "sum", "var_pop", "var_samp",
        "variance",
    ],
    // The session, as it is.
    &["current_database", "current_schema", "current_user", "session_user", "version"],
];

/// Whether a function, by the name that [`super::functions::called`] gives, is one of these.
pub(crate) fn is_harmless(name: &str) -> bool {
    HARMLESS.iter().any(|names| names.binary_search(&name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        for names in HARMLESS {
            assert!(names.is_sorted(), "{names:?}");
        }
    }

    #[test]
    fn only_what_is_well_known_is_believed() {
        for (sql, expected) in [
            ("SELECT id, count(*) FROM item WHERE made > now() GROUP BY id", true),
            ("SELECT pg_catalog.lower(name) FROM item", true),
            ("VALUES (1)", true),
            ("SELECT app.lower(name) FROM item", false),
            ("SELECT mine(1)", false),
            ("SELECT pg_sleep(1)", false),
            ("SELECT current_setting('a.b')", false),
            ("SELECT set_config('search_path', 'x', false)", false),
            ("SELECT pg_advisory_lock(1)", false),
            ("SHOW search_path", false),
            ("EXPLAIN ANALYZE SELECT mine(1)", false),
            ("INSERT INTO item VALUES (1)", false),
        ] {
            let analysis = crate::statement::analyse(sql).unwrap();
            assert_eq!(analysis.leaves_nothing, expected, "{sql}");
        }
    }
}
