//! Before anything is held: the chunks that were written since they were proven, or never were,
//! are verified once more, so that the pause need not look at more than what came last.

use std::sync::Arc;

use tokio::time::Instant;

use super::{CutoverStep, Run, Stop};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::table::TableName;
use crate::domain::verify::{Discrepancy, Finding};
use crate::ports::admin::ProofStatus;
use crate::postgres::verify::chunk::ChunkDone;
use crate::postgres::verify::proof::Proof;
use crate::postgres::verify::proven::ProofTable;
use crate::postgres::verify::{Params, Table, Verifier};

/// What was looked at.
#[derive(Debug, Default)]
struct Proved {
    chunks: u64,
    rows: u64,
    /// Chunks that there was no time for.
    left: u64,
    /// Chunks with rows that wait in the outbox all the while.
    pending: u64,
    /// Tables of which nothing was ever proven: that is for `segue verify`, and for the gate.
    unproven: u64,
}

impl Run<'_> {
    /// Verifies the open chunks of all tables, as far as the time goes.
    pub(super) async fn prove(&self) -> Result<(), Stop> {
        let begun = self.begin(CutoverStep::Prove).await;
        match self.open_chunks().await {
            Ok(proved) => {
                self.done(CutoverStep::Prove, begun, proved.to_string()).await;
                Ok(())
            }
            Err(fault) => Err(self.failed(CutoverStep::Prove, begun, fault).await),
        }
    }

    /// Which table was proven when, for the report.
    pub(super) async fn note_proofs(&mut self) -> Result<(), SqlFault> {
        let own = self.parts.databases.own();
        let proofs = ProofTable::new(own.of(self.from()).clone());
        self.proofs = proofs.status().await?.tables;
        Ok(())
    }

    async fn open_chunks(&self) -> Result<Proved, SqlFault> {
        let reconciler = Arc::clone(self.parts.reconcilers.of(self.from()));
        let verifier = Verifier::new(reconciler, Params::default());
        let until = Instant::now() + self.parts.config.cutover.prove_max;
        let mut proved = Proved::default();
        for (name, table) in verifier.tables().await? {
            let table = table.map_err(|reason| unverifiable(&name, &reason))?;
            verifier.look_through(&table).await?;
            let proofs = verifier.proofs(&table).await?;
            if proofs.is_empty() {
                proved.unproven += 1;
            }
            for proof in proofs.into_iter().filter(|proof| !proof.stands()) {
                self.halt.unless_asked()?;
                if Instant::now() >= until {
                    proved.left += 1;
                    continue;
                }
                one(&verifier, (&name, &table), proof, &mut proved).await?;
            }
        }
        Ok(proved)
    }
}

async fn one(
    verifier: &Verifier,
    (name, table): (&TableName, &Table),
    proof: Proof,
    proved: &mut Proved,
) -> Result<(), SqlFault> {
    let standing = verifier.standing().await?;
    let done = verifier.one_chunk(table, proof.range).await?;
    verifier.note(table, proof.chunk, &done, &standing).await?;
    proved.chunks += 1;
    proved.rows += done.rows;
    if let Some(fault) = difference(name, &done) {
        return Err(fault);
    }
    let unread = |finding: &&Finding| finding.is_open() && finding.what.is_unread();
    if let Some(Finding { key, what: Discrepancy::Unread { reason }, .. }) =
        done.findings.iter().find(unread)
    {
        let message = format!("a row of {name} cannot be read, key {key:?}: {reason}");
        return Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedUnread, message)
            .with_hint(
                "whether it is equal is not known: mend the row, or delete it on both sides",
            ));
    }
    proved.pending += u64::from(!done.is_equal());
    Ok(())
}

/// The first row of a chunk that differs, as an error; none where all that differs is on its way.
pub(super) fn difference(name: &TableName, done: &ChunkDone) -> Option<SqlFault> {
    let mut open = done.findings.iter().filter(|finding| finding.is_open());
    let Finding { key, what, .. } = open.find(|finding| finding.what.can_be_repaired())?;
    // Values are for `segue verify`, which redacts them.
    let what = match what {
        Discrepancy::Missing | Discrepancy::Uncopied => "is missing on the shadow".to_owned(),
        Discrepancy::Extra => "is on the shadow alone".to_owned(),
        _ => "differs".to_owned(),
    };
    let message = format!("a row of {name} {what}, key {key:?}");
    let fault = SqlFault::new(FaultKind::Precondition, Reason::RefusedDiffers, message);
    Some(fault.with_hint("`segue verify` tells more, `segue verify --repair` mends it"))
}

/// A table that cannot be compared at all.
pub(super) fn unverifiable(name: &TableName, reason: &str) -> SqlFault {
    let message = format!("{name} cannot be verified: {reason}");
    SqlFault::new(FaultKind::Precondition, Reason::RefusedUnverifiable, message)
        .with_hint("`segue check` says how to mend it; or name it in tables.exclude")
}

impl std::fmt::Display for Proved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} open chunks with {} rows are equal", self.chunks - self.pending, self.rows)?;
        for (count, what) in [
            (self.pending, "hold rows that wait in the outbox"),
            (self.left, "were left: there was no more time"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        match self.unproven {
            0 => Ok(()),
            tables => write!(f, "; {tables} tables were never verified"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_looked_at_is_told() {
        let all = Proved { chunks: 9, rows: 7000, ..Proved::default() };
        assert_eq!(all.to_string(), "9 open chunks with 7000 rows are equal");
        let less = Proved { pending: 2, left: 3, unproven: 1, ..all };
        assert_eq!(
            less.to_string(),
            "7 open chunks with 7000 rows are equal; 2 hold rows that wait in the outbox; \
             3 were left: there was no more time; 1 tables were never verified"
        );
    }
}
