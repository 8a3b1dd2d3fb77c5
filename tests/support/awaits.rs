//! A proxy that knows in which transaction each of its connections is, and has the client of one
//! lost in the middle of it: after the server has done what it was asked, and before the client
//! goes on.
//!
//! It runs on a thread of its own. There is no TLS behind it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::cockroach::wire::{end_of_text, frame, pump};

/// What a client may say before it logs in, in the place of a version.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSSAPI: u32 = 80_877_104;

/// A moment within a transaction, or while a session holds an advisory lock. Moments of one such
/// transaction after the same statement are one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The database, as the test calls it.
    pub side: &'static str,
    /// The first statement after those that begin and set, without its values: what the transaction
    /// is for.
    pub first: String,
    /// What the server has done last. A transaction that only reads holds the same at each moment:
    /// its first statement again.
    pub last: String,
}

impl Place {
    /// None where nothing was done yet but to begin and to set.
    fn of(side: &'static str, open: &[String]) -> Option<(Self, usize)> {
        let begins = |text: &str| text.starts_with("BEGIN") || text.starts_with("START ");
        let sets = |text: &str| text.starts_with("SET ") || text.starts_with("SAVEPOINT ");
        let is_first = |text: &&String| !text.split("; ").all(|it| begins(it) || sets(it));
        let first = open.iter().find(is_first)?.clone();
        let reads = open.iter().any(|it| begins(it) && it.contains("READ ONLY"));
        let last = open.last().filter(|_| !reads).unwrap_or(&first).clone();
        Some((Self { side, first, last }, open.len()))
    }
}

type Loss = Box<dyn FnOnce(u32) + Send>;

/// The places that clients have come to, and the one at which the next is lost.
#[derive(Default)]
pub struct Places(Mutex<State>);

#[derive(Default)]
struct State {
    /// With the number of statements that had been done.
    seen: BTreeMap<Place, usize>,
    armed: Option<(Place, Loss)>,
}

impl Places {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where something was held, since this was asked last, and after how many statements at most.
    pub fn seen(&self) -> BTreeMap<Place, usize> {
        std::mem::take(&mut self.state().seen)
    }

    /// Has `lose` called once, with its process's number, when a client comes to `place`: before
    /// it knows that.
    pub fn lose_at(&self, place: &Place, lose: impl FnOnce(u32) + Send + 'static) {
        self.state().armed = Some((place.clone(), Box::new(lose)));
    }

    /// Whether no one is to be lost any more.
    pub fn is_over(&self) -> bool {
        self.state().armed.is_none()
    }

    /// No one is.
    pub fn call_off(&self) {
        self.state().armed = None;
    }

    fn reached(&self, (place, done): (Place, usize), client: SocketAddr, proxy: SocketAddr) {
        let mut state = self.state();
        // A client that has gone meanwhile is none to lose: the next is.
        if state.armed.as_ref().is_some_and(|(wanted, _)| *wanted == place)
            && let Some(process) = process_of(client, proxy)
            && let Some((_, lose)) = state.armed.take()
        {
            lose(process);
        }
        let deepest = state.seen.entry(place).or_default();
        *deepest = done.max(*deepest);
    }
}

/// A running proxy, which ends with the value.
#[derive(Debug)]
pub struct Awaits {
    port: u16,
    closing: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Awaits {
    /// Forwards a new port of 127.0.0.1 to `upstream_port` of the same.
    pub fn start(side: &'static str, upstream_port: u16, places: &Arc<Places>) -> Self {
        let (closing, mut watched) = watch::channel(false);
        let upstream = SocketAddr::from(([127, 0, 0, 1], upstream_port));
        let places = Arc::clone(places);
        let (up, is_up) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
                let _ = up.send(listener.local_addr().expect("it is bound").port());
                loop {
                    tokio::select! {
                        // With the runtime go the connections.
                        _ = watched.wait_for(|closing| *closing) => return,
                        accepted = listener.accept() => if let Ok((client, _)) = accepted {
                            let places = Arc::clone(&places);
                            // How a connection ends is for its two ends to say.
                            tokio::spawn(async move {
                                let _ = carry(client, upstream, side, &places).await;
                            });
                        }
                    }
                }
            });
        });
        let port = is_up.recv().expect("the proxy listens");
        Self { port, closing, thread: Some(thread) }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Awaits {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn carry(
    mut client: TcpStream,
    upstream: SocketAddr,
    side: &'static str,
    places: &Places,
) -> std::io::Result<()> {
    let (peer, own) = (client.peer_addr()?, client.local_addr()?);
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    loop {
        let length = client.read_u32().await?;
        let mut body = vec![0; usize::try_from(length).expect("it fits").saturating_sub(4)];
        client.read_exact(&mut body).await?;
        let asked = body.first_chunk().map_or(0, |version| u32::from_be_bytes(*version));
        if matches!(asked, TLS | GSSAPI) {
            client.write_all(b"N").await?;
            continue;
        }
        server.write_all(&[&length.to_be_bytes(), &body[..]].concat()).await?;
        if asked == CANCEL {
            copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
        break;
    }
    let session = Mutex::new(Session::default());
    let of = || session.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let asked = |tag, body: &[u8], out: &mut Vec<u8>| {
        of().asked(tag, body);
        frame(tag, &[body], out);
    };
    let told = |tag, body: &[u8], out: &mut Vec<u8>| {
        if let Some(place) = of().ready(body[0]).and_then(|open| Place::of(side, &open)) {
            places.reached(place, peer, own);
        }
        frame(tag, &[body], out);
    };
    tokio::select! {
        end = pump(&mut from_client, &mut to_server, b"QPBS", asked) => end,
        end = pump(&mut from_server, &mut to_client, b"Z", told) => end,
    }
}

/// What a session has been asked for.
#[derive(Default)]
struct Session {
    prepared: HashMap<Vec<u8>, String>,
    /// Up to the next `Sync`.
    batch: Vec<String>,
    /// Of each answer that is to come.
    awaited: VecDeque<Vec<String>>,
    /// Since its transaction began, or its lock was asked for.
    open: Vec<String>,
    /// Whether it holds an advisory lock of the session.
    is_locked: bool,
}

impl Session {
    fn asked(&mut self, tag: u8, body: &[u8]) {
        let text = |from: usize| {
            let to = end_of_text(body, from);
            (body[from..to.saturating_sub(1)].to_vec(), to)
        };
        match tag {
            b'Q' => {
                let trip = vec![without_values(&String::from_utf8_lossy(&text(0).0))];
                self.awaited.push_back(trip);
            }
            b'P' => {
                let (name, from) = text(0);
                let sql = without_values(&String::from_utf8_lossy(&text(from).0));
                self.prepared.insert(name, sql);
            }
            b'B' => {
                // The statement's name comes after the portal's.
                let (name, _) = text(text(0).1);
                self.batch.extend(self.prepared.get(&name).cloned());
            }
            _ => self.awaited.push_back(std::mem::take(&mut self.batch)),
        }
    }

    /// The server has done what comes next in turn; gives all that was done where something is
    /// open now.
    fn ready(&mut self, state: u8) -> Option<Vec<String>> {
        const LOCK: [&str; 2] = ["pg_advisory_lock(", "pg_try_advisory_lock("];
        for text in self.awaited.pop_front()? {
            if LOCK.iter().any(|it| text.contains(it)) {
                self.is_locked = true;
            } else if text.contains("pg_advisory_unlock") {
                self.is_locked = false;
            }
            if self.open.last() != Some(&text) {
                self.open.push(text);
            }
        }
        if state == b'I' && !self.is_locked {
            self.open.clear();
            return None;
        }
        Some(self.open.clone())
    }
}

/// A statement's text on one line, with `?` for each number and each text in quotes.
fn without_values(sql: &str) -> String {
    let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut plain = String::with_capacity(sql.len());
    for (index, part) in sql.split('\'').enumerate() {
        if index % 2 == 1 {
            plain.push('?');
            continue;
        }
        let mut in_number = false;
        for char in part.chars() {
            let is_digit = char.is_ascii_digit();
            if is_digit && !in_number {
                plain.push('?');
            } else if !is_digit {
                plain.push(char);
            }
            in_number = is_digit;
        }
    }
    plain
}

/// The process that has this end of a connection, as `/proc` tells it.
fn process_of(client: SocketAddr, proxy: SocketAddr) -> Option<u32> {
    let (from, to) = (format!(":{:04X}", client.port()), format!(":{:04X}", proxy.port()));
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&from) && fields.get(2)?.ends_with(&to);
        is_it.then(|| fields.get(9).copied().map(str::to_owned))?
    })?;
    let socket = format!("socket:[{inode}]");
    let has_it = |id: &u32| {
        let Ok(files) = std::fs::read_dir(format!("/proc/{id}/fd")) else { return false };
        let mut links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        links.any(|link| link.to_str() == Some(socket.as_str()))
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|it| it.file_name().to_str()?.parse().ok()).find(has_it)
}
