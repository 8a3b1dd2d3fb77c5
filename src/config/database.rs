//! One side's database: where it is, who asks, how it is trusted.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::application;
use crate::config::fault::Origin;
use crate::config::reader::Reader;
use crate::config::surroundings::OfSide;
use crate::domain::side::Side;
use crate::dsn::{Dsn, DsnError, Words};

/// How a side is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Where it is, who asks and how it is trusted: what segue's own sessions are opened with.
    pub dsn: Dsn,
    /// The same for callers' statements, where another login runs them.
    pub application: Option<Dsn>,
    /// Connections for callers' reads and for samples.
    pub read_pool_max: usize,
    /// Connections for callers' writes and transactions.
    pub write_pool_max: usize,
    /// Connections for segue's own work.
    pub own_pool_max: usize,
    /// Time that a call waits for a connection.
    pub pool_wait_max: Duration,
}

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
        let surroundings = reader.surroundings(side);
        let mut words = words(reader, side, &surroundings);
        let password_file = password_file(reader, side, &mut words);
        let application = application::read(reader, side, &words, &surroundings);
        let mut dsn = checked(reader, side, &words, &surroundings);
        dsn.password_file = password_file.or(dsn.password_file);
        dsn.connect_timeout = connect_timeout(reader, side, &words, dsn.connect_timeout);
        let application = application.map(|of| Dsn { connect_timeout: dsn.connect_timeout, ..of });
        Self {
            dsn,
            application,
            read_pool_max: reader.count(&key("read_pool_max")),
            write_pool_max: reader.count(&key("write_pool_max")),
            own_pool_max: reader.count(&key("own_pool_max")),
            pool_wait_max: reader.duration(&key("pool_wait_max")),
        }
    }
}

/// The connection string with its service below it, the keys of their own laid over it, and
/// libpq's variables below all.
fn words(reader: &mut Reader, side: Side, surroundings: &OfSide) -> Words {
    let dsn_key = format!("{side}.dsn");
    let mut words = Words::default();
    let mut is_known = true;
    if let Some(text) = reader.text(&dsn_key) {
        match Words::parse(&text) {
            Ok(read) => words = read,
            Err(error) => {
                reader.fault(&dsn_key, error.message);
                is_known = false;
            }
        }
    }
    if let Err(error) = words.add_service(surroundings) {
        reader.fault(&dsn_key, error.message);
        is_known = false;
    }
    for name in OWN_KEYS {
        let key = format!("{side}.{name}");
        let Some(value) = reader.text(&key) else { continue };
        if FILES.contains(name) && value != SYSTEM_ROOTS {
            reader.readable(&key);
        }
        if !(is_fallback(reader, &key) && words.get(name).is_some()) {
            words.set(name, value);
        }
    }
    if let Err(error) = words.add_variables(surroundings) {
        reader.fault(&dsn_key, error.message);
    }
    let has_host = words.get("host").or(words.get("hostaddr")).is_some();
    let needed = [
        ("host", has_host, "where the database is"),
        ("user", words.get("user").is_some(), "who asks"),
    ];
    for (name, is_given, needed_for) in needed {
        if is_given {
            continue;
        }
        // A string that could not be read may have said it.
        if is_known {
            let example = format!("postgres://user@host:5432/{side}_db");
            let message = format!("nothing says {needed_for}; write dsn = \"{example}\"");
            reader.fault(&format!("{side}.{name}"), message);
        }
        words.set(name, "unknown");
    }
    words
}

/// The words as sessions are opened with them. What is wrong is a fault of the key that said it.
fn checked(reader: &mut Reader, side: Side, words: &Words, surroundings: &OfSide) -> Dsn {
    match words.checked(surroundings) {
        Ok(dsn) => dsn,
        Err(errors) => {
            for DsnError { word, message } in errors {
                let own = word
                    .filter(|word| OWN_KEYS.contains(word))
                    .map(|word| (format!("{side}.{word}"), words.get(word)));
                let key = match own {
                    // Said by the key, or by nobody.
                    Some((key, value)) if reader.text(&key).as_deref() == value => key,
                    _ => format!("{side}.dsn"),
                };
                reader.fault(&key, message);
            }
            Dsn::unknown()
        }
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
    words.set("password", "");
    Some(file)
}

/// The key's, unless the connection string or libpq's variable says another in whole seconds.
fn connect_timeout(reader: &mut Reader, side: Side, words: &Words, of_words: Duration) -> Duration {
    let key = format!("{side}.connect_timeout");
    match words.get("connect_timeout") {
        Some(text) if text != "0" && is_fallback(reader, &key) => of_words,
        _ => reader.duration(&key),
    }
}

/// Whether what the connection string says goes before this key: it does where it stands in a
/// higher layer, and before defaults and libpq's variables in any. In the same layer the key, being
/// the more special, goes before it.
fn is_fallback(reader: &Reader, path: &str) -> bool {
    let side = path.split('.').next().unwrap_or_default();
    let origin = reader.origin(path);
    matches!(origin, Origin::Default | Origin::Postgres(_))
        || origin.rank() < reader.origin(&format!("{side}.dsn")).rank()
}
