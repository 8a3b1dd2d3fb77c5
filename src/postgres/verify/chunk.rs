//! One chunk: its sums on both sides, and what is behind a difference.

use std::collections::BTreeMap;

use crate::domain::key::KeyValues;
use crate::domain::key_range::KeyRange;
use crate::domain::verify::{Discrepancy, Finding, Repair};
use crate::postgres::mapping::table::Role;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::verify::ask::Failed;
use crate::postgres::verify::sums::{Asked, Sums};
use crate::postgres::verify::{Table, Verifier};

/// Keys that could not be reconciled, and why.
pub(super) type Failures = BTreeMap<KeyValues, String>;

/// What a chunk turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkDone {
    /// Which.
    pub range: KeyRange,
    /// Rows of the primary.
    pub rows: u64,
    /// Rows that were read on both sides because the sums did not settle it.
    pub rows_read: u64,
    /// Bytes of these.
    pub bytes_read: u64,
    /// Rows that were written all the while they were looked at. Each was reconciled in between,
    /// and has been equal at that moment.
    pub moving: u64,
    /// Rows that differ, those included that a repair has made equal.
    pub findings: Vec<Finding>,
    /// The primary's snapshot before anything was read: whatever is not visible in it was
    /// written since.
    pub snapshot: String,
}

// === impl ChunkDone ===

impl ChunkDone {
    /// Whether both sides' rows are the same now.
    pub fn is_equal(&self) -> bool {
        !self.findings.iter().any(Finding::is_open)
    }

    /// The first row that could not be read, with the reason.
    pub fn unread(&self) -> Option<String> {
        self.findings.iter().filter(|finding| finding.is_open()).find_map(|finding| {
            let Discrepancy::Unread { reason } = &finding.what else { return None };
            Some(format!("key {}: {reason}", finding.key.join(", ")))
        })
    }

    /// Whether a row differs for which nothing is on its way.
    pub fn differs(&self) -> bool {
        self.findings.iter().any(|finding| finding.is_open() && finding.what.is_data())
    }
}

// === impl Verifier ===

impl Verifier {
    /// Verifies one chunk, and repairs it where that is asked for.
    ///
    /// # Errors
    ///
    /// Why it could not be told.
    pub(super) async fn chunk(&self, table: &Table, range: KeyRange) -> Result<ChunkDone, Halt> {
        let done = self.look_into(table, range.clone()).await?;
        let data: Vec<&Finding> =
            done.findings.iter().filter(|it| it.what.can_be_repaired()).collect();
        if data.is_empty() || !self.params.repair {
            return Ok(done);
        }
        let failures = self.repair(table, &data).await;
        let again = self.look_into(table, range).await?;
        Ok(with_repairs(done, again, &failures))
    }

    async fn look_into(&self, table: &Table, range: KeyRange) -> Result<ChunkDone, Halt> {
        let (primary, shadow) = tokio::join!(
            self.sums(table, Role::Primary, &range),
            self.sums(table, Role::Shadow, &range)
        );
        let (primary, shadow) = match (primary, shadow) {
            (Ok(primary), Ok(shadow)) => (Some(primary), Some(shadow.1)),
            (Err(Failed::Halt(halt)), _) | (_, Err(Failed::Halt(halt))) => return Err(halt),
            (Ok(primary), Err(Failed::Value(_))) => (Some(primary), None),
            (Err(Failed::Value(_)), shadow) => (None, shadow.ok().map(|(_, sums)| sums)),
        };
        let snapshot = primary.as_ref().map(|(snapshot, _)| snapshot.clone()).unwrap_or_default();
        let primary = primary.map(|(_, sums)| sums);
        let rows = match &primary {
            Some(sums) => sums.rows,
            None => self.count(table, &range).await?,
        };
        let mut done = ChunkDone { range, rows, snapshot, ..ChunkDone::default() };
        let equal = primary.is_some() && primary == shadow;
        if equal {
            return Ok(done);
        }
        let known = (primary.map(|sums| sums.rows), shadow.map(|sums| sums.rows));
        for part in self.narrow(table, &done.range, known).await? {
            self.look_at_range(table, &part, &mut done).await?;
        }
        Ok(done)
    }

    /// A range's sums, with the snapshot that they are of where the side has such a thing.
    async fn sums(
        &self,
        table: &Table,
        role: Role,
        range: &KeyRange,
    ) -> Result<(String, Sums), Failed> {
        let asked = self.asked(table, role);
        let sums = asked.of_range(range);
        let Some(snapshot) = asked.dialect.current_snapshot() else {
            let answer = self.ask(role, &sums).await?;
            return Ok((String::new(), one(&answer)?));
        };
        let sql = format!("{snapshot}; {sums}");
        let mut answer = self.ask(role, &sql).await?;
        let snapshot = match answer.first_mut().map(std::mem::take) {
            Some(mut row) => row.pop().flatten().unwrap_or_default(),
            None => String::new(),
        };
        Ok((snapshot, one(answer.get(1..).unwrap_or_default())?))
    }

    /// Rows of the primary in a range that cannot be added up.
    async fn count(&self, table: &Table, range: &KeyRange) -> Result<u64, Halt> {
        let asked = self.asked(table, Role::Primary).count(range);
        let answer = self.ask(Role::Primary, &asked).await.map_err(Failed::halt)?;
        let cell = answer.first().and_then(|row| row.first()?.as_ref()?.parse().ok());
        cell.ok_or_else(|| unreadable().halt())
    }

    /// The sums of parts of a range, in their order.
    pub(super) async fn sums_of_parts(
        &self,
        table: &Table,
        role: Role,
        range: &KeyRange,
        parts: &[KeyRange],
    ) -> Result<Vec<Sums>, Failed> {
        let answer = self.ask(role, &self.asked(table, role).of_parts(range, parts)).await?;
        let mut sums = vec![Sums::none(); parts.len()];
        for row in answer {
            let place = row.first().and_then(Option::as_deref).and_then(|at| at.parse().ok());
            let place = place.and_then(|at: usize| sums.get_mut(at));
            let found = Sums::parse(row.get(1..).unwrap_or_default());
            let (Some(place), Some(found)) = (place, found) else { return Err(unreadable()) };
            *place = found;
        }
        Ok(sums)
    }

    fn asked<'a>(&self, table: &'a Table, role: Role) -> Asked<'a> {
        Asked {
            shape: &table.shape,
            role,
            hash: table.hash,
            dialect: table.dialects[usize::from(role == Role::Shadow)],
        }
    }
}

fn one(answer: &[Vec<Option<String>>]) -> Result<Sums, Failed> {
    answer.first().and_then(|row| Sums::parse(row)).ok_or_else(unreadable)
}

fn unreadable() -> Failed {
    Failed::Halt(Halt::Set("the server's sums cannot be read".to_owned()))
}

/// What was found first, with what became of it; and what turned up since.
fn with_repairs(first: ChunkDone, again: ChunkDone, failures: &Failures) -> ChunkDone {
    let mut done = ChunkDone {
        rows_read: first.rows_read + again.rows_read,
        bytes_read: first.bytes_read + again.bytes_read,
        moving: first.moving.max(again.moving),
        ..again
    };
    let mut findings = Vec::new();
    for mut finding in first.findings {
        let open = done.findings.iter().position(|now| now.key == finding.key);
        match open {
            Some(place) => findings.push(done.findings.remove(place)),
            None if finding.what.can_be_repaired() => {
                finding.repair = Repair::Done;
                findings.push(finding);
            }
            // It was on its way, and has come.
            None => {}
        }
    }
    findings.append(&mut done.findings);
    for finding in &mut findings {
        if let (Some(reason), true) = (failures.get(&finding.key), finding.repair == Repair::None) {
            finding.repair = Repair::Failed(reason.clone());
        }
    }
    done.findings = findings;
    done
}
