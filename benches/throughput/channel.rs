//! The client's HTTP/2 connection to a sidecar: hyper's, without the queues, retries and
//! layers of tonic's own channel. What is called through it are tonic's stubs.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::Service;

/// A connection. Clones share it.
#[derive(Debug, Clone)]
pub struct Channel {
    sender: SendRequest<Body>,
    origin: Uri,
}

impl Channel {
    /// Connects to `http://host:port`.
    pub async fn open(address: &str) -> Self {
        let origin: Uri = address.parse().unwrap();
        let stream = TcpStream::connect(origin.authority().unwrap().as_str()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self { sender, origin }
    }

    pub fn origin(&self) -> Uri {
        self.origin.clone()
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
