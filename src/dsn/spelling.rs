//! The two spellings of a connection string, read into keys and values.
//!
//! Both follow libpq: `postgresql://user:password@host:port,host:port/db?key=value`
//! and `key=value key='quoted value'`.

use super::DsnError;

/// Keys and values in the order of the text; later ones win.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, DsnError> {
    let text = text.trim();
    let url = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
    match url {
        Some(rest) => url_pairs(rest),
        None => keyword_pairs(text),
    }
}

fn url_pairs(rest: &str) -> Result<Vec<(String, String)>, DsnError> {
    let mut pairs = Vec::new();
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = address.split_once('/').unwrap_or((address, ""));
    let hosts = match authority.rsplit_once('@') {
        None => authority,
        Some((credentials, hosts)) => {
            let (user, password) = match credentials.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (credentials, None),
            };
            pairs.push(("user".to_owned(), percent_decoded(user, "user")?));
            if let Some(password) = password {
                pairs.push(("password".to_owned(), percent_decoded(password, "password")?));
            }
            hosts
        }
    };
    if !hosts.is_empty() {
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for chunk in hosts.split(',') {
            let (name, port) = host_and_port(chunk)?;
            names.push(percent_decoded(name, "host")?);
            ports.push(port);
        }
        pairs.push(("host".to_owned(), names.join(",")));
        if ports.iter().any(|port| !port.is_empty()) {
            pairs.push(("port".to_owned(), ports.join(",")));
        }
    }
    if !database.is_empty() {
        pairs.push(("dbname".to_owned(), percent_decoded(database, "dbname")?));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| DsnError::new("a URL parameter has no '='"))?;
        let key = percent_decoded(key, "a parameter's name")?;
        let value = percent_decoded(value, &key)?;
        // As libpq has it, for the sake of JDBC's URLs.
        match (key.as_str(), value.as_str()) {
            ("ssl", "true") => pairs.push(("sslmode".to_owned(), "require".to_owned())),
            _ => pairs.push((key, value)),
        }
    }
    Ok(pairs)
}

/// `name`, `name:port`, `[::1]` or `[::1]:port`.
fn host_and_port(chunk: &str) -> Result<(&str, &str), DsnError> {
    let Some(bracketed) = chunk.strip_prefix('[') else {
        return Ok(chunk.split_once(':').unwrap_or((chunk, "")));
    };
    let (name, rest) = bracketed
        .split_once(']')
        .ok_or_else(|| DsnError::new("an IPv6 address in the URL has no closing ']'"))?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((name, port)),
        None if rest.is_empty() => Ok((name, "")),
        None => Err(DsnError::new("an IPv6 address in the URL is followed by something else")),
    }
}

fn percent_decoded(text: &str, what: &str) -> Result<String, DsnError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let decoded = rest
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .ok_or_else(|| {
                DsnError::new(format!("{what} in the URL has a '%' without two hex digits"))
            })?;
        bytes.push(decoded);
        rest = rest.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes)
        .map_err(|_| DsnError::new(format!("{what} in the URL is not valid UTF-8")))
}

fn keyword_pairs(text: &str) -> Result<Vec<(String, String)>, DsnError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        // The value may be a password, so a fault names only the key.
        let (key, tail) = rest
            .split_once('=')
            .ok_or_else(|| DsnError::new("it is neither a URL nor `key=value` words"))?;
        let key = key.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(DsnError::new("a name in the connection string is not followed by '='"));
        }
        let (value, tail) = keyword_value(tail.trim_start(), key)?;
        pairs.push((key.to_owned(), value));
        rest = tail.trim_start();
    }
    Ok(pairs)
}

fn keyword_value<'a>(text: &'a str, key: &str) -> Result<(String, &'a str), DsnError> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            other if !quoted && other.is_whitespace() => return Ok((value, &body[at..])),
            other => value.push(other),
        }
    }
    if quoted {
        return Err(DsnError::new(format!("the value of {key} has no closing quote")));
    }
    Ok((value, ""))
}
