//! How deeply a statement nests, judged before anything recurses over it.
//!
//! The parser, its decoder and every walk recurse with the nesting of expressions. A
//! statement of some hundred kilobytes of `1+1+1+…` would otherwise end the process.

use std::thread;

use pg_query::protobuf::{ScanToken, Token};

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;

/// Nesting up to which a caller's own stack is surely enough.
const SHALLOW: usize = 100;
/// Nesting that is refused. PostgreSQL's own limit lies at a few thousand.
const DEPTH_MAX: usize = 4000;
/// Tokens of one statement: each takes up to some 700 bytes while it is analysed.
const TOKENS_MAX: usize = 400_000;
/// Enough for `DEPTH_MAX` even without optimisation; pages that are not touched cost nothing.
const DEEP_STACK_BYTES: usize = 512 << 20;

/// Runs `work` on `sql`, on a larger stack where its nesting asks for one.
///
/// # Errors
///
/// `refused.too_deep` where the statement nests too deeply for anybody,
/// `limit.statement_tokens` where it is too long.
pub(crate) fn with_stack<T: Send>(
    sql: &str,
    work: impl FnOnce() -> Result<T, SqlFault> + Send,
) -> Result<T, SqlFault> {
    // Text that the scanner does not take is a syntax error, for the parser to tell.
    // (`scan_tokens` would be cheaper, but must not be given a text without any token.)
    let tokens = pg_query::scan(sql).map(|scanned| scanned.tokens).unwrap_or_default();
    let (depth, count) = (estimate(&tokens), tokens.len());
    drop(tokens);
    if depth > DEPTH_MAX {
        return Err(SqlFault::new(
            FaultKind::LimitExceeded,
            Reason::RefusedTooDeep,
            format!("the statement nests about {depth} levels deep, the limit is {DEPTH_MAX}"),
        )
        .with_hint("pass long lists as an array parameter, or split the statement"));
    }
    if count > TOKENS_MAX {
        return Err(SqlFault::new(
            FaultKind::LimitExceeded,
            Reason::LimitStatementTokens,
            format!("the statement has {count} words and signs, the limit is {TOKENS_MAX}"),
        )
        .with_hint("pass values as parameters or arrays, or split the statement"));
    }
    if depth <= SHALLOW {
        return work();
    }
    thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(DEEP_STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| internal(&format!("no thread to analyse a deep statement: {error}")))?
            .join()
            .map_err(|_| internal("the analysis of a deep statement failed"))?
    })
}

fn internal(message: &str) -> SqlFault {
    SqlFault::new(FaultKind::Internal, Reason::Internal, message)
}

/// One level of parentheses or `CASE`.
#[derive(Default, Clone, Copy)]
struct Level {
    /// Joins and set operations so far: they nest to the left, whatever stands between them.
    chained: usize,
    /// Tokens since the last one that ends an operand.
    run: usize,
}

/// An upper bound of the nesting, from the tokens alone.
fn estimate(tokens: &[ScanToken]) -> usize {
    let mut levels = vec![Level::default()];
    let (mut below, mut deepest) = (0, 0);
    for token in tokens {
        let nested = levels.len() > 1;
        let Some(level) = levels.last_mut() else { break };
        match Token::try_from(token.token) {
            Ok(Token::Ascii40 | Token::Ascii91 | Token::Case) => {
                level.run += 1;
                below += level.chained + level.run;
                levels.push(Level::default());
            }
            Ok(Token::Ascii41 | Token::Ascii93 | Token::EndP) if nested => {
                levels.pop();
                let outer = levels.last().copied().unwrap_or_default();
                below -= outer.chained + outer.run;
            }
            // These lists are flat in the tree.
            Ok(Token::Ascii44 | Token::And | Token::Or | Token::Ascii59) => level.run = 0,
            Ok(Token::Join | Token::Union | Token::Intersect | Token::Except) => level.chained += 1,
            // A name or a constant is a leaf.
            Ok(Token::Ident | Token::Iconst | Token::Fconst | Token::Sconst | Token::Param) => {}
            _ => level.run += 1,
        }
        let level = levels.last().copied().unwrap_or_default();
        deepest = deepest.max(below + level.chained + level.run);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(sql: &str) -> usize {
        estimate(&pg_query::scan(sql).unwrap().tokens)
    }

    #[test]
    fn plain_statements_are_shallow() {
        let columns = (0..500).map(|i| format!("column_{i}")).collect::<Vec<_>>().join(", ");
        let values = vec!["(1, 'a', $1, now())"; 1000].join(", ");
        assert!(depth(&format!("INSERT INTO t ({columns}) VALUES {values}")) <= SHALLOW);
        let conditions = vec!["(a = 1 AND b BETWEEN 1 AND 2)"; 1000].join(" OR ");
        assert!(depth(&format!("SELECT {columns} FROM t WHERE {conditions}")) <= SHALLOW);
    }

    #[test]
    fn chains_and_nests_are_seen() {
        assert!(depth(&format!("SELECT 1{}", "+1".repeat(500))) >= 500);
        assert!(depth(&format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500))) >= 500);
        assert!(depth(&vec!["SELECT 1, 2"; 500].join(" UNION ALL ")) >= 499);
        let joins = vec!["JOIN t ON a = 1 AND b = 2"; 500].join(" ");
        assert!(depth(&format!("SELECT 1 FROM t {joins}")) >= 500);
        let cases = "CASE WHEN a AND b THEN ".repeat(500);
        assert!(depth(&format!("SELECT {cases} 1 {}", "END ".repeat(500))) >= 500);
    }
}
