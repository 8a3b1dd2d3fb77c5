//! The connection to the sidecar: one, over which any number of calls run at a time.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Code;
use tonic::body::Body;
use tower_service::Service;

use crate::error::{CONNECTION, Error, Failure};
use crate::options::{Address, Options};
use crate::protocol::sql_client::SqlClient;
use crate::repeat::jittered;

const RECONNECT_MIN: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(2);
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the sidecar may take to answer that it is there.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be under way to a reader that does not read: a stream's memory.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

pub(crate) type Stub = SqlClient<Wire>;

/// Connects, and connects again.
pub(crate) struct Link {
    options: Options,
    origin: Uri,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Connector>,
    /// None before the first call. Held while a connection is made: the others wait for it.
    wire: Mutex<Option<Wire>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        #[cfg(feature = "tls")]
        let tls = crate::tls::Connector::of(options)?;
        #[cfg(not(feature = "tls"))]
        if options.tls.is_some() {
            return Err(Error::usage("segue+tls needs the crate's feature `tls`"));
        }
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://{}", authority(&options.address));
        let origin =
            origin.parse().map_err(|_| Error::usage(format!("{origin:?} is no address")))?;
        Ok(Self {
            options: options.clone(),
            origin,
            #[cfg(feature = "tls")]
            tls,
            wire: Mutex::new(None),
        })
    }

    /// Waits until there is a connection: for the connect timeout, and no longer than `deadline`.
    pub(crate) async fn ready(&self, deadline: Option<Instant>) -> Result<Stub, Failure> {
        let until = Instant::now() + self.options.connect_timeout;
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        let mut seen = None;
        let found = timeout_at(until, self.connected(&mut seen)).await;
        let Ok(wire) = found else { return Err(self.unreachable(deadline == Some(until), seen)) };
        let stub = Stub::with_origin(wire, self.origin.clone());
        // Answers are bounded by the sidecar's limits, not by this side's.
        Ok(stub.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
    }

    fn unreachable(&self, by_deadline: bool, seen: Option<String>) -> Failure {
        let code = if by_deadline { Code::DeadlineExceeded } else { Code::Unavailable };
        let why = seen.map_or_else(String::new, |seen| format!(": {seen}"));
        let place = authority(&self.options.address);
        let mut failure =
            Failure::new(code, CONNECTION, format!("no connection to the sidecar at {place}{why}"));
        "see that segue serves there; connect_timeout is how long is waited"
            .clone_into(&mut failure.hint);
        failure.retryable = true;
        failure
    }

    async fn connected(&self, seen: &mut Option<String>) -> Wire {
        let mut kept = self.wire.lock().await;
        if let Some(wire) = kept.as_ref()
            && !wire.0.is_closed()
        {
            return wire.clone();
        }
        let mut pause = RECONNECT_MIN;
        loop {
            match timeout(DIAL_TIMEOUT, self.dial()).await {
                Ok(Ok(wire)) => {
                    *kept = Some(wire.clone());
                    return wire;
                }
                Ok(Err(error)) => *seen = Some(told(error.as_ref())),
                Err(_) => *seen = Some("it does not answer".to_owned()),
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    async fn dial(&self) -> Result<Wire, Box<dyn StdError + Send + Sync>> {
        match &self.options.address {
            Address::Unix(path) => self.handshake(UnixStream::connect(path).await?).await,
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                #[cfg(feature = "tls")]
                if let Some(tls) = &self.tls {
                    return self.handshake(tls.connect(host, stream).await?).await;
                }
                self.handshake(stream).await
            }
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<Wire, Box<dyn StdError + Send + Sync>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if !self.options.keepalive.is_zero() {
            builder
                .keep_alive_interval(self.options.keepalive)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
        }
        let (answering, mut answered) = Answering::new(stream);
        let (sender, connection) = builder.handshake(TokioIo::new(answering)).await?;
        // Callers see its end; it ends by itself when the last sender is dropped.
        drop(tokio::spawn(connection));
        // A proxy takes connections for a sidecar that is not there.
        answered.changed().await.map_err(|_| "the connection was closed before an answer")?;
        Ok(Wire(sender))
    }
}

fn authority(address: &Address) -> String {
    match address {
        Address::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp(host, port) => format!("{host}:{port}"),
        Address::Unix(_) => "localhost".to_owned(),
    }
}

/// An error with what caused it.
fn told(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// One connection.
#[derive(Debug, Clone)]
pub(crate) struct Wire(SendRequest<Body>);

impl Service<Request<Body>> for Wire {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A stream that says when its first byte has come.
struct Answering<S> {
    stream: S,
    said: watch::Sender<bool>,
}

impl<S> Answering<S> {
    fn new(stream: S) -> (Self, watch::Receiver<bool>) {
        let (said, answered) = watch::channel(false);
        (Self { stream, said }, answered)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Answering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.said.send_if_modified(|said| !std::mem::replace(said, true));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Answering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
