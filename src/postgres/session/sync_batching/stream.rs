//! The connection around the [`Wire`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::Switch;
use super::wire::Wire;

/// Bytes read at once while answers are put in.
const READ_BYTES: usize = 16 * 1024;
/// What is to be sent is sent before it becomes more.
const SENT_BYTES_MAX: usize = 64 * 1024;

/// A connection of the driver. Without a switch it passes everything on as it is.
#[derive(Debug)]
pub(in crate::postgres) struct Merging<S> {
    inner: S,
    merger: Option<Box<Merger>>,
}

#[derive(Debug)]
struct Merger {
    switch: Switch,
    wire: Wire,
    read: Vec<u8>,
    /// For the driver.
    received: BytesMut,
}

// === impl Merging ===

impl<S> Merging<S> {
    pub(in crate::postgres) fn new(inner: S, switch: Option<Switch>) -> Self {
        let merger = switch.map(|switch| {
            let (wire, read, received) = (Wire::default(), Vec::new(), BytesMut::new());
            Box::new(Merger { switch, wire, read, received })
        });
        Self { inner, merger }
    }
}

impl Merger {
    fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        inner: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.wire.sent.is_empty() {
            let sent = ready!(Pin::new(&mut *inner).poll_write(cx, &self.wire.sent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wire.sent.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.received.len().min(buf.remaining());
        buf.put_slice(&self.received.split_to(count));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Merging<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let inner = Pin::new(&mut this.inner);
        let Some(merger) = &mut this.merger else { return inner.poll_read(cx, buf) };
        if merger.received.is_empty() {
            if merger.wire.is_plain() {
                let before = buf.filled().len();
                ready!(inner.poll_read(cx, buf))?;
                return Poll::Ready(
                    merger.wire.pass(buf.filled().get(before..).unwrap_or_default()),
                );
            }
            merger.read.resize(READ_BYTES, 0);
            let mut read = ReadBuf::new(&mut merger.read);
            ready!(inner.poll_read(cx, &mut read))?;
            merger.wire.receive(read.filled(), &mut merger.received)?;
        }
        // Nothing, at the end of the stream.
        merger.hand_over(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Merging<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(merger) = &mut this.merger else {
            return Pin::new(&mut this.inner).poll_write(cx, buf);
        };
        if merger.wire.sent.len() > SENT_BYTES_MAX {
            ready!(merger.poll_send(&mut this.inner, cx))?;
        }
        merger.wire.send(buf, merger.switch.is_on())?;
        // What the socket does not take now it takes when the driver flushes.
        if let Poll::Ready(Err(error)) = merger.poll_send(&mut this.inner, cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(merger) = &mut this.merger {
            ready!(merger.poll_send(&mut this.inner, cx))?;
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(merger) = &mut this.merger {
            ready!(merger.poll_send(&mut this.inner, cx))?;
        }
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Merging<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Merges inside TLS, not around it.
pub(in crate::postgres) struct MergingTls<T> {
    pub(in crate::postgres) tls: T,
    pub(in crate::postgres) switch: Option<Switch>,
}

impl<S, T> TlsConnect<Merging<S>> for MergingTls<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
{
    type Stream = Merging<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, T::Error>> + Send>>;

    fn connect(self, stream: Merging<S>) -> Self::Future {
        let Self { tls, switch } = self;
        // Nothing is left in there: the server's one byte is all that has come.
        let connecting = tls.connect(stream.inner);
        Box::pin(async move { Ok(Merging::new(connecting.await?, switch)) })
    }
}
