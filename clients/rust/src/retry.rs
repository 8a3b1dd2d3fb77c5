//! Transactions that are run again on serialization failures.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use crate::client::Client;
use crate::error::Error;
use crate::repeat::jittered;
use crate::transaction::Transaction;
use crate::transaction_options::TransactionOptions;

const CONFLICT_MIN: Duration = Duration::from_millis(10);
const CONFLICT_MAX: Duration = Duration::from_secs(1);
/// The transaction runs on one side, and a statement's tables are on the other.
const TRANSACTION_SIDE: &str = "refused.transaction_side";

/// An error of a function that [`Client::transaction`] runs: [`Error`], `Box<dyn std::error::Error + Send + Sync>`, or
/// one of yours that may have an [`Error`] in it.
pub trait TransactionError: From<Error> {
    /// The client's error in it, which says whether the transaction may be run again.
    fn segue_error(&self) -> Option<&Error>;
}

impl TransactionError for Error {
    fn segue_error(&self) -> Option<&Error> {
        Some(self)
    }
}

impl TransactionError for Box<dyn StdError + Send + Sync> {
    fn segue_error(&self) -> Option<&Error> {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(self.as_ref());
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

impl Client {
    /// Runs a function in a transaction with default options, and commits: see [`Client::transaction_with`].
    ///
    /// # Errors
    ///
    /// What the function or the commit failed with.
    pub async fn transaction<T, E, F, A>(&self, run: F) -> Result<T, E>
    where
        F: FnMut(Transaction) -> A,
        A: Future<Output = Result<T, E>>,
        E: TransactionError,
    {
        self.transaction_with(&TransactionOptions::default(), run).await
    }

    /// Runs a function in a transaction, and commits. Where anything fails with an error that
    /// [is retryable](Error::is_retryable), all of it is rolled back and run again, after a pause that grows and is
    /// never the same for two. Where the function has committed, and where no one knows whether the commit took
    /// effect, it is not run again, whatever the error says.
    ///
    /// Its first call begins the transaction, and a call of [`Transaction::last`] commits it: no other round trips
    /// are made.
    ///
    /// # Errors
    ///
    /// What the function or the commit failed with.
    pub async fn transaction_with<T, E, F, A>(
        &self,
        options: &TransactionOptions,
        mut run: F,
    ) -> Result<T, E>
    where
        F: FnMut(Transaction) -> A,
        A: Future<Output = Result<T, E>>,
        E: TransactionError,
    {
        let (mut pause, mut moved) = (CONFLICT_MIN, false);
        let mut attempts = options.attempts.max(1);
        loop {
            let transaction = self.begin(options)?;
            let made = match run(transaction.clone()).await {
                Ok(answer) => transaction.commit().await.map(|()| answer).map_err(E::from),
                Err(error) => Err(error),
            };
            let Err(error) = made else { return made };
            let took_effect = transaction.took_effect();
            // What it cannot reach, the sidecar rolls back by itself: the first error is the one that matters.
            let _ = transaction.rollback().await;
            attempts -= 1;
            let Some(failure) = error.segue_error() else { return Err(error) };
            if attempts == 0 || took_effect {
                return Err(error);
            }
            if !failure.is_retryable() {
                // Where the primary changed after its first statement, a transaction is refused as one that needs
                // both sides. Only a second run tells the two apart.
                if moved || failure.reason != TRANSACTION_SIDE {
                    return Err(error);
                }
                moved = true;
            }
            tokio::time::sleep(jittered(pause.max(failure.retry_delay.unwrap_or_default()))).await;
            pause = (pause * 2).min(CONFLICT_MAX);
        }
    }
}
