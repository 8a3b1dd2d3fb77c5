//! Tables that are pending as a whole, or as ranges of their key, as they were just listed.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::status::FoldedTable;
use crate::telemetry::metrics::labels::{TableLabels, named};
use crate::telemetry::metrics::table::Table;

type Level = Gauge<f64, AtomicU64>;

/// Series by table; what comes later counts in the sums alone.
const SERIES_MAX: usize = 200;

/// One field for each family.
#[derive(Debug, Default)]
pub(super) struct FoldedGauges {
    tables: Level,
    ranges: Level,
    rows: Table<TableLabels, Level>,
    of_table: Table<TableLabels, Level>,
    left_s: Table<TableLabels, Level>,
}

// === impl FoldedGauges ===

impl FoldedGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "outbox_folded_tables",
            "Tables that are pending as a whole, or as ranges of their key",
            self.tables.clone(),
        );
        registry.register(
            "outbox_folded_ranges",
            "Ranges of keys that are pending",
            self.ranges.clone(),
        );
        let by_table = [
            ("outbox_folded_rows", "Rows of such a table that are to be compared", &self.rows),
            ("outbox_folded_ranges_of_table", "Ranges of its key", &self.of_table),
            ("outbox_folded_left_seconds", "Until it is gone through", &self.left_s),
        ];
        for (name, help, family) in by_table {
            registry.register(name, help, family.clone());
        }
    }

    pub(super) fn set(&self, found: &[FoldedTable]) {
        self.tables.set(found.len() as f64);
        // The sum of nothing would be a negative zero.
        self.ranges.set(found.iter().map(|it| it.ranges).sum::<u64>() as f64);
        let mut known: Vec<TableLabels> = self.rows.all().into_iter().map(|(it, _)| it).collect();
        for table in found {
            let labels = TableLabels { table: named(&table.table) };
            match known.iter().position(|it| *it == labels) {
                Some(at) => drop(known.swap_remove(at)),
                None if self.rows.all().len() >= SERIES_MAX => continue,
                None => {}
            }
            // Nobody can tell before it has begun, and a zero would say that it is over.
            let left_s = table.left_s().unwrap_or(f64::NAN);
            self.show(&labels, table.rows_left() as f64, table.ranges as f64, left_s);
        }
        // A series that ends would keep its last value for a while.
        for labels in &known {
            self.show(labels, 0.0, 0.0, 0.0);
        }
    }

    fn show(&self, labels: &TableLabels, rows: f64, ranges: f64, left_s: f64) {
        self.rows.at(labels).set(rows);
        self.of_table.at(labels).set(ranges);
        self.left_s.at(labels).set(left_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_followed_key_by_key_again_is_shown_as_nothing_left() {
        let gauges = FoldedGauges::default();
        let labels = TableLabels { table: "public.item".to_owned() };
        let shown = || (gauges.rows.at(&labels).get(), gauges.of_table.at(&labels).get());
        let mut table = FoldedTable {
            table: "public.item".to_owned(),
            rows: 1000,
            ranges: 2,
            ranges_of: 10,
            ..FoldedTable::default()
        };
        gauges.set(std::slice::from_ref(&table));
        assert_eq!(shown(), (200.0, 2.0));
        assert!(gauges.left_s.at(&labels).get().is_nan(), "it has not begun");
        (table.keys_seen, table.pass_s) = (100, 1.0);
        gauges.set(std::slice::from_ref(&table));
        assert!((gauges.left_s.at(&labels).get() - 4.0).abs() < 0.01);
        assert!((gauges.ranges.get() - 2.0).abs() < 0.01);
        gauges.set(&[]);
        assert_eq!((shown(), gauges.left_s.at(&labels).get()), ((0.0, 0.0), 0.0));
        assert_eq!((gauges.tables.get(), gauges.ranges.get()), (0.0, 0.0));
    }
}
