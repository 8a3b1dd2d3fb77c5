//! Which transactions are open, and what became of those that were.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::held::{Held, Open};
use crate::domain::call::TransactionId;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;

/// Ends that are remembered, so that a late call hears what happened.
const ENDED_MAX: usize = 4096;

/// Open transactions by their ids.
#[derive(Debug, Default)]
pub(super) struct Registry {
    open: HashMap<TransactionId, Arc<Open>>,
    ended: HashMap<TransactionId, String>,
    ended_order: VecDeque<TransactionId>,
}

// === impl Registry ===

impl Registry {
    pub(super) fn insert(&mut self, id: TransactionId, open: Open) {
        self.open.insert(id, Arc::new(open));
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes hold of a transaction for one call.
    pub(super) fn hold(&self, id: TransactionId) -> Result<Held, SqlFault> {
        let Some(open) = self.open.get(&id) else { return Err(self.not_found(id)) };
        Held::take(open).ok_or_else(|| {
            SqlFault::new(
                FaultKind::Precondition,
                Reason::TransactionInUse,
                "another call runs in this transaction, or its answer has not been read to its end",
            )
            .with_hint("make one call at a time in a transaction")
            .retryable()
        })
    }

    /// Takes hold of a transaction in order to end it: no further call finds it.
    pub(super) fn hold_to_end(
        &mut self,
        id: TransactionId,
        how: impl Into<String>,
    ) -> Result<Held, SqlFault> {
        let held = self.hold(id)?;
        self.open.remove(&id);
        self.remember(id, how.into());
        Ok(held)
    }

    /// Ends a transaction that nobody goes on with. A call that is in it is its last one, and rolls
    /// back when it is done.
    pub(super) fn abandon(&mut self, id: TransactionId, how: &str) -> Option<Held> {
        if let Some(open) = self.open.get(&id) {
            open.abandon();
        }
        match self.hold_to_end(id, how) {
            Ok(held) => {
                held.open().taken_over();
                Some(held)
            }
            Err(_) => {
                if self.open.remove(&id).is_some() {
                    self.remember(id, how.to_owned());
                }
                None
            }
        }
    }

    fn remember(&mut self, id: TransactionId, how: String) {
        if self.ended_order.len() >= ENDED_MAX
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        self.ended_order.push_back(id);
        self.ended.insert(id, how);
    }

    fn not_found(&self, id: TransactionId) -> SqlFault {
        let message = match self.ended.get(&id) {
            Some(how) => format!("the transaction {how}"),
            None => "the transaction is not known here: it was begun by another sidecar, or \
                     ended long ago"
                .to_owned(),
        };
        SqlFault::new(FaultKind::NotFound, Reason::TransactionNotFound, message)
            .with_hint("begin a new transaction")
    }

    /// Ends transactions whose time is over. Those in use past their total time are returned
    /// second: their statement is to be cancelled.
    pub(super) fn expired(&mut self, now: Instant) -> (Vec<Held>, Vec<Arc<Open>>) {
        let mut overdue = Vec::new();
        let mut ends = Vec::new();
        for (id, open) in &self.open {
            let idle_over = open.expires_idle_at().is_some_and(|at| at <= now);
            if open.ends_at <= now {
                let seconds = open.total_max.as_secs_f64();
                ends.push((
                    *id,
                    format!("was rolled back: it was open for {seconds} s, its limit"),
                ));
                overdue.push(Arc::clone(open));
            } else if idle_over {
                let seconds = open.idle_max.as_secs_f64();
                ends.push((*id, format!("was rolled back after {seconds} s without a call")));
            }
        }
        let held: Vec<_> =
            ends.into_iter().filter_map(|(id, how)| self.hold_to_end(id, how).ok()).collect();
        overdue.retain(|open| open.expires_idle_at().is_none() && !held.iter().any(|h| h.is(open)));
        (held, overdue)
    }

    /// Ends all transactions that no call is in.
    pub(super) fn end_all(&mut self, how: &str) -> Vec<Held> {
        let ids: Vec<_> = self.open.keys().copied().collect();
        ids.into_iter().filter_map(|id| self.hold_to_end(id, how).ok()).collect()
    }
}
