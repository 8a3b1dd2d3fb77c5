//! The raw form: values as they were given, and where.
//!
//! Flags go before `SEGUE_*`, that before the file, that before libpq's variables, and those
//! before the defaults. Nothing is judged here but whether a key exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::fault::{Fault, Origin, nearest};
use crate::config::keys::{self, Key, Kind};
use crate::failpoint::{Armed, FailPoint, Unarmed};

/// What a program was started with.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, where one is named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// Flags: the key that one sets, its value, its name.
    pub flags: Vec<(String, String, String)>,
}

/// A value before it is judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Text(String),
    List(Vec<String>),
    Map(Vec<(String, String)>),
    Tables(Vec<RawTable>),
}

/// One table of an array of tables.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RawTable {
    pub(super) origin: Origin,
    pub(super) fields: BTreeMap<String, (String, Origin)>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) faults: Vec<Fault>,
    /// The environment as it was given.
    pub(super) variables: Vec<(String, String)>,
    /// Where a test wants the process to end or to stop.
    pub(super) failpoints: Vec<Armed>,
}

/// The variable of segue that is no key of the file.
const CONFIG: &str = "SEGUE_CONFIG";

/// libpq's variables and the keys that they are read as. Where a database is (host, port,
/// name) they say of the source only: a target that is the source by default would be a trap.
const POSTGRES: &[(&str, &[&str])] = &[
    ("PGHOST", &["source.host"]),
    ("PGPORT", &["source.port"]),
    ("PGDATABASE", &["source.dbname"]),
    ("PGUSER", &["source.user", "target.user"]),
    ("PGPASSWORD", &["source.password", "target.password"]),
    ("PGPASSFILE", &["source.passfile", "target.passfile"]),
    ("PGSSLMODE", &["source.sslmode", "target.sslmode"]),
    ("PGSSLROOTCERT", &["source.sslrootcert", "target.sslrootcert"]),
    ("PGSSLCERT", &["source.sslcert", "target.sslcert"]),
    ("PGSSLKEY", &["source.sslkey", "target.sslkey"]),
];

// === impl Layers ===

impl Layers {
    pub(super) fn gather(sources: &Sources) -> Self {
        let mut layers = Self::default();
        for key in keys::all().filter(|key| !key.default.is_empty()) {
            let raw = match key.kind {
                Kind::List => Raw::List(key.default.split(',').map(str::to_owned).collect()),
                _ => Raw::Text(key.default.to_owned()),
            };
            layers.put(&key, raw, Origin::Default);
        }
        layers.variables.clone_from(&sources.variables);
        layers.add_postgres(&sources.variables);
        if let Some(path) = &sources.file {
            layers.add_file(path);
        }
        layers.add_variables(&sources.variables);
        for (path, value, flag) in &sources.flags {
            layers.add_text(path, value, &Origin::Flag(flag.clone()));
        }
        layers
    }

    fn put(&mut self, key: &Key, raw: Raw, origin: Origin) {
        self.entries.insert(key.path(), Entry { raw, origin });
    }

    fn fault(&mut self, origin: &Origin, key: &str, message: String) {
        let (key, value) = (key.to_owned(), String::new());
        self.faults.push(Fault { origin: origin.clone(), key, value, message });
    }

    fn add_postgres(&mut self, variables: &[(String, String)]) {
        for (name, paths) in POSTGRES {
            let Some((_, value)) = variables.iter().find(|(found, _)| found == name) else {
                continue;
            };
            for key in paths.iter().filter_map(|path| keys::find(path)) {
                self.put(&key, Raw::Text(value.clone()), Origin::Postgres(name));
            }
        }
    }

    fn add_variables(&mut self, variables: &[(String, String)]) {
        let known: Vec<(String, String)> =
            keys::all().map(|key| (key.variable(), key.path())).collect();
        for (name, value) in variables.iter().filter(|(name, _)| name.starts_with("SEGUE_")) {
            if let Some((_, path)) = known.iter().find(|(variable, _)| variable == name) {
                self.add_text(path, value, &Origin::Variable(name.clone()));
            } else if let Some(armed) = Armed::by_variable(name, value) {
                match armed {
                    Ok(armed) => self.failpoints.push(armed),
                    Err(why) => self.fault(&Origin::Variable(name.clone()), "", not_armed(&why)),
                }
            } else if name != CONFIG && !of_kubernetes(name, value) {
                let meant = nearest(name, known.iter().map(|(variable, _)| variable.as_str()));
                let message = unknown("variable", meant);
                self.fault(&Origin::Variable(name.clone()), "", message);
            }
        }
    }

    /// A value outside the file is one text, whatever its kind.
    fn add_text(&mut self, path: &str, value: &str, origin: &Origin) {
        let Some(key) = keys::find(path) else {
            let all: Vec<String> = keys::all().map(|key| key.path()).collect();
            let meant = nearest(path, all.iter().map(String::as_str));
            return self.fault(origin, path, unknown("key", meant));
        };
        let words = || value.split(',').map(str::trim).filter(|word| !word.is_empty());
        let raw = match key.kind {
            Kind::List => Raw::List(words().map(str::to_owned).collect()),
            Kind::Map | Kind::SecretMap => {
                let pair = |word: &str| {
                    let (name, value) = word.split_once('=').unwrap_or((word, ""));
                    (name.trim().to_owned(), value.trim().to_owned())
                };
                Raw::Map(words().map(pair).collect())
            }
            Kind::Tables => {
                let message = "can be set in the file only, as an array of tables".to_owned();
                return self.fault(origin, path, message);
            }
            _ => Raw::Text(value.to_owned()),
        };
        self.put(&key, raw, origin.clone());
    }

    fn add_file(&mut self, path: &Path) {
        let whole = Origin::File(path.to_owned(), 1);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let message =
                    format!("the file cannot be read: {error}; name another with --config");
                return self.fault(&whole, "", message);
            }
        };
        let place = Place { path, text: &text };
        let (document, errors) = DeTable::parse_recoverable(&text);
        for error in errors {
            // The message alone: the error's own display quotes the line, secrets and all.
            let origin = place.at(error.span().map_or(0, |span| span.start));
            let message = error.message().replace('\n', ", ");
            self.fault(&origin, "", format!("the file is not TOML: {message}"));
        }
        for (section, value) in document.get_ref() {
            self.add_section(&place, section.get_ref(), section.span().start, value);
        }
    }

    fn add_section(
        &mut self,
        place: &Place<'_>,
        section: &str,
        start: usize,
        value: &Spanned<DeValue<'_>>,
    ) {
        let origin = place.at(start);
        let known = || keys::all().filter(|key| key.section == section);
        if known().next().is_none() {
            let meant = nearest(section, keys::all().map(|key| key.section));
            return self.fault(&origin, section, unknown("section", meant));
        }
        let Some(table) = value.get_ref().as_table() else {
            let message = format!("is a section; write [{section}] and its keys below");
            return self.fault(&origin, section, message);
        };
        for (name, value) in table {
            let origin = place.at(name.span().start);
            let name = name.get_ref().as_ref();
            let path = format!("{section}.{name}");
            let Some(key) = known().find(|key| key.name == name) else {
                let meant = nearest(name, known().map(|key| key.name));
                self.fault(&origin, &path, unknown("key", meant));
                continue;
            };
            match raw_of(place, &key, value.get_ref()) {
                Ok(raw) => self.put(&key, raw, origin),
                Err(wanted) => {
                    let found = value.get_ref().type_str();
                    self.fault(&origin, &path, format!("is of type {found}; write {wanted}"));
                }
            }
        }
    }
}

/// A file and the text in it, for finding lines.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn at(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or_default();
        Origin::File(self.path.to_owned(), before.matches('\n').count() + 1)
    }
}

fn raw_of(place: &Place<'_>, key: &Key, value: &DeValue<'_>) -> Result<Raw, &'static str> {
    match key.kind {
        Kind::List => {
            let wanted = "an array of texts, [\"one\", \"two\"]";
            let items = value.as_array().ok_or(wanted)?;
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<_>>().map(Raw::List).ok_or(wanted)
        }
        Kind::Map | Kind::SecretMap => {
            let wanted = "a table, { name = value }";
            let pairs = value.as_table().ok_or(wanted)?.iter();
            let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                scalar(value.get_ref()).map(|text| (name.to_string(), text))
            };
            pairs.map(pair).collect::<Option<_>>().map(Raw::Map).ok_or(wanted)
        }
        Kind::Tables => {
            let wanted = "an array of tables, each under its own [[section.name]]";
            let items = value.as_array().ok_or(wanted)?.iter();
            let table = |item: &Spanned<DeValue<'_>>| raw_table(place, item);
            items.map(table).collect::<Option<_>>().map(Raw::Tables).ok_or(wanted)
        }
        _ => scalar(value).map(Raw::Text).ok_or("a single value"),
    }
}

fn raw_table(place: &Place<'_>, item: &Spanned<DeValue<'_>>) -> Option<RawTable> {
    let mut fields = BTreeMap::new();
    for (name, value) in item.get_ref().as_table()? {
        let origin = place.at(name.span().start);
        fields.insert(name.get_ref().to_string(), (scalar(value.get_ref())?, origin));
    }
    Some(RawTable { origin: place.at(item.span().start), fields })
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(word) => Some(word.to_string()),
        DeValue::Datetime(moment) => Some(moment.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

pub(super) fn unknown(what: &str, meant: Option<&str>) -> String {
    match meant {
        Some(meant) => format!("unknown {what}; did you mean {meant:?}?"),
        None => format!("unknown {what}; docs/reference/configuration.md lists all"),
    }
}

fn not_armed(why: &Unarmed) -> String {
    match why {
        Unarmed::Name(name) => {
            let known = FailPoint::ALL.iter().map(|point| point.name());
            match nearest(name, known) {
                Some(meant) => format!("no failpoint is called {name:?}; did you mean {meant:?}?"),
                None => format!("no failpoint is called {name:?}; src/failpoint.rs lists all"),
            }
        }
        Unarmed::Time(time) => {
            format!("expected a number from 1 after the colon, found {time:?}; write after_lock:7")
        }
    }
}

/// Kubernetes puts variables into every pod for each service beside it, and one of those may
/// well be called segue.
fn of_kubernetes(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || value.starts_with("tcp://")
        || name.contains("_TCP")
}
