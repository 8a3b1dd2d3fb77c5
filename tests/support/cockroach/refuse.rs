//! A statement that CockroachDB refuses, or does otherwise.
//!
//! The server itself is made to refuse: it is given, in the place of the statement, one that names
//! a column which does not exist, and its error is put into CockroachDB's words on the way back. So
//! the order of answers, the state of the transaction and the messages that are passed over until
//! `Sync` are right without knowing of them here.

/// Begins the name of the column that does not exist; the rest is the number of the refusal.
const MARK: &str = "segue_refused_";

/// The fields of an `ErrorResponse` that are put into other words.
const CODE: u8 = b'C';
const MESSAGE: u8 = b'M';
/// Where in the text, of which nobody knows but the proxy.
const POSITION: u8 = b'P';

/// What CockroachDB says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub sqlstate: String,
    pub message: String,
    /// What stands before the refused statement in its text, which runs. A text that does not parse
    /// is refused whole.
    pub before: String,
    /// A statement that is run in its place first, such as one that gives the transaction up.
    pub first: Option<&'static str>,
}

/// A text as it came.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub sql: &'a str,
    /// By `Parse`, and not by `Query`.
    pub extended: bool,
    /// Whether the session is segue's own.
    pub own: bool,
    /// Whether it stands in a transaction that has not failed.
    pub in_transaction: bool,
    /// The types that `Parse` gives its parameters.
    pub types: &'a [u32],
}

/// What becomes of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It goes to the server as it is.
    Same,
    /// The server is given this in its place, which does there what CockroachDB does.
    Instead(String),
    Refused(Refusal),
}

/// What becomes of a `Bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    Same,
    /// The server is given this body in its place.
    Instead(Vec<u8>),
    Refused(Refusal),
}

/// Decides what is refused or done otherwise.
pub trait Judge: Send + Sync {
    fn judge(&self, asked: Asked<'_>) -> Judged;

    /// Whether it commits the transaction that is open before it does anything. Asked of what comes
    /// by `Parse`; in the other protocol the text says it.
    fn commits_first(&self, _sql: &str) -> bool {
        false
    }

    /// Of the body of a `Bind`, whose parameters have these types.
    fn bound(&self, _body: &[u8], _types: &[u32]) -> Bound {
        Bound::Same
    }
}

/// The refusals of one connection.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<Refusal>);

impl Refused {
    /// What the server is given in the place of the statement.
    pub(super) fn in_its_place(&mut self, refusal: Refusal) -> String {
        let first = refusal.first.map(|it| format!("{it}; ")).unwrap_or_default();
        let text = format!("{}{first}SELECT \"{MARK}{}\"", refusal.before, self.0.len());
        self.0.push(refusal);
        text
    }

    /// The same in the place of a `Bind`: of a statement that was never prepared.
    pub(super) fn in_place_of_bind(&mut self, portal: &[u8], refusal: Refusal) -> Vec<u8> {
        let name = format!("{MARK}{}", self.0.len());
        self.0.push(refusal);
        // No formats, no parameters, no formats of results.
        [portal, name.as_bytes(), &[0; 1 + 3 * 2]].concat()
    }

    /// An `ErrorResponse` in CockroachDB's words, where it is about one of these.
    pub(super) fn reworded(&self, body: &[u8]) -> Option<Vec<u8>> {
        let fields = fields(body);
        let message = fields.iter().find(|(field, _)| *field == MESSAGE)?.1;
        let message = std::str::from_utf8(message).ok()?;
        let number = message.split_once(MARK)?.1.split('"').next()?;
        let refusal = self.0.get(number.parse::<usize>().ok()?)?;
        let mut reworded = Vec::new();
        for (field, value) in fields {
            let value = match field {
                CODE => refusal.sqlstate.as_bytes(),
                MESSAGE => refusal.message.as_bytes(),
                POSITION => continue,
                _ => value,
            };
            reworded.push(field);
            reworded.extend_from_slice(value);
            reworded.push(0);
        }
        reworded.push(0);
        Some(reworded)
    }
}

fn fields(mut body: &[u8]) -> Vec<(u8, &[u8])> {
    let mut fields = Vec::new();
    while let Some((&field, rest)) = body.split_first() {
        let Some(end) = rest.iter().position(|byte| *byte == 0) else { break };
        fields.push((field, &rest[..end]));
        body = &rest[end + 1..];
    }
    fields
}
