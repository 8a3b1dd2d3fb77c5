//! What a session is for, and the settings that this asks for.

use std::time::Duration;

use crate::domain::table::quote_literal;

/// How often a server looks whether its client is still there while it runs a statement.
const CLIENT_CHECK: Duration = Duration::from_secs(5);

/// How long a caller's transaction may stand still on CockroachDB, beside what
/// `transactions.idle_max` says: it is what a sidecar that is stopped leaves behind.
const LEFT_ALONE: Duration = Duration::from_secs(90);

/// What a session is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Reads of callers: the session refuses writes.
    Read,
    /// Writes and transactions of callers.
    Write,
    /// Segue's own work: sees every row, gives up on locks early.
    Own,
}

impl Purpose {
    /// The name used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Own => "own",
        }
    }
}

/// Limits that the server enforces on sessions of a purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// For any one statement; `None` leaves the server's default. Calls have deadlines of
    /// their own, this is for what is left behind when segue dies.
    pub statement_timeout: Option<Duration>,
    /// For waiting on a lock; `None` leaves the server's default.
    pub lock_timeout: Option<Duration>,
}

impl SessionLimits {
    /// What fits most: calls bring their own deadlines, segue's own work does not.
    pub fn for_purpose(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Read | Purpose::Write => Self { statement_timeout: None, lock_timeout: None },
            Purpose::Own => Self {
                statement_timeout: Some(Duration::from_secs(60)),
                lock_timeout: Some(Duration::from_secs(5)),
            },
        }
    }
}

/// One statement that makes a fresh session what its purpose asks for. Settings that a
/// server does not have are left out; `synchronous_commit` is only ever made stronger.
///
/// The time zone and the order of days and months stay the server's, as the application
/// knows them; what the text form of parameters depends on is fixed.
///
/// On CockroachDB sessions that may write are SERIALIZABLE where nothing else is said: in any other
/// isolation nothing orders their look at the control row. Nobody can end a session there, so those
/// of callers end by themselves where their transaction is left alone.
pub(super) fn session_sql(purpose: Purpose, limits: SessionLimits, is_cockroach: bool) -> String {
    let mut settings = vec![
        ("DateStyle", "ISO".to_owned()),
        ("IntervalStyle", "postgres".to_owned()),
        ("extra_float_digits", "1".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("client_connection_check_interval", milliseconds(CLIENT_CHECK)),
    ];
    match purpose {
        Purpose::Read => settings.push(("default_transaction_read_only", "on".to_owned())),
        Purpose::Write => {}
        Purpose::Own => settings.push(("row_security", "off".to_owned())),
    }
    if is_cockroach {
        // Capture notes keys as the session writes them.
        settings.push(("bytea_output", "hex".to_owned()));
    }
    if is_cockroach && purpose != Purpose::Read {
        settings.push(("default_transaction_isolation", "serializable".to_owned()));
    }
    if is_cockroach && purpose == Purpose::Write {
        settings.push(("idle_in_transaction_session_timeout", milliseconds(LEFT_ALONE)));
    }
    if let Some(limit) = limits.statement_timeout {
        settings.push(("statement_timeout", milliseconds(limit)));
    }
    if let Some(limit) = limits.lock_timeout {
        settings.push(("lock_timeout", milliseconds(limit)));
    }
    let values: Vec<_> = settings
        .iter()
        .map(|(name, value)| format!("({}, {})", quote_literal(name), quote_literal(value)))
        .collect();
    format!(
        "SELECT pg_catalog.set_config(s.name, v.value, false) \
         FROM (VALUES {}) AS v(name, value) \
         JOIN pg_catalog.pg_settings AS s ON pg_catalog.lower(s.name) = pg_catalog.lower(v.name) \
         WHERE NOT (s.name = 'synchronous_commit' AND s.setting = 'remote_apply')",
        values.join(", ")
    )
}

fn milliseconds(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}
