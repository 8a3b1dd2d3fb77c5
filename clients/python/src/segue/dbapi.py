"""PEP 249 over segue, with psycopg's placeholders: %s and %(name)s.

A transaction begins with the first statement after `connect`, `commit` or `rollback`, at no cost
of its own. Inside a transaction all statements run on the primary; reads that may be answered by
either database, and sampled, are those of a connection with `autocommit`.
"""

from __future__ import annotations

import datetime as dt
import time as _time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import segue
from segue import _core as core
from segue._paramstyle import convert, looks_like_read
from segue._results import Result
from segue.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
)

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]

apilevel = "2.0"
threadsafety = 1
"""Threads may share the module; a connection has one transaction."""
paramstyle = "pyformat"
"""`format` (%s) works as well."""

Params = Sequence[Any] | Mapping[str, Any]

# Well below the sidecar's limits for one batch, `limits.batch_statements_max` and
# `limits.request_bytes_max`.
_BATCH_STATEMENTS = 500
_BATCH_BYTES = 4 * 1024 * 1024


class TypeObject:
    """Equal to the type codes of its kind."""

    def __init__(self, name: str, *oids: int) -> None:
        self.name = name
        self.oids = frozenset(oids)

    def __eq__(self, other: object) -> bool:
        return self is other or other in self.oids

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


STRING = TypeObject("STRING", 18, 19, 25, 1042, 1043)
BINARY = TypeObject("BINARY", 17)
NUMBER = TypeObject("NUMBER", 20, 21, 23, 700, 701, 790, 1700)
DATETIME = TypeObject("DATETIME", 1082, 1083, 1114, 1184, 1186, 1266)
ROWID = TypeObject("ROWID", 26)

Date = dt.date
Time = dt.time
Timestamp = dt.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> dt.date:
    """The local day of seconds since 1970."""
    return dt.date(*_time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> dt.time:
    """The local time of the day of seconds since 1970."""
    return dt.time(*_time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> dt.datetime:
    """The local time of seconds since 1970."""
    return dt.datetime(*_time.localtime(ticks)[:6])


def connect(
    url: str = "", *, autocommit: bool = False, isolation_level: str = "", **options: Any
) -> Connection:
    """Connects to a sidecar; the options are those of `segue.connect`."""
    return Connection(
        segue.connect(url, **options), autocommit=autocommit, isolation_level=isolation_level
    )


class Connection:
    """A connection with at most one transaction."""

    Warning = Warning
    Error = Error
    InterfaceError = InterfaceError
    DatabaseError = DatabaseError
    DataError = DataError
    OperationalError = OperationalError
    IntegrityError = IntegrityError
    InternalError = InternalError
    ProgrammingError = ProgrammingError
    NotSupportedError = NotSupportedError

    def __init__(
        self, native: segue.Connection, *, autocommit: bool = False, isolation_level: str = ""
    ) -> None:
        self.native = native
        """The connection below, for what PEP 249 does not have."""
        self.read_only = False
        """Whether the next transactions refuse writes."""
        self._transaction: segue.Transaction | None = None
        self._autocommit = autocommit
        self._isolation_level = ""
        self.isolation_level = isolation_level

    @property
    def autocommit(self) -> bool:
        """Whether each statement is committed by itself."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self._check_no_transaction("autocommit")
        self._autocommit = value

    @property
    def isolation_level(self) -> str:
        """The isolation level of the next transactions; empty for the database's default."""
        return self._isolation_level

    @isolation_level.setter
    def isolation_level(self, value: str) -> None:
        self._check_no_transaction("isolation_level")
        core.transaction_options(value)
        self._isolation_level = value

    def _check_no_transaction(self, name: str) -> None:
        if self.in_transaction:
            raise ProgrammingError(
                f"{name} cannot be changed in a transaction: commit or roll back first"
            )

    @property
    def in_transaction(self) -> bool:
        """Whether a statement has begun a transaction that has not ended."""
        return self._transaction is not None and bool(self._transaction.id)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.native.closed

    def cursor(self) -> Cursor:
        """A new cursor."""
        self._check()
        return Cursor(self)

    def execute(self, query: str, params: Params | None = None) -> Cursor:
        """Runs a statement with a new cursor."""
        return self.cursor().execute(query, params)

    def commit(self) -> None:
        """Commits what was run since the last commit."""
        self._check()
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.commit()

    def rollback(self) -> None:
        """Undoes what was run since the last commit."""
        self._check()
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.rollback()

    def cancel(self) -> None:
        """Cancels what runs on this connection. Another thread may call it."""
        self.native.cancel()

    def close(self) -> None:
        """Closes the connection; what was not committed is rolled back."""
        if self.native.closed:
            return
        try:
            self.rollback()
        except Error:
            # The sidecar rolls back what nobody goes on with.
            pass
        finally:
            self.native.close()

    def _check(self) -> None:
        if self.native.closed:
            raise InterfaceError("the connection is closed")

    def _where(self) -> Any:
        """What takes the next statement."""
        self._check()
        if self._autocommit:
            return self.native
        if self._transaction is None or self._transaction.closed:
            self._transaction = self.native.transaction(
                isolation=self._isolation_level, read_only=self.read_only
            )
        return self._transaction

    def _run(self, sql: str, values: Sequence[Any]) -> Result:
        """Runs a statement by the call that takes it."""
        where = self._where()
        writing = self.native._session.writing
        if looks_like_read(sql) and not writing.get(sql):
            try:
                found: Result = where.query(sql, *values)
                return found
            except Error as error:
                # Nothing was run: SELECT … FOR UPDATE, or WITH … INSERT.
                if error.reason != "refused.write_in_query":
                    raise
                writing.learn(sql, True)
                where = self._where()
        done: Result = where.execute(sql, *values)
        return done

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """As psycopg: commits or rolls back, and closes."""
        if self.native.closed:
            return
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()


Description = tuple[str, int, None, int | None, int | None, int | None, None]

_NUMERIC = 1700
_VARCHARS = (1042, 1043)
# PostgreSQL counts its own header as part of the modifier.
_MODIFIER_HEADER = 4


def _described(column: segue.Column) -> Description:
    size = precision = scale = None
    modifier = column.type_modifier - _MODIFIER_HEADER
    if column.type_modifier >= 0 and column.type_oid == _NUMERIC:
        precision, scale = modifier >> 16, modifier & 0x7FF
    elif column.type_modifier >= 0 and column.type_oid in _VARCHARS:
        size = modifier
    return (column.name, column.type_oid, None, size, precision, scale, None)


class Cursor:
    """Runs statements and holds the rows of the last one."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        """The connection that made it."""
        self.arraysize = 1
        """Rows that `fetchmany` gives by itself."""
        self.rowcount = -1
        """Rows that the last statement gave or changed."""
        self.description: list[Description] | None = None
        """The columns of the last statement; nothing where it gives no rows."""
        self.lastrowid: None = None
        """Always nothing: use RETURNING."""
        self.result: Result | None = None
        """The last answer, with its write id and side."""
        self._rows: list[tuple[Any, ...]] | None = None
        self._at = 0
        self._stream: segue.Stream | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def rownumber(self) -> int | None:
        """The index of the next row."""
        return None if self._rows is None else self._at

    def close(self) -> None:
        """Closes it; its rows are gone."""
        self._forget()
        self._closed = True

    def execute(self, query: str, params: Params | None = None) -> Cursor:
        """Runs a statement. All its rows are read; for more than memory holds, use `stream`."""
        self._check()
        sql, values = convert(query, params)
        return self.execute_dollar(sql, values)

    def execute_dollar(self, sql: str, values: Sequence[Any] = ()) -> Cursor:
        """Runs a statement that has PostgreSQL's own placeholders, $1, $2, …"""
        self._check()
        self._forget()
        self._take(self.connection._run(sql, values))
        return self

    def executemany(self, query: str, params_seq: Iterable[Params]) -> Cursor:
        """Runs a write with each of several parameters, by as few calls as the limits allow."""
        self._check()
        return self._many(query, (convert(query, params) for params in params_seq))

    def executemany_dollar(self, sql: str, values_seq: Iterable[Sequence[Any]]) -> Cursor:
        """The same with PostgreSQL's own placeholders."""
        self._check()
        return self._many(sql, ((sql, list(values)) for values in values_seq))

    def _many(self, query: str, statements: Iterable[tuple[str, list[Any]]]) -> Cursor:
        self._forget()
        count = 0
        if looks_like_read(query):
            for sql, values in statements:
                self._take(self.connection._run(sql, values))
                count += max(self.rowcount, 0)
            self.rowcount = count
            return self
        for batch in _batches(statements):
            done = self.connection._where().batch(batch)
            count += sum(result.affected_rows for result in done)
        self.rowcount = count
        return self

    def stream(self, query: str, params: Params | None = None) -> Iterator[tuple[Any, ...]]:
        """Runs a read and gives its rows as they come. Read them before the next statement."""
        self._check()
        self._forget()
        sql, values = convert(query, params)
        self.open_stream(sql, values)
        return iter(self)

    def open_stream(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Runs a read with $1, $2, …, whose rows the fetch methods take as they come."""
        self._forget()
        writing = self.connection.native._session.writing
        if not looks_like_read(sql) or writing.get(sql):
            self._take(self.connection._run(sql, values))
            return
        try:
            self._stream = self.connection._where().stream(sql, *values)
        except Error as error:
            if error.reason != "refused.write_in_query":
                raise
            # It has few rows as a rule: SELECT … FOR UPDATE, say.
            self._take(self.connection._run(sql, values))
            return
        self.description = [_described(column) for column in self._stream.columns]

    def _take(self, result: Result) -> None:
        self.result = result
        self.rowcount = result.affected_rows
        if result.columns:
            self.description = [_described(column) for column in result.columns]
            self._rows = result.rows

    def _forget(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        self._rows = None
        self._at = 0
        self.description = None
        self.rowcount = -1
        self.result = None

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        self.connection._check()

    def _check_rows(self) -> list[tuple[Any, ...]]:
        self._check()
        if self._rows is None:
            raise ProgrammingError("there are no rows: the last statement gives none")
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, or None."""
        if self._stream is not None:
            return next(self._stream, None)
        rows = self._check_rows()
        if self._at >= len(rows):
            return None
        self._at += 1
        return rows[self._at - 1]

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next rows, at most `size`."""
        count = self.arraysize if size is None else size
        if self._stream is not None:
            return [row for _, row in zip(range(count), self._stream, strict=False)]
        rows = self._check_rows()
        found = rows[self._at : self._at + count]
        self._at += len(found)
        return found

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        if self._stream is not None:
            return list(self._stream)
        rows = self._check_rows()
        found = rows[self._at :] if self._at else rows
        self._at = len(rows)
        # The list is the caller's: rows that were fetched are not kept.
        if found is rows:
            self._rows, self._at = [], 0
        return found

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (row := self.fetchone()) is not None:
            yield row

    def setinputsizes(self, sizes: Any) -> None:
        """Does nothing: the database says the types."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Does nothing: values are never cut."""

    def nextset(self) -> None:
        """There is no other set: a statement gives one."""
        return

    def __enter__(self) -> Cursor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _batches(statements: Iterable[tuple[str, list[Any]]]) -> Iterator[list[Any]]:
    """Statements by batches that the sidecar takes."""
    batch: list[Any] = []
    size = 0
    for sql, values in statements:
        made = core.statement_of(sql, values)
        if batch and (len(batch) >= _BATCH_STATEMENTS or size + made.ByteSize() > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((made, ()))
        size += made.ByteSize()
    if batch:
        yield batch
