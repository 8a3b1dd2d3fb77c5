//! The task that drives one connection, and what it notices.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Connection};

/// What the connection's task notices.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) armed: AtomicBool,
    pub(super) mode_changes: AtomicBool,
    pub(super) tainted: AtomicBool,
    pub(super) poisoned: AtomicBool,
    /// Many calls use the session at once.
    pub(super) shared: AtomicBool,
    /// Calls that joined since it last sent something.
    pub(super) unsent: AtomicUsize,
    pub(super) notified: Notify,
    pub(super) ended: AtomicBool,
    pub(super) last_words: OnceLock<String>,
}

// === impl Watch ===

impl Watch {
    /// Tells who waits for notifications that none will come.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.notified.notify_one();
    }
}

/// Settings that servers report, in which one caller must not find another's. The first is
/// segue's own affair in sessions for writes.
const REPORTED: [&str; 6] = [
    "default_transaction_read_only",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "search_path",
    "standard_conforming_strings",
];

/// Drives a connection, and compares the reported settings with those of the beginning.
pub(super) struct Driver<S, T> {
    pub(super) connection: Connection<S, T>,
    pub(super) watch: Arc<Watch>,
    pub(super) baseline: [Option<String>; REPORTED.len()],
    /// It has let others go before.
    gathered: bool,
}

impl<S, T> Driver<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(connection: Connection<S, T>, watch: Arc<Watch>) -> Self {
        let baseline = Default::default();
        Self { connection, watch, baseline, gathered: false }
    }

    fn look_at_settings(&mut self) {
        let current = REPORTED.map(|name| self.connection.parameter(name));
        if self.watch.armed.load(Ordering::Acquire) {
            let skipped = usize::from(self.watch.mode_changes.load(Ordering::Acquire));
            let pairs = current.iter().zip(&self.baseline).skip(skipped);
            let same = pairs.into_iter().all(|(now, then)| *now == then.as_deref());
            self.watch.tainted.store(!same, Ordering::Release);
        } else {
            self.baseline = current.map(|value| value.map(str::to_owned));
        }
    }
}

impl<S, T> Future for Driver<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Once behind all tasks that are ready: what they have to send makes one packet, and
        // one system call, with what woke this one.
        if self.watch.shared.load(Ordering::Relaxed) && !self.gathered {
            self.gathered = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.gathered = false;
        self.watch.unsent.store(0, Ordering::Relaxed);
        loop {
            match self.connection.poll_message(cx) {
                Poll::Pending => {
                    self.look_at_settings();
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    self.watch.end();
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                    tracing::debug!(severity = notice.severity(), "{}", notice.message());
                }
                Poll::Ready(Some(Ok(_))) => self.watch.notified.notify_one(),
                Poll::Ready(Some(Err(error))) => {
                    let words = error.as_db_error().map_or_else(
                        || error.to_string(),
                        |db| format!("{} ({})", db.message(), db.code().code()),
                    );
                    // The first error ends the loop, so nothing was said before.
                    let _ = self.watch.last_words.set(words);
                    self.watch.end();
                    return Poll::Ready(());
                }
            }
        }
    }
}
