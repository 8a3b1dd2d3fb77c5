//! A statement held against the facts, by PostgreSQL's parse tree of it.

use std::collections::{BTreeMap, BTreeSet};

use pg_query::ParserOptions;
use serde_json::Value;

use super::facts::{Facts, Release, Signature};
use super::parser::Parsed;
use super::record::Sent;

/// Something that CockroachDB refuses, or answers in another way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub rule: &'static str,
    /// What it is about: a function, a column, a table.
    pub detail: String,
}

/// What is said against a text in a release; none where PostgreSQL itself cannot parse it, which
/// is then in CockroachDB's own words.
pub fn violations(
    facts: &Facts,
    release: Release,
    sent: &Sent,
    parsed: &Parsed,
) -> Option<BTreeSet<Violation>> {
    let by_statement = violations_by_statement(facts, release, sent, parsed)?;
    Some(by_statement.into_iter().flat_map(|(_, found)| found).collect())
}

/// The same for each statement of the text, with where it begins. What is said against the bodies
/// of functions stands with the last.
pub fn violations_by_statement(
    facts: &Facts,
    release: Release,
    sent: &Sent,
    parsed: &Parsed,
) -> Option<Vec<(usize, BTreeSet<Violation>)>> {
    let tree = tree_of(&sent.sql)?;
    let mut walk = Walk { facts, release, sent, found: BTreeSet::new() };
    let (mut in_transaction, mut all) = (sent.in_transaction, Vec::new());
    let mut rest = located(&tree).peekable();
    while let Some((at, statement)) = rest.next() {
        walk.transaction(statement, &mut in_transaction);
        walk.statement(statement);
        walk.results(statement);
        if rest.peek().is_none() {
            walk.bodies(parsed);
        }
        all.push((at, std::mem::take(&mut walk.found)));
    }
    Some(all)
}

pub fn tree_of(sql: &str) -> Option<Value> {
    let parsed = pg_query::parse(sql, ParserOptions::default()).ok()?;
    Some(serde_json::to_value(&parsed.protobuf).expect("a tree is JSON"))
}

pub fn statements(tree: &Value) -> impl Iterator<Item = &Value> {
    tree["stmts"].as_array().into_iter().flatten().map(|it| &it["stmt"])
}

/// The same, each with where it begins.
pub fn located(tree: &Value) -> impl Iterator<Item = (usize, &Value)> {
    let begins = |it: &Value| it["stmt_location"].as_u64().unwrap_or_default();
    let all = tree["stmts"].as_array().into_iter().flatten();
    all.map(move |it| (usize::try_from(begins(it)).expect("it fits"), &it["stmt"]))
}

struct Walk<'a> {
    facts: &'a Facts,
    release: Release,
    sent: &'a Sent,
    found: BTreeSet<Violation>,
}

/// A shorter wait is over before a writer that is well has committed.
const LOCK_TIMEOUT_MIN_MS: i64 = 1000;

/// How CockroachDB writes what PostgreSQL's parser reads in another form only.
const WRITTEN_OTHERWISE: [(&str, &str); 4] = [
    ("extract('", "date_part('"),
    ("current_user()", "current_user"),
    ("session_user()", "session_user"),
    ("current_catalog()", "current_catalog"),
];

/// Statements that change the schema, which commit a transaction that is open. CockroachDB counts
/// GRANT and its like among them.
pub const DDL: [&str; 28] = [
    "AlterEnumStmt",
    "AlterFunctionStmt",
    "AlterObjectSchemaStmt",
    "AlterOwnerStmt",
    "AlterRoleSetStmt",
    "AlterRoleStmt",
    "AlterSeqStmt",
    "CommentStmt",
    "CreateEnumStmt",
    "CreateRoleStmt",
    "CreateSeqStmt",
    "CreatedbStmt",
    "DropRoleStmt",
    "DropdbStmt",
    "GrantRoleStmt",
    "GrantStmt",
    "RefreshMatViewStmt",
    "CreateStmt",
    "CreateTableAsStmt",
    "CreateSchemaStmt",
    "CreateFunctionStmt",
    "CreateTrigStmt",
    "IndexStmt",
    "AlterTableStmt",
    "DropStmt",
    "TruncateStmt",
    "RenameStmt",
    "ViewStmt",
];

impl Walk<'_> {
    fn say(&mut self, rule: &'static str, detail: impl Into<String>) {
        self.found.insert(Violation { rule, detail: detail.into() });
    }

    /// What a statement does to the transaction, or suffers from it.
    fn transaction(&mut self, statement: &Value, in_transaction: &mut bool) {
        let Some((kind, body)) = node(statement) else { return };
        if kind == "TransactionStmt" {
            match transaction_kind(body) {
                "begin" => *in_transaction = true,
                "commit" | "rollback" => *in_transaction = false,
                _ => {}
            }
        } else if DDL.contains(&kind) && *in_transaction {
            self.say("DDL in a transaction", kind);
            // It commits what was before, and nothing is open after it.
            *in_transaction = false;
        }
    }

    fn statement(&mut self, statement: &Value) {
        self.hidden(statement);
        self.placeholders(statement);
        let tables = tables(statement);
        for (_, (schema, name)) in &tables {
            self.table(schema, name);
        }
        let mut guarded = BTreeSet::new();
        visit(statement, &mut |kind, body| {
            // NULL is looked for.
            if matches!(kind, "CoalesceExpr" | "NullTest") {
                columns_directly_in(body, &mut guarded);
            }
        });
        visit(statement, &mut |kind, body| match kind {
            "FuncCall" => self.call(body),
            "ColumnRef" => self.column(body, &tables, &guarded),
            "CommonTableExpr" => self.with_part(body),
            "TypeName" => self.type_name(body),
            "AExpr" => self.operator(body),
            "LockingClause" => self.locking(body),
            "VariableSetStmt" => self.set(body),
            "CopyStmt" => self.copy(body),
            "CreateStmt" => self.temporary(&body["relation"]),
            "CreateTableAsStmt" => self.temporary(&body["into"]["rel"]),
            "CreateTrigStmt" => self.trigger(body),
            "AlterTableCmd" => self.alter(body),
            "CreateFunctionStmt" => self.function(body),
            _ => {}
        });
    }

    fn table(&mut self, schema: &str, name: &str) {
        if self.facts.gated_schemas.iter().any(|it| it == schema) {
            if self.release >= self.facts.gated_since {
                self.say("gated schema", format!("{schema}.{name}"));
            }
            return;
        }
        if !Facts::is_catalog(schema, name) {
            return;
        }
        match self.facts.table(schema, name) {
            Some(table) if table.empty => self.say("table always empty", name),
            Some(_) => {}
            None if self.facts.catalog.further_tables.contains(name) => {}
            None => self.say("no such table", name),
        }
    }

    fn column(
        &mut self,
        body: &Value,
        tables: &[(String, (String, String))],
        guarded: &BTreeSet<String>,
    ) {
        let names = strings(&body["fields"]);
        let Some(column) = names.last() else { return };
        if self.facts.system_columns_absent.contains(*column) && names.len() < 3 {
            self.say("system column", *column);
            return;
        }
        // A column that is not qualified is of any table in the statement.
        let of = (names.len() > 1).then(|| names[names.len() - 2]);
        let candidates: Vec<_> = tables
            .iter()
            .filter(|(alias, _)| of.is_none_or(|of| of == alias))
            .map(|(_, (schema, name))| (name, self.facts.table(schema, name)))
            .collect();
        let known: Vec<_> =
            candidates.iter().filter_map(|(name, table)| Some((*name, (*table)?))).collect();
        // The same alias may stand for something else in another part.
        if known.is_empty() || known.len() < candidates.len() && of.is_none() {
            return;
        }
        let having: Vec<_> =
            known.iter().filter(|(_, table)| table.columns.contains(*column)).collect();
        let is_row = of.is_none() && tables.iter().any(|(alias, _)| alias == column);
        if having.is_empty() {
            let is_elsewhere = known.len() < candidates.len() || of.is_none();
            if !is_elsewhere && !is_row {
                self.say("no such column", format!("{}.{column}", known[0].0));
            }
        } else if having.iter().all(|(_, table)| table.always_null.contains(*column)) {
            if !guarded.contains(&names.join(".")) {
                self.say("column always NULL", format!("{}.{column}", having[0].0));
            }
        } else if let Some(value) = having.iter().find_map(|(_, it)| it.constant.get(*column)) {
            self.say("column of one value", format!("{}.{column} is {value}", having[0].0));
        }
    }

    fn call(&mut self, body: &Value) {
        let names = strings(&body["funcname"]);
        let name = match names.as_slice() {
            ["pg_catalog", name] | [name] => *name,
            [schema, name] => return self.table_of_call(schema, name),
            _ => return,
        };
        if let ("set_config" | "current_setting", Some(setting)) =
            (name, body["args"].get(0).and_then(constant))
        {
            self.setting(setting);
        }
        if name == "setval" {
            self.say("sequence set past caches", name);
        }
        let facts = self.facts;
        if facts.functions_absent.contains_key(name) {
            return self.say("no such function", name);
        }
        let Some(function) = facts.functions.get(name) else {
            return self.say("function not known", name);
        };
        if function.since.is_some_and(|since| since > self.release) {
            return self.say("no such function yet", name);
        }
        let signatures: Vec<_> =
            function.signatures.iter().map(|it| Signature::parse(it)).collect();
        if !signatures.is_empty() {
            self.arguments(name, body, &signatures);
        }
    }

    fn table_of_call(&mut self, schema: &str, name: &str) {
        if self.facts.gated_schemas.iter().any(|it| it == schema)
            && self.release >= self.facts.gated_since
        {
            self.say("gated schema", format!("{schema}.{name}"));
        }
    }

    /// A placeholder without a type of its own is given one where only one fits.
    fn arguments(&mut self, name: &str, body: &Value, signatures: &[Signature<'_>]) {
        let arguments = body["args"].as_array().map(Vec::as_slice).unwrap_or_default();
        // `f(a ORDER BY b)` has its own way of writing some arguments.
        if body["agg_star"] == true || body["agg_within_group"] == true {
            return;
        }
        let mut fitting: Vec<_> =
            signatures.iter().filter(|it| it.takes(arguments.len())).collect();
        if fitting.is_empty() {
            return self.say("no such arguments", format!("{name}/{}", arguments.len()));
        }
        for (at, argument) in arguments.iter().enumerate() {
            if let Some(of) = cast_to(argument) {
                let is_of = |it: &&&Signature<'_>| {
                    it.types_at(at).iter().any(|it| *it == of || it.starts_with("any"))
                };
                let narrowed: Vec<_> = fitting.iter().filter(is_of).copied().collect();
                if !narrowed.is_empty() {
                    fitting = narrowed;
                }
            }
        }
        for (at, argument) in arguments.iter().enumerate() {
            let possible: BTreeSet<_> = fitting.iter().flat_map(|it| it.types_at(at)).collect();
            if self.is_untyped(argument)
                && (possible.len() > 1 || possible.iter().any(|it| it.starts_with("any")))
            {
                self.say("untyped placeholder", name);
            }
        }
    }

    fn is_untyped(&self, value: &Value) -> bool {
        let Some(("ParamRef", body)) = node(value) else { return false };
        let number = body["number"].as_u64().unwrap_or_default();
        let at = usize::try_from(number).expect("it is small").checked_sub(1);
        at.is_some_and(|at| self.sent.types.get(at).is_none_or(|oid| *oid == 0))
    }

    /// One that is cast in one place, and in another not so or to another type, becomes a string
    /// (`CastExpr.TypeCheck`), whatever PostgreSQL makes of it.
    fn placeholders(&mut self, statement: &Value) {
        let mut seen: BTreeMap<u64, (BTreeSet<String>, usize)> = BTreeMap::new();
        let number = |value: &Value| match node(value) {
            Some(("ParamRef", body)) => body["number"].as_u64(),
            _ => None,
        };
        visit(statement, &mut |kind, body| match kind {
            "TypeCast" => {
                if let Some(number) = number(&body["arg"]) {
                    let (casts, bare) = seen.entry(number).or_default();
                    casts.insert(family(&body["type_name"]));
                    // It is met below once more.
                    *bare = bare.wrapping_sub(1);
                }
            }
            "ParamRef" => {
                let number = body["number"].as_u64().unwrap_or_default();
                let (_, bare) = seen.entry(number).or_default();
                *bare = bare.wrapping_add(1);
            }
            _ => {}
        });
        for (number, (casts, bare)) in seen {
            let at = usize::try_from(number).expect("it is small").checked_sub(1);
            let untyped = at.is_some_and(|at| self.sent.types.get(at).is_none_or(|oid| *oid == 0));
            if untyped && (casts.len() > 1 || bare > 0 && !casts.is_empty()) {
                let casts: Vec<_> = casts.into_iter().collect();
                let beside = if bare > 0 { " and without a cast" } else { "" };
                self.say("placeholder of several types", format!("{}{beside}", casts.join(", ")));
            }
        }
    }

    /// What is computed is an integer of eight bytes there, unless it is cast.
    fn results(&mut self, statement: &Value) {
        let mut targets = Vec::new();
        if let Some((_, mut body)) = node(statement) {
            // Of a UNION the first part says it.
            while !body["larg"].is_null() {
                body = &body["larg"];
            }
            let of = [&body["target_list"], &body["returning_clause"]["exprs"]];
            let lists = of.into_iter().filter_map(Value::as_array);
            targets.extend(lists.flatten().filter_map(|it| Some(&node(it)?.1["val"])));
        }
        // With all columns of a table nobody knows which is which.
        let is_star = |it: &&Value| match node(it) {
            Some(("ColumnRef", body)) => body["fields"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|it| node(it).is_some_and(|(kind, _)| kind == "AStar")),
            _ => false,
        };
        if targets.iter().any(is_star) {
            return;
        }
        let computed = self.sent.integers.iter().filter(|column| {
            let value = targets.get(**column).and_then(|it| node(it));
            value.is_none_or(|(kind, _)| kind != "TypeCast")
        });
        for column in computed {
            let value = targets.get(*column).and_then(|it| node(it));
            let what = value.map_or("", |(kind, _)| kind);
            self.say("integer of less than eight bytes", format!("column {column}: {what}"));
        }
    }

    fn operator(&mut self, body: &Value) {
        self.index_of(body);
        let operator = strings(&body["name"]).last().copied().unwrap_or_default();
        let sides = [&body["lexpr"], &body["rexpr"]];
        let untyped = sides.iter().any(|it| self.is_untyped(it));
        let interval = sides.iter().any(|it| cast_to(it) == Some("interval"));
        // It becomes what stands beside it.
        if untyped && interval && matches!(operator, "*" | "/") {
            self.say("untyped placeholder", format!("{operator} interval"));
        }
        let calls: BTreeSet<_> = sides
            .iter()
            .filter_map(|it| node(it))
            .filter(|(kind, _)| *kind == "FuncCall")
            .filter_map(|(_, body)| strings(&body["funcname"]).last().copied())
            .collect();
        if operator == "=" && calls == BTreeSet::from(["now", "statement_timestamp"]) {
            self.say("two readings of the clock", "now() = statement_timestamp()");
        }
    }

    /// A look-up by an id that is an index's makes all of `pg_class` anew (issue 111047).
    fn index_of(&mut self, body: &Value) {
        let last = |side: &str| match node(&body[side]) {
            Some(("ColumnRef", column)) => strings(&column["fields"]).last().copied(),
            _ => None,
        };
        let pair = [last("lexpr"), last("rexpr")];
        if strings(&body["name"]) == ["="]
            && pair.contains(&Some("oid"))
            && pair.contains(&Some("indexrelid"))
        {
            self.say("look-up by the id of an index", "pg_class.oid = pg_index.indexrelid");
        }
    }

    fn setting(&mut self, name: &str) {
        let (name, settings) = (name.to_lowercase(), &self.facts.settings);
        // Anyone may make up a name with a dot; `transaction_isolation` is grammar.
        if name.is_empty() || name.contains('.') || name == "transaction" {
            return;
        }
        if settings.effective_since.get(&name).is_some_and(|since| *since > self.release) {
            self.say("setting without effect yet", name);
        } else if settings.absent.contains(&name) {
            self.say("no such setting", name);
        } else if !settings.known.contains(&name) {
            self.say("setting not known", name);
        }
    }

    /// Plain reads wait for uncommitted rows there, and it bounds that too.
    fn set(&mut self, body: &Value) {
        let name = text(body, "name");
        self.setting(name);
        let value = node(&body["args"][0]).filter(|_| name == "lock_timeout");
        let Some(("AConst", value)) = value else { return };
        let milliseconds = value["val"]["Ival"]["ival"].as_i64();
        let milliseconds = milliseconds.or_else(|| {
            let text = value["val"]["Sval"]["sval"].as_str()?;
            text.strip_suffix("ms").unwrap_or(text).trim().parse().ok()
        });
        if milliseconds.is_some_and(|it| (1..LOCK_TIMEOUT_MIN_MS).contains(&it)) {
            self.say("short lock_timeout", "bounds reads too");
        }
    }

    /// A list of a table's columns has those that nobody declared.
    fn hidden(&mut self, statement: &Value) {
        let (mut lists, mut looks) = (false, false);
        visit(statement, &mut |kind, body| match kind {
            "ColumnRef" => lists |= strings(&body["fields"]).last() == Some(&"attisdropped"),
            "AConst" => looks |= body["val"]["Sval"]["sval"] == "attishidden",
            _ => {}
        });
        if lists && !looks {
            self.say("hidden columns", "pg_attribute without attishidden");
        }
    }

    fn with_part(&mut self, body: &Value) {
        if let Some((kind @ ("InsertStmt" | "UpdateStmt" | "DeleteStmt"), query)) =
            node(&body["ctequery"])
            && query["returning_clause"].is_null()
            && query["returning_list"].as_array().is_none_or(Vec::is_empty)
        {
            let relation = &query["relation"];
            let verb = kind.trim_end_matches("Stmt").to_uppercase();
            self.say(
                "WITH part without a result",
                format!("{verb} {}.{}", text(relation, "schemaname"), text(relation, "relname")),
            );
        }
    }

    fn type_name(&mut self, body: &Value) {
        match strings(&body["names"]).as_slice() {
            ["pg_catalog", name] | [name] if !self.facts.types.contains(*name) => {
                // The application's own types have a schema here.
                self.say("type not known", *name);
            }
            _ => {}
        }
    }

    fn locking(&mut self, body: &Value) {
        // LCS_FORKEYSHARE and LCS_FORSHARE.
        if matches!(body["strength"].as_i64(), Some(2 | 3)) {
            self.say("shared lock", "FOR SHARE locks nothing under SERIALIZABLE");
        }
    }

    fn copy(&mut self, body: &Value) {
        if body["is_from"] == true {
            let how = if self.sent.extended { "extended" } else { "simple" };
            self.say("COPY FROM", format!("by the {how} protocol"));
        }
    }

    fn temporary(&mut self, relation: &Value) {
        if text(relation, "relpersistence") == "t" {
            self.say("temporary table", "CREATE TEMPORARY TABLE");
        }
    }

    fn trigger(&mut self, body: &Value) {
        let is = |field: &str| !body[field].as_array().is_none_or(Vec::is_empty);
        // TRIGGER_TYPE_TRUNCATE and TRIGGER_TYPE_INSTEAD.
        let (events, timing) = (body["events"].as_i64(), body["timing"].as_i64());
        for (refused, what) in [
            (body["row"] != true, "FOR EACH STATEMENT"),
            (events.is_some_and(|it| it & 32 != 0), "TRUNCATE"),
            (timing.is_some_and(|it| it & 64 != 0), "INSTEAD OF"),
            (is("columns"), "UPDATE OF"),
            (is("transition_rels"), "REFERENCING"),
            (body["isconstraint"] == true, "CONSTRAINT"),
            (
                body["replace"] == true && self.release < self.facts.triggers.or_replace_since,
                "OR REPLACE",
            ),
        ] {
            if refused {
                self.say("trigger", what);
            }
        }
    }

    fn alter(&mut self, body: &Value) {
        const TRIGGER_KINDS: std::ops::RangeInclusive<i64> = 41..=48;
        if body["subtype"].as_i64().is_some_and(|it| TRIGGER_KINDS.contains(&it))
            && self.release < self.facts.triggers.disable_since
        {
            self.say("trigger", "ENABLE and DISABLE");
        }
    }

    fn function(&mut self, body: &Value) {
        let option = |wanted: &str| {
            let options = body["options"].as_array().into_iter().flatten();
            let mut options = options.filter_map(|it| Some(node(it)?.1));
            options.find(|it| text(it, "defname") == wanted)
        };
        let returns = strings(&body["return_type"]["names"]);
        if returns.last() == Some(&"trigger") && option("security").is_some() {
            self.say("SECURITY DEFINER", "ignored for trigger functions");
        }
    }

    /// The bodies of functions, in CockroachDB's own reading.
    fn bodies(&mut self, parsed: &Parsed) {
        for kind in &parsed.kinds {
            if self.facts.plpgsql.absent_statements.contains(kind) {
                self.say("PL/pgSQL", kind);
            }
        }
        for part in &parsed.parts {
            // CockroachDB writes some of the standard's words as functions.
            let part = WRITTEN_OTHERWISE
                .iter()
                .fold(part.clone(), |part, (written, meant)| part.replace(written, meant));
            let Some(tree) = tree_of(&part) else {
                self.say("body not read", part);
                continue;
            };
            for statement in statements(&tree) {
                visit(statement, &mut |kind, body| {
                    let name = strings(&body["fields"]).join(".").to_lowercase();
                    if kind == "ColumnRef" && self.facts.plpgsql.absent_variables.contains(&name) {
                        self.say("PL/pgSQL", name);
                    }
                });
                self.statement(statement);
            }
        }
    }
}

/// Tables that a text names, by their aliases.
fn tables(statement: &Value) -> Vec<(String, (String, String))> {
    let mut found = BTreeMap::new();
    visit(statement, &mut |kind, body| {
        if kind == "RangeVar" {
            let (schema, name) = (text(body, "schemaname"), text(body, "relname"));
            let alias = text(&body["alias"], "aliasname");
            let alias = if alias.is_empty() { name } else { alias };
            let table = (schema.to_owned(), name.to_owned());
            found.insert((alias.to_owned(), table.clone()), table);
        }
    });
    found.into_iter().map(|((alias, _), table)| (alias, table)).collect()
}

/// The columns that stand right below a node, by their full names.
fn columns_directly_in(body: &Value, into: &mut BTreeSet<String>) {
    let below = body["args"].as_array().into_iter().flatten().chain([&body["arg"]]);
    for value in below {
        let value = match node(value) {
            Some(("TypeCast", cast)) => &cast["arg"],
            _ => value,
        };
        if let Some(("ColumnRef", column)) = node(value) {
            into.insert(strings(&column["fields"]).join("."));
        }
    }
}

/// What a statement does to the transaction: `begin`, `commit`, `rollback`, or nothing of these.
pub fn transaction_kind(body: &Value) -> &'static str {
    // TRANS_STMT_BEGIN and START, COMMIT, ROLLBACK.
    match body["kind"].as_i64() {
        Some(1 | 2) => "begin",
        Some(3) => "commit",
        Some(4) => "rollback",
        _ => "",
    }
}

/// What a value is cast to, in CockroachDB's words; none where that is an array.
fn cast_to(value: &Value) -> Option<&str> {
    let ("TypeCast", body) = node(value)? else { return None };
    if is_array(&body["type_name"]) {
        return None;
    }
    strings(&body["type_name"]["names"]).last().copied().map(family_of)
}

fn is_array(type_name: &Value) -> bool {
    type_name["array_bounds"].as_array().is_some_and(|it| !it.is_empty())
}

/// What types are equivalent to one another, in CockroachDB's words.
fn family_of(name: &str) -> &str {
    match name {
        "text" | "varchar" | "bpchar" => "string",
        "int2" | "int4" | "int8" => "int",
        "float4" | "float8" => "float",
        "numeric" => "decimal",
        "bytea" => "bytes",
        other => other,
    }
}

fn family(type_name: &Value) -> String {
    let names = strings(&type_name["names"]);
    let name = family_of(names.last().copied().unwrap_or_default());
    let array = if is_array(type_name) { "[]" } else { "" };
    format!("{name}{array}")
}

/// A text constant, cast or not.
fn constant(value: &Value) -> Option<&str> {
    match node(value)? {
        ("TypeCast", body) => constant(&body["arg"]),
        ("AConst", body) => body["val"]["Sval"]["sval"].as_str(),
        _ => None,
    }
}

/// A node's kind and its fields. Fields of a fixed type carry no kind in the tree.
pub fn node(value: &Value) -> Option<(&str, &Value)> {
    let fields = value.as_object()?;
    if let Some(inner) = fields.get("node") {
        return inner.as_object()?.iter().next().map(|(kind, body)| (kind.as_str(), body));
    }
    let has = |field| fields.contains_key(field);
    let kind = if has("relpersistence") && has("relname") {
        "RangeVar"
    } else if has("type_oid") && has("typmods") {
        "TypeName"
    } else if has("target_list") && has("limit_option") {
        "SelectStmt"
    } else {
        return None;
    };
    Some((kind, value))
}

/// Every node under a value, parents first.
pub fn visit<'a>(value: &'a Value, to: &mut impl FnMut(&'a str, &'a Value)) {
    let body = match node(value) {
        Some((kind, body)) => {
            to(kind, body);
            body
        }
        None => value,
    };
    match body {
        Value::Array(items) => items.iter().for_each(|it| visit(it, to)),
        Value::Object(fields) => fields.values().for_each(|it| visit(it, to)),
        _ => {}
    }
}

pub fn text<'a>(body: &'a Value, field: &str) -> &'a str {
    body[field].as_str().unwrap_or_default()
}

/// The texts of a list of names.
pub fn strings(list: &Value) -> Vec<&str> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|it| node(it)?.1["sval"].as_str()).collect()
}
