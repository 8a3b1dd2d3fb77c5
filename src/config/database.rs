//! One side's database: where it is, who asks, how it is trusted.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::dsn::{self, Words};
use crate::config::keys::SSL_MODES;
use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::domain::side::Side;

/// How a side is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The connection string as `key='value'` words that tokio-postgres reads: all of it but
    /// TLS and the password, which stand below.
    pub conninfo: String,
    /// Hosts and ports in their order, for logs and traces.
    pub hosts: Vec<(String, u16)>,
    /// The database's name.
    pub dbname: String,
    /// The role.
    pub user: String,
    /// Where the password comes from.
    pub password: Password,
    /// TLS.
    pub ssl: Ssl,
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

/// Where a password comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Password {
    /// There is none.
    #[default]
    None,
    /// It was given.
    Given(Secret),
    /// The first line of a file, read at each connect.
    File(PathBuf),
    /// A file in the format of `.pgpass`, looked up at each connect.
    Passfile(PathBuf),
}

/// How TLS is used, in libpq's terms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ssl {
    /// What is asked for.
    pub mode: SslMode,
    /// Authorities; the system's where absent.
    pub root_cert: Option<PathBuf>,
    /// Client certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Where the server can.
    #[default]
    Prefer,
    /// Always; the certificate is checked only where authorities are named.
    Require,
    /// Always, from a trusted authority.
    VerifyCa,
    /// Always, from a trusted authority, in the host's name.
    VerifyFull,
}

const PORT_DEFAULT: u16 = 5432;
/// Words that have a key of their own; the key goes before the connection string.
const OWN_KEYS: &[&str] = &["host", "port", "dbname", "user"];
/// Words that are handed on as something else than the connection string.
const NOT_HANDED_ON: &[&str] =
    &["password", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout"];

// === impl Database ===

impl Database {
    pub(super) fn read(reader: &mut Reader, side: Side) -> Self {
        let key = |name: &str| format!("{side}.{name}");
        let mut words = Self::words(reader, side);
        let password = Self::password(reader, side, &words);
        let ssl = Ssl::read(reader, side, &words);
        let connect_timeout = match words.get("connect_timeout").map(|text| text.parse::<u64>()) {
            Some(Ok(seconds)) if seconds > 0 && is_fallback(reader, &key("connect_timeout")) => {
                Duration::from_secs(seconds)
            }
            _ => reader.duration(&key("connect_timeout")),
        };
        words.retain(|word, _| !NOT_HANDED_ON.contains(&word.as_str()));
        let word = |name: &str| words.get(name).cloned().unwrap_or_default();
        let user = word("user");
        let dbname = match word("dbname") {
            name if name.is_empty() => user.clone(),
            name => name,
        };
        Self {
            hosts: Self::hosts(reader, side, &word("host"), &word("port")),
            dbname,
            user,
            conninfo: dsn::write(&words),
            password,
            ssl,
            connect_timeout,
            read_pool_max: reader.count(&key("read_pool_max")),
            write_pool_max: reader.count(&key("write_pool_max")),
            own_pool_max: reader.count(&key("own_pool_max")),
            pool_wait_max: reader.duration(&key("pool_wait_max")),
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
                return Words::new();
            }
        };
        for name in OWN_KEYS {
            let key = format!("{side}.{name}");
            if let Some(value) = reader.text(&key)
                && !(is_fallback(reader, &key) && words.contains_key(*name))
            {
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

    fn password(reader: &mut Reader, side: Side, words: &Words) -> Password {
        let key = |name: &str| format!("{side}.{name}");
        let file = reader.readable(&key("password_file"));
        let passfile = reader.readable(&key("passfile"));
        let given = reader.secret(&key("password"));
        let given_here = given.filter(|_| !is_fallback(reader, &key("password")));
        let (of_file, of_given) =
            (reader.origin(&key("password_file")), reader.origin(&key("password")));
        if file.is_some() && given_here.is_some() && of_file.rank() == of_given.rank() {
            reader.fault(&key("password"), "there is a password_file as well; keep one of them");
        }
        if let Some(file) =
            file.filter(|_| given_here.is_none() || of_file.rank() > of_given.rank())
        {
            return Password::File(file);
        }
        let in_dsn = || words.get("password").map(|text| Secret::new(text.clone()));
        if let Some(secret) = given_here.or_else(in_dsn).or_else(|| reader.secret(&key("password")))
        {
            return Password::Given(secret);
        }
        let passfile = passfile.or_else(|| words.get("passfile").map(PathBuf::from));
        passfile.map_or(Password::None, Password::Passfile)
    }

    fn hosts(reader: &mut Reader, side: Side, hosts: &str, ports: &str) -> Vec<(String, u16)> {
        let hosts: Vec<&str> = hosts.split(',').filter(|host| !host.is_empty()).collect();
        let ports: Vec<&str> = ports.split(',').collect();
        if ports.len() > 1 && ports.len() != hosts.len() {
            let message = format!(
                "{} ports for {} hosts; name one for all or one for each",
                ports.len(),
                hosts.len()
            );
            reader.fault(&format!("{side}.port"), message);
        }
        let mut found = Vec::with_capacity(hosts.len());
        for (index, host) in hosts.iter().enumerate() {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or_default();
            let port = if port.is_empty() { Ok(PORT_DEFAULT) } else { port.parse() };
            match port {
                Ok(port) => found.push(((*host).to_owned(), port)),
                Err(_) => reader.fault(&format!("{side}.port"), "is not a port, 1 to 65535"),
            }
        }
        found
    }
}

// === impl Ssl ===

impl Ssl {
    fn read(reader: &mut Reader, side: Side, words: &Words) -> Self {
        let key = |name: &str| format!("{side}.{name}");
        let mode = match words.get("sslmode") {
            Some(mode) if is_fallback(reader, &key("sslmode")) => {
                SSL_MODES.iter().position(|known| known == mode).unwrap_or_else(|| {
                    let choices = SSL_MODES.join(", ");
                    reader.fault(&key("dsn"), format!("sslmode is not one of {choices}"));
                    0
                })
            }
            _ => reader.choice(&key("sslmode"), SSL_MODES),
        };
        let mut file = |name: &str| {
            let fallback = is_fallback(reader, &key(name));
            match words.get(name).filter(|_| fallback) {
                Some(path) => Some(PathBuf::from(path)),
                None => reader.readable(&key(name)),
            }
        };
        let (root_cert, cert, client_key) = (file("sslrootcert"), file("sslcert"), file("sslkey"));
        let client_cert = match (cert, client_key) {
            (Some(cert), Some(client_key)) => Some((cert, client_key)),
            (Some(_), None) => {
                reader.fault(&key("sslkey"), "a client certificate needs its key; set sslkey");
                None
            }
            (None, Some(_)) => {
                reader.fault(&key("sslcert"), "a client key needs its certificate; set sslcert");
                None
            }
            (None, None) => None,
        };
        Self { mode: SslMode::ALL.get(mode).copied().unwrap_or_default(), root_cert, client_cert }
    }
}

// === impl SslMode ===

impl SslMode {
    /// In the order of libpq's words.
    const ALL: [Self; 5] =
        [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];
}

/// Whether the connection string goes before this key: it does where it stands in a higher
/// layer. In the same layer the key, being the more special, goes before it.
fn is_fallback(reader: &Reader, path: &str) -> bool {
    let side = path.split('.').next().unwrap_or_default();
    reader.origin(path).rank() < reader.origin(&format!("{side}.dsn")).rank()
}
