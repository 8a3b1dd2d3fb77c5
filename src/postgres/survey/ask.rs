//! Questions that may go unanswered.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use crate::domain::fault::SqlFault;
use crate::domain::sqlstate;
use crate::postgres::session::Session;

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

    /// A fault of the session.
    pub(super) fn fault(&self, error: Error) -> SqlFault {
        self.lease.fault(error, true)
    }

    /// Runs a question; none where the server has no answer, which is noted.
    pub(super) async fn rows(
        &mut self,
        what: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SqlFault> {
        self.lease.batch_execute("SAVEPOINT ask").await.map_err(|error| self.fault(error))?;
        let answer = self.lease.query(sql, params).await;
        let (rows, end) = match answer {
            Ok(rows) => (rows, "RELEASE ask"),
            Err(error) => match error.as_db_error() {
                // The session is gone.
                None => return Err(self.fault(error)),
                Some(db) => {
                    let why = format!("{} (SQLSTATE {})", db.message(), db.code().code());
                    self.not_asked.push((what, why));
                    (Vec::new(), "ROLLBACK TO ask")
                }
            },
        };
        self.lease.batch_execute(end).await.map_err(|error| self.fault(error))?;
        Ok(rows)
    }

    /// Runs statements for nothing but whether they are allowed; none where that is not known.
    pub(super) async fn is_allowed(&mut self, sql: &str) -> Result<Option<bool>, SqlFault> {
        self.lease.batch_execute("SAVEPOINT ask").await.map_err(|error| self.fault(error))?;
        let allowed = match self.lease.batch_execute(sql).await {
            Ok(()) => Some(true),
            Err(error) => match error.as_db_error().map(|db| db.code().code()) {
                None => return Err(self.fault(error)),
                Some(sqlstate::INSUFFICIENT_PRIVILEGE) => Some(false),
                Some(_) => None,
            },
        };
        self.lease.batch_execute("ROLLBACK TO ask").await.map_err(|error| self.fault(error))?;
        Ok(allowed)
    }
}
