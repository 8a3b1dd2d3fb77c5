//! The fence: what keeps writers and copies out of a side, and how they are ordered against a flip.
//!
//! PostgreSQL has advisory locks. CockroachDB has not: there the fence is a mark in the control
//! row, which each SERIALIZABLE transaction that writes reads itself.

use super::{Dialect, Engine};

/// Of the session that holds it: what it looks at is ordered against those who have looked, and
/// does not wait for them, but pushes them behind itself, where they find the row changed. A server
/// without priorities does so by itself.
const HOLDERS_SETTINGS: &str = "\
    SELECT pg_catalog.set_config('default_transaction_isolation', 'serializable', false); \
    SELECT pg_catalog.set_config(s.name, 'high', false) FROM pg_catalog.pg_settings AS s \
    WHERE s.name = 'default_transaction_priority'";

/// The row as a session looks at it that is about to write for callers: what is asked of the
/// other fence, whether there is a mark, and whether that is past its end.
const MARKED_ROW: &str = "\
    SELECT epoch, phase, fenced_by IS NOT NULL, fenced_until < pg_catalog.clock_timestamp() \
    FROM segue.control WHERE id = 1";

/// Two numbers, as advisory locks have them.
pub type LockKey = (i32, i32);

impl Dialect {
    /// Whether advisory locks lock anything, and `pg_locks` tells who holds them.
    pub fn has_advisory_locks(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether the fence is a mark in the control row that each writing transaction looks for.
    pub fn fences_by_mark(self) -> bool {
        match self.engine {
            Engine::PostgreSql => false,
            Engine::CockroachDb => true,
        }
    }

    /// What `BEGIN` must say of a transaction that may write, whatever its caller asked for: in
    /// any other isolation nothing orders its look. Nothing where locks are the fence.
    pub fn writers_isolation(self) -> Option<&'static str> {
        match self.engine {
            Engine::PostgreSql => None,
            Engine::CockroachDb => Some(" ISOLATION LEVEL SERIALIZABLE"),
        }
    }

    /// Takes a session's share of a lock, or says `f`; `t` where no lock is the fence.
    pub fn try_share(self, (class, key): LockKey) -> String {
        match self.engine {
            Engine::PostgreSql => {
                format!("SELECT pg_catalog.pg_try_advisory_lock_shared({class}, {key})")
            }
            // Each of its transactions looks at the epoch itself.
            Engine::CockroachDb => "SELECT 't'".to_owned(),
        }
    }

    /// The control row as a session of callers looks at it: epoch, phase, and where the fence is a
    /// mark whether there is one and whether that is past its end.
    pub fn control_look(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => "SELECT epoch, phase FROM segue.control_state()",
            Engine::CockroachDb => MARKED_ROW,
        }
    }

    /// What the session that holds the fence is set to, beside its timeouts.
    pub fn settings_of_holder(self, lease_ms: u128) -> String {
        match self.engine {
            // The setting came with PostgreSQL 14, which capture needs as well.
            Engine::PostgreSql => format!("SET idle_session_timeout = {lease_ms}"),
            // The mark has an end of its own.
            Engine::CockroachDb => HOLDERS_SETTINGS.to_owned(),
        }
    }

    /// Says for the transaction that it is a copy of segue's own, so that capture lets it pass.
    /// The token does not leave the server. Where its table is not there yet, neither is a trigger
    /// that asks for it.
    pub fn say_copying(self, setting: &str) -> String {
        match self.engine {
            Engine::PostgreSql => format!(
                "DO $segue$ BEGIN \
                 IF pg_catalog.to_regclass('segue.copy_token') IS NOT NULL THEN \
                 PERFORM pg_catalog.set_config('{setting}', c.token, true) \
                 FROM segue.copy_token AS c WHERE c.id = 1; END IF; END $segue$"
            ),
            Engine::CockroachDb => format!("SELECT pg_catalog.set_config('{setting}', 'on', true)"),
        }
    }

    /// Behind another statement: takes the transaction's share of the lock of copies. Nothing
    /// where a look at the control row orders a SERIALIZABLE transaction.
    pub fn and_share_copies(self, (class, key): LockKey) -> String {
        match self.engine {
            Engine::PostgreSql => {
                format!("; SELECT pg_catalog.pg_advisory_xact_lock_shared({class}, {key})")
            }
            Engine::CockroachDb => String::new(),
        }
    }

    /// Shares a turn for the transaction: a lock, or the row of this slot that stands for it.
    pub fn share_turn(self, (class, key): LockKey, slot: i32) -> String {
        match self.engine {
            Engine::PostgreSql => {
                format!("SELECT pg_catalog.pg_advisory_xact_lock_shared({class}, {key})")
            }
            Engine::CockroachDb => format!("SELECT held FROM segue.key_lock WHERE slot = {slot}"),
        }
    }

    /// Takes a turn alone.
    pub fn take_turn(self, (class, key): LockKey, slot: i32) -> String {
        match self.engine {
            Engine::PostgreSql => {
                format!("SELECT pg_catalog.pg_advisory_xact_lock({class}, {key})")
            }
            Engine::CockroachDb => format!(
                "INSERT INTO segue.key_lock AS l (slot, held) VALUES ({slot}, 1) \
                 ON CONFLICT (slot) DO UPDATE SET held = l.held + 1"
            ),
        }
    }

    /// What ends a `SELECT` whose rows nobody may change until the transaction ends.
    pub fn lock_row_clause(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => " FOR SHARE",
            // SERIALIZABLE transactions have no shared locks there.
            Engine::CockroachDb => " FOR UPDATE",
        }
    }

    /// Whether `lock_timeout` bounds waiting for locks alone. Otherwise a plain read waits for
    /// whoever has written the row and not committed yet, and that is bounded as well.
    pub fn lock_timeout_spares_reads(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }
}
