//! The connection service file, `pg_service.conf`.

use std::path::{Path, PathBuf};

use super::{DsnError, Surroundings};

/// Where Debian's libpq looks when `PGSYSCONFDIR` does not say where.
const SYSTEM_FOLDER: &str = "/etc/postgresql-common";
const USERS_FILE: &str = ".pg_service.conf";
const SYSTEM_FILE: &str = "pg_service.conf";

/// What the service files say of a service. The user's file goes before the system's, and a file
/// that `PGSERVICEFILE` or `servicefile` names must be there.
pub(super) fn settings(
    service: &str,
    named: Option<&str>,
    surroundings: &impl Surroundings,
) -> Result<Vec<(String, String)>, DsnError> {
    let named = named.map(str::to_owned).or_else(|| surroundings.given("PGSERVICEFILE"));
    let users = match &named {
        Some(path) => Some(PathBuf::from(path)),
        None => surroundings.in_home(USERS_FILE),
    };
    let folder = surroundings.given("PGSYSCONFDIR");
    let system = Path::new(folder.as_deref().unwrap_or(SYSTEM_FOLDER)).join(SYSTEM_FILE);
    for (path, must) in
        users.map(|path| (path, named.is_some())).into_iter().chain([(system, false)])
    {
        let shown = path.display();
        let text = surroundings
            .text(&path)
            .map_err(|error| wrong(format!("service file {shown} cannot be read: {error}")))?;
        let Some(text) = text else {
            if must {
                return Err(wrong(format!("there is no service file {shown}")));
            }
            continue;
        };
        let found = section(&text, service).map_err(|(line, message)| {
            wrong(format!("service file {shown}, line {line}: {message}"))
        })?;
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(wrong(format!("no service file defines the service \"{service}\"")))
}

fn wrong(message: String) -> DsnError {
    DsnError::of("service", message)
}

type Section = Option<Vec<(String, String)>>;

/// The lines of one service; nothing where the file has no such service.
fn section(text: &str, service: &str) -> Result<Section, (usize, &'static str)> {
    let mut found: Section = None;
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            let name = name.strip_suffix(']').ok_or((number, "a service's name is not closed"))?;
            if name == service {
                found = Some(Vec::new());
            }
            continue;
        }
        let Some(found) = &mut found else { continue };
        if line.starts_with("ldap") {
            return Err((number, "services from an LDAP server are not looked up"));
        }
        let (word, value) = line.split_once('=').ok_or((number, "a line has no '='"))?;
        match word {
            "service" | "servicefile" => {
                return Err((number, "a service may not refer to another one"));
            }
            // The first of two goes before the second.
            _ if found.iter().any(|(known, _)| known == word) => {}
            _ => found.push((word.to_owned(), value.to_owned())),
        }
    }
    Ok(found)
}
