//! Connection strings, as libpq reads them: URLs and `key=value` words.

use std::collections::BTreeMap;

use crate::config::secret::REDACTED;

/// What a connection string says, by libpq's words.
pub(super) type Words = BTreeMap<String, String>;

/// Words that are understood. Others are refused: one that is passed over in silence may have
/// been about safety.
pub(super) const KNOWN: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "connect_timeout",
    "application_name",
    "options",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];

/// Reads one. The error never quotes it.
pub(super) fn parse(dsn: &str) -> Result<Words, String> {
    let url = ["postgres://", "postgresql://"].iter().find_map(|scheme| dsn.strip_prefix(scheme));
    let words = match url {
        Some(rest) => parse_url(rest)?,
        None => parse_words(dsn)?,
    };
    match words.keys().find(|word| !KNOWN.contains(&word.as_str())) {
        Some(word) => {
            Err(format!("the connection string says {word:?}, which segue does not know"))
        }
        None => Ok(words),
    }
}

/// Writes one as `key=value` words.
pub(super) fn write(words: &Words) -> String {
    let quoted = |(word, value): (&String, &String)| {
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        format!("{word}='{value}'")
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The same for people, without the password.
pub(super) fn redacted(dsn: &str) -> String {
    let Ok(mut words) = parse(dsn) else {
        return REDACTED.to_owned();
    };
    if let Some(password) = words.get_mut("password") {
        REDACTED.clone_into(password);
    }
    let shown = words.iter().map(|(word, value)| format!("{word}={value}"));
    shown.collect::<Vec<_>>().join(" ")
}

fn parse_url(rest: &str) -> Result<Words, String> {
    let mut words = Words::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts = match authority.rsplit_once('@') {
        Some((who, hosts)) => {
            let (user, password) = who.split_once(':').unwrap_or((who, ""));
            put(&mut words, "user", user)?;
            put(&mut words, "password", password)?;
            hosts
        }
        None => authority,
    };
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let after_bracket = host.rfind(']').map_or(0, |at| at + 1);
        let colon = host.get(after_bracket..).and_then(|tail| tail.find(':'));
        let (name, port) = match colon {
            Some(at) => (&host[..after_bracket + at], &host[after_bracket + at + 1..]),
            None => (host, ""),
        };
        names.push(decode(name.trim_matches(['[', ']']))?);
        ports.push(port);
    }
    put(&mut words, "host", &names.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        put(&mut words, "port", &ports.join(","))?;
    }
    put(&mut words, "dbname", dbname)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (word, value) = pair.split_once('=').ok_or("a word after `?` has no value")?;
        put(&mut words, if word == "ssl" { "sslmode" } else { word }, value)?;
    }
    Ok(words)
}

fn put(words: &mut Words, word: &str, encoded: &str) -> Result<(), String> {
    let value = decode(encoded)?;
    if !value.is_empty() {
        words.insert(word.to_owned(), value);
    }
    Ok(())
}

fn decode(encoded: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or("a `%` lacks its two digits")?;
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "a `%` lacks its two digits")?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 once decoded".to_owned())
}

fn parse_words(dsn: &str) -> Result<Words, String> {
    let mut words = Words::new();
    let mut rest = dsn.trim_start();
    while !rest.is_empty() {
        let wanted = "it is neither a URL nor `key=value` words";
        let (word, tail) = rest.split_once('=').ok_or(wanted)?;
        let (value, tail) = value_of(tail.trim_start())?;
        words.insert(word.trim().to_owned(), value);
        rest = tail.trim_start();
    }
    Ok(words)
}

/// One value, quoted or not, and what stands behind it.
fn value_of(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            c if c.is_whitespace() && !quoted => {
                return Ok((value, text.get(at..).unwrap_or_default()));
            }
            c => value.push(c),
        }
    }
    if quoted { Err("a quote is not closed".to_owned()) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(dsn: &str) -> Vec<(String, String)> {
        parse(dsn).unwrap().into_iter().collect()
    }

    #[test]
    fn a_url_and_its_words_say_the_same() {
        let url = "postgresql://app:s%20e%27c@a:5433,[::1]:5434/shop?sslmode=require";
        let plain =
            r"host=a,::1 port=5433,5434 user = app password='s e\'c' dbname=shop sslmode=require";
        assert_eq!(words(url), words(plain));
        assert_eq!(words(&write(&parse(url).unwrap())), words(url));
    }

    #[test]
    fn a_socket_directory() {
        let found = words("postgres://%2Frun%2Fpg/shop");
        assert_eq!(found, [("dbname".into(), "shop".into()), ("host".into(), "/run/pg".into())]);
    }

    #[test]
    fn faults_do_not_quote_the_string() {
        for dsn in ["secret", "password='secret", "password=secret colour=red", "postgres://a%zz/"]
        {
            let fault = parse(dsn).unwrap_err();
            assert!(!fault.contains("secret"), "{fault}");
            assert_eq!(redacted(dsn), REDACTED);
        }
        assert_eq!(
            redacted("postgres://u:secret@h/d"),
            "dbname=d host=h password=[redacted] user=u"
        );
    }
}
