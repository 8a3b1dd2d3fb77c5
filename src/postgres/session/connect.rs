//! Opening sessions: hosts in order, TLS, login, then what the purpose asks for.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio_postgres::config::SslMode as DriverSslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::cancel::{Address, Canceller};
use super::driver::{Driver, Watch};
use super::expected::Expectation;
use super::fault::{self, not_admitted};
use super::settings::{Purpose, SessionLimits, session_sql};
use super::sync_batching::{Merging, MergingTls, Switch};
use super::{ServerFacts, Session, password, pooler, socket, tls};
use crate::dialect::Dialect;
use crate::domain::budget::ByteBudget;
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::dsn::{ChannelBinding, Dsn, Host, SslMode, TargetSession};
use crate::postgres::session::first_settings::FirstSettings;
use crate::value::{MONEY_SAMPLE_SQL, MoneyStyle};

/// Behind what a dialect asks, and [`MONEY_SAMPLE_SQL`].
const ISOLATION: &str = "pg_catalog.current_setting('default_transaction_isolation')";
const ISOLATION_INDEX: usize = 7;
const READ_COMMITTED: &str = "read committed";

/// Opens sessions with one database.
#[derive(Clone)]
pub struct Connector {
    side: Side,
    dsn: Arc<Dsn>,
    tls: MakeRustlsConnect,
    expectation: Expectation,
    /// Also takes the database as it was long ago.
    answers: ByteBudget,
    any_age: bool,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("side", &self.side)
            .field("dsn", &self.dsn.to_string())
            .finish_non_exhaustive()
    }
}

/// A connection that is open and logged in, but not yet a session.
struct Opened {
    client: Client,
    facts: ServerFacts,
    canceller: Canceller,
    watch: Arc<Watch>,
    merging: Option<Switch>,
    task: tokio::task::JoinHandle<()>,
}

// === impl Connector ===

impl Connector {
    /// A connector; certificates are read here, once.
    ///
    /// # Errors
    ///
    /// A sentence naming the file that cannot be used.
    pub fn new(side: Side, dsn: Dsn) -> Result<Self, String> {
        let tls = tls::connector(&dsn)?;
        let expectation = Expectation::default();
        let answers = ByteBudget::unlimited();
        Ok(Self { side, dsn: Arc::new(dsn), tls, expectation, answers, any_age: false })
    }

    /// Which database it connects to.
    pub fn side(&self) -> Side {
        self.side
    }

    /// What new sessions, of clones as well, are held against.
    pub fn expectation(&self) -> &Expectation {
        &self.expectation
    }

    /// Takes whatever database answers, to ask who the role is.
    #[must_use]
    pub fn unheld(&self) -> Self {
        Self { expectation: Expectation::default(), ..self.clone() }
    }

    /// Takes a database of any age, to find out about it.
    #[must_use]
    pub fn of_any_age(&self) -> Self {
        Self { any_age: true, ..self.clone() }
    }

    /// Has the answers of writes in its sessions share this memory.
    #[must_use]
    pub fn with_answers(&self, answers: &ByteBudget) -> Self {
        Self { answers: answers.clone(), ..self.clone() }
    }

    /// The connection string, which prints without its secrets.
    pub fn dsn(&self) -> &Dsn {
        &self.dsn
    }

    /// Opens a session with the usual limits of its purpose.
    ///
    /// # Errors
    ///
    /// `Unavailable` with the last host's reason; `Refused` behind a transaction pooler.
    pub async fn connect(&self, purpose: Purpose) -> Result<Session, SqlFault> {
        self.connect_with(purpose, SessionLimits::for_purpose(purpose)).await
    }

    /// Opens a session with limits of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`Connector::connect`].
    pub async fn connect_with(
        &self,
        purpose: Purpose,
        limits: SessionLimits,
    ) -> Result<Session, SqlFault> {
        let opened = Box::pin(self.open_wanted(purpose)).await?;
        self.check_pooler(&opened).await?;
        if !self.any_age {
            self.expectation.opened(opened.task.abort_handle());
        }
        let first = self.set_up(&opened, purpose, limits).await?;
        let Opened { client, facts, canceller, watch, merging, task } = opened;
        let session = Session::new(client, facts, canceller, watch, merging, task, purpose);
        session.set_answers(self.answers.clone());
        Ok(session.with_first_settings(first))
    }

    /// Sets the session up and looks whom it is with, in one round trip.
    async fn set_up(
        &self,
        opened: &Opened,
        purpose: Purpose,
        limits: SessionLimits,
    ) -> Result<FirstSettings, SqlFault> {
        let dialect = opened.facts.dialect;
        let mut sql = session_sql(purpose, limits, dialect);
        let is_held = self.expectation.is_set();
        if is_held {
            sql.push_str(dialect.and_whose());
        }
        let answer = opened.client.simple_query(&sql).await.map_err(|error| {
            let fault = fault::from_error(error, self.side, false);
            let absent = self.expectation.absent(self.side, &self.dsn, &fault);
            absent
                .unwrap_or_else(|| not_admitted(self.connect_fault(fault, "a session's settings")))
        })?;
        if is_held {
            self.expectation.check((self.side, &self.dsn), &answer, self.any_age)?;
        }
        Ok(FirstSettings::from_answer(&answer))
    }

    /// The first host that answers and is what `target_session_attrs` wants.
    async fn open_wanted(&self, purpose: Purpose) -> Result<Opened, SqlFault> {
        let wanted = self.dsn.target_session;
        let passes: &[TargetSession] = match wanted {
            TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
            _ => std::slice::from_ref(&wanted),
        };
        let mut last = None;
        for &pass in passes {
            for host in &self.dsn.hosts {
                match self.open_host(host, purpose).await {
                    Ok(opened) if fits(&opened.facts, pass) => return Ok(opened),
                    Ok(_) => last = Some(self.unwanted(host, pass)),
                    Err(fault) => last = Some(fault),
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            fault::unavailable(self.side, Reason::UnavailableConnect, "no host is named")
        }))
    }

    fn unwanted(&self, host: &Host, wanted: TargetSession) -> SqlFault {
        let message = format!("{host} is not the kind of session wanted ({wanted:?})");
        fault::unavailable(self.side, Reason::UnavailableTargetSession, message)
    }

    async fn open_host(&self, host: &Host, purpose: Purpose) -> Result<Opened, SqlFault> {
        let place = host.to_string();
        let failed = |reason: String| {
            fault::unavailable(
                self.side,
                Reason::UnavailableConnect,
                format!("cannot connect to {place}: {reason}"),
            )
        };
        let attempt = async {
            let addresses = addresses(host).await.map_err(|error| failed(error.to_string()))?;
            let mut last = failed("its name has no address".to_owned());
            for address in addresses {
                match self.open(host, address, purpose).await {
                    Ok(opened) => return Ok(opened),
                    Err(fault) => last = self.connect_fault(fault, &place),
                }
            }
            Err(last)
        };
        tokio::time::timeout(self.dsn.connect_timeout, attempt)
            .await
            .unwrap_or_else(|_| Err(failed("no answer within connect_timeout".to_owned())))
    }

    /// Whatever went wrong on the way to a session: no statement was sent.
    fn connect_fault(&self, mut fault: SqlFault, place: &str) -> SqlFault {
        fault.kind = FaultKind::Unavailable;
        fault.outcome = Outcome::NotApplied;
        fault.retryable = true;
        fault.reason = Reason::UnavailableConnect;
        fault.message = format!("cannot connect to {place}: {}", fault.message);
        fault.on(self.side)
    }

    async fn open(
        &self,
        host: &Host,
        address: Address,
        purpose: Purpose,
    ) -> Result<Opened, SqlFault> {
        let unavailable = |error: &io::Error| {
            let message = format!("error connecting to server: {error}");
            fault::unavailable(self.side, Reason::UnavailableConnect, message)
        };
        let config = self.driver_config(host)?;
        let socket = socket::open(&address).await.map_err(|error| unavailable(&error))?;
        // Only requests of callers are merged, so only they pay for being looked at.
        let switch = (purpose != Purpose::Own).then(Switch::default);
        let mut tls = self.tls.clone();
        let tls = <MakeRustlsConnect as MakeTlsConnect<socket::Socket>>::make_tls_connect(
            &mut tls, &host.name,
        )
        .map_err(|error| unavailable(&io::Error::other(error)))?;
        let tls = MergingTls { tls, switch: switch.clone() };
        let (client, connection) = config
            .connect_raw(Merging::new(socket, switch.clone()), tls)
            .await
            .map_err(|error| fault::from_error(error, self.side, false))?;
        let dialect = Dialect::of_reported(|name| connection.parameter(name));
        let watch = Arc::new(Watch::default());
        let task = tokio::spawn(Driver::new(connection, Arc::clone(&watch)));
        let answer = client
            .simple_query(&dialect.probe(&[MONEY_SAMPLE_SQL, ISOLATION]))
            .await
            .map_err(|error| fault::from_error(error, self.side, false))?;
        let facts = self.facts(&answer, dialect);
        // In any other isolation several requests of one piece would have one snapshot.
        let merging = switch.filter(|_| isolation(&answer) == Some(READ_COMMITTED));
        let canceller = Canceller {
            token: client.cancel_token(),
            address,
            hostname: host.name.clone(),
            tls: self.tls.clone(),
        };
        Ok(Opened { client, facts, canceller, watch, merging, task })
    }

    fn facts(&self, answer: &[SimpleQueryMessage], dialect: Dialect) -> ServerFacts {
        let text = |index: usize| text(answer, index).unwrap_or_default();
        ServerFacts {
            side: self.side,
            backend_pid: text(0).parse().unwrap_or_default(),
            dialect: dialect.with_version_num(text(3).parse().unwrap_or_default()),
            in_recovery: text(2) == "t",
            read_only: text(1) == "on",
            incarnation: text(4).to_owned(),
            backend_start: text(5).to_owned(),
            money_in_dollars: MoneyStyle::from_sample(text(6)).is_some(),
        }
    }

    fn driver_config(&self, host: &Host) -> Result<tokio_postgres::Config, SqlFault> {
        let dsn = &self.dsn;
        let mut config = tokio_postgres::Config::new();
        config
            .user(&dsn.user)
            .dbname(&dsn.database)
            .application_name(&dsn.application_name)
            .ssl_mode(match dsn.ssl_mode {
                // A unix socket has no TLS, and needs none.
                _ if host.is_unix() => DriverSslMode::Disable,
                SslMode::Disable => DriverSslMode::Disable,
                SslMode::Prefer => DriverSslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                    DriverSslMode::Require
                }
            })
            .channel_binding(match dsn.channel_binding {
                ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
                ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
                ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
            });
        if let Some(options) = &dsn.options {
            config.options(options);
        }
        let password = password::of(dsn, host)
            .map_err(|error| fault::unavailable(self.side, Reason::UnavailablePassword, error))?;
        if let Some(password) = password {
            config.password(password.expose());
        }
        Ok(config)
    }

    /// Refuses a transaction pooler. Only where the login's process id is not the server's
    /// does this cost more than a look.
    async fn check_pooler(&self, opened: &Opened) -> Result<(), SqlFault> {
        let announced = pooler::announced_process_id(&opened.canceller.token).await;
        if announced.is_ok_and(|announced| announced == opened.facts.backend_pid) {
            return Ok(());
        }
        let second = Box::pin(self.open_wanted(Purpose::Own)).await?;
        let pools = pooler::pools_transactions(&opened.client, &second.client);
        let found = match tokio::time::timeout(self.dsn.connect_timeout, pools).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                let fault = fault::from_error(error, self.side, false);
                return Err(self.connect_fault(fault, "the database through its pooler"));
            }
            // The second transaction holds the only server connection there is.
            Err(_) => true,
        };
        if !found {
            return Ok(());
        }
        Err(SqlFault::new(
            FaultKind::Refused,
            Reason::RefusedTransactionPooler,
            format!("a transaction pooler stands between segue and {}", self.dsn),
        )
        .with_hint(
            "connect to the server itself, or set the pooler to session mode (pool_mode=session)",
        )
        .on(self.side))
    }
}

fn text(answer: &[SimpleQueryMessage], index: usize) -> Option<&str> {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })?;
    row.try_get(index).ok().flatten()
}

/// How transactions of the session are isolated; nothing where it was not asked.
fn isolation(answer: &[SimpleQueryMessage]) -> Option<&str> {
    text(answer, ISOLATION_INDEX)
}

fn fits(facts: &ServerFacts, wanted: TargetSession) -> bool {
    let read_only = facts.read_only || facts.in_recovery;
    match wanted {
        TargetSession::Any | TargetSession::PreferStandby => true,
        TargetSession::ReadWrite => !read_only,
        TargetSession::ReadOnly => read_only,
        TargetSession::Primary => !facts.in_recovery,
        TargetSession::Standby => facts.in_recovery,
    }
}

async fn addresses(host: &Host) -> io::Result<Vec<Address>> {
    if host.is_unix() {
        let path = Path::new(&host.name).join(format!(".s.PGSQL.{}", host.port));
        return Ok(vec![Address::Unix(path)]);
    }
    let name = host.address.as_deref().unwrap_or(&host.name);
    let found = tokio::net::lookup_host((name, host.port)).await?;
    Ok(found.map(|address: SocketAddr| Address::Tcp(address)).collect())
}
