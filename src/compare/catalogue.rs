//! The known differences: why they are, and how to write a statement around them.

/// One category of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its stable name.
    pub category: &'static str,
    /// Why the two sides differ, in one sentence.
    pub reason: &'static str,
    /// What to write instead; empty where nothing needs to be done.
    pub rewrite: &'static str,
}

/// What is known of a category. An unknown one has neither reason nor rewrite.
pub fn entry(category: &str) -> Entry {
    const UNKNOWN: Entry = Entry { category: "", reason: "", rewrite: "" };
    ENTRIES.iter().copied().find(|entry| entry.category == category).unwrap_or(UNKNOWN)
}

const fn e(category: &'static str, reason: &'static str, rewrite: &'static str) -> Entry {
    Entry { category, reason, rewrite }
}

/// All categories.
pub const ENTRIES: &[Entry] = &[
    // Read differently by the two dialects.
    e(
        "int_division",
        "7/2 is 3 on PostgreSQL and 3.5 on CockroachDB",
        "write div(a, b), or cast an operand to numeric on purpose",
    ),
    e(
        "shift_width",
        "a shift is computed in 32 bits on PostgreSQL and in 64 on CockroachDB",
        "cast the operand to int8 before shifting",
    ),
    e(
        "bit_precedence",
        "bitwise operators bind differently: equally on PostgreSQL, & over # over | on CockroachDB",
        "set parentheses around each bitwise operation, and cast to int8",
    ),
    e(
        "null_order",
        "NULLs sort last on PostgreSQL and first on CockroachDB",
        "write NULLS FIRST or NULLS LAST in ORDER BY",
    ),
    e(
        "nan_order",
        "NaN sorts last on PostgreSQL and first on CockroachDB",
        "filter NaN out, or sort by (x = 'NaN'), x",
    ),
    e(
        "collation_order",
        "text sorts by the database's locale on one side and by bytes on the other",
        "write ORDER BY column COLLATE \"C\", or sort in the application",
    ),
    e(
        "collation_range",
        "text compares by the database's locale on one side and by bytes on the other",
        "compare with column COLLATE \"C\"",
    ),
    e(
        "collation_case",
        "lower() and upper() follow the database's locale",
        "fold the case in the application, or use lower(x COLLATE \"C\")",
    ),
    e(
        "citext",
        "the column ignores case on one side only",
        "compare lower(column) with lower(value)",
    ),
    e(
        "aggregate_order",
        "the aggregate takes its rows in the order of the plan",
        "write ORDER BY inside the aggregate",
    ),
    e(
        "window_order",
        "the window's rows are ordered in part, the rest is the plan's choice",
        "end the window's ORDER BY with a unique key",
    ),
    e(
        "distinct_on",
        "DISTINCT ON without ORDER BY keeps the row that the plan brings first",
        "add ORDER BY the DISTINCT ON columns and a unique key",
    ),
    e(
        "distinct_on_ties",
        "DISTINCT ON keeps one of several rows that sort equally",
        "end ORDER BY with a unique key",
    ),
    e(
        "json_as_text",
        "the text of a JSON document orders its keys and writes its numbers differently",
        "select the column itself, or compare extracted fields",
    ),
    e(
        "numeric_exponent_text",
        "the text of a number has an exponent or zeros on one side only",
        "select the number itself, or format it with to_char or round",
    ),
    e(
        "char_length",
        "char(n) is padded on one side only, so that its length in bytes differs",
        "use length(rtrim(column))",
    ),
    e(
        "array_dimensions",
        "arrays have one dimension only on CockroachDB",
        "store the value as jsonb or as rows of a child table",
    ),
    e(
        "timestamp_equality",
        "the column keeps fewer digits of a second than the value it is compared with",
        "compare with a range: column >= value AND column < value + one unit",
    ),
    e(
        "object_name_text",
        "the text of regclass and of format_type() leaves schemas out on CockroachDB",
        "select nspname with relname or typname from the catalogue",
    ),
    e("format_function", "formatting differs between the databases", "format in the application"),
    e(
        "regex",
        "regular expressions are POSIX on PostgreSQL and RE2 on CockroachDB",
        "use a pattern without back-references and look-around, or LIKE",
    ),
    e(
        "advisory_lock",
        "advisory locks do nothing on CockroachDB before v26.3",
        "lock a row of a table of locks with SELECT … FOR UPDATE",
    ),
    e(
        "column_count",
        "the answers have different numbers of columns",
        "name the columns instead of writing *",
    ),
    e(
        "column_order",
        "the answers have the same columns in another order",
        "name the columns instead of writing *",
    ),
    e(
        "sort_key_unseen",
        "the rows come in another order, and the sort key is not in the answer, so ties cannot be told",
        "add the sort key to the select list, or end ORDER BY with a unique key that is in it",
    ),
    e(
        "limit_in_subquery",
        "a LIMIT inside the statement keeps rows that the plan chooses",
        "order the inner query by a unique key",
    ),
    e(
        "limit_ties",
        "LIMIT cuts among rows, and the sort key is not in the answer, so ties cannot be told",
        "end ORDER BY with a unique key, and select it",
    ),
    e(
        "session_setting",
        "the sessions of the two databases have different settings",
        "give the application's role the same settings on both databases, with ALTER ROLE … SET or ALTER DATABASE … SET",
    ),
    // Not comparable.
    e(
        "limit_without_order",
        "LIMIT without a total order keeps rows that the plan chooses",
        "add ORDER BY on a unique key",
    ),
    e(
        "environment",
        "the statement asks for the server's or the session's state",
        "keep such statements away from the answer, or ask each database for its own",
    ),
    e(
        "system_catalog",
        "system catalogues describe one database",
        "ask information_schema on each database, outside the application's data path",
    ),
    e(
        "volatile",
        "the statement computes something new on every call",
        "compute the value once and bind it as a parameter",
    ),
    e(
        "too_many_rows",
        "too many rows come in another order to be matched",
        "add ORDER BY on a unique key",
    ),
    e(
        "lock_timeout",
        "the row was locked; on CockroachDB plain reads wait for uncommitted rows as well",
        "give reads a longer lock_timeout there, and try again",
    ),
    e("statement_retry", "the database asked for another try", "roll back and try again"),
    e("interrupted", "a limit or a lost connection cut the statement short", ""),
    // Faults.
    e(
        "int_overflow",
        "a number fits 64 bits and not 32",
        "declare int4 on the target, or widen the column on both sides",
    ),
    e(
        "float_overflow",
        "a float overflows with a fault on PostgreSQL and to Infinity on CockroachDB",
        "guard the operands before computing",
    ),
    e(
        "sequence_state",
        "the sequence is another one, or absent, on the other side",
        "let the primary generate the key and send it as a value",
    ),
    e(
        "unsupported_function",
        "the function is missing on one side",
        "compute it in the application, or use a function that both have",
    ),
    e(
        "unsupported_operator",
        "the operator is missing for these types on one side",
        "cast the operands to types that both sides have the operator for",
    ),
    e(
        "unsupported_type",
        "the type is missing on one side",
        "store the value as text, jsonb or plain columns",
    ),
    e("unsupported_feature", "one side does not implement this", "write it without the feature"),
    e(
        "with_without_returning",
        "CockroachDB takes no INSERT, UPDATE or DELETE in WITH that returns nothing",
        "add RETURNING to that part, such as RETURNING 1",
    ),
    e(
        "overriding_value",
        "CockroachDB does not read OVERRIDING SYSTEM VALUE",
        "leave it out, with a column that is GENERATED BY DEFAULT",
    ),
    e(
        "qualified_name",
        "CockroachDB reads no schema before a collation, or before a type with a precision",
        "leave pg_catalog out: COLLATE \"C\", timestamptz(3)",
    ),
    e(
        "untyped_parameter",
        "CockroachDB finds no type for a parameter where several fit",
        "cast the parameter, as in $1::text",
    ),
    e(
        "trigger_cascade",
        "on CockroachDB a BEFORE trigger may not change a row that a foreign key changes",
        "make that change in an AFTER trigger, or in the statement",
    ),
    e("unsupported_syntax", "one side does not read this", "write it in the dialect of both"),
    e(
        "json_concat",
        "CockroachDB does not join objects with scalars",
        "build the array explicitly",
    ),
    e(
        "json_sort",
        "jsonb cannot be sorted by on older versions of CockroachDB",
        "sort by an extracted field",
    ),
    e("system_column", "system columns are PostgreSQL's own", "select a column of the table"),
    e("missing_column", "the column is missing on one side", "add it there"),
    e("missing_table", "the table is missing on one side", "create it there"),
    e(
        "deferrable_constraint",
        "the reference is checked at once on one side and at COMMIT on the other",
        "write the parent first",
    ),
    e(
        "check_constraint",
        "ON CONFLICT checks the inserted row on PostgreSQL and the result only on CockroachDB",
        "make the inserted row satisfy the check",
    ),
    e("unique_violation", "a value is taken on one side only", "look for the row that holds it"),
    e("constraint", "a constraint holds on one side only", "align the constraints of both sides"),
    e("read_only", "the statement writes, and samples run read-only", "call it with Execute"),
    e("permission", "the role may do this on one side only", "grant the same on both sides"),
    e(
        "multiple_mutations",
        "CockroachDB refuses two changes of one table in one statement",
        "split the statement",
    ),
    e("sqlstate", "both sides fail, each with another SQLSTATE", "test for either code"),
    e("error_one_side", "one side fails and the other does not", ""),
    // Differences of data.
    e("data", "the two databases hold different rows", ""),
    e("rows_affected", "the statement changes another number of rows on the other side", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing to be written otherwise: a circumstance, a fault that nothing is known of,
    /// and differences of the data themselves.
    const WITHOUT_REWRITE: &[&str] = &["interrupted", "error_one_side", "data", "rows_affected"];

    #[test]
    fn categories_are_named_once_and_explained() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in ENTRIES {
            assert!(seen.insert(entry.category), "{} twice", entry.category);
            assert!(!entry.reason.is_empty() && !entry.reason.ends_with('.'), "{entry:?}");
        }
    }

    #[test]
    fn every_category_suggests_a_rewrite() {
        for entry in ENTRIES {
            let needs_one = !WITHOUT_REWRITE.contains(&entry.category);
            assert_eq!(!entry.rewrite.trim().is_empty(), needs_one, "{entry:?}");
            assert!(!entry.rewrite.ends_with('.'), "{entry:?}");
        }
        let known = |name: &&str| !entry(name).category.is_empty();
        assert!(WITHOUT_REWRITE.iter().all(known), "an exception that is no category");
    }
}
