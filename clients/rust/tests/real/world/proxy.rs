//! Passes bytes between clients and the sidecar, swallows its answers, or cuts the connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const BUFFER_BYTES: usize = 64 * 1024;

pub struct Proxy {
    port: u16,
    swallows: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// It lives as long as the runtime of the test.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cuts, watched) = watch::channel(0);
        let swallows = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (swallowing, counted) = (Arc::clone(&swallows), Arc::clone(&accepted));
        drop(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    drop(tokio::spawn(carry(
                        client,
                        server,
                        Arc::clone(&swallowing),
                        watched.clone(),
                    )));
                }
            }
        }));
        Self { port, swallows, accepted, cuts }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were passed on so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Keeps the sidecar's answers from its clients, or no more.
    pub fn swallow(&self, wanted: bool) {
        self.swallows.store(wanted, Ordering::SeqCst);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    swallows: Arc<AtomicBool>,
    mut cuts: watch::Receiver<u64>,
) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let born = *cuts.borrow_and_update();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let never = AtomicBool::new(false);
    tokio::select! {
        () = pump(&mut from_client, &mut to_server, &never) => {}
        () = pump(&mut from_server, &mut to_client, &swallows) => {}
        _ = cuts.wait_for(|cuts| *cuts != born) => {}
    }
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    swallows: &AtomicBool,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if !swallows.load(Ordering::SeqCst) && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
