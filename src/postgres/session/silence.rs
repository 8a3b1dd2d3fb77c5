//! How long a server waits for a client of which nothing is heard.

use std::time::Duration;

/// The lease of a fleet whose configuration does not say otherwise.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);

/// A server waits for its client within a transaction for so long at least: a loaded machine
/// takes its time between two statements.
const SILENCE_FLOOR: Duration = Duration::from_millis(500);

/// How long the server waits for the client of one of segue's own transactions: half a lease.
pub fn silence_max(lease: Duration) -> Duration {
    (lease / 2).max(SILENCE_FLOOR)
}
