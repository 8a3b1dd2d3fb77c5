//! Fuzz targets: the comparer, cell by cell and answer by answer.

use std::sync::Arc;

use bolero::check;

use super::cell::{CellVerdict, ColumnPair, judge};
use super::compare;
use super::rules::{ColumnRules, Rules};
use crate::domain::answer::{Answer, Observed, RowBatchBuilder};
use crate::domain::pg_type::{Column, PgType};
use crate::domain::verdict::Verdict;
use crate::statement::analyse;
use crate::value::fixtures::{FUZZ_TIME, Made, all, chosen, named};

fn column(ty: &Arc<PgType>, type_modifier: i32, stored: bool) -> Column {
    let (table_oid, column_id) = (stored.then_some(1), stored.then_some(1));
    Column { name: "c".to_owned(), ty: Arc::clone(ty), type_modifier, table_oid, column_id }
}

/// Two cells of any two types: a verdict, the same from both sides; and a cell is always itself.
#[test]
fn cells_are_judged_the_same_from_both_sides() {
    let types = all();
    type Input = (u16, Option<u16>, bool, (i8, i8), Made, Made);
    check!().with_type::<Input>().with_test_time(FUZZ_TIME).for_each(
        |(one, other, stored, modifiers, first, second)| {
            let (one, other) = (chosen(&types, *one), chosen(&types, other.unwrap_or(*one)));
            let (first, second) = (first.cell(one), second.cell(other));
            let primary = column(one, modifiers.0.into(), *stored);
            let shadow = column(other, modifiers.1.into(), *stored);
            let pair = |primary: &Column, shadow: &Column| ColumnPair {
                primary: primary.clone(),
                shadow: shadow.clone(),
                stored: *stored,
                rules: ColumnRules::default(),
            };
            let there = judge(&pair(&primary, &shadow), Some(&first), Some(&second));
            let back = judge(&pair(&shadow, &primary), Some(&second), Some(&first));
            assert_eq!(there.is_same(), back.is_same(), "{} and {}", one.name, other.name);
            let itself = judge(&pair(&primary, &primary), Some(&first), Some(&first));
            assert_eq!(itself, CellVerdict::Equal, "{}: {first:?}", one.name);
            let null = judge(&pair(&primary, &shadow), Some(&first), None);
            assert_eq!(null, CellVerdict::Different, "something is not NULL");
        },
    );
}

/// Few values, so that rows repeat and differ by little.
type Table = Vec<(Option<u8>, u8)>;

fn rows_of(table: &Table) -> Vec<(Option<i32>, String)> {
    let row = |(number, text): &(Option<u8>, u8)| {
        (number.map(|number| i32::from(number % 4)), format!("text {}", text % 3))
    };
    table.iter().take(12).map(row).collect()
}

/// The types of such answers: a narrow and a wide integer, and a text.
fn types() -> [Arc<PgType>; 3] {
    ["int4", "int8", "text"].map(named)
}

fn observed(
    [narrow, wide, text]: &[Arc<PgType>; 3],
    rows: &[(Option<i32>, String)],
    is_wide: bool,
    batch_rows: usize,
) -> Observed {
    let number = if is_wide { wide } else { narrow };
    let columns = [column(number, -1, true), column(text, -1, true)];
    let batches = rows.chunks(batch_rows).map(|rows| {
        let mut batch = RowBatchBuilder::default();
        for (number, text) in rows {
            let narrow = number.map(i32::to_be_bytes);
            let long = number.map(|number| i64::from(number).to_be_bytes());
            batch.push_cell(if is_wide {
                long.as_ref().map(|cell| &cell[..])
            } else {
                narrow.as_ref().map(|cell| &cell[..])
            });
            batch.push_cell(Some(text.as_bytes()));
            batch.end_row();
        }
        batch.take()
    });
    Observed::Answer(Answer {
        columns: columns.into(),
        batches: batches.collect(),
        affected_rows: rows.len() as u64,
    })
}

/// Two answers without an order are the same if and only if they hold the same rows so many
/// times each, whatever their order, their batches, and the width of their integers.
#[test]
fn answers_are_the_same_exactly_if_their_rows_are() {
    let analysis = analyse("SELECT number, text FROM item").unwrap();
    let types = types();
    type Input = (Table, Table, bool, u64, (u8, u8));
    check!().with_type::<Input>().with_test_time(FUZZ_TIME).for_each(
        |(one, other, shuffled, order, batches)| {
            let primary = rows_of(one);
            let mut shadow = if *shuffled { primary.clone() } else { rows_of(other) };
            for at in 1..shadow.len() {
                let with = usize::try_from(order >> (at % 32)).unwrap_or(0) % (at + 1);
                shadow.swap(at, with);
            }
            let sorted = |rows: &[(Option<i32>, String)]| {
                let mut rows = rows.to_vec();
                rows.sort();
                rows
            };
            let same = sorted(&primary) == sorted(&shadow);
            let [first, second] = [batches.0, batches.1].map(|rows| usize::from(rows % 5) + 1);
            let found = compare(
                &analysis,
                &observed(&types, &primary, false, first),
                &observed(&types, &shadow, batches.1 > 127, second),
                &Rules::default(),
            );
            match found.verdict {
                Verdict::Match | Verdict::Normalized => assert!(same, "{found:?}"),
                Verdict::Data => assert!(!same, "{found:?}"),
                _ => panic!("neither the same nor different: {found:?}"),
            }
        },
    );
}

/// In an order that is total, another order is another answer.
#[test]
fn rows_in_another_order_are_told_where_the_order_is_total() {
    let analysis = analyse("SELECT number, text FROM item ORDER BY number, text").unwrap();
    let types = types();
    check!().with_type::<(Table, u8)>().with_test_time(FUZZ_TIME).for_each(|(table, at)| {
        let mut primary = rows_of(table);
        primary.sort();
        primary.dedup();
        if primary.len() < 2 {
            return;
        }
        let mut shadow = primary.clone();
        let at = usize::from(*at) % (primary.len() - 1);
        shadow.swap(at, at + 1);
        let [one, other] = [&primary, &shadow].map(|rows| observed(&types, rows, false, 4));
        let found = compare(&analysis, &one, &other, &Rules::default());
        assert!(found.verdict.is_finding(), "{found:?}");
        let found = compare(&analysis, &one, &one, &Rules::default());
        assert_eq!(found.verdict, Verdict::Match, "{found:?}");
    });
}
