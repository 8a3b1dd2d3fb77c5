//! Every key of the configuration, once.
//!
//! The file, the environment, the flags, the defaults, `segue config check` and
//! `docs/reference/configuration.md` all go by this list.

mod list;
mod phases;

use list::SECTIONS;

/// What a key's value must look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A text that is never printed.
    Secret,
    /// A connection string: printed without its password.
    Dsn,
    /// A file or a directory.
    Path,
    /// A whole number between two bounds.
    Count(u64, u64),
    /// A number between 0 and 1.
    Ratio,
    /// A number between 0 and 100.
    Percent,
    /// `true` or `false`.
    Bool,
    /// A number with a unit: `250ms`, `5s`, `2m`, `24h`.
    Duration,
    /// A number with a unit: `64KiB`, `1GiB`; without one, bytes.
    Size,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// `host:port`.
    Address,
    /// Texts: an array in the file, separated by commas elsewhere.
    List,
    /// Names with values: a table in the file, `name=value,name=value` elsewhere.
    Map,
    /// As [`Kind::Map`], values never printed.
    SecretMap,
    /// An array of tables, in the file only.
    Tables,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The table of the file that it stands in.
    pub section: &'static str,
    /// Its name in there.
    pub name: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// As it would be written; empty where there is none.
    pub default: &'static str,
    /// For people.
    pub meaning: &'static str,
}

/// How TLS is asked for, in the words of libpq.
pub(super) const SSL_MODES: &[&str] = &["disable", "prefer", "require", "verify-ca", "verify-full"];
pub(super) const OTLP_PROTOCOLS: &[&str] = &["grpc", "http/protobuf"];
pub(super) const LOG_FORMATS: &[&str] = &["text", "json"];

/// All keys, in the order of the documentation.
pub fn all() -> impl Iterator<Item = Key> {
    let of = |(section, keys): &(&'static str, &'static [Key])| {
        let section = *section;
        keys.iter().map(move |key| Key { section, ..*key })
    };
    SECTIONS.iter().flat_map(of)
}

/// The key of this path, `section.name`.
pub(super) fn find(path: &str) -> Option<Key> {
    let (section, name) = path.split_once('.')?;
    all().find(|key| key.section == section && key.name == name)
}

/// The tables of `docs/reference/configuration.md`: what `segue config keys` prints.
pub fn markdown() -> String {
    let mut page = String::new();
    for (section, keys) in SECTIONS {
        // Both databases have the same keys.
        let title = match *section {
            "source" => "`[source]` and `[target]`".to_owned(),
            "target" => continue,
            other => format!("`[{other}]`"),
        };
        page += &format!("### {title}\n\n| key | kind | default | meaning |\n|---|---|---|---|\n");
        for key in *keys {
            let default = match key.default {
                "" => "–".to_owned(),
                text => format!("`{text}`"),
            };
            let kind = key.kind.describe();
            page += &format!("| `{}` | {kind} | {default} | {} |\n", key.name, key.meaning);
        }
        page.push('\n');
    }
    page
}

// === impl Kind ===

impl Kind {
    fn describe(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Secret => "secret".to_owned(),
            Self::Dsn => "connection string".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Count(least, most) => format!("number, {least} to {most}"),
            Self::Ratio => "number, 0 to 1".to_owned(),
            Self::Percent => "number, 0 to 100".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Size => "size".to_owned(),
            Self::Choice(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            Self::Address => "host:port".to_owned(),
            Self::List => "list".to_owned(),
            Self::Map => "names with values".to_owned(),
            Self::SecretMap => "names with secrets".to_owned(),
            Self::Tables => "array of tables".to_owned(),
        }
    }
}

// === impl Key ===

impl Key {
    /// `section.name`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The variable that sets it: `SEGUE_OUTBOX_MAX_BYTES`.
    pub fn variable(&self) -> String {
        format!("SEGUE_{}_{}", self.section, self.name).to_ascii_uppercase()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_keys_share_a_variable() {
        let variables: BTreeSet<_> = all().map(|key| key.variable()).collect();
        assert_eq!(variables.len(), all().count());
    }
}
