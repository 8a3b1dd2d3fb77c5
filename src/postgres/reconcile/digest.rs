//! Digests of large values, as SQL: what stands for a value that is too large to be read twice.

use crate::dialect::Dialect;
use crate::domain::pg_type::{Column, PgType, TypeKind};
use crate::domain::table::quote_identifier;
use crate::postgres::mapping::form;
use crate::postgres::mapping::table::{Pair, Role, TableShape};
use crate::postgres::reconcile::wanted::Wanted;

/// Bytes from which a value is compared by its digest.
const LARGE_BYTES: usize = 1 << 20;
/// Bytes of a stored value up to which nobody needs to look whether it is large: a document is
/// stored in some hundredth of its size at least.
const STORED_BYTES: usize = 4 << 10;

/// Reads the rows of many keys, as [`by_keys`] does, a digest in the place of each large value.
/// What stands before a digest is the parameter after those of the keys.
///
/// Columns come as what they are sent as, since a digest has none of their types.
///
/// [`by_keys`]: crate::postgres::reconcile::select::by_keys
pub(super) fn select(shape: &TableShape, role: Role, wanted: Wanted) -> String {
    let nonce = format!("${}::pg_catalog.text", shape.key.len() + 1);
    let words = Words { across: shape.across(), dialect: shape.dialect(role) };
    let mut cells = vec!["k.n".to_owned()];
    for (index, column) in shape.columns(role).iter().enumerate() {
        let name = format!("t.{}", quote_identifier(&column.name));
        let text = shape.is_text(role, index);
        let paired = shape.compared().any(|pair| place(pair, role) == index);
        cells.push(match Sent::of(column, text, words).filter(|_| paired) {
            Some(sent) => sent.cell(column, &name, &nonce, words),
            None if text => form::text(&column.ty, &name),
            None => name,
        });
    }
    if wanted == Wanted::Compared {
        for pair in shape.compared().filter(|pair| pair.compared.is_some()) {
            let column = match role {
                Role::Primary => &pair.judged.primary,
                Role::Shadow => &pair.judged.shadow,
            };
            let name = format!("t.{}", quote_identifier(&column.name));
            // It is held against another of the same form alone.
            let image = form::image(pair, role, &name, shape.across());
            cells.push(of_text(&format!("({image})::pg_catalog.text"), &nonce, words));
        }
    }
    format!(
        "SELECT {} FROM {} JOIN {} AS t ON {}",
        cells.join(", "),
        shape.key_source(),
        shape.quoted(role),
        shape.key_match(role, |index| format!("k.k{}", index + 1))
    )
}

fn place(pair: &Pair, role: Role) -> usize {
    match role {
        Role::Primary => pair.primary,
        Role::Shadow => pair.shadow,
    }
}

/// What a side calls its functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Words {
    /// One of the sides has no functions that send a value.
    across: bool,
    /// What this side speaks.
    dialect: Dialect,
}

/// How the bytes of a value that may be large are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// As the text of its output function.
    ByText,
    /// A text, or a document that is sent as its text.
    Text,
    /// Bytes.
    Bytes,
    /// A document, as the bytes that it is sent as on both sides: a version and its text.
    Document,
    /// By this function.
    By(&'static str),
}

// === impl Sent ===

impl Sent {
    fn of(column: &Column, by_text: bool, words: Words) -> Option<Self> {
        if by_text {
            return Some(Self::ByText);
        }
        let ty: &PgType = column.ty.base();
        if let TypeKind::Array(_) = ty.kind {
            return (!words.across).then_some(Self::By("pg_catalog.array_send"));
        }
        match ty.name.as_str() {
            _ if ty.schema != "pg_catalog" => None,
            "text" | "varchar" | "json" => Some(Self::Text),
            "bytea" => Some(Self::Bytes),
            "jsonb" if words.across => Some(Self::Document),
            "jsonb" => Some(Self::By("pg_catalog.jsonb_send")),
            _ => None,
        }
    }

    fn cell(self, column: &Column, name: &str, nonce: &str, words: Words) -> String {
        match self {
            Self::ByText => of_text(&form::text(&column.ty, name), nonce, words),
            Self::Text => of_text(&format!("{name}::pg_catalog.text"), nonce, words),
            Self::Bytes => of_bytes(name, name, nonce, words),
            Self::Document => {
                let text = format!("pg_catalog.convert_to({name}::pg_catalog.text, 'UTF8')");
                of_bytes(&format!("('\\x01'::pg_catalog.bytea || {text})"), name, nonce, words)
            }
            Self::By(function) => of_bytes(&format!("{function}({name})"), name, nonce, words),
        }
    }
}

fn of_text(text: &str, nonce: &str, words: Words) -> String {
    let bytes = if words.across {
        format!("pg_catalog.convert_to({text}, 'UTF8')")
    } else {
        format!("pg_catalog.textsend({text})")
    };
    let digest = digest(&bytes, nonce, words);
    format!(
        "CASE WHEN pg_catalog.octet_length({text}) > {LARGE_BYTES} THEN {digest} ELSE {text} END"
    )
}

fn of_bytes(bytes: &str, name: &str, nonce: &str, words: Words) -> String {
    let digest = digest(bytes, nonce, words);
    format!(
        "CASE WHEN pg_catalog.pg_column_size({name}) > {STORED_BYTES} \
             AND pg_catalog.octet_length({bytes}) > {LARGE_BYTES} \
             THEN pg_catalog.convert_to({digest}, 'UTF8') ELSE {bytes} END"
    )
}

fn digest(bytes: &str, nonce: &str, words: Words) -> String {
    format!("({nonce} || {})", words.dialect.sha256_digits(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::mapping::table::tests::shape;

    /// CockroachDB has no functions that send a value, and its `sha256` gives text.
    #[test]
    fn a_digest_is_asked_of_cockroachdb_in_its_own_words() {
        let mut shape = shape();
        shape.dialects = [Dialect::POSTGRESQL, Dialect::COCKROACHDB];
        for (column, name) in [(1, "jsonb"), (2, "bytea")] {
            for columns in [&mut shape.primary_columns, &mut shape.shadow_columns] {
                let ty = PgType { name: name.to_owned(), ..(*columns[column].ty).clone() };
                columns[column].ty = std::sync::Arc::new(ty);
            }
        }
        let [primary, shadow] =
            [Role::Primary, Role::Shadow].map(|role| select(&shape, role, Wanted::Compared));
        for sql in [&primary, &shadow] {
            assert!(!sql.contains("send("), "{sql}");
            assert!(sql.contains("('\\x01'::pg_catalog.bytea || pg_catalog.convert_to("), "{sql}");
        }
        assert!(primary.contains("pg_catalog.encode(pg_catalog.sha256(t.\"note\"), 'hex')"));
        assert!(shadow.contains("($2::pg_catalog.text || pg_catalog.sha256(t.\"note\"))"));
        assert!(!shadow.contains("encode("), "{shadow}");
    }

    #[test]
    fn what_only_the_shadow_has_is_never_a_digest() {
        let sql = select(&shape(), Role::Shadow, Wanted::Compared);
        assert!(sql.contains(", t.\"own\" FROM"), "{sql}");
        assert!(
            sql.contains("octet_length(t.\"note\"::pg_catalog.text) > 1048576 THEN ($2::"),
            "{sql}"
        );
    }
}
