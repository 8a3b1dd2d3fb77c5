//! Updates that change nothing but how a value is spelt, and columns that one side generates.

use std::time::Duration;

use segue::postgres::outbox::backoff::Backoff;
use segue::postgres::reconcile::batch::BatchParams;

use crate::support::Pair;
use crate::world::{self, Way, drain, waiting};

/// A type of both sides, and two values that its equality operator, or the comparer of answers,
/// takes for one.
const SPELLINGS: &[(&str, &str, &str)] = &[
    ("json", "{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}"),
    ("json", "{\"a\":1}", "{\"a\":0,\"a\":1}"),
    ("json", "{\"a\":1}", "{ \"a\": 1 }"),
    ("json", "\"A\"", "\"\\u0041\""),
    ("numeric", "1", "1.000"),
    ("numeric(12,4)", "1", "2"),
    ("jsonb", "{\"n\": 1.5}", "{\"n\": 1.50}"),
    ("numeric[]", "{1,2}", "{1.0,2}"),
    ("json[]", "{1}", "{\" 1\"}"),
    ("public.spelt", "(1,{})", "(1.0,{})"),
    ("public.spelt", "(1,{})", "(1,{ })"),
    ("public.spelt[]", "{\"(1,{})\"}", "{\"(1.0,{})\"}"),
    ("public.exact", "1", "1.0"),
    ("numrange", "[1,2)", "[1.0,2)"),
    ("float8", "0", "-0"),
    ("float4[]", "{0}", "{-0}"),
    ("timestamp", "294276-12-31 23:59:59.999999", "infinity"),
    ("timestamptz", "infinity", "294276-12-31 23:59:59.999999+00"),
    ("interval", "1 mon", "30 days"),
    ("interval", "24:00:00", "1 day"),
    ("timetz", "10:00:00+02", "08:00:00+00"),
    ("public.citext", "Ada", "ADA"),
    ("text", "a", "a "),
    ("xml", "<a></a>", "<a/>"),
    ("bit(4)", "0101", "0100"),
    ("money", "5.00", "5.01"),
    ("public.hstore", "a=>1", "a=>\"1 \""),
];

/// Types of keys, and two spellings of one key.
const KEYS: &[(&str, &str, &str)] = &[
    ("numeric", "1.0", "1.00"),
    ("jsonb", "{\"n\": 1.0}", "{\"n\": 1.00}"),
    ("public.citext", "Ada", "ADA"),
    ("interval", "24:00:00", "1 day"),
    ("timestamptz", "2024-01-01 00:00:00+00", "2024-01-01 00:00:00+00"),
];

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Makes and registers a table on both sides, captured on both.
async fn add_tables(pair: &Pair, tables: &[(String, String, String, &str)]) {
    for (index, (name, source, target, key)) in tables.iter().enumerate() {
        let id = index + 10;
        for (database, columns) in [(&pair.source, source), (&pair.target, target)] {
            database
                .run(&format!(
                    "CREATE TABLE public.{name} ({columns}); \
                     CREATE TRIGGER segue_row AFTER INSERT OR UPDATE OR DELETE ON public.{name} \
                     FOR EACH ROW EXECUTE FUNCTION segue.capture_test({id}, '{key}'); \
                     INSERT INTO segue.migrated_table VALUES \
                         ({id}, 'public', '{name}', 'public', '{name}', '{{{key}}}')"
                ))
                .await;
        }
    }
}

async fn with_types() -> Pair {
    let pair = world::pair().await;
    for (database, first) in [(&pair.source, ""), (&pair.target, "CREATE TYPE other AS (a int);")] {
        database
            .run(&format!(
                "{first} CREATE EXTENSION citext; CREATE EXTENSION hstore; \
                 CREATE DOMAIN public.exact AS numeric; \
                 CREATE TYPE public.spelt AS (a numeric, b json)"
            ))
            .await;
    }
    pair
}

async fn turn_round(pair: &Pair) {
    for database in [&pair.source, &pair.target] {
        database.run("UPDATE segue.control SET phase = 'reversed'").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_changes_only_the_spelling_is_carried_there_and_back() {
    let pair = with_types().await;
    let name = |index: usize| format!("spelling{index}");
    let columns = |ty: &str| format!("id int PRIMARY KEY, v {ty}");
    let tables: Vec<_> = SPELLINGS
        .iter()
        .enumerate()
        .map(|(index, (ty, ..))| (name(index), columns(ty), columns(ty), "id"))
        .collect();
    add_tables(&pair, &tables).await;
    let texts = async |index: usize| {
        let sql = format!("SELECT format('%s', v) FROM public.{} ORDER BY id", name(index));
        (pair.source.rows(&sql).await, pair.target.rows(&sql).await)
    };
    for (index, (_, before, _)) in SPELLINGS.iter().enumerate() {
        let sql = format!("INSERT INTO public.{} VALUES (1, {})", name(index), quoted(before));
        pair.source.run(&sql).await;
    }
    let forth = Way::forth(&pair).worker();
    assert_eq!(drain(&forth).await.failed, 0, "{:?}", waiting(&pair.source).await);
    for (index, (ty, _, after)) in SPELLINGS.iter().enumerate() {
        let sql = format!("UPDATE public.{} SET v = {}", name(index), quoted(after));
        pair.source.run(&sql).await;
        let done = drain(&forth).await;
        let (source, target) = texts(index).await;
        assert_eq!(source, target, "{ty} {after}");
        assert_eq!((done.changed, done.failed), (1, 0), "{ty} {after}");
        // The same again writes nothing.
        pair.source.run(&sql).await;
        assert_eq!(drain(&forth).await.changed, 0, "{ty} {after}");
    }
    turn_round(&pair).await;
    let back = Way::back(&pair).worker();
    for (index, (ty, before, _)) in SPELLINGS.iter().enumerate() {
        pair.target.run(&format!("UPDATE public.{} SET v = {}", name(index), quoted(before))).await;
        let done = drain(&back).await;
        let (source, target) = texts(index).await;
        assert_eq!(source, target, "{ty} {before}");
        assert_eq!((done.changed, done.failed), (1, 0), "{ty} {before}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_spelt_anew_is_spelt_so_on_the_shadow() {
    let pair = with_types().await;
    let name = |index: usize| format!("keyed{index}");
    let columns = |ty: &str| format!("k {ty} PRIMARY KEY, v int");
    let tables: Vec<_> = KEYS
        .iter()
        .enumerate()
        .map(|(index, (ty, ..))| (name(index), columns(ty), columns(ty), "k"))
        .collect();
    add_tables(&pair, &tables).await;
    let forth = Way::forth(&pair).worker();
    for (index, (ty, before, after)) in KEYS.iter().enumerate() {
        let table = format!("public.{}", name(index));
        pair.source.run(&format!("INSERT INTO {table} VALUES ({}, 1)", quoted(before))).await;
        drain(&forth).await;
        pair.source.run(&format!("UPDATE {table} SET k = {}", quoted(after))).await;
        let done = drain(&forth).await;
        assert_eq!(done.failed, 0, "{ty}: {:?}", waiting(&pair.source).await);
        let sql = format!("SELECT format('%s', k), v FROM {table}");
        assert_eq!(pair.source.rows(&sql).await, pair.target.rows(&sql).await, "{ty} {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_the_shadow_that_has_no_image_in_the_coarser_type_is_written_over() {
    let pair = world::pair().await;
    let columns = |ty: &str| format!("id int PRIMARY KEY, v {ty}");
    let table = ("documents".to_owned(), columns("json"), columns("jsonb"), "id");
    add_tables(&pair, &[table]).await;
    pair.source.run("INSERT INTO public.documents VALUES (1, '{}'), (2, '{}')").await;
    drain(&Way::forth(&pair).worker()).await;
    turn_round(&pair).await;
    // The test's own capture would take it for text.
    let unseen = "SET session_replication_role = replica; \
        UPDATE public.documents SET v = '{\"a\": \"\\u0000\"}'";
    pair.source.run(unseen).await;
    pair.target.run("UPDATE public.documents SET v = '{\"b\": 1}'").await;
    let done = drain(&Way::back(&pair).worker()).await;
    assert_eq!((done.changed, done.failed), (2, 0), "{:?}", waiting(&pair.target).await);
    let rows = pair.source.rows("SELECT v FROM public.documents").await;
    assert_eq!(rows, ["{\"b\": 1}", "{\"b\": 1}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_only_the_shadow_generates_is_held_against_the_primarys() {
    let pair = world::pair().await;
    let generated = "id int PRIMARY KEY, a int, total int GENERATED ALWAYS AS (a * 2) STORED";
    let plain = "id int PRIMARY KEY, a int, total int";
    let table = ("sums".to_owned(), generated.to_owned(), plain.to_owned(), "id");
    add_tables(&pair, &[table]).await;
    pair.source.run("INSERT INTO public.sums (id, a) VALUES (1, 1), (2, 2), (3, 3)").await;
    drain(&Way::forth(&pair).worker()).await;
    turn_round(&pair).await;
    let patient = Backoff { first: Duration::from_secs(3600), max: Duration::from_secs(3600) };
    let batch = BatchParams { backoff: patient, ..world::batch() };
    let back = Way::back(&pair).worker_with(world::params(), batch);
    pair.target.run("UPDATE public.sums SET a = 10, total = 20 WHERE id = 1").await;
    pair.target.run("UPDATE public.sums SET a = 10, total = 21 WHERE id = 2").await;
    pair.target.run("UPDATE public.sums SET total = 7 WHERE id = 3").await;
    let done = drain(&back).await;
    assert_eq!((done.reconciled, done.failed), (1, 2), "{:?}", waiting(&pair.target).await);
    let left = waiting(&pair.target).await;
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|row| row.contains("\"total\" is generated")), "{left:?}");
    // What can be carried is, all the same.
    let rows = pair.source.rows("SELECT id, a, total FROM public.sums ORDER BY id").await;
    assert_eq!(rows, ["1|10|20", "2|10|20", "3|3|6"]);
    pair.target.run("UPDATE public.sums SET total = a * 2").await;
    pair.target.run("UPDATE segue.outbox SET next_attempt_at = now()").await;
    assert_eq!(drain(&back).await.failed, 0);
    assert_eq!(waiting(&pair.target).await, Vec::<String>::new());
}
