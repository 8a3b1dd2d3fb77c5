//! Statements and what is said of them.

use super::*;
use crate::domain::reason::Reason;

fn analysed(sql: &str) -> Analysis {
    analyse(sql).unwrap_or_else(|fault| panic!("{sql}: {fault}"))
}

fn check_refusal(sql: &str, reason: Reason) {
    let fault = match analyse(sql) {
        Ok(analysis) => analysis.refusal_outside_transaction(),
        Err(fault) => Some(fault),
    };
    let fault = fault.unwrap_or_else(|| panic!("{sql} was taken"));
    assert_eq!(fault.reason, reason, "{sql}");
    if fault.kind == FaultKind::Refused {
        assert!(!fault.hint.is_empty(), "{sql} has no way out");
    }
}

#[test]
fn refused_statements_say_why() {
    for (sql, reason) in [
        ("", Reason::RefusedEmpty),
        (" -- nothing\n", Reason::RefusedEmpty),
        (";", Reason::RefusedEmpty),
        ("SELECT 1; SELECT 2", Reason::RefusedMultiple),
        ("SELECT 'a\0b'", Reason::StatementNul),
        ("SELEC 1", Reason::StatementSyntax),
        ("CREATE TABLE t (id int)", Reason::RefusedDdl),
        ("CREATE TEMP TABLE t (id int)", Reason::RefusedDdl),
        ("CREATE TABLE t AS SELECT 1", Reason::RefusedDdl),
        ("SELECT 1 AS a INTO t", Reason::RefusedDdl),
        ("SELECT 1 INTO TEMP t", Reason::RefusedDdl),
        ("EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1", Reason::RefusedDdl),
        ("ALTER TABLE t ADD a int", Reason::RefusedDdl),
        ("DROP TABLE t", Reason::RefusedDdl),
        ("CREATE INDEX ON t (a)", Reason::RefusedDdl),
        ("GRANT SELECT ON t TO r", Reason::RefusedDdl),
        ("COMMENT ON TABLE t IS 'x'", Reason::RefusedDdl),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", Reason::RefusedDdl),
        ("PREPARE TRANSACTION 'x'", Reason::RefusedTwoPhase),
        ("COMMIT PREPARED 'x'", Reason::RefusedTwoPhase),
        ("ROLLBACK PREPARED 'x'", Reason::RefusedTwoPhase),
        ("BEGIN", Reason::RefusedTransactionControl),
        ("START TRANSACTION READ ONLY", Reason::RefusedTransactionControl),
        ("COMMIT AND CHAIN", Reason::RefusedTransactionControl),
        ("ROLLBACK", Reason::RefusedTransactionControl),
        ("DISCARD ALL", Reason::RefusedDiscard),
        ("LISTEN a", Reason::RefusedListen),
        ("UNLISTEN *", Reason::RefusedListen),
        ("NOTIFY a, 'x'", Reason::RefusedListen),
        ("SET work_mem = '1GB'", Reason::RefusedSet),
        ("SET SESSION work_mem = '1GB'", Reason::RefusedSet),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Reason::RefusedSet),
        ("SET SESSION AUTHORIZATION x", Reason::RefusedSet),
        ("SET ROLE x", Reason::RefusedSet),
        ("RESET ALL", Reason::RefusedSet),
        ("RESET work_mem", Reason::RefusedSet),
        ("SELECT set_config('work_mem', '1GB', false)", Reason::RefusedSet),
        ("SELECT pg_catalog.set_config('work_mem', '1GB', $1)", Reason::RefusedSet),
        ("SELECT set_config($1, '1GB', true)", Reason::RefusedSet),
        ("SET LOCAL session_replication_role = replica", Reason::RefusedCapture),
        ("SELECT set_config('segue.write_id', 'x', true)", Reason::RefusedCapture),
        ("SET LOCAL work_mem = '1GB'", Reason::RefusedOutsideTransaction),
        ("SET TRANSACTION READ ONLY", Reason::RefusedOutsideTransaction),
        ("SET CONSTRAINTS ALL DEFERRED", Reason::RefusedOutsideTransaction),
        ("SELECT lastval()", Reason::RefusedSequenceState),
        ("SELECT pg_catalog.currval('s')", Reason::RefusedSequenceState),
        ("INSERT INTO t VALUES (currval('s')) RETURNING lastval()", Reason::RefusedSequenceState),
        ("UPDATE t SET a = lastval()", Reason::RefusedSequenceState),
        ("SAVEPOINT a", Reason::RefusedOutsideTransaction),
        ("RELEASE a", Reason::RefusedOutsideTransaction),
        ("ROLLBACK TO a", Reason::RefusedOutsideTransaction),
        ("LOCK TABLE t", Reason::RefusedOutsideTransaction),
        ("DECLARE c CURSOR FOR SELECT 1", Reason::RefusedOutsideTransaction),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Reason::RefusedCursorHold),
        ("PREPARE a AS SELECT 1", Reason::RefusedPrepare),
        ("EXECUTE a", Reason::RefusedPrepare),
        ("DEALLOCATE ALL", Reason::RefusedPrepare),
        ("COPY t TO STDOUT", Reason::RefusedCopy),
        ("LOAD 'x'", Reason::RefusedLoad),
        ("VACUUM t", Reason::RefusedMaintenance),
        ("ANALYZE t", Reason::RefusedMaintenance),
        ("CLUSTER t", Reason::RefusedMaintenance),
        ("REINDEX TABLE t", Reason::RefusedMaintenance),
        ("CHECKPOINT", Reason::RefusedMaintenance),
        ("REFRESH MATERIALIZED VIEW v", Reason::RefusedMaintenance),
        ("SELECT pg_advisory_unlock_all()", Reason::RefusedAdvisoryLock),
        ("SELECT 1 WHERE pg_try_advisory_lock(1)", Reason::RefusedAdvisoryLock),
        ("SELECT lo_create(0)", Reason::RefusedLargeObject),
        ("DO $$ BEGIN CREATE TABLE t (id int); END $$", Reason::RefusedDo),
    ] {
        check_refusal(sql, reason);
    }
}

#[test]
fn a_sequence_is_asked_for_what_the_statement_itself_took() {
    for sql in [
        "INSERT INTO t DEFAULT VALUES RETURNING lastval()",
        "INSERT INTO t (a) VALUES (1) RETURNING currval('t_id_seq')",
        "SELECT nextval('s'), currval('s')",
        "SELECT app.lastval()",
    ] {
        assert_eq!(analysed(sql).refusal_outside_transaction(), None, "{sql}");
    }
    // A batch and a transaction keep their session.
    assert_eq!(analysed("SELECT lastval()").refusal, None);
}

#[test]
fn positions_are_named() {
    let position = |sql| match analyse(sql) {
        Ok(analysis) => analysis.refusal.map_or(0, |fault| fault.position),
        Err(fault) => fault.position,
    };
    assert_eq!(position("SELECT 1;  SELECT 2"), 12);
    assert_eq!(position("SELECT 'ä', pg_advisory_lock(1)"), 13);
    assert_eq!(position("SELECT 1 FROM WHERE"), 15);
}

#[test]
fn writes_are_told_from_reads() {
    for (sql, writes) in [
        ("SELECT * FROM t", false),
        ("VALUES (1)", false),
        ("TABLE t", false),
        ("SHOW work_mem", false),
        ("EXPLAIN DELETE FROM t", false),
        ("EXPLAIN (ANALYZE off) DELETE FROM t", false),
        ("EXPLAIN (ANALYZE) SELECT 1", false),
        ("EXPLAIN ANALYZE DELETE FROM t", true),
        ("EXPLAIN (COSTS off, ANALYZE 1) DELETE FROM t", true),
        ("SELECT * FROM t FOR UPDATE", true),
        ("SELECT * FROM (SELECT * FROM t FOR KEY SHARE) x", true),
        ("SELECT nextval('s')", true),
        ("SELECT 1 FROM t WHERE setval('s', 1) > 0", true),
        ("SELECT pg_notify('a', 'b')", true),
        ("SELECT pg_advisory_xact_lock(1)", true),
        ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", true),
        ("SELECT 1 WHERE EXISTS (SELECT 1 UNION SELECT nextval('s'))", true),
        ("INSERT INTO t VALUES (1)", true),
        ("UPDATE t SET a = 1", true),
        ("DELETE FROM t", true),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", true),
        ("TRUNCATE t", true),
        ("CALL p()", true),
        ("DO $$ BEGIN PERFORM 1; END $$", true),
        ("LOCK TABLE t", true),
        ("DECLARE c CURSOR FOR SELECT * FROM t", false),
        ("DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE", true),
    ] {
        let analysis = analysed(sql);
        assert_eq!(analysis.writes, writes, "{sql}");
        assert_eq!(analysis.refusal, None, "{sql}");
    }
}

#[test]
fn tables_and_summaries() {
    for (sql, tables, summary) in [
        ("SELECT * FROM a.orders o JOIN customers c USING (id)", "customers a.orders", ""),
        ("WITH f AS (SELECT * FROM f) SELECT * FROM f", "f", "SELECT f"),
        ("WITH RECURSIVE f AS (SELECT 1 UNION SELECT * FROM f) SELECT * FROM f", "", "SELECT"),
        ("WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM a, b", "", "SELECT"),
        ("INSERT INTO t SELECT * FROM a", "a t", "INSERT t a"),
        ("DELETE FROM \"Odd name\" USING u", "Odd name u", "DELETE Odd name u"),
        ("TRUNCATE a, b", "a b", "TRUNCATE a b"),
        ("CALL s.p(1)", "", "CALL p"),
        ("ALTER TABLE t ADD a int", "t", "ALTER TABLE"),
    ] {
        let analysis = analysed(sql);
        let named: Vec<String> = analysis
            .tables
            .iter()
            .map(|t| t.schema.iter().map(|s| format!("{s}.")).collect::<String>() + &t.name)
            .collect();
        assert_eq!(named.join(" "), tables, "{sql}");
        if !summary.is_empty() {
            assert_eq!(analysis.summary, summary, "{sql}");
        }
    }
}

#[test]
fn fingerprints_forget_constants_only() {
    let print = |sql| analysed(sql).fingerprint;
    assert_eq!(print("SELECT a FROM t WHERE b = 1"), print("select a from t where b = 222"));
    assert_ne!(print("SELECT a FROM t_2024"), print("SELECT a FROM t_2025"));
    assert_ne!(print("SELECT a FROM t WHERE b = 1"), print("SELECT a FROM t WHERE c = 1"));
    assert_eq!(analysed("SELECT 'x' FROM t LIMIT 5").normalized, "SELECT $1 FROM t LIMIT $2");
}

#[test]
fn shapes() {
    let shape = |sql| analysed(sql).shape;
    let keys =
        |sql| -> Vec<Output> { shape(sql).order_by.into_iter().map(|key| key.output).collect() };
    assert_eq!(
        keys("SELECT a, b + 1, c AS x FROM t ORDER BY 2, t.c, b + 1, x, d"),
        [Position(1), Position(2), Position(1), Position(2), Unseen]
    );
    assert_eq!(
        keys("SELECT a.id, b.id AS x FROM a, b ORDER BY b.id, a.id"),
        [Position(1), Position(0)]
    );
    assert_eq!(keys("SELECT * FROM t ORDER BY a, 2"), [Name("a".into()), Position(1)]);
    assert_eq!(keys("SELECT a FROM t UNION SELECT b FROM u ORDER BY a"), [Position(0)]);
    assert_eq!(shape("SELECT 1 LIMIT ALL").limit, None);
    let limit = shape("SELECT 1 ORDER BY 1 FETCH FIRST 3 ROWS WITH TIES").limit.unwrap();
    assert_eq!((limit.count, limit.offset, limit.with_ties), (Some(3), false, true));
    assert!(shape("SELECT version()").environment);
    assert!(shape("SELECT relname FROM pg_class").system_catalog);
    assert!(shape("SELECT * FROM t TABLESAMPLE system (1)").volatile);
    assert!(shape("SELECT now()").volatile);
    assert!(!shape("SELECT a FROM t WHERE at > now()").volatile);
    use Output::{Name, Position, Unseen};
}

#[test]
fn deep_statements_do_not_end_the_process() {
    let deep = format!("SELECT 1{}", "+1".repeat(3000));
    assert_eq!(analysed(&deep).kind, StatementKind::Select);
    let union = vec!["SELECT a, b FROM t"; 1000].join(" UNION ALL ");
    assert_eq!(analysed(&union).tables.len(), 1);
    for sql in [
        format!("SELECT 1{}", "+1".repeat(200_000)),
        format!("SELECT {}1{}", "(".repeat(200_000), ")".repeat(200_000)),
        format!("SELECT {}1", "-".repeat(2).as_str().replace("--", "- ").repeat(100_000)),
    ] {
        check_refusal(&sql, Reason::RefusedTooDeep);
    }
}
