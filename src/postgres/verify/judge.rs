//! Two rows of one key, judged by the comparer's rules. Pure.

use crate::compare::cell::{CellVerdict, judge};
use crate::domain::key::KeyValues;
use crate::domain::pg_type::PgType;
use crate::domain::table::quote_identifier;
use crate::domain::verify::{CellDifference, Discrepancy};
use crate::postgres::reconcile::image::Image;
use crate::postgres::reconcile::shape::{Role, TableShape};
use crate::value;

/// Characters of a value in a report.
const VALUE_CHARS_MAX: usize = 200;

/// Whether an integer of the key is one that the side's column can hold. Other keys are left to
/// the server to judge.
pub(super) fn fits(shape: &TableShape, role: Role, key: &KeyValues) -> bool {
    let columns = match role {
        Role::Primary => &shape.primary_columns,
        Role::Shadow => &shape.shadow_columns,
    };
    shape.key.iter().zip(key).all(|(part, text)| {
        let column = columns.iter().find(|column| quote_identifier(&column.name) == part.name);
        match column.map(|column| column.ty.base().name.as_str()) {
            Some("int2") => text.parse::<i16>().is_ok(),
            Some("int4") => text.parse::<i32>().is_ok(),
            _ => true,
        }
    })
}

/// In what two rows differ by the comparer's rules; nothing where they do not.
pub(super) fn discrepancy(
    shape: &TableShape,
    primary: Option<&Image>,
    shadow: Option<&Image>,
) -> Option<Discrepancy> {
    let (one, other) = match (primary, shadow) {
        (None, None) => return None,
        (Some(_), None) => return Some(Discrepancy::Missing),
        (None, Some(_)) => return Some(Discrepancy::Extra),
        (Some(one), Some(other)) => (one, other),
    };
    let cells: Vec<CellDifference> = shape
        .pairs
        .iter()
        .filter_map(|pair| {
            let (one, other) = (one.cell(pair.primary), other.cell(pair.shadow));
            if judge(&pair.judged, one, other) != CellVerdict::Different {
                return None;
            }
            Some(CellDifference {
                column: pair.judged.primary.name.clone(),
                primary: text(&pair.judged.primary.ty, one),
                shadow: text(&pair.judged.shadow.ty, other),
            })
        })
        .collect();
    (!cells.is_empty()).then_some(Discrepancy::Different(cells))
}

fn text(ty: &PgType, cell: Option<&[u8]>) -> Option<String> {
    let cell = cell?;
    Some(value::to_text(ty, cell).map_or_else(
        |_| format!("{} bytes of {}", cell.len(), ty.name),
        |text| text.chars().take(VALUE_CHARS_MAX).collect(),
    ))
}
