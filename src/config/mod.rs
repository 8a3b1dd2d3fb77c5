//! What segue is told at its start.
//!
//! Raw first (`layers`: flags over `SEGUE_*` over the file over libpq's variables over the
//! defaults), then checked into one [`Config`]. All faults are found at once. `keys` lists
//! every key; `docs/reference/configuration.md` must agree with it.

mod application;
mod backfill;
mod compare;
mod control;
mod cutover;
mod database;
pub mod fault;
pub mod keys;
mod layers;
mod owners;
mod reader;
mod routing;
mod sampling;
mod sections;
mod surroundings;
mod units;
mod verify;

pub use backfill::Backfill;
pub use compare::CompareRule;
pub use control::Control;
pub use cutover::Cutover;
pub use database::Database;
pub use fault::{Faults, Origin};
pub use layers::Sources;
pub use routing::Shift;
pub use sampling::Sampling;
pub use sections::{
    Compare, Excluded, Limits, Listen, Outbox, Queries, Tables, Telemetry, Transactions,
};
pub use verify::Verify;

use crate::domain::gate;
use crate::domain::proof_age::ProofAges;
use crate::domain::routing::Routing;
use crate::domain::side::Side;
use crate::failpoint::Armed;
use layers::Layers;
use reader::Reader;

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The database being left.
    pub source: Database,
    /// The database being moved to.
    pub target: Database,
    /// Where segue listens.
    pub listen: Listen,
    /// What one call may ask for.
    pub limits: Limits,
    /// Transactions that span calls.
    pub transactions: Transactions,
    /// What is migrated.
    pub tables: Tables,
    /// Statements by name.
    pub queries: Queries,
    /// Which reads are compared.
    pub sampling: Sampling,
    /// How they are compared.
    pub compare: Compare,
    /// How keys are reconciled.
    pub outbox: Outbox,
    /// What is told, and where.
    pub telemetry: Telemetry,
    /// How the control row is followed, and the fleet kept.
    pub control: Control,
    /// How the history is copied.
    pub backfill: Backfill,
    /// How reads are shifted.
    pub read_routing: Routing,
    /// How callers are kept from a sick target.
    pub shift: Shift,
    /// What the gates ask for.
    pub gates: gate::Limits,
    /// How old proofs may be that a gate goes by.
    pub proof_ages: ProofAges,
    /// How the primary is changed.
    pub cutover: Cutover,
    /// How both sides are verified in the background.
    pub verify: Verify,
    /// Where a test wants the process to end or to stop: none in a release.
    pub failpoints: Vec<Armed>,
    effective: Vec<(String, String, Origin)>,
}

// === impl Config ===

impl Config {
    /// Gathers the layers and checks them.
    ///
    /// # Errors
    ///
    /// All that is wrong, at once.
    pub fn load(sources: &Sources) -> Result<Self, Faults> {
        let mut reader = Reader::new(Layers::gather(sources));
        let config = Self {
            source: Database::read(&mut reader, Side::Source),
            target: Database::read(&mut reader, Side::Target),
            listen: Listen::read(&mut reader),
            limits: Limits::read(&mut reader),
            transactions: Transactions::read(&mut reader),
            tables: Tables::read(&mut reader),
            queries: Queries::read(&mut reader),
            sampling: Sampling::read(&mut reader),
            compare: Compare::read(&mut reader),
            outbox: Outbox::read(&mut reader),
            telemetry: Telemetry::read(&mut reader),
            control: Control::read(&mut reader),
            backfill: Backfill::read(&mut reader),
            read_routing: routing::routing(&mut reader),
            shift: Shift::read(&mut reader),
            gates: routing::gates(&mut reader),
            proof_ages: routing::proof_ages(&mut reader),
            cutover: Cutover::read(&mut reader),
            verify: Verify::read(&mut reader),
            failpoints: reader.failpoints(),
            effective: reader.effective(),
        };
        config.check_together(&mut reader);
        reader.finish()?;
        Ok(config)
    }

    /// The part that a client of the admin listener needs. The databases need not be known.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, at once.
    pub fn load_listen(sources: &Sources) -> Result<Listen, Faults> {
        let mut reader = Reader::new(Layers::gather(sources));
        let listen = Listen::read(&mut reader);
        reader.finish()?;
        Ok(listen)
    }

    /// The side's database.
    pub fn database(&self, side: Side) -> &Database {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// Every key with its value as it is in force, secrets redacted, and where it came from.
    pub fn effective(&self) -> &[(String, String, Origin)] {
        &self.effective
    }

    /// Open transactions keep their connections between calls: were they to have all of them,
    /// every other write would wait for an application to go on.
    fn check_starving(&self, side: Side, reader: &mut Reader) {
        let (pool, open) = (self.database(side).write_pool_max, self.transactions.open_max);
        if pool == 0 || open < pool {
            return;
        }
        let key = format!("{side}.write_pool_max");
        let (key, message) = if reader.origin("transactions.open_max") == Origin::Default {
            let (least, fewer) = (open + 1, pool.saturating_sub(1).max(1));
            let remedy = format!("write at least {least}, or set transactions.open_max to {fewer}");
            (key, format!("leaves none for other writes beside {open} open transactions; {remedy}"))
        } else {
            let remedy = format!("write at most {}, or raise {key}", pool - 1);
            let message = format!("leaves other writes none of the {pool} connections; {remedy}");
            ("transactions.open_max".to_owned(), message)
        };
        reader.fault(&key, message);
    }

    /// Sessions that segue itself opens for callers would begin read-only, and after a rollback as
    /// well: they stay open.
    fn check_read_only_roles(&self, reader: &mut Reader) {
        let Some(login) = &self.source.application else { return };
        if self.cutover.read_only_roles.contains(&login.user) {
            let message = format!(
                "names {}, as which segue runs callers' statements itself (source.application); give                  programs that bypass segue a role of their own, or leave it to capture to refuse                  their writes",
                login.user
            );
            reader.fault("cutover.read_only_roles", message);
        }
    }

    fn check_together(&self, reader: &mut Reader) {
        self.sampling.check_memory(self.limits.memory, reader);
        let place = |database: &Database| (database.dsn.places(), database.dsn.database.clone());
        if self.source.dsn.is_known() && place(&self.source) == place(&self.target) {
            let message = "is the same database as the source; a migration needs two";
            reader.fault("target.dsn", message);
        }
        if self.listen.sql == self.listen.admin && !self.listen.sql.is_empty() {
            reader.fault("listen.admin", "is the same address as listen.sql");
        }
        self.check_read_only_roles(reader);
        for side in [Side::Source, Side::Target] {
            let database = self.database(side);
            // Each batch takes two on the primary, one of which holds its claims; control, the
            // outbox's figures and the janitor take others.
            let least = 2 * self.outbox.concurrency + 2;
            if database.own_pool_max > 0 && least > database.own_pool_max {
                let message = format!("is too few for outbox.concurrency; write at least {least}");
                reader.fault(&format!("{side}.own_pool_max"), message);
            }
            self.check_starving(side, reader);
        }
    }
}
