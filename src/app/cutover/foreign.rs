//! Whoever wrote on the target past segue while that was noted, and not refused.

use std::time::Duration;

use tokio::time::Instant;

use super::Run;
use crate::control::change::bring_up;
use crate::domain::control::ControlRow;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::cutover::Exclusive;
use crate::postgres::fence::TRANSACTIONS;

/// One attempt at the lock, as short as those of the fence.
const ATTEMPT: Duration = Duration::from_millis(150);
/// Between two attempts.
const BREATH: Duration = Duration::from_millis(20);

impl Run<'_> {
    /// A transaction that wrote on the target before `shift` may still be open: its writes are noted,
    /// and the notes come with its commit. So, when the target's own row says that it refuses such
    /// writes, whoever has made one before is waited for: it holds the shared lock of captured
    /// transactions until its end, and who comes later finds that phase, also in an old snapshot. All
    /// notes that there will ever be are there then, and their keys are in the outbox after the look.
    pub(super) async fn end_foreign_writes(&self, row: &ControlRow) -> Result<(), SqlFault> {
        if self.request.to == Side::Source {
            // It has refused them as long as it has followed.
            return Ok(());
        }
        bring_up(self.parts.store.as_ref(), Side::Target, row).await?;
        let lease = self.parts.config.control.lease;
        let target = self.parts.databases.exclusive(Side::Target, lease).await?;
        if !target.is_mark() {
            self.wait_for_writers(&target).await?;
        }
        drop(target);
        let found = self.parts.foreign.look(true).await?;
        if found.waiting {
            let message = "notes of writes on the target are still being gone through";
            return Err(SqlFault::new(FaultKind::Unavailable, Reason::CutoverNotes, message)
                .with_hint("try again"));
        }
        let asked = !self.request.force && !self.request.rehearse;
        if let Some(writer) = found.open().next().filter(|_| asked) {
            let message = format!("a program writes past segue: {writer}");
            let fault =
                SqlFault::new(FaultKind::Precondition, Reason::RefusedForeignWrites, message);
            return Err(fault.with_hint("see `segue drift`"));
        }
        Ok(())
    }

    async fn wait_for_writers(&self, target: &Exclusive) -> Result<(), SqlFault> {
        let until = Instant::now() + self.parts.config.cutover.prepare_wait;
        while !target.no_transaction_left(ATTEMPT).await? {
            if Instant::now() >= until {
                let writers = target.writers().await?;
                let left = writers.iter().filter(|it| it.key == TRANSACTIONS);
                let left: Vec<String> = left.map(ToString::to_string).collect();
                let message = format!(
                    "a transaction that wrote on the target past segue is open: {}",
                    left.join("; ")
                );
                return Err(SqlFault::new(
                    FaultKind::Precondition,
                    Reason::RefusedForeignTransaction,
                    message,
                )
                .on(Side::Target)
                .with_hint("let it end, or end it, then try again"));
            }
            tokio::time::sleep(BREATH).await;
        }
        Ok(())
    }
}
