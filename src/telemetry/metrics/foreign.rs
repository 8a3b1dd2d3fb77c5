//! Writes on the side that follows that are not segue's, as they were just listed.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::foreign::{ForeignTable, ForeignWrites, Writer};
use crate::telemetry::metrics::labels::{WriterLabels, named};
use crate::telemetry::metrics::table::Table;

type Level = Gauge<f64, AtomicU64>;

/// Series by writer and table; what comes later is not shown one by one.
const SERIES_MAX: usize = 200;

/// One field for each family.
#[derive(Debug, Default)]
pub(super) struct ForeignGauges {
    keys: Table<WriterLabels, Level>,
    whole: Table<WriterLabels, Level>,
    open: Level,
}

impl ForeignGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "foreign_keys",
            "Keys that programs wrote on the side that follows, past segue",
            self.keys.clone(),
        );
        registry.register(
            "foreign_tables",
            "Tables that they wrote as a whole, or too many keys of",
            self.whole.clone(),
        );
        registry.register(
            "foreign_writers_open",
            "Such programs that no one has resolved",
            self.open.clone(),
        );
    }

    pub(super) fn set(&self, found: &ForeignWrites) {
        // The sum of nothing would be a negative zero.
        self.open.set(found.open().count() as f64);
        let known = self.keys.all();
        let mut series = known.len();
        for (writer, table) in
            found.writers.iter().flat_map(|it| it.tables.iter().map(|table| (&it.writer, table)))
        {
            let labels = labels(writer, table);
            if !known.iter().any(|(it, _)| *it == labels) {
                if series >= SERIES_MAX {
                    continue;
                }
                series += 1;
            }
            self.keys.at(&labels).set(table.keys as f64);
            self.whole.at(&labels).set(table.whole as f64);
        }
    }
}

fn labels(writer: &Writer, table: &ForeignTable) -> WriterLabels {
    WriterLabels {
        role: named(&writer.role),
        application: named(&writer.application),
        address: named(&writer.address),
        table: named(&table.table),
    }
}
