//! Sampled reads, run on the shadow and compared, off the caller's path.
//!
//! ```text
//! caller's answer ── offer ──▶ [permit?] ── first look ──▶ equal: recorded
//!                       │                        └─ differs ─▶ [permit?] ── look again ──▶ recorded
//!                       └─ no permit: dropped, counted            └─ no permit: dropped, counted
//! ```
//!
//! Nothing waits in a queue: a sample is being judged, or it was dropped and counted.

mod gather;
mod judge;
mod look;
mod read;
mod sampler;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::compare;
use crate::compare::rules::Rules;
use crate::domain;
use crate::domain::budget::ByteBudget;
use crate::domain::call::{BoundStatement, ResultLimits};
use crate::domain::status::SamplingStatus;
use crate::domain::verdict::{Comparison, Verdict};
use crate::jobs::shadow_reads::gather::Gathering;
use crate::jobs::shadow_reads::judge::judge;
use crate::jobs::shadow_reads::look::Looks;
use crate::jobs::shadow_reads::sampler::Sampler;
use crate::ports::admin::SamplingControl;
use crate::ports::{Database, MismatchStore, PendingKeys, Sample, ShadowReads};
use crate::statement::{self, Analysis};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::names;
use crate::telemetry::spans::{self, Peer};

pub use crate::jobs::shadow_reads::sampler::SamplingParams;

/// What the room needs to know.
#[derive(Debug, Clone)]
pub struct Params {
    /// Which reads are sampled.
    pub sampling: SamplingParams,
    /// Samples that are looked at for the first time, at once.
    pub concurrency_max: usize,
    /// Differing samples that are looked at again, at once.
    pub suspects_max: usize,
    /// Time that one statement of a sample may take on a side.
    pub deadline: Duration,
    /// Limits of an answer on the shadow; larger ones are skipped.
    pub limits: ResultLimits,
    /// Bytes of all answers that are kept at a time, those on their way to a caller among them.
    pub memory: ByteBudget,
    /// How often a difference must show before it is believed.
    pub looks: u32,
    /// Time between two looks.
    pub look_interval: Duration,
    /// Time to wait for the outbox rows that may explain a difference.
    pub pending_max: Duration,
    /// Different statements and verdicts remembered between two flushes.
    pub gathered_max: usize,
    /// Time between two writes to `segue.mismatch`.
    pub flush_interval: Duration,
    /// Whether examples show values.
    pub show_values: bool,
    /// What the comparer is told to overlook.
    pub rules: Rules,
    /// The databases as traces name them.
    pub peers: domain::side::Sides<Peer>,
}

/// The two sides of a comparison, and what may explain a difference between them.
#[derive(Clone)]
pub struct Sides {
    /// The source of truth, through connections that no caller waits for.
    pub primary: Arc<dyn Database>,
    /// The side that follows.
    pub shadow: Arc<dyn Database>,
    /// The primary's outbox.
    pub pending: Arc<dyn PendingKeys>,
}

impl std::fmt::Debug for Sides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sides")
            .field("primary", &self.primary.side())
            .field("shadow", &self.shadow.side())
            .finish_non_exhaustive()
    }
}

/// Takes samples and judges them. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ShadowReader {
    inner: Arc<Inner>,
}

/// 64 random bits.
type Dice = dyn Fn() -> u64 + Send + Sync;

struct Inner {
    params: Params,
    sampler: Sampler,
    dice: Arc<Dice>,
    sides: Sides,
    statements: Arc<statement::Cache>,
    first_looks: Arc<Semaphore>,
    second_looks: Arc<Semaphore>,
    gathering: Gathering,
    memory: ByteBudget,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("params", &self.params).finish_non_exhaustive()
    }
}

// === impl ShadowReader ===

impl ShadowReader {
    /// A reader that judges samples until `stop` is set. `random` gives 64 random bits, for
    /// reads that belong to no trace.
    pub fn new(
        params: Params,
        sides: Sides,
        statements: Arc<statement::Cache>,
        metrics: Metrics,
        random: Box<Dice>,
        stop: CancellationToken,
    ) -> Self {
        let dice: Arc<Dice> = random.into();
        let thrown = Arc::clone(&dice);
        Self {
            inner: Arc::new(Inner {
                sampler: Sampler::new(&params.sampling, Box::new(move || thrown())),
                dice,
                first_looks: Arc::new(Semaphore::new(params.concurrency_max)),
                second_looks: Arc::new(Semaphore::new(params.suspects_max)),
                gathering: Gathering::new(params.gathered_max),
                memory: params.memory.clone(),
                params,
                sides,
                statements,
                metrics,
                tasks: TaskTracker::new(),
                stop,
            }),
        }
    }

    /// Samples that are being judged now, at the first look and again.
    pub fn in_progress(&self) -> u64 {
        let Inner { params, first_looks, second_looks, .. } = &*self.inner;
        let first = params.concurrency_max.saturating_sub(first_looks.available_permits());
        let again = params.suspects_max.saturating_sub(second_looks.available_permits());
        (first + again) as u64
    }

    /// Writes what was gathered to the store until stopped, and once more then.
    /// If we crash here, the counts since the last flush are lost; a difference that is still
    /// there is found again by the next sample.
    pub async fn flush(self, store: Arc<dyn MismatchStore>) {
        let inner = &self.inner;
        let mut interval = tokio::time::interval(inner.params.flush_interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = tokio::select! {
                _ = interval.tick() => false,
                () = inner.stop.cancelled() => true,
            };
            if stopping {
                inner.tasks.close();
                inner.tasks.wait().await;
            }
            let gathered = inner.gathering.take();
            if !gathered.is_empty() {
                let written = store.add(&gathered).await;
                inner.metrics.retries().note("verdicts", "", &written);
                if let Err(fault) = written {
                    tracing::warn!(%fault, "verdicts could not be written to segue.mismatch; kept for the next flush");
                    inner.gathering.put_back(gathered);
                }
            }
            if stopping {
                return;
            }
        }
    }
}

impl ShadowReads for ShadowReader {
    fn selects(&self, statement: &BoundStatement, trace_id: Option<u128>) -> bool {
        let analysis = || self.inner.statements.get(&statement.sql).ok();
        let fingerprint = || analysis().map(|analysis| analysis.fingerprint.clone());
        self.inner.sampler.selects(statement.name.as_deref(), fingerprint, trace_id)
    }

    fn answer_bytes_max(&self) -> u64 {
        self.inner.params.limits.bytes_max
    }

    fn memory(&self) -> ByteBudget {
        self.inner.memory.clone()
    }

    fn offer(&self, sample: Sample) {
        let inner = Arc::clone(&self.inner);
        if inner.stop.is_cancelled() {
            inner.metrics.sample_dropped("stopping");
            return;
        }
        let Ok(permit) = Arc::clone(&inner.first_looks).try_acquire_owned() else {
            inner.metrics.sample_dropped("concurrency");
            return;
        };
        inner.metrics.sample_taken();
        let span = spans::shadow_read(&sample.span, inner.sides.shadow.side().as_str());
        spans::note_name(&span, sample.statement.name.as_deref());
        let tasks = inner.tasks.clone();
        tasks.spawn(
            async move {
                let suspect = inner.first_look(sample).await;
                drop(permit);
                if let Some(suspect) = suspect {
                    inner.second_look(suspect).await;
                }
            }
            .instrument(span),
        );
    }

    fn skipped(&self, _statement: &BoundStatement, reason: &'static str) {
        self.inner.metrics.sample_dropped(reason);
    }
}

impl SamplingControl for ShadowReader {
    fn status(&self) -> SamplingStatus {
        let seen = self.inner.metrics.snapshot();
        SamplingStatus {
            rate: self.inner.sampler.rate(),
            sampled_total: seen.samples_taken,
            dropped: seen.samples_dropped,
        }
    }

    fn set_rate(&self, rate: f64) -> f64 {
        self.inner.sampler.set_rate(rate)
    }
}

// === impl Inner ===

/// A sample whose two answers were not equal at the first look.
struct Suspect {
    statement: BoundStatement,
    analysis: Arc<Analysis>,
    first: Comparison,
}

impl Inner {
    async fn first_look(&self, sample: Sample) -> Option<Suspect> {
        let Ok(analysis) = self.statements.get(&sample.statement.sql) else {
            self.drop_sample("not_analysed");
            return None;
        };
        let rules = self.rules_for(&sample.statement, &analysis);
        if analysis.shape.environment || analysis.shape.system_catalog {
            // Skipped in any case, and what it does to a server is not to be done twice.
            let skipped = compare::compare(&analysis, &sample.observed, &sample.observed, &rules);
            self.record(&sample.statement, &analysis, skipped);
            return None;
        }
        let Sides { primary, shadow, .. } = &self.sides;
        let by_shadow = sample.answered_by == shadow.side();
        let other = if by_shadow { primary } else { shadow };
        let first = async {
            let asked = self.read(&**other, &sample.statement, &analysis).await?;
            // What the primary says stands first, whoever answered the caller.
            match by_shadow {
                true => judge(&analysis, &asked, &sample.observed, rules).await,
                false => judge(&analysis, &sample.observed, &asked, rules).await,
            }
        };
        let first = match first.await {
            Ok(first) => first,
            Err(reason) => {
                self.drop_sample(reason);
                return None;
            }
        };
        if first.verdict.is_finding() {
            return Some(Suspect { statement: sample.statement, analysis, first });
        }
        self.record(&sample.statement, &analysis, first);
        None
    }

    async fn second_look(&self, suspect: Suspect) {
        let Ok(_permit) = self.second_looks.try_acquire() else {
            self.drop_sample("suspects");
            return;
        };
        let looks = Looks { inner: self, suspect: &suspect };
        let judged = tokio::select! {
            judged = looks.settle() => judged,
            () = self.stop.cancelled() => Err("stopping"),
        };
        match judged {
            Ok(comparison) => self.record(&suspect.statement, &suspect.analysis, comparison),
            Err(reason) => self.drop_sample(reason),
        }
    }

    /// Between half the interval and one and a half of it: what changes by a rhythm of its
    /// own must not meet every look in the same state.
    fn pause(&self) -> Duration {
        // 53 bits are what a float holds exactly.
        #[allow(clippy::cast_precision_loss)]
        let unit = ((self.dice)() >> 11) as f64 / (1_u64 << 53) as f64;
        self.params.look_interval.mul_f64(0.5 + unit)
    }

    /// A sample that got no verdict, said on its span and counted.
    fn drop_sample(&self, reason: &'static str) {
        tracing::Span::current().record(names::DROPPED, reason);
        self.metrics.sample_dropped(reason);
    }

    fn rules_for(&self, statement: &BoundStatement, analysis: &Analysis) -> Rules {
        self.params.rules.for_statement(statement.name.as_deref(), &analysis.fingerprint)
    }

    fn record(&self, statement: &BoundStatement, analysis: &Analysis, comparison: Comparison) {
        self.metrics.verdict(comparison.verdict, comparison.category);
        spans::record_verdict(
            comparison.verdict.as_str(),
            comparison.category,
            comparison.rules.iter().copied(),
        );
        if comparison.verdict == Verdict::Data {
            tracing::warn!(
                fingerprint = %analysis.fingerprint,
                summary = %analysis.summary,
                place = comparison.example.as_ref().map(|example| example.place.as_str()),
                "the two sides hold different data",
            );
        }
        self.gathering.add(statement, analysis, comparison, self.params.show_values);
    }
}
