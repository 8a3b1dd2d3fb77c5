//! Gauges that ask the thing itself when they are read.
//!
//! A pool or a queue knows its own length; a counter kept beside it drifts after the first
//! forgotten decrement.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::domain::side::Side;

/// What a connection pool says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Connections lent out.
    pub in_use: u64,
    /// Connections open, lent out or not.
    pub open: u64,
    /// Callers that wait for one.
    pub waiting: u64,
    /// Connections that it may open at most.
    pub size_max: u64,
}

/// What the memory for rows and kept answers says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryState {
    /// Bytes that are held, those of samples included.
    pub held: u64,
    /// Bytes that there are.
    pub bytes_max: u64,
    /// How many wait for some of it.
    pub waiting: u64,
    /// How many have waited.
    pub waits: u64,
}

type Ask<T> = Arc<dyn Fn() -> T + Send + Sync>;
/// One figure of a pool.
type Column = fn(&PoolState) -> u64;

/// Everything that is asked at a scrape. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Probes {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Clone, Default)]
struct Inner {
    pools: Vec<(PoolLabels, Ask<PoolState>)>,
    queues: Vec<(QueueLabels, Ask<u64>)>,
    transactions: Option<Ask<u64>>,
    memory: Option<Ask<MemoryState>>,
}

#[derive(Debug, Clone, PartialEq, Eq, EncodeLabelSet)]
struct PoolLabels {
    side: &'static str,
    pool: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

// === impl Probes ===

impl Probes {
    pub(super) fn pool(&self, side: Side, pool: &'static str, ask: Ask<PoolState>) {
        let labels = PoolLabels { side: side.as_str(), pool };
        self.with(|inner| replace(&mut inner.pools, labels, ask));
    }

    pub(super) fn queue(&self, queue: &'static str, ask: Ask<u64>) {
        self.with(|inner| replace(&mut inner.queues, QueueLabels { queue }, ask));
    }

    pub(super) fn transactions(&self, ask: Ask<u64>) {
        self.with(|inner| inner.transactions = Some(ask));
    }

    pub(super) fn memory(&self, ask: Ask<MemoryState>) {
        self.with(|inner| inner.memory = Some(ask));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A pool that is opened again takes the place of the earlier one: two series with the same
/// labels would make the whole scrape unreadable.
fn replace<L: PartialEq, T>(list: &mut Vec<(L, T)>, labels: L, ask: T) {
    list.retain(|(present, _)| *present != labels);
    list.push((labels, ask));
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probes")
    }
}

impl Collector for Probes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let build =
            BuildLabels { version: crate::telemetry::VERSION, commit: crate::telemetry::COMMIT };
        gauge(&mut encoder, "build_info", "What runs here; always 1", [(&build, 1)].into_iter())?;
        // Asked outside the lock, so that a slow answer holds up nobody who registers.
        let Inner { pools, queues, transactions, memory } = self.with(|inner| inner.clone());
        let pools: Vec<_> = pools.iter().map(|(labels, ask)| (labels, ask())).collect();
        let columns: [(&str, &str, Column); 4] = [
            ("pool_connections_in_use", "Connections lent out", |pool| pool.in_use),
            ("pool_connections_open", "Connections open", |pool| pool.open),
            ("pool_waiting", "Callers waiting for a connection", |pool| pool.waiting),
            ("pool_connections_max", "Connections allowed", |pool| pool.size_max),
        ];
        for (name, help, column) in columns {
            gauge(&mut encoder, name, help, pools.iter().map(|(l, pool)| (*l, column(pool))))?;
        }
        let queues = queues.iter().map(|(labels, ask)| (labels, ask()));
        gauge(&mut encoder, "queue_length", "Entries waiting in a queue of segue", queues)?;
        if let Some(memory) = memory.map(|ask| ask()) {
            of_memory(&mut encoder, memory)?;
        }
        let Some(open) = transactions.map(|ask| ask()) else { return Ok(()) };
        let help = "Transactions that span calls";
        let metric = encoder.encode_descriptor("transactions_open", help, None, MetricType::Gauge);
        ConstGauge::new(signed(open)).encode(metric?)
    }
}

fn of_memory(encoder: &mut DescriptorEncoder<'_>, memory: MemoryState) -> Result<(), fmt::Error> {
    let gauges = [
        ("memory_bytes_held", "Bytes of rows on their way and of kept answers", memory.held),
        ("memory_bytes_max", "Bytes that there are for them", memory.bytes_max),
        ("memory_waiting", "Copies waiting for memory", memory.waiting),
    ];
    for (name, help, value) in gauges {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(signed(value)).encode(metric)?;
    }
    let help = "Times that a copy has waited for memory";
    let metric = encoder.encode_descriptor("memory_waits", help, None, MetricType::Counter)?;
    ConstCounter::new(memory.waits).encode(metric)
}

fn gauge<'a, L: EncodeLabelSet + 'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'a L, u64)>,
) -> Result<(), fmt::Error> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(signed(value)).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
