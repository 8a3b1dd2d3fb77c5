//! Where a database is and how to reach it: connection strings, as libpq reads them.
//!
//! The one reader of connection strings. The configuration checks with it what sessions are then
//! opened with, so that whatever `segue config check` accepts can be connected by. Words and their
//! meaning are libpq's (*Database Connection Control Functions* in PostgreSQL's documentation). What
//! segue does not implement is refused by name; nothing is weakened in silence, and no secret is
//! ever printed.
//!
//! A value is looked for in the connection string, then in the service file, then in the
//! environment, as libpq does. Nothing is read here but through [`Surroundings`].

mod checked;
mod passfile;
mod service;
mod spelling;
mod surroundings;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::secret::Secret;

pub use passfile::password_for;
pub use surroundings::{Surroundings, VARIABLES, Variable, WHERE};
pub use words::{Words, redacted};

/// A connection string that cannot be used. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DsnError {
    /// The word at fault, where it is one word's.
    pub word: Option<&'static str>,
    /// What is wrong, and the way out.
    pub message: String,
}

impl DsnError {
    fn new(message: impl Into<String>) -> Self {
        Self { word: None, message: message.into() }
    }

    fn of(word: &'static str, message: impl Into<String>) -> Self {
        Self { word: Some(word), message: message.into() }
    }
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it, unverified unless a root certificate is named.
    Prefer,
    /// TLS; verified only where there is a root certificate, as in libpq.
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
    /// The password that the string has.
    pub password: Option<Secret>,
    /// The file whose first line is the password; it goes before the others.
    pub password_file: Option<PathBuf>,
    /// The file of passwords by host, port, database and role.
    pub passfile: Option<PathBuf>,
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
    /// Reads a connection string, with what its surroundings say of the words that it lacks.
    ///
    /// # Errors
    ///
    /// [`DsnError`] names the first word that is wrong or not implemented.
    pub fn parse(text: &str, surroundings: &impl Surroundings) -> Result<Self, DsnError> {
        let mut words = Words::parse(text)?;
        words.add_service(surroundings)?;
        words.add_variables(surroundings)?;
        words.checked(surroundings).map_err(|mut errors| errors.swap_remove(0))
    }

    /// Stands in the place of one that could not be read: it has no host.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            hosts: Vec::new(),
            user: String::new(),
            database: String::new(),
            password: None,
            password_file: None,
            passfile: None,
            ssl_mode: SslMode::VerifyFull,
            ssl_root: RootCertificates::System,
            ssl_client: None,
            channel_binding: ChannelBinding::Prefer,
            target_session: TargetSession::Any,
            connect_timeout: Duration::ZERO,
            options: None,
            application_name: String::new(),
        }
    }

    /// Whether it could be read.
    pub fn is_known(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// The hosts as `host:port`, with commas between them.
    pub fn places(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
        hosts.join(",")
    }
}

impl fmt::Display for Dsn {
    /// User, hosts and database, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.user, self.places(), self.database)
    }
}
