//! Where a database is and how to reach it: the connection string, checked.
//!
//! Keys and their meaning are libpq's. What segue does not implement is refused by name;
//! nothing is weakened in silence, and no secret is ever printed.

mod keys;
mod parse;
mod passfile;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keys::Keys;

/// A connection string that cannot be used. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DsnError {
    message: String,
}

impl DsnError {
    fn syntax(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    fn value(key: &str, value: &str, wanted: &str) -> Self {
        Self::syntax(format!("{key} is '{value}', but must be {wanted}"))
    }
}

/// A text that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it, unverified.
    Prefer,
    /// TLS; verified only where a root certificate is given, as in libpq.
    Require,
    /// TLS with a certificate of a known authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

/// Whether SCRAM is bound to the TLS channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Or no connection.
    Require,
}

/// What kind of session is wanted, where several hosts are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSession {
    /// Whatever answers first.
    Any,
    /// One that can write.
    ReadWrite,
    /// One that cannot.
    ReadOnly,
    /// A server that is not a standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby where there is one, else any.
    PreferStandby,
}

/// Where trusted authorities come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificates {
    /// None was named.
    Unset,
    /// The operating system's.
    System,
    /// A PEM file.
    File(PathBuf),
}

/// One host of a connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name, address, or the directory of a unix socket.
    pub name: String,
    /// The address to use instead of looking the name up.
    pub address: Option<String>,
    /// TCP port, or number in the socket's name.
    pub port: u16,
}

impl Host {
    /// Whether it is a unix socket.
    pub fn is_unix(&self) -> bool {
        self.name.starts_with('/')
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// A checked connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsn {
    /// Tried in order.
    pub hosts: Vec<Host>,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    passfile: Option<PathBuf>,
    /// Protection of the connection.
    pub ssl_mode: SslMode,
    /// Trusted authorities.
    pub ssl_root: RootCertificates,
    /// Client certificate and key, PEM files.
    pub ssl_client: Option<(PathBuf, PathBuf)>,
    /// SCRAM's binding to TLS.
    pub channel_binding: ChannelBinding,
    /// Which of several hosts is wanted.
    pub target_session: TargetSession,
    /// For one host: looking up, connecting, TLS and login together.
    pub connect_timeout: Duration,
    /// Command-line options for the server, as the operator gave them.
    pub options: Option<String>,
    /// The name shown in `pg_stat_activity`.
    pub application_name: String,
}

impl Dsn {
    /// Reads a connection string over the environment, which the caller hands in.
    ///
    /// # Errors
    ///
    /// [`DsnError`] names the key that is wrong or not implemented.
    pub fn parse(
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, DsnError> {
        let mut keys = Keys::default();
        for (variable, key) in keys::ENVIRONMENT {
            if let Some(value) = environment(variable).filter(|value| !value.is_empty()) {
                keys.set(key, value);
            }
        }
        for (key, value) in parse::pairs(text)? {
            keys.check_known(&key)?;
            keys.set(&key, value);
        }
        keys.into_dsn(environment("HOME").map(PathBuf::from))
    }

    /// The same with a password read from a file at each connection.
    #[must_use]
    pub fn with_password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.password_file = Some(path.into());
        self
    }

    /// The password for a host, from the string, the password file or `passfile`, in that
    /// order. Files are read anew, so that a rotated password is found.
    ///
    /// # Errors
    ///
    /// [`DsnError`] where a named file cannot be read.
    pub fn password(&self, host: &Host) -> Result<Option<Secret>, DsnError> {
        if let Some(path) = &self.password_file {
            let text = read(path, "the password file")?;
            return Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))));
        }
        if let Some(password) = &self.password {
            return Ok(Some(password.clone()));
        }
        let Some(path) = self.passfile.as_deref().filter(|path| path.exists()) else {
            return Ok(None);
        };
        if passfile::readable_by_others(path) {
            tracing::warn!(path = %path.display(), "password file is ignored: others than its owner may read it; chmod 600 helps");
            return Ok(None);
        }
        let contents = read(path, "passfile")?;
        let name = if host.is_unix() { "localhost" } else { host.name.as_str() };
        let found = passfile::password_for(&contents, name, host.port, &self.database, &self.user);
        Ok(found.map(Secret::new))
    }
}

impl fmt::Display for Dsn {
    /// User, hosts and database, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
        write!(f, "{}@{}/{}", self.user, hosts.join(","), self.database)
    }
}

fn read(path: &Path, what: &str) -> Result<String, DsnError> {
    std::fs::read_to_string(path).map_err(|error| {
        DsnError::syntax(format!("{what} {} cannot be read: {error}", path.display()))
    })
}
