//! What CockroachDB does with a statement that PostgreSQL does otherwise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::catalog;
use super::facts::{Facts, Release};
use super::parser::Parser;
use super::record::Sent;
use super::refuse::{Asked, Judge, Judged, Refusal};
use super::walk::{self, DDL, Violation};

/// Rules whose violation is refused, each with the SQLSTATE.
const REFUSED: [(&str, &str); 17] = [
    ("gated schema", "42501"),
    ("no such table", "42P01"),
    ("no such column", "42703"),
    ("system column", "42703"),
    ("no such function", "42883"),
    ("no such function yet", "42883"),
    ("function not known", "42883"),
    ("no such arguments", "42883"),
    ("type not known", "42704"),
    ("no such setting", "42704"),
    ("setting not known", "42704"),
    ("untyped placeholder", "42P18"),
    ("WITH part without a result", "42601"),
    ("temporary table", "0A000"),
    ("COPY FROM", "0A000"),
    ("trigger", "0A000"),
    ("PL/pgSQL", "0A000"),
];
/// Of these, the ones that an application's own names may look like.
const OF_SEGUE_ALONE: [&str; 4] =
    ["function not known", "type not known", "no such arguments", "setting not known"];
/// Settings that the PostgreSQL which plays CockroachDB has, so that sessions set them again.
const OF_THE_PLAYER: [&str; 1] = ["client_connection_check_interval"];
const SYNTAX: &str = "42601";
/// What CockroachDB says where a transaction has to be made again.
const CONFLICT: &str = "40001";
const CONFLICT_MESSAGE: &str = "restart transaction: TransactionRetryWithProtoRefreshError";
/// Locks nothing in a serializable transaction.
const SHARED: [&str; 2] = [" FOR SHARE", " FOR KEY SHARE"];
/// Has no effect on a function of a trigger.
const DEFINER: &str = "SECURITY DEFINER";

/// A judge of one release.
pub struct Dialect {
    facts: Facts,
    release: Release,
    parser: Mutex<Parser>,
    known: Mutex<HashMap<(String, bool, bool), Judged>>,
    /// Each transaction of so many meets another one as it commits, or before; 0 for none.
    conflict_each: u64,
    transactions: AtomicU64,
}

impl Dialect {
    pub fn of(release: Release) -> Self {
        Self {
            facts: Facts::load(),
            release,
            parser: Mutex::new(Parser::start()),
            known: Mutex::default(),
            conflict_each: 0,
            transactions: AtomicU64::new(0),
        }
    }

    pub fn latest() -> Self {
        Self::of(Release::LATEST)
    }

    /// The same, in which one of so many commits fails since it met another transaction.
    #[must_use]
    pub fn with_conflicts(self, one_of: u64) -> Self {
        Self { conflict_each: one_of, ..self }
    }

    fn dialect(&self, asked: Asked<'_>) -> Judged {
        let parsed = self.parser.lock().unwrap_or_else(PoisonError::into_inner).parse(asked.sql);
        if let Some(refusal) = parsed.refusals.first() {
            return said(SYNTAX, refusal.message.clone(), "");
        }
        let sent = Sent {
            application: String::new(),
            own: asked.own,
            extended: asked.extended,
            in_transaction: asked.in_transaction,
            types: asked.types.to_vec(),
            sql: asked.sql.to_owned(),
        };
        let found = walk::violations(&self.facts, self.release, &sent, &parsed);
        let refused = found.into_iter().flatten().find_map(|it| refused(&it, asked.own));
        if let Some((sqlstate, it)) = refused {
            let message = format!("{}: {}", it.rule, it.detail);
            return said(sqlstate, message, "");
        }
        match self.instead(asked) {
            text if text == asked.sql => Judged::Same,
            text => Judged::Instead(text),
        }
    }

    /// What PostgreSQL is given, so that it does the same.
    fn instead(&self, asked: Asked<'_>) -> String {
        let mut text = catalog::pointed(&self.facts, asked.sql);
        for lock in SHARED {
            text = text.replace(lock, "");
        }
        if text.contains("RETURNS trigger") {
            text = text.replace(DEFINER, "");
        }
        if asked.in_transaction && is_ddl(asked.sql) {
            assert!(!asked.extended, "the stand-in cannot commit before {}", asked.sql);
            text = format!("COMMIT; {text}");
        }
        text
    }

    /// A commit that comes to nothing, now and then.
    fn conflict(&self, asked: Asked<'_>) -> Option<Judged> {
        let is_commit = asked.in_transaction && !asked.extended && asked.sql.trim() == "COMMIT";
        if !is_commit || self.conflict_each == 0 {
            return None;
        }
        let number = self.transactions.fetch_add(1, Ordering::Relaxed) + 1;
        let is_due = number.is_multiple_of(self.conflict_each);
        is_due.then(|| said(CONFLICT, CONFLICT_MESSAGE.to_owned(), "ROLLBACK; "))
    }
}

impl Judge for Dialect {
    fn judge(&self, asked: Asked<'_>) -> Judged {
        if let Some(conflict) = self.conflict(asked) {
            return conflict;
        }
        if asked.sql.trim().is_empty() {
            return Judged::Same;
        }
        let key = (asked.sql.to_owned(), asked.own, asked.in_transaction);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let judged = self.dialect(asked);
            if let Judged::Refused(refusal) = &judged {
                eprintln!("the stand-in refuses: {}: {}", refusal.message, asked.sql);
            }
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(key, judged.clone());
            judged
        })
    }
}

fn said(sqlstate: &str, message: String, first: &'static str) -> Judged {
    Judged::Refused(Refusal { sqlstate: sqlstate.to_owned(), message, at: 0, first })
}

fn refused(violation: &Violation, own: bool) -> Option<(&'static str, Violation)> {
    if !own && OF_SEGUE_ALONE.contains(&violation.rule)
        || OF_THE_PLAYER.contains(&violation.detail.as_str())
    {
        return None;
    }
    let (_, sqlstate) = REFUSED.iter().find(|(rule, _)| *rule == violation.rule)?;
    Some((sqlstate, violation.clone()))
}

fn is_ddl(sql: &str) -> bool {
    let Some(tree) = walk::tree_of(sql) else { return false };
    let mut kinds = walk::statements(&tree).filter_map(|it| Some(walk::node(it)?.0.to_owned()));
    kinds.next().is_some_and(|kind| DDL.contains(&kind.as_str()))
}
