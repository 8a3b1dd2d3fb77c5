//! What libpq looks at beside the connection string: variables and files.

use std::path::{Path, PathBuf};

/// The variables and files around a connection string. A function from a variable's name to its
/// value stands for surroundings without files.
pub trait Surroundings {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file; nothing where there is no such file.
    ///
    /// # Errors
    ///
    /// Why a file that is there cannot be read.
    fn text(&self, path: &Path) -> Result<Option<String>, String>;

    /// Whether there is such a file.
    fn has(&self, path: &Path) -> bool;

    /// A file in the user's home directory.
    fn in_home(&self, name: &str) -> Option<PathBuf> {
        self.given("HOME").map(|home| Path::new(&home).join(name))
    }

    /// A variable that is set, and not empty.
    fn given(&self, name: &str) -> Option<String> {
        self.variable(name).filter(|value| !value.is_empty())
    }
}

impl<F: Fn(&str) -> Option<String>> Surroundings for F {
    fn variable(&self, name: &str) -> Option<String> {
        self(name)
    }

    fn text(&self, _: &Path) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn has(&self, _: &Path) -> bool {
        false
    }
}

/// One of libpq's variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The word that it stands for, or nothing where segue does not implement it.
    pub word: Option<&'static str>,
}

const fn of(name: &'static str, word: &'static str) -> Variable {
    Variable { name, word: Some(word) }
}

const fn refused(name: &'static str) -> Variable {
    Variable { name, word: None }
}

/// libpq's variables. Those of a protection that segue does not implement are refused where they
/// are set: to pass over them would weaken what was asked for.
pub const VARIABLES: &[Variable] = &[
    of("PGHOST", "host"),
    of("PGHOSTADDR", "hostaddr"),
    of("PGPORT", "port"),
    of("PGDATABASE", "dbname"),
    of("PGUSER", "user"),
    of("PGPASSWORD", "password"),
    of("PGPASSFILE", "passfile"),
    of("PGSSLMODE", "sslmode"),
    of("PGSSLROOTCERT", "sslrootcert"),
    of("PGSSLCERT", "sslcert"),
    of("PGSSLKEY", "sslkey"),
    of("PGCHANNELBINDING", "channel_binding"),
    of("PGTARGETSESSIONATTRS", "target_session_attrs"),
    of("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    of("PGCONNECT_TIMEOUT", "connect_timeout"),
    of("PGOPTIONS", "options"),
    of("PGAPPNAME", "application_name"),
    refused("PGREQUIREAUTH"),
    refused("PGREQUIREPEER"),
    refused("PGREQUIRESSL"),
    refused("PGSSLCERTMODE"),
    refused("PGSSLCRL"),
    refused("PGSSLCRLDIR"),
    refused("PGSSLNEGOTIATION"),
    refused("PGSSLMINPROTOCOLVERSION"),
    refused("PGSSLMAXPROTOCOLVERSION"),
];

/// The variables that say which database it is. They are read for one of two sides alone: a target
/// that is silently the source would be no migration.
pub const WHERE: &[&str] = &["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE"];
