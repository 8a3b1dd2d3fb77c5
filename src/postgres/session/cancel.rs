//! Cancelling the statement of exactly one server process.
//!
//! A cancel request names a process, not a statement, so it must never be on its way when
//! that process turns to something else. The driver's own request returns before the server
//! has acted on it; this one waits until the server closes the connection, which it does
//! after the signal was sent.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_postgres::CancelToken;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

/// For reaching the server with a cancel request and having it answered.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// Where a session's server listens.
#[derive(Debug, Clone)]
pub(super) enum Address {
    /// An address that was connected to.
    Tcp(SocketAddr),
    /// The socket's path.
    Unix(PathBuf),
}

/// Cancels what one session runs.
#[derive(Clone)]
pub struct Canceller {
    pub(super) token: CancelToken,
    pub(super) address: Address,
    pub(super) hostname: String,
    pub(super) tls: MakeRustlsConnect,
}

impl std::fmt::Debug for Canceller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canceller").field("address", &self.address).finish_non_exhaustive()
    }
}

// === impl Canceller ===

impl Canceller {
    /// Sends the request and waits until the server has acted on it.
    ///
    /// # Errors
    ///
    /// The request may not have arrived; the session is of no more use then.
    pub async fn cancel(&self) -> io::Result<()> {
        tokio::time::timeout(CANCEL_LIMIT, Box::pin(self.send()))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn send(&self) -> io::Result<()> {
        let wire: Box<dyn Wire> = match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        let (back, returned) = oneshot::channel();
        let stream = Returning { wire: Some(wire), back: Some(back) };
        let mut tls = self.tls.clone();
        let tls = <MakeRustlsConnect as MakeTlsConnect<Returning>>::make_tls_connect(
            &mut tls,
            &self.hostname,
        )
        .map_err(io::Error::other)?;
        self.token.cancel_query_raw(stream, tls).await.map_err(io::Error::other)?;
        let mut wire = returned.await.map_err(io::Error::other)?;
        let mut rest = [0; 256];
        // Over TLS a few bytes of goodbye may come first; a reset is an end as well.
        while matches!(wire.read(&mut rest).await, Ok(1..)) {}
        Ok(())
    }
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A stream that comes back when the driver drops it.
struct Returning {
    wire: Option<Box<dyn Wire>>,
    back: Option<oneshot::Sender<Box<dyn Wire>>>,
}

impl Returning {
    fn wire(&mut self) -> io::Result<Pin<&mut Box<dyn Wire>>> {
        self.wire.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let (Some(wire), Some(back)) = (self.wire.take(), self.back.take()) {
            // Nobody waits for it any more when the limit has passed.
            let _ = back.send(wire);
        }
    }
}

impl AsyncRead for Returning {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.wire()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Returning {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wire()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire()?.poll_shutdown(cx)
    }
}
