//! Keys of shifting reads and of the gates.

use crate::config::keys::list::key;
use crate::config::keys::{Key, Kind};

/// How reads move.
pub(super) const READ_ROUTING: &[Key] = &[
    key(
        "target_percentage",
        Kind::Percent,
        "5",
        "share of the reads that the target answers once `shift` has settled",
    ),
    key(
        "escalation_schedule",
        Kind::Tables,
        "",
        "steps, each with `after` and `percentage`; 20, 50, 80, 100, each after `24h`, where absent",
    ),
    key("rollback_trigger", Kind::Map, "", "limits that put the share back to 0; see below"),
];

/// How a slow target is dealt with.
pub(super) const SHIFT: &[Key] = &[
    key(
        "write_wait",
        Kind::Duration,
        "250ms",
        "time that a write's answer waits for its reconcile before it goes out with a token",
    ),
    key(
        "target_timeout",
        Kind::Duration,
        "1s",
        "time that the target is given for a read's first answer before the source is asked",
    ),
    key(
        "breaker_failures",
        Kind::Count(1, 10_000),
        "5",
        "failures in a row after which a sick target is not waited for",
    ),
    key("breaker_pause", Kind::Duration, "1s", "time until it is tried again"),
];

/// What a phase is left by.
pub(super) const GATES: &[Key] = &[
    key("dual_write_min", Kind::Duration, "14d", "time in `dual_write`"),
    key("quiet_min", Kind::Duration, "48h", "time without a difference before reads are shifted"),
    key(
        "samples_min",
        Kind::Count(0, u32::MAX as u64),
        "10000",
        "judged samples within that time; without a difference, n of them bound the rate by 3/n",
    ),
    key(
        "full_shift_min",
        Kind::Duration,
        "24h",
        "time with all reads on the target before a cutover",
    ),
    key("outbox_age_max", Kind::Duration, "10s", "age of the oldest key that waits"),
    key("rehearsals_min", Kind::Count(0, 1_000), "3", "rollbacks practised before a cutover"),
    key(
        "reversed_min",
        Kind::Duration,
        "30d",
        "time in `reversed` before the migration is completed",
    ),
];
