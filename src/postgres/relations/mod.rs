//! Which relations and functions each side has, kept in memory and looked at again and again.
//!
//! A call asks memory alone. What a statement names and the catalogue does not know is looked for
//! at once, for the next call; until then it counts as not migrated. A change of the catalogue is
//! noticed within `LOOK_INTERVAL`; where a side cannot be asked for `STALE_AFTER`, nothing is
//! shifted or sampled by what was known of it.

mod load;
mod seen;
mod sql;
mod staying;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::control::Phase;
use crate::domain::fault::SqlFault;
use crate::domain::reach::{Catalogue, Catalogues, Noted, Policy, Reach};
use crate::domain::side::{Side, Sides};
use crate::ports::relations::Relations;
use crate::postgres::pool::Pool;
use crate::statement::Analysis;
use crate::telemetry::retries::Retries;
use seen::Seen;

pub use staying::staying;

/// Between two looks at whether a catalogue has changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// CockroachDB's is read whole each time.
const READ_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks that statements asked for, which may name what is not there over and over.
const ASKED_INTERVAL: Duration = Duration::from_millis(100);
/// How long a session that callers' samples use is waited for.
const PATH_LIMIT: Duration = Duration::from_millis(500);
/// After that long without a look a catalogue is not relied on.
const STALE_AFTER: Duration = Duration::from_secs(15);

/// Pools of one side.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Segue's own, for the catalogue.
    pub own: Pool,
    /// Sessions as callers' reads have them, for their search path.
    pub reads: Pool,
}

/// What is known of both sides' relations. Clones share it.
#[derive(Debug, Clone)]
pub struct KnownRelations {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pools: Sides<Pools>,
    policy: Policy,
    catalogues: Mutex<Catalogues>,
    /// Rises with every change of either catalogue.
    version: AtomicU64,
    /// When each was looked at last, in milliseconds since `began`; 0 for never.
    looked: Sides<AtomicU64>,
    began: Instant,
    wanted: Sides<Notify>,
    seen: Seen,
}

// === impl KnownRelations ===

impl KnownRelations {
    /// Nothing is known yet. [`KnownRelations::follow`] must run for each side.
    pub fn new(pools: Sides<Pools>, policy: Policy) -> Self {
        Self {
            inner: Arc::new(Inner {
                pools,
                policy,
                catalogues: Mutex::new(Sides { source: None, target: None }),
                version: AtomicU64::new(1),
                looked: Sides { source: AtomicU64::new(0), target: AtomicU64::new(0) },
                began: Instant::now(),
                wanted: Sides { source: Notify::new(), target: Notify::new() },
                seen: Seen::default(),
            }),
        }
    }

    /// Looks at a side's catalogue once, where it can be had within `limit`.
    pub async fn look(&self, side: Side, limit: Duration) {
        let looked = tokio::time::timeout(limit, self.read(side, &mut None)).await;
        if !matches!(looked, Ok(Ok(()))) {
            tracing::warn!(%side, "the catalogue could not be read yet; what it has counts as not migrated");
        }
    }

    /// Follows a side's catalogue until `stop`.
    pub async fn follow(self, side: Side, retries: Retries, stop: CancellationToken) {
        let mut stamp = None;
        loop {
            let read = self.read(side, &mut stamp).await;
            retries.note("catalogue", side.as_str(), &read);
            let interval = match read {
                Ok(()) if stamp.is_none() => READ_INTERVAL,
                Ok(()) => LOOK_INTERVAL,
                Err(fault) => {
                    tracing::debug!(%side, %fault, "the catalogue could not be looked at");
                    LOOK_INTERVAL
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ASKED_INTERVAL) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval.saturating_sub(ASKED_INTERVAL)) => {}
                () = self.inner.wanted.of(side).notified() => {}
            }
        }
    }

    /// Reads a side's catalogue where it has changed since `stamp`.
    async fn read(&self, side: Side, stamp: &mut Option<String>) -> Result<(), SqlFault> {
        let inner = &self.inner;
        let Pools { own, reads } = inner.pools.of(side);
        let asked = inner.began.elapsed();
        let path = inner.search_path(side, reads).await?;
        let now = load::stamp(own).await?.map(|now| format!("{now}/{}", path.join(",")));
        if now.is_none() || now != *stamp {
            // Stamped before it is read: what changes meanwhile is read again.
            let catalogue = Arc::new(load::load(own, path, None).await?);
            inner.keep(side, catalogue);
            *stamp = now;
        }
        let asked = u64::try_from(asked.as_millis()).unwrap_or(u64::MAX).max(1);
        inner.looked.of(side).store(asked, Ordering::Release);
        Ok(())
    }
}

// === impl Inner ===

impl Inner {
    /// Callers' search path; as it was last, where all sessions like theirs are at work.
    async fn search_path(&self, side: Side, reads: &Pool) -> Result<Vec<String>, SqlFault> {
        let last = self.catalogues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last = last.of(side).as_ref().map(|catalogue| catalogue.search_path.clone());
        match (tokio::time::timeout(PATH_LIMIT, load::search_path(reads)).await, last) {
            (Ok(Ok(path)), _) => Ok(path),
            (_, Some(last)) => Ok(last),
            (Ok(Err(fault)), None) => Err(fault),
            (Err(_), None) => load::search_path(reads).await,
        }
    }

    fn keep(&self, side: Side, catalogue: Arc<Catalogue>) {
        let mut catalogues = self.catalogues.lock().unwrap_or_else(PoisonError::into_inner);
        match side {
            Side::Source => catalogues.source = Some(catalogue),
            Side::Target => catalogues.target = Some(catalogue),
        }
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn resolve(&self, analysis: &Analysis, phase: Phase, any_schema: bool) -> Reach {
        let catalogues = self.catalogues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reach = if any_schema { Reach::in_any_schema } else { Reach::of };
        reach(&analysis.named, phase, &catalogues, &self.policy)
    }

    fn reach(&self, analysis: &Analysis, phase: Phase, any_schema: bool) -> Arc<Reach> {
        // The phase is a part of the stamp; what is resolved by a newer catalogue than it says is
        // resolved again by the next call.
        let stamp = self.version.load(Ordering::Acquire) * 8 + phase as u64;
        let kept = if any_schema { &analysis.reach_in_any_schema } else { &analysis.reach };
        let reach = kept.get(stamp, || self.resolve(analysis, phase, any_schema));
        if reach.missing {
            self.wanted.of(phase.primary()).notify_one();
        }
        reach
    }
}

impl Relations for KnownRelations {
    fn reach(&self, analysis: &Analysis, phase: Phase) -> Arc<Reach> {
        self.inner.reach(analysis, phase, false)
    }

    fn reach_in_any_schema(&self, analysis: &Analysis, phase: Phase) -> Arc<Reach> {
        self.inner.reach(analysis, phase, true)
    }

    fn is_fresh(&self, side: Side) -> bool {
        let looked = self.inner.looked.of(side).load(Ordering::Acquire);
        let age = self.inner.began.elapsed().saturating_sub(Duration::from_millis(looked));
        looked > 0 && age < STALE_AFTER
    }

    fn note(&self, analysis: &Analysis, reach: &Reach) {
        self.inner.seen.note(analysis, reach);
    }

    fn noted(&self) -> Vec<Noted> {
        let inner = &self.inner;
        inner.seen.noted(|analysis, any| inner.resolve(analysis, Phase::Shift, any))
    }
}
