//! The section `[sampling]`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::reader::{self, Reader};

/// Which reads are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 to 1.
    pub rate: f64,
    /// The same by a statement's name or fingerprint.
    pub statements: BTreeMap<String, f64>,
    /// Functions that a sample may call again, though a catalogue calls them volatile.
    pub functions_allowed: Vec<String>,
    /// At once.
    pub concurrency: usize,
    /// Of one sample.
    pub deadline: Duration,
    /// Larger answers are not compared.
    pub answer_bytes_max: u64,
    /// Bytes of all answers that are kept at a time.
    pub memory_bytes_max: u64,
    /// Pause before a difference is looked at again.
    pub look_again_after: Duration,
    /// How long a difference may wait for the outbox.
    pub pending_wait_max: Duration,
}

// === impl Sampling ===

impl Sampling {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut statements = BTreeMap::new();
        for (name, value) in reader.map("sampling.statements") {
            match reader::ratio(&value) {
                Ok(rate) => drop(statements.insert(name, rate)),
                Err(message) => {
                    let message = format!("{name} = {value} {message}");
                    reader.fault("sampling.statements", message);
                }
            }
        }
        let sampling = Self {
            rate: reader.ratio("sampling.rate"),
            statements,
            functions_allowed: reader.list("sampling.functions_allowed"),
            concurrency: reader.count("sampling.concurrency"),
            deadline: reader.duration("sampling.deadline"),
            answer_bytes_max: reader.size("sampling.answer_bytes_max"),
            memory_bytes_max: reader.size("sampling.memory_bytes_max"),
            look_again_after: reader.duration("sampling.look_again_after"),
            pending_wait_max: reader.duration("sampling.pending_wait_max"),
        };
        // Looking again keeps three answers: the primary's two and the shadow's.
        let least = sampling.answer_bytes_max.saturating_mul(3);
        if sampling.memory_bytes_max > 0 && sampling.memory_bytes_max < least {
            let message =
                "is less than three times sampling.answer_bytes_max: raise one, or lower the other";
            reader.fault("sampling.memory_bytes_max", message);
        }
        sampling
    }

    /// Samples have half of the process's memory for rows and answers at most.
    pub(super) fn check_memory(&self, memory: u64, reader: &mut Reader) {
        if self.memory_bytes_max > 0 && memory / 2 < self.answer_bytes_max.saturating_mul(3) {
            let message = "is less than six times sampling.answer_bytes_max, and samples have half of \
                it: raise one, or lower the other";
            reader.fault("limits.memory", message);
        }
    }
}
