//! The form in which stored values are compared, as SQL: for reconcile's and verify's readings
//! of rows, and for verify's sums. One rule, [`form`](crate::compare::common::form), says which.

use crate::compare::common::Form;
use crate::dialect::Dialect;
use crate::domain::pg_type::{PgType, TypeKind};
use crate::postgres::mapping::table::{Pair, Role, TableShape};

/// Zeros at the end of the numbers in the text of an array of them, and what stays. The digits
/// in the replacement are read alike whatever `standard_conforming_strings` says.
const TRAILING_ZEROS: &str = "'([.][0-9]*[1-9])0+([,}])|[.]0+([,}])', E'\\\\1\\\\2\\\\3', 'g'";

/// The same of one number's text.
const ZEROS_AT_END: &str = "'([.][0-9]*[1-9])0+$|[.]0+$', E'\\\\1'";

/// Whether one of two sides has no functions that send a value.
pub fn across(dialects: [Dialect; 2]) -> bool {
    !dialects.iter().all(|dialect| dialect.has_send_functions())
}

// === impl TableShape ===

impl TableShape {
    /// What a side speaks.
    pub fn dialect(&self, role: Role) -> Dialect {
        self.dialects[usize::from(role == Role::Shadow)]
    }

    /// Whether one of the sides has no functions that send a value, so that texts are compared.
    pub fn across(&self) -> bool {
        across(self.dialects)
    }
}

/// A column of a side in the form in which the pair is compared. `across` is what [`across`]
/// says of the sides.
pub fn image(pair: &Pair, role: Role, column: &str, across: bool) -> String {
    let ty = match role {
        Role::Primary => pair.judged.primary.ty.base(),
        Role::Shadow => pair.judged.shadow.ty.base(),
    };
    match &pair.form {
        Form::Own(name) | Form::As(name) => format!("{column}::{name}"),
        Form::Value => {
            // By the shortest text of a float: the cast keeps fifteen digits only.
            let float = matches!(ty.name.as_str(), "float4" | "float8");
            let text = if float { "::pg_catalog.text" } else { "" };
            let number = format!("{column}{text}::pg_catalog.numeric");
            if across {
                // `trim_scale` is there from 26.3 on; on both sides the same is done.
                return format!(
                    "pg_catalog.regexp_replace({number}::pg_catalog.text, {ZEROS_AT_END})"
                );
            }
            format!("pg_catalog.trim_scale({number})")
        }
        Form::Values => {
            format!("pg_catalog.regexp_replace({column}::pg_catalog.text, {TRAILING_ZEROS})")
        }
        Form::Unpadded => format!("pg_catalog.rtrim({column}::pg_catalog.text, ' ')"),
        Form::Text if across => format!("{column}::pg_catalog.text"),
        Form::Text => text(ty, column),
    }
}

/// What the type's output function writes. A cast to text that somebody made for a type of his
/// own may write something else, and is gone round; of NULL `format` would make an empty text.
pub fn text(ty: &PgType, column: &str) -> String {
    if is_of_the_system(ty) {
        return format!("{column}::pg_catalog.text");
    }
    format!("CASE WHEN {column} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {column}) END")
}

fn is_of_the_system(ty: &PgType) -> bool {
    match &ty.kind {
        TypeKind::Array(element) => is_of_the_system(element),
        TypeKind::Domain(base) => is_of_the_system(base),
        _ => ty.schema == "pg_catalog",
    }
}
