//! Finding a transaction pooler between segue and a server.
//!
//! Behind one, a session's statements run on any server process: prepared statements,
//! settings and the announced write get lost or, worse, reach somebody else. A pooler makes
//! up the process id that it tells its clients at login, which the driver keeps to itself;
//! a cancel request written into memory shows it. Where it is not `pg_backend_pid()`, two
//! sessions are played against each other to tell a transaction pooler from a session pooler.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Client, SimpleQueryMessage};

const SSL_REQUEST_CODE: i32 = 80_877_103;
/// Another client of the pooler may come between; so often does one try not convince.
const TRIES: usize = 5;

/// The process id that the server told at login.
pub(super) async fn announced_process_id(token: &CancelToken) -> io::Result<i32> {
    let (near, mut far) = tokio::io::duplex(64);
    let write = async { token.cancel_query_raw(near, InMemory).await.map_err(io::Error::other) };
    let read = async {
        let _length = far.read_i32().await?;
        if far.read_i32().await? == SSL_REQUEST_CODE {
            far.write_u8(b'S').await?;
            let _length = far.read_i32().await?;
            let _code = far.read_i32().await?;
        }
        let process_id = far.read_i32().await?;
        let _secret = far.read_i32().await?;
        Ok(process_id)
    };
    let (written, process_id) = tokio::join!(write, read);
    written?;
    process_id
}

/// Whether statements of `first` can run on several server processes. `second` is another
/// session through the same pooler.
pub(super) async fn pools_transactions(
    first: &Client,
    second: &Client,
) -> Result<bool, tokio_postgres::Error> {
    for _ in 0..TRIES {
        let before = backend_process_id(first).await?;
        second.batch_execute("BEGIN").await?;
        let other = backend_process_id(second).await?;
        let after = backend_process_id(first).await?;
        second.batch_execute("ROLLBACK").await?;
        if before == other || before != after {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn backend_process_id(client: &Client) -> Result<Option<String>, tokio_postgres::Error> {
    let messages = client.simple_query("SELECT pg_catalog.pg_backend_pid()").await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Takes the place of TLS in memory.
struct InMemory;

impl TlsConnect<DuplexStream> for InMemory {
    type Stream = Plain;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Plain>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        std::future::ready(Ok(Plain(stream)))
    }
}

struct Plain(DuplexStream);

impl TlsStream for Plain {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
