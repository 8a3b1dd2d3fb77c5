//! `segue config`.

use anyhow::Result;

use crate::app::databases;
use crate::cli::print;
use crate::config::fault::Origin;
use crate::config::{Config, Sources, keys};

/// Checks the configuration, and prints it as it is in force.
pub(super) fn check(sources: &Sources) -> Result<()> {
    let config = Config::load(sources)?;
    databases::check_certificates(&config)?;
    let rows: Vec<Vec<String>> = config
        .effective()
        .iter()
        .filter(|(_, value, origin)| !(value.is_empty() && *origin == Origin::Default))
        .map(|(key, value, origin)| vec![key.clone(), format!("= {value}"), origin.to_string()])
        .collect();
    print::out(&print::table(&["key", "value", "from"], &rows));
    print::out("\nthe configuration is in order\n");
    Ok(())
}

/// The tables of the documentation.
pub(super) fn list() {
    print::out(&keys::markdown());
}
