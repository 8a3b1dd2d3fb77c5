//! Answers on their way to the caller, and how much of them he has not read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};

use futures_util::stream::Stream;
use futures_util::task::AtomicWaker;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

use crate::grpc::proto;

type Item = Result<proto::PipelineResponse, Status>;
/// With its bytes.
type Counted = (usize, Item);

/// Where the driver puts answers. It never waits: what is begun is bounded instead.
pub(super) struct Outgoing {
    sender: mpsc::UnboundedSender<Counted>,
    unread: Arc<Unread>,
    bytes_max: usize,
}

/// The answers of one stream, as the caller reads them.
#[derive(Debug)]
pub struct Answers {
    receiver: mpsc::UnboundedReceiver<Counted>,
    unread: Arc<Unread>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Unread {
    bytes: AtomicUsize,
    closed: AtomicBool,
    driver: AtomicWaker,
}

pub(super) fn channel(bytes_max: usize) -> (Outgoing, Answers) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let unread = Arc::new(Unread::default());
    let outgoing = Outgoing { sender, unread: Arc::clone(&unread), bytes_max };
    (outgoing, Answers { receiver, unread, bytes_max })
}

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn register(&self, waker: &Waker) {
        self.unread.driver.register(waker);
    }

    /// The caller has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.unread.closed.load(Ordering::Acquire)
    }

    pub(super) fn has_room(&self) -> bool {
        self.unread.bytes.load(Ordering::Acquire) < self.bytes_max
    }

    pub(super) fn send(&self, response: proto::PipelineResponse) {
        let bytes = response.encoded_len();
        self.unread.bytes.fetch_add(bytes, Ordering::AcqRel);
        // Nobody misses an answer when its caller has gone.
        let _ = self.sender.send((bytes, Ok(response)));
    }

    /// Ends the stream.
    pub(super) fn end(&self, status: Status) {
        let _ = self.sender.send((0, Err(status)));
    }
}

// === impl Answers ===

impl Stream for Answers {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let Some((bytes, item)) = ready!(self.receiver.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        let before = self.unread.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.bytes_max && before - bytes < self.bytes_max {
            self.unread.driver.wake();
        }
        Poll::Ready(Some(item))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.unread.closed.store(true, Ordering::Release);
        self.unread.driver.wake();
    }
}
