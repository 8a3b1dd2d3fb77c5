//! Asks both sides how they prepare a statement.

use std::sync::Arc;

use crate::domain::fault::SqlFault;
use crate::domain::side::{Side, Sides};
use crate::ports::Database;
use crate::stack::admission::Statements;
use crate::stack::call::{CalledStatement, Described};
use crate::stack::limit::Permits;

/// Describes statements on both sides.
#[derive(Clone)]
pub struct Describe {
    databases: Sides<Arc<dyn Database>>,
    statements: Arc<Statements>,
    permits: Permits,
}

// === impl Describe ===

impl Describe {
    /// Asks these.
    pub fn new(
        databases: Sides<Arc<dyn Database>>,
        statements: Arc<Statements>,
        permits: Permits,
    ) -> Self {
        Self { databases, statements, permits }
    }

    /// Both answers. A side that cannot prepare the statement says why.
    ///
    /// # Errors
    ///
    /// A fault where there is no statement to ask about, or no room for another call.
    pub async fn describe(&self, called: CalledStatement) -> Result<Described, SqlFault> {
        let _permit = self.permits.take()?;
        let (statement, _) = self.statements.resolve(called)?;
        let Sides { source, target } = &self.databases;
        let (source, target) =
            tokio::join!(source.describe(&statement.sql), target.describe(&statement.sql));
        Ok(Described { sides: [(Side::Source, source), (Side::Target, target)] })
    }
}

impl std::fmt::Debug for Describe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Describe")
    }
}
