//! Takes judged values out of the raw form, and gathers what is wrong on the way.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::fault::{Fault, Faults, Origin, nearest};
use crate::config::keys::{self, Kind};
use crate::config::layers::{Entry, Layers, Raw, RawTable};
use crate::config::surroundings::OfSide;
use crate::config::units;
use crate::domain::control::Percentage;
use crate::domain::secret::REDACTED;
use crate::domain::side::Side;
use crate::dsn;
use crate::failpoint::Armed;

/// Every getter answers something, so that one fault does not hide the next; what it answers
/// after a fault is never used.
pub(super) struct Reader {
    entries: BTreeMap<String, Entry>,
    faults: Vec<Fault>,
    variables: Arc<[(String, String)]>,
    failpoints: Vec<Armed>,
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(layers: Layers) -> Self {
        let Layers { entries, faults, variables, failpoints } = layers;
        Self { entries, faults, variables: variables.into(), failpoints }
    }

    pub(super) fn finish(mut self) -> Result<(), Faults> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let place = |fault: &Fault| match &fault.origin {
            Origin::File(_, line) => (0, *line),
            Origin::Variable(_) => (1, 0),
            Origin::Postgres(_) => (2, 0),
            Origin::Flag(_) => (3, 0),
            Origin::Default => (4, 0),
        };
        self.faults.sort_by_key(place);
        Err(Faults(self.faults))
    }

    /// Where a test wants the process to end or to stop.
    pub(super) fn failpoints(&self) -> Vec<Armed> {
        self.failpoints.clone()
    }

    /// What stands around the connection strings of a side.
    pub(super) fn surroundings(&self, side: Side) -> OfSide {
        OfSide { variables: Arc::clone(&self.variables), side }
    }

    /// Where a key's value came from.
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.entries.get(path).map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// Notes that a key's value will not do.
    pub(super) fn fault(&mut self, path: &str, message: impl Into<String>) {
        let origin = self.origin(path);
        let value = self.entries.get(path).map(|entry| shown(path, &entry.raw)).unwrap_or_default();
        self.faults.push(Fault { origin, key: path.to_owned(), value, message: message.into() });
    }

    pub(super) fn fault_at(&mut self, origin: &Origin, key: &str, value: &str, message: String) {
        let (key, value) = (key.to_owned(), quoted(value));
        self.faults.push(Fault { origin: origin.clone(), key, value, message });
    }

    /// The text, where there is one that is not empty.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        match &self.entries.get(path)?.raw {
            Raw::Text(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    /// A file that must be readable now, whenever it is used.
    pub(super) fn readable(&mut self, path: &str) -> Option<PathBuf> {
        let file = PathBuf::from(self.text(path)?);
        if let Err(error) = std::fs::File::open(&file) {
            self.fault(path, format!("the file cannot be read: {error}"));
        }
        Some(file)
    }

    fn parsed<T: Default>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let text = self.text(path).unwrap_or_default();
        match parse(&text) {
            Ok(value) => value,
            Err(message) => {
                self.fault(path, message);
                T::default()
            }
        }
    }

    pub(super) fn duration(&mut self, path: &str) -> Duration {
        self.parsed(path, units::duration)
    }

    pub(super) fn size(&mut self, path: &str) -> u64 {
        self.parsed(path, units::size)
    }

    pub(super) fn flag(&mut self, path: &str) -> bool {
        self.parsed(path, |text| text.parse().map_err(|_| "is neither true nor false".to_owned()))
    }

    pub(super) fn ratio(&mut self, path: &str) -> f64 {
        self.parsed(path, ratio)
    }

    pub(super) fn count(&mut self, path: &str) -> usize {
        let (least, most) = match keys::find(path).map(|key| key.kind) {
            Some(Kind::Count(least, most)) => (least, most),
            _ => (0, u64::MAX),
        };
        self.parsed(path, |text| {
            let number: u64 = text.parse().map_err(|_| "is not a whole number".to_owned())?;
            if (least..=most).contains(&number) {
                usize::try_from(number).map_err(|error| error.to_string())
            } else {
                Err(format!("is not between {least} and {most}"))
            }
        })
    }

    pub(super) fn percent(&mut self, path: &str) -> Percentage {
        self.parsed(path, percent)
    }

    /// The index of the word in the list.
    pub(super) fn choice(&mut self, path: &str, words: &[&str]) -> usize {
        self.parsed(path, |text| {
            words.iter().position(|word| *word == text).ok_or_else(|| {
                let meant = nearest(text, words.iter().copied());
                let meant =
                    meant.map(|word| format!("did you mean {word:?}? ")).unwrap_or_default();
                format!("{meant}the choices are {}", words.join(", "))
            })
        })
    }

    /// A host and a port that can be resolved.
    pub(super) fn address(&mut self, path: &str) -> String {
        self.parsed(path, |text| match text.to_socket_addrs() {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("is not an address: {error}; write \"127.0.0.1:7400\"")),
        })
    }

    pub(super) fn list(&self, path: &str) -> Vec<String> {
        match self.entries.get(path).map(|entry| &entry.raw) {
            Some(Raw::List(list)) => list.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn map(&self, path: &str) -> Vec<(String, String)> {
        match self.entries.get(path).map(|entry| &entry.raw) {
            Some(Raw::Map(pairs)) => pairs.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn tables(&self, path: &str) -> Vec<RawTable> {
        match self.entries.get(path).map(|entry| &entry.raw) {
            Some(Raw::Tables(tables)) => tables.clone(),
            _ => Vec::new(),
        }
    }

    /// Every key with its effective value, secrets redacted, and where it came from.
    pub(super) fn effective(&self) -> Vec<(String, String, Origin)> {
        let line = |key: keys::Key| {
            let path = key.path();
            let entry = self.entries.get(&path);
            let value = entry.map(|entry| shown(&path, &entry.raw)).unwrap_or_default();
            let origin = self.origin(&path);
            (path, value, origin)
        };
        keys::all().map(line).collect()
    }
}

pub(super) fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("is not a number between 0 and 1".to_owned()),
    }
}

pub(super) fn percent(text: &str) -> Result<Percentage, String> {
    let number = text.parse().ok().and_then(Percentage::of);
    number.ok_or_else(|| "is not a number between 0 and 100".to_owned())
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{text:?}") }
}

fn shown(path: &str, raw: &Raw) -> String {
    let kind = keys::find(path).map(|key| key.kind);
    match raw {
        Raw::Text(text) if text.is_empty() => String::new(),
        Raw::Text(_) if kind == Some(Kind::Secret) => REDACTED.to_owned(),
        Raw::Text(text) if kind == Some(Kind::Dsn) => quoted(&dsn::redacted(text)),
        Raw::Text(text)
            if matches!(kind, Some(Kind::Count(..) | Kind::Ratio | Kind::Percent | Kind::Bool)) =>
        {
            text.clone()
        }
        Raw::Text(text) => quoted(text),
        Raw::List(list) => format!("{list:?}"),
        Raw::Map(pairs) => {
            let hide = kind == Some(Kind::SecretMap);
            let value = |value: &str| if hide { REDACTED.to_owned() } else { value.to_owned() };
            let words = pairs.iter().map(|(name, text)| format!("{name:?} = {}", value(text)));
            format!("{{ {} }}", words.collect::<Vec<_>>().join(", "))
        }
        Raw::Tables(tables) => format!("({} tables)", tables.len()),
    }
}
