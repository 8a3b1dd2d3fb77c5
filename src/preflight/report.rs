//! What a check answers: findings, and how much there is to copy.

use crate::domain::table::{TableMapping, TableName};
use crate::preflight::codes::Severity;
use crate::preflight::describe::World;
use crate::preflight::finding::Finding;
use crate::preflight::rules::parents_first;

/// The pace that times are estimated by; the slower of the two counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Rows of one chunk.
    pub chunk_rows: u64,
    /// Rows a second.
    pub rows_per_s: f64,
    /// Bytes a second, as the source's tables have them on the disk.
    pub bytes_per_s: f64,
}

/// One table of the migration, and how much it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSize {
    /// Where it is.
    pub mapping: TableMapping,
    /// Rows by the source's estimate; unknown where it has never counted.
    pub rows: Option<u64>,
    /// Bytes on the source's disk without indexes.
    pub bytes: Option<u64>,
    /// Chunks and time; unknown without rows.
    pub estimate: Option<Estimate>,
}

/// What copying takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Chunks.
    pub chunks: u64,
    /// Seconds.
    pub seconds: f64,
}

/// What a check answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was found, the heaviest first.
    pub findings: Vec<Finding>,
    /// The tables, parents before children.
    pub tables: Vec<TableSize>,
    /// Columns of the source that were looked at.
    pub columns: usize,
    /// Constraints, unique indexes and foreign keys of both sides that were looked at.
    pub constraints: usize,
    /// Triggers and rules of both sides that were looked at.
    pub triggers: usize,
    /// Sequences of both sides that were looked at.
    pub sequences: usize,
    /// What times are estimated by.
    pub pace: Pace,
}

// === impl Report ===

impl Report {
    pub(super) fn new(world: &World, findings: Vec<Finding>, pace: Pace) -> Self {
        let facts = || world.each().map(|(_, facts)| facts);
        let columns = world.tables.iter().filter_map(|it| it.source.as_ref());
        Self {
            findings,
            tables: sizes(world, pace),
            columns: columns.map(|it| it.table.columns.len()).sum(),
            constraints: facts()
                .map(|it| {
                    it.checks.len()
                        + it.exclusions.len()
                        + it.table.unique_indexes.len()
                        + it.table.foreign_keys.len()
                        + usize::from(it.table.primary_key.is_some())
                })
                .sum(),
            triggers: facts().map(|it| it.table.triggers.len() + it.table.rules.len()).sum(),
            sequences: facts()
                .flat_map(|it| it.columns.values())
                .filter(|column| column.sequence.is_some())
                .count(),
            pace,
        }
    }

    /// Whether something blocks the migration.
    pub fn refuses(&self) -> bool {
        self.refuses_but(|_| false)
    }

    /// Whether something blocks the migration that is not passed over.
    pub fn refuses_but(&self, passed_over: impl Fn(&Finding) -> bool) -> bool {
        let blocks = |finding: &&Finding| finding.severity() == Severity::Blocks;
        self.findings.iter().filter(blocks).any(|finding| !passed_over(finding))
    }

    /// How many findings of a severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity() == severity).count()
    }
}

fn sizes(world: &World, pace: Pace) -> Vec<TableSize> {
    let (mut order, left) = parents_first(world);
    order.extend(left);
    let rank = |table: &TableName| order.iter().position(|name| name == table);
    let mut tables: Vec<_> = world.tables.iter().collect();
    tables.sort_by_key(|it| rank(&it.mapping.target));
    tables
        .into_iter()
        .map(|it| {
            let facts = it.source.as_ref();
            let (rows, bytes) = (facts.and_then(|it| it.rows), facts.and_then(|it| it.bytes));
            let estimate = rows.map(|rows| pace.estimate(rows, bytes.unwrap_or(0)));
            TableSize { mapping: it.mapping.clone(), rows, bytes, estimate }
        })
        .collect()
}

// === impl Pace ===

impl Default for Pace {
    /// What a small machine does with small rows.
    fn default() -> Self {
        Self { chunk_rows: 10_000, rows_per_s: 50_000.0, bytes_per_s: 30.0 * 1024.0 * 1024.0 }
    }
}

impl Pace {
    fn estimate(self, rows: u64, bytes: u64) -> Estimate {
        let by_rows = rows as f64 / self.rows_per_s.max(1.0);
        let by_bytes = bytes as f64 / self.bytes_per_s.max(1.0);
        Estimate { chunks: rows.div_ceil(self.chunk_rows.max(1)), seconds: by_rows.max(by_bytes) }
    }
}
