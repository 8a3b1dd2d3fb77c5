//! What the stand-in for CockroachDB refuses and does otherwise than the PostgreSQL behind it, kind
//! by kind, by CockroachDB's public texts. `FINDINGS.md` says which finding each kind shows.

use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error};

use crate::support::cockroach::facts::{Facts, Release};
use crate::support::cockroach::{Dialect, Rules, instead};
use crate::support::stand_in::Cockroach;
use crate::support::{Major, connect, shared};

const TABLES: &str = "
CREATE TABLE t (a int PRIMARY KEY, b text);
CREATE INDEX by_b ON t (b);
INSERT INTO t VALUES (1, 'one');
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER plain AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing();";
/// A session that sends it is one of segue's own.
const OWN: &str = "SELECT pg_catalog.set_config('row_security', 'off', false)";
const CONFLICT: &str = "40001";

async fn stand_in(judge: Dialect) -> Cockroach {
    let rules = Rules { judge: Some(Box::new(judge)), ..Rules::default() };
    Cockroach::stand_in(shared(Major::V18), TABLES, rules).await
}

async fn latest() -> Cockroach {
    stand_in(Dialect::of(Release::LATEST)).await
}

fn code(error: &Error) -> String {
    error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned()
}

async fn refused(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.err();
    code(&error.unwrap_or_else(|| panic!("{sql} is not refused")))
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// Of segue's own sessions and of the application's.
const REFUSED: [(&str, &str); 16] = [
    ("SELECT a COLLATE pg_catalog.\"C\" FROM t", "42601"),
    ("SELECT a::pg_catalog.timestamptz(3) FROM t", "42601"),
    ("INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (2)", "42601"),
    ("WITH w AS (INSERT INTO t VALUES (2)) SELECT 1", "0A000"),
    ("CREATE TEMPORARY TABLE x (a int)", "XCEXF"),
    ("SELECT t.ctid FROM t", "42703"),
    ("SELECT xmin FROM t", "42703"),
    ("SELECT r.rngmultitypid FROM pg_catalog.pg_range AS r", "42703"),
    ("SELECT * FROM pg_catalog.pg_stat_wal_receiver_of_nobody", "42P01"),
    ("SELECT crdb_internal.force_error('25006', 'x')", "42501"),
    ("SELECT * FROM system.users", "42501"),
    ("SELECT pg_catalog.row_security_active('t')", "42883"),
    ("SET session_replication_role = replica", "42704"),
    ("CREATE TRIGGER x AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION nothing()", "0A000"),
    ("CREATE TRIGGER x AFTER UPDATE OF b ON t FOR EACH ROW EXECUTE FUNCTION nothing()", "0A000"),
    ("CREATE TRIGGER x AFTER TRUNCATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()", "0A000"),
];
/// Of segue's own alone: an application may have made what these name.
const OF_SEGUE_ALONE: [(&str, &str); 4] = [
    ("SELECT made_up(1)", "42883"),
    ("SELECT pg_catalog.lower()", "42883"),
    ("SELECT NULL::xid8", "42704"),
    ("SELECT pg_catalog.set_config('made_up', 'x', true)", "42704"),
];

#[tokio::test]
async fn what_the_parser_and_the_facts_refuse_has_its_code_by_either_protocol() {
    let there = latest().await;
    let (own, callers) = (connect(&there.dsn).await, connect(&there.dsn).await);
    own.batch_execute(OWN).await.unwrap();
    for (sql, expected) in REFUSED {
        for client in [&own, &callers] {
            assert_eq!(refused(client, sql).await, expected, "{sql}");
            assert_eq!(code(&client.prepare(sql).await.unwrap_err()), expected, "{sql}");
        }
    }
    for (sql, expected) in OF_SEGUE_ALONE {
        assert_eq!(refused(&own, sql).await, expected, "{sql}");
    }
    callers.batch_execute("SELECT NULL::xid8").await.unwrap();
    // What stands before it in the text has run, in the same implicit transaction.
    let both = "INSERT INTO t VALUES (3); SELECT t.ctid FROM t";
    assert_eq!(refused(&callers, both).await, "42703");
    assert_eq!(number(&callers, "SELECT count(*) FROM t").await, 1);
    // A text that does not parse is refused before anything of it runs.
    let both = "BEGIN; INSERT INTO t VALUES (3); COMMIT; SELECT a COLLATE pg_catalog.\"C\" FROM t";
    assert_eq!(refused(&callers, both).await, "42601");
    assert_eq!(number(&callers, "SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn what_a_release_lacks_is_refused_in_that_release() {
    let there = stand_in(Dialect::of(Release::OLDEST)).await;
    let client = connect(&there.dsn).await;
    let sql = "SELECT pg_catalog.trim_scale(1.10)";
    assert_eq!(refused(&client, sql).await, "42883");
    let replace = "CREATE OR REPLACE TRIGGER plain AFTER INSERT ON t FOR EACH ROW \
        EXECUTE FUNCTION nothing()";
    assert_eq!(refused(&client, replace).await, "0A000");
    let there = latest().await;
    let client = connect(&there.dsn).await;
    client.batch_execute(sql).await.unwrap();
    client.batch_execute(replace).await.unwrap();
}

/// The extended protocol knows no COPY there; by the simple one bytea and jsonb arrive changed, which
/// is not played, and so it is refused as well.
#[tokio::test]
async fn copy_is_refused_by_either_protocol() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    let sql = "COPY t FROM STDIN";
    let error = client.copy_in::<_, bytes::Bytes>(sql).await.err().unwrap();
    assert_eq!(code(&error), "XXUUU");
    assert_eq!(refused(&client, sql).await, "0A000");
}

/// `autocommit_before_ddl`.
#[tokio::test]
async fn a_change_of_the_schema_commits_the_transaction_that_is_open() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    let rows = "SELECT count(*) FROM t";
    // By the simple protocol, with TRUNCATE as with the others.
    client.batch_execute("BEGIN; INSERT INTO t VALUES (10)").await.unwrap();
    client.batch_execute("CREATE TABLE one (a int)").await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(number(&client, rows).await, 2);
    // By the extended one.
    client.batch_execute("BEGIN; INSERT INTO t VALUES (11)").await.unwrap();
    client.execute("CREATE TABLE two (a int)", &[]).await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(number(&client, rows).await, 3);
    // The same without a name for the statement.
    client.batch_execute("BEGIN; INSERT INTO t VALUES (12)").await.unwrap();
    client.query_typed("COMMENT ON TABLE two IS 'two'", &[]).await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(number(&client, rows).await, 4);
    // Prepared at one time and run in a transaction.
    let grant = client.prepare("GRANT SELECT ON t TO public").await.unwrap();
    for key in [13, 14] {
        client.batch_execute(&format!("BEGIN; INSERT INTO t VALUES ({key})")).await.unwrap();
        client.execute(&grant, &[]).await.unwrap();
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    assert_eq!(number(&client, rows).await, 6);
    // In one text.
    let text = "BEGIN; INSERT INTO t VALUES (15); DROP TABLE two; ROLLBACK";
    client.batch_execute(text).await.unwrap();
    assert_eq!(number(&client, rows).await, 7);
    let text = "BEGIN; DELETE FROM t; TRUNCATE one; ROLLBACK";
    client.batch_execute(text).await.unwrap();
    assert_eq!(number(&client, rows).await, 0);
    // Another statement commits nothing.
    client.batch_execute("BEGIN; INSERT INTO t VALUES (16); ROLLBACK").await.unwrap();
    assert_eq!(number(&client, rows).await, 0);
}

#[tokio::test]
async fn advisory_locks_exclude_nobody() {
    let there = latest().await;
    let (one, other) = (connect(&there.dsn).await, connect(&there.dsn).await);
    let sql = "SELECT pg_catalog.pg_try_advisory_xact_lock(4711)";
    for client in [&one, &other] {
        client.batch_execute("BEGIN").await.unwrap();
        assert!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
    }
    // Those of sessions are not in its list of functions.
    let of_session = "SELECT pg_catalog.pg_advisory_lock(4711)";
    assert_eq!(refused(&one, of_session).await, "42883");
}

#[tokio::test]
async fn a_shared_lock_locks_nothing_and_another_one_does() {
    let there = latest().await;
    let (one, other) = (connect(&there.dsn).await, connect(&there.dsn).await);
    other.batch_execute("SET lock_timeout = 1000").await.unwrap();
    let change = "UPDATE t SET b = b || 'x' WHERE a = 1";
    for lock in ["FOR SHARE", "for key share of t nowait"] {
        one.batch_execute(&format!("BEGIN; SELECT a FROM t {lock}")).await.unwrap();
        other.batch_execute(change).await.unwrap();
        one.batch_execute("ROLLBACK").await.unwrap();
    }
    one.batch_execute("BEGIN; SELECT a FROM t FOR UPDATE").await.unwrap();
    assert_eq!(refused(&other, change).await, "55P03");
}

#[tokio::test]
async fn the_catalogue_has_the_values_that_it_has_there() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    for schema in ["pg_catalog.", ""] {
        let is = async |what: &str, from: &str| {
            let sql = format!("SELECT {what} FROM {schema}{from}");
            let row = client.query_one(&sql, &[]).await;
            let row = row.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            assert!(row.get::<_, bool>(0), "{sql}");
        };
        let of_t = "pg_class AS c WHERE c.relname = 't'";
        is("c.relispartition IS NULL AND c.reltuples IS NULL", of_t).await;
        is("tgenabled = 'A' AND tgattr::text = ''", "pg_trigger WHERE tgname = 'plain'").await;
        is("count(*) = 0", "pg_opclass").await;
        is("bool_and(collprovider IS NULL)", "pg_collation").await;
        let zeros = "bool_and(indclass::text ~ '^[0 ]+$')";
        is(zeros, "pg_index WHERE indrelid = 't'::regclass").await;
    }
    // As a role of the application reads it too.
    client
        .batch_execute("SELECT 'pg_catalog.pg_class'::regclass, 'pg_class FOR SHARE'")
        .await
        .unwrap();
}

/// Its issue 172407.
#[tokio::test]
async fn a_function_of_a_trigger_runs_as_whoever_fires_it() {
    let there = latest().await;
    let name = there.database.name().to_owned();
    let (owner, role) = (connect(&there.dsn).await, format!("app_{name}"));
    let made = format!(
        "CREATE TABLE noted (who text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
            $$ BEGIN INSERT INTO noted VALUES (current_user); RETURN NULL; END $$;
         CREATE TRIGGER notes AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
         CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT ON t TO {role}"
    );
    owner.batch_execute(&made).await.unwrap();
    let insert = "INSERT INTO t VALUES (20)";
    let as_role = connect(&there.dsn.replace("postgres@", &format!("{role}@"))).await;
    assert_eq!(refused(&as_role, insert).await, "42501");
    owner.batch_execute(&format!("GRANT INSERT ON noted TO {role}")).await.unwrap();
    as_role.batch_execute(insert).await.unwrap();
    let who = owner.query_one("SELECT who FROM noted", &[]).await.unwrap();
    assert_eq!(who.get::<_, &str>(0), role);
    owner.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

/// What it does not take for granted: `length` of text, of bytes or of bits.
#[tokio::test]
async fn a_placeholder_without_a_type_is_refused_where_several_fit() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    client.batch_execute(OWN).await.unwrap();
    let length = "SELECT pg_catalog.length($1)";
    assert_eq!(code(&client.prepare(length).await.unwrap_err()), "42P18");
    client.prepare_typed(length, &[Type::TEXT]).await.unwrap();
    client.prepare("SELECT pg_catalog.length($1::text)").await.unwrap();
    // One that is cast in one place only is text.
    for several in ["SELECT $1::int8, $1::date", "SELECT a FROM t WHERE a = $1 OR $1::int8 = 2"] {
        assert_eq!(code(&client.prepare(several).await.unwrap_err()), "42804");
    }
    client.prepare("SELECT $1::int8, $1::int4").await.unwrap();
    let privilege = "SELECT pg_catalog.has_table_privilege($1::text, 't', 'SELECT')";
    let has: bool = client.query_one(privilege, &[&"postgres"]).await.unwrap().get(0);
    assert!(has);
    let times = "SELECT $1 * '1 second'::interval";
    assert_eq!(code(&client.prepare(times).await.unwrap_err()), "22023");
}

/// `INT` is `INT8`, and so is a number that is written out.
#[tokio::test]
async fn integers_have_eight_bytes() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    let row = client.query_one("SELECT 1, length('abc'), 2::int4", &[]).await.unwrap();
    let types: Vec<_> = row.columns().iter().map(|it| it.type_().clone()).collect();
    assert_eq!(types, [Type::INT8, Type::INT8, Type::INT4]);
}

#[tokio::test]
async fn a_transaction_now_and_then_meets_another_one() {
    let there = stand_in(Dialect::of(Release::LATEST).with_conflicts(3)).await;
    let client = connect(&there.dsn).await;
    let mut written = Vec::new();
    for key in 100..112 {
        let insert = format!("INSERT INTO t VALUES ({key})");
        let is_committed = match key % 3 {
            0 => {
                client.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
                client.batch_execute("COMMIT").await
            }
            1 => client.batch_execute(&format!("BEGIN; {insert}; COMMIT")).await,
            _ => {
                client.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
                client.execute("COMMIT", &[]).await.map(drop)
            }
        };
        match is_committed {
            Ok(()) => written.push(key),
            Err(error) => assert_eq!(code(&error), CONFLICT),
        }
        // It is over either way.
        client.batch_execute("SELECT 1").await.unwrap();
    }
    assert_eq!(written.len(), 8);
    let sql = "SELECT a::int8 FROM t WHERE a >= 100 ORDER BY a";
    let rows = client.query(sql, &[]).await.unwrap();
    let there: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(there, written);

    // In its midst: the transaction has failed, and is to be given up.
    client.batch_execute("BEGIN").await.unwrap();
    let mut asked = 0;
    let error = loop {
        asked += 1;
        assert!(asked < 1000, "no statement meets another transaction");
        if let Err(error) = client.batch_execute("SELECT 1").await {
            break error;
        }
    };
    assert_eq!(code(&error), CONFLICT);
    assert_eq!(refused(&client, "SELECT 1").await, "25P02");
    client.batch_execute("ROLLBACK").await.unwrap();
}

/// Its issue 155110: an error from 26.1 on.
#[tokio::test]
async fn row_security_that_is_off_hides_rows_before_it_is_an_error() {
    for (release, hides) in [(Release::OLDEST, true), (Release::LATEST, false)] {
        let there = stand_in(Dialect::of(release)).await;
        let role = format!("app_{}", there.database.name());
        let owner = connect(&there.dsn).await;
        let made = format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT ON t TO {role};
             ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY nobody ON t USING (false)"
        );
        owner.batch_execute(&made).await.unwrap();
        let as_role = connect(&there.dsn.replace("postgres@", &format!("{role}@"))).await;
        let rows = "SELECT count(*) FROM t";
        for off in [OWN, "BEGIN; SET LOCAL row_security = off", "SET row_security TO 'off'"] {
            as_role.batch_execute(off).await.unwrap();
            match hides {
                true => assert_eq!(number(&as_role, rows).await, 0, "{off}"),
                false => assert_eq!(refused(&as_role, rows).await, "42501", "{off}"),
            }
            as_role.batch_execute("ROLLBACK; SET row_security = on").await.unwrap();
        }
        owner.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    }
}

/// Columns of its row and tables, in the body of its function.
#[tokio::test]
async fn a_trigger_goes_along_with_what_its_function_names_or_keeps_it() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    let made = "CREATE SCHEMA other; CREATE TABLE other.noted (b text PRIMARY KEY);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO other.noted VALUES ((NEW).b); RETURN NULL; END $$";
    client.batch_execute(made).await.unwrap();
    for change in [
        "ALTER TABLE t DROP COLUMN b",
        "ALTER TABLE t RENAME COLUMN b TO c",
        "ALTER TABLE t RENAME b TO c",
        "ALTER TABLE t ALTER COLUMN b TYPE varchar(9)",
        "DROP TABLE other.noted",
    ] {
        let trigger = "CREATE TRIGGER notes AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()";
        client.batch_execute(trigger).await.unwrap();
        assert_eq!(refused(&client, change).await, "2BP01", "{change}");
        client.batch_execute("DROP TRIGGER notes ON t").await.unwrap();
    }
    let standing = "SELECT count(*) FROM pg_catalog.pg_trigger AS t WHERE t.tgname = 'notes'";
    for (change, is_taken) in [
        ("ALTER TABLE t ADD COLUMN d text", 1),
        ("ALTER TABLE t DROP COLUMN d CASCADE", 1),
        ("DROP TABLE other.noted CASCADE", 0),
        ("ALTER TABLE t DROP COLUMN b CASCADE", 0),
    ] {
        let trigger = "CREATE OR REPLACE TRIGGER notes AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()";
        client.batch_execute(trigger).await.unwrap();
        client.batch_execute(change).await.unwrap();
        assert_eq!(number(&client, standing).await, is_taken, "{change}");
    }
}

#[tokio::test]
async fn the_clock_is_read_once_more_for_the_statement() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    let sql = "SELECT now() = statement_timestamp(), now() < statement_timestamp()";
    for sql in [sql, "SELECT pg_catalog.now() = pg_catalog.statement_timestamp(), true"] {
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get::<_, bool>(0), row.get::<_, bool>(1)), (false, true), "{sql}");
    }
}

#[tokio::test]
async fn the_name_of_an_enumeration_stands_without_its_schema() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    let made = "CREATE SCHEMA other; CREATE TYPE other.mood AS ENUM ('low'); \
        CREATE TABLE m (a other.mood PRIMARY KEY, b other.mood[], c varchar(10), d int8[])";
    client.batch_execute(made).await.unwrap();
    let sql = "SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute AS a \
        WHERE a.attrelid = 'm'::regclass AND a.attnum > 0 ORDER BY a.attnum";
    let rows = client.query(sql, &[]).await.unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["mood", "mood[]", "character varying(10)", "bigint[]"]);
}

#[tokio::test]
async fn a_table_without_a_key_has_a_hidden_column_for_one() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    client
        .batch_execute("CREATE TABLE bare (a int); INSERT INTO bare VALUES (1), (1)")
        .await
        .unwrap();
    let hidden = "SELECT string_agg(a.attname::text, ',') FROM pg_catalog.pg_attribute AS a \
        WHERE a.attrelid = $1::text::regclass AND a.attishidden \
            AND (pg_catalog.to_jsonb(a) ->> 'attishidden') = 'true'";
    for (table, expected) in [("bare", Some("rowid")), ("t", None)] {
        let row = client.query_one(hidden, &[&table]).await.unwrap();
        assert_eq!(row.get::<_, Option<&str>>(0), expected, "{table}");
    }
    let primary = "SELECT count(*) FROM pg_catalog.pg_index AS i \
        WHERE i.indrelid = 'bare'::regclass AND i.indisprimary";
    assert_eq!(number(&client, primary).await, 1);
    assert_eq!(number(&client, "SELECT count(DISTINCT rowid) FROM bare").await, 2);
}

/// Of each session, as on PostgreSQL; what a node keeps for all of its sessions is played so.
#[tokio::test]
async fn a_sequence_with_a_cache_goes_on_below_what_it_is_set_to() {
    let there = latest().await;
    let (one, other) = (connect(&there.dsn).await, connect(&there.dsn).await);
    for (number_of, cache) in ["CACHE 10", "PER NODE CACHE 10"].iter().enumerate() {
        one.batch_execute(&format!("CREATE SEQUENCE s{number_of} {cache}")).await.unwrap();
        let next = format!("SELECT nextval('s{number_of}')");
        assert_eq!(number(&one, &next).await, 1);
        other.batch_execute(&format!("SELECT setval('s{number_of}', 100)")).await.unwrap();
        assert_eq!(number(&one, &next).await, 2, "{cache}");
        assert_eq!(number(&other, &next).await, 101, "{cache}");
    }
}

/// A value in the form in which it goes over the wire.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl ToSql for Raw {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A numeric of a sign and a scale, of digits to the base of 10,000.
fn numeric(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
    let count = u16::try_from(digits.len()).unwrap();
    let header = [count, weight.cast_unsigned(), sign, scale];
    header.iter().chain(digits).flat_map(|it| it.to_be_bytes()).collect()
}

/// Of one dimension or more, each with its lower bound.
fn array(of: u32, dimensions: &[(i32, i32)], elements: &[Vec<u8>]) -> Vec<u8> {
    let length = |it: usize| i32::try_from(it).unwrap().to_be_bytes();
    let mut bytes = [length(dimensions.len()), [0; 4], of.to_be_bytes()].concat();
    dimensions.iter().for_each(|(count, lower)| {
        bytes.extend([count.to_be_bytes(), lower.to_be_bytes()].concat());
    });
    elements.iter().for_each(|it| bytes.extend([&length(it.len())[..], it].concat()));
    bytes
}

#[tokio::test]
async fn a_numeric_in_binary_form_loses_the_zeros_at_its_end() {
    const NEGATIVE: u16 = 0x4000;
    const NAN: u16 = 0xC000;
    let there = latest().await;
    let client = connect(&there.dsn).await;
    for (value, expected) in [
        (numeric(0, 0, 3, &[1]), "1"),
        (numeric(0, 0, 4, &[1, 2500]), "1.25"),
        (numeric(-1, NEGATIVE, 5, &[1234, 5000]), "-0.12345"),
        (numeric(1, 0, 2, &[1]), "10000"),
        (numeric(0, 0, 2, &[]), "0"),
        (numeric(0, NAN, 0, &[]), "NaN"),
    ] {
        let row =
            client.query_one("SELECT $1::numeric::text", &[&Raw(value.clone())]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), expected);
        let several = array(Type::NUMERIC.oid(), &[(2, 1)], &[value.clone(), value]);
        let row =
            client.query_one("SELECT ($1::numeric[])[2]::text", &[&Raw(several)]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), expected);
    }
    // Whoever sends its text keeps them.
    let row = client.query_one("SELECT ($1::text)::numeric::text", &[&"1.000"]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "1.000");
}

#[tokio::test]
async fn an_array_has_one_dimension_and_begins_at_one() {
    let there = latest().await;
    let client = connect(&there.dsn).await;
    let ints = |count: u8| (1..=count).map(|it| vec![0, 0, 0, it]).collect::<Vec<_>>();
    let sql = "SELECT ($1::int4[])::text";
    let square = Raw(array(Type::INT4.oid(), &[(2, 1), (2, 1)], &ints(4)));
    assert_eq!(code(&client.query_one(sql, &[&square]).await.unwrap_err()), "0A000");
    // The session goes on.
    for lower in [1, 7] {
        let moved = Raw(array(Type::INT4.oid(), &[(3, lower)], &ints(3)));
        let row = client.query_one(sql, &[&moved]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "{1,2,3}");
    }
    let none: Vec<i32> = Vec::new();
    assert_eq!(client.query_one(sql, &[&none]).await.unwrap().get::<_, &str>(0), "{}");
    // In a transaction it has failed.
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(code(&client.query_one(sql, &[&square]).await.unwrap_err()), "0A000");
    assert_eq!(refused(&client, "SELECT 1").await, "25P02");
    client.batch_execute("ROLLBACK").await.unwrap();
}

/// What PostgreSQL is given, for what would be hard to see by its effects.
#[test]
fn texts_are_edited_where_they_mean_it() {
    let cases = [
        (
            "SELECT 'FOR SHARE' /* FOR SHARE */ FROM t FOR SHARE OF s.t, t SKIP LOCKED LIMIT 1",
            false,
            "SELECT 'FOR SHARE' /* FOR SHARE */ FROM t  LIMIT 1",
        ),
        (
            "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class",
            false,
            "SELECT cockroach_catalog.pg_class.relname FROM cockroach_catalog.pg_class",
        ),
        (
            "SELECT relname FROM pg_class WHERE oid = 'pg_class'::regclass",
            false,
            "SELECT relname FROM cockroach_catalog.pg_class WHERE oid = 'pg_class'::regclass",
        ),
        ("DROP TABLE a; DROP TABLE b", false, "DROP TABLE a; COMMIT; DROP TABLE b"),
        ("DROP TABLE a", true, "COMMIT; DROP TABLE a"),
        ("SELECT a", true, "SELECT a"),
        (
            "SELECT -1, length(b) AS n, coalesce(a, 0), coalesce(1, 0), CASE WHEN a THEN CASE b WHEN 2 THEN 3 END \
                ELSE 4 END, 5::int2, count(*) FILTER (WHERE a) FROM t ORDER BY 1",
            false,
            "SELECT -1::int8, length(b)::int8 AS n, coalesce(a, 0), coalesce(1, 0)::int8, CASE WHEN a THEN \
                CASE b WHEN 2 THEN 3 END ELSE 4 END::int8, 5::int2, count(*) FILTER (WHERE a) \
                FROM t ORDER BY 1",
        ),
    ];
    for (sql, in_transaction, expected) in cases {
        let put = instead::instead(Facts::known(), Release::LATEST, sql, in_transaction);
        assert_eq!(put, expected);
    }
}
