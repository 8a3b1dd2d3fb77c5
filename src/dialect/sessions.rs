//! Sessions: how one begins, what is set in it, how it is brought back to its first state.

use super::{Dialect, Engine};

const PROBE_POSTGRES: &str = "SELECT pg_catalog.pg_backend_pid(), \
     pg_catalog.current_setting('transaction_read_only'), \
     pg_catalog.pg_is_in_recovery(), \
     pg_catalog.current_setting('server_version_num'), \
     pg_catalog.concat(pg_catalog.pg_postmaster_start_time(), '/', \
       (SELECT pg_catalog.min(a.backend_start) FROM pg_catalog.pg_stat_activity AS a \
        WHERE a.backend_type = 'checkpointer')), \
     (SELECT extract(epoch FROM a.backend_start)::text FROM pg_catalog.pg_stat_activity AS a \
      WHERE a.pid = pg_catalog.pg_backend_pid())";
/// CockroachDB has no standby, and nothing to look up after a lost commit.
const PROBE_COCKROACH: &str = "SELECT pg_catalog.pg_backend_pid(), \
     pg_catalog.current_setting('transaction_read_only'), 'f', '0', '', ''";
/// Ways of planning that somebody has switched off, and costs that are set for the role or the
/// database: segue's statements are few and known, and need their indexes. What the server's own
/// configuration says of costs fits its disks, and stays.
const PLANNER: &str = " UNION ALL \
    SELECT s.name, pg_catalog.set_config(s.name, s.boot_val, false) \
    FROM pg_catalog.pg_settings AS s WHERE s.context = 'user' AND s.setting <> s.boot_val \
        AND (s.name LIKE 'enable\\_%' OR s.source IN ('database', 'user', 'database user') \
            AND (s.name LIKE '%\\_cost' OR s.name LIKE 'geqo%' OR s.name LIKE '%\\_collapse\\_limit' \
                OR s.name IN ('constraint_exclusion', 'cursor_tuple_fraction', \
                    'force_parallel_mode', 'debug_parallel_query', 'effective_cache_size', \
                    'recursive_worktable_factor')))";
/// Errors in English, for the readers of segue's logs, where the role may set it: `{may}`.
const MESSAGES: &str = " UNION ALL \
    SELECT s.name, pg_catalog.set_config(s.name, 'C', false) FROM pg_catalog.pg_settings AS s \
    WHERE s.name = 'lc_messages' AND {may}";
const MAY_SET_MESSAGES: &str = "pg_catalog.has_parameter_privilege('lc_messages', 'set')";
/// Where no parameter can be granted.
const IS_SUPERUSER: &str = "pg_catalog.current_setting('is_superuser') = 'on'";
/// Cursors, subscriptions and the role go before the settings: another role may not be allowed to
/// reset some of them.
const TAKE_OFF: &str =
    "CLOSE ALL; UNLISTEN *; RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; ";
/// CockroachDB has one user for a session's whole life, and its functions cannot subscribe.
const TAKE_OFF_COCKROACH: &str = "CLOSE ALL; RESET ROLE; RESET ALL; ";

/// How long a caller's transaction may stand still where nobody can end a session of another, in
/// milliseconds, beside what `transactions.idle_max` says: it is what a sidecar that is stopped
/// leaves behind.
const LEFT_ALONE_MS: &str = "90000";

/// What a server says of a statement that was canceled on request, where it does not say that it
/// was one.
pub const CANCELED_WITHOUT_REASON: &str = "query execution canceled";

/// A question, and its answer where all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// One column, one row.
    pub sql: &'static str,
    /// As text.
    pub answer: &'static str,
}

type Settings = &'static [(&'static str, &'static str)];

impl Dialect {
    /// What is asked of a server first. It answers the process, `transaction_read_only`, whether
    /// it is a standby, `server_version_num`, what changes with each start, and the beginning of
    /// the process; and these `further` expressions where they mean something.
    pub fn probe(self, further: &[&str]) -> String {
        match self.engine {
            Engine::PostgreSql => {
                let further = further.iter().map(|sql| format!(", {sql}"));
                std::iter::once(PROBE_POSTGRES.to_owned()).chain(further).collect()
            }
            Engine::CockroachDb => PROBE_COCKROACH.to_owned(),
        }
    }

    /// Settings of sessions that answer reads of callers, beside those of every session.
    pub fn settings_of_readers(self) -> Settings {
        match self.engine {
            Engine::PostgreSql => &[],
            Engine::CockroachDb => &[("bytea_output", "hex")],
        }
    }

    /// The same of those that write for callers. In any other isolation than SERIALIZABLE nothing
    /// orders their look at the control row, where that is the fence. Where nobody can end a
    /// session, they end by themselves when their transaction is left alone.
    pub fn settings_of_writers(self) -> Settings {
        match self.engine {
            Engine::PostgreSql => &[],
            Engine::CockroachDb => &[
                // Capture notes keys as the session writes them.
                ("bytea_output", "hex"),
                ("default_transaction_isolation", "serializable"),
                ("idle_in_transaction_session_timeout", LEFT_ALONE_MS),
            ],
        }
    }

    /// The same of segue's own.
    pub fn settings_of_own(self) -> Settings {
        match self.engine {
            // A snapshot taken before a lock was waited for is one of the past.
            Engine::PostgreSql => &[("default_transaction_isolation", "read committed")],
            Engine::CockroachDb => &[("default_transaction_isolation", "serializable")],
        }
    }

    /// More rows of names and values that are set in segue's own sessions: they follow a `SELECT`.
    pub fn further_settings_of_own(self) -> String {
        match self.engine {
            Engine::PostgreSql => {
                let may = if self.grants_settings() { MAY_SET_MESSAGES } else { IS_SUPERUSER };
                format!("{PLANNER}{}", MESSAGES.replace("{may}", may))
            }
            Engine::CockroachDb => String::new(),
        }
    }

    /// Takes off what a caller may have left in a session, up to its settings.
    pub fn take_off(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => TAKE_OFF,
            Engine::CockroachDb => TAKE_OFF_COCKROACH,
        }
    }

    /// Whether nobody has left the session in a transaction. On PostgreSQL `now()` stands still
    /// there, and in a failed one nothing can be asked. CockroachDB reads its clock twice even
    /// where nothing is open, and says itself how it stands.
    pub fn is_at_rest(self) -> Question {
        match self.engine {
            Engine::PostgreSql => Question {
                sql: "SELECT pg_catalog.now() = pg_catalog.statement_timestamp()",
                answer: "t",
            },
            Engine::CockroachDb => Question { sql: "SHOW TRANSACTION STATUS", answer: "NoTxn" },
        }
    }

    /// Whether a role with the rights for it may end sessions and their processes.
    pub fn can_end_sessions(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether `LISTEN` and `NOTIFY` carry messages.
    pub fn has_notify(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether a transaction has an id of 64 bits by which its outcome can be asked for.
    pub fn tells_transaction_ids(self) -> bool {
        match self.engine {
            Engine::PostgreSql => self.version >= 130_000,
            Engine::CockroachDb => false,
        }
    }

    /// Whether a write that met another one is to be made again by whoever sent it: there that is
    /// a common answer, and nothing was applied.
    pub fn asks_for_retries(self) -> bool {
        match self.engine {
            Engine::PostgreSql => false,
            Engine::CockroachDb => true,
        }
    }

    /// Whether the server can lose what it has committed, by a crash or a failover, and tells that
    /// it was another one: then what was forgotten since is asked for again.
    pub fn may_lose_commits(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether what tells one server or cluster from another can be asked by every role.
    pub fn tells_system_identifier(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }
}
