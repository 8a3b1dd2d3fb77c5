//! Requests of several calls up to one `Sync`.
//!
//! The driver ends every request with a `Sync`, and a server sends what it has at each: one
//! packet, and two processes woken, for every answer. Where many calls share a session, what
//! they send at the same time goes out with one `Sync` behind all of it, and the answers come
//! back in one piece. The driver sees none of this: where a request's `Sync` was left out, the
//! answer to it is put in.
//!
//! It is for reads, and for a write with its announcement, which stand or fall together. A
//! server runs all up to the `Sync` in one transaction and skips what
//! stands behind an error. So of several requests in one piece
//!
//! - each sees what was committed when it was sent, as `read committed` takes a snapshot for
//!   each statement (sessions of another isolation merge nothing);
//! - those behind one that failed have not run. They are answered with [`SKIPPED`], and whoever
//!   sent them sends them again, apart;
//! - an answer may wait for those behind it. Whoever finds that it waits too long makes the
//!   calls again, apart (`postgres/shared`).
//!
//! [`wire`] is what the requests and answers become, [`stream`] the connection around it.

mod scan;
mod stream;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub(in crate::postgres) use stream::{Merging, MergingTls};
pub(in crate::postgres) use wire::MERGED_MAX;

/// SQLSTATE of a request that the server skipped, since one before it failed. No server has it.
pub(in crate::postgres) const SKIPPED: &str = "SG001";

/// Says whether requests of a session may be merged. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(in crate::postgres) struct Switch {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    on: AtomicBool,
    apart: AtomicUsize,
}

/// While it lives, nothing is merged on its session.
#[derive(Debug)]
pub(in crate::postgres) struct Apart {
    switch: Switch,
}

/// While it lives, requests of the one caller who has the session are merged.
#[derive(Debug)]
pub(in crate::postgres) struct Together {
    switch: Switch,
}

// === impl Switch ===

impl Switch {
    pub(in crate::postgres) fn set(&self, on: bool) {
        self.inner.on.store(on, Ordering::Release);
    }

    /// Whether what is sent now may be merged.
    fn is_on(&self) -> bool {
        self.inner.on.load(Ordering::Acquire) && self.inner.apart.load(Ordering::Acquire) == 0
    }

    /// Keeps all requests apart, until what comes back is dropped.
    pub(in crate::postgres) fn apart(&self) -> Apart {
        self.inner.apart.fetch_add(1, Ordering::AcqRel);
        Apart { switch: self.clone() }
    }

    /// Merges what is sent at once, until what comes back is dropped.
    pub(in crate::postgres) fn together(&self) -> Together {
        self.set(true);
        Together { switch: self.clone() }
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        self.switch.set(false);
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.switch.inner.apart.fetch_sub(1, Ordering::AcqRel);
    }
}
