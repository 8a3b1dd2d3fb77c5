//! What types a statement has, as the server prepares it.

use std::sync::Arc;

use super::read::ReadConnections;
use crate::domain::fault::SqlFault;
use crate::ports::Description;

/// Prepares a statement on a session for reads and tells its types.
pub(super) async fn describe(
    connections: &ReadConnections,
    sql: &str,
) -> Result<Description, SqlFault> {
    let lease = connections.lease(None).await?;
    lease.set_busy(true);
    // Nothing is run.
    lease.set_touched(false);
    let prepared = lease.prepared(sql).await;
    if !prepared.as_ref().is_err_and(crate::postgres::session::fault::ends_session) {
        lease.set_busy(false);
    }
    let prepared = prepared?;
    Ok(Description {
        parameters: prepared.parameters.clone(),
        columns: Arc::clone(&prepared.columns),
    })
}
