//! Which rows two answers differ in, by the keys that their tables know them by.

use std::collections::{BTreeMap, HashMap};

use crate::compare::rows::Rows;
use crate::domain::answer::{Answer, Observed};
use crate::domain::key::RowsOfTable;
use crate::domain::pg_type::PgType;
use crate::domain::value::Value;
use crate::statement::{Analysis, Pinned};
use crate::value;

/// More rows are not gone through: the table is judged as a whole.
const ROWS_MAX: usize = 1_000;

/// Types whose text is the one that a key is noted by, whatever the settings are.
const PLAIN: [&str; 9] = ["bool", "int2", "int4", "int8", "name", "oid", "text", "uuid", "varchar"];

/// The rows that one answer has and the other one does not, by all columns that may be of a key:
/// those of the answer, and those that the statement asks to be equal to a value. Rows that need
/// normalization to be equal are among them. Nothing where that cannot be told.
pub fn rows(
    analysis: &Analysis,
    params: &[Value],
    primary: &Observed,
    shadow: &Observed,
) -> Option<RowsOfTable> {
    let [table] = analysis.tables.as_slice() else { return None };
    let (Observed::Answer(one), Observed::Answer(other)) = (primary, shadow) else { return None };
    let pinned: BTreeMap<String, String> =
        analysis.shape.pinned.iter().filter_map(|pin| pinned(pin, params)).collect();
    let (one, other) = (told(one)?, told(other)?);
    let mut counts: HashMap<&[Option<String>], i64> = HashMap::new();
    for row in &one.rows {
        *counts.entry(row.as_slice()).or_default() += 1;
    }
    for row in &other.rows {
        *counts.entry(row.as_slice()).or_default() -= 1;
    }
    let mut rows = Vec::new();
    for told in [&one, &other] {
        for row in &told.rows {
            if counts.get(row.as_slice()).is_some_and(|count| *count != 0) {
                let mut columns = pinned.clone();
                let named = told.keys.iter().filter_map(|(at, name)| {
                    Some((name.clone(), row.get(*at).cloned().flatten()?))
                });
                columns.extend(named);
                rows.push(columns);
            }
        }
    }
    (!rows.is_empty()).then(|| RowsOfTable { table: table.clone(), rows })
}

/// An answer as text, and the columns that may be of a key.
struct Told {
    rows: Vec<Vec<Option<String>>>,
    keys: Vec<(usize, String)>,
}

fn told(answer: &Answer) -> Option<Told> {
    let rows = Rows::of(answer);
    if rows.len() > ROWS_MAX {
        return None;
    }
    let text =
        |ty: &PgType, cell: &[u8]| value::to_text(ty, cell).unwrap_or_else(|_| format!("{cell:?}"));
    let told = |at| {
        let cells = rows.row(at).iter().zip(&*answer.columns);
        cells.map(|(cell, column)| cell.map(|cell| text(&column.ty, cell))).collect()
    };
    let keys = answer.columns.iter().enumerate().filter(|(_, column)| {
        column.table_oid.is_some() && PLAIN.contains(&column.ty.base().name.as_str())
    });
    let keys = keys.map(|(at, column)| (at, column.name.clone())).collect();
    Some(Told { rows: (0..rows.len()).map(told).collect(), keys })
}

fn pinned((column, pin): &(String, Pinned), params: &[Value]) -> Option<(String, String)> {
    let text = match pin {
        Pinned::Text(text) => text.clone(),
        Pinned::Parameter(at) => match params.get(*at)? {
            Value::Int64(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            Value::Bool(truth) => truth.to_string(),
            _ => return None,
        },
    };
    Some((column.clone(), text))
}
