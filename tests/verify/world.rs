//! Two databases with segue's tables, and a verifier between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use segue::dialect::Dialect;
use segue::domain::side::Side;
use segue::domain::verify::{Discrepancy, Finding};
use segue::dsn::Dsn;
use segue::ports::reconcile::OutboxWork;
use segue::postgres::outbox::Outbox;
use segue::postgres::pool::{Params as PoolParams, Pool};
use segue::postgres::reconcile::batch::{BatchParams, OutboxWorker};
use segue::postgres::reconcile::{Params as ReconcileParams, Reconciler};
use segue::postgres::schema::script;
use segue::postgres::session::connect::Connector;
use segue::postgres::session::settings::Purpose;
use segue::postgres::verify::chunk::ChunkDone;
use segue::postgres::verify::{Params, Verifier};

use crate::support::{Database, Pair};

/// Makes both databases, segue's tables in them, and notes the migrated tables:
/// name on the source, on the target, key columns.
pub async fn pair(source: &str, target: &str, tables: &[(&str, &str, &str)]) -> Pair {
    let with = |side, sql: &str| format!("{}; {sql}", script(side, Dialect::POSTGRESQL));
    let pair = Pair::fresh(&with(Side::Source, source), &with(Side::Target, target)).await;
    register(&pair, tables).await;
    pair
}

pub async fn register(pair: &Pair, tables: &[(&str, &str, &str)]) {
    for database in [&pair.source, &pair.target] {
        for (index, (source, target, key)) in tables.iter().enumerate() {
            let ((a, b), (c, d)) =
                (source.split_once('.').unwrap(), target.split_once('.').unwrap());
            let id = index + 1;
            let sql = format!(
                "INSERT INTO segue.migrated_table VALUES ({id}, '{a}', '{b}', '{c}', '{d}', '{key}')"
            );
            database.run(&sql).await;
        }
    }
}

fn pool(side: Side, database: &Database) -> Pool {
    let dsn = Dsn::parse(database.dsn(), &|_: &str| None).unwrap();
    let connector = Connector::new(side, dsn).unwrap();
    Pool::new(connector, PoolParams::new(Purpose::Own, 12, Duration::from_secs(60))).unwrap()
}

pub fn reconciler(pair: &Pair) -> Arc<Reconciler> {
    let params = ReconcileParams::new(Arc::new(|| rand::random_range(0.0..1.0)));
    let (source, target) = (pool(Side::Source, &pair.source), pool(Side::Target, &pair.target));
    Arc::new(Reconciler::new(source, target, Side::Source, params))
}

pub fn verifier(pair: &Pair, params: Params) -> Verifier {
    Verifier::new(reconciler(pair), params)
}

pub fn worker(pair: &Pair) -> OutboxWorker {
    let outbox = Outbox::new(pool(Side::Source, &pair.source));
    OutboxWorker::new(outbox, reconciler(pair), BatchParams::default())
}

/// Quick to give up on rows that wait.
pub fn params() -> Params {
    Params { pending_max: Duration::from_millis(300), ..Params::default() }
}

/// All chunks of all tables by the table's name.
pub async fn verify(verifier: &Verifier) -> BTreeMap<String, Vec<ChunkDone>> {
    let mut all = BTreeMap::new();
    for (name, table) in verifier.tables().await.unwrap() {
        let table = table.unwrap_or_else(|why| panic!("{name}: {why}"));
        let mut chunks = Vec::new();
        verifier.table(&table, |_| true, |done| chunks.push(done)).await.unwrap();
        all.insert(name.to_string(), chunks);
    }
    all
}

/// What was found, as `table key what columns`, sorted.
pub async fn found(verifier: &Verifier) -> Vec<String> {
    let mut found = Vec::new();
    for (name, chunks) in verify(verifier).await {
        let findings = chunks.iter().flat_map(|done| &done.findings);
        found.extend(findings.map(|finding| format!("{name} {}", told(finding))));
    }
    found.sort();
    found
}

pub fn told(finding: &Finding) -> String {
    let key = finding.key.join(",");
    match &finding.what {
        Discrepancy::Different(cells) => {
            let columns: Vec<&str> = cells.iter().map(|cell| cell.column.as_str()).collect();
            format!("{key} different {}", columns.join(","))
        }
        what => format!("{key} {}", what.as_str()),
    }
}

/// Works until nothing is due.
pub async fn drain(worker: &OutboxWorker) {
    while worker.work().await.unwrap().rows > 0 {}
}
