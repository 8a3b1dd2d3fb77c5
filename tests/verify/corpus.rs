//! The corpus: the types of both sides differ as those of PostgreSQL and CockroachDB do.

use segue::domain::verify::Repair;
use segue::postgres::verify::Params;

use crate::support::Pair;
use crate::world;

const SOURCE: &str = include_str!("../corpus/schema_source.sql");
const TARGET: &str = include_str!("../corpus/schema_target.sql");
/// `tickets` has keys of the databases' own making.
const TABLES: &[(&str, &str, &str)] = &[
    ("public.customers", "public.customers", "{id}"),
    ("public.orders", "public.orders", "{id}"),
    ("public.events", "public.events", "{id}"),
    ("public.audit_log", "store.audit_log", "{id}"),
];

/// What the corpus made different on purpose, and arrays that had two dimensions. Between two
/// PostgreSQL servers what CockroachDB stores otherwise is different as well: numbers with fewer
/// zeros (`profile`, `body`, `discount`), the far date that stands for infinity (`valid_until`),
/// a time that was cut and not rounded (`at`).
const DIVERGED: &[&str] = &[
    "public.customers 1 different grid,profile,valid_until",
    "public.customers 3 different grid,profile",
    "public.customers 5 different credit,score,tags,profile,created_at",
    "public.customers 6 different nick",
    "public.events 1 different body",
    "public.events 4 different at",
    "public.events 5 different body",
    "public.orders 1 different discount",
    "public.orders 3 different discount",
    "public.orders 6 different status",
    "public.orders 7 missing",
    "public.orders 8 extra",
];

async fn check(params: fn() -> Params) {
    let pair: Pair = world::pair(SOURCE, TARGET, TABLES).await;
    assert_eq!(world::found(&world::verifier(&pair, params())).await, DIVERGED);
    let repairing = Params { repair: true, ..params() };
    let repaired = world::verify(&world::verifier(&pair, repairing)).await;
    let findings: Vec<_> = repaired.values().flatten().flat_map(|done| &done.findings).collect();
    assert_eq!(findings.len(), DIVERGED.len());
    // `money` is written in the style of the server's locale, which here is not that of dollars:
    // reconcile refuses to guess.
    let open: Vec<_> = findings.iter().filter(|finding| finding.is_open()).collect();
    let Some(Repair::Failed(why)) = open.first().map(|finding| &finding.repair) else {
        panic!("{open:?}");
    };
    assert!(open.len() == 1 && why.contains("money"), "{open:?}");
    let left = ["public.orders 7 missing"];
    assert_eq!(world::found(&world::verifier(&pair, params())).await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_rows_of_other_types_are_not_reported_and_others_are() {
    check(world::params).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_by_the_hash_that_every_server_has() {
    check(|| Params { as_text: true, ..world::params() }).await;
}
