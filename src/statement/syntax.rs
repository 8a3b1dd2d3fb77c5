//! Faults of the text itself, with the position that the parser's binding does not hand on.

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::sqlstate;

/// Where a server has that setting off, it takes such a text. Segue reads a statement once, for both
/// databases, so a literal must mean the same on both.
const BACKSLASH_HINT: &str = "a backslash in a plain literal is an ordinary character here, whatever \
    standard_conforming_strings says on the server; write E'it\\'s', or 'it''s', or bind a parameter";
/// Places of the same token that are tried to find the one at fault.
const TRIES_MAX: usize = 64;

/// The fault for what the parser said.
pub(crate) fn fault(sql: &str, error: &pg_query::Error) -> SqlFault {
    let message = match error {
        pg_query::Error::Parse(message) | pg_query::Error::Scan(message) => message.clone(),
        other => {
            return SqlFault::new(
                FaultKind::Internal,
                Reason::Internal,
                format!("the statement could not be analysed: {other}"),
            );
        }
    };
    let mut fault = SqlFault::new(FaultKind::InvalidArgument, Reason::StatementSyntax, &*message);
    sqlstate::SYNTAX_ERROR.clone_into(&mut fault.sqlstate);
    fault.position = position(sql, &message);
    if sql.contains("\\'") {
        BACKSLASH_HINT.clone_into(&mut fault.hint);
    }
    fault
}

/// Character position from 1 of what a message complains about; 0 where unknown.
fn position(sql: &str, message: &str) -> u32 {
    if message.ends_with("at end of input") {
        return characters(sql, sql.trim_end().len());
    }
    let Some(near) =
        message.split_once("at or near \"").and_then(|(_, rest)| rest.strip_suffix('"'))
    else {
        return 0;
    };
    let places: Vec<usize> = sql.match_indices(near).map(|(at, _)| at).take(TRIES_MAX).collect();
    if let [only] = places.as_slice() {
        return characters(sql, *only);
    }
    // The parser stops at the first token that cannot follow, so a text that ends with the
    // token at fault brings the same complaint, and one that ends earlier does not.
    places
        .into_iter()
        .find(|at| {
            sql.get(..at + near.len()).is_some_and(|prefix| {
                matches!(pg_query::parse(prefix, 0),
                    Err(pg_query::Error::Parse(found)) if found == message)
            })
        })
        .map_or(0, |at| characters(sql, at))
}

fn characters(sql: &str, at: usize) -> u32 {
    let before = sql.get(..at).map_or(0, |prefix| prefix.chars().count());
    u32::try_from(before + 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_before_a_quote_is_refused_with_the_way_out() {
        let sql = r"SELECT 'it\'s'";
        let error = pg_query::parse(sql, 0).err().unwrap();
        assert!(fault(sql, &error).hint.contains("bind a parameter"));
        let error = pg_query::parse("SELEC 1", 0).err().unwrap();
        assert_eq!(fault("SELEC 1", &error).hint, "");
    }

    #[test]
    fn the_place_is_found() {
        for (sql, expected) in [
            ("SELECT 1 FROM WHERE", 15),
            ("SELECT 1 +", 11),
            ("SELECT a FROM b WHERE x FROM", 25),
            ("SELECT 'ä', 'unclosed", 13),
            ("SELEC 1", 1),
        ] {
            let error = pg_query::parse(sql, 0).err().unwrap();
            let fault = fault(sql, &error);
            assert_eq!((fault.position, fault.sqlstate.as_str()), (expected, "42601"), "{sql}");
        }
    }
}
