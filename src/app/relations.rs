//! What is known of both sides' relations, and what runs statements on the side that is not the
//! primary.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::Background;
use super::databases::Databases;
use crate::config::{Config, Excluded};
use crate::domain::control::Phase;
use crate::domain::reach::{Pattern, Policy};
use crate::domain::side::{Side, Sides};
use crate::postgres::relations::{KnownRelations, Pools};
use crate::postgres::statements::transactions::{self, PostgresTransactions};
use crate::stack::Owners;
use crate::telemetry::metrics::Metrics;

/// How long the start waits for the primary's catalogue, and for the other one where reads may be
/// sampled or shifted. What is not read in time is read later, and nothing is shifted until then.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(3);
const OTHER_LOOK_MAX: Duration = Duration::from_secs(2);

/// Follows both catalogues.
pub(super) async fn follow(
    config: &Config,
    databases: &Databases,
    (background, metrics): (&Background, &Metrics),
    phase: Phase,
) -> KnownRelations {
    let own = databases.own();
    let pools = |own, side| Pools { own, reads: databases.samples(side).clone() };
    let pools =
        Sides { source: pools(own.source, Side::Source), target: pools(own.target, Side::Target) };
    let known = KnownRelations::new(pools, policy(config));
    let (primary, follows) = (phase.primary(), phase.samples());
    let other = async {
        // A target that is away keeps nobody from starting.
        if follows {
            known.look(primary.other(), OTHER_LOOK_MAX).await;
        }
    };
    tokio::join!(known.look(primary, FIRST_LOOK_MAX), other);
    for side in [Side::Source, Side::Target] {
        background.tasks.spawn(known.clone().follow(
            side,
            metrics.retries().clone(),
            background.stop.clone(),
        ));
    }
    known
}

/// What routing goes by.
pub(super) fn policy(config: &Config) -> Policy {
    let excluded = config.tables.excluded.iter().map(|excluded| match excluded {
        Excluded::Table(name) => Pattern::Table(name.clone()),
        Excluded::Schema(schema) => Pattern::Schema(schema.clone()),
    });
    let mapped = config.tables.mapped.iter();
    Policy {
        stay: config.tables.stay.clone(),
        excluded: excluded.collect(),
        mapped: mapped.flat_map(|it| [it.source.clone(), it.target.clone()]).collect(),
        functions: config.tables.functions.clone(),
        repeatable: config.sampling.functions_allowed.iter().cloned().collect(),
    }
}

/// What writes on a side that is not the primary.
pub(super) fn owners(
    config: &Config,
    databases: &Databases,
    calls: &TaskTracker,
    background: &Background,
    known: KnownRelations,
) -> Owners {
    let transactions = |side| {
        let transactions = PostgresTransactions::new(transactions::Params {
            writes: databases.staying(side).clone(),
            // Others than transactions write there as well.
            open_max: config.transactions.open_max.min(databases.staying_max(side) / 2).max(1),
            tasks: calls.clone(),
        });
        let (reaping, stop) = (transactions.clone(), background.stop.clone());
        background.tasks.spawn(async move { reaping.run(stop).await });
        Arc::new(transactions)
    };
    Owners {
        relations: Arc::new(known),
        databases: databases.owning(calls),
        transactions: Sides {
            source: transactions(Side::Source),
            target: transactions(Side::Target),
        },
    }
}
