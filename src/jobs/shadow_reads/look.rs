//! Looking again before a difference is believed.
//!
//! One look: the primary is asked, then everything that its outbox held at that moment is
//! waited for, then the shadow is asked, then the primary once more. If the primary's two
//! answers agree and the shadow's differs, no reconcile explains it: whatever was committed
//! before the first answer has reached the shadow, and what was committed since did not
//! change the answer. A value that was changed and changed back in between is the exception.
//! So a look counts in full only where nothing of its tables was written meanwhile; where
//! something always is, a difference must show in many looks.

use std::time::Duration;

use tokio::time::Instant;

use crate::compare;
use crate::domain::answer::Observed;
use crate::domain::call::BoundStatement;
use crate::domain::value::Value;
use crate::domain::verdict::{Comparison, Verdict};
use crate::jobs::shadow_reads::{Inner, Suspect};
use crate::statement::Analysis;

const PENDING_POLL: Duration = Duration::from_millis(50);
/// Looks into tables that are being written count so much less than quiet ones.
const BUSY_FACTOR: u32 = 4;

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
    Differs {
        comparison: Comparison,
        /// Whether nothing of the statement's tables was written during the look.
        quiet: bool,
    },
    /// The primary's own two answers differ.
    Moving,
    /// Outbox rows from before are still waiting.
    Pending(Whose),
}

/// What several looks at one statement gave.
enum Seen {
    /// The sides agree, or cannot be compared.
    Settled(Comparison),
    /// They differ again and again.
    Differs(Comparison),
    /// The primary changes all the time.
    Moving,
    /// The outbox holds what may explain it.
    Pending(Whose),
}

/// Whose outbox rows wait.
#[derive(Debug, Clone, Copy)]
enum Whose {
    /// Those of the very rows that differ.
    Rows,
    /// Those of a table, in which the rows cannot be told.
    Table,
}

/// Whether what the outbox held has been reconciled.
enum Passed {
    /// There was nothing, or it is; whether it had to be waited for.
    Yes { waited: bool },
    /// It takes too long.
    No(Whose),
}

impl Looks<'_> {
    /// The verdict to believe. The error is a reason for dropping the sample.
    pub(super) async fn settle(&self) -> Result<Comparison, &'static str> {
        match self.see(&self.suspect.statement, &self.suspect.analysis).await? {
            Seen::Settled(comparison) => Ok(comparison),
            Seen::Differs(comparison) => self.with_evidence(comparison).await,
            Seen::Pending(Whose::Rows) => Ok(self.instead(
                Verdict::Pending,
                "the keys of the rows that differ are pending in the outbox",
            )),
            Seen::Pending(Whose::Table) => Ok(self.instead(
                Verdict::Pending,
                "keys of its tables are pending in the outbox, and which rows differ cannot be \
                 told by their keys",
            )),
            Seen::Moving => {
                Ok(self.instead(Verdict::Noise, "the primary does not give the same answer twice"))
            }
        }
    }

    /// Looks until one thing is seen often enough.
    async fn see(
        &self,
        statement: &BoundStatement,
        analysis: &Analysis,
    ) -> Result<Seen, &'static str> {
        let enough = self.inner.params.looks.max(1);
        let (mut quiet_ones, mut differing, mut moving) = (0, 0, 0);
        loop {
            match self.look(statement, analysis).await? {
                Look::Settled(comparison) => return Ok(Seen::Settled(comparison)),
                Look::Pending(whose) => return Ok(Seen::Pending(whose)),
                Look::Moving => {
                    moving += 1;
                    if moving >= enough * BUSY_FACTOR {
                        return Ok(Seen::Moving);
                    }
                }
                Look::Differs { comparison, quiet } => {
                    quiet_ones += u32::from(quiet);
                    differing += 1;
                    if quiet_ones >= enough || differing >= enough * BUSY_FACTOR {
                        return Ok(Seen::Differs(comparison));
                    }
                }
            }
            tokio::time::sleep(self.inner.pause()).await;
        }
    }

    async fn look(
        &self,
        statement: &BoundStatement,
        analysis: &Analysis,
    ) -> Result<Look, &'static str> {
        let inner = self.inner;
        let tables = &self.suspect.analysis.tables;
        let rules = self.rules(statement);
        let since = inner.sides.pending.mark().await.map_err(|_| "unavailable")?;
        let before = inner.read(&*inner.sides.primary, statement, analysis).await?;
        let waited = match self.outbox_has_passed(statement, analysis, &before).await? {
            Passed::Yes { waited } => waited,
            Passed::No(whose) => return Ok(Look::Pending(whose)),
        };
        let shadow = inner.read(&*inner.sides.shadow, statement, analysis).await?;
        let after = inner.read(&*inner.sides.primary, statement, analysis).await?;
        let comparison = compare::compare(analysis, &before, &shadow, &rules);
        if !comparison.verdict.is_finding() {
            return Ok(Look::Settled(comparison));
        }
        let itself = compare::compare(analysis, &before, &after, &rules);
        if itself.verdict.is_finding() {
            return Ok(Look::Moving);
        }
        let pending = &inner.sides.pending;
        let quiet = !waited && pending.quiet(tables, since).await.map_err(|_| "unavailable")?;
        Ok(Look::Differs { comparison, quiet })
    }

    /// Waits until what the outbox holds now is reconciled, and tells whether there was any such
    /// row. Where the keys of the rows that differ can be told, only theirs count: a key that is
    /// stuck says nothing of the other rows of its table.
    async fn outbox_has_passed(
        &self,
        statement: &BoundStatement,
        analysis: &Analysis,
        before: &Observed,
    ) -> Result<Passed, &'static str> {
        let pending = &self.inner.sides.pending;
        let until = Instant::now() + self.inner.params.pending_max;
        let mark = pending.mark().await.map_err(|_| "unavailable")?;
        let tables = &self.suspect.analysis.tables;
        if !pending.pending(tables, mark).await.map_err(|_| "unavailable")? {
            return Ok(Passed::Yes { waited: false });
        }
        let shadow = self.inner.read(&*self.inner.sides.shadow, statement, analysis).await?;
        let rows = compare::differing::rows(analysis, &statement.params, before, &shadow);
        drop(shadow);
        loop {
            let of_rows = match &rows {
                Some(rows) => pending.pending_rows(rows, mark).await.map_err(|_| "unavailable")?,
                None => None,
            };
            let (whose, waits) = match of_rows {
                Some(waits) => (Whose::Rows, waits),
                None => {
                    let waits = pending.pending(tables, mark).await;
                    (Whose::Table, waits.map_err(|_| "unavailable")?)
                }
            };
            if !waits {
                return Ok(Passed::Yes { waited: true });
            }
            if Instant::now() >= until {
                return Ok(Passed::No(whose));
            }
            tokio::time::sleep(PENDING_POLL).await;
        }
    }

    /// Runs the machine's rewrites on both sides: a difference that a rewrite of the statement
    /// removes lies in the statement, one that remains may lie in the data. The rewrites are
    /// looked at with the same care as the statement, and so is the statement once more: a
    /// lag that has gone meanwhile must not look like evidence.
    async fn with_evidence(&self, first: Comparison) -> Result<Comparison, &'static str> {
        let inner = self.inner;
        // Before the rewrites: those write literals anew, and could explain by that what lies in
        // the way in which a session reads them.
        let mut judged = first;
        if (judged.verdict == Verdict::Data || judged.suspected)
            && let Some(explained) = self.by_settings(&judged).await?
        {
            return Ok(explained);
        }
        let params = &self.suspect.statement.params;
        // Where no parameter is a text, nothing is compared with one but constants.
        let texts = params.is_empty() || params.iter().any(|it| matches!(it, Value::Text(_)));
        for rewrite in compare::rewrite::machine(&self.suspect.analysis) {
            if rewrite.category == "citext" && !texts {
                continue;
            }
            let Ok(rewritten) = inner.statements.get(&rewrite.sql) else {
                continue;
            };
            let statement = BoundStatement {
                sql: rewrite.sql.as_str().into(),
                ..self.suspect.statement.clone()
            };
            let (Seen::Settled(second) | Seen::Differs(second)) =
                self.see(&statement, &rewritten).await?
            else {
                continue;
            };
            judged = compare::with_evidence(judged, &rewrite, second);
            if judged.verdict == Verdict::Incompatible && !judged.suspected {
                return self.unless_gone(judged).await;
            }
        }
        Ok(judged)
    }

    /// The proven verdict, unless the statement itself agrees by now.
    pub(super) async fn unless_gone(&self, proven: Comparison) -> Result<Comparison, &'static str> {
        match self.see(&self.suspect.statement, &self.suspect.analysis).await? {
            Seen::Settled(comparison) => Ok(comparison),
            Seen::Differs(_) => Ok(proven),
            Seen::Moving | Seen::Pending(_) => Ok(Comparison { suspected: true, ..proven }),
        }
    }

    /// Rules go by the statement that the caller sent.
    fn rules(&self, statement: &BoundStatement) -> crate::compare::rules::Rules {
        self.inner.rules_for(statement, &self.suspect.analysis)
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
