//! Rates and times left, from looks at the progress.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::domain::backfill::TableProgress;

/// Rates are those of so long a time.
const WINDOW: Duration = Duration::from_secs(15);

/// A table's figures now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Figures {
    /// Rows that are likely there: no fewer than are copied.
    pub(super) rows_expected: u64,
    pub(super) rows_per_s: f64,
    pub(super) bytes_per_s: f64,
    /// Seconds left, where a rate is known.
    pub(super) left_s: Option<f64>,
}

/// Looks of the last while, by table.
#[derive(Debug, Default)]
pub(super) struct Rates {
    looks: HashMap<i32, VecDeque<(Instant, u64, u64)>>,
}

impl Rates {
    /// Takes a look into account, and answers the table's figures.
    pub(super) fn see(&mut self, table: &TableProgress, now: Instant) -> Figures {
        let looks = self.looks.entry(table.table_id).or_default();
        looks.push_back((now, table.rows, table.bytes));
        while looks.len() > 2 && looks.front().is_some_and(|(at, ..)| now - *at > WINDOW) {
            looks.pop_front();
        }
        let rows_expected = table.rows_expected();
        let mut figures = Figures { rows_expected, ..Figures::default() };
        if let Some((at, rows, bytes)) = looks.front().copied()
            && now > at
        {
            let seconds = (now - at).as_secs_f64();
            figures.rows_per_s = table.rows.saturating_sub(rows) as f64 / seconds;
            figures.bytes_per_s = table.bytes.saturating_sub(bytes) as f64 / seconds;
        }
        let left = rows_expected.saturating_sub(table.rows) as f64;
        figures.left_s = (figures.rows_per_s > 0.0).then(|| left / figures.rows_per_s);
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_while() {
        let mut rates = Rates::default();
        let mut table = TableProgress {
            table_id: 1,
            table: "t".to_owned(),
            rows_estimated: 10_000,
            rows: 0,
            bytes: 0,
            reconciled: 0,
            failed: 0,
            chunks: 5,
            chunks_done: 0,
            chunks_claimed: 1,
            split_done: false,
            last_error: String::new(),
        };
        let begun = Instant::now();
        assert_eq!(rates.see(&table, begun).left_s, None);
        table.rows = 4_000;
        table.bytes = 400_000;
        let figures = rates.see(&table, begun + Duration::from_secs(4));
        assert_eq!((figures.rows_per_s, figures.bytes_per_s), (1000.0, 100_000.0));
        assert_eq!(figures.left_s, Some(6.0));
        for second in 5..60 {
            rates.see(&table, begun + Duration::from_secs(second));
        }
        assert_eq!(rates.see(&table, begun + Duration::from_secs(60)).left_s, None);
        (table.split_done, table.chunks_done) = (true, 5);
        assert_eq!(rates.see(&table, begun + Duration::from_secs(61)).rows_expected, 4_000);
    }
}
