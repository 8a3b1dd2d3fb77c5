//! Accepts connections and serves them until it is told to stop.
//!
//! tonic's own server is not used: under a listener of ours it sets no `TCP_NODELAY`, which
//! stalls calls on loopback for 40 ms, it ends calls at their deadline with `CANCELLED`
//! while segue asks the database to stop first, and its graceful shutdown waits for idle
//! streams for ever.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// How long to wait after a failed accept: the usual cause, no file descriptors, needs time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A peer must have sent its request's head within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one request's headers.
const HEADER_BYTES_MAX: u32 = 32 * 1024;

/// How a listener serves.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Calls at once on one connection.
    pub streams_max: u32,
    /// How often an idle connection is asked whether its peer is still there.
    pub keepalive_interval: Duration,
    /// How long the answer may take.
    pub keepalive_timeout: Duration,
    /// How long calls in progress may go on after the stop.
    pub drain_max: Duration,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 only, as gRPC needs it.
    Grpc,
    /// HTTP/1 as well, for scrapers and probes.
    GrpcAndHttp,
}

struct Server<S> {
    builder: auto::Builder<TokioExecutor>,
    service: S,
    drain: CancellationToken,
    cut: CancellationToken,
}

/// What answers the requests of a listener.
pub trait Answering:
    Service<Request<Incoming>, Response = Response<Self::Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// Of its responses.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;
}

impl<S, B> Answering for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type Body = B;
}

/// Serves requests until `stop` is cancelled, then lets calls in progress end for
/// `drain_max`, then cuts what is left.
pub async fn serve(
    listener: TcpListener,
    service: impl Answering,
    protocol: Protocol,
    params: Params,
    stop: CancellationToken,
) {
    let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
    let server = Arc::new(Server {
        builder: builder(protocol, &params),
        service,
        drain: drain.clone(),
        cut: cut.clone(),
    });
    let room = Arc::new(Semaphore::new(params.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, permit)) => {
                let server = Arc::clone(&server);
                connections.spawn(async move {
                    server.connection(stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // From here on the kernel refuses new connections. Only then are peers sent away: one that
    // came back at once would be taken by the kernel and then cut, not knowing what became of
    // its call.
    drop(listener);
    drain.cancel();
    connections.close();
    if tokio::time::timeout(params.drain_max, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cutting calls that did not end in time");
        cut.cancel();
        connections.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

fn builder(protocol: Protocol, params: &Params) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    if protocol == Protocol::Grpc {
        builder = builder.http2_only();
    }
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(params.streams_max)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(params.keepalive_interval)
        .keep_alive_timeout(params.keepalive_timeout);
    builder
}

// === impl Server ===

impl<S: Answering> Server<S> {
    async fn connection(&self, stream: TcpStream) {
        let service = TowerToHyperService::new(self.service.clone());
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = gathering(connection.as_mut()) => ended,
            () = self.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = gathering(connection.as_mut()) => ended,
                    () = self.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended with an error");
        }
    }
}

/// A future that lets all tasks that are ready go before it whenever it is woken: what calls
/// have to say then makes one packet, and one system call.
async fn gathering<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    let mut gathered = false;
    poll_fn(|cx| {
        gathered = !gathered;
        if gathered {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        future.as_mut().poll(cx)
    })
    .await
}
