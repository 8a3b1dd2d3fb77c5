//! `cutover.full_verify`: tables that are compared whole while no one can write.
//!
//! What that takes is predicted from a few of their chunks before anything is held; a prediction
//! above the limit of the pause refuses the cutover. Under the fence nothing waits in the outbox
//! any more, so a row that differs has no excuse, and calls the cutover off.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::{Run, prove};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key_range::KeyRange;
use crate::domain::reason::Reason;
use crate::domain::rounded::rounded;
use crate::domain::table::TableName;
use crate::postgres::verify::{Params, Table, Verifier};

/// Chunks at once: the pause is what counts now, and both servers are otherwise quiet.
const WORKERS_MAX: usize = 4;
/// The prediction comes from chunks that lie in memory by then; the others may not.
const MARGIN: f64 = 1.5;

/// Tables to be compared whole, cut into chunks before anything is held.
pub(super) struct Whole {
    verifier: Verifier,
    tables: Vec<(TableName, Table, Vec<KeyRange>)>,
}

// === impl Whole ===

impl Whole {
    /// The rows of a chunk, which must be equal, with the number of its table.
    async fn one(
        &self,
        (at, name, table): (usize, &TableName, &Table),
        range: &KeyRange,
    ) -> Result<(usize, u64), SqlFault> {
        let done = self.verifier.one_chunk(table, range.clone()).await?;
        if let Some(fault) = prove::difference(name, &done) {
            return Err(fault);
        }
        if done.is_equal() {
            return Ok((at, done.rows));
        }
        let message = format!("not every row of {name} could be compared while writes were held");
        Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedDiffers, message)
            .with_hint("see `segue verify` and `segue outbox`, then try again"))
    }

    /// Compares as many chunks of every table as can be compared at once, and reckons from these
    /// how long all of them take.
    async fn predicted(&self) -> Result<Duration, SqlFault> {
        let workers = self.verifier.params().workers;
        let mut predicted = Duration::ZERO;
        for (name, table, ranges) in &self.tables {
            let step = ranges.len().div_ceil(workers).max(1);
            let begun = Instant::now();
            let mut some = Vec::new();
            for range in ranges.iter().step_by(step) {
                some.push(self.verifier.one_chunk(table, range.clone()).boxed());
            }
            let share = ranges.len() as f64 / some.len().max(1) as f64;
            for done in try_join_all(some).await? {
                // What waits in the outbox now does not under the fence.
                if let Some(fault) = prove::difference(name, &done) {
                    return Err(fault);
                }
            }
            predicted += begun.elapsed().mul_f64(share * MARGIN);
        }
        Ok(predicted)
    }
}

impl Run<'_> {
    /// Finds the tables of `cutover.full_verify`, and how long they will take; says so where
    /// there are any.
    pub(super) async fn predict_whole(&mut self) -> Result<Option<Duration>, SqlFault> {
        let patterns = &self.parts.config.cutover.full_verify;
        if patterns.is_empty() {
            return Ok(None);
        }
        let sessions =
            self.parts.config.source.own_pool_max.min(self.parts.config.target.own_pool_max);
        // Each takes a session on either side, and others are at work beside it.
        let workers = (sessions / 2).clamp(1, WORKERS_MAX);
        let pending_max = Duration::ZERO;
        let params = Params { workers, pending_max, ..Params::default() };
        let reconciler = Arc::clone(self.parts.reconcilers.of(self.from()));
        let verifier = Verifier::new(reconciler, params);
        let mut tables = Vec::new();
        for (name, table) in verifier.tables().await? {
            let table = table.map_err(|reason| prove::unverifiable(&name, &reason))?;
            let source_name = table.source_name(self.from());
            if patterns.iter().any(|pattern| pattern.names(source_name)) {
                let ranges = verifier.cut(&table).await?;
                tables.push((name, table, ranges));
            }
        }
        let without = patterns.iter().find(|pattern| {
            !tables.iter().any(|(_, table, _)| pattern.names(table.source_name(self.from())))
        });
        if let Some(pattern) = without {
            let message =
                format!("cutover.full_verify names {pattern}, and no such table is migrated");
            return Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedFullVerify, message)
                .with_hint("correct the name, or take it out"));
        }
        let whole = Whole { verifier, tables };
        let predicted = whole.predicted().await?;
        self.whole = Some(whole);
        Ok(Some(predicted))
    }

    /// Compares them, in the time that the pause has left.
    pub(super) async fn verify_whole(&mut self) -> Result<String, SqlFault> {
        let Some(whole) = self.whole.take() else { return Ok(String::new()) };
        let begun = Instant::now();
        let mut chunks: Vec<BoxFuture<'_, _>> = Vec::new();
        for (at, (name, table, ranges)) in whole.tables.iter().enumerate() {
            chunks.extend(ranges.iter().map(|range| whole.one((at, name, table), range).boxed()));
        }
        let (all, mut done) = (chunks.len(), 0);
        let mut rows = vec![0_u64; whole.tables.len()];
        let mut comparing = stream::iter(chunks).buffer_unordered(whole.verifier.params().workers);
        loop {
            match tokio::time::timeout_at(self.limit(), comparing.try_next()).await {
                Ok(Ok(Some((at, more)))) => {
                    done += 1;
                    if let Some(rows) = rows.get_mut(at) {
                        *rows += more;
                    }
                }
                Ok(Ok(None)) => break,
                Ok(Err(fault)) => return Err(fault),
                Err(_) => {
                    let message = format!(
                        "{done} of {all} chunks of the tables of cutover.full_verify were \
                         compared when the time of the pause was over"
                    );
                    return Err(SqlFault::new(
                        FaultKind::DeadlineExceeded,
                        Reason::CutoverFullVerify,
                        message,
                    )
                    .with_hint("raise --max-pause, or name fewer tables"));
                }
            }
        }
        drop(comparing);
        for ((_, table, _), compared) in whole.tables.iter().zip(&rows) {
            let source_name = table.source_name(self.from());
            let proof = self.proofs.iter_mut().find(|proof| proof.table == *source_name);
            if let Some(proof) = proof {
                proof.rows_under_fence = Some(*compared);
            }
        }
        Ok(format!(
            "; {} tables compared whole, {} rows in {}",
            whole.tables.len(),
            rows.iter().sum::<u64>(),
            rounded(begun.elapsed())
        ))
    }
}
