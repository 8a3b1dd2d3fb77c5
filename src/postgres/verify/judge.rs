//! Two rows of one key, compared as reconcile compares them. Pure.

use crate::domain::verify::{CellDifference, Discrepancy};
use crate::postgres::mapping::cells;
use crate::postgres::mapping::image::Image;
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::verify::rows::Reading;

/// Characters of a value in a report.
const VALUE_CHARS_MAX: usize = 200;

/// What two rows of one key are to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    Equal,
    Differs(Discrepancy),
    /// One of them cannot be read, so that nobody knows.
    Unread(String),
}

/// In what two rows differ, where they can be read.
pub(super) fn discrepancy(
    shape: &TableShape,
    primary: &Reading,
    shadow: &Reading,
    nonce: &str,
) -> Judged {
    let side = |role: &str, reason: &str| Judged::Unread(format!("on the {role}: {reason}"));
    let (one, other) = match (primary, shadow) {
        (Reading::Absent, Reading::Absent) => return Judged::Equal,
        (Reading::There(_), Reading::Absent) => return Judged::Differs(Discrepancy::Missing),
        (Reading::Absent, Reading::There(_)) => return Judged::Differs(Discrepancy::Extra),
        (Reading::Unread(reason), _) => return side("primary", reason),
        (_, Reading::Unread(reason)) => return side("shadow", reason),
        (Reading::There(one), Reading::There(other)) => (one, other),
    };
    let cells: Vec<CellDifference> = shape
        .compared()
        .filter(|pair| !cells::equal(shape, pair, one, other))
        .map(|pair| CellDifference {
            column: pair.judged.primary.name.clone(),
            primary: text(shape, (Role::Primary, pair.primary), one, nonce),
            shadow: text(shape, (Role::Shadow, pair.shadow), other, nonce),
        })
        .collect();
    if cells.is_empty() { Judged::Equal } else { Judged::Differs(Discrepancy::Different(cells)) }
}

fn text(
    shape: &TableShape,
    (role, column): (Role, usize),
    row: &Image,
    nonce: &str,
) -> Option<String> {
    let cell = row.cell(column)?;
    if let Some(digest) = cell.strip_prefix(nonce.as_bytes()) {
        return Some(format!("a large value, SHA-256 {}", String::from_utf8_lossy(digest)));
    }
    let text = cells::text(shape, role, column, cell);
    Some(text.unwrap_or_else(|unread| unread).chars().take(VALUE_CHARS_MAX).collect())
}
