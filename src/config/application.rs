//! The login of callers' statements on a side, where it is not segue's own.
//!
//! It is a login, and no role that segue's login would switch to: whatever a caller runs could
//! switch back (`RESET ROLE` in a function), and nothing but a login is kept by the server.

use std::path::PathBuf;

use crate::config::dsn::{self, Words};
use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::domain::side::Side;

/// Who asks, and how he shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub user: String,
    /// The whole connection string as `key='value'` words.
    pub conninfo: Secret,
    /// The file whose first line is the password, read at each connect.
    pub password_file: Option<PathBuf>,
}

/// Words that say who asks. All others are the side's: both logins are with one database.
const WHO: &[&str] =
    &["user", "password", "passfile", "sslcert", "sslkey", "options", "application_name"];

/// Lays `application` over the words of the side.
pub(super) fn read(reader: &mut Reader, side: Side, of_side: &Words) -> Option<Login> {
    let (key, file_key) =
        (format!("{side}.application"), format!("{side}.application_password_file"));
    let Some(text) = reader.text(&key) else {
        if reader.text(&file_key).is_some() {
            let message = format!("there is no login whose password it is; set {key}");
            reader.fault(&file_key, message);
        }
        return None;
    };
    let mut said = match dsn::parse(&text) {
        Ok(said) => said,
        Err(_) if !text.contains(['=', '/']) => {
            let message = format!(
                "is a role alone, and whatever a caller runs could switch back to segue's; name a \
                 login of its own: \"user={text}\""
            );
            reader.fault(&key, message);
            return None;
        }
        Err(message) => {
            reader.fault(&key, message);
            return None;
        }
    };
    check(reader, &key, of_side, &said);
    let password_file = reader.readable(&file_key);
    if password_file.is_some() && said.remove("password").is_some() {
        reader.fault(&file_key, format!("{key} has a password as well; keep one of them"));
    }
    let mut words = of_side.clone();
    // Another role's.
    words.remove("password");
    words.extend(said);
    let user = words.get("user").cloned().unwrap_or_default();
    Some(Login { user, conninfo: Secret::new(dsn::write(&words)), password_file })
}

fn check(reader: &mut Reader, key: &str, of_side: &Words, said: &Words) {
    match said.get("user") {
        None => reader.fault(key, "nothing says who asks; write \"user=…\""),
        Some(user) if Some(user) == of_side.get("user") => {
            let message = format!(
                "logs in as {user}, which is segue's own role; callers need another one, or leave \
                 the key out"
            );
            reader.fault(key, message);
        }
        Some(_) => {}
    }
    let other = said
        .iter()
        .find(|(word, value)| !WHO.contains(&word.as_str()) && of_side.get(*word) != Some(*value));
    if let Some((word, _)) = other {
        let message = format!(
            "says another {word} than the side; callers' statements run in the same database, and \
             only who asks may differ ({})",
            WHO.join(", ")
        );
        reader.fault(key, message);
    }
}
