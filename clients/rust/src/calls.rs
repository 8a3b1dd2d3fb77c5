//! How calls are made, outside transactions and in them.

use std::future::Future;

use rand::RngCore;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::batch::{BatchDone, Done};
use crate::client::{Client, Key};
use crate::error::{Error, Failure, Outcome};
use crate::link::Stub;
use crate::protocol as proto;
use crate::repeat::{Attempt, Repeating, unwritten};
use crate::row::Row;
use crate::rows::{Rows, broken};
use crate::statement::Statement;
use crate::status::failure_of;
use crate::trace::Named;
use crate::transaction::Place;

/// More tokens the sidecar does not take in one call.
const TOKENS_MAX: usize = 256;
/// Reasons for which a write cannot have an idempotency key. It had no effect.
const WITHOUT_KEY: [&str; 3] =
    ["refused.idempotency_of_owner", "idempotency.no_schema", "idempotency.answer_bytes"];

/// A call with one answer, which brings tokens and gives one.
pub(crate) trait Unary: Clone + Send + Sync + 'static {
    const METHOD: &'static str;
    type Answer: Send;
    fn bring(&mut self, tokens: Vec<String>);
    fn set_key(&mut self, _key: String) {}
    fn token(answer: &Self::Answer) -> &str;
    fn begun(_answer: &Self::Answer) -> &str {
        ""
    }
    fn send(
        stub: &mut Stub,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

macro_rules! unary {
    ($request:ident, $answer:ident, $method:ident { $($more:item)* }) => {
        impl Unary for proto::$request {
            const METHOD: &'static str = stringify!($method);
            type Answer = proto::$answer;

            fn bring(&mut self, tokens: Vec<String>) {
                self.consistency_tokens = tokens;
            }

            fn token(answer: &Self::Answer) -> &str {
                &answer.consistency_token
            }

            fn send(
                stub: &mut Stub,
                request: Request<Self>,
            ) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send {
                stub.$method(request)
            }

            $($more)*
        }
    };
}

unary!(CommitRequest, CommitResponse, commit {});
unary!(ExecuteRequest, ExecuteResponse, execute {
    fn set_key(&mut self, key: String) {
        self.idempotency_key = key;
    }
    fn begun(answer: &Self::Answer) -> &str {
        &answer.transaction_id
    }
});
unary!(BatchRequest, BatchResponse, batch {
    fn set_key(&mut self, key: String) {
        self.idempotency_key = key;
    }
    fn begun(answer: &Self::Answer) -> &str {
        &answer.transaction_id
    }
});

/// A key that no one else makes.
fn new_key() -> String {
    let mut random = [0; 16];
    rand::rng().fill_bytes(&mut random);
    format!("rust-{:032x}", u128::from_be_bytes(random))
}

impl Client {
    /// Makes a call with one answer, as often as it may be made.
    pub(crate) async fn unary<R: Unary>(
        &self,
        named: Named<'_>,
        request: R,
        when: Repeating,
        deadline: Option<Instant>,
    ) -> Result<R::Answer, Failure> {
        self.repeat(named, when, deadline, |mut attempt| {
            let (client, mut request) = (self.clone(), request.clone());
            async move {
                let tokens = client.brought(&mut attempt).await?;
                request.bring(tokens.clone());
                let request = attempt.request(request);
                match R::send(&mut attempt.stub, request).await {
                    Ok(answer) => {
                        let answer = answer.into_inner();
                        client.settings.tokens.replace(&tokens, R::token(&answer).to_owned());
                        Ok(answer)
                    }
                    Err(status) => {
                        let failure = failure_of(&status);
                        client.settings.tokens.failed(&tokens, &failure);
                        Err(failure)
                    }
                }
            }
        })
        .await
    }

    /// The tokens for a call. Where there are more than one call can bring, calls of their own make one of many.
    async fn brought(&self, attempt: &mut Attempt) -> Result<Vec<String>, Failure> {
        loop {
            let mut held = self.settings.tokens.list();
            if held.len() <= TOKENS_MAX {
                return Ok(held);
            }
            held.truncate(TOKENS_MAX);
            let request = proto::QueryRequest {
                statement: Some(proto::Statement {
                    text: Some(proto::statement::Text::Sql("SELECT 1".to_owned())),
                    params: Vec::new(),
                }),
                consistency_tokens: held.clone(),
                ..Default::default()
            };
            let request = attempt.request(request);
            let stream = attempt
                .stub
                .query(request)
                .await
                .map_err(|status| failure_of(&status))?
                .into_inner();
            // Its footer replaces them.
            let (mut rows, _) =
                Rows::open(stream, self.settings.tokens.clone(), held, None).await?;
            rows.all().await?;
        }
    }

    /// Makes a write's call: outside transactions with an idempotency key, by which it may be repeated when its
    /// answer was lost.
    async fn write<R: Unary>(
        &self,
        place: &Place,
        statement: Option<&Statement>,
        mut request: R,
    ) -> Result<R::Answer, Failure> {
        let (deadline, named) = (self.deadline(), Named { method: R::METHOD, statement });
        let keyless = statement.is_some_and(|it| self.core.statements.get(it).keyless);
        let key = match &self.settings.key {
            _ if !place.is_outside() => String::new(),
            Key::Given(key) => key.clone(),
            Key::Own if !keyless => new_key(),
            Key::Own | Key::None => String::new(),
        };
        let keyed = !key.is_empty();
        request.set_key(key);
        let outside = if keyed { Repeating::Keyed } else { Repeating::Unapplied };
        let made = self.unary(named, request.clone(), place.repeating(outside), deadline).await;
        match made {
            // An earlier attempt of the call may have had an effect, which the outcome says.
            Err(failure)
                if keyed
                    && self.settings.key == Key::Own
                    && failure.outcome == Outcome::NotApplied
                    && WITHOUT_KEY.contains(&failure.reason.as_str()) =>
            {
                if let Some(statement) = statement {
                    self.core.statements.learn(statement, |known| known.keyless = true);
                }
                request.set_key(String::new());
                self.unary(named, request, Repeating::Unapplied, deadline).await
            }
            made => made,
        }
    }

    pub(crate) async fn run_execute(
        &self,
        place: Place,
        statement: &Statement,
        made: proto::Statement,
    ) -> Result<Done, Error> {
        let packed = self.core.statements.get(statement).packed == Some(true);
        let request = proto::ExecuteRequest {
            statement: Some(made),
            transaction: place.selector(),
            encoding: encoding(packed).into(),
            ..Default::default()
        };
        let made = self.write(&place, Some(statement), request).await;
        let begun = made.as_ref().map_or("", proto::ExecuteRequest::begun).to_owned();
        let answer = place.leave(&begun, made)?;
        let result = answer.result.unwrap_or_default();
        self.core.statements.learn_columns(statement, &result.columns);
        let (affected_rows, rows) = Done::read(result)?;
        Ok(Done {
            affected_rows,
            rows,
            write_id: answer.write_id,
            already_applied: answer.already_applied,
        })
    }

    pub(crate) async fn run_batch(
        &self,
        place: Place,
        statements: Vec<proto::Statement>,
    ) -> Result<BatchDone, Error> {
        let request = proto::BatchRequest {
            statements,
            transaction: place.selector(),
            encoding: encoding(false).into(),
            ..Default::default()
        };
        let made = self.write(&place, None, request).await;
        let begun = made.as_ref().map_or("", proto::BatchRequest::begun).to_owned();
        let answer = place.leave(&begun, made)?;
        BatchDone::of(answer)
    }

    /// Opens an answer; with `whole` it reads all rows, so that a repeat is possible up to the last one.
    async fn run_query(
        &self,
        place: &Place,
        statement: &Statement,
        made: proto::Statement,
        whole: bool,
        deadline: Option<Instant>,
    ) -> Result<(Rows, Vec<Row>), Failure> {
        let known = self.core.statements.get(statement).packed;
        // A second look is possible only where it disturbs no transaction.
        let packed = known.unwrap_or(place.is_outside());
        let request = proto::QueryRequest {
            statement: Some(made),
            transaction: place.selector(),
            encoding: encoding(packed).into(),
            routing_key: self.settings.routing_key.clone(),
            consistency_tokens: Vec::new(),
        };
        let named = Named { method: "query", statement: Some(statement) };
        self.repeat(named, place.repeating(Repeating::Safe), deadline, |mut attempt| {
            let (client, mut request, statement) =
                (self.clone(), request.clone(), statement.clone());
            async move {
                loop {
                    let (mut rows, columns) =
                        client.opened(&mut attempt, &request, deadline).await?;
                    let readable = client.core.statements.learn_columns(&statement, &columns);
                    if request.encoding == i32::from(encoding(true)) && !readable {
                        // It has a type that is not known here: the sidecar decodes it. Nothing was given out yet.
                        request.encoding = encoding(false).into();
                        continue;
                    }
                    let all = if whole { rows.all().await? } else { Vec::new() };
                    return Ok((rows, all));
                }
            }
        })
        .await
    }

    async fn opened(
        &self,
        attempt: &mut Attempt,
        request: &proto::QueryRequest,
        deadline: Option<Instant>,
    ) -> Result<(Rows, Vec<proto::Column>), Failure> {
        let tokens = self.brought(attempt).await?;
        let mut request = request.clone();
        request.consistency_tokens.clone_from(&tokens);
        let request = attempt.request(request);
        let jar = &self.settings.tokens;
        let made = match attempt.stub.query(request).await {
            Ok(stream) => {
                Rows::open(stream.into_inner(), jar.clone(), tokens.clone(), deadline).await
            }
            Err(status) => Err(failure_of(&status)),
        };
        made.inspect_err(|failure| jar.failed(&tokens, failure))
    }

    pub(crate) async fn run_stream(
        &self,
        place: Place,
        statement: &Statement,
        made: proto::Statement,
    ) -> Result<Rows, Error> {
        match self.run_query(&place, statement, made, false, self.deadline()).await {
            Ok((mut rows, _)) => {
                let begun = rows.begun().to_owned();
                rows.enter(place.opened(&begun));
                Ok(rows)
            }
            Err(failure) if place.is_outside() => Err(unwritten(failure)),
            Err(failure) => place.leave("", Err(failure)),
        }
    }

    pub(crate) async fn run_whole_query(
        &self,
        place: Place,
        statement: &Statement,
        made: proto::Statement,
    ) -> Result<Vec<Row>, Error> {
        match self.run_query(&place, statement, made, true, self.deadline()).await {
            Ok((rows, all)) => place.leave(rows.begun(), Ok(all)),
            Err(failure) if place.is_outside() => Err(unwritten(failure)),
            Err(failure) => place.leave("", Err(failure)),
        }
    }
}

fn encoding(packed: bool) -> proto::Encoding {
    if packed { proto::Encoding::Packed } else { proto::Encoding::Typed }
}

/// A write's rows that cannot be read: the write was made.
pub(crate) fn unreadable(what: &str) -> Error {
    let mut failure = broken(what);
    failure.outcome = Outcome::Applied;
    failure.into()
}
