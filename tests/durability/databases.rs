//! Either database is killed, stalled, cut off in mid-answer, or out of connections.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::ledger::{Auditor, Ledger, Load, Mix, agree};
use crate::support::{Hogs, Proxy, Segue, Server, seed};
use crate::{World, durable};

/// What is done to a database.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Stalled,
    /// The connection that carries this byte of an answer is reset, several times.
    Cut,
    OutOfConnections,
    Refused,
}

const FAULTS: [Fault; 7] = [
    Fault::Killed,
    Fault::Stalled,
    Fault::Cut,
    Fault::OutOfConnections,
    Fault::Refused,
    Fault::Killed,
    Fault::Stalled,
];
const CUTS: u32 = 8;
/// How long a fault lasts, in milliseconds.
const LASTING: std::ops::Range<u64> = 300..1500;
/// Fewer connections than a server would have, so that all of them are soon taken.
const CONNECTIONS: &str = "45";
const SECTIONS: &str = "[outbox]\nbackoff_max = \"1s\"\n[transactions]\nopen_max = 6";

/// A database, and the way by which segue comes to it.
struct Ill<'a> {
    server: &'a Server,
    proxy: &'a Proxy,
    dsn: &'a str,
}

impl Ill<'_> {
    /// From its beginning to its end.
    async fn suffer(&self, fault: Fault, dice: &mut StdRng) {
        let lasting = Duration::from_millis(dice.random_range(LASTING));
        match fault {
            Fault::Killed => {
                self.server.kill();
                tokio::time::sleep(lasting).await;
                self.server.restart();
            }
            Fault::Stalled => {
                self.server.stall();
                tokio::time::sleep(lasting).await;
                self.server.resume();
            }
            Fault::Cut => {
                for _ in 0..CUTS {
                    self.proxy.cut_after(dice.random_range(1..900));
                    tokio::time::sleep(lasting / CUTS).await;
                }
            }
            Fault::OutOfConnections => {
                let hogs = Hogs::take_all(self.dsn).await;
                tokio::time::sleep(lasting).await;
                drop(hogs);
            }
            Fault::Refused => {
                self.proxy.refuse(true);
                self.proxy.reset();
                tokio::time::sleep(lasting).await;
                self.proxy.refuse(false);
            }
        }
    }
}

/// Whatever callers were told while the one side was ill holds on both sides afterwards, and
/// held on the source all the time. Gives how many calls of theirs failed.
async fn suffers(side: &str) -> u64 {
    let seed = seed(side);
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::with(&durable().with("max_connections", CONNECTIONS)).await;
    let [source, target] = [&world.source, &world.target].map(|server| Proxy::start(server.port()));
    let dsn = |server: &Server, name: &str, proxy: &Proxy| {
        let dsn = server.dsn_by_port(name, proxy.port());
        format!("dsn = \"{dsn}\"\nread_pool_max = 6\nwrite_pool_max = 10\npool_wait_max = \"2s\"")
    };
    let mut segue = Segue::prepare_with(
        &dsn(&world.source, world.pair.source.name(), &source),
        &dsn(&world.target, world.pair.target.name(), &target),
        SECTIONS,
    );
    segue.init_in("shadow_read").await;
    segue.serve().await;
    let ill = match side {
        "source" => Ill { server: &world.source, proxy: &source, dsn: world.pair.source.dsn() },
        _ => Ill { server: &world.target, proxy: &target, dsn: world.pair.target.dsn() },
    };
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, &[segue.sql_address()], 8, (Mix::Everything, seed, 0));
    let auditor = Auditor::start(&ledger, &world.pair);
    for fault in FAULTS {
        load.acknowledged(60).await;
        ill.suffer(fault, &mut dice).await;
    }
    load.acknowledged(100).await;
    load.stop().await;
    agree(&ledger, &world.pair).await;
    let looks = auditor.stop().await;
    println!("{side}: {}; looks at source and target: {looks:?}", ledger.summary());
    assert!(!segue.logs().contains("panicked"), "{}", segue.logs());
    let (_, unknown, refused) = ledger.totals();
    unknown + refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_callers_are_told_of_an_ill_source_is_true() {
    assert!(suffers("source").await > 0, "no fault was noticed: they were none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_callers_are_told_beside_an_ill_target_is_true() {
    suffers("target").await;
}
