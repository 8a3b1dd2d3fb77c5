//! Reading the rows of many keys, as SQL.

use crate::domain::table::{quote_identifier, quote_literal};
use crate::postgres::mapping::form;
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::reconcile::wanted::Wanted;
use crate::postgres::reconcile::weight::{self, Care};

/// Reads the rows of many keys: the key's place, the columns, what they are compared by, where
/// [`counts_columns`] says so, how many columns the table has, and last, where the table has large
/// columns, a guard. Its parameter comes after those of the keys: where all rows together have more
/// bytes the server divides by zero before it sends the first of them.
///
/// `t.*` and not a list of columns: when somebody alters the table, the prepared statement fails
/// instead of leaving the new column out in silence.
pub fn by_keys(shape: &TableShape, role: Role, wanted: Wanted) -> String {
    let mut selected = vec!["k.n".to_owned()];
    if counts_columns(shape, role) {
        selected.extend(listed(shape, role));
    } else {
        selected.push("t.*".to_owned());
    }
    if wanted == Wanted::Compared {
        selected.extend(compared(shape, role));
    }
    if counts_columns(shape, role) {
        selected.push(count(shape, role));
    }
    if let Some(bytes) = weight::of_row(shape, role, wanted, Care::Roughly) {
        let bytes_max = format!("${}::pg_catalog.float8", shape.key.len() + 1);
        selected.push(format!(
            "1 / CASE WHEN pg_catalog.sum({bytes}) OVER () <= {bytes_max} THEN 1 ELSE 0 END"
        ));
    }
    format!(
        "SELECT {} FROM {} JOIN {} AS t ON {}",
        selected.join(", "),
        shape.key_source(),
        shape.quoted(role),
        shape.key_match(role, |index| format!("k.k{}", index + 1))
    )
}

/// Which of many keys have a row, and of how many bytes.
pub(super) fn sizes(shape: &TableShape, role: Role) -> String {
    let bytes = weight::of_row(shape, role, Wanted::Compared, Care::Exactly);
    format!(
        "SELECT k.n, {} FROM {} JOIN {} AS t ON {}",
        bytes.unwrap_or_else(|| "0::pg_catalog.float8".to_owned()),
        shape.key_source(),
        shape.quoted(role),
        shape.key_match(role, |index| format!("k.k{}", index + 1))
    )
}

/// Whether [`by_keys`] has a guard.
pub(super) fn is_guarded(shape: &TableShape, role: Role, wanted: Wanted) -> bool {
    weight::of_row(shape, role, wanted, Care::Roughly).is_some()
}

/// Which of many keys have a row.
pub fn presence(shape: &TableShape, role: Role) -> String {
    format!(
        "SELECT k.n FROM {} JOIN {} AS t ON {}",
        shape.key_source(),
        shape.quoted(role),
        shape.key_match(role, |index| format!("k.k{}", index + 1))
    )
}

/// Whether one key has a row, whose values come as bytes in hexadecimal digits: no session need be
/// able to read them.
pub fn presence_of_bytes(shape: &TableShape, role: Role) -> String {
    let text = |index: usize| {
        let bytes = format!("pg_catalog.decode(${}::pg_catalog.text, 'hex')", index + 1);
        format!("pg_catalog.convert_from({bytes}, 'SQL_ASCII')")
    };
    format!("SELECT 1 FROM {} AS t WHERE {}", shape.quoted(role), shape.key_match(role, text))
}

/// Whether the columns are listed, since some are read as text: a new one is noticed by their
/// number then.
pub fn counts_columns(shape: &TableShape, role: Role) -> bool {
    (0..shape.columns(role).len()).any(|column| shape.is_text(role, column))
}

fn listed(shape: &TableShape, role: Role) -> impl Iterator<Item = String> {
    shape.columns(role).iter().enumerate().map(move |(index, column)| {
        let name = format!("t.{}", quote_identifier(&column.name));
        if shape.is_text(role, index) { form::text(&column.ty, &name) } else { name }
    })
}

fn compared(shape: &TableShape, role: Role) -> impl Iterator<Item = String> {
    shape.compared().filter(|pair| pair.compared.is_some()).map(move |pair| {
        let column = match role {
            Role::Primary => &pair.judged.primary,
            Role::Shadow => &pair.judged.shadow,
        };
        form::image(pair, role, &format!("t.{}", quote_identifier(&column.name)), shape.across())
    })
}

fn count(shape: &TableShape, role: Role) -> String {
    format!(
        "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute AS a \
         WHERE a.attrelid = {}::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped)",
        quote_literal(&shape.quoted(role))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::common::Form;
    use crate::postgres::mapping::table::tests::shape;

    #[test]
    fn plain_columns_are_their_own_image_and_large_ones_are_guarded() {
        let size = |column| {
            format!("coalesce((pg_catalog.octet_length(t.\"{column}\"))::pg_catalog.float8, 0)")
        };
        let sizes = ["id", "code", "note"].map(size).join(" + ");
        assert_eq!(
            by_keys(&shape(), Role::Primary, Wanted::Compared),
            format!(
                "SELECT k.n, t.*, \
             1 / CASE WHEN pg_catalog.sum(({sizes})) OVER () <= $2::pg_catalog.float8 THEN 1 ELSE 0 END \
             FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[])) \
             WITH ORDINALITY AS k(k1, n) JOIN \"app\".\"t\" AS t ON t.\"id\" = k.k1::integer"
            )
        );
    }

    #[test]
    fn other_types_are_asked_for_in_the_coarser_form() {
        let mut shape = shape();
        shape.pairs[2].form = Form::As("pg_catalog.jsonb".to_owned());
        shape.pairs[2].compared = Some(0);
        let sql = by_keys(&shape, Role::Shadow, Wanted::Compared);
        assert!(sql.starts_with("SELECT k.n, t.*, t.\"note\"::pg_catalog.jsonb, 1 / "), "{sql}");
        let sql = by_keys(&shape, Role::Shadow, Wanted::Columns);
        assert!(sql.starts_with("SELECT k.n, t.*, 1 / "), "{sql}");
    }

    #[test]
    fn a_table_of_which_a_column_is_read_as_text_counts_its_columns() {
        let mut shape = shape();
        (shape.pairs[1].form, shape.pairs[1].by_text) = (Form::Text, true);
        let sql = by_keys(&shape, Role::Primary, Wanted::Compared);
        assert!(
            sql.starts_with(
                "SELECT k.n, t.\"id\", t.\"code\"::pg_catalog.text, t.\"note\", (SELECT "
            ),
            "{sql}"
        );
    }
}
