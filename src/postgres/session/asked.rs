//! What a session is asked, and what it answers, in segue's terms.
//!
//! Whatever fails here is a [`SqlFault`] already, made in one place: by [`Session::fault`], which knows the
//! session's side and the server's last words.

use std::fmt;

use tokio_postgres::row::RowIndex;
use tokio_postgres::types::{BorrowToSql, FromSql, ToSql, Type};
use tokio_postgres::{SimpleQueryMessage, Statement, ToStatement};

use super::Session;
use super::fault;
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;

/// Parameters of a statement.
type Params<'a> = [&'a (dyn ToSql + Sync)];
/// The same with their types, for statements that are not prepared first.
type TypedParams<'a> = [(&'a (dyn ToSql + Sync), Type)];

/// A session that is asked something.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    session: &'a Session,
    /// Whether a lost connection leaves in doubt what was asked for.
    changes: bool,
}

/// A row of an answer.
pub struct Row {
    row: tokio_postgres::Row,
    side: Side,
    changes: bool,
}

// === impl Row ===

impl Row {
    /// The value of a column.
    ///
    /// # Errors
    ///
    /// There is no such column, or its value is not of that type.
    pub fn try_get<'a, I, T>(&'a self, column: I) -> Result<T, SqlFault>
    where
        I: RowIndex + fmt::Display,
        T: FromSql<'a>,
    {
        self.row.try_get(column).map_err(|error| {
            let message = format!("the answer cannot be read: {error}");
            SqlFault { message, ..fault::from_error(error, self.side, self.changes) }
        })
    }

    /// How many columns it has.
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// Its columns.
    pub fn columns(&self) -> &[tokio_postgres::Column] {
        self.row.columns()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row.fmt(f)
    }
}

// === impl Asked ===

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("session", self.session)
            .field("changes", &self.changes)
            .finish()
    }
}

impl Asked<'_> {
    fn fault(&self, error: tokio_postgres::Error) -> SqlFault {
        self.session.fault(error, self.changes)
    }

    fn row(&self, row: tokio_postgres::Row) -> Row {
        Row { row, side: self.session.side(), changes: self.changes }
    }

    /// Runs a statement; gives its rows.
    ///
    /// # Errors
    ///
    /// What the server says, or that it cannot be heard.
    pub async fn query<S>(&self, statement: &S, params: &Params<'_>) -> Result<Vec<Row>, SqlFault>
    where
        S: ?Sized + ToStatement + Sync,
    {
        let rows = self.session.driver().query(statement, params).await;
        let rows = rows.map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(|row| self.row(row)).collect())
    }

    /// The same where it gives one row.
    ///
    /// # Errors
    ///
    /// As [`Asked::query`], or another number of rows.
    pub async fn query_one<S>(&self, statement: &S, params: &Params<'_>) -> Result<Row, SqlFault>
    where
        S: ?Sized + ToStatement + Sync,
    {
        let row = self.session.driver().query_one(statement, params).await;
        row.map(|row| self.row(row)).map_err(|error| self.fault(error))
    }

    /// The same where it gives one row at most.
    ///
    /// # Errors
    ///
    /// As [`Asked::query`], or more rows.
    pub async fn query_opt<S>(
        &self,
        statement: &S,
        params: &Params<'_>,
    ) -> Result<Option<Row>, SqlFault>
    where
        S: ?Sized + ToStatement + Sync,
    {
        let row = self.session.driver().query_opt(statement, params).await;
        row.map(|row| row.map(|row| self.row(row))).map_err(|error| self.fault(error))
    }

    /// Runs a statement that is not prepared first, with the types of its parameters.
    ///
    /// # Errors
    ///
    /// As [`Asked::query`].
    pub async fn query_typed(
        &self,
        sql: &str,
        params: &TypedParams<'_>,
    ) -> Result<Vec<Row>, SqlFault> {
        let rows = self.session.driver().query_typed(sql, params).await;
        let rows = rows.map_err(|error| self.fault(error))?;
        Ok(rows.into_iter().map(|row| self.row(row)).collect())
    }

    /// Runs a statement; gives how many rows it concerned.
    ///
    /// # Errors
    ///
    /// As [`Asked::query`].
    pub async fn execute<S>(&self, statement: &S, params: &Params<'_>) -> Result<u64, SqlFault>
    where
        S: ?Sized + ToStatement + Sync,
    {
        let rows = self.session.driver().execute(statement, params).await;
        rows.map_err(|error| self.fault(error))
    }

    /// The same of one that is not prepared first.
    ///
    /// # Errors
    ///
    /// As [`Asked::query`].
    pub async fn execute_typed(
        &self,
        sql: &str,
        params: &TypedParams<'_>,
    ) -> Result<u64, SqlFault> {
        let rows = self.session.driver().execute_typed(sql, params).await;
        rows.map_err(|error| self.fault(error))
    }

    /// Runs statements for nothing but their effect.
    ///
    /// # Errors
    ///
    /// As [`Asked::query`].
    pub async fn batch_execute(&self, sql: &str) -> Result<(), SqlFault> {
        self.session.driver().batch_execute(sql).await.map_err(|error| self.fault(error))
    }

    /// Runs statements; gives what the server answers as texts.
    ///
    /// # Errors
    ///
    /// As [`Asked::query`].
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, SqlFault> {
        self.session.driver().simple_query(sql).await.map_err(|error| self.fault(error))
    }
}

/// What may change something: a lost connection leaves in doubt whether it did.
impl Session {
    /// The same for what may simply be asked again: a connection that is lost meanwhile counts as
    /// one that was not there, and nothing is in doubt.
    pub fn repeatable(&self) -> Asked<'_> {
        Asked { session: self, changes: false }
    }

    fn changing(&self) -> Asked<'_> {
        Asked { session: self, changes: true }
    }

    /// Prepares a statement that is not kept.
    ///
    /// # Errors
    ///
    /// What the server says, or that it cannot be heard.
    pub(in crate::postgres) async fn prepare_once(&self, sql: &str) -> Result<Statement, SqlFault> {
        self.driver().prepare(sql).await.map_err(|error| self.fault(error, true))
    }

    /// See [`Asked::query`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn query<S>(&self, statement: &S, params: &Params<'_>) -> Result<Vec<Row>, SqlFault>
    where
        S: ?Sized + ToStatement + Sync,
    {
        self.changing().query(statement, params).await
    }

    /// See [`Asked::query_one`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn query_one<S>(&self, statement: &S, params: &Params<'_>) -> Result<Row, SqlFault>
    where
        S: ?Sized + ToStatement + Sync,
    {
        self.changing().query_one(statement, params).await
    }

    /// See [`Asked::query_opt`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn query_opt<S>(
        &self,
        statement: &S,
        params: &Params<'_>,
    ) -> Result<Option<Row>, SqlFault>
    where
        S: ?Sized + ToStatement + Sync,
    {
        self.changing().query_opt(statement, params).await
    }

    /// See [`Asked::execute`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn execute<S>(&self, statement: &S, params: &Params<'_>) -> Result<u64, SqlFault>
    where
        S: ?Sized + ToStatement + Sync,
    {
        self.changing().execute(statement, params).await
    }

    /// The same with parameters that are given up as they are sent.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn execute_raw<S, P, I>(&self, statement: &S, params: I) -> Result<u64, SqlFault>
    where
        S: ?Sized + ToStatement + Sync,
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator,
    {
        let rows = self.driver().execute_raw(statement, params).await;
        rows.map_err(|error| self.fault(error, true))
    }

    /// See [`Asked::execute_typed`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn execute_typed(
        &self,
        sql: &str,
        params: &TypedParams<'_>,
    ) -> Result<u64, SqlFault> {
        self.changing().execute_typed(sql, params).await
    }

    /// See [`Asked::batch_execute`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), SqlFault> {
        self.changing().batch_execute(sql).await
    }

    /// See [`Asked::simple_query`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, SqlFault> {
        self.changing().simple_query(sql).await
    }
}
