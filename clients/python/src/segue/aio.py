"""The client for asyncio: the same names, to be awaited.

db = await segue.aio.connect("segue://127.0.0.1:7400")
rows = await db.query("SELECT …")
async with db.transaction() as tx:
    await tx.execute("…")
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio

from segue import _core as core
from segue import _tracing
from segue._channel import REQUESTS, RESPONSES, SERVICE, credentials_of, options_of
from segue._core import DEFAULT, Asked, Deadline, Statement, Timeout
from segue._options import Options
from segue._results import BatchResult, Column, Description, Info, Result, Row
from segue._status import of_rpc, side_of
from segue.errors import Cancelled, Error, InterfaceError, Outcome, Side

__all__ = ["Connection", "Stream", "Transaction", "connect"]

T = TypeVar("T")

_ATTEMPTS_MAX = 10


async def connect(url: str = "", **options: Any) -> Connection:
    """Connects to a sidecar, and waits for one that is not up yet. As `segue.connect`."""
    connection = Connection(Options.parse(url, **options))
    if connection.options.connect_timeout:
        try:
            await connection._ask()
        except BaseException:
            await connection.close()
            raise
    return connection


class _Transport:
    """Calls on one channel."""

    def __init__(self, options: Options) -> None:
        settings = options_of(options)
        credentials = credentials_of(options)
        self.channel = (
            grpc.aio.secure_channel(options.target, credentials, settings)
            if credentials
            else grpc.aio.insecure_channel(options.target, settings)
        )
        self._methods: dict[str, Any] = {
            name: self.channel.unary_stream(
                SERVICE + name,
                request_serializer=REQUESTS[name].SerializeToString,
                response_deserializer=response.FromString,
            )
            for name, response in RESPONSES.items()
        }
        # Weakly: a stream that nobody holds any more ends by itself.
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._cancelled: set[Any] = set()

    async def perform(self, call: core.Call, metadata: Any) -> Any:
        """Makes a call: its messages, or the open stream."""
        handle = self._methods[call.method](
            call.request,
            timeout=call.timeout,
            metadata=metadata or None,
            wait_for_ready=call.wait_for_ready,
        )
        self._open.add(handle)
        if call.stream:
            return handle
        messages: list[Any] = []
        collect = call.collect or messages.append
        try:
            while (message := await self.read(handle, call.writes)) is not None:
                collect(message)
            return messages
        except Error:
            handle.cancel()
            raise
        finally:
            self.forget(handle)

    async def read(self, handle: Any, writes: bool) -> Any:
        """The next message; nothing at the end."""
        try:
            message = await handle.read()
        except grpc.RpcError as error:
            raise of_rpc(error, writes=writes) from None
        except asyncio.CancelledError:
            if handle in self._cancelled:
                raise _cancelled(writes) from None
            # The caller's task was cancelled: the statement is stopped as well.
            handle.cancel()
            raise
        return None if message is grpc.aio.EOF else message

    def forget(self, handle: Any) -> None:
        """A call has ended."""
        self._open.discard(handle)
        self._cancelled.discard(handle)

    def cancel(self) -> None:
        """Cancels all calls that are open."""
        for handle in list(self._open):
            self._cancelled.add(handle)
            handle.cancel()


def _cancelled(writes: bool) -> Error:
    return Cancelled(
        "the call was cancelled",
        code="CANCELLED",
        outcome=Outcome.UNKNOWN if writes else Outcome.NOT_APPLIED,
    )


class _Caller:
    """What a connection and a transaction have in common."""

    _session: core.Session
    _transport: _Transport

    async def _run(self, operation: str, statement: Any, flow: core.Flow[T]) -> T:
        text = statement.name if isinstance(statement, core.Named) else statement
        span = _tracing.start(operation, text, self._session.options)
        try:
            result = await self._drive(flow, span.metadata)
        except BaseException as error:
            span.end(error)
            raise
        span.end()
        return result

    async def _drive(self, flow: core.Flow[T], metadata: Any) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, core.Sleep):
                    await asyncio.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    answer = await self._transport.perform(step, metadata)
                except Error as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _deadline(self, timeout: Timeout) -> Deadline:
        return Deadline(self._session.timeout(timeout))


class Stream(AsyncIterator[Row]):
    """The rows of a read as they come. Use it by `async with` where you stop early."""

    def __init__(
        self, caller: _Caller, statement: Statement, params: Sequence[Any], asked: Asked
    ) -> None:
        self._caller = caller
        self._statement = statement
        self._params = params
        self._asked = asked
        self._rows: Iterator[Row] = iter(())
        self._messages: Any = None
        self._opened = False
        self._span = _tracing.NO_SPAN
        self.columns: tuple[Column, ...] = ()
        """The columns of each row; known after the first one, or after `open`."""
        self.side: Side | None = None
        """The database that answered; known at the end."""

    async def open(self) -> Stream:
        """Makes the call; the first row does it as well."""
        if self._opened:
            return self
        self._opened = True
        text = self._statement if isinstance(self._statement, str) else self._statement.name
        session, asked = self._caller._session, self._asked
        self._span = _tracing.start("Query", text, session.options)
        attempt = 0
        try:
            while True:
                flow = core.open_query(session, self._statement, self._params, asked, True)
                opened = await self._caller._drive(flow, self._span.metadata)
                self._messages, self._reader, self._brought = opened
                try:
                    self._rows = iter(await self._next_message() or [])
                    break
                except core.NotPackable:
                    self._cancel()
                    session.packable.learn(self._statement, False)
                except Error as error:
                    attempt += 1
                    wait = core.backoff(attempt, error.retry_delay)
                    again = session.options.retry and core.may_repeat(error, asked.repeat_of_read())
                    if not again or wait >= asked.deadline.left():
                        raise
                    await asyncio.sleep(wait)
        except BaseException as error:
            self._span.end(error)
            raise
        core.note_header(session, self._statement, self._reader, asked)
        self.columns = self._reader.columns
        return self

    async def _next_message(self) -> list[Row] | None:
        """The rows of the next message; nothing at the end."""
        session, asked = self._caller._session, self._asked
        try:
            message = await self._caller._transport.read(self._messages, asked.commits_writes())
        except Error as error:
            self._forget()
            core.note_failure(session, self._brought, error)
            if asked.transaction is not None:
                asked.transaction.failed(error, asked.transaction.selector(asked.commit))
            raise
        if message is None:
            self._forget()
            footer = core.note_footer(session, self._reader, self._brought, asked)
            self.side = side_of(footer.side)
            return None
        return self._reader.feed(message)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Row:
        await self.open()
        while True:
            for row in self._rows:
                return row
            if self._messages is None:
                raise StopAsyncIteration
            try:
                rows = await self._next_message()
            except BaseException as error:
                self._span.end(error)
                self._cancel()
                raise
            if rows is None:
                self._span.end()
                raise StopAsyncIteration
            self._rows = iter(rows)

    def _forget(self) -> None:
        self._caller._transport.forget(self._messages)
        self._messages = None

    def _cancel(self) -> None:
        if self._messages is not None:
            self._messages.cancel()
            self._forget()

    async def close(self) -> None:
        """Stops the statement where rows are left. In a transaction this fails the statement."""
        self._opened = True
        if self._messages is not None:
            self._cancel()
            self._span.end()
        self._rows = iter(())

    async def __aenter__(self) -> Stream:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class Connection(_Caller):
    """A connection to a sidecar. Tasks of one event loop may share it. Made by `connect`."""

    def __init__(self, options: Options) -> None:
        self._session = core.Session(options)
        self._transport = _Transport(options)
        self._closed = False

    async def _ask(self) -> None:
        flow = core.connected(self._session, self.options.connect_timeout)
        await self._run("Info", "", flow)

    @property
    def options(self) -> Options:
        """How it was made."""
        return self._session.options

    @property
    def consistency_tokens(self) -> tuple[str, ...]:
        """The tokens that the next call brings: hand them to another connection to see the same."""
        return tuple(self._session.tokens.brought())

    def observe(self, tokens: Iterable[str]) -> None:
        """Takes tokens of another connection: later reads see the writes that they cover."""
        self._session.tokens.add(tokens)

    async def query(
        self,
        statement: Statement,
        *params: Any,
        timeout: Timeout = DEFAULT,
        routing_key: str = "",
    ) -> Result:
        """Runs a read: SQL with $1, $2, …, or `segue.named(…)`."""
        asked = Asked(self._deadline(timeout), routing_key=routing_key)
        flow = core.query(self._session, statement, params, asked)
        return await self._run("Query", statement, flow)

    def stream(
        self,
        statement: Statement,
        *params: Any,
        timeout: Timeout = DEFAULT,
        routing_key: str = "",
    ) -> Stream:
        """Runs a read whose rows come one by one, so that a large answer needs little memory."""
        return Stream(
            self, statement, params, Asked(self._deadline(timeout), routing_key=routing_key)
        )

    async def execute(
        self,
        statement: Statement,
        *params: Any,
        timeout: Timeout = DEFAULT,
        idempotency_key: str = "",
    ) -> Result:
        """Runs a write, which is committed by itself. As `segue.Connection.execute`."""
        asked = Asked(self._deadline(timeout), idempotency_key=idempotency_key)
        flow = core.execute(self._session, statement, params, asked)
        return await self._run("Execute", statement, flow)

    async def batch(
        self,
        statements: Iterable[tuple[Statement, Sequence[Any]]],
        *,
        timeout: Timeout = DEFAULT,
        idempotency_key: str = "",
    ) -> BatchResult:
        """Runs several writes in one transaction, by one call: all or none."""
        asked = Asked(self._deadline(timeout), idempotency_key=idempotency_key)
        return await self._run("Batch", "", core.batch(self._session, statements, asked))

    def transaction(
        self,
        *,
        isolation: str = "",
        read_only: bool = False,
        idle_timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> Transaction:
        """A transaction; use it by `async with`. Its first call begins it."""
        options = core.transaction_options(isolation, read_only, idle_timeout, total_timeout)
        return Transaction(self, options)

    async def run(
        self,
        function: Callable[[Transaction], Awaitable[T]],
        *,
        isolation: str = "",
        read_only: bool = False,
        attempts: int = _ATTEMPTS_MAX,
    ) -> T:
        """Runs a function in a transaction and commits it. As `segue.Connection.run`."""
        attempt = 0
        while True:
            transaction = self.transaction(isolation=isolation, read_only=read_only)
            try:
                async with transaction:
                    return await function(transaction)
            except Error as error:
                attempt += 1
                again = error.retryable and error.outcome is Outcome.NOT_APPLIED
                if not again or transaction._state.took_effect or attempt >= attempts:
                    raise
                await asyncio.sleep(core.backoff(attempt, error.retry_delay))

    async def describe(
        self, statement: Statement, *, timeout: Timeout = DEFAULT
    ) -> list[Description]:
        """Tells the types of parameters and columns as each database prepares the statement."""
        flow = core.describe(self._session, statement, self._deadline(timeout))
        return await self._run("Describe", statement, flow)

    async def info(self, *, timeout: Timeout = DEFAULT) -> Info:
        """Asks the sidecar what it is and where the migration stands."""
        return await self._run("Info", "", core.info(self._session, self._deadline(timeout)))

    def cancel(self) -> None:
        """Cancels all calls of this connection; cancelling a task cancels its own call."""
        self._transport.cancel()

    async def close(self) -> None:
        """Closes the connection."""
        if not self._closed:
            self._closed = True
            await self._transport.channel.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _drive(self, flow: core.Flow[T], metadata: Any) -> T:
        if self._closed:
            raise InterfaceError("the connection is closed")
        return await super()._drive(flow, metadata)


class Transaction(_Caller):
    """A transaction. Its first call begins it; the last one may commit it by `commit=True`."""

    def __init__(self, connection: Connection, options: Any) -> None:
        self._connection = connection
        self._session = connection._session
        self._transport = connection._transport
        self._state = core.Transacted(connection._session, options)

    @property
    def connection(self) -> Connection:
        """Where it runs."""
        return self._connection

    @property
    def id(self) -> str:
        """The sidecar's id of it; empty before its first call."""
        return self._state.id

    @property
    def closed(self) -> bool:
        """Whether it was committed or rolled back."""
        return self._state.closed

    @property
    def write_id(self) -> str:
        """The id of what was committed."""
        return self._state.write_id

    async def query(
        self,
        statement: Statement,
        *params: Any,
        commit: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> Result:
        """Runs a read."""
        asked = Asked(self._deadline(timeout), self._state, commit)
        flow = core.query(self._session, statement, params, asked)
        return await self._run("Query", statement, flow)

    def stream(
        self,
        statement: Statement,
        *params: Any,
        commit: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> Stream:
        """Runs a read whose rows come one by one. Read it to its end before the next call."""
        return Stream(self, statement, params, Asked(self._deadline(timeout), self._state, commit))

    async def execute(
        self,
        statement: Statement,
        *params: Any,
        commit: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> Result:
        """Runs any statement."""
        asked = Asked(self._deadline(timeout), self._state, commit)
        flow = core.execute(self._session, statement, params, asked)
        return await self._run("Execute", statement, flow)

    async def batch(
        self,
        statements: Iterable[tuple[Statement, Sequence[Any]]],
        *,
        commit: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> BatchResult:
        """Runs several writes by one call."""
        asked = Asked(self._deadline(timeout), self._state, commit)
        return await self._run("Batch", "", core.batch(self._session, statements, asked))

    @contextlib.asynccontextmanager
    async def savepoint(self, name: str = "segue_savepoint") -> AsyncIterator[None]:
        """Undoes what stands in it where it raises; the transaction goes on."""
        quoted = '"' + name.replace('"', '""') + '"'
        await self.execute(f"SAVEPOINT {quoted}")
        try:
            yield
        except BaseException:
            await self.execute(f"ROLLBACK TO SAVEPOINT {quoted}")
            raise
        await self.execute(f"RELEASE SAVEPOINT {quoted}")

    async def commit(self, *, timeout: Timeout = DEFAULT) -> None:
        """Commits it. Where nothing was run, this makes no call."""
        await self._run("Commit", "", core.commit(self._state, self._deadline(timeout)))

    async def rollback(self, *, timeout: Timeout = DEFAULT) -> None:
        """Rolls it back."""
        await self._run("Rollback", "", core.rollback(self._state, self._deadline(timeout)))

    async def __aenter__(self) -> Transaction:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._state.closed:
            return
        if kind is None:
            await self.commit()
            return
        # The error that is on its way says more than that of a rollback.
        with contextlib.suppress(Error):
            await self.rollback()
