//! Keys of the fleet, of phases, and of what changes them.

use crate::config::keys::list::key;
use crate::config::keys::{Key, Kind};

pub(super) const CONTROL: &[Key] = &[
    key(
        "poll_interval",
        Kind::Duration,
        "1s",
        "how often the control row is read, the lease renewed, and the fleet looked at",
    ),
    key(
        "name",
        Kind::Text,
        "",
        "name of this sidecar in the fleet; host and admin port where absent",
    ),
    key(
        "lease",
        Kind::Duration,
        "10s",
        "a sidecar that could not renew its lease on the primary for so long takes no writes",
    ),
    key(
        "settle_wait",
        Kind::Duration,
        "20s",
        "time that a change of phase waits for the fleet before it is refused",
    ),
    key(
        "migrate_at_start",
        Kind::Bool,
        "true",
        "bring segue's own tables up to date at start; otherwise `segue init` must",
    ),
];

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
        "proof_max_age",
        Kind::Duration,
        "24h",
        "age of the oldest proof of `segue verify` that a gate goes by; the sweep renews proofs at half of it",
    ),
    key(
        "proof_max_age_of",
        Kind::Map,
        "",
        "the same of some tables of the source: `\"public.audit\" = \"7d\"`, `\"archive.*\" = \"30d\"`; the narrowest name takes precedence",
    ),
    key(
        "reversed_min",
        Kind::Duration,
        "30d",
        "time in `reversed` before the migration is completed",
    ),
];

pub(super) const CUTOVER: &[Key] = &[
    key(
        "hold_limit",
        Kind::Duration,
        "10s",
        "the longest that a write is held while the primary is changed, before it fails unapplied",
    ),
    key(
        "pause_lease",
        Kind::Duration,
        "5s",
        "time until a change of the primary is called off whose coordinator is lost",
    ),
    key(
        "prepare_wait",
        Kind::Duration,
        "30s",
        "time that members are waited for before any write is held",
    ),
    key(
        "prove_max",
        Kind::Duration,
        "60s",
        "time for verifying, before any write is held, what was written since its proof",
    ),
    key(
        "count_rows_max",
        Kind::Count(0, 1_000_000_000),
        "100000",
        "tables with more rows are not counted while writes are held",
    ),
    key(
        "full_verify",
        Kind::List,
        "",
        "tables of the source (`public.accounts`, `ledger.*`) that are compared whole while writes are held; a difference calls the cutover off",
    ),
    key(
        "read_only_roles",
        Kind::List,
        "",
        "roles of applications on the source, made read-only there after the cutover, and not before",
    ),
];
