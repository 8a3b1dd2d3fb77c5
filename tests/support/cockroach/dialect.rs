//! What CockroachDB does with a statement that PostgreSQL does otherwise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use super::facts::{Facts, Release};
use super::instead;
use super::parser::Parser;
use super::record::Sent;
use super::refuse::{Asked, Bound, Judge, Judged, Refusal};
use super::values;
use super::walk::{self, Violation};

/// Rules whose violation is refused, each with the SQLSTATE. Those that are not here change what a
/// statement does, or are for the test of the facts to say.
const REFUSED: [(&str, &str); 18] = [
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
    // It is text there: a client that knows better cannot send it.
    ("placeholder of several types", "42804"),
    ("WITH part without a result", "0A000"),
    ("temporary table", "XCEXF"),
    ("COPY FROM", "0A000"),
    ("trigger", "0A000"),
    ("PL/pgSQL", "0A000"),
];
/// The same where the detail says more than the rule.
const REFUSED_OTHERWISE: [(&str, &str); 3] = [
    // What the protocol's own errors have that were given no code.
    ("by the extended protocol", "XXUUU"),
    // The text of a number is no interval.
    ("* interval", "22023"),
    ("/ interval", "22023"),
];
/// Of these, the ones that an application's statements may look like and be right.
const OF_SEGUE_ALONE: [&str; 5] = [
    "function not known",
    "type not known",
    "no such arguments",
    "setting not known",
    // Its place may be asked for its type first where it is not cast.
    "placeholder of several types",
];
/// Settings that the PostgreSQL which plays CockroachDB has, so that sessions set them again.
const OF_THE_PLAYER: [&str; 1] = ["client_connection_check_interval"];
/// What CockroachDB says where a transaction has to be made again.
const CONFLICT: &str = "40001";
const CONFLICT_MESSAGE: &str = "restart transaction: TransactionRetryWithProtoRefreshError";
/// A transaction has fewer statements, so that one that is made again comes to its end.
const STATEMENTS_FOR_EACH_COMMIT: u64 = 50;
/// The release that the stand-in plays, as `25.3`; the latest where it is not named.
const RELEASE: &str = "SEGUE_COCKROACH_RELEASE";

/// A judge of one release.
pub struct Dialect {
    facts: &'static Facts,
    release: Release,
    /// Each transaction of so many meets another one as it commits, or before; 0 for none.
    conflict_each: u64,
    commits: AtomicU64,
    statements: AtomicU64,
}

/// All of an [`Asked`]: SQL, extended, own, in a transaction, types.
type Question = (String, bool, bool, bool, Vec<u32>);

/// What is known of texts. A release judges a text one way only, whichever stand-in it is sent to, and a
/// test makes many.
static KNOWN: LazyLock<Mutex<HashMap<(Release, Question), Judged>>> = LazyLock::new(Mutex::default);
/// Texts that have been asked whether they commit what is open.
static COMMITTING: LazyLock<Mutex<HashMap<String, bool>>> = LazyLock::new(Mutex::default);
/// It ends with the process, whose end of the pipe is closed then.
static PARSER: LazyLock<Mutex<Parser>> = LazyLock::new(|| Mutex::new(Parser::start()));

impl Dialect {
    pub fn of(release: Release) -> Self {
        Self {
            facts: Facts::known(),
            release,
            conflict_each: 0,
            commits: AtomicU64::new(0),
            statements: AtomicU64::new(0),
        }
    }

    /// Of the release that the environment names, or of the latest.
    pub fn asked_for() -> Self {
        let asked = std::env::var(RELEASE).ok();
        Self::of(asked.map_or(Release::LATEST, |it| Release::parse(&it)))
    }

    pub fn release(&self) -> Release {
        self.release
    }

    /// The same, in which one of so many commits fails since it met another transaction, and one of
    /// many times as many statements within a transaction.
    #[must_use]
    pub fn with_conflicts(self, one_of: u64) -> Self {
        Self { conflict_each: one_of, ..self }
    }

    fn dialect(&self, asked: Asked<'_>) -> Judged {
        let parsed = PARSER.lock().unwrap_or_else(PoisonError::into_inner).parse(asked.sql);
        if let Some(it) = parsed.refusals.first() {
            // What does not parse is refused whole.
            return refusal(&it.code, it.message.clone(), String::new());
        }
        let sent = Sent {
            application: String::new(),
            own: asked.own,
            extended: asked.extended,
            in_transaction: asked.in_transaction,
            types: asked.types.to_vec(),
            sql: asked.sql.to_owned(),
            integers: Vec::new(),
        };
        let found = walk::violations_by_statement(self.facts, self.release, &sent, &parsed);
        for (at, violations) in found.unwrap_or_default() {
            let refused = violations.iter().find_map(|it| Some((refused(it, asked.own)?, it)));
            if let Some((sqlstate, it)) = refused {
                return refusal(
                    sqlstate,
                    format!("{}: {}", it.rule, it.detail),
                    self.instead(asked, at),
                );
            }
        }
        match self.instead(asked, asked.sql.len()) {
            text if text == asked.sql => Judged::Same,
            text => Judged::Instead(text),
        }
    }

    /// What PostgreSQL is given for the text up to there.
    fn instead(&self, asked: Asked<'_>, to: usize) -> String {
        let in_transaction = asked.in_transaction && !asked.extended;
        instead::instead(self.facts, self.release, &asked.sql[..to], in_transaction)
    }

    /// Now and then a transaction has met another one, at its end or in its midst.
    fn conflict(&self, asked: Asked<'_>) -> Option<Judged> {
        if self.conflict_each == 0 {
            return None;
        }
        let is_due = |counter: &AtomicU64, each| {
            (counter.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(each)
        };
        let refused = |at, first| {
            let (sqlstate, message) = (CONFLICT.to_owned(), CONFLICT_MESSAGE.to_owned());
            let before = self.instead(asked, at);
            Some(Judged::Refused(Refusal { sqlstate, message, before, first }))
        };
        match instead::end_of_transaction(asked.sql, asked.in_transaction) {
            Some(instead::End::Commit(at)) if is_due(&self.commits, self.conflict_each) => {
                refused(at, Some("ROLLBACK"))
            }
            None if asked.in_transaction
                && is_due(&self.statements, self.conflict_each * STATEMENTS_FOR_EACH_COMMIT) =>
            {
                refused(0, None)
            }
            _ => None,
        }
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
        let Asked { sql, extended, own, in_transaction, types } = asked;
        let key = (self.release, (sql.to_owned(), extended, own, in_transaction, types.to_vec()));
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let judged = known.unwrap_or_else(|| {
            let judged = self.dialect(asked);
            KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(key, judged.clone());
            judged
        });
        if let Judged::Refused(refusal) = &judged {
            eprintln!("the stand-in refuses: {}: {}", refusal.message, asked.sql);
        }
        judged
    }

    fn commits_first(&self, sql: &str) -> bool {
        let mut known = COMMITTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(commits) = known.get(sql) {
            return *commits;
        }
        let commits = instead::commits_first(sql);
        known.insert(sql.to_owned(), commits);
        commits
    }

    fn bound(&self, body: &[u8], types: &[u32]) -> Bound {
        values::bound(body, types)
    }
}

fn refusal(sqlstate: &str, message: String, before: String) -> Judged {
    Judged::Refused(Refusal { sqlstate: sqlstate.to_owned(), message, before, first: None })
}

/// The SQLSTATE with which it is refused.
fn refused(violation: &Violation, own: bool) -> Option<&'static str> {
    if !own && OF_SEGUE_ALONE.contains(&violation.rule)
        || OF_THE_PLAYER.contains(&violation.detail.as_str())
    {
        return None;
    }
    let (_, sqlstate) = REFUSED.iter().find(|(rule, _)| *rule == violation.rule)?;
    let otherwise = REFUSED_OTHERWISE.iter().find(|(detail, _)| *detail == violation.detail);
    Some(otherwise.map_or(*sqlstate, |(_, sqlstate)| *sqlstate))
}
