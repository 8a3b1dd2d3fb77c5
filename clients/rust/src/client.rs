//! A client of one sidecar.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Side};
use crate::link::Link;
use crate::options::Options;
use crate::params::ToValue;
use crate::protocol as proto;
use crate::repeat::{Repeating, unwritten};
use crate::row::Column;
use crate::statement::{Statement, Statements};
use crate::status::{failure_of, side_of};
use crate::tokens::Tokens;
use crate::trace::Named;

/// How long a sidecar that is up may take to answer the first call.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one sidecar: one connection, over which any number of calls run at a time. It connects, and connects
/// again, by itself. Clones share the connection, and cost little.
///
/// Dropping the future of a call cancels its statement.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    pub(crate) settings: Settings,
}

/// What all clones share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) link: Link,
    pub(crate) statements: Statements,
    pub(crate) user_agent: String,
}

/// What calls of one clone have in common.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) timeout: Option<Duration>,
    pub(crate) tokens: Tokens,
    pub(crate) routing_key: String,
    pub(crate) key: Key,
    pub(crate) traceparent: Option<String>,
}

/// Which idempotency key single writes have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// One that the client makes.
    Own,
    /// The caller's.
    Given(String),
    /// None.
    None,
}

impl Client {
    /// Makes a client by a URL (see [`Options::parse`]) and waits until the sidecar answers, for the connect timeout
    /// at most.
    ///
    /// # Errors
    ///
    /// A wrong URL, and [`Error::Unavailable`] where no sidecar answers.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_with(Options::parse(url)?).await
    }

    /// The same by options.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn connect_with(options: Options) -> Result<Self, Error> {
        let wait = options.connect_timeout + ANSWER_TIMEOUT;
        let client = Self::new(options)?;
        client.with_timeout(wait).info().await?;
        Ok(client)
    }

    /// Makes a client that connects with its first call.
    ///
    /// # Errors
    ///
    /// Options that cannot be used.
    pub fn new(options: Options) -> Result<Self, Error> {
        let own = concat!("segue-client-rust/", env!("CARGO_PKG_VERSION"));
        let user_agent = match options.application_name.as_str() {
            "" => own.to_owned(),
            name => format!("{name} {own}"),
        };
        let settings = Settings {
            timeout: options.timeout,
            tokens: Tokens::new(),
            routing_key: options.routing_key.clone(),
            key: if options.idempotency_keys { Key::Own } else { Key::None },
            traceparent: None,
        };
        let link = Link::new(&options)?;
        let core = Core { options, link, statements: Statements::default(), user_agent };
        Ok(Self { core: Arc::new(core), settings })
    }

    /// The same client, whose calls may take so long, repeats included.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        self.changed(|it| it.timeout = Some(timeout))
    }

    /// The same client, whose single writes and batches have this idempotency key: one has effect once, however
    /// often and by whichever process it is made; a repeat has the answer of the first. At most 255 bytes, kept for
    /// a day.
    #[must_use]
    pub fn with_idempotency_key(&self, key: impl Into<String>) -> Self {
        let key = key.into();
        self.changed(|it| it.key = Key::Given(key))
    }

    /// The same client, whose writes have no idempotency key: a write whose answer was lost is not repeated.
    #[must_use]
    pub fn without_idempotency_key(&self) -> Self {
        self.changed(|it| it.key = Key::None)
    }

    /// The same client, whose reads see the same side as others with this key while reads are being shifted: the id
    /// of a user, for example. At most 1024 bytes.
    #[must_use]
    pub fn with_routing_key(&self, key: impl Into<String>) -> Self {
        let key = key.into();
        self.changed(|it| it.routing_key = key)
    }

    /// The same client, whose calls keep and bring these tokens: those of one user's session, for example.
    #[must_use]
    pub fn with_tokens(&self, tokens: &Tokens) -> Self {
        self.changed(|it| it.tokens = tokens.clone())
    }

    /// The same client, whose calls have this W3C trace context. With the feature `opentelemetry` it comes by itself.
    #[must_use]
    pub fn with_traceparent(&self, traceparent: impl Into<String>) -> Self {
        let traceparent = traceparent.into();
        self.changed(|it| it.traceparent = Some(traceparent))
    }

    fn changed(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut made = self.clone();
        change(&mut made.settings);
        made
    }

    /// The consistency tokens that calls keep and bring.
    pub fn tokens(&self) -> &Tokens {
        &self.settings.tokens
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.settings.timeout.map(|timeout| Instant::now() + timeout)
    }

    /// The sidecar's version, and where the migration stands.
    ///
    /// # Errors
    ///
    /// Where no sidecar answers.
    pub async fn info(&self) -> Result<Info, Error> {
        let made = self.repeat(
            Named::method("info"),
            Repeating::Safe,
            self.deadline(),
            async |mut attempt| {
                let request = attempt.request(proto::InfoRequest {});
                attempt.stub.info(request).await.map_err(|status| failure_of(&status))
            },
        );
        let answer = made.await.map_err(unwritten)?.into_inner();
        let phase = answer.phase().as_str_name();
        let phase = phase.strip_prefix("PHASE_").unwrap_or(phase).to_lowercase();
        Ok(Info { version: answer.version, phase, epoch: answer.epoch })
    }

    /// The types of a statement's parameters and columns, as each database prepares it.
    ///
    /// # Errors
    ///
    /// Where the sidecar refuses the statement, or does not answer.
    pub async fn describe(
        &self,
        statement: impl Into<Statement>,
    ) -> Result<Vec<Description>, Error> {
        let statement = statement.into();
        let none: [&(dyn ToValue + Sync); 0] = [];
        let request = proto::DescribeRequest { statement: Some(statement.with(&none)?) };
        let named = Named { method: "describe", statement: Some(&statement) };
        let made = self.repeat(named, Repeating::Safe, self.deadline(), |mut attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.stub.describe(request).await.map_err(|status| failure_of(&status)) }
        });
        let answer = made.await.map_err(unwritten)?.into_inner();
        Ok(answer.sides.into_iter().map(Description::of).collect())
    }
}

/// What a sidecar is, and where its migration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The sidecar's version.
    pub version: String,
    /// The phase, as `segue phase` names it: `dual_write`.
    pub phase: String,
    /// Rises with every change of the phase or of the share of reads.
    pub epoch: u64,
}

/// How one database prepares a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Which database.
    pub side: Option<Side>,
    /// Type names in the order of `$1`, `$2`, …
    pub parameter_types: Vec<String>,
    /// The columns of its rows.
    pub columns: Vec<Column>,
    /// Set where this database cannot prepare the statement.
    pub error: Option<String>,
}

impl Description {
    fn of(told: proto::SideDescription) -> Self {
        Self {
            side: side_of(told.side()),
            parameter_types: told.parameter_types,
            columns: told.columns.into_iter().map(Column::of).collect(),
            error: told.error.map(|it| it.message),
        }
    }
}
