//! A part of a table: the rows whose key lies between two others.

use std::fmt;

use crate::domain::key::KeyValues;

/// The rows that come after one key, up to and with another. Bounds are written as keys are in
/// the outbox: PostgreSQL's texts, in the order of the key's columns. What "after" means is the
/// table's affair; ranges made by splitting one another meet without gap or overlap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyRange {
    /// The last key before the range, which is not part of it; `None` from the first row on.
    pub after: Option<KeyValues>,
    /// The last key of the range; `None` to the last row.
    pub until: Option<KeyValues>,
}

// === impl KeyRange ===

impl KeyRange {
    /// Every row.
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether no row is left out.
    pub fn is_all(&self) -> bool {
        self.after.is_none() && self.until.is_none()
    }

    /// The part up to and with `key`, and the part after it. The key must lie in the range.
    pub fn split(self, key: KeyValues) -> (Self, Self) {
        let second = Self { after: Some(key.clone()), until: self.until };
        (Self { after: self.after, until: Some(key) }, second)
    }

    /// The parts between these keys, which must lie in the range, in its order: one more than
    /// there are keys.
    pub fn split_at(self, keys: Vec<KeyValues>) -> Vec<Self> {
        let mut parts = Vec::with_capacity(keys.len() + 1);
        let mut rest = self;
        for key in keys {
            let (part, more) = rest.split(key);
            parts.push(part);
            rest = more;
        }
        parts.push(rest);
        parts
    }
}

impl fmt::Display for KeyRange {
    /// `(after, until]` for people, with `…` for an open end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |key: &Option<KeyValues>| match key {
            Some(values) => values.join("|"),
            None => "…".to_owned(),
        };
        write!(f, "({}, {}]", end(&self.after), end(&self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyValues {
        vec![text.to_owned()]
    }

    #[test]
    fn parts_meet_without_gap_or_overlap() {
        let parts = KeyRange::all().split_at(vec![key("10"), key("20")]);
        assert_eq!(parts.len(), 3);
        assert!(parts[0].after.is_none() && parts[2].until.is_none());
        for pair in parts.windows(2) {
            assert_eq!(pair[0].until, pair[1].after);
            assert!(pair[0].until.is_some());
        }
        assert!(KeyRange::all().split_at(Vec::new())[0].is_all());
    }

    #[test]
    fn it_prints_as_an_interval() {
        let range = KeyRange { after: Some(vec!["a".into(), "7".into()]), until: None };
        assert_eq!(range.to_string(), "(a|7, …]");
    }
}
