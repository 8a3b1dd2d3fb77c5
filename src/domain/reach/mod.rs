//! What a statement touches, and where it goes by that.
//!
//! A table of the migration is on both sides, and the primary answers for it. Whatever else a
//! statement touches stays on the side that owns it: the source, unless the configuration or the
//! catalogue says otherwise. What nobody can tell counts as not migrated.

mod catalogue;
mod named;
mod owned;
mod policy;
mod walk;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use catalogue::{Body, Catalogue, Function, OnWrite, OwnPath, Relation, RelationKind, SYSTEM};
pub use named::{FunctionRef, Memo, Named};
pub use policy::{Declared, Owner, Pattern, Policy};

use crate::domain::control::{ControlState, Phase};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};

/// Both catalogues; nothing for a side that has not been read yet.
pub type Catalogues = Sides<Option<Arc<Catalogue>>>;

/// What a statement touches, in one phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// A table of the migration, where it touches any.
    pub migrated: Option<String>,
    /// What each side owns of what it touches, one of them.
    pub owned: OwnedNames,
    /// Something that follows the primary and is not on the other side as it is there: a
    /// sequence, a table that is declared so.
    pub primary: Option<String>,
    /// It is not to be answered by the side that follows, for something that it touches.
    pub bound: bool,
    /// It touches nothing of the application.
    pub pure: bool,
    /// Something that it names is not in the catalogue as it was read last.
    pub missing: bool,
    /// The primary's catalogue has not been read yet.
    pub unread: bool,
    /// Functions of which nobody can tell what they touch.
    pub unknown: BTreeSet<String>,
    /// Tables that are not migrated and that the configuration says nothing of, and the functions
    /// among `unknown`.
    pub undeclared: BTreeSet<String>,
    /// It may change for the rest of its transaction where unqualified names are looked for.
    pub sets_path: bool,
    /// Its unqualified names count as anything of that name, in any schema.
    pub any_schema: bool,
    /// Why it may run only once for one call, where it may.
    pub once: Option<Once>,
    /// Something that its text does not show may leave traces in the session: a view, a policy,
    /// an operator or a cast that calls a function, or what is not known.
    pub leaves_traces: bool,
}

/// One name for each side; a `Sides` with a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedNames {
    /// On the source.
    pub source: Option<String>,
    /// On the target.
    pub target: Option<String>,
}

/// Where unqualified names in a statement's own text are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lookup {
    /// Along the search path that sessions of callers begin with.
    SearchPath,
    /// In every schema.
    AnySchema,
}

/// Why a statement may run only once for one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// A side's catalogue calls this function volatile, or it has an operator or a cast that is.
    Volatile(String),
    /// This function is not known.
    Unknown(String),
    /// A side's catalogue has not been read yet.
    Unread(Side),
}

/// A statement that touches tables which are not migrated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The statement's fingerprint, in hexadecimal.
    pub fingerprint: String,
    /// In few words.
    pub summary: String,
    /// What it touches.
    pub relations: BTreeSet<String>,
    /// How many calls of this sidecar.
    pub count: u64,
}

/// Where a statement goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The side that runs it.
    pub side: Side,
    /// The side that follows may answer it.
    pub shifts: bool,
    /// Why it is not sampled, in a word for counters.
    pub unsampled: Option<&'static str>,
    /// It touches something: in a transaction it decides the side, or must agree with it.
    pub decides: bool,
    /// Something that its text does not show may leave traces in the session.
    pub leaves_traces: bool,
    /// It may change the search path of its transaction.
    pub sets_path: bool,
}

// === impl Reach ===

impl Reach {
    /// What a statement touches that names these, in this phase.
    pub fn of(named: &Named, phase: Phase, catalogues: &Catalogues, policy: &Policy) -> Self {
        walk::reach(named, phase, (catalogues, policy), Lookup::SearchPath)
    }

    /// The same in a transaction in which the search path may have been changed: an unqualified
    /// name may mean whatever has that name.
    pub fn in_any_schema(
        named: &Named,
        phase: Phase,
        catalogues: &Catalogues,
        policy: &Policy,
    ) -> Self {
        let reach = walk::reach(named, phase, (catalogues, policy), Lookup::AnySchema);
        Self { any_schema: true, ..reach }
    }

    /// Takes what another statement touches into this, for a batch.
    pub fn absorb(&mut self, other: &Self) {
        let or = |mine: &mut Option<String>, others: &Option<String>| {
            if mine.is_none() {
                mine.clone_from(others);
            }
        };
        or(&mut self.migrated, &other.migrated);
        or(&mut self.owned.source, &other.owned.source);
        or(&mut self.owned.target, &other.owned.target);
        or(&mut self.primary, &other.primary);
        self.bound |= other.bound;
        self.pure &= other.pure;
        self.missing |= other.missing;
        self.unread |= other.unread;
        self.leaves_traces |= other.leaves_traces;
        self.sets_path |= other.sets_path;
        self.any_schema |= other.any_schema;
        self.unknown.extend(other.unknown.iter().cloned());
        self.undeclared.extend(other.undeclared.iter().cloned());
        if self.once.is_none() {
            self.once.clone_from(&other.once);
        }
    }

    /// Where it goes, in the phase that it was asked for. What was read of the catalogues is not
    /// `fresh` where it could not be looked at for a while.
    ///
    /// # Errors
    ///
    /// A refusal where it needs both sides, or where nobody can tell.
    pub fn route(&self, control: ControlState, fresh: bool) -> Result<Route, SqlFault> {
        let primary = control.phase.primary();
        if self.unread && primary == Side::Target {
            return Err(unread(primary));
        }
        let of_other = self.owned.of(primary.other());
        let of_primary = self.owned.of(primary).or(self.migrated.as_deref());
        let of_primary = of_primary.or(self.primary.as_deref());
        if let (Some(other), Some(own)) = (of_other, of_primary) {
            let refused = both_sides(primary, own, other);
            return Err(if self.any_schema { in_any_schema(refused) } else { refused });
        }
        if let Some(function) = self.unknown.first()
            && (primary == Side::Target || of_other.is_some())
        {
            return Err(unknown_function(function, primary));
        }
        let side = if of_other.is_some() { primary.other() } else { primary };
        let owned = self.owned.source.is_some() || self.owned.target.is_some();
        let stays = owned || !self.unknown.is_empty() || self.missing;
        Ok(Route {
            side,
            shifts: fresh && !stays && !self.bound && !self.pure && self.once.is_none(),
            unsampled: self.unsampled(stays, fresh),
            decides: stays || self.migrated.is_some() || self.primary.is_some(),
            leaves_traces: self.leaves_traces || !fresh,
            sets_path: self.sets_path,
        })
    }

    fn unsampled(&self, stays: bool, fresh: bool) -> Option<&'static str> {
        match &self.once {
            _ if !fresh => Some("catalogue_stale"),
            _ if stays => Some("not_migrated"),
            _ if self.primary.is_some() => Some("of_primary"),
            Some(Once::Volatile(_)) => Some("volatile_function"),
            Some(Once::Unknown(_)) => Some("unknown_function"),
            Some(Once::Unread(_)) => Some("catalogue_stale"),
            None => None,
        }
    }
}

// === impl OwnedNames ===

impl OwnedNames {
    /// The side's.
    pub fn of(&self, side: Side) -> Option<&str> {
        match side {
            Side::Source => self.source.as_deref(),
            Side::Target => self.target.as_deref(),
        }
    }

    fn note(&mut self, side: Side, name: &str) {
        let place = match side {
            Side::Source => &mut self.source,
            Side::Target => &mut self.target,
        };
        place.get_or_insert_with(|| name.to_owned());
    }
}

// === impl Route ===

impl Route {
    /// To the primary, as for a statement of which nothing more is known.
    pub fn to_primary(control: ControlState) -> Self {
        Self {
            side: control.phase.primary(),
            shifts: true,
            unsampled: None,
            decides: false,
            leaves_traces: false,
            sets_path: false,
        }
    }
}

fn unread(primary: Side) -> SqlFault {
    let message = "which tables stay on the source is not known yet: the catalogue of the target, \
                   which is the primary, has not been read";
    SqlFault::new(FaultKind::Unavailable, Reason::UnavailableCatalogue, message)
        .with_outcome(Outcome::NotApplied)
        .with_hint("nothing was applied; try again")
        .on(primary)
        .retryable()
}

fn both_sides(primary: Side, own: &str, other: &str) -> SqlFault {
    let side = primary.other();
    let message = format!(
        "the statement needs both sides: {own} is on the {primary}, which is the primary, and \
         {other} stays on the {side}"
    );
    SqlFault::new(FaultKind::Refused, Reason::RefusedBothSides, message).with_hint(format!(
        "split it into one statement for each side, or copy {other} to the {primary} yourself and \
         declare it: tables.stay = {{ \"{other}\" = \"primary\" }}"
    ))
}

/// The same where names may mean more than one thing.
fn in_any_schema(refused: SqlFault) -> SqlFault {
    let message = format!(
        "{}; the search_path of its transaction may have been changed, so that a name without a \
         schema counts as any of that name",
        refused.message
    );
    let hint =
        format!("name each table with its schema after search_path was set, or {}", refused.hint);
    SqlFault { message, ..refused }.with_hint(hint)
}

fn unknown_function(function: &str, primary: Side) -> SqlFault {
    let message = format!(
        "the {primary} is the primary, and whether {function} touches tables that stay on the {} \
         cannot be told from its definition",
        primary.other()
    );
    SqlFault::new(FaultKind::Refused, Reason::RefusedUnknownFunction, message).with_hint(format!(
        "declare what it touches: tables.functions = {{ \"{function}\" = \"migrated\" }}, or \
         \"source\", \"target\" or \"primary\""
    ))
}

/// A statement of a transaction that runs on the other side.
pub fn other_side(transaction: Side, statement: Side) -> SqlFault {
    let message = format!(
        "the transaction runs on the {transaction}, which its first statement decided, and this \
         statement touches tables that are on the {statement}"
    );
    SqlFault::new(FaultKind::Refused, Reason::RefusedTransactionSide, message).with_hint(
        "run it in a transaction of its own, or copy the tables to the primary yourself and \
         declare them \"primary\" in tables.stay",
    )
}

#[cfg(test)]
mod tests;
