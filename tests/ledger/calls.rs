//! The calls by which clients write and read, and what their answers tell.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, value::Kind};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::book::{Held, Ledger, Told};

pub type Sql = SqlClient<Channel>;

pub const UPSERT: &str = "
INSERT INTO account (id, version, note, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET version = excluded.version, note = excluded.note,
    changed_at = now(), body = excluded.body";
pub const DELETE: &str = "DELETE FROM account WHERE id = $1";
const MOVE: &str = "UPDATE account SET id = $2, version = $3 WHERE id = $1";
const READ: &str = "SELECT version FROM account WHERE id = $1";
const LINE: &str =
    "INSERT INTO line SELECT id, $2 FROM account WHERE id = $1 ON CONFLICT DO NOTHING";
const COUNT: &str = "UPDATE counter SET n = n + 1 WHERE id = $1";
const COUNT_BY_FUNCTION: &str = "SELECT bump($1)";
const SWAP: &str = "
UPDATE seat SET label = CASE id
    WHEN $1 THEN (SELECT label FROM seat WHERE id = $2)
    ELSE (SELECT label FROM seat WHERE id = $1) END
WHERE id IN ($1, $2)";

/// Between two attempts at a write with an idempotency key.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// A write with a key comes to an end within this time once all is well.
const KEYED_LIMIT: Duration = Duration::from_secs(120);

/// What became of a call that changes accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    Done,
    /// Nothing happened; the accounts are as they were.
    Nothing,
    /// Nobody knows: the accounts are to be left alone.
    Doubtful,
}

/// Reads the outcome from a status: only segue's own word, a refused connection, or a request
/// that never left or was not taken says that nothing was applied.
pub fn told(status: &Status) -> Told {
    match sql_error(status).map(|error| error.outcome()) {
        Some(proto::Outcome::NotApplied) => Told::NotApplied,
        Some(proto::Outcome::Applied) => Told::Applied,
        None if status.code() == Code::Unavailable && never_connected(status) => Told::NotApplied,
        None if never_left(status) || was_not_taken(status) => Told::NotApplied,
        Some(_) | None => Told::Unknown,
    }
}

fn never_connected(status: &Status) -> bool {
    let text = format!("{status:?}");
    text.contains("ConnectionRefused") || text.contains("tcp connect error")
}

/// Whether the client's own connection ended while the request still stood in its queue.
fn never_left(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            let why = std::error::Error::source(error).map(ToString::to_string);
            return error.is_canceled() && why.as_deref() == Some("connection closed");
        }
        cause = error.source();
    }
    false
}

/// Whether the server was going away in good order when the request came: it finishes those up to
/// the last one that it names, and does not look at those behind it (RFC 9113, 6.8).
fn was_not_taken(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)");
        }
        cause = error.source();
    }
    false
}

/// A constraint, a deadlock or a serialization failure: the doing of another client.
fn is_conflict(status: &Status) -> bool {
    let sqlstate = sql_error(status).map(|error| error.sqlstate).unwrap_or_default();
    sqlstate.starts_with("23") || sqlstate.starts_with("40")
}

/// Segue's own detail in a status.
pub fn sql_error(status: &Status) -> Option<proto::SqlError> {
    use prost::Message;
    let whole = tonic_types::pb::Status::decode(status.details()).ok()?;
    whole
        .details
        .iter()
        .find(|any| any.type_url.ends_with("segue.v1.SqlError"))
        .and_then(|any| proto::SqlError::decode(&*any.value).ok())
}

/// An int8 parameter.
pub fn int(value: i64) -> proto::Value {
    proto::Value { kind: Some(Kind::Int64(value)) }
}

/// A text parameter.
pub fn text(value: &str) -> proto::Value {
    proto::Value { kind: Some(Kind::Text(value.to_owned())) }
}

/// A statement with parameters.
pub fn statement(sql: &str, params: Vec<proto::Value>) -> proto::Statement {
    proto::Statement { text: Some(proto::statement::Text::Sql(sql.to_owned())), params }
}

/// The statement that gives an account a state.
pub fn put(key: i64, held: Held) -> proto::Statement {
    let Some(version) = held else { return statement(DELETE, vec![int(key)]) };
    let body = format!("{{\"v\": {version}, \"a\": 1.10}}");
    statement(UPSERT, vec![int(key), int(version), text("note"), text(&body)])
}

fn execute(statement: proto::Statement) -> proto::ExecuteRequest {
    proto::ExecuteRequest { statement: Some(statement), ..proto::ExecuteRequest::default() }
}

fn inside(transaction: &str, statement: proto::Statement) -> proto::ExecuteRequest {
    proto::ExecuteRequest {
        transaction: proto::TransactionSelector::open(transaction.to_owned()),
        ..execute(statement)
    }
}

/// What an answer gives to reads that must see the write.
trait Tokened {
    fn token(&self) -> &str;
}

impl Tokened for Response<proto::ExecuteResponse> {
    fn token(&self) -> &str {
        &self.get_ref().consistency_token
    }
}

impl Tokened for Response<proto::BatchResponse> {
    fn token(&self) -> &str {
        &self.get_ref().consistency_token
    }
}

impl Tokened for Response<proto::CommitResponse> {
    fn token(&self) -> &str {
        &self.get_ref().consistency_token
    }
}

impl Ledger {
    async fn timed<T>(&self, call: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = call.await;
        self.took(begun.elapsed());
        answer
    }

    /// Enters what was told of a write of accounts.
    fn enter<T: Tokened>(&self, write: usize, answer: &Result<T, Status>) -> Became {
        let told = match answer {
            Ok(answer) => {
                self.keep_token(write, answer.token());
                Told::Applied
            }
            Err(status) => {
                let told = told(status);
                if told == Told::Applied {
                    let error = sql_error(status).unwrap();
                    self.keep_token(write, &error.consistency_token);
                }
                told
            }
        };
        match answer {
            Err(status) if told == Told::NotApplied && is_conflict(status) => {
                self.conflict(Some(write));
                return Became::Nothing;
            }
            Err(status) if told != Told::Applied => self.doubt(told, format!("{status:?}")),
            _ => {}
        }
        self.end(write, told);
        match told {
            Told::Applied => Became::Done,
            Told::NotApplied => Became::Nothing,
            Told::Unknown => Became::Doubtful,
        }
    }

    /// One statement that gives an account a state, within a deadline where one is given.
    pub async fn write(
        &self,
        sql: &mut Sql,
        key: i64,
        held: Held,
        deadline: Option<Duration>,
    ) -> Became {
        let write = self.begin(&[(key, held)]);
        let mut request = Request::new(execute(put(key, held)));
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        let answer = self.timed(sql.execute(request)).await;
        self.enter(write, &answer)
    }

    /// Changes the key of an account that is there.
    pub async fn move_account(&self, sql: &mut Sql, from: i64, to: i64, version: i64) -> Became {
        let write = self.begin(&[(from, None), (to, Some(version))]);
        let call = execute(statement(MOVE, vec![int(from), int(to), int(version)]));
        let answer = self.timed(sql.execute(call)).await;
        if let Ok(answer) = &answer {
            assert_eq!(answer.get_ref().affected_rows(), 1, "account {from} was not there");
        }
        self.enter(write, &answer)
    }

    /// Several states in one batch; of an account that comes twice the last one counts.
    pub async fn batch(&self, sql: &mut Sql, steps: &[(i64, Held)]) -> Became {
        let write = self.begin(&last_of_each(steps));
        let statements = steps.iter().map(|(key, held)| put(*key, *held)).collect();
        let request = proto::BatchRequest { statements, ..proto::BatchRequest::default() };
        let answer = self.timed(sql.batch(request)).await;
        self.enter(write, &answer)
    }

    /// The same in a transaction of several calls, which is rolled back where `commits` is false.
    pub async fn transaction(&self, sql: &mut Sql, steps: &[(i64, Held)], commits: bool) -> Became {
        let write = self.begin(&last_of_each(steps));
        let begun = self.timed(sql.begin(proto::BeginRequest::default())).await;
        let id = match begun {
            Ok(answer) => answer.into_inner().transaction_id,
            Err(status) => return self.not_committed(write, &status),
        };
        for (key, held) in steps {
            if let Err(status) = self.timed(sql.execute(inside(&id, put(*key, *held)))).await {
                let rollback = proto::RollbackRequest { transaction_id: id };
                let _ = sql.rollback(rollback).await;
                return self.not_committed(write, &status);
            }
        }
        if !commits {
            // Whatever becomes of the call: nobody commits it any more.
            let _ = self.timed(sql.rollback(proto::RollbackRequest { transaction_id: id })).await;
            self.conflict(Some(write));
            return Became::Nothing;
        }
        let commit = proto::CommitRequest { transaction_id: id, ..Default::default() };
        let answer = self.timed(sql.commit(commit)).await;
        self.enter(write, &answer)
    }

    /// COMMIT was not sent, so that nothing can have been applied, whoever is lost; and segue
    /// does not say otherwise.
    fn not_committed(&self, write: usize, status: &Status) -> Became {
        if let Some(error) = sql_error(status) {
            assert_eq!(error.outcome(), proto::Outcome::NotApplied, "{status:?}");
        }
        if is_conflict(status) {
            self.conflict(Some(write));
        } else {
            self.end(write, Told::NotApplied);
        }
        Became::Nothing
    }

    /// A child of an account, if that is there. It has no entry: both sides must have the same.
    pub async fn add_line(&self, sql: &mut Sql, account: i64, n: i64) {
        let call = execute(statement(LINE, vec![int(account), int(n)]));
        self.only_tally(self.timed(sql.execute(call)).await);
    }

    /// Two seats exchange their labels.
    pub async fn swap(&self, sql: &mut Sql, one: i64, other: i64) {
        let call = execute(statement(SWAP, vec![int(one), int(other)]));
        self.only_tally(self.timed(sql.execute(call)).await);
    }

    fn only_tally<T>(&self, answer: Result<T, Status>) {
        match answer {
            Ok(_) => self.tally(Told::Applied),
            Err(status) if told(&status) == Told::NotApplied && is_conflict(&status) => {
                self.conflict(None);
            }
            Err(status) => self.tally(told(&status)),
        }
    }

    /// One increment of a row that all clients share.
    pub async fn count(&self, sql: &mut Sql, counter: i64) {
        self.count_by(COUNT, sql, counter).await;
    }

    /// The same by a function of the database, `bump(int8)`.
    pub async fn count_by_function(&self, sql: &mut Sql, counter: i64) {
        self.count_by(COUNT_BY_FUNCTION, sql, counter).await;
    }

    async fn count_by(&self, by: &str, sql: &mut Sql, counter: i64) {
        self.begin_count(counter);
        let call = execute(statement(by, vec![int(counter)]));
        let told = match self.timed(sql.execute(call)).await {
            Ok(_) => Told::Applied,
            Err(status) => {
                let told = told(&status);
                self.doubt(told, format!("{status:?}"));
                told
            }
        };
        self.end_count(counter, told);
    }

    /// One increment with an idempotency key, sent until it is answered and then once more: it
    /// has effect once, and the repeat gets the first answer.
    pub async fn count_once(&self, sql: &mut Sql, counter: i64, key: &str) {
        self.begin_count(counter);
        let request = || {
            let call = execute(statement(COUNT, vec![int(counter)]));
            proto::ExecuteRequest { idempotency_key: key.to_owned(), ..call }
        };
        let begun = Instant::now();
        let first = loop {
            match self.timed(sql.execute(request())).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) => assert!(begun.elapsed() < KEYED_LIMIT, "{key}: {status:?}"),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        };
        self.end_count(counter, Told::Applied);
        if let Ok(again) = sql.execute(request()).await {
            let again = again.into_inner();
            assert!(again.already_applied, "{key} was taken for new");
            assert_eq!(again.write_id, first.write_id, "{key} has another answer");
            assert_eq!(again.affected_rows(), first.affected_rows());
            self.replayed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads an account of the client's own, whose state it therefore knows.
    pub async fn read(&self, sql: &mut Sql, key: i64, held: Held, encoding: proto::Encoding) {
        let statement = Some(statement(READ, vec![int(key)]));
        let (encoding, consistency_tokens) = (encoding.into(), vec![self.token(key)]);
        let request =
            proto::QueryRequest { statement, encoding, consistency_tokens, ..Default::default() };
        let token = request.consistency_tokens[0].clone();
        if let Ok((found, side)) = versions(sql, request).await {
            let by = format!("the {side:?}, with the token {token:?}");
            assert!(
                found == Vec::from_iter(held),
                "account {key} is {held:?}, and read as {found:?} by {by}; {}",
                self.history(key)
            );
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn last_of_each(steps: &[(i64, Held)]) -> Vec<(i64, Held)> {
    let last: std::collections::BTreeMap<_, _> = steps.iter().copied().collect();
    last.into_iter().collect()
}

/// The one column of an answer, which must have come to its end, and the side that gave it.
async fn versions(
    sql: &mut Sql,
    request: proto::QueryRequest,
) -> Result<(Vec<i64>, proto::Side), Status> {
    let mut stream = sql.query(request).await?.into_inner();
    let (mut found, mut footer) = (Vec::new(), None);
    while let Some(response) = stream.message().await? {
        for row in response.typed_rows() {
            let Some(Kind::Int64(version)) = row.values[0].kind else { panic!("no int8: {row:?}") };
            found.push(version);
        }
        for cell in
            response.packed_rows().iter().flat_map(|rows| rows.cells.chunks(4 + size_of::<i64>()))
        {
            found.push(i64::from_be_bytes(cell[4..].try_into().unwrap()));
        }
        footer = response.footer;
    }
    let end = footer.expect("an answer was cut short without an error");
    assert_eq!(end.row_count, found.len() as u64, "an answer has not as many rows as it says");
    Ok((found, end.side()))
}
