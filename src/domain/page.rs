//! Lists in pages.

/// Where a page ends: the key of its last entry, in parts. Each list knows its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub Vec<String>);

/// The page that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Entries at most; at least one.
    pub size: u32,
    /// Where the page before ended; nothing for the first page.
    pub after: Option<Cursor>,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Its entries.
    pub items: Vec<T>,
    /// Where it ends; nothing where no page follows.
    pub next: Option<Cursor>,
}

// === impl Page ===

impl<T> Page<T> {
    /// From entries of which one more was read than fits, where there is one; `cursor` gives an
    /// entry's key.
    pub fn cut(mut items: Vec<T>, size: u32, cursor: impl Fn(&T) -> Cursor) -> Self {
        let size = usize::try_from(size).unwrap_or(usize::MAX).max(1);
        if items.len() <= size {
            return Self { items, next: None };
        }
        items.truncate(size);
        let next = items.last().map(cursor);
        Self { items, next }
    }
}
