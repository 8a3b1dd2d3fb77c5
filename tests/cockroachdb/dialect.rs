//! The parser and the facts on statements whose answer is known from CockroachDB's public texts.

use crate::known;
use crate::support::cockroach::facts::{Facts, Release};
use crate::support::cockroach::{Sent, parser, walk};

fn sent(sql: &str) -> Sent {
    Sent {
        application: "segue".to_owned(),
        own: true,
        extended: true,
        in_transaction: false,
        types: Vec::new(),
        sql: sql.to_owned(),
        integers: Vec::new(),
    }
}

/// The rules that a statement breaks in a release.
fn broken(sent: &Sent, release: Release) -> Vec<String> {
    let parsed = parser::parse(std::iter::once(&*sent.sql)).remove(0);
    let syntax = parsed.refusals.iter().map(|it| known::syntax(it).rule.to_owned());
    let found = walk::violations(Facts::known(), release, sent, &parsed);
    syntax.chain(found.into_iter().flatten().map(|it| it.rule.to_owned())).collect()
}

/// What CockroachDB does not take or answers otherwise, the rule that says so, and what it takes.
const VECTORS: [(&str, &str, &str); 37] = [
    (
        "SELECT c.relname FROM pg_catalog.pg_index AS i \
            JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid",
        "look-up by the id of an index",
        "SELECT c.relname FROM pg_catalog.pg_index AS i \
            JOIN pg_catalog.pg_class AS c ON c.oid::int8 = i.indexrelid::int8",
    ),
    (
        "WITH a AS (INSERT INTO t VALUES (1)) SELECT 1",
        "WITH part without a result",
        "WITH a AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT 1",
    ),
    (
        "SELECT crdb_internal.force_error('25006', 'x')",
        "gated schema",
        "SELECT segue.force_error()",
    ),
    ("SELECT * FROM system.users", "gated schema", "SELECT rolname FROM pg_catalog.pg_roles"),
    ("COPY t FROM STDIN", "COPY FROM", "INSERT INTO t SELECT unnest($1::int8[])"),
    ("INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (1)", "syntax", "INSERT INTO t VALUES (1)"),
    (
        "SELECT c.relispartition FROM pg_catalog.pg_class AS c",
        "column always NULL",
        "SELECT coalesce(c.relispartition, false) FROM pg_catalog.pg_class AS c",
    ),
    (
        "SELECT r.rngmultitypid FROM pg_catalog.pg_range AS r",
        "no such column",
        "SELECT r.rngsubtype FROM pg_catalog.pg_range AS r",
    ),
    ("SELECT a COLLATE pg_catalog.\"C\" FROM t", "syntax", "SELECT a FROM t"),
    (
        "CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
      $$ BEGIN RETURN NULL; END $$",
        "SECURITY DEFINER",
        "CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
    ),
    ("SELECT a::pg_catalog.timestamptz(3) FROM t", "syntax", "SELECT a::timestamptz(3) FROM t"),
    (
        "SELECT pg_catalog.row_security_active('t')",
        "no such function",
        "SELECT c.relrowsecurity FROM pg_catalog.pg_class AS c",
    ),
    ("BEGIN; TRUNCATE t; COMMIT", "DDL in a transaction", "TRUNCATE t"),
    ("SELECT pg_catalog.setval('s', 1)", "sequence set past caches", "SELECT nextval('s')"),
    ("SELECT 1 FROM t FOR SHARE", "shared lock", "SELECT 1 FROM t FOR UPDATE"),
    (
        "SELECT pg_catalog.now() = pg_catalog.statement_timestamp()",
        "two readings of the clock",
        "SELECT pg_catalog.now()",
    ),
    ("SET LOCAL lock_timeout = '200ms'", "short lock_timeout", "SET LOCAL lock_timeout = 5000"),
    (
        "SELECT a.attname FROM pg_catalog.pg_attribute AS a WHERE NOT a.attisdropped",
        "hidden columns",
        "SELECT a.attname FROM pg_catalog.pg_attribute AS a WHERE NOT a.attisdropped \
            AND (pg_catalog.to_jsonb(a) ->> 'attishidden') IS DISTINCT FROM 'true'",
    ),
    ("CREATE TEMP TABLE t (a int)", "temporary table", "CREATE TABLE t (a int)"),
    ("SELECT t.ctid FROM t", "system column", "SELECT t.a FROM t"),
    ("SELECT pg_catalog.length($1)", "untyped placeholder", "SELECT pg_catalog.length($1::text)"),
    (
        "SELECT a FROM t WHERE $1::int8 IS NULL OR a = $1",
        "placeholder of several types",
        "SELECT a FROM t WHERE $1::int8 IS NULL OR a = $1::int4",
    ),
    (
        "SELECT a FROM t WHERE a = ANY ($1) AND $1::int8[] IS NOT NULL",
        "placeholder of several types",
        "SELECT a FROM t WHERE a = ANY ($1::int8[]) AND $1::int8[] IS NOT NULL",
    ),
    (
        "SELECT pg_catalog.has_table_privilege($1, 'segue.control', 'SELECT')",
        "untyped placeholder",
        "SELECT pg_catalog.has_table_privilege($1::text, 'segue.control', 'SELECT')",
    ),
    (
        "SELECT $1 * '1 second'::interval",
        "untyped placeholder",
        "SELECT $1::float8 * '1 second'::interval",
    ),
    (
        "SELECT t.tgenabled FROM pg_catalog.pg_trigger AS t",
        "column of one value",
        "SELECT t.tgname FROM pg_catalog.pg_trigger AS t",
    ),
    (
        "SELECT 1 FROM pg_catalog.pg_no_such_table",
        "no such table",
        "SELECT 1 FROM pg_catalog.pg_class",
    ),
    (
        "SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i",
        "table always empty",
        "SELECT c.oid FROM pg_catalog.pg_class AS c",
    ),
    (
        "SET LOCAL session_replication_role = replica",
        "no such setting",
        "SET LOCAL lock_timeout = '1s'",
    ),
    (
        "SELECT pg_catalog.set_config('made_up', 'x', true)",
        "setting not known",
        "SELECT pg_catalog.set_config('segue.made_up', 'x', true)",
    ),
    ("SELECT pg_catalog.made_up(1)", "function not known", "SELECT pg_catalog.lower('A')"),
    ("SELECT pg_catalog.lower()", "no such arguments", "SELECT pg_catalog.lower('A')"),
    ("SELECT a::xid8 FROM t", "type not known", "SELECT a::numeric FROM t"),
    (
        "CREATE TRIGGER a AFTER UPDATE OF b ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "trigger",
        "CREATE TRIGGER a AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
    ),
    (
        "CREATE TRIGGER a AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION f()",
        "trigger",
        "CREATE TRIGGER a AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()",
    ),
    (
        "CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN PERFORM 1; RETURN NULL; END $$",
        "syntax",
        "CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS \
      $$ DECLARE a int; BEGIN SELECT 1 INTO a; RETURN NULL; END $$",
    ),
    (
        "CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN IF pg_catalog.row_security_active('t') THEN RETURN NULL; END IF; RETURN NULL; END $$",
        "no such function",
        "CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NULL; END $$",
    ),
];

#[test]
fn each_rule_finds_what_it_is_for_and_nothing_in_what_cockroachdb_takes() {
    for (wrong, rule, right) in VECTORS {
        assert_eq!(broken(&sent(wrong), Release::LATEST), [rule], "{wrong}");
        assert_eq!(broken(&sent(right), Release::LATEST), [""; 0], "{right}");
    }
}

#[test]
fn what_a_later_release_has_is_missing_in_an_older_one() {
    let facts = [
        ("SELECT pg_catalog.trim_scale(1.10)", "no such function yet"),
        ("SELECT pg_catalog.pg_total_relation_size(1)", "no such function yet"),
        ("SET LOCAL row_security = off", "setting without effect yet"),
        ("ALTER TABLE t DISABLE TRIGGER a", "trigger"),
    ];
    for (sql, rule) in facts {
        let sent = sent(sql);
        let refused = broken(&sent, Release::OLDEST);
        assert!(refused.iter().any(|it| it == rule), "{sql}: {refused:?}");
        // What the parser of 25.2 does not know it refuses in any release.
        let later = broken(&sent, Release::LATEST);
        assert!(!later.iter().any(|it| it == rule), "{sql}: {later:?}");
    }
    // And the other way round.
    let gated = sent("SELECT crdb_internal.force_error('25006', 'x')");
    assert_eq!(broken(&gated, Release::OLDEST), [""; 0]);
}

/// What `Parse` says of a placeholder's type, and what the session had said of its transaction.
#[test]
fn what_is_said_beside_the_text_counts() {
    let text_oid = 25;
    let typed = Sent { types: vec![text_oid], ..sent("SELECT pg_catalog.length($1)") };
    assert_eq!(broken(&typed, Release::LATEST), [""; 0]);
    let result = |sql: &str| Sent { integers: vec![1], ..sent(sql) };
    let sums = result("SELECT a, a + b FROM t UNION SELECT 1, 2");
    assert_eq!(broken(&sums, Release::LATEST), ["integer of less than eight bytes"]);
    assert_eq!(broken(&result("SELECT t.*, a + b FROM t"), Release::LATEST), [""; 0]);
    assert_eq!(broken(&result("SELECT a, (a + b)::int4 FROM t"), Release::LATEST), [""; 0]);
    let within = Sent { in_transaction: true, ..sent("TRUNCATE t") };
    assert_eq!(broken(&within, Release::LATEST), ["DDL in a transaction"]);
}
