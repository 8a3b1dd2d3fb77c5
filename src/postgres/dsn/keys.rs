//! Keys and values of a connection string, checked one by one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    ChannelBinding, Dsn, DsnError, Host, RootCertificates, Secret, SslMode, TargetSession,
};

const PORT: u16 = 5432;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// libpq's environment variables, as the lowest layer.
pub(super) const ENVIRONMENT: [(&str, &str); 16] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGDATABASE", "dbname"),
    ("PGPASSFILE", "passfile"),
    ("PGSERVICE", "service"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGOPTIONS", "options"),
];

/// Keys that libpq knows and that change nothing here: segue sets them itself.
const IGNORED: [&str; 7] = [
    "client_encoding",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];

/// Keys and values of all layers; the last one set wins.
#[derive(Default)]
pub(super) struct Keys(std::collections::BTreeMap<String, String>);

impl Keys {
    pub(super) fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn check_known(&self, key: &str) -> Result<(), DsnError> {
        let known = ENVIRONMENT.iter().any(|(_, known)| *known == key)
            || matches!(key, "password_file" | "application_name" | "load_balance_hosts")
            || IGNORED.contains(&key);
        if known {
            return Ok(());
        }
        Err(DsnError::syntax(format!("{key} is not a connection setting that segue implements")))
    }

    fn choice<T: Copy>(&self, key: &str, default: T, all: &[(&str, T)]) -> Result<T, DsnError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        all.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
            DsnError::value(key, value, &format!("one of {}", names.join(", ")))
        })
    }

    pub(super) fn into_dsn(self, home: Option<PathBuf>) -> Result<Dsn, DsnError> {
        if self.get("service").is_some() {
            return Err(DsnError::syntax(
                "service files are not read; write the service's settings into the connection string",
            ));
        }
        if self.get("load_balance_hosts").is_some_and(|value| value != "disable") {
            return Err(DsnError::syntax(
                "load_balance_hosts must be disable: hosts are tried in order",
            ));
        }
        let user = self
            .get("user")
            .ok_or_else(|| DsnError::syntax("no user is named; add user=… or PGUSER"))?
            .to_owned();
        let ssl_mode = self.ssl_mode()?;
        let postgres_home = home.map(|home| home.join(".postgresql"));
        let ssl_root = self.ssl_root(ssl_mode, postgres_home.as_deref())?;
        let ssl_client = self.ssl_client()?;
        let passfile = self.get("passfile").map(PathBuf::from).or_else(|| {
            postgres_home.as_deref().and_then(Path::parent).map(|home| home.join(".pgpass"))
        });
        Ok(Dsn {
            hosts: self.hosts()?,
            database: self.get("dbname").unwrap_or(&user).to_owned(),
            user,
            password: self.get("password").map(Secret::new),
            password_file: self.get("password_file").map(PathBuf::from),
            passfile,
            ssl_mode,
            ssl_root,
            ssl_client,
            channel_binding: self.choice(
                "channel_binding",
                ChannelBinding::Prefer,
                &[
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ],
            )?,
            target_session: self.target_session()?,
            connect_timeout: self.connect_timeout()?,
            options: self.get("options").map(str::to_owned),
            application_name: self.get("application_name").unwrap_or("segue").to_owned(),
        })
    }

    fn ssl_mode(&self) -> Result<SslMode, DsnError> {
        if self.get("sslmode") == Some("allow") {
            return Err(DsnError::syntax(
                "sslmode=allow begins in clear text and is not implemented; use prefer or require",
            ));
        }
        self.choice(
            "sslmode",
            SslMode::Prefer,
            &[
                ("disable", SslMode::Disable),
                ("prefer", SslMode::Prefer),
                ("require", SslMode::Require),
                ("verify-ca", SslMode::VerifyCa),
                ("verify-full", SslMode::VerifyFull),
            ],
        )
    }

    fn ssl_root(&self, mode: SslMode, home: Option<&Path>) -> Result<RootCertificates, DsnError> {
        let verifies = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
        match self.get("sslrootcert") {
            // With any weaker mode a forged certificate for another name would pass.
            Some("system") if mode != SslMode::VerifyFull => {
                Err(DsnError::syntax("sslrootcert=system needs sslmode=verify-full"))
            }
            Some("system") => Ok(RootCertificates::System),
            Some(path) => Ok(RootCertificates::File(path.into())),
            None if !verifies => Ok(RootCertificates::Unset),
            None => home
                .map(|home| home.join("root.crt"))
                .filter(|path| path.exists())
                .map(RootCertificates::File)
                .ok_or_else(|| {
                    DsnError::syntax(
                        "sslmode verifies, but no root certificate is named; add sslrootcert=FILE \
                         or sslrootcert=system",
                    )
                }),
        }
    }

    fn ssl_client(&self) -> Result<Option<(PathBuf, PathBuf)>, DsnError> {
        match (self.get("sslcert"), self.get("sslkey")) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some((certificate.into(), key.into()))),
            _ => Err(DsnError::syntax("sslcert and sslkey go together; one of them is missing")),
        }
    }

    fn target_session(&self) -> Result<TargetSession, DsnError> {
        self.choice(
            "target_session_attrs",
            TargetSession::Any,
            &[
                ("any", TargetSession::Any),
                ("read-write", TargetSession::ReadWrite),
                ("read-only", TargetSession::ReadOnly),
                ("primary", TargetSession::Primary),
                ("standby", TargetSession::Standby),
                ("prefer-standby", TargetSession::PreferStandby),
            ],
        )
    }

    fn connect_timeout(&self) -> Result<Duration, DsnError> {
        match self.get("connect_timeout") {
            None | Some("0") => Ok(CONNECT_TIMEOUT),
            Some(value) => value
                .parse()
                .map(Duration::from_secs)
                .map_err(|_| DsnError::value("connect_timeout", value, "a number of seconds")),
        }
    }

    fn hosts(&self) -> Result<Vec<Host>, DsnError> {
        let addresses: Vec<_> =
            self.get("hostaddr").map_or_else(Vec::new, |a| a.split(',').collect());
        let names: Vec<_> = match self.get("host") {
            Some(names) => names.split(',').collect(),
            None if addresses.is_empty() => vec!["localhost"],
            None => addresses.clone(),
        };
        if !addresses.is_empty() && addresses.len() != names.len() {
            return Err(DsnError::syntax(format!(
                "hostaddr names {} addresses for {} hosts; give one for each",
                addresses.len(),
                names.len()
            )));
        }
        let ports: Vec<_> = self.get("port").unwrap_or_default().split(',').collect();
        if ports.len() > 1 && ports.len() != names.len() {
            return Err(DsnError::syntax(format!(
                "port names {} ports for {} hosts; give one, or one for each",
                ports.len(),
                names.len()
            )));
        }
        let port_of = |index: usize| match ports.get(index).or(ports.first()).copied() {
            None | Some("") => Ok(PORT),
            Some(text) => {
                text.parse().map_err(|_| DsnError::value("port", text, "a number below 65536"))
            }
        };
        names
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let name = if name.is_empty() { "localhost" } else { name };
                let address = addresses.get(index).map(|&address| address.to_owned());
                Ok(Host { name: name.to_owned(), address, port: port_of(index)? })
            })
            .collect()
    }
}
