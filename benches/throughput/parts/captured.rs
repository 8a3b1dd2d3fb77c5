//! What capture, reconciling and sampling cost callers.

use std::time::Duration;

use segue::grpc::proto::SetSamplingRequest;
use segue::grpc::proto::migration_client::MigrationClient;

use super::unary;
use crate::Plan;
use crate::contender::{Encoding, Worker, Workload};
use crate::load::{self, Watched};
use crate::report::{self, Column};
use crate::support::eventually;
use crate::world::{Servers, Sidecar};

const WRITES: [(&str, Workload); 2] = [("insert", Workload::Insert), ("update", Workload::Update)];
const DRAIN_MAX: Duration = Duration::from_secs(120);

pub async fn run(plan: &Plan, servers: &Servers, wanted: &dyn Fn(&str) -> bool) {
    if wanted("captured") || wanted("dual") {
        writes(plan, servers, wanted).await;
    }
    if wanted("sampling") {
        sampling(plan, servers).await;
    }
}

/// The same write without capture, with capture while nothing is reconciled, and with all of
/// it. The second has a target whose tables are locked.
async fn writes(plan: &Plan, servers: &Servers, wanted: &dyn Fn(&str) -> bool) {
    let plain = servers.sidecar("source_only", "").await;
    let captured = servers.sidecar("dual_write", "[outbox]\npoll_interval = \"1h\"").await;
    let away = captured.pair.target.client().await;
    away.batch_execute("BEGIN; LOCK TABLE segue.key_lock IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let dual = servers.sidecar("dual_write", "").await;
    for (part, workload) in WRITES {
        for &count in plan.workers("captured") {
            let mut ways: Vec<(&str, &Sidecar, Vec<Worker>)> = Vec::new();
            for (name, sidecar) in
                [("plain", &plain), ("captured alone", &captured), ("dual write", &dual)]
            {
                let left_out = match name {
                    "plain" => !wanted("captured"),
                    "dual write" => !wanted("dual"),
                    _ => false,
                };
                if !left_out {
                    let address = sidecar.segue.sql_address();
                    let workers = unary(&address, count, plan, Encoding::Typed).await;
                    ways.push((name, sidecar, workers));
                }
            }
            let mut columns: Vec<_> = ways
                .iter()
                .map(|(name, ..)| Column { name: (*name).to_owned(), turns: Vec::new() })
                .collect();
            let mut backlogs = Vec::new();
            for _ in 0..plan.repetitions {
                for ((name, sidecar, workers), column) in ways.iter_mut().zip(&mut columns) {
                    let segue = Some(&sidecar.segue);
                    let watched = Watched { servers: &[&servers.source, &servers.target], segue };
                    let turn = load::run(workers, workload, plan.seconds, watched).await;
                    if *name == "dual write" {
                        backlogs.push((backlog(sidecar).await, turn.rate));
                        drained(sidecar).await;
                    }
                    column.turns.push(turn);
                }
            }
            report::table(&format!("{part} through segue, {count} workers"), &columns);
            for (waiting, rate) in backlogs {
                let age = waiting as f64 / rate;
                println!("\nbacklog at the end of a turn: {waiting} keys, {age:.2} s of writes");
            }
        }
    }
    away.batch_execute("ROLLBACK").await.unwrap();
}

async fn backlog(sidecar: &Sidecar) -> u64 {
    let sql = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
    sidecar.pair.source.rows(sql).await[0].parse().unwrap()
}

async fn drained(sidecar: &Sidecar) {
    eventually("the outbox is worked off", DRAIN_MAX, || async {
        (backlog(sidecar).await == 0).then_some(())
    })
    .await;
}

/// Point reads while a share of them is run on the shadow as well.
async fn sampling(plan: &Plan, servers: &Servers) {
    let sidecar = servers.sidecar("shadow_read", "[sampling]\nrate = 0").await;
    let admin = sidecar.segue.admin_address();
    let mut admin = MigrationClient::connect(admin).await.unwrap();
    for &count in plan.workers("sampling") {
        let address = sidecar.segue.sql_address();
        let mut workers = unary(&address, count, plan, Encoding::Typed).await;
        let mut columns = [
            Column { name: "no sampling".to_owned(), turns: Vec::new() },
            Column { name: "10 % sampled".to_owned(), turns: Vec::new() },
        ];
        for _ in 0..plan.repetitions {
            for (rate, column) in [0.0, 0.1].into_iter().zip(&mut columns) {
                admin.set_sampling(SetSamplingRequest { rate }).await.unwrap();
                let watched = Watched {
                    servers: &[&servers.source, &servers.target],
                    segue: Some(&sidecar.segue),
                };
                let turn = load::run(&mut workers, Workload::Point, plan.seconds, watched).await;
                column.turns.push(turn);
            }
        }
        admin.set_sampling(SetSamplingRequest { rate: 0.0 }).await.unwrap();
        report::table(&format!("sampling of point reads, {count} workers"), &columns);
        println!("\n10 % more queries alone would come to a ratio of {:.2}", 1.0 / 1.1);
    }
}
