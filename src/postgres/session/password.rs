//! The password for a host. Files are read anew at each connect, so that a rotated password is
//! found.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::domain::secret::Secret;
use crate::dsn::{Dsn, Host, password_for};

/// The password from the password file, the connection string or the passfile, in that order.
///
/// # Errors
///
/// A file that is there cannot be read.
pub fn of(dsn: &Dsn, host: &Host) -> Result<Option<Secret>, String> {
    if let Some(path) = &dsn.password_file {
        let text = read(path, "the password file")?;
        return Ok(text.lines().next().map(Secret::new));
    }
    if let Some(password) = &dsn.password {
        return Ok(Some(password.clone()));
    }
    let Some(path) = dsn.passfile.as_deref().filter(|path| path.exists()) else {
        return Ok(None);
    };
    // libpq does not use such a file either.
    if readable_by_others(path) {
        tracing::warn!(path = %path.display(), "the passfile is ignored: others than its owner may read it; chmod 600 helps");
        return Ok(None);
    }
    let contents = read(path, "the passfile")?;
    let name = if host.is_unix() { "localhost" } else { host.name.as_str() };
    let found = password_for(&contents, name, host.port, &dsn.database, &dsn.user);
    Ok(found.map(Secret::new))
}

fn read(path: &Path, what: &str) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("{what} {} cannot be read: {error}", path.display()))
}

fn readable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}
