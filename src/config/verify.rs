//! The section `[verify]`.

use std::time::Duration;

use crate::config::reader::Reader;

/// How the member that leads verifies in the background.
#[derive(Debug, Clone, PartialEq)]
pub struct Verify {
    /// Whether it does.
    pub sweep: bool,
    /// The share of the time in which chunks are read, above 0 and up to 1.
    pub load: f64,
    /// When a chunk that nobody wrote to is read again.
    pub again_after: Duration,
}

// === impl Verify ===

impl Verify {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let verify = Self {
            sweep: reader.flag("verify.sweep"),
            load: reader.ratio("verify.load"),
            again_after: reader.duration("verify.again_after"),
        };
        if verify.load <= 0.0 {
            let message = "would never read anything; write a share above 0, or sweep = false";
            reader.fault("verify.load", message);
        }
        verify
    }
}
