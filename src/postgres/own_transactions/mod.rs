//! Transactions and sessions of segue's own that another member may have to wait for, and what
//! ends each of them.
//!
//! A process may be stopped, or cut off, at any moment. What it leaves behind in a database must
//! not hold up the fleet for longer than a lease. So each of them has an end that the *server*
//! enforces, by the settings that [`SessionLimits`] gives its session or that its transaction sets;
//! and who waits for one past that ends its session, whatever it holds ([`end_silent`]). To end a
//! session is safe at any moment: its transaction is committed by then, or rolled back as a whole,
//! and whoever ran it asks the database what became of it. `docs/explanation/correctness.md` has
//! this list.
//!
//! [`SessionLimits`]: crate::postgres::session::settings::SessionLimits

mod silent;

use std::time::Duration;

use crate::postgres::fence::{CLASS, COPIES, TRANSACTIONS};
use crate::postgres::schema::SETUP_LOCK;

pub use silent::{end_in_the_way, end_left_by_lost, end_silent, end_silent_changes};

/// A promotion is three messages in a row: a client of which nothing is heard for so long in the
/// middle of one is stopped or cut off.
pub const PROMOTION_SILENCE_MAX: Duration = Duration::from_secs(1);

/// How the names of the sessions begin in which a backfill copies.
pub const COPY_SESSIONS: &str = "segue-backfill-";

/// A transaction or session of segue's own.
#[derive(Debug, Clone, Copy)]
pub struct OwnTransaction {
    /// What it is for.
    pub name: &'static str,
    /// What it holds, in words.
    pub holds: &'static str,
    /// Who waits for it.
    pub waits: &'static str,
    /// The end that the server enforces.
    pub server_ends: &'static str,
    /// Who ends it that waits past that.
    pub ended_by: &'static str,
    /// By what its session is told from others, where [`end_silent`] looks for it.
    locks: &'static [Held],
}

/// A granted lock that nothing but segue's own transactions takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// The exclusive lock of copies.
    Copies,
    /// The exclusive lock of captured transactions, or of an epoch's sessions.
    Fence,
    /// The lock of whoever changes the schema of segue or its triggers.
    Setup,
    /// A row of this table is changed.
    Changes(&'static str),
    /// A part of the outbox is emptied.
    Part,
}

/// The end that most of them have.
const HALF_A_LEASE: &str = "half of `control.lease` while its client is silent";
/// Who looks after most of them.
const EVERY_MEMBER: &str = "every member, four times in a lease";

/// All of them.
pub const OWN: [OwnTransaction; 12] = [
    OwnTransaction {
        name: "promotion",
        holds: "the exclusive lock of copies, and the control row",
        waits: "members that take up the new primary; copies",
        server_ends: HALF_A_LEASE,
        ended_by: "the next promotion, after a second",
        locks: &[Held::Copies],
    },
    OwnTransaction {
        name: "change of the control row",
        holds: "the control row",
        waits: "every later change of it",
        server_ends: HALF_A_LEASE,
        ended_by: "the next promotion, after a second; every member, four times in a lease",
        locks: &[Held::Changes("segue.control")],
    },
    OwnTransaction {
        name: "fence",
        holds: "the exclusive locks of captured transactions and of the epoch's sessions",
        waits: "every writer",
        server_ends: "`cutover.pause_lease`, and no later than `control.lease`",
        ended_by: EVERY_MEMBER,
        locks: &[Held::Fence],
    },
    OwnTransaction {
        name: "pause, lease, leader",
        holds: "one row of `segue.pause`, `segue.pause_report`, `segue.member` or `segue.leader`",
        waits: "who announces, reports, renews or leads next",
        server_ends: "the end of its one statement; 5 s at most, and half of `control.lease`",
        ended_by: EVERY_MEMBER,
        locks: &[
            Held::Changes("segue.pause"),
            Held::Changes("segue.pause_report"),
            Held::Changes("segue.member"),
            Held::Changes("segue.leader"),
        ],
    },
    OwnTransaction {
        name: "setup",
        holds: "the lock of the session that changes segue's schema or its triggers, and the tables' own",
        waits: "sidecars that start; writers of a table that gets its triggers",
        server_ends: HALF_A_LEASE,
        ended_by: EVERY_MEMBER,
        locks: &[Held::Setup],
    },
    OwnTransaction {
        name: "upkeep of the outbox",
        holds: "a part of the ring, and the row of `segue.outbox_state`",
        waits: "claims; readers of the outbox",
        server_ends: HALF_A_LEASE,
        ended_by: EVERY_MEMBER,
        locks: &[Held::Part, Held::Changes("segue.outbox_state")],
    },
    OwnTransaction {
        name: "recall of forgotten keys",
        holds: "the row of a server in `segue.server_seen`",
        waits: "who forgets",
        server_ends: HALF_A_LEASE,
        ended_by: EVERY_MEMBER,
        locks: &[Held::Changes("segue.server_seen")],
    },
    OwnTransaction {
        name: "claim of outbox rows",
        holds: "rows of the outbox, which other claims pass over",
        waits: "a cutover that drains; upkeep, for a moment",
        server_ends: "90 s while its client is silent",
        ended_by: "the cutover, after half a second",
        locks: &[],
    },
    OwnTransaction {
        name: "reconcile, chunk of the backfill, emptying of the target",
        holds: "the shared lock of copies, keys and rows of the shadow",
        waits: "a promotion; reconciles of the same keys",
        server_ends: "four times `reconcile.deadline`; a chunk 5 min, and the end of its claim",
        ended_by: "the promotion, after 0.2 s",
        locks: &[],
    },
    OwnTransaction {
        name: "session that writes for callers",
        holds: "the shared locks of its epoch and its member, and what its callers have locked",
        waits: "the fence; every other writer of the same rows",
        server_ends: "the connection, checked by the server within half of `control.lease`; an open transaction 10 s past `transactions.idle_max`",
        ended_by: "the fence, and every member, four times in a lease, in a transaction, when its member's lease is over",
        locks: &[],
    },
    OwnTransaction {
        name: "session that answers reads of callers",
        holds: "the shared lock that names its member",
        waits: "who makes the other side the primary; a change of the schema, where it is in a transaction",
        server_ends: "the connection, checked by the server within half of `control.lease`",
        ended_by: "who makes the other side the primary, after a quarter of a lease; every member, in a transaction, when its member's lease is over",
        locks: &[],
    },
    OwnTransaction {
        name: "reading of rows (verify, snapshot of a chunk)",
        holds: "nothing but the shared lock of tables that every read takes",
        waits: "a change of the schema by the application",
        server_ends: "four times the statement's limit; a chunk's snapshot 5 min",
        ended_by: "every member, four times in a lease, when it has stood still for a lease and somebody waits for its table",
        locks: &[],
    },
];

impl Held {
    /// The condition on a row `l` of `pg_locks`.
    fn condition(self) -> String {
        let pair = |keys: String| {
            format!(
                "l.locktype = 'advisory' AND l.objsubid = 2 AND l.mode = 'ExclusiveLock' \
                 AND l.classid::int8 = {CLASS} AND l.objid::int8 {keys}"
            )
        };
        // Keys are shown unsigned.
        let copies = COPIES.cast_unsigned();
        match self {
            Self::Copies => pair(format!("= {copies}")),
            Self::Fence => pair(format!("BETWEEN {TRANSACTIONS} AND {}", i32::MAX)),
            Self::Setup => format!(
                "l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock' \
                 AND l.classid::int8 = {} AND l.objid::int8 = {}",
                SETUP_LOCK >> 32,
                SETUP_LOCK & i64::from(u32::MAX)
            ),
            Self::Changes(table) => format!(
                "l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' \
                 AND l.relation = pg_catalog.to_regclass('{table}')"
            ),
            Self::Part => "l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' \
                 AND l.relation IN (SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i \
                     WHERE i.inhparent = pg_catalog.to_regclass('segue.outbox'))"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::session::silence::silence_max;

    /// The page that operators read has each of them, with its ends.
    #[test]
    fn the_documentation_lists_every_transaction_that_others_wait_for() {
        let page = include_str!("../../../docs/explanation/correctness.md");
        for it in OWN {
            let row = [it.name, it.holds, it.waits, it.server_ends, it.ended_by].join(" | ");
            assert!(
                page.contains(&format!("| {row} |")),
                "docs/explanation/correctness.md lacks: | {row} |"
            );
        }
    }

    #[test]
    fn a_silent_client_is_waited_for_for_less_than_the_lease() {
        for lease in [1, 4, 10, 60].map(Duration::from_secs) {
            assert!(silence_max(lease) < lease, "{lease:?}");
        }
    }
}
