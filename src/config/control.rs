//! How the control row is followed, and the fleet kept.

use std::time::Duration;

use crate::config::reader::Reader;

/// How the control row is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// How often it is read, and the lease renewed.
    pub poll_interval: Duration,
    /// This sidecar's name in the fleet.
    pub name: String,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How long a change of phase waits for the fleet.
    pub settle_wait: Duration,
    /// Bring segue's own tables up to date at start.
    pub migrate_at_start: bool,
}

// === impl Control ===

impl Control {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let control = Self {
            poll_interval: reader.duration("control.poll_interval"),
            name: reader.text("control.name").unwrap_or_else(|| name_of_place(reader)),
            lease: reader.duration("control.lease"),
            settle_wait: reader.duration("control.settle_wait"),
            migrate_at_start: reader.flag("control.migrate_at_start"),
        };
        // One attempt may be lost, and a third of the lease is what an attempt may take.
        if control.lease < control.poll_interval * 3 {
            reader.fault("control.lease", "is shorter than three times control.poll_interval");
        }
        control
    }
}

/// The host's name and the admin port: several sidecars of one host have different names.
fn name_of_place(reader: &Reader) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let admin = reader.text("listen.admin").unwrap_or_default();
    let port = admin.rsplit(':').next().unwrap_or_default();
    format!("{}:{port}", if host.is_empty() { "segue" } else { host })
}
