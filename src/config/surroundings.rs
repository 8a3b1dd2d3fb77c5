//! What stands around the connection strings of a configuration.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::domain::side::Side;
use crate::dsn::{Surroundings, WHERE};

/// The variables that the configuration was given, as far as they are one side's, and the files of
/// this machine.
#[derive(Debug, Clone)]
pub(super) struct OfSide {
    pub(super) variables: Arc<[(String, String)]>,
    pub(super) side: Side,
}

impl Surroundings for OfSide {
    fn variable(&self, name: &str) -> Option<String> {
        if self.side == Side::Target && WHERE.contains(&name) {
            return None;
        }
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    }

    fn text(&self, path: &Path) -> Result<Option<String>, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn has(&self, path: &Path) -> bool {
        path.exists()
    }
}
