//! Options of a new transaction.

use std::time::Duration;

use crate::error::Error;
use crate::protocol as proto;

/// Isolation levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// The database's default.
    #[default]
    Default,
    /// READ COMMITTED.
    ReadCommitted,
    /// REPEATABLE READ.
    RepeatableRead,
    /// SERIALIZABLE.
    Serializable,
}

/// Options of a new transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionOptions {
    /// The isolation level.
    pub isolation: Isolation,
    /// Refuses writes.
    pub read_only: bool,
    /// How long it may be without a call; none stands for the sidecar's limit.
    pub idle_timeout: Option<Duration>,
    /// How long it may be open; none stands for the sidecar's limit.
    pub total_timeout: Option<Duration>,
    /// How often [`Client::transaction_with`](crate::Client::transaction_with) runs its function at most.
    pub attempts: u32,
}

/// How often a function is run at most.
const DEFAULT_ATTEMPTS: u32 = 10;

impl Default for TransactionOptions {
    fn default() -> Self {
        Self {
            isolation: Isolation::Default,
            read_only: false,
            idle_timeout: None,
            total_timeout: None,
            attempts: DEFAULT_ATTEMPTS,
        }
    }
}

impl TransactionOptions {
    /// SERIALIZABLE, and otherwise the defaults.
    pub fn serializable() -> Self {
        Self { isolation: Isolation::Serializable, ..Self::default() }
    }

    pub(crate) fn proto(&self) -> Result<proto::TransactionOptions, Error> {
        let isolation = match self.isolation {
            Isolation::Default => proto::Isolation::Unspecified,
            Isolation::ReadCommitted => proto::Isolation::ReadCommitted,
            Isolation::RepeatableRead => proto::Isolation::RepeatableRead,
            Isolation::Serializable => proto::Isolation::Serializable,
        };
        let time = |it: Option<Duration>| {
            it.map(|it| it.try_into().map_err(|_| Error::usage("a timeout is out of range")))
                .transpose()
        };
        Ok(proto::TransactionOptions {
            isolation: isolation.into(),
            read_only: self.read_only,
            idle_timeout: time(self.idle_timeout)?,
            total_timeout: time(self.total_timeout)?,
        })
    }
}
