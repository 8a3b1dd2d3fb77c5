//! A proxy that understands the protocol: it says at login that the server is CockroachDB, writes
//! down what is sent, and refuses what it is told to refuse.
//!
//! What it need not understand it passes on as it comes. There is no TLS behind it; requests to
//! cancel are passed on.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::record::{Recorder, Sent};
use super::refuse::{Asked, Bound, Judge, Judged, Refused};

const BUFFER_BYTES: usize = 16 * 1024;
/// A tag and a length that counts itself.
const HEADER_BYTES: usize = 5;
/// What a client may say before it logs in, in the place of a version.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSSAPI: u32 = 80_877_104;
/// The name of the setting by which segue's own sessions are told: no other has it.
const OWN: &str = "'row_security'";

/// What a proxy does besides passing on.
#[derive(Default)]
pub struct Rules {
    /// A setting that the server is made to report of itself at each login.
    pub reported: Option<(&'static str, &'static str)>,
    pub recorder: Option<Recorder>,
    pub judge: Option<Box<dyn Judge>>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("reported", &self.reported).finish_non_exhaustive()
    }
}

/// A running proxy, which ends with the value. It runs on a thread of its own.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    closing: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Forwards a new port of 127.0.0.1 to `upstream_port` of the same.
    pub fn start(upstream_port: u16, rules: Rules) -> Self {
        let (closing, watched) = watch::channel(false);
        let upstream = SocketAddr::from(([127, 0, 0, 1], upstream_port));
        let (up, is_up) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
                let _ = up.send(listener.local_addr().expect("it is bound").port());
                listen(listener, upstream, Arc::new(rules), watched).await;
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

impl Drop for Wire {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn listen(
    listener: TcpListener,
    upstream: SocketAddr,
    rules: Arc<Rules>,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            // With the runtime go the connections.
            _ = closing.wait_for(|closing| *closing) => return,
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                let rules = Arc::clone(&rules);
                tokio::spawn(async move {
                    // How a connection ends is for its two ends to say.
                    let _ = carry(client, upstream, &rules).await;
                });
            }
        }
    }
}

async fn carry(mut client: TcpStream, upstream: SocketAddr, rules: &Rules) -> std::io::Result<()> {
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return client.set_zero_linger();
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let login = loop {
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
        break body;
    };
    let session = Session {
        rules,
        application: application(&login[4..]),
        refused: Mutex::default(),
        own: Mutex::default(),
        committing: Mutex::default(),
        awaited: Mutex::default(),
        described: Mutex::default(),
        parameters: Mutex::default(),
        state: AtomicU8::new(b'I'),
    };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        end = pump(&mut from_client, &mut to_server, b"QPBDS", |tag, body, out| session.asked(tag, body, out)) => end,
        end = pump(&mut from_server, &mut to_client, b"RECNTZ1t", |tag, body, out| session.told(tag, body, out)) => end,
    }
}

/// What a login calls the application.
fn application(parameters: &[u8]) -> String {
    let mut texts = parameters.split(|byte| *byte == 0);
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        if name == b"application_name" {
            return String::from_utf8_lossy(value).into_owned();
        }
    }
    String::new()
}

struct Session<'a> {
    rules: &'a Rules,
    application: String,
    refused: Mutex<Refused>,
    /// Whether it has been seen to be segue's own.
    own: Mutex<bool>,
    /// Names of prepared statements that commit what is open before they do anything.
    committing: Mutex<HashSet<Vec<u8>>>,
    /// What answers are to come, in their order.
    awaited: Mutex<VecDeque<Awaited>>,
    /// What the server has prepared, until its columns are told.
    described: Mutex<Option<Sent>>,
    /// Types of the parameters of what is prepared, by its name.
    parameters: Mutex<HashMap<Vec<u8>, Vec<u32>>>,
    /// The state of its transaction, as `ReadyForQuery` said last.
    state: AtomicU8,
}

/// An answer that is to come.
#[derive(Debug, PartialEq, Eq)]
enum Awaited {
    /// `ParseComplete` of this.
    Prepared(Sent),
    /// `ParameterDescription` of the statement of this name.
    Parameters(Vec<u8>),
    /// `ReadyForQuery` for the client.
    Theirs,
    /// The same for the proxy itself.
    Ours,
}

/// What CockroachDB calls the states.
const STATUS: &str = "SHOW TRANSACTION STATUS";

impl Session<'_> {
    /// A message on its way to the server.
    fn asked(&self, tag: u8, body: &[u8], out: &mut Vec<u8>) {
        match tag {
            b'Q' | b'P' => self.text(tag, body, out),
            b'B' => self.bound(body, out),
            b'D' => {
                if let Some((b'S', name)) = body.split_first() {
                    self.await_answer(Awaited::Parameters(name.to_vec()));
                }
                frame(tag, &[body], out);
            }
            _ => frame(tag, &[body], out),
        }
        if matches!(tag, b'Q' | b'S') {
            self.await_answer(Awaited::Theirs);
        }
    }

    /// A `Bind`.
    fn bound(&self, body: &[u8], out: &mut Vec<u8>) {
        // The statement's name comes after the portal's.
        let from = end_of_text(body, 0);
        let name = &body[from..end_of_text(body, from)];
        if self.committing.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
            self.in_between("COMMIT", out);
        }
        let parameters = self.parameters.lock().unwrap_or_else(PoisonError::into_inner);
        let types = parameters.get(name).map(Vec::as_slice).unwrap_or_default();
        let judged = self.rules.judge.as_ref().map(|judge| judge.bound(body, types));
        match judged.unwrap_or(Bound::Same) {
            Bound::Same => frame(b'B', &[body], out),
            Bound::Instead(body) => frame(b'B', &[&body], out),
            Bound::Refused(refusal) => {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                frame(b'B', &[&refused.in_place_of_bind(&body[..from], refusal)], out);
            }
        }
    }

    /// A statement of the proxy's own, whose answer the client does not see; nothing where no
    /// transaction is open.
    fn in_between(&self, sql: &str, out: &mut Vec<u8>) {
        if self.state.load(Ordering::SeqCst) == b'T' {
            frame(b'Q', &[sql.as_bytes(), b"\0"], out);
            self.await_answer(Awaited::Ours);
        }
    }

    fn await_answer(&self, answer: Awaited) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).push_back(answer);
    }

    fn prepares(&self, sent: Option<Sent>) {
        if let Some(sent) = sent {
            self.await_answer(Awaited::Prepared(sent));
        }
    }

    /// Whether what the server says now answers the proxy.
    fn is_ours(&self) -> bool {
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.front() == Some(&Awaited::Ours)
    }

    /// An answer has come: nothing that was to come before it will.
    fn answered(&self, tag: u8, body: &[u8]) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        if tag == b'1' && matches!(awaited.front(), Some(Awaited::Prepared(_))) {
            *described = match awaited.pop_front() {
                Some(Awaited::Prepared(sent)) => Some(sent),
                _ => None,
            };
        } else if tag == b't' && matches!(awaited.front(), Some(Awaited::Parameters(_))) {
            if let Some(Awaited::Parameters(name)) = awaited.pop_front() {
                let mut parameters = self.parameters.lock().unwrap_or_else(PoisonError::into_inner);
                parameters.insert(name, types(body));
            }
        } else if tag == b'Z' {
            // What an error has passed over was not prepared.
            while let Some(Awaited::Prepared(_) | Awaited::Parameters(_)) = awaited.pop_front() {}
        }
    }

    /// The columns of what was prepared.
    fn columns(&self, body: &[u8]) {
        let described = self.described.lock().unwrap_or_else(PoisonError::into_inner).take();
        let integers = integers(body);
        if let (Some(recorder), Some(sent)) = (&self.rules.recorder, described)
            && !integers.is_empty()
        {
            recorder.note(&Sent { integers, ..sent });
        }
    }

    /// A prepared statement that commits first does so when it is bound; one without a name, which
    /// the proxy's own statement would take away, before it is prepared.
    fn prepared(&self, name: &[u8], sql: &str, out: &mut Vec<u8>) {
        let commits = self.rules.judge.as_ref().is_some_and(|it| it.commits_first(sql));
        let mut committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        committing.remove(name);
        if commits && name == b"\0" {
            self.in_between("COMMIT", out);
        } else if commits {
            committing.insert(name.to_vec());
        }
    }

    /// A `Query` or a `Parse`.
    fn text(&self, tag: u8, body: &[u8], out: &mut Vec<u8>) {
        let extended = tag == b'P';
        // The name of the statement comes before its text.
        let from = if extended { end_of_text(body, 0) } else { 0 };
        let to = end_of_text(body, from);
        let sql = std::str::from_utf8(&body[from..to.saturating_sub(1)]).unwrap_or_default();
        let types = if extended { types(&body[to..]) } else { Vec::new() };
        let own = {
            let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            *own |= sql.contains(OWN);
            *own
        };
        let mut awaited = None;
        if let Some(recorder) = &self.rules.recorder
            && !sql.trim().is_empty()
        {
            let sent = Sent {
                application: self.application.clone(),
                own,
                extended,
                in_transaction: self.state.load(Ordering::SeqCst) != b'I',
                types: types.clone(),
                sql: sql.to_owned(),
                integers: Vec::new(),
            };
            recorder.note(&sent);
            awaited = Some(sent).filter(|_| extended);
        }
        // PostgreSQL cannot be asked for it.
        if sql == STATUS {
            let name = match self.state.load(Ordering::SeqCst) {
                b'I' => "NoTxn",
                b'T' => "Open",
                _ => "Aborted",
            };
            let text = format!("SELECT '{name}' AS \"TRANSACTION STATUS\"");
            return frame(tag, &[&body[..from], text.as_bytes(), b"\0", &body[to..]], out);
        }
        let judged = self.rules.judge.as_ref().map_or(Judged::Same, |judge| {
            let in_transaction = self.state.load(Ordering::SeqCst) == b'T';
            judge.judge(Asked { sql, extended, own, in_transaction, types: &types })
        });
        if extended {
            // What it does not say is told when it is asked for.
            let mut parameters = self.parameters.lock().unwrap_or_else(PoisonError::into_inner);
            parameters.insert(body[..from].to_vec(), types.clone());
        }
        if extended && !matches!(judged, Judged::Refused(_)) {
            self.prepared(&body[..from], sql, out);
        }
        let text = match judged {
            Judged::Same => {
                self.prepares(awaited);
                return frame(tag, &[body], out);
            }
            Judged::Instead(text) => text,
            Judged::Refused(mut refusal) => {
                if let Some(first) = refusal.first.take_if(|_| extended) {
                    self.in_between(first, out);
                }
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                awaited = None;
                refused.in_its_place(refusal)
            }
        };
        self.prepares(awaited);
        frame(tag, &[&body[..from], text.as_bytes(), b"\0", &body[to..]], out);
    }

    /// An answer to the login, the end of a command, an error, a notice or `ReadyForQuery`, on its
    /// way to the client.
    fn told(&self, tag: u8, body: &[u8], out: &mut Vec<u8>) {
        let is_ours = self.is_ours();
        if tag == b'Z' {
            self.state.store(body[0], Ordering::SeqCst);
        }
        self.answered(tag, body);
        // An error goes on to the client: it is what the client's own statement has come to.
        if is_ours && tag != b'E' {
            return;
        }
        if tag == b'T' {
            self.columns(body);
        }
        if tag == b'E' {
            let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            match refused.reworded(body) {
                Some(reworded) => frame(tag, &[&reworded], out),
                None => frame(tag, &[body], out),
            }
            return;
        }
        frame(tag, &[body], out);
        // `AuthenticationOk`.
        if let Some((name, value)) = self.rules.reported
            && tag == b'R'
            && body == [0; 4]
        {
            frame(b'S', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"], out);
        }
    }
}

/// Columns of a `RowDescription` that are integers of less than eight bytes, or arrays of them, and
/// no table's.
fn integers(body: &[u8]) -> Vec<usize> {
    const INT2: u32 = 21;
    const INT4: u32 = 23;
    const INT2S: u32 = 1005;
    const INT4S: u32 = 1007;
    let (mut found, mut at) = (Vec::new(), 2);
    let count = body.first_chunk().map_or(0, |it| u16::from_be_bytes(*it));
    for column in 0..usize::from(count) {
        // The table, the column's number in it, the type, its length, its modifier, the format.
        let from = end_of_text(body, at);
        let Some(fields) = body.get(from..from + 18) else { break };
        let number = |at: usize| {
            u32::from_be_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]])
        };
        if number(0) == 0 && [INT2, INT4, INT2S, INT4S].contains(&number(6)) {
            found.push(column);
        }
        at = from + 18;
    }
    found
}

/// Just after the zero byte that ends a text.
pub fn end_of_text(body: &[u8], from: usize) -> usize {
    let zero = body[from..].iter().position(|byte| *byte == 0);
    zero.map_or(body.len(), |zero| from + zero + 1)
}

/// The types of a `Parse`: a number of them, and each.
fn types(body: &[u8]) -> Vec<u32> {
    let types = body.get(2..).unwrap_or_default().chunks_exact(4);
    types.map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]])).collect()
}

/// A message of these parts.
pub fn frame(tag: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length + 4).expect("a message is not as long");
    out.push(tag);
    out.extend_from_slice(&length.to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Passes messages on, those of `tags` by way of `each`, which writes what goes in their place.
pub async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    tags: &[u8],
    mut each: impl FnMut(u8, &[u8], &mut Vec<u8>),
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut frames, mut out) = (Frames::default(), Vec::new());
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        frames.feed(&buffer[..length], tags, &mut out, &mut each);
        to.write_all(&out).await?;
        out.clear();
    }
}

/// A stream of messages, of which some are looked into when they are whole.
#[derive(Debug, Default)]
struct Frames {
    held: Vec<u8>,
    /// Bytes of a message that nobody looks into which are still to come.
    passing: usize,
}

impl Frames {
    fn feed(
        &mut self,
        bytes: &[u8],
        tags: &[u8],
        out: &mut Vec<u8>,
        each: &mut impl FnMut(u8, &[u8], &mut Vec<u8>),
    ) {
        self.held.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &self.held[at..];
            if self.passing > 0 {
                let passed = self.passing.min(rest.len());
                out.extend_from_slice(&rest[..passed]);
                self.passing -= passed;
                at += passed;
                if self.passing > 0 {
                    break;
                }
                continue;
            }
            let Some((header, _)) = rest.split_first_chunk::<HEADER_BYTES>() else { break };
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let whole = usize::try_from(length).expect("it fits") + 1;
            if !tags.contains(&header[0]) {
                self.passing = whole;
            } else if rest.len() < whole {
                break;
            } else {
                each(header[0], &rest[HEADER_BYTES..whole], out);
                at += whole;
            }
        }
        self.held.drain(..at);
    }
}
