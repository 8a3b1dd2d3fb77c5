//! What a statement, or the definition of a view or a function, names.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::table::TableRef;

/// A function as it is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionRef {
    /// The schema, where the call names it.
    pub schema: Option<String>,
    /// The name as the catalogue has it.
    pub name: String,
    /// How many arguments it is called with.
    pub arguments: usize,
}

/// Names in a text of SQL. What they stand for is for a catalogue to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Tables, views and sequences that it reads or writes, without the names of its `WITH`
    /// queries.
    pub relations: BTreeSet<TableRef>,
    /// Those of them that it writes to by itself.
    pub written: BTreeSet<TableRef>,
    /// Functions and procedures that it calls.
    pub functions: BTreeSet<FunctionRef>,
    /// Operators, by their bare names.
    pub operators: BTreeSet<String>,
    /// Types that it casts to, by their bare names.
    pub casts: BTreeSet<String>,
    /// Words of a text that cannot be parsed here (PL/pgSQL): any of them may be a relation.
    pub words: BTreeSet<String>,
    /// Words of it that an opening parenthesis follows: any of them may be a function.
    pub calls: BTreeSet<String>,
    /// It runs SQL that it makes while it runs.
    pub dynamic: bool,
    /// It may change for the rest of the transaction where unqualified names are looked for.
    pub sets_path: bool,
    /// It was parsed whole, and reads only, as far as it goes by itself.
    pub reads_only: bool,
}

/// A place for what was found out about a statement, kept with the statement: the answer holds
/// for the stamp that it was put under.
#[derive(Debug)]
pub struct Memo<T>(Mutex<Option<(u64, Arc<T>)>>);

// === impl Named ===

impl Named {
    /// Takes the names of another text into this one.
    pub fn absorb(&mut self, other: &Self) {
        self.relations.extend(other.relations.iter().cloned());
        self.written.extend(other.written.iter().cloned());
        self.functions.extend(other.functions.iter().cloned());
        self.operators.extend(other.operators.iter().cloned());
        self.casts.extend(other.casts.iter().cloned());
        self.words.extend(other.words.iter().cloned());
        self.calls.extend(other.calls.iter().cloned());
        self.dynamic |= other.dynamic;
        self.sets_path |= other.sets_path;
        self.reads_only &= other.reads_only;
    }
}

// === impl Memo ===

impl<T> Memo<T> {
    /// What was kept under this stamp, or what `make` answers now.
    pub fn get(&self, stamp: u64, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some((at, kept)) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner)
            && *at == stamp
        {
            return Arc::clone(kept);
        }
        // Made outside the lock: two callers at once do the same work once.
        let made = Arc::new(make());
        let kept = Some((stamp, Arc::clone(&made)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        made
    }
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

/// A copy has found nothing out yet.
impl<T> Clone for Memo<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}
