//! One side's database: where it is, who asks, how it is trusted.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::application::{self, Login};
use crate::config::dsn::{self, Words};
use crate::config::keys::SSL_MODES;
use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::domain::side::Side;

/// How a side is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The whole connection string as `key='value'` words: TLS, password and timeout too.
    pub conninfo: Secret,
    /// The file whose first line is the password, read at each connect.
    pub password_file: Option<PathBuf>,
    /// Hosts and ports in their order, for logs and traces.
    pub hosts: Vec<(String, u16)>,
    /// The database's name.
    pub dbname: String,
    /// The role.
    pub user: String,
    /// The login of callers' statements, where it is another one.
    pub application: Option<Login>,
    /// Time to open one connection.
    pub connect_timeout: Duration,
    /// Connections for callers' reads and for samples.
    pub read_pool_max: usize,
    /// Connections for callers' writes and transactions.
    pub write_pool_max: usize,
    /// Connections for segue's own work.
    pub own_pool_max: usize,
    /// Time that a call waits for a connection.
    pub pool_wait_max: Duration,
}

const PORT_DEFAULT: u16 = 5432;
/// Words that have a key of their own, laid over the connection string.
const OWN_KEYS: &[&str] = &[
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
];
/// Of these, names of files that must be readable.
const FILES: &[&str] = &["passfile", "sslrootcert", "sslcert", "sslkey"];
/// What libpq reads as `the authorities of the system`.
const SYSTEM_ROOTS: &str = "system";

// === impl Database ===

impl Database {
    pub(super) fn read(reader: &mut Reader, side: Side) -> Self {
        let key = |name: &str| format!("{side}.{name}");
        let mut words = words(reader, side);
        check_tls(reader, side, &words);
        let password_file = password_file(reader, side, &mut words);
        let connect_timeout = connect_timeout(reader, side, &words);
        // libpq counts whole seconds; a shorter time is kept by whoever connects.
        let whole = connect_timeout.as_secs_f64().ceil().max(1.0);
        words.insert("connect_timeout".to_owned(), format!("{whole}"));
        let application = application::read(reader, side, &words);
        let word = |name: &str| words.get(name).cloned().unwrap_or_default();
        let user = word("user");
        let dbname = match word("dbname") {
            name if name.is_empty() => user.clone(),
            name => name,
        };
        Self {
            hosts: hosts(reader, side, &word("host"), &word("port")),
            dbname,
            user,
            application,
            conninfo: Secret::new(dsn::write(&words)),
            password_file,
            connect_timeout,
            read_pool_max: reader.count(&key("read_pool_max")),
            write_pool_max: reader.count(&key("write_pool_max")),
            own_pool_max: reader.count(&key("own_pool_max")),
            pool_wait_max: reader.duration(&key("pool_wait_max")),
        }
    }
}

/// The connection string with the keys of their own laid over it, and libpq's variables
/// below it.
fn words(reader: &mut Reader, side: Side) -> Words {
    let dsn_key = format!("{side}.dsn");
    let mut words = match reader.text(&dsn_key).map(|text| dsn::parse(&text)) {
        None => Words::new(),
        Some(Ok(words)) => words,
        Some(Err(message)) => {
            reader.fault(&dsn_key, message);
            // So that what it may have said is not missed as well.
            ["host", "user"].map(|word| (word.to_owned(), "unknown".to_owned())).into()
        }
    };
    for name in OWN_KEYS {
        let key = format!("{side}.{name}");
        let Some(value) = reader.text(&key) else { continue };
        if FILES.contains(name) && value != SYSTEM_ROOTS {
            reader.readable(&key);
        }
        if !(is_fallback(reader, &key) && words.contains_key(*name)) {
            words.insert((*name).to_owned(), value);
        }
    }
    for (name, needed_for) in [("host", "where the database is"), ("user", "who asks")] {
        if !words.contains_key(name) {
            let example = format!("postgres://user@host:5432/{side}_db");
            let message = format!("nothing says {needed_for}; write dsn = \"{example}\"");
            reader.fault(&format!("{side}.{name}"), message);
        }
    }
    words
}

fn check_tls(reader: &mut Reader, side: Side, words: &Words) {
    let key = |name: &str| format!("{side}.{name}");
    let mode = words.get("sslmode").map(String::as_str).unwrap_or_default();
    if reader.text(&key("sslmode")).as_deref() == Some(mode) {
        reader.choice(&key("sslmode"), SSL_MODES);
    } else if !SSL_MODES.contains(&mode) {
        reader.fault(&key("dsn"), format!("sslmode is not one of {}", SSL_MODES.join(", ")));
    }
    match (words.contains_key("sslcert"), words.contains_key("sslkey")) {
        (true, false) => {
            reader.fault(&key("sslkey"), "a client certificate needs its key; set sslkey");
        }
        (false, true) => {
            reader.fault(&key("sslcert"), "a client key needs its certificate; set sslcert");
        }
        _ => {}
    }
}

/// The password's file, where it is what counts; other passwords are then taken away.
fn password_file(reader: &mut Reader, side: Side, words: &mut Words) -> Option<PathBuf> {
    let (file_key, given_key) = (format!("{side}.password_file"), format!("{side}.password"));
    let file = reader.readable(&file_key)?;
    let (of_file, of_given) = (reader.origin(&file_key).rank(), reader.origin(&given_key).rank());
    if of_given > of_file {
        return None;
    }
    if of_given == of_file {
        reader.fault(&given_key, "there is a password_file as well; keep one of them");
    }
    words.remove("password");
    Some(file)
}

fn connect_timeout(reader: &mut Reader, side: Side, words: &Words) -> Duration {
    let key = format!("{side}.connect_timeout");
    match words.get("connect_timeout").map(|text| text.parse::<u64>()) {
        Some(Ok(seconds)) if seconds > 0 && is_fallback(reader, &key) => {
            Duration::from_secs(seconds)
        }
        _ => reader.duration(&key),
    }
}

fn hosts(reader: &mut Reader, side: Side, hosts: &str, ports: &str) -> Vec<(String, u16)> {
    let key = format!("{side}.port");
    let hosts: Vec<&str> = hosts.split(',').filter(|host| !host.is_empty()).collect();
    let ports: Vec<&str> = ports.split(',').collect();
    if ports.len() > 1 && ports.len() != hosts.len() {
        let (ports, hosts) = (ports.len(), hosts.len());
        let way_out = "name one for all or one for each";
        reader.fault(&key, format!("{ports} ports for {hosts} hosts; {way_out}"));
    }
    let mut found = Vec::with_capacity(hosts.len());
    for (index, host) in hosts.iter().enumerate() {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or_default();
        let port = if port.is_empty() { Ok(PORT_DEFAULT) } else { port.parse() };
        match port {
            Ok(port) => found.push(((*host).to_owned(), port)),
            Err(_) => reader.fault(&key, "is not a port, 1 to 65535"),
        }
    }
    found
}

/// Whether the connection string goes before this key: it does where it stands in a higher
/// layer. In the same layer the key, being the more special, goes before it.
fn is_fallback(reader: &Reader, path: &str) -> bool {
    let side = path.split('.').next().unwrap_or_default();
    reader.origin(path).rank() < reader.origin(&format!("{side}.dsn")).rank()
}
