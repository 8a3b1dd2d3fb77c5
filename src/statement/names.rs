//! The relations and functions that a text names, for the catalogue to resolve.

use pg_query::protobuf::{KeywordKind, ScanToken, Token};

use crate::domain::reach::{FunctionRef, Named};
use crate::domain::table::TableRef;
use crate::statement::tree::{self, Value};
use crate::statement::{classify, depth};

/// Functions of sequences: their first argument is a sequence's name.
const OF_SEQUENCES: [&str; 3] = ["nextval", "currval", "setval"];

/// Built-in functions, and those of extensions that come with PostgreSQL, that run a text as SQL,
/// or read a table whose name is a text.
const RUN_SQL: [&str; 24] = [
    "connectby",
    "crosstab",
    "crosstab2",
    "crosstab3",
    "crosstab4",
    "cursor_to_xml",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "dblink",
    "dblink_exec",
    "dblink_open",
    "dblink_send_query",
    "lo_export",
    "lo_import",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "ts_rewrite",
    "ts_stat",
    "xpath_table",
];

/// Settings by which unqualified names are found: the path, and the role that `"$user"` in it is.
const OF_PATH: [&str; 3] = ["search_path", "role", "session_authorization"];
/// The same as words of a text: `SET LOCAL SCHEMA` sets the path.
const WORDS_OF_PATH: [&str; 5] = ["search_path", "set_config", "schema", "role", "authorization"];

/// The names in a parsed statement.
pub(crate) fn named(root: &Value) -> Named {
    let mut named = Named {
        relations: tree::tables(root).into_iter().collect(),
        written: tree::written(root).into_iter().collect(),
        reads_only: !classify::has_writing_node(root),
        ..Named::default()
    };
    tree::walk(root, &mut |kind, body| match kind {
        "FuncCall" => call(body, &mut named),
        "AExpr" => named.operators.extend(last(body, "name")),
        "SubLink" => named.operators.extend(last(body, "oper_name")),
        "SortBy" => named.operators.extend(last(body, "use_op")),
        "TypeCast" => cast(body, &mut named),
        "DoStmt" => do_block(body, &mut named),
        "VariableSetStmt" => named.sets_path |= is_of_path(tree::text(body, "name")),
        _ => {}
    });
    named
}

/// The names in the text of a definition (`CREATE RULE`, `CREATE FUNCTION`), or of the statements
/// of a function in SQL; nothing where it cannot be parsed.
pub fn of_sql(sql: &str) -> Option<Named> {
    let parse = || {
        let parsed = pg_query::parse(sql, 0).ok();
        let tree = parsed.and_then(|parsed| Value::of(&parsed.protobuf).ok());
        Ok(tree.map(|tree| {
            let mut named = named(&tree);
            named.reads_only &= tree::list(&tree, "stmts").iter().all(is_read);
            named
        }))
    };
    depth::with_stack(sql, parse).ok().flatten()
}

/// A query, or a definition that was given as one: a body of standard SQL has nothing but queries
/// and writes.
fn is_read(statement: &Value) -> bool {
    let kind = statement.get("stmt").and_then(tree::node).map(|(kind, _)| kind);
    matches!(kind, Some("SelectStmt" | "CreateFunctionStmt" | "RuleStmt"))
}

/// The words of a body in a language that is not parsed here, such as PL/pgSQL. It over-estimates:
/// a variable may have the name of a table, and a relation is never missed but by SQL that the body
/// makes while it runs, which it says.
pub fn of_words(body: &str) -> Named {
    let Ok(scanned) = pg_query::scan(body) else {
        return Named { dynamic: true, ..Named::default() };
    };
    let mut named = Named::default();
    let mut tokens = scanned.tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        let Some(word) = word(body, token) else { continue };
        // `EXECUTE` runs a text; the word also stands in `EXECUTE FUNCTION`, which no body has.
        named.dynamic |= word == "execute" || RUN_SQL.contains(&word.as_str());
        named.sets_path |= WORDS_OF_PATH.contains(&word.as_str());
        let opens = |next: &&ScanToken| next.token == Token::Ascii40 as i32;
        if tokens.peek().is_some_and(opens) {
            named.calls.insert(word.clone());
        }
        named.words.insert(word);
    }
    named
}

/// A word as the catalogue has it: an identifier, or a keyword that may be one.
fn word(body: &str, token: &ScanToken) -> Option<String> {
    let (start, end) = (usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?);
    let text = body.get(start..end)?;
    let is_word =
        token.token == Token::Ident as i32 || token.keyword_kind != KeywordKind::NoKeyword as i32;
    if !is_word {
        return None;
    }
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(quoted) => Some(quoted.replace("\"\"", "\"")),
        None => Some(text.to_lowercase()),
    }
}

fn call(body: &Value, named: &mut Named) {
    let names = tree::names(body, "funcname");
    let Some((name, schema)) = names.split_last() else { return };
    let arguments = tree::list(body, "args");
    if OF_SEQUENCES.contains(name) {
        named.relations.extend(arguments.first().and_then(text_of).and_then(relation_of));
    }
    named.dynamic |= RUN_SQL.contains(name);
    if *name == "set_config" {
        named.sets_path |= arguments.first().and_then(text_of).is_none_or(is_of_path);
    }
    named.functions.insert(FunctionRef {
        schema: schema.last().map(|schema| (*schema).to_owned()),
        name: (*name).to_owned(),
        arguments: arguments.len(),
    });
}

/// `RESET ALL` has no name.
fn is_of_path(setting: &str) -> bool {
    setting.is_empty() || OF_PATH.iter().any(|it| it.eq_ignore_ascii_case(setting))
}

fn cast(body: &Value, named: &mut Named) {
    let Some(name) = body.get("type_name").and_then(|it| tree::names(it, "names").last().copied())
    else {
        return;
    };
    named.casts.insert(name.to_owned());
    if name == "regclass" {
        named.relations.extend(body.get("arg").and_then(text_of).and_then(relation_of));
    }
}

/// `DO` runs a text in PL/pgSQL.
fn do_block(body: &Value, named: &mut Named) {
    for (_, option) in tree::list(body, "args").iter().filter_map(tree::node) {
        if tree::text(option, "defname") == "as" {
            let text = option.get("arg").and_then(tree::node).map(|(_, it)| tree::text(it, "sval"));
            named.absorb(&of_words(text.unwrap_or_default()));
        }
    }
}

fn last(body: &Value, field: &str) -> Option<String> {
    tree::names(body, field).last().map(|name| (*name).to_owned())
}

/// The text of a constant, below its casts.
fn text_of(value: &Value) -> Option<&str> {
    match tree::node(value)? {
        ("TypeCast", body) => text_of(body.get("arg")?),
        _ => tree::constant(value)?.as_str(),
    }
}

/// A relation as a text names it: `schema.name`, each part in quotes or folded.
fn relation_of(text: &str) -> Option<TableRef> {
    let scanned = pg_query::scan(text).ok()?;
    let mut parts: Vec<String> = scanned.tokens.iter().filter_map(|it| word(text, it)).collect();
    let name = parts.pop()?;
    Some(TableRef { schema: parts.pop(), name })
}
