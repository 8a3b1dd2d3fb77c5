//! One question to one side: a read-only transaction of its own.

use tokio_postgres::SimpleQueryMessage;

use crate::domain::key::KeyValues;
use crate::domain::key_range::KeyRange;
use crate::domain::sqlstate::{self, class};
use crate::postgres::mapping::table::Role;
use crate::postgres::reconcile::halt::{Halt, is_of_values};
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::verify::{Table, Verifier};

/// A scan of a part should not take the machine's other processors, and is not worth a compiler.
const MODEST: &str = "SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off";

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// A value, or a bound, cannot be brought to the asked form there: the rows must be looked
    /// at one by one.
    Value(Halt),
    /// Anything else.
    Halt(Halt),
}

// === impl Failed ===

impl Failed {
    /// The reason without the distinction.
    pub(super) fn halt(self) -> Halt {
        match self {
            Self::Value(halt) | Self::Halt(halt) => halt,
        }
    }
}

/// Rows of cells as text.
pub(super) type Answer = Vec<Vec<Option<String>>>;

// === impl Verifier ===

impl Verifier {
    /// Asks a side. Values are literals, so that the plan is made for them.
    pub(super) async fn ask(&self, role: Role, sql: &str) -> Result<Answer, Failed> {
        let pool = self.reconciler.pool(role);
        let transaction = Transaction::open_reading(pool, self.params.deadline).await;
        let transaction = transaction.map_err(Failed::Halt)?;
        let client = transaction.client().map_err(Failed::Halt)?;
        let mut begin = String::new();
        if client.dialect().has_planner_settings() {
            begin.push_str(MODEST);
            begin.push(';');
        }
        begin.push_str(sql);
        let answer = client.simple_query(&begin).await.map_err(|fault| {
            let value = is_of_some_row(&fault.sqlstate);
            let halt = Halt::from(fault);
            if value { Failed::Value(halt) } else { Failed::Halt(halt) }
        })?;
        transaction.end("ROLLBACK").await.map_err(Failed::Halt)?;
        Ok(answer.iter().filter_map(cells).collect())
    }

    /// Keys at which the range is cut into parts of so many rows, as that side counts them; at
    /// most `bounds_max`.
    pub(super) async fn bounds(
        &self,
        table: &Table,
        role: Role,
        range: &KeyRange,
        (rows, bounds_max): (u64, usize),
    ) -> Result<Vec<KeyValues>, Failed> {
        let sql = table.key(role).next_bounds(range, rows, bounds_max);
        let answer = self.ask(role, &sql).await?;
        // A column of a primary key is never NULL.
        let key = |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default);
        Ok(answer.into_iter().map(|row| key(row).collect()).collect())
    }
}

/// SQLSTATEs that some row may be the reason of: a value, a limit that it passes, damaged data.
fn is_of_some_row(code: &str) -> bool {
    let damaged = code.starts_with(class::INTERNAL_ERROR)
        || code.starts_with(class::PROGRAM_LIMIT_EXCEEDED)
        || code == sqlstate::OUT_OF_MEMORY;
    is_of_values(code) || damaged
}

fn cells(message: &SimpleQueryMessage) -> Option<Vec<Option<String>>> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect())
}
