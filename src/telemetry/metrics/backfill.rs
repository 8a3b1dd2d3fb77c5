//! The copy of the history, as it was just measured.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::backfill::BackfillProgress;
use crate::telemetry::metrics::labels::{ChunkLabels, TableLabels, label};
use crate::telemetry::metrics::table::Table;

type Level = Gauge<f64, AtomicU64>;

/// One field for each family.
#[derive(Debug, Default)]
pub(super) struct BackfillGauges {
    rows: Table<TableLabels, Level>,
    rows_expected: Table<TableLabels, Level>,
    bytes: Table<TableLabels, Level>,
    chunks: Table<ChunkLabels, Level>,
    reconciled: Table<TableLabels, Level>,
    failed: Table<TableLabels, Level>,
    workers: Level,
    share: Level,
}

impl BackfillGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        let tables = [
            ("backfill_rows", "Rows of finished chunks", &self.rows),
            ("backfill_rows_expected", "Rows likely to be there", &self.rows_expected),
            ("backfill_bytes", "Bytes of their streams", &self.bytes),
            ("backfill_keys_reconciled", "Keys reconciled after their chunk", &self.reconciled),
            ("backfill_keys_failed", "Of these, keys that failed", &self.failed),
        ];
        for (name, help, family) in tables {
            registry.register(name, help, family.clone());
        }
        registry.register("backfill_chunks", "Chunks by state", self.chunks.clone());
        registry.register("backfill_workers", "Chunks copied at once", self.workers.clone());
        registry.register(
            "backfill_share",
            "Least share of the time that a process works",
            self.share.clone(),
        );
    }

    pub(super) fn set(&self, progress: &BackfillProgress) {
        for table in &progress.tables {
            let name = label(&table.table);
            let labels = TableLabels { table: name.clone() };
            let of_table = [
                (&self.rows, table.rows),
                (&self.rows_expected, table.rows_expected()),
                (&self.bytes, table.bytes),
                (&self.reconciled, table.reconciled),
                (&self.failed, table.failed),
            ];
            for (family, value) in of_table {
                family.at(&labels).set(value as f64);
            }
            let open = table.chunks.saturating_sub(table.chunks_done + table.chunks_claimed);
            let states =
                [("done", table.chunks_done), ("claimed", table.chunks_claimed), ("open", open)];
            for (state, value) in states {
                let labels = ChunkLabels { table: name.clone(), state };
                self.chunks.at(&labels).set(value as f64);
            }
        }
        let alive = || progress.workers.iter().filter(|worker| worker.alive);
        self.workers.set(alive().map(|worker| f64::from(worker.workers)).sum());
        self.share.set(alive().map(|worker| worker.share).fold(1.0, f64::min));
    }
}
