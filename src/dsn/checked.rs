//! The words of a connection string, checked one by one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::surroundings::Surroundings;
use super::{ChannelBinding, Dsn, DsnError, Host, RootCertificates, SslMode, TargetSession, Words};
use crate::domain::secret::Secret;

const PORT: u16 = 5432;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What libpq reads as the authorities of the system.
const SYSTEM_ROOTS: &str = "system";

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];
const CHANNEL_BINDINGS: &[(&str, ChannelBinding)] = &[
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];
const TARGET_SESSIONS: &[(&str, TargetSession)] = &[
    ("any", TargetSession::Any),
    ("read-write", TargetSession::ReadWrite),
    ("read-only", TargetSession::ReadOnly),
    ("primary", TargetSession::Primary),
    ("standby", TargetSession::Standby),
    ("prefer-standby", TargetSession::PreferStandby),
];

/// Keeps what is wrong, so that one fault does not hide the next.
#[derive(Default)]
struct Errors(Vec<DsnError>);

impl Errors {
    fn keep<T>(&mut self, result: Result<T, DsnError>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }
}

impl Words {
    /// Checks them all. Files that libpq takes where none is named are looked for in the
    /// surroundings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong; at least one.
    pub fn checked(&self, surroundings: &impl Surroundings) -> Result<Dsn, Vec<DsnError>> {
        let mut errors = Errors::default();
        errors.keep(self.check_load_balance());
        let user = errors.keep(self.user());
        let hosts = errors.keep(self.hosts());
        let ssl_mode = errors.keep(self.ssl_mode());
        let ssl_root = ssl_mode.and_then(|mode| errors.keep(self.ssl_root(mode, surroundings)));
        let ssl_client = errors.keep(self.ssl_client(surroundings));
        let channel_binding = errors.keep(self.choice("channel_binding", CHANNEL_BINDINGS));
        let target_session = errors.keep(self.choice("target_session_attrs", TARGET_SESSIONS));
        let connect_timeout = errors.keep(self.connect_timeout());
        let all = (user, hosts, ssl_mode, ssl_root, ssl_client, connect_timeout);
        let (
            Some(user),
            Some(hosts),
            Some(ssl_mode),
            Some(ssl_root),
            Some(ssl_client),
            Some(connect_timeout),
        ) = all
        else {
            return Err(errors.0);
        };
        if !errors.0.is_empty() {
            return Err(errors.0);
        }
        let file = |word| self.get(word).map(PathBuf::from);
        Ok(Dsn {
            hosts,
            database: self.get("dbname").unwrap_or(&user).to_owned(),
            user,
            password: self.get("password").map(Secret::new),
            password_file: file("password_file"),
            passfile: file("passfile").or_else(|| surroundings.in_home(".pgpass")),
            ssl_mode,
            ssl_root,
            ssl_client,
            channel_binding: channel_binding.flatten().unwrap_or(ChannelBinding::Prefer),
            target_session: target_session.flatten().unwrap_or(TargetSession::Any),
            connect_timeout,
            options: self.get("options").map(str::to_owned),
            application_name: self.get("application_name").unwrap_or("segue").to_owned(),
        })
    }

    fn choice<T: Copy>(
        &self,
        word: &'static str,
        all: &[(&str, T)],
    ) -> Result<Option<T>, DsnError> {
        let Some(value) = self.get(word) else { return Ok(None) };
        let found = all.iter().find(|(name, _)| *name == value);
        found.map(|(_, choice)| Some(*choice)).ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
            DsnError::of(word, format!("{word} is not one of {}", names.join(", ")))
        })
    }

    fn check_load_balance(&self) -> Result<(), DsnError> {
        match self.get("load_balance_hosts") {
            None | Some("disable") => Ok(()),
            Some(_) => Err(DsnError::of(
                "load_balance_hosts",
                "load_balance_hosts must be disable: hosts are tried in order",
            )),
        }
    }

    fn user(&self) -> Result<String, DsnError> {
        let missing = || DsnError::of("user", "no user is named; add user=… or PGUSER");
        self.get("user").map(str::to_owned).ok_or_else(missing)
    }

    fn ssl_mode(&self) -> Result<SslMode, DsnError> {
        if self.get("sslmode") == Some("allow") {
            return Err(DsnError::of(
                "sslmode",
                "sslmode=allow begins in clear text and is not implemented; use prefer or require",
            ));
        }
        Ok(self.choice("sslmode", SSL_MODES)?.unwrap_or(SslMode::Prefer))
    }

    /// As in libpq, a root certificate in the home directory makes `require` verify the authority.
    /// With `prefer` libpq would go on in clear text where that fails; here it counts only where it
    /// is named.
    fn ssl_root(
        &self,
        mode: SslMode,
        surroundings: &impl Surroundings,
    ) -> Result<RootCertificates, DsnError> {
        match self.get("sslrootcert") {
            // With any weaker mode a forged certificate for another name would pass.
            Some(SYSTEM_ROOTS) if mode != SslMode::VerifyFull => {
                Err(DsnError::of("sslrootcert", "sslrootcert=system needs sslmode=verify-full"))
            }
            Some(SYSTEM_ROOTS) => return Ok(RootCertificates::System),
            Some(path) => return Ok(RootCertificates::File(path.into())),
            None => Ok(()),
        }?;
        let in_home = surroundings
            .in_home(".postgresql/root.crt")
            .filter(|path| surroundings.has(path))
            .map(RootCertificates::File);
        match mode {
            SslMode::Disable | SslMode::Prefer => Ok(RootCertificates::Unset),
            SslMode::Require => Ok(in_home.unwrap_or(RootCertificates::Unset)),
            SslMode::VerifyCa | SslMode::VerifyFull => in_home.ok_or_else(|| {
                DsnError::of(
                    "sslrootcert",
                    "sslmode verifies, but no root certificate is named; add sslrootcert=FILE, or \
                     sslrootcert=system for the authorities that the system trusts (with verify-full)",
                )
            }),
        }
    }

    fn ssl_client(
        &self,
        surroundings: &impl Surroundings,
    ) -> Result<Option<(PathBuf, PathBuf)>, DsnError> {
        let of = |word: &str, in_home: &str| {
            let named = self.get(word).map(PathBuf::from);
            named.or_else(|| {
                surroundings
                    .in_home(in_home)
                    .filter(|path: &PathBuf| surroundings.has(Path::new(path)))
            })
        };
        let certificate = of("sslcert", ".postgresql/postgresql.crt");
        match (certificate, of("sslkey", ".postgresql/postgresql.key")) {
            (None, _) if self.get("sslkey").is_some() => {
                Err(DsnError::of("sslcert", "a client key needs its certificate; set sslcert"))
            }
            (None, _) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (Some(_), None) => {
                Err(DsnError::of("sslkey", "a client certificate needs its key; set sslkey"))
            }
        }
    }

    fn connect_timeout(&self) -> Result<Duration, DsnError> {
        match self.get("connect_timeout") {
            None | Some("0") => Ok(CONNECT_TIMEOUT),
            Some(value) => value.parse().map(Duration::from_secs).map_err(|_| {
                DsnError::of("connect_timeout", "connect_timeout is not a number of seconds")
            }),
        }
    }

    fn hosts(&self) -> Result<Vec<Host>, DsnError> {
        let parts = |word| self.get(word).map_or_else(Vec::new, |text| text.split(',').collect());
        let addresses: Vec<&str> = parts("hostaddr");
        let names: Vec<&str> = match parts("host") {
            names if !names.is_empty() => names,
            _ if addresses.is_empty() => vec!["localhost"],
            _ => addresses.clone(),
        };
        if !addresses.is_empty() && addresses.len() != names.len() {
            let (addresses, names) = (addresses.len(), names.len());
            let message =
                format!("hostaddr has {addresses} addresses for {names} hosts; give one for each");
            return Err(DsnError::of("hostaddr", message));
        }
        let ports: Vec<&str> = parts("port");
        if ports.len() > 1 && ports.len() != names.len() {
            let (ports, names) = (ports.len(), names.len());
            let message =
                format!("{ports} ports for {names} hosts; name one for all or one for each");
            return Err(DsnError::of("port", message));
        }
        let port_of = |index: usize| match ports.get(index).or(ports.first()).copied() {
            None | Some("") => Ok(PORT),
            Some(text) => match text.parse() {
                Ok(port) if port > 0 => Ok(port),
                _ => Err(DsnError::of("port", "port is not between 1 and 65535")),
            },
        };
        let host = |(index, name): (usize, &&str)| {
            let name = if name.is_empty() { "localhost" } else { name };
            let address = addresses.get(index).filter(|address| !address.is_empty());
            let address = address.map(|&address| address.to_owned());
            Ok(Host { name: name.to_owned(), address, port: port_of(index)? })
        };
        names.iter().enumerate().map(host).collect()
    }
}
