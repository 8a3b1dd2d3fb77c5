//! From a range whose sums differ to the few rows that make the difference.

use crate::domain::key_range::KeyRange;
use crate::postgres::mapping::table::Role;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::verify::ask::Failed;
use crate::postgres::verify::{Table, Verifier};

/// Parts that a range is cut into.
const PARTS: u64 = 16;
/// Ranges of so many rows are read.
const ROWS_READ: u64 = 64;

// === impl Verifier ===

impl Verifier {
    /// Cuts the range until its parts are small or all of them differ; `rows` are those of both
    /// sides, where they are known. What is left out was equal when it was added up.
    pub(super) async fn narrow(
        &self,
        table: &Table,
        range: &KeyRange,
        rows: (Option<u64>, Option<u64>),
    ) -> Result<Vec<KeyRange>, Halt> {
        let (Some(primary), Some(shadow)) = rows else { return Ok(vec![range.clone()]) };
        let mut left = vec![(range.clone(), primary, shadow)];
        let mut small = Vec::new();
        while let Some((range, primary, shadow)) = left.pop() {
            if primary.max(shadow) <= ROWS_READ || primary == 0 || shadow == 0 {
                small.push(range);
                continue;
            }
            let Some(parts) = self.cut_up(table, &range, primary, shadow).await? else {
                small.push(range);
                continue;
            };
            let sums = tokio::join!(
                self.sums_of_parts(table, Role::Primary, &range, &parts),
                self.sums_of_parts(table, Role::Shadow, &range, &parts)
            );
            let (primary, shadow) = match sums {
                (Ok(primary), Ok(shadow)) => (primary, shadow),
                (Err(Failed::Halt(halt)), _) | (_, Err(Failed::Halt(halt))) => return Err(halt),
                _ => {
                    small.push(range);
                    continue;
                }
            };
            let differing: Vec<(KeyRange, u64, u64)> = parts
                .into_iter()
                .zip(primary.iter().zip(&shadow))
                .filter(|(_, (primary, shadow))| primary != shadow)
                .map(|(part, (primary, shadow))| (part, primary.rows, shadow.rows))
                .collect();
            // Where most parts differ, cutting further would only add up the same rows again.
            if differing.len() as u64 > PARTS / 2 {
                small.extend(differing.into_iter().map(|(part, ..)| part));
            } else {
                left.extend(differing);
            }
        }
        Ok(small)
    }

    /// Cuts by the keys of the primary, or by the shadow's where the primary has few. `None`
    /// where there is nothing to cut at.
    async fn cut_up(
        &self,
        table: &Table,
        range: &KeyRange,
        primary: u64,
        shadow: u64,
    ) -> Result<Option<Vec<KeyRange>>, Halt> {
        let (role, rows) =
            if primary > ROWS_READ { (Role::Primary, primary) } else { (Role::Shadow, shadow) };
        let size = rows.div_ceil(PARTS).max(ROWS_READ / 2);
        let bounds_max = usize::try_from(PARTS - 1).unwrap_or(1);
        let bounds = match self.bounds(table, role, range, (size, bounds_max)).await {
            Ok(bounds) => bounds,
            Err(Failed::Value(_)) => return Ok(None),
            Err(Failed::Halt(halt)) => return Err(halt),
        };
        // A bound that is the end of the range cuts nothing off.
        let bounds: Vec<_> =
            bounds.into_iter().filter(|bound| Some(bound) != range.until.as_ref()).collect();
        if bounds.is_empty() {
            return Ok(None);
        }
        Ok(Some(range.clone().split_at(bounds)))
    }
}
