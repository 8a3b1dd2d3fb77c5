//! What a session is for, and the settings that this asks for.

use std::time::Duration;

use crate::dialect::Dialect;
use crate::domain::table::quote_literal;
use crate::postgres::session::silence::{DEFAULT_LEASE, silence_max};

/// How often a server asks a client that is silent on the network whether it is there, once it has
/// begun to ask, and how often in vain.
const KEEPALIVE_INTERVAL_S: u64 = 1;
const KEEPALIVE_COUNT: u64 = 2;
/// For any one of segue's own statements; those that may take longer say so themselves.
const OWN_STATEMENT: Duration = Duration::from_secs(60);
/// For a lock that one of segue's own statements waits for.
const OWN_LOCK: Duration = Duration::from_secs(5);
/// The same for the control row, the lease and the fleet: the next attempt is due soon.
const CONTROL_STATEMENT: Duration = Duration::from_secs(5);
const CONTROL_LOCK: Duration = Duration::from_secs(2);

/// How long a caller may leave a transaction alone, where nothing else is configured.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The server waits for longer than the sidecar, which tells its caller.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// What segue's own statements rely on, whatever is set for its role or the database.
const RELIED_ON: [(&str, &str); 11] = [
    ("row_security", "off"),
    // Functions of capture are compared as they are printed.
    ("quote_all_identifiers", "off"),
    // The keys of rows go to and fro as arrays.
    ("array_nulls", "on"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "hex"),
    ("transform_null_equals", "off"),
    ("xmloption", "content"),
    // What is prepared once must not be planned once for the values of its first run.
    ("plan_cache_mode", "auto"),
    // Compiling costs more than any of segue's statements.
    ("jit", "off"),
    // Sessions at rest are kept.
    ("idle_session_timeout", "0"),
    ("default_transaction_deferrable", "off"),
];

/// Begins a transaction that looks at catalogues, and at tables of segue's own, for people: nobody
/// waits for what it holds. So it needs no end by the lease, and a process that gets no time, or
/// asks the other side meanwhile, does not lose it; it ends by itself because vacuum waits for its
/// snapshot.
pub const BEGIN_LOOK: &str = "BEGIN READ ONLY; SET LOCAL search_path = pg_catalog; \
    SET LOCAL idle_in_transaction_session_timeout = '5min'";
/// The same for a transaction that has begun.
pub const LOOK_SILENCE: &str = "SET LOCAL idle_in_transaction_session_timeout = '5min'";
/// The same, of one snapshot.
pub const BEGIN_LOOK_AT_ONE_STATE: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL search_path = pg_catalog; SET LOCAL idle_in_transaction_session_timeout = '5min'";

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
    /// For a client that says nothing in the middle of a transaction; `None` leaves the server's
    /// default. A shorter one that callers' role has stays.
    pub silence: Option<Duration>,
    /// For a whole transaction, where the server knows such a limit; zero is none, and `None`
    /// leaves the server's default.
    pub transaction_timeout: Option<Duration>,
    /// After which the server takes a client for gone that does not answer on the network.
    pub unreachable: Duration,
    /// For an answer that the client's machine does not take; `None` leaves the server's default,
    /// as where a client may take its time with a large one.
    pub unacknowledged: Option<Duration>,
}

impl SessionLimits {
    /// What fits most: calls bring their own deadlines, segue's own work does not. By the lease
    /// of a fleet that has not said otherwise.
    pub fn for_purpose(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Read | Purpose::Write => Self::of_callers(DEFAULT_LEASE, IDLE_MAX),
            Purpose::Own => Self::own(DEFAULT_LEASE),
        }
    }

    /// For sessions that run statements of callers, who may leave a transaction alone for so long.
    /// The sidecar ends it then; where that is stopped, and no other one is there, the server does.
    pub fn of_callers(lease: Duration, idle_max: Duration) -> Self {
        Self {
            statement_timeout: None,
            lock_timeout: None,
            silence: Some(idle_max + LEFT_ALONE),
            transaction_timeout: None,
            unreachable: silence_max(lease),
            unacknowledged: None,
        }
    }

    /// For segue's own work: see [`crate::postgres::own_transactions`].
    pub fn own(lease: Duration) -> Self {
        Self {
            statement_timeout: Some(OWN_STATEMENT),
            lock_timeout: Some(OWN_LOCK),
            silence: Some(silence_max(lease)),
            transaction_timeout: Some(Duration::ZERO),
            unreachable: silence_max(lease),
            unacknowledged: None,
        }
    }

    /// For the control row, the lease and the fleet. The server gives these up early: the next
    /// attempt is due soon.
    pub fn control(lease: Duration) -> Self {
        Self {
            statement_timeout: Some(CONTROL_STATEMENT.min(silence_max(lease))),
            lock_timeout: Some(CONTROL_LOCK.min(silence_max(lease))),
            transaction_timeout: Some(lease),
            unacknowledged: Some(silence_max(lease)),
            ..Self::own(lease)
        }
    }
}

/// One statement that makes a fresh session what its purpose asks for. Settings that a
/// server does not have are left out; `synchronous_commit` is only ever made stronger. It answers
/// what was set, which a reset of the session sets again.
///
/// The time zone and the order of days and months stay the server's, as the application
/// knows them; what the text form of parameters depends on is fixed.
pub(super) fn session_sql(purpose: Purpose, limits: SessionLimits, dialect: Dialect) -> String {
    let mut settings = vec![
        ("DateStyle", "ISO".to_owned()),
        ("IntervalStyle", "postgres".to_owned()),
        ("extra_float_digits", "1".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("client_connection_check_interval", milliseconds(limits.unreachable)),
    ];
    settings.extend(reachability(limits.unreachable));
    match purpose {
        Purpose::Read => settings.push(("default_transaction_read_only", "on".to_owned())),
        Purpose::Write => {}
        Purpose::Own => {
            settings.extend(RELIED_ON.map(|(name, value)| (name, value.to_owned())));
        }
    }
    let of_dialect = match purpose {
        Purpose::Read => dialect.settings_of_readers(),
        Purpose::Write => dialect.settings_of_writers(),
        Purpose::Own => dialect.settings_of_own(),
    };
    settings.extend(of_dialect.iter().map(|(name, value)| (*name, (*value).to_owned())));
    if let Some(limit) = limits.statement_timeout {
        settings.push(("statement_timeout", milliseconds(limit)));
    }
    if let Some(limit) = limits.lock_timeout {
        settings.push(("lock_timeout", milliseconds(limit)));
    }
    // CockroachDB's own is among its settings.
    let has_silence = purpose == Purpose::Own || dialect.can_end_sessions();
    if let Some(limit) = limits.silence.filter(|_| has_silence) {
        settings.push(("idle_in_transaction_session_timeout", milliseconds(limit)));
    }
    if let Some(limit) = limits.unacknowledged {
        settings.push(("tcp_user_timeout", milliseconds(limit)));
    }
    if let Some(limit) = limits.transaction_timeout {
        settings.push(("transaction_timeout", limit.as_millis().to_string()));
    }
    let values: Vec<_> = settings
        .iter()
        .map(|(name, value)| format!("({}, {})", quote_literal(name), quote_literal(value)))
        .collect();
    let sql = format!(
        "SELECT s.name, pg_catalog.set_config(s.name, v.value, false) \
         FROM (VALUES {}) AS v(name, value) \
         JOIN pg_catalog.pg_settings AS s ON pg_catalog.lower(s.name) = pg_catalog.lower(v.name) \
         WHERE NOT (s.name = 'synchronous_commit' AND s.setting = 'remote_apply')",
        values.join(", ")
    );
    let stricter = " AND NOT (s.name = 'idle_in_transaction_session_timeout' AND s.setting <> '0' \
        AND s.setting::int8 < v.value::int8)";
    match purpose {
        Purpose::Own => sql + &dialect.further_settings_of_own(),
        Purpose::Read | Purpose::Write if has_silence => sql + stricter,
        Purpose::Read | Purpose::Write => sql,
    }
}

/// How a server notices that a client is gone without a word: what a connection leaves behind that
/// was cut off. A Unix socket has nothing of the kind, and needs none.
fn reachability(unreachable: Duration) -> [(&'static str, String); 3] {
    let asking_s = KEEPALIVE_INTERVAL_S * KEEPALIVE_COUNT;
    let idle_s = unreachable.as_secs().saturating_sub(asking_s).max(1);
    [
        ("tcp_keepalives_idle", idle_s.to_string()),
        ("tcp_keepalives_interval", KEEPALIVE_INTERVAL_S.to_string()),
        ("tcp_keepalives_count", KEEPALIVE_COUNT.to_string()),
    ]
}

fn milliseconds(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}
