//! The login of callers' statements on a side, where it is not segue's own.
//!
//! It is a login, and no role that segue's login would switch to: whatever a caller runs could
//! switch back (`RESET ROLE` in a function), and nothing but a login is kept by the server.

use crate::config::reader::Reader;
use crate::config::surroundings::OfSide;
use crate::domain::side::Side;
use crate::dsn::{Dsn, Words};

/// Words that say who asks. All others are the side's: both logins are with one database.
const WHO: &[&str] = &[
    "user",
    "password",
    "password_file",
    "passfile",
    "sslcert",
    "sslkey",
    "options",
    "application_name",
];
/// Of these, what another role cannot have in common.
const SECRETS: &[&str] = &["password", "password_file"];

/// Lays `application` over the words of the side.
pub(super) fn read(
    reader: &mut Reader,
    side: Side,
    of_side: &Words,
    surroundings: &OfSide,
) -> Option<Dsn> {
    let (key, file_key) =
        (format!("{side}.application"), format!("{side}.application_password_file"));
    let Some(text) = reader.text(&key) else {
        if reader.text(&file_key).is_some() {
            let message = format!("there is no login whose password it is; set {key}");
            reader.fault(&file_key, message);
        }
        return None;
    };
    let mut said = match Words::parse(&text) {
        Ok(said) => said,
        Err(_) if !text.contains(['=', '/']) => {
            let message = format!(
                "is a role alone, and whatever a caller runs could switch back to segue's; name a \
                 login of its own: \"user={text}\""
            );
            reader.fault(&key, message);
            return None;
        }
        Err(error) => {
            reader.fault(&key, error.message);
            return None;
        }
    };
    if !check(reader, &key, of_side, &said) {
        return None;
    }
    let password_file = reader.readable(&file_key);
    if password_file.is_some() && said.get("password").is_some() {
        reader.fault(&file_key, format!("{key} has a password as well; keep one of them"));
        said.set("password", "");
    }
    let mut words = of_side.clone();
    for word in SECRETS {
        words.set(word, "");
    }
    for (word, value) in said.iter() {
        words.set(word, value);
    }
    // What is wrong with the side's own words is the side's fault already.
    let of_side_alone = of_side.checked(surroundings).err().unwrap_or_default();
    match words.checked(surroundings) {
        Ok(dsn) => Some(Dsn { password_file: password_file.or(dsn.password_file), ..dsn }),
        Err(errors) => {
            for error in errors.into_iter().filter(|error| !of_side_alone.contains(error)) {
                reader.fault(&key, error.message);
            }
            None
        }
    }
}

fn check(reader: &mut Reader, key: &str, of_side: &Words, said: &Words) -> bool {
    match said.get("user") {
        None => {
            reader.fault(key, "nothing says who asks; write \"user=…\"");
            return false;
        }
        Some(user) if Some(user) == of_side.get("user") => {
            let message = format!(
                "logs in as {user}, which is segue's own role; callers need another one, or leave \
                 the key out"
            );
            reader.fault(key, message);
            return false;
        }
        Some(_) => {}
    }
    let other =
        said.iter().find(|(word, value)| !WHO.contains(word) && of_side.get(word) != Some(*value));
    let Some((word, _)) = other else { return true };
    let message = format!(
        "says another {word} than the side; callers' statements run in the same database, and \
         only who asks may differ ({})",
        WHO.join(", ")
    );
    reader.fault(key, message);
    false
}
