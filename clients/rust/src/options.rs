//! Which sidecar to call, and how: from a URL or by fields.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 7400;
/// A sidecar that is restarted beside its application is back within seconds.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A cutover holds writes for at most ten seconds (`cutover.hold_limit`).
const DEFAULT_RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// The sidecar's own default, `limits.deadline_default`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Shorter than the five minutes after which many balancers drop a silent connection.
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(30);

/// Where a sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host, by name or address, and a port.
    Tcp(String, u16),
    /// The path of a Unix socket, such as that of a proxy.
    Unix(PathBuf),
}

/// TLS, which a proxy before the sidecar ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates to trust, a file in PEM; none for those of the system.
    pub ca: Option<PathBuf>,
    /// This client's certificate and its key, files in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have, where it is not the host.
    pub server_name: Option<String>,
}

/// Which sidecar to call, and how. [`Options::parse`] makes one of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Where the sidecar listens.
    pub address: Address,
    /// None for a connection without TLS.
    pub tls: Option<Tls>,
    /// How long a call may take, repeats included; none leaves it to the sidecar. 30 s by default.
    pub timeout: Option<Duration>,
    /// How long a call waits for a sidecar that is not up. 10 s by default.
    pub connect_timeout: Duration,
    /// How long a call is repeated that may be repeated; zero for not at all. 30 s by default.
    pub retry_timeout: Duration,
    /// After so long without traffic the client asks whether the sidecar is there; zero for never. 30 s by default.
    pub keepalive: Duration,
    /// Whether single writes have a key of the client's. Without one, a write whose answer was lost is not
    /// repeated. True by default.
    pub idempotency_keys: bool,
    /// The routing key of reads that give none.
    pub routing_key: String,
    /// Comes first in the user agent.
    pub application_name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Address::Tcp(DEFAULT_HOST.to_owned(), DEFAULT_PORT),
            tls: None,
            timeout: Some(DEFAULT_TIMEOUT),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            retry_timeout: DEFAULT_RETRY_TIMEOUT,
            keepalive: DEFAULT_KEEPALIVE,
            idempotency_keys: true,
            routing_key: String::new(),
            application_name: String::new(),
        }
    }
}

impl Options {
    /// Reads
    ///
    /// ```text
    /// segue://host:port?option=value&…
    /// segue+tls://host:port?…
    /// segue+unix:///path/of/socket?…
    /// ```
    ///
    /// Port 7400 and host 127.0.0.1 may be left out. The options are those of this type by their names, `retry`,
    /// and for TLS `ca`, `cert`, `key` and `server_name`. Times are seconds, or have a unit: `10`, `10s`, `500ms`.
    /// The names `idempotency`, `ca_file`, `cert_file` and `key_file` are read as well.
    ///
    /// # Errors
    ///
    /// An option that is not known, cannot be read or is given twice, and a URL of another form.
    pub fn parse(url: &str) -> Result<Self, Error> {
        read(url).map_err(|what| Error::usage(format!("URL {:?}: {what}", redacted(url))))
    }
}

/// Without what may be secret.
fn redacted(url: &str) -> String {
    let address = url.split('?').next().unwrap_or_default();
    match address.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => address.to_owned(),
    }
}

fn read(url: &str) -> Result<Options, String> {
    let (scheme, rest) =
        url.split_once("://").ok_or("it is not a URL; expected segue://host:port")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
    let mut options = Options::default();
    if authority.contains('@') {
        return Err("it names a user; the sidecar's own configuration says as whom statements run"
            .to_owned());
    }
    match scheme {
        "segue" | "segue+tls" => {
            if !path.is_empty() && path != "/" {
                return Err(format!(
                    "it has a path {path:?}; the sidecar's configuration names the database"
                ));
            }
            options.address = tcp(authority)?;
            options.tls = (scheme == "segue+tls").then(Tls::default);
        }
        "segue+unix" => {
            if !authority.is_empty() || path.len() < 2 {
                return Err(
                    "it does not name a socket; expected segue+unix:///path/of/socket".to_owned()
                );
            }
            options.address = Address::Unix(decoded(path)?.into());
        }
        _ => {
            return Err(format!(
                "its scheme is {scheme:?}; expected segue, segue+tls or segue+unix"
            ));
        }
    }
    set_all(&mut options, &pairs(query)?)?;
    Ok(options)
}

fn tcp(authority: &str) -> Result<Address, String> {
    // An IPv6 address has brackets, and colons of its own.
    let (host, port) = match authority.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, rest)) if rest.is_empty() || rest.starts_with(':') => (host, rest),
        Some(_) => return Err(format!("its host {authority:?} cannot be read")),
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    let port = match port.strip_prefix(':') {
        None | Some("") => DEFAULT_PORT,
        Some(digits) => digits
            .parse()
            .map_err(|_| format!("its port is {digits:?}; expected a number to 65535"))?,
    };
    let host = if host.is_empty() { DEFAULT_HOST.to_owned() } else { decoded(host)? };
    Ok(Address::Tcp(host, port))
}

/// The options by their documented names. Each is there once.
fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|it| !it.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name)?;
        let name = match name.as_str() {
            "idempotency" => "idempotency_keys",
            "ca_file" => "ca",
            "cert_file" => "cert",
            "key_file" => "key",
            other => other,
        };
        if found.iter().any(|(given, _)| given == name) {
            return Err(format!("option {name} is given more than once"));
        }
        found.push((name.to_owned(), decoded(&value.replace('+', " "))?));
    }
    let given = |name: &str| found.iter().any(|(it, _)| it == name);
    if given("retry") && given("retry_timeout") {
        return Err("options retry and retry_timeout exclude each other".to_owned());
    }
    if given("cert") != given("key") {
        return Err("options cert and key go together".to_owned());
    }
    Ok(found)
}

fn set_all(options: &mut Options, pairs: &[(String, String)]) -> Result<(), String> {
    for (name, value) in pairs {
        set(options, name, value).map_err(|what| format!("option {name}: {what}"))?;
    }
    let path =
        |name: &str| pairs.iter().find(|(it, _)| it == name).map(|(_, value)| PathBuf::from(value));
    if let Some(tls) = &mut options.tls {
        tls.identity = path("cert").zip(path("key"));
    }
    Ok(())
}

fn set(options: &mut Options, name: &str, value: &str) -> Result<(), String> {
    match name {
        "timeout" if value == "none" => options.timeout = None,
        "timeout" => options.timeout = Some(above_zero(value)?),
        "connect_timeout" => options.connect_timeout = above_zero(value)?,
        "retry_timeout" => options.retry_timeout = duration(value)?,
        "retry" => {
            if !flag(value)? {
                options.retry_timeout = Duration::ZERO;
            }
        }
        "keepalive" => options.keepalive = duration(value)?,
        "idempotency_keys" => options.idempotency_keys = flag(value)?,
        "routing_key" => value.clone_into(&mut options.routing_key),
        "application_name" => value.clone_into(&mut options.application_name),
        "ca" | "cert" | "key" | "server_name" => {
            let tls = options.tls.as_mut().ok_or("it is for segue+tls only")?;
            match name {
                "ca" => tls.ca = Some(value.into()),
                "server_name" => tls.server_name = Some(value.to_owned()),
                _ => {}
            }
        }
        _ => {
            return Err("it is not known; there are timeout, connect_timeout, retry_timeout, retry, keepalive, \
                        idempotency_keys, routing_key, application_name, ca, cert, key and server_name"
                .to_owned());
        }
    }
    Ok(())
}

fn above_zero(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() { Err("it must be above zero".to_owned()) } else { Ok(time) }
}

/// A number of seconds, or one with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("it is {text:?}; expected a time such as 10, 10s or 500ms")),
    };
    let number: Option<f64> = digits.parse().ok();
    let time = number.and_then(|it| Duration::try_from_secs_f64(it * factor).ok());
    time.ok_or_else(|| format!("it is {text:?}; expected a time such as 10, 10s or 500ms"))
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "on" => Ok(true),
        "false" | "0" | "off" => Ok(false),
        _ => Err(format!("it is {text:?}; expected true or false")),
    }
}

/// Takes percent-encoding away.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let byte = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        bytes.push(byte.ok_or("its percent-encoding cannot be read")?);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Options {
        Options { address: Address::Tcp(host.to_owned(), port), ..Options::default() }
    }

    #[test]
    fn urls_are_read() {
        let seconds = Duration::from_secs;
        for (url, expected) in [
            ("segue://db:7500", tcp("db", 7500)),
            ("segue://", tcp("127.0.0.1", 7400)),
            ("segue://:7500", tcp("127.0.0.1", 7500)),
            ("segue://[::1]:7500/", tcp("::1", 7500)),
            (
                "segue+unix:///run/a%20b.sock",
                Options { address: Address::Unix("/run/a b.sock".into()), ..Options::default() },
            ),
            (
                "segue://db?connect_timeout=2s&retry_timeout=5&idempotency_keys=false&routing_key=u&timeout=1m",
                Options {
                    connect_timeout: seconds(2),
                    retry_timeout: seconds(5),
                    idempotency_keys: false,
                    routing_key: "u".to_owned(),
                    timeout: Some(seconds(60)),
                    ..tcp("db", 7400)
                },
            ),
            (
                "segue://db?connect_timeout=2.5&retry=off&idempotency=off&timeout=none&keepalive=0",
                Options {
                    connect_timeout: Duration::from_millis(2500),
                    retry_timeout: Duration::ZERO,
                    idempotency_keys: false,
                    timeout: None,
                    keepalive: Duration::ZERO,
                    ..tcp("db", 7400)
                },
            ),
        ] {
            assert_eq!(Options::parse(url).unwrap(), expected, "{url}");
        }
        let secure =
            Options::parse("segue+tls://db?server_name=other&ca_file=/a&cert=/b&key_file=/c")
                .unwrap();
        let tls = Tls {
            ca: Some("/a".into()),
            identity: Some(("/b".into(), "/c".into())),
            server_name: Some("other".to_owned()),
        };
        assert_eq!(secure.tls, Some(tls));
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong_and_no_secret() {
        for (url, expected) in [
            ("postgres://db", "scheme is \"postgres\""),
            ("db:7400", "not a URL"),
            ("segue://db/shop", "has a path"),
            ("segue://user:secret@db", "names a user"),
            ("segue://db?colour=red", "option colour: it is not known"),
            ("segue://db?connect_timeout=soon", "option connect_timeout"),
            ("segue://db?connect_timeout=-1s", "option connect_timeout"),
            ("segue://db?connect_timeout=0", "must be above zero"),
            ("segue://db?connect_timeout=", "option connect_timeout"),
            ("segue://db?connect_timeout=1e3", "option connect_timeout"),
            ("segue://db?retry=maybe", "option retry: it is \"maybe\""),
            ("segue://db?retry=true&retry_timeout=1s", "exclude each other"),
            ("segue://db?ca_file=/x", "for segue+tls only"),
            ("segue+tls://db?ca=/x&ca_file=/x", "option ca is given more than once"),
            ("segue+tls://db?cert=/x", "go together"),
            ("segue+unix://host/path", "does not name a socket"),
            ("segue://db?routing_key=a&routing_key=b", "more than once"),
            ("segue://db:99999", "99999"),
            ("segue://db?routing_key=%zz", "percent-encoding"),
        ] {
            let error = Options::parse(url).unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }
}
