//! A TCP proxy between segue and a database, which makes the faults of a network.
//!
//! It runs on a thread of its own, so that a test that blocks does not stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::cockroach::Wire;
use super::free_port;

const BUFFER_BYTES: usize = 16 * 1024;
const UNLIMITED: i64 = i64::MAX;

#[derive(Debug, Clone, Default)]
struct Faults {
    paused: bool,
    /// What the server says is kept back.
    holding: bool,
    refusing: bool,
    delay: Duration,
    /// Connections begun under an older number are reset.
    resets: u64,
    closing: bool,
}

#[derive(Debug)]
struct Shared {
    /// The port of 127.0.0.1 that new connections are forwarded to.
    upstream: AtomicU16,
    /// Bytes that may still go from the server to clients before a connection is cut.
    allowance: AtomicI64,
    open: AtomicUsize,
    /// Times that clients began to speak after the server had.
    flights: AtomicUsize,
    server_spoke: AtomicBool,
}

/// A running proxy, which ends with the value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    faults: watch::Sender<Faults>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// What it forwards to, where that is of the tests as well.
    behind: Option<Wire>,
}

impl Proxy {
    /// Forwards to a proxy that understands the protocol.
    pub fn before(wire: Wire) -> Self {
        let mut proxy = Self::start(wire.port());
        proxy.behind = Some(wire);
        proxy
    }

    /// Forwards a new port of 127.0.0.1 to `upstream_port` of the same.
    pub fn start(upstream_port: u16) -> Self {
        let (faults, watched) = watch::channel(Faults::default());
        let shared = Arc::new(Shared {
            upstream: AtomicU16::new(upstream_port),
            allowance: AtomicI64::new(UNLIMITED),
            open: AtomicUsize::new(0),
            flights: AtomicUsize::new(0),
            server_spoke: AtomicBool::new(true),
        });
        let port = free_port();
        let (up, is_up) = std::sync::mpsc::channel();
        let state = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made")
                .block_on(listen(port, state, watched, up));
        });
        is_up.recv().expect("the proxy listens");
        Self { port, faults, shared, thread: Some(thread), behind: None }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that are open through it now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Flights from clients to the server so far: how often they spoke after it had answered.
    /// It means something where one connection at a time is used.
    pub fn flights(&self) -> usize {
        self.shared.flights.load(Ordering::SeqCst)
    }

    /// Keeps back what the server says (`true`), or lets it through again (`false`).
    pub fn hold_answers(&self, holding: bool) {
        self.faults.send_modify(|faults| faults.holding = holding);
    }

    /// Holds everything back; connections stay open and new ones are accepted.
    pub fn pause(&self) {
        self.faults.send_modify(|faults| faults.paused = true);
    }

    /// Lets everything through again after [`Proxy::pause`].
    pub fn resume(&self) {
        self.faults.send_modify(|faults| faults.paused = false);
    }

    /// Leads new connections to another port; open ones stay where they are.
    pub fn lead_to(&self, upstream_port: u16) {
        self.shared.upstream.store(upstream_port, Ordering::SeqCst);
    }

    /// Resets all open connections; new ones are served.
    pub fn reset(&self) {
        self.faults.send_modify(|faults| faults.resets += 1);
    }

    /// Refuses new connections (`true`) or takes them again (`false`). Open ones stay.
    pub fn refuse(&self, refusing: bool) {
        self.faults.send_modify(|faults| faults.refusing = refusing);
    }

    /// Delays each piece of traffic, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Resets the connection that carries the server's `bytes`-th byte from now, just
    /// after that byte. Once; later connections are whole.
    pub fn cut_after(&self, bytes: u32) {
        self.shared.allowance.store(i64::from(bytes), Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.faults.send_modify(|faults| faults.closing = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn listen(
    port: u16,
    shared: Arc<Shared>,
    mut faults: watch::Receiver<Faults>,
    up: std::sync::mpsc::Sender<()>,
) {
    let mut listener = None;
    loop {
        let now = faults.borrow_and_update().clone();
        if now.closing {
            return;
        }
        if now.refusing {
            listener = None;
        } else if listener.is_none() {
            listener =
                Some(TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free"));
            let _ = up.send(());
        }
        tokio::select! {
            changed = faults.changed() => if changed.is_err() { return },
            accepted = accept(listener.as_ref()) => {
                if faults.borrow().refusing {
                    // It came before the listener was gone, and after it was to be.
                    let _ = accepted.set_zero_linger();
                } else {
                    tokio::spawn(carry(accepted, Arc::clone(&shared), faults.clone()));
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    if let Some(listener) = listener
        && let Ok((stream, _)) = listener.accept().await
    {
        return stream;
    }
    std::future::pending().await
}

/// How a connection through the proxy ends.
#[derive(PartialEq)]
enum End {
    Closed,
    Reset,
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>, faults: watch::Receiver<Faults>) {
    let upstream = shared.upstream.load(Ordering::SeqCst);
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    shared.open.fetch_add(1, Ordering::SeqCst);
    let born = faults.borrow().resets;
    let end = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            end = pump(&mut from_client, &mut to_server, faults.clone(), Way::In(&shared)) => end,
            end = pump(&mut from_server, &mut to_client, faults.clone(), Way::Out(&shared)) => end,
            end = until_reset(faults.clone(), born) => end,
        }
    };
    if end == End::Reset {
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
    drop((client, server));
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

async fn until_reset(mut faults: watch::Receiver<Faults>, born: u64) -> End {
    // An error means that the proxy is gone, and its connections with it.
    let _ = faults.wait_for(|faults| faults.resets != born || faults.closing).await;
    End::Reset
}

/// Which way a pump pumps.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// To the server.
    In(&'a Shared),
    /// To the client.
    Out(&'a Shared),
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut faults: watch::Receiver<Faults>,
    way: Way<'_>,
) -> End {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) => return End::Closed,
            Ok(length) => length,
            Err(_) => return End::Reset,
        };
        let delay = faults.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let is_answer = matches!(way, Way::Out(_));
        let kept_back = |faults: &Faults| faults.paused || is_answer && faults.holding;
        if faults.wait_for(|faults| !kept_back(faults)).await.is_err() {
            return End::Reset;
        }
        let (length, cut) = match way {
            Way::In(shared) => {
                if shared.server_spoke.swap(false, Ordering::SeqCst) {
                    shared.flights.fetch_add(1, Ordering::SeqCst);
                }
                (length, false)
            }
            Way::Out(shared) => {
                shared.server_spoke.store(true, Ordering::SeqCst);
                spend(shared, length)
            }
        };
        if to.write_all(&buffer[..length]).await.is_err() {
            return End::Reset;
        }
        if cut {
            return End::Reset;
        }
    }
}

/// How many of `length` bytes may pass, and whether the connection is cut after them.
fn spend(shared: &Shared, length: usize) -> (usize, bool) {
    let left = shared.allowance.load(Ordering::SeqCst);
    if left == UNLIMITED {
        return (length, false);
    }
    let wanted = i64::try_from(length).expect("a buffer's length is small");
    if wanted < left {
        // One thread runs all connections, so that nothing comes in between.
        shared.allowance.store(left - wanted, Ordering::SeqCst);
        return (length, false);
    }
    shared.allowance.store(UNLIMITED, Ordering::SeqCst);
    (usize::try_from(left).unwrap_or(0), true)
}
