//! Reads and writes in the phase before a migration: direct, pgbouncer, segue.

use super::{streams, unary};
use crate::Plan;
use crate::contender::{Encoding, Worker, Workload};
use crate::load::{self, Watched};
use crate::report::{self, Column};
use crate::support::{Bouncer, PoolMode};
use crate::world::{Servers, Sidecar};

const PARTS: [(&str, Workload); 5] = [
    ("point", Workload::Point),
    ("rows100", Workload::Rows100),
    ("rows10000", Workload::Rows10000),
    ("insert", Workload::Insert),
    ("update", Workload::Update),
];

struct Ways<'a> {
    plan: &'a Plan,
    sidecar: &'a Sidecar,
    by_session: Bouncer,
    by_transaction: Bouncer,
}

pub async fn run(plan: &Plan, servers: &Servers, wanted: &dyn Fn(&str) -> bool) {
    let parts: Vec<_> = PARTS.into_iter().filter(|(part, _)| wanted(part)).collect();
    if parts.is_empty() {
        return;
    }
    let sidecar = servers.sidecar("source_only", "").await;
    let ways = Ways {
        plan,
        sidecar: &sidecar,
        by_session: servers.bouncer(PoolMode::Session),
        by_transaction: servers.bouncer(PoolMode::Transaction),
    };
    for (part, workload) in parts {
        for &count in plan.workers(part) {
            compare(&ways, servers, part, workload, count).await;
        }
    }
}

async fn compare(ways: &Ways<'_>, servers: &Servers, part: &str, workload: Workload, count: usize) {
    let mut all = ways.open(servers, workload, count).await;
    let mut columns: Vec<_> = all
        .iter()
        .map(|(name, _)| Column { name: (*name).to_owned(), turns: Vec::new() })
        .collect();
    for _ in 0..ways.plan.repetitions {
        for ((name, workers), column) in all.iter_mut().zip(&mut columns) {
            let segue = name.starts_with("segue").then_some(&ways.sidecar.segue);
            let watched = Watched { servers: &[&servers.source], segue };
            column.turns.push(load::run(workers, workload, ways.plan.seconds, watched).await);
        }
    }
    report::table(&format!("{part}, {count} workers"), &columns);
}

impl Ways<'_> {
    async fn open(
        &self,
        servers: &Servers,
        workload: Workload,
        count: usize,
    ) -> Vec<(&'static str, Vec<Worker>)> {
        let database = self.sidecar.pair.source.name();
        let address = self.sidecar.segue.sql_address();
        let many_rows = matches!(workload, Workload::Rows100 | Workload::Rows10000);
        let mut all = Vec::new();
        let names = [
            "direct",
            "direct, 4 connections",
            "pgbouncer, session",
            "pgbouncer, transaction",
            "segue, unary",
            "segue, unary, packed",
            "segue, stream",
            "segue, stream, packed",
            "segue, stream each",
        ];
        for name in names {
            let packed = name.ends_with("packed");
            let chosen = |only: &String| name.contains(only.as_str());
            let only = &self.plan.only;
            if (packed || name.ends_with("4 connections")) && packed != many_rows
                || name != "direct" && !only.is_empty() && !only.iter().any(chosen)
            {
                continue;
            }
            let encoding = if packed { Encoding::Packed } else { Encoding::Typed };
            let workers = match name {
                "direct" => prepared(self.sidecar.pair.source.dsn(), workload, count).await,
                "direct, 4 connections" => {
                    let dsn = self.sidecar.pair.source.dsn();
                    let mut workers = prepared(dsn, workload, count.min(4)).await;
                    while workers.len() < count {
                        workers.extend(workers[workers.len() - 4].beside());
                    }
                    workers
                }
                "pgbouncer, session" => {
                    let dsn = servers.source.dsn_by_port(database, self.by_session.port());
                    prepared(&dsn, workload, count).await
                }
                "pgbouncer, transaction" => {
                    let dsn = servers.source.dsn_by_port(database, self.by_transaction.port());
                    let mut workers = Vec::new();
                    for _ in 0..count {
                        workers.push(Worker::unprepared(&dsn).await);
                    }
                    workers
                }
                _ if name.contains("unary") => unary(&address, count, self.plan, encoding).await,
                _ => {
                    let own = name.ends_with("each");
                    streams(&address, count, self.plan, encoding, own).await
                }
            };
            all.push((name, workers));
        }
        all
    }
}

async fn prepared(dsn: &str, workload: Workload, count: usize) -> Vec<Worker> {
    let mut workers = Vec::new();
    for _ in 0..count {
        workers.push(Worker::prepared(dsn, workload).await);
    }
    workers
}
