//! Questions that may go unanswered.

use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::sqlstate;
use crate::postgres::session::Session;
use crate::postgres::session::asked::Row;

/// Asks in a transaction that is open, each question under a savepoint.
pub(super) struct Asker<'a> {
    lease: &'a Session,
    /// What was not answered, and why.
    pub(super) not_asked: Vec<(&'static str, String)>,
}

// === impl Asker ===

impl<'a> Asker<'a> {
    pub(super) fn new(lease: &'a Session) -> Self {
        Self { lease, not_asked: Vec::new() }
    }

    /// The session that is asked.
    pub(super) fn lease(&self) -> &'a Session {
        self.lease
    }

    /// Runs a question; none where the server has no answer, which is noted.
    pub(super) async fn rows(
        &mut self,
        what: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SqlFault> {
        self.lease.batch_execute("SAVEPOINT ask").await?;
        let answer = self.lease.query(sql, params).await;
        let (rows, end) = match answer {
            Ok(rows) => (rows, "RELEASE ask"),
            // The session is gone.
            Err(fault) if fault.sqlstate.is_empty() => return Err(fault),
            Err(SqlFault { message, sqlstate, .. }) => {
                self.not_asked.push((what, format!("{message} (SQLSTATE {sqlstate})")));
                (Vec::new(), "ROLLBACK TO ask")
            }
        };
        self.lease.batch_execute(end).await?;
        Ok(rows)
    }

    /// Runs statements for nothing but whether they are allowed; none where that is not known.
    pub(super) async fn is_allowed(&mut self, sql: &str) -> Result<Option<bool>, SqlFault> {
        self.lease.batch_execute("SAVEPOINT ask").await?;
        let allowed = match self.lease.batch_execute(sql).await {
            Ok(()) => Some(true),
            Err(fault) => match fault.sqlstate.as_str() {
                "" => return Err(fault),
                sqlstate::INSUFFICIENT_PRIVILEGE => Some(false),
                _ => None,
            },
        };
        self.lease.batch_execute("ROLLBACK TO ask").await?;
        Ok(allowed)
    }
}
