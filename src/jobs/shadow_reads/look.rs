//! Looking again before a difference is believed.
//!
//! One look: the primary is asked, then everything that its outbox held at that moment is
//! waited for, then the shadow is asked, then the primary once more. If the primary's two
//! answers agree and the shadow's differs, no reconcile explains it: whatever was committed
//! before the first answer has reached the shadow, and what was committed since did not
//! change the answer. A value that was changed and changed back in between is the exception,
//! so that a difference must show in several looks.

use std::time::Duration;

use tokio::time::Instant;

use crate::compare;
use crate::domain::call::BoundStatement;
use crate::domain::verdict::{Comparison, Verdict};
use crate::jobs::shadow_reads::{Inner, Suspect};

const PENDING_POLL: Duration = Duration::from_millis(50);

/// The looks at one suspect.
pub(super) struct Looks<'a> {
    pub(super) inner: &'a Inner,
    pub(super) suspect: &'a Suspect,
}

/// What one look gave.
enum Look {
    /// The sides agree by now, or cannot be compared.
    Settled(Comparison),
    /// They differ, and nothing explains it.
    Differs(Comparison),
    /// The primary's own two answers differ.
    Moving,
    /// Outbox rows from before are still waiting.
    Pending,
}

impl Looks<'_> {
    /// The verdict to believe. The error is a reason for dropping the sample.
    pub(super) async fn settle(&self) -> Result<Comparison, &'static str> {
        let mut differs = 0;
        let mut moving = 0;
        loop {
            match self.look(&self.suspect.statement).await? {
                Look::Settled(comparison) => return Ok(comparison),
                Look::Pending => {
                    return Ok(
                        self.instead(Verdict::Pending, "keys of its tables wait in the outbox")
                    );
                }
                Look::Moving => {
                    moving += 1;
                    if moving >= self.inner.params.looks {
                        return Ok(self.instead(
                            Verdict::Noise,
                            "the primary does not give the same answer twice",
                        ));
                    }
                }
                Look::Differs(comparison) => {
                    differs += 1;
                    if differs >= self.inner.params.looks {
                        return self.with_evidence(comparison).await;
                    }
                }
            }
            tokio::time::sleep(self.inner.params.look_interval).await;
        }
    }

    async fn look(&self, statement: &BoundStatement) -> Result<Look, &'static str> {
        let inner = self.inner;
        let analysis = &self.suspect.analysis;
        let rules = inner.rules_for(statement, analysis);
        let before = inner.read(&*inner.sides.primary, statement).await?;
        if !self.outbox_has_passed().await? {
            return Ok(Look::Pending);
        }
        let shadow = inner.read(&*inner.sides.shadow, statement).await?;
        let after = inner.read(&*inner.sides.primary, statement).await?;
        let comparison = compare::compare(analysis, &before, &shadow, &rules);
        if !comparison.verdict.is_finding() {
            return Ok(Look::Settled(comparison));
        }
        let itself = compare::compare(analysis, &before, &after, &rules);
        if itself.verdict.is_finding() { Ok(Look::Moving) } else { Ok(Look::Differs(comparison)) }
    }

    /// Waits until what the outbox holds now is reconciled; `false` where that takes too long.
    async fn outbox_has_passed(&self) -> Result<bool, &'static str> {
        let pending = &self.inner.sides.pending;
        let until = Instant::now() + self.inner.params.pending_max;
        let mark = pending.mark().await.map_err(|_| "unavailable")?;
        loop {
            let tables = &self.suspect.analysis.tables;
            if !pending.pending(tables, mark).await.map_err(|_| "unavailable")? {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(PENDING_POLL).await;
        }
    }

    /// Runs the machine's rewrites on both sides: a difference that a rewrite of the statement
    /// removes lies in the statement, one that remains may lie in the data.
    async fn with_evidence(&self, first: Comparison) -> Result<Comparison, &'static str> {
        let inner = self.inner;
        let analysis = &self.suspect.analysis;
        let mut judged = first;
        for rewrite in compare::rewrite::machine(analysis) {
            let Ok(rewritten) = inner.statements.get(&rewrite.sql) else {
                continue;
            };
            let statement = BoundStatement {
                sql: rewrite.sql.as_str().into(),
                ..self.suspect.statement.clone()
            };
            let rules = inner.rules_for(&statement, analysis);
            let primary = inner.read(&*inner.sides.primary, &statement).await?;
            let shadow = inner.read(&*inner.sides.shadow, &statement).await?;
            let second = compare::compare(&rewritten, &primary, &shadow, &rules);
            judged = compare::with_evidence(judged, &rewrite, second);
            if judged.verdict == Verdict::Incompatible && !judged.suspected {
                break;
            }
        }
        Ok(judged)
    }

    fn instead(&self, verdict: Verdict, reason: &str) -> Comparison {
        Comparison {
            verdict,
            category: "",
            reason: reason.to_owned(),
            rewrite: String::new(),
            suspected: false,
            ..self.suspect.first.clone()
        }
    }
}
