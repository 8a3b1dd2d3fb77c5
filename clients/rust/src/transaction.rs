//! Transactions: the first call begins one, the last one may commit it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turns, OwnedMutexGuard};
use tonic::Code;

use crate::calls::Unary;
use crate::client::Client;
use crate::error::{CLIENT, Error, Failure, Outcome};
use crate::protocol as proto;
use crate::protocol::transaction_selector::Selector;
use crate::repeat::Repeating;
use crate::status::failure_of;
use crate::trace::Named;
use crate::transaction_options::TransactionOptions;

/// Bounds a rollback, which no caller's deadline covers. What it does not reach, the sidecar rolls back by itself.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(10);
const NOT_FOUND: &str = "transaction.not_found";
const IN_USE: &str = "transaction.in_use";
const FAILED_SQLSTATE: &str = "25P02";

/// A transaction. Nothing is sent before its first call, which begins it; where that fails, the next one does.
///
/// [`Client::transaction`] makes one, commits it and runs it again where that is safe. One that is dropped without
/// a commit is rolled back. Dropping the future of one of its calls ends it.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub(crate) client: Client,
    pub(crate) shared: Arc<Shared>,
    /// The next call commits.
    pub(crate) commits: bool,
}

/// What all handles of a transaction share.
#[derive(Debug)]
pub(crate) struct Shared {
    client: Client,
    options: proto::TransactionOptions,
    /// Held while a call is made: which of two would begin it is nothing that a caller can mean.
    turn: Arc<Turns<()>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Why it was rolled back without having been asked to.
    failed: Option<Error>,
    /// A call is under way; it commits, or not. Found set at the start of another call, it says that
    /// the future of the first one was dropped.
    calling: Option<bool>,
    /// The rows of an answer are being read.
    reading: bool,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Phase {
    #[default]
    New,
    Open(String),
    /// The answer of the call that commits is being read.
    Committing,
    Committed,
    RolledBack,
}

/// Where a call runs: outside transactions, or in one, whose turn it has.
#[derive(Debug)]
pub(crate) enum Place {
    Outside,
    In { inside: Inside, begins: bool, _turn: OwnedMutexGuard<()> },
}

/// A call in a transaction.
#[derive(Debug)]
pub(crate) struct Inside {
    shared: Arc<Shared>,
    commits: bool,
}

impl Client {
    /// Makes a transaction. Nothing is sent: its first call begins it.
    ///
    /// # Errors
    ///
    /// Options that cannot be used.
    pub fn begin(&self, options: &TransactionOptions) -> Result<Transaction, Error> {
        let shared = Shared {
            client: self.clone(),
            options: options.proto()?,
            turn: Arc::default(),
            state: Mutex::default(),
        };
        Ok(Transaction { client: self.clone(), shared: Arc::new(shared), commits: false })
    }
}

impl Transaction {
    /// The same transaction, whose next call commits it in the same round trip. A call that fails rolls it back.
    #[must_use]
    pub fn last(&self) -> Self {
        Self { commits: true, ..self.clone() }
    }

    /// The same transaction, whose calls may take so long.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { client: self.client.with_timeout(timeout), ..self.clone() }
    }

    /// Commits. After a call of [`Transaction::last`], and where there was no call, nothing is sent.
    ///
    /// # Errors
    ///
    /// [`Error::OutcomeUnknown`] where no one can tell whether it was committed; it is never repeated by itself.
    pub async fn commit(&self) -> Result<(), Error> {
        {
            let mut state = self.shared.state();
            if state.failed.is_none() && !state.reading {
                match state.phase {
                    // Nothing was done in it.
                    Phase::New if state.calling.is_none() => {
                        state.phase = Phase::Committed;
                        return Ok(());
                    }
                    Phase::Committed => return Ok(()),
                    _ => {}
                }
            }
        }
        let place = self.shared.enter(true).await?;
        let Place::In { inside, .. } = &place else { return Ok(()) };
        let id = inside.shared.id().unwrap_or_default();
        let request = proto::CommitRequest { transaction_id: id, ..Default::default() };
        let named = Named::method(proto::CommitRequest::METHOD);
        let made =
            self.client.unary(named, request, Repeating::Never, self.client.deadline()).await;
        place.leave("", made.map(drop))
    }

    /// Rolls back. It does nothing where the transaction has ended.
    ///
    /// # Errors
    ///
    /// Where no sidecar answers: it rolls back by itself then.
    pub async fn rollback(&self) -> Result<(), Error> {
        let _turn = Arc::clone(&self.shared.turn).lock_owned().await;
        let Some(id) = self.shared.end() else { return Ok(()) };
        match rolled_back(&self.shared.client, id).await {
            Err(failure) if failure.reason != NOT_FOUND => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// Whether it was committed, or may have been: what is run again would be there twice.
    pub(crate) fn took_effect(&self) -> bool {
        let state = self.shared.state();
        if let Some(error) = &state.failed {
            return error.outcome != Outcome::NotApplied;
        }
        state.calling == Some(true) || matches!(state.phase, Phase::Committing | Phase::Committed)
    }

    pub(crate) async fn enter(&self) -> Result<Place, Error> {
        self.shared.enter(self.commits).await
    }
}

async fn rolled_back(client: &Client, id: String) -> Result<(), Failure> {
    let client = client.with_timeout(ROLLBACK_TIMEOUT);
    let request = proto::RollbackRequest { transaction_id: id };
    let named = Named::method("rollback");
    client
        .repeat(named, Repeating::Safe, client.deadline(), |mut attempt| {
            let request = attempt.request(request.clone());
            async move {
                attempt.stub.rollback(request).await.map(drop).map_err(|status| failure_of(&status))
            }
        })
        .await
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self) -> Option<String> {
        match &self.state().phase {
            Phase::Open(id) => Some(id.clone()),
            _ => None,
        }
    }

    /// Takes the transaction for one call.
    async fn enter(self: &Arc<Self>, commits: bool) -> Result<Place, Error> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let mut state = self.state();
        if let Some(committed) = state.calling.take() {
            self.abandon(&mut state, dropped(committed));
        }
        usable(&state)?;
        state.calling = Some(commits);
        let begins = state.phase == Phase::New;
        drop(state);
        let inside = Inside { shared: Arc::clone(self), commits };
        Ok(Place::In { inside, begins, _turn: turn })
    }

    /// Ends the transaction without an answer, and lets its locks not wait for the idle timeout.
    fn abandon(&self, state: &mut State, why: Failure) {
        if let Phase::Open(id) = std::mem::replace(&mut state.phase, Phase::RolledBack) {
            self.tell(id);
        }
        state.reading = false;
        state.failed = Some(why.into());
    }

    /// Tells the sidecar that no one goes on with the transaction. It may be gone already: nothing is lost.
    fn tell(&self, id: String) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let client = self.client.clone();
            drop(runtime.spawn(async move { rolled_back(&client, id).await }));
        }
    }

    /// Its id, where it was open.
    fn end(&self) -> Option<String> {
        let mut state = self.state();
        let phase = match state.phase {
            Phase::Committed => Phase::Committed,
            _ => Phase::RolledBack,
        };
        match std::mem::replace(&mut state.phase, phase) {
            Phase::Open(id) => Some(id),
            _ => None,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(id) = self.end() {
            self.tell(id);
        }
    }
}

/// A call whose future was dropped before its answer.
fn dropped(committed: bool) -> Failure {
    let mut failure =
        Failure::new(Code::Cancelled, CLIENT, "a call of the transaction was cancelled");
    if committed {
        failure.outcome = Outcome::Unknown;
    }
    failure
}

fn usable(state: &State) -> Result<(), Error> {
    let (message, hint) = match (&state.failed, &state.phase) {
        (Some(error), _) => {
            let message =
                format!("the transaction was rolled back by an earlier error: {}", error.message);
            let mut failure = Failure::new(Code::FailedPrecondition, CLIENT, message);
            FAILED_SQLSTATE.clone_into(&mut failure.sqlstate);
            "run the whole transaction again".clone_into(&mut failure.hint);
            failure.retryable = error.is_retryable();
            return Err(failure.into());
        }
        _ if state.reading => (
            "the rows of an earlier call of the transaction are still being read",
            "read them to their end, or close them",
        ),
        (_, Phase::New | Phase::Open(_)) => return Ok(()),
        _ => ("the transaction has ended", ""),
    };
    let mut failure = Failure::new(Code::FailedPrecondition, CLIENT, message);
    hint.clone_into(&mut failure.hint);
    Err(failure.into())
}

impl Place {
    pub(crate) fn is_outside(&self) -> bool {
        matches!(self, Self::Outside)
    }

    /// Says to the sidecar where the call runs.
    pub(crate) fn selector(&self) -> Option<proto::TransactionSelector> {
        let Self::In { inside, begins, .. } = self else { return None };
        let selector = if *begins {
            Selector::Begin(inside.shared.options)
        } else {
            Selector::Id(inside.shared.id().unwrap_or_default())
        };
        Some(proto::TransactionSelector { commit: inside.commits, selector: Some(selector) })
    }

    /// When the call may be made again; `outside` is what holds outside transactions.
    pub(crate) fn repeating(&self, outside: Repeating) -> Repeating {
        match self {
            Self::Outside => outside,
            Self::In { inside, begins: true, .. } if inside.commits => Repeating::Unapplied,
            // Nothing came before it, and without a commit nothing stays of it.
            Self::In { begins: true, .. } => Repeating::Safe,
            Self::In { .. } => Repeating::Never,
        }
    }

    /// Notes what the call came to. `id` is that of the transaction that it began.
    pub(crate) fn leave<T>(self, id: &str, made: Result<T, Failure>) -> Result<T, Error> {
        let Self::In { inside, begins, _turn } = self else { return made.map_err(Into::into) };
        match made {
            Ok(answer) => {
                let mut state = inside.shared.state();
                state.calling = None;
                if inside.commits {
                    state.phase = Phase::Committed;
                } else if begins {
                    state.phase = Phase::Open(id.to_owned());
                }
                Ok(answer)
            }
            Err(failure) => Err(inside.noted(failure, begins, true)),
        }
    }

    /// As [`Place::leave`] for an answer that has begun, and whose rows are still to be read.
    pub(crate) fn opened(self, id: &str) -> Option<Inside> {
        let Self::In { inside, begins, _turn } = self else { return None };
        let mut state = inside.shared.state();
        state.calling = None;
        state.reading = true;
        if inside.commits {
            state.phase = Phase::Committing;
        } else if begins {
            state.phase = Phase::Open(id.to_owned());
        }
        drop(state);
        Some(inside)
    }
}

impl Inside {
    /// The rows were read to the footer.
    pub(crate) fn read_to_the_end(self) {
        let mut state = self.shared.state();
        state.reading = false;
        if self.commits && state.phase == Phase::Committing {
            state.phase = Phase::Committed;
        }
    }

    /// Reading the rows has failed.
    pub(crate) fn failed(self, failure: Failure) -> Error {
        self.noted(failure, false, false)
    }

    /// The rows were dropped before their end, which cancels the statement.
    pub(crate) fn left(self) {
        let mut state = self.shared.state();
        self.shared.abandon(&mut state, dropped(self.commits));
    }

    fn noted(&self, mut failure: Failure, begins: bool, reopens: bool) -> Error {
        let mut state = self.shared.state();
        state.calling = None;
        if failure.reason == IN_USE {
            return failure.into();
        }
        state.reading = false;
        if failure.lost && !self.commits {
            // Whatever the call did is rolled back: what did not come to its commit has no effect.
            failure.outcome = Outcome::NotApplied;
            failure.retryable = failure.code != Code::DeadlineExceeded;
        }
        let (lost, gone) = (failure.lost, failure.reason == NOT_FOUND);
        let applied = failure.outcome != Outcome::NotApplied;
        let error = Error::from(failure);
        if begins || self.commits || lost || gone {
            if reopens && begins && !applied {
                state.phase = Phase::New;
            } else {
                if let Phase::Open(id) = std::mem::replace(&mut state.phase, Phase::RolledBack)
                    && lost
                    && !self.commits
                {
                    self.shared.tell(id);
                }
                state.failed = Some(error.clone());
            }
        }
        error
    }
}
