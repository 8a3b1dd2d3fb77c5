//! Both databases: pools by purpose, from the configuration.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::config::{self, Config};
use crate::domain::budget::ByteBudget;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::identity::Identity;
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::dsn::Dsn;
use crate::failpoint::FailPoints;
use crate::ports::Database;
use crate::postgres::cutover::Exclusive;
use crate::postgres::fence::FenceControl;
use crate::postgres::memory::RowMemory;
use crate::postgres::pool::{self, Pool};
use crate::postgres::session::connect::Connector;
use crate::postgres::session::settings::{Purpose, SessionLimits};
use crate::postgres::statements::database::{self, PostgresDatabase};
use crate::postgres::statements::read::ReadConnections;
use crate::telemetry::metrics::{Metrics, PoolState};

/// Sessions on the primary for looking at a difference again.
const SAMPLE_SESSIONS_MAX: usize = 8;

/// Sessions for writes to tables that are not migrated, on the side that is not the primary.
const STAYING_SESSIONS_MAX: usize = 8;

/// Sessions of the sweep, which has pools of its own: for the chunk, for a row that is looked at again,
/// and for its proof.
const SWEEP_SESSIONS: usize = 3;

/// Sessions that look at the databases' generations.
const LOOK_SESSIONS_MAX: usize = 1;

/// Sessions for the control row, the lease and the fleet: the follower, the member, the leader,
/// an operator, and who asks whether writes have settled. Reconciles that wait for a shadow never hold one.
const CONTROL_SESSIONS_MAX: usize = 5;

/// Pools of one side. Each kind of work has its own, so that none takes another's sessions. Those
/// that run statements of callers log in as the application's role where there is one.
#[derive(Debug, Clone)]
struct Pools {
    reads: Pool,
    writes: Pool,
    own: Pool,
    control: Pool,
    samples: Pool,
    /// As `writes`, without the fence: for tables that no capture and no cutover concerns.
    staying: Pool,
    /// As `own`, also with a database that went back in time.
    looks: Pool,
}

/// Pools of both sides.
#[derive(Debug, Clone)]
pub struct Databases {
    pools: Sides<Pools>,
    fence: FenceControl,
    memory: RowMemory,
    failpoints: FailPoints,
}

// === impl Databases ===

impl Databases {
    /// Makes the pools; sessions are opened when they are first needed.
    ///
    /// # Errors
    ///
    /// A connection string or a certificate that cannot be used.
    pub fn open(config: &Config) -> Result<Self, SqlFault> {
        let samples = config.sampling.concurrency.min(SAMPLE_SESSIONS_MAX);
        let fence = FenceControl::default();
        let lease = config.control.lease;
        let callers = SessionLimits::of_callers(lease, config.transactions.idle_max);
        let answers = ByteBudget::new(config.limits.answers_memory);
        let failpoints = FailPoints::of(&config.failpoints);
        let open = |side| {
            let pools = Pools::open(
                side,
                config.database(side),
                (samples, lease, callers),
                &answers,
                &fence,
            )?;
            Ok(Pools {
                writes: pools.writes.with_failpoints(failpoints.clone()),
                own: pools.own.with_failpoints(failpoints.clone()),
                control: pools.control.with_failpoints(failpoints.clone()),
                ..pools
            })
        };
        let pools = Sides { source: open(Side::Source)?, target: open(Side::Target)? };
        Ok(Self { pools, fence, memory: RowMemory::new(config.limits.memory), failpoints })
    }

    /// Memory for rows on their way, of all that the process copies.
    pub fn memory(&self) -> RowMemory {
        self.memory.clone()
    }

    /// From now on every new session must be with this migration's databases.
    pub fn expect(&self, identity: &Identity) {
        for side in [Side::Source, Side::Target] {
            for connector in self.pools.of(side).connectors() {
                connector.expectation().set(side, identity);
            }
        }
    }

    /// Whether they are.
    pub fn expects(&self) -> bool {
        self.pools.source.own.connector().expectation().is_set()
    }

    /// Nor may a side's generation be older than this one, which was seen of it.
    pub fn expect_generation(&self, side: Side, generation: i64) {
        for connector in self.pools.of(side).connectors() {
            connector.expectation().set_floor(generation);
        }
    }

    /// Closes all sessions with a side, whatever they do.
    pub fn close_all(&self, side: Side) {
        for connector in self.pools.of(side).connectors() {
            connector.expectation().close_all();
        }
    }

    /// Sessions for looking at the generations of both sides.
    pub fn looks(&self) -> Sides<Pool> {
        self.each(|pools| pools.looks.clone())
    }

    /// What lets callers' writes through.
    pub fn fence(&self) -> &FenceControl {
        &self.fence
    }

    /// Opens a session that may hold the fence of a side.
    ///
    /// # Errors
    ///
    /// `Unavailable` where there is none to be had.
    pub async fn exclusive(&self, side: Side, lease: Duration) -> Result<Exclusive, SqlFault> {
        Exclusive::open(self.pools.of(side).control.connector(), lease).await
    }

    /// Places where tests end or stop the process.
    pub fn failpoints(&self) -> &FailPoints {
        &self.failpoints
    }

    /// A pool for one long piece of work, whose sessions bear a name of their own.
    ///
    /// # Errors
    ///
    /// A connection string or a certificate that cannot be used.
    pub fn separate(
        config: &Config,
        side: Side,
        size_max: usize,
        application_name: Option<String>,
    ) -> Result<Pool, SqlFault> {
        let database = config.database(side);
        let mut dsn = database.dsn.clone();
        if let Some(name) = application_name {
            dsn.application_name = name;
        }
        let connector = Connector::new(side, dsn).map_err(|message| unusable(side, message))?;
        let params = pool::Params::new(Purpose::Own, size_max, database.pool_wait_max);
        let limits = SessionLimits::own(config.control.lease);
        Pool::new(connector, pool::Params { limits, ..params })
    }

    /// Segue's own sessions.
    pub fn own(&self) -> Sides<Pool> {
        self.each(|pools| pools.own.clone())
    }

    /// Sessions like those that callers' reads run in.
    pub fn of_callers(&self) -> Sides<Pool> {
        self.each(|pools| pools.samples.clone())
    }

    /// Sessions for the control row and the fleet.
    pub fn control(&self) -> Sides<Pool> {
        self.each(|pools| pools.control.clone())
    }

    /// Sessions for callers' writes and transactions.
    pub fn writes(&self, side: Side) -> &Pool {
        &self.pools.of(side).writes
    }

    /// Sessions for samples, which are as those for callers' reads, of the same role.
    pub fn samples(&self, side: Side) -> &Pool {
        &self.pools.of(side).samples
    }

    /// Sessions for writes to tables that are not migrated, where the side is not the primary.
    pub fn staying(&self, side: Side) -> &Pool {
        &self.pools.of(side).staying
    }

    /// How many of those there may be.
    pub fn staying_max(&self, side: Side) -> usize {
        self.staying(side).status().size_max
    }

    /// How many sessions there may be with each side at a time: as segue's role, and in all.
    pub fn sessions_max(&self, config: &Config) -> Sides<(usize, usize)> {
        let of = |side| {
            let pools = self.pools.of(side);
            let sum = |pools: &[&Pool]| pools.iter().map(|pool| pool.status().size_max).sum();
            let sweep = if config.verify.sweep { SWEEP_SESSIONS } else { 0 };
            let own: usize = sum(&[&pools.own, &pools.control, &pools.looks]) + sweep;
            let callers: usize =
                sum(&[&pools.reads, &pools.writes, &pools.samples, &pools.staying]);
            match config.database(side).application {
                Some(_) => (own, own + callers),
                None => (own + callers, own + callers),
            }
        };
        Sides { source: of(Side::Source), target: of(Side::Target) }
    }

    /// What writes run on where the side is not the primary.
    pub fn owning(&self, tasks: &TaskTracker) -> Sides<Arc<dyn Database>> {
        self.each(|pools| executor(&pools.reads, &pools.staying, tasks))
    }

    /// What the callers' statements run on.
    pub fn executing(&self, tasks: &TaskTracker) -> Sides<Arc<dyn Database>> {
        self.each(|pools| executor(&pools.reads, &pools.writes, tasks))
    }

    /// What samples run on.
    pub fn sampling(&self, tasks: &TaskTracker) -> Sides<Arc<dyn Database>> {
        self.each(|pools| executor(&pools.samples, &pools.own, tasks))
    }

    /// Lets a scrape ask the pools.
    pub fn watch(&self, metrics: &Metrics) {
        let memory = self.memory.clone();
        metrics.watch_memory(move || memory.state());
        for side in [Side::Source, Side::Target] {
            let pools = self.pools.of(side).clone();
            let all = [
                ("read", pools.reads),
                ("write", pools.writes),
                ("own", pools.own),
                ("control", pools.control),
                ("sample", pools.samples),
                ("staying", pools.staying),
            ];
            for (name, pool) in all {
                metrics.watch_pool(side, name, move || state(&pool));
            }
        }
    }

    fn each<T>(&self, of: impl Fn(&Pools) -> T) -> Sides<T> {
        Sides { source: of(&self.pools.source), target: of(&self.pools.target) }
    }
}

// === impl Pools ===

impl Pools {
    /// That of segue's own sessions, and that of callers'.
    fn connectors(&self) -> [&Connector; 2] {
        [self.own.connector(), self.reads.connector()]
    }

    fn open(
        side: Side,
        config: &config::Database,
        (samples, lease, callers_limits): (usize, Duration, SessionLimits),
        answers: &ByteBudget,
        fence: &FenceControl,
    ) -> Result<Self, SqlFault> {
        let unusable = |message: String| {
            SqlFault::new(FaultKind::InvalidArgument, Reason::ConfigDsn, message).on(side)
        };
        let connector = |dsn: &Dsn| Connector::new(side, dsn.clone()).map_err(&unusable);
        let own = connector(&config.dsn)?;
        let callers = match &config.application {
            Some(login) => connector(login)?,
            None => own.clone(),
        }
        .with_answers(answers);
        let pool = |purpose, size_max| {
            let limits = match purpose {
                Purpose::Own => SessionLimits::own(lease),
                Purpose::Read | Purpose::Write => callers_limits,
            };
            pool::Params { limits, ..pool::Params::new(purpose, size_max, config.pool_wait_max) }
        };
        let control = pool::Params {
            limits: SessionLimits::control(lease),
            ..pool(Purpose::Own, CONTROL_SESSIONS_MAX)
        };
        let (readers, named) = (fence.readers(side), fence.writers(side));
        let fence = fence.fence(side, config.pool_wait_max);
        let writes = pool(Purpose::Write, config.write_pool_max);
        let own_work = pool(Purpose::Own, config.own_pool_max);
        let looks = pool(Purpose::Own, LOOK_SESSIONS_MAX);
        let reads = pool(Purpose::Read, config.read_pool_max);
        let samples = pool(Purpose::Read, samples);
        let staying = pool(Purpose::Write, config.write_pool_max.min(STAYING_SESSIONS_MAX));
        Ok(Self {
            looks: Pool::new(own.of_any_age(), looks)?,
            control: Pool::new(own.clone(), control)?,
            own: Pool::new(own, own_work)?,
            reads: Pool::of_readers(callers.clone(), reads, readers)?,
            writes: Pool::fenced(callers.clone(), writes, fence)?,
            samples: Pool::new(callers.clone(), samples)?,
            staying: Pool::of_writers(callers, staying, named)?,
        })
    }
}

/// Reads the certificates of both sides as sessions do, without opening any.
///
/// # Errors
///
/// A certificate or a key that cannot be used.
pub fn check_certificates(config: &Config) -> Result<(), SqlFault> {
    for side in [Side::Source, Side::Target] {
        let database = config.database(side);
        for dsn in [Some(&database.dsn), database.application.as_ref()].into_iter().flatten() {
            Connector::new(side, dsn.clone()).map_err(|message| unusable(side, message))?;
        }
    }
    Ok(())
}

fn unusable(side: Side, message: String) -> SqlFault {
    SqlFault::new(FaultKind::InvalidArgument, Reason::ConfigDsn, message).on(side)
}

fn executor(reads: &Pool, writes: &Pool, tasks: &TaskTracker) -> Arc<dyn Database> {
    Arc::new(PostgresDatabase::new(database::Params {
        reads: ReadConnections::new(reads.clone()),
        writes: writes.clone(),
        tasks: tasks.clone(),
    }))
}

fn state(pool: &Pool) -> PoolState {
    let status = pool.status();
    PoolState {
        in_use: status.open.saturating_sub(status.idle) as u64,
        open: status.open as u64,
        waiting: status.waiting as u64,
        size_max: status.size_max as u64,
    }
}
