"""The dialect of SQLAlchemy 2 for URLs such as `postgresql+segue://127.0.0.1:7400`.

`postgresql+segue_async://` is the same for `create_async_engine`. The query part of the URL has the
options of `segue.connect`. What the sidecar refuses is refused here as well: DDL goes to both
databases directly, by `segue` itself.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import exc, pool
from sqlalchemy.dialects.postgresql import ARRAY as PG_ARRAY
from sqlalchemy.dialects.postgresql import (
    BYTEA,
    ENUM,
    INTERVAL,
    JSON,
    JSONB,
    OID,
    REGCLASS,
    ranges,
)
from sqlalchemy.dialects.postgresql import REGCONFIG as PG_REGCONFIG
from sqlalchemy.dialects.postgresql.base import PGDialect, PGExecutionContext
from sqlalchemy.dialects.postgresql.json import JSONPathType
from sqlalchemy.dialects.postgresql.pg_catalog import INT2VECTOR, OIDVECTOR, _SpaceVector
from sqlalchemy.sql import sqltypes
from sqlalchemy.util import concurrency

import segue
from segue import aio, dbapi
from segue.types import Range

__all__ = ["SegueAsyncDialect", "SegueDialect"]

# SQLAlchemy's own helper has another name in 2.1.
_await: Callable[[Any], Any] = getattr(concurrency, "await_", None) or concurrency.await_only

_FLOAT_OIDS = (700, 701, 1021, 1022)


class _String(sqltypes.String):
    render_bind_cast = True


class _Integer(sqltypes.Integer):
    render_bind_cast = True


class _SmallInteger(sqltypes.SmallInteger):
    render_bind_cast = True


class _BigInteger(sqltypes.BigInteger):
    render_bind_cast = True


class _Boolean(sqltypes.Boolean):
    render_bind_cast = True


def _midnight(value: Any) -> Any:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return dt.datetime.combine(value, dt.time())
    return value


class _DateTime(sqltypes.DateTime):
    render_bind_cast = True

    def bind_processor(self, dialect: Any) -> Callable[[Any], Any]:
        """A date is its midnight, as PostgreSQL casts it."""
        return _midnight


class _Date(sqltypes.Date):
    render_bind_cast = True

    def bind_processor(self, dialect: Any) -> Callable[[Any], Any]:
        """A datetime is its day, as PostgreSQL casts it."""
        return lambda value: value.date() if isinstance(value, dt.datetime) else value


class _Time(sqltypes.Time):
    render_bind_cast = True


class _Interval(INTERVAL):
    render_bind_cast = True


class _Bytes(BYTEA):
    render_bind_cast = True


class _Enum(ENUM):
    render_bind_cast = True


class _Array(PG_ARRAY):  # type: ignore[type-arg]
    render_bind_cast = True


class _Int2Vector(_SpaceVector, INT2VECTOR):
    pass


class _OidVector(_SpaceVector, OIDVECTOR):
    pass


class _Oid(OID):
    render_bind_cast = True


class _RegClass(REGCLASS):
    render_bind_cast = True


class _RegConfig(PG_REGCONFIG):
    render_bind_cast = True


class _Json(JSON):
    """The client reads JSON; SQLAlchemy writes it, as text."""

    render_bind_cast = True

    def result_processor(self, dialect: Any, coltype: Any) -> None:
        """Nothing is left to do."""


class _Jsonb(JSONB):
    render_bind_cast = True

    def result_processor(self, dialect: Any, coltype: Any) -> None:
        """Nothing is left to do."""


class _JsonIntIndex(sqltypes.JSON.JSONIntIndexType):
    __visit_name__ = "json_int_index"
    render_bind_cast = True


class _JsonStrIndex(sqltypes.JSON.JSONStrIndexType):
    __visit_name__ = "json_str_index"
    render_bind_cast = True


class _JsonPath(JSONPathType):
    def bind_processor(self, dialect: Any) -> Callable[[Any], Any]:
        """A path is an array of texts."""

        def process(value: Any) -> Any:
            return value if isinstance(value, str) else [str(part) for part in value or ()]

        return process


def _to_decimal(scale: int) -> Callable[[Any], Any]:
    form = f"%.{scale}f"

    def process(value: Any) -> Any:
        return None if value is None else decimal.Decimal(form % value)

    return process


class _NumericCommon(sqltypes.NumericCommon):  # type: ignore[type-arg]
    render_bind_cast = True

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        """Decimal or float, as the type asks for."""
        if self.asdecimal and coltype in _FLOAT_OIDS:
            return _to_decimal(self._effective_decimal_return_scale)
        if not self.asdecimal and coltype not in _FLOAT_OIDS:
            return lambda value: None if value is None else float(value)
        return None


class _Numeric(_NumericCommon, sqltypes.Numeric):  # type: ignore[type-arg]
    def bind_processor(self, dialect: Any) -> Callable[[Any], Any]:
        """A float by its shortest digits: it would not go into a numeric by itself."""
        return lambda value: decimal.Decimal(repr(value)) if isinstance(value, float) else value


class _Float(_NumericCommon, sqltypes.Float):  # type: ignore[type-arg]
    def bind_processor(self, dialect: Any) -> Callable[[Any], Any]:
        """As a float, which is what the column holds."""
        return lambda value: float(value) if isinstance(value, decimal.Decimal) else value


def _to_range(value: Any) -> Any:
    if isinstance(value, ranges.Range):
        return Range(value.lower, value.upper, value.bounds, value.empty)
    return value


def _from_range(value: Any) -> Any:
    if isinstance(value, Range):
        return ranges.Range(value.lower, value.upper, bounds=value.bounds, empty=value.empty)  # type: ignore[arg-type]
    return value


class _SingleRange(ranges.AbstractSingleRangeImpl):  # type: ignore[type-arg]
    def bind_processor(self, dialect: Any) -> Callable[[Any], Any]:
        """SQLAlchemy has ranges of its own."""
        return _to_range

    def result_processor(self, dialect: Any, coltype: Any) -> Callable[[Any], Any]:
        """SQLAlchemy has ranges of its own."""
        return _from_range


class _MultiRange(ranges.AbstractMultiRangeImpl):  # type: ignore[type-arg]
    def bind_processor(self, dialect: Any) -> Callable[[Any], Any]:
        """As PostgreSQL writes them."""

        def process(value: Any) -> Any:
            if value is None or isinstance(value, str):
                return value
            return "{" + ",".join(str(_to_range(part)) for part in value) + "}"

        return process


class _ExecutionContext(PGExecutionContext):
    def create_server_side_cursor(self) -> Any:
        """Rows are read as they come."""
        cursor: Any = self._dbapi_connection.cursor()
        cursor.streams = True
        return cursor


class _DialectCursor(dbapi.Cursor):
    """A cursor that may be asked to give the rows of a read as they come."""

    streams = False


class _DialectConnection(dbapi.Connection):
    def cursor(self) -> dbapi.Cursor:
        """A new cursor."""
        self._check()
        return _DialectCursor(self)


class _DialectModule:
    """`segue.dbapi`, with the connection that the dialect needs."""

    paramstyle = "numeric_dollar"

    def __getattr__(self, name: str) -> Any:
        return getattr(dbapi, name)

    @staticmethod
    def connect(**options: Any) -> dbapi.Connection:
        """Connects."""
        return _DialectConnection(segue.connect(**options))


class SegueDialect(PGDialect):
    """SQLAlchemy over `segue.dbapi`."""

    driver = "segue"
    supports_statement_cache = True
    supports_server_side_cursors = True
    default_paramstyle = "numeric_dollar"
    supports_sane_rowcount = True
    supports_sane_multi_rowcount = True
    supports_native_decimal = True
    execution_ctx_cls = _ExecutionContext
    use_insertmanyvalues = True

    colspecs = {  # noqa: RUF012 - as in the base class
        **PGDialect.colspecs,
        sqltypes.String: _String,
        sqltypes.Integer: _Integer,
        sqltypes.SmallInteger: _SmallInteger,
        sqltypes.BigInteger: _BigInteger,
        sqltypes.Boolean: _Boolean,
        sqltypes.DateTime: _DateTime,
        sqltypes.Date: _Date,
        sqltypes.Time: _Time,
        sqltypes.Interval: _Interval,
        INTERVAL: _Interval,
        BYTEA: _Bytes,
        sqltypes.LargeBinary: _Bytes,
        sqltypes.Enum: _Enum,
        ENUM: _Enum,
        sqltypes.ARRAY: _Array,
        PG_ARRAY: _Array,
        sqltypes.Numeric: _Numeric,
        sqltypes.Float: _Float,
        sqltypes.JSON: _Json,
        JSON: _Json,
        JSONB: _Jsonb,
        sqltypes.JSON.JSONPathType: _JsonPath,
        sqltypes.JSON.JSONIntIndexType: _JsonIntIndex,
        sqltypes.JSON.JSONStrIndexType: _JsonStrIndex,
        OID: _Oid,
        INT2VECTOR: _Int2Vector,
        OIDVECTOR: _OidVector,
        REGCLASS: _RegClass,
        PG_REGCONFIG: _RegConfig,
        ranges.AbstractSingleRange: _SingleRange,
        ranges.AbstractMultiRange: _MultiRange,
    }

    @classmethod
    def import_dbapi(cls) -> Any:
        """The module of PEP 249."""
        return _DialectModule()

    def create_connect_args(self, url: sqlalchemy.URL) -> tuple[Sequence[Any], dict[str, Any]]:
        """The options of `segue.connect`."""
        if url.username or url.password:
            raise exc.ArgumentError("the URL has a user: a sidecar has none, leave it out")
        if url.database:
            raise exc.ArgumentError(
                f"the URL names the database {url.database!r}: a sidecar serves one, leave it out"
            )
        host = url.host or "127.0.0.1"
        address = f"[{host}]" if ":" in host else host
        query = dict(url.query)
        scheme = "segue+tls" if query.pop("tls", "false") in ("true", "1", "on") else "segue"
        port = f":{url.port}" if url.port else ""
        text = sqlalchemy.URL.create(scheme, query=query).render_as_string().partition("?")[2]
        options: dict[str, Any] = {
            "url": f"{scheme}://{address}{port}" + (f"?{text}" if text else "")
        }
        if self._json_deserializer is not None:
            options["json_loads"] = self._json_deserializer
        return (), options

    @classmethod
    def get_async_dialect_cls(cls, url: sqlalchemy.URL) -> type[SegueAsyncDialect]:
        """What `create_async_engine` makes of `postgresql+segue://`."""
        return SegueAsyncDialect

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """With PostgreSQL's own placeholders."""
        if getattr(cursor, "streams", False):
            cursor.open_stream(statement, parameters or ())
        else:
            cursor.execute_dollar(statement, parameters or ())

    def do_executemany(
        self, cursor: Any, statement: str, parameters: Any, context: Any = None
    ) -> None:
        """By batches."""
        cursor.executemany_dollar(statement, parameters)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        """Without parameters."""
        self.do_execute(cursor, statement, (), context)

    def get_isolation_level_values(self, dbapi_connection: Any) -> Sequence[Any]:
        """What `isolation_level` may be."""
        return ("AUTOCOMMIT", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:
        """Of the next transactions."""
        autocommit = level == "AUTOCOMMIT"
        dbapi_connection.autocommit = autocommit
        dbapi_connection.isolation_level = "" if autocommit else level

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        """Without a call: each transaction says its own."""
        if dbapi_connection.autocommit:
            return "AUTOCOMMIT"
        return dbapi_connection.isolation_level.upper() or "READ COMMITTED"

    def detect_autocommit_setting(self, dbapi_connection: Any) -> bool:
        """Whether the connection commits by itself."""
        return bool(dbapi_connection.autocommit)

    def set_readonly(self, connection: Any, value: bool) -> None:
        """Of the next transactions."""
        connection.read_only = value

    def get_readonly(self, connection: Any) -> bool:
        """Whether writes are refused."""
        return bool(connection.read_only)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """A channel connects again by itself: only a closed one is lost."""
        return isinstance(e, segue.InterfaceError) and "connection is closed" in str(e)

    def do_begin_twophase(self, connection: Any, xid: Any) -> None:
        """Two-phase commits are not captured."""
        raise segue.NotSupportedError("segue has no two-phase commits", reason="refused.two_phase")


class _AwaitedStream:
    """An asyncio stream for a caller in a greenlet."""

    def __init__(self, stream: aio.Stream) -> None:
        self._stream = stream
        _await(stream.open())
        self.columns = stream.columns

    def __iter__(self) -> _AwaitedStream:
        return self

    def __next__(self) -> Any:
        try:
            return _await(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Stops it."""
        _await(self._stream.close())


class _Awaited:
    """An asyncio connection or transaction for a caller in a greenlet."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._native, name)
        if name in ("query", "execute", "batch", "commit", "rollback", "close"):
            return lambda *args, **options: _await(found(*args, **options))
        if name == "transaction":
            return lambda **options: _Awaited(found(**options))
        if name == "stream":
            return lambda *args, **options: _AwaitedStream(found(*args, **options))
        return found


class _AsyncConnection(_DialectConnection):
    def __init__(self, native: aio.Connection) -> None:
        awaited: Any = _Awaited(native)
        super().__init__(awaited)
        self.driver_connection = native
        """The asyncio connection, as SQLAlchemy's users get it."""

    def run_async(self, function: Callable[[Any], Any]) -> Any:
        """Runs a coroutine function with the asyncio connection."""
        return _await(function(self.driver_connection))


class _AsyncModule(_DialectModule):
    @staticmethod
    def connect(**options: Any) -> dbapi.Connection:
        """Connects, within a greenlet."""
        creator = options.pop("async_creator_fn", None)
        made = creator() if creator else aio.connect(**options)
        return _AsyncConnection(_await(made))


class SegueAsyncDialect(SegueDialect):
    """SQLAlchemy's asyncio over `segue.aio`."""

    driver = "segue_async"
    is_async = True
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:
        """The module of PEP 249."""
        return _AsyncModule()

    @classmethod
    def get_pool_class(cls, url: sqlalchemy.URL) -> Any:
        """A pool that waits without blocking the loop."""
        return pool.AsyncAdaptedQueuePool

    def get_driver_connection(self, connection: Any) -> Any:
        """The asyncio connection."""
        return connection.driver_connection
