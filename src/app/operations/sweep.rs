//! `segue verify --continuous`: a sweep that never ends, at a bounded load, and knows what was
//! proven when.

use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::identity;
use crate::app::operations::verify::{Event, Options, Pace, Totals, chosen, open};
use crate::config::Config;
use crate::domain::fault::SqlFault;
use crate::domain::key_range::KeyRange;
use crate::domain::proof_age::{is_urgent, renewed_after};
use crate::domain::table::TableName;
use crate::postgres::schema::Permission;
use crate::postgres::verify::chunk::ChunkDone;
use crate::postgres::verify::proof::{Proof, Standing};
use crate::postgres::verify::{Table, Verifier};
use crate::telemetry::retries::Retries;

/// A chunk that has grown to so many times its size is cut anew, with its table.
const GROWN: u64 = 4;
/// Chunks of one table before the others have their turn: a table that is written all the time
/// does not keep the proofs of others from being renewed.
const TURN_CHUNKS: usize = 64;
/// After a fault.
const PAUSE: Duration = Duration::from_secs(5);

/// Notes a table's chunks and their proofs, in place of those that were there. If we crash
/// here, some of them count as not proven.
///
/// # Errors
///
/// What the primary reports.
pub(super) async fn keep(
    verifier: &Verifier,
    table: &Table,
    chunks: &[ChunkDone],
    standing: &Standing,
) -> Result<(), SqlFault> {
    let ranges: Vec<KeyRange> = chunks.iter().map(|done| done.range.clone()).collect();
    verifier.set_chunks(table, &ranges).await?;
    for (chunk, done) in (0_i64..).zip(chunks) {
        verifier.note(table, chunk, done, standing).await?;
    }
    verifier.look_through(table).await
}

/// Sweeps until `stop` is cancelled. Chunks that were never proven, or were written since, come
/// before those whose proof grows old, and after those whose proof is nearly too old for a gate.
///
/// # Errors
///
/// [`AppError`] where it cannot begin. What fails later is told, and tried again.
pub async fn run(
    config: &Config,
    options: &Options,
    pace: Pace,
    (retries, stop): (&Retries, &CancellationToken),
    tell: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<Totals, AppError> {
    let begun = Instant::now();
    let databases = Databases::open(config)?;
    identity::established(config, &databases, Permission::Look).await?;
    let mut verifier = open(config, &databases, options).await?;
    let mut totals = Totals::default();
    loop {
        let turn = async {
            let tables = chosen(verifier.tables().await?, &options.tables)?;
            let mut busy = false;
            totals.failed = 0;
            for (name, table) in tables {
                let Ok(table) = table.map_err(|reason| {
                    tracing::warn!(table = %name, reason, "a table cannot be verified");
                }) else {
                    totals.failed += 1;
                    continue;
                };
                let source_name = table.source_name(verifier.primary());
                let age_max = config.proof_ages.max_of(source_name);
                let (verifier, name, table) = (&verifier, &name, &table);
                let sweep = Sweep { verifier, name, table, pace, age_max, stop };
                busy |= sweep.turn(&mut totals, tell).await?;
            }
            Ok::<_, SqlFault>(busy)
        };
        let turned = turn.await;
        retries.note("sweep", "", &turned);
        let pause = match turned {
            Ok(true) => Duration::ZERO,
            Ok(false) => pace.look_every,
            Err(fault) => {
                tracing::warn!(%fault, "the sweep is tried again");
                PAUSE
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        // The sides may have changed their roles.
        if !pause.is_zero() {
            let opened = open(config, &databases, options).await;
            if let Err(AppError::Database(fault)) = &opened {
                retries.failed("sweep_phase", "", fault);
            } else {
                retries.went_well("sweep_phase", "");
            }
            match opened {
                Ok(now) => verifier = now,
                Err(fault) => tracing::warn!(%fault, "the phase cannot be read"),
            }
        }
    }
    totals.elapsed = begun.elapsed();
    Ok(totals)
}

/// One table's turn.
struct Sweep<'a> {
    verifier: &'a Verifier,
    name: &'a TableName,
    table: &'a Table,
    pace: Pace,
    /// Of a proof that a gate goes by.
    age_max: Duration,
    stop: &'a CancellationToken,
}

// === impl Sweep ===

impl Sweep<'_> {
    /// Verifies what is due of the table; says whether anything was.
    async fn turn(
        &self,
        totals: &mut Totals,
        tell: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<bool, SqlFault> {
        let begun = Instant::now();
        self.verifier.look_through(self.table).await?;
        let mut proofs = self.verifier.proofs(self.table).await?;
        let size_max = self.verifier.params().chunk_rows.saturating_mul(GROWN);
        if proofs.is_empty() || proofs.iter().any(|proof| proof.rows > size_max) {
            let ranges = self.verifier.cut(self.table).await?;
            self.verifier.set_chunks(self.table, &ranges).await?;
            proofs = self.verifier.proofs(self.table).await?;
        }
        let now = SystemTime::now();
        let mut due: Vec<Proof> =
            proofs.into_iter().filter(|proof| self.is_due(proof, now)).collect();
        due.sort_by_key(|proof| (!self.is_urgent(proof, now), proof.stands(), proof.proven_at));
        due.truncate(TURN_CHUNKS);
        let busy = !due.is_empty();
        // With very many tables the looks are most of it.
        self.rest(begun).await;
        for proof in due {
            if self.stop.is_cancelled() {
                break;
            }
            let begun = Instant::now();
            let standing = self.verifier.standing().await?;
            let done = self.verifier.one_chunk(self.table, proof.range).await?;
            if !self.verifier.note(self.table, proof.chunk, &done, &standing).await? {
                // The sides have changed their roles, or somebody cuts the table anew.
                return Ok(false);
            }
            totals.add(&done);
            tell(Event::Chunk { table: self.name, done: &done, totals });
            self.rest(begun).await;
        }
        Ok(busy)
    }

    /// Keeps to its share of the time.
    async fn rest(&self, begun: Instant) {
        let rest = begun.elapsed().mul_f64((1.0 / self.pace.load.clamp(0.01, 1.0)) - 1.0);
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }

    fn is_due(&self, proof: &Proof, now: SystemTime) -> bool {
        let Some(read_at) = proof.read_at else { return true };
        let age = now.duration_since(read_at).unwrap_or_default();
        // One that is written all the time is read often enough to stay fresh as well.
        let renewed = self.pace.again_after.min(renewed_after(self.age_max, proof.chunk));
        let wait = if proof.stands() { renewed } else { renewed.min(self.pace.open_after) };
        age >= wait
    }

    fn is_urgent(&self, proof: &Proof, now: SystemTime) -> bool {
        let age = proof.read_at.and_then(|read_at| now.duration_since(read_at).ok());
        proof.proven_at.is_some() && age.is_some_and(|age| is_urgent(self.age_max, age))
    }
}
