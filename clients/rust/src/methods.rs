//! The calls, with the same names outside transactions and in them.

use serde::de::DeserializeOwned;

use crate::batch::{Batch, BatchDone, Done};
use crate::client::Client;
use crate::error::Error;
use crate::params::ToValue;
use crate::row::Row;
use crate::rows::Rows;
use crate::statement::Statement;
use crate::transaction::{Place, Transaction};

impl Client {
    async fn place(&self) -> Result<Place, Error> {
        Ok(Place::Outside)
    }

    fn caller(&self) -> &Self {
        self
    }
}

impl Transaction {
    async fn place(&self) -> Result<Place, Error> {
        self.enter().await
    }

    fn caller(&self) -> &Client {
        &self.client
    }
}

macro_rules! calls {
    ($on:ident) => {
        impl $on {
            /// Runs a read and gives all its rows. A statement that would write is refused: run it by `execute`.
            ///
            /// # Errors
            ///
            /// What the call failed with.
            pub async fn query(
                &self,
                statement: impl Into<Statement>,
                params: &[&(dyn ToValue + Sync)],
            ) -> Result<Vec<Row>, Error> {
                let statement = statement.into();
                // Before the transaction is asked: what cannot be sent leaves it as it is.
                let made = statement.with(params)?;
                self.caller().run_whole_query(self.place().await?, &statement, made).await
            }

            /// Runs a read and gives its rows as a type of serde: see [`Row::read`].
            ///
            /// # Errors
            ///
            /// What the call failed with, and [`Error::Usage`] where a row does not fit the type.
            pub async fn query_as<T: DeserializeOwned>(
                &self,
                statement: impl Into<Statement>,
                params: &[&(dyn ToValue + Sync)],
            ) -> Result<Vec<T>, Error> {
                self.query(statement, params).await?.into_iter().map(Row::read).collect()
            }

            /// Runs a read of one row at most.
            ///
            /// # Errors
            ///
            /// What the call failed with, and [`Error::Usage`] where there are more rows.
            pub async fn query_opt(
                &self,
                statement: impl Into<Statement>,
                params: &[&(dyn ToValue + Sync)],
            ) -> Result<Option<Row>, Error> {
                let mut rows = self.query(statement, params).await?;
                match rows.len() {
                    0 | 1 => Ok(rows.pop()),
                    count => Err(Error::usage(format!("expected one row at most, found {count}"))),
                }
            }

            /// Runs a read of exactly one row.
            ///
            /// # Errors
            ///
            /// What the call failed with, and [`Error::Usage`] where there is no row, or more than one.
            pub async fn query_one(
                &self,
                statement: impl Into<Statement>,
                params: &[&(dyn ToValue + Sync)],
            ) -> Result<Row, Error> {
                let row = self.query_opt(statement, params).await?;
                row.ok_or_else(|| Error::usage("expected one row, found none"))
            }

            /// Runs a read whose rows come while they are read.
            ///
            /// # Errors
            ///
            /// What the call failed with before its first row.
            pub async fn stream(
                &self,
                statement: impl Into<Statement>,
                params: &[&(dyn ToValue + Sync)],
            ) -> Result<Rows, Error> {
                let statement = statement.into();
                let made = statement.with(params)?;
                self.caller().run_stream(self.place().await?, &statement, made).await
            }

            /// Runs a write, or any statement inside a transaction.
            ///
            /// # Errors
            ///
            /// What the call failed with.
            pub async fn execute(
                &self,
                statement: impl Into<Statement>,
                params: &[&(dyn ToValue + Sync)],
            ) -> Result<Done, Error> {
                let statement = statement.into();
                let made = statement.with(params)?;
                self.caller().run_execute(self.place().await?, &statement, made).await
            }

            /// Runs several writes in one call: all or none.
            ///
            /// # Errors
            ///
            /// What the call failed with.
            pub async fn batch(&self, batch: &Batch) -> Result<BatchDone, Error> {
                let made = batch.proto()?;
                self.caller().run_batch(self.place().await?, made).await
            }
        }
    };
}

calls!(Client);
calls!(Transaction);
