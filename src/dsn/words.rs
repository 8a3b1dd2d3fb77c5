//! The words of a connection string and their values, from all that may say them.

use std::collections::BTreeMap;
use std::fmt;

use super::surroundings::{Surroundings, VARIABLES};
use super::{DsnError, service, spelling};
use crate::domain::secret::REDACTED;

/// Words that are understood beside those that a variable stands for.
const OTHERS: &[&str] = &["password_file", "service", "servicefile"];
/// Words that libpq knows and that change nothing here: segue sets them itself.
const IGNORED: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];

/// What a connection string says, by libpq's words. It is not printed: one of them is the password.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Words(BTreeMap<String, String>);

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

// === impl Words ===

impl Words {
    /// Reads a URL or `key=value` words. Words that are not understood are refused: one that is
    /// passed over in silence may have been about safety.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without quoting it.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let mut words = Self::default();
        for (word, value) in spelling::pairs(text)? {
            check_known(&word)?;
            words.set(&word, value);
        }
        Ok(words)
    }

    /// Sets a word, whatever it was. An empty value takes it away.
    pub fn set(&mut self, word: &str, value: impl Into<String>) {
        let value = value.into();
        if value.is_empty() {
            self.0.remove(word);
        } else {
            self.0.insert(word.to_owned(), value);
        }
    }

    /// The value of a word.
    pub fn get(&self, word: &str) -> Option<&str> {
        self.0.get(word).map(String::as_str)
    }

    /// All words with their values, by the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(word, value)| (word.as_str(), value.as_str()))
    }

    fn fill(&mut self, word: &str, value: String) {
        if self.get(word).is_none() {
            self.set(word, value);
        }
    }

    /// Takes what is lacking from the service that is named, in the words or by `PGSERVICE`.
    ///
    /// # Errors
    ///
    /// The service is not defined, or its file is at fault.
    pub fn add_service(&mut self, surroundings: &impl Surroundings) -> Result<(), DsnError> {
        let named = self.get("service").map(str::to_owned);
        let Some(service) = named.or_else(|| surroundings.given("PGSERVICE")) else {
            return Ok(());
        };
        let settings = service::settings(&service, self.get("servicefile"), surroundings)?;
        for (word, value) in settings {
            check_known(&word)?;
            self.fill(&word, value);
        }
        Ok(())
    }

    /// Takes what is lacking from libpq's variables.
    ///
    /// # Errors
    ///
    /// A variable is set whose protection segue does not implement.
    pub fn add_variables(&mut self, surroundings: &impl Surroundings) -> Result<(), DsnError> {
        for variable in VARIABLES {
            let Some(value) = surroundings.given(variable.name) else { continue };
            let Some(word) = variable.word else {
                let name = variable.name;
                return Err(DsnError::new(format!(
                    "{name} is set, which segue does not implement; unset it for segue"
                )));
            };
            self.fill(word, value);
        }
        Ok(())
    }
}

fn check_known(word: &str) -> Result<(), DsnError> {
    let known = VARIABLES.iter().any(|variable| variable.word == Some(word))
        || OTHERS.contains(&word)
        || IGNORED.contains(&word);
    if known {
        return Ok(());
    }
    Err(DsnError::new(format!("the connection string says {word:?}, which segue does not know")))
}

/// A connection string for people, without the password.
pub fn redacted(dsn: &str) -> String {
    let Ok(words) = Words::parse(dsn) else {
        return REDACTED.to_owned();
    };
    let shown = words.iter().map(|(word, value)| match word {
        "password" => format!("{word}={REDACTED}"),
        _ => format!("{word}={value}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}
