"""The synchronous client."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc
from grpc.experimental import ChannelOptions

from segue import _core as core
from segue import _tracing
from segue._channel import REQUESTS, RESPONSES, SERVICE, credentials_of, options_of
from segue._core import DEFAULT, Asked, Deadline, Statement, Timeout
from segue._options import Options
from segue._results import BatchResult, Column, Description, Info, Result, Row
from segue._status import of_rpc, side_of
from segue.errors import Error, InterfaceError, Outcome, Side

T = TypeVar("T")

_ATTEMPTS_MAX = 10


def connect(url: str = "", **options: Any) -> Connection:
    """Connects to a sidecar, and waits for one that is not up yet.

    `url` is `segue://host:port`, `segue+tls://host:port` or `segue+unix:///path`; the options are
    those of `segue.Options`. Raises `segue.Unavailable` where no sidecar answers within
    `connect_timeout` seconds; with 0 it does not ask.
    """
    return Connection(Options.parse(url, **options))


class _Transport:
    """Calls on one channel."""

    def __init__(self, options: Options) -> None:
        settings = options_of(options)
        # Runs a call in its caller's thread: half the time of a short one.
        settings.append((ChannelOptions.SingleThreadedUnaryStream, 1))
        credentials = credentials_of(options)
        self.channel = (
            grpc.secure_channel(options.target, credentials, settings)
            if credentials
            else grpc.insecure_channel(options.target, settings)
        )
        # A call with one answer is a stream of one message on the wire, and only a stream can be
        # cancelled by another thread while its caller waits.
        self._methods = {
            name: self.channel.unary_stream(
                SERVICE + name,
                request_serializer=REQUESTS[name].SerializeToString,
                response_deserializer=response.FromString,
            )
            for name, response in RESPONSES.items()
        }
        self._lock = threading.Lock()
        # Weakly: a stream that nobody holds any more ends by itself.
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()

    def perform(self, call: core.Call, metadata: Any) -> Any:
        """Makes a call: its messages, or the open stream."""
        handle = self._methods[call.method](
            call.request,
            timeout=call.timeout,
            metadata=metadata or None,
            wait_for_ready=call.wait_for_ready,
        )
        with self._lock:
            self._open.add(handle)
        if call.stream:
            return handle
        try:
            if call.collect is None:
                return list(handle)
            for message in handle:
                call.collect(message)
            return None
        except grpc.RpcError as error:
            raise of_rpc(error, writes=call.writes) from None
        except BaseException:
            # A KeyboardInterrupt, say: the statement is stopped as well.
            handle.cancel()
            raise
        finally:
            self.forget(handle)

    def forget(self, handle: Any) -> None:
        """A call has ended."""
        with self._lock:
            self._open.discard(handle)

    def cancel(self) -> None:
        """Cancels all calls that are open."""
        with self._lock:
            handles = list(self._open)
        for handle in handles:
            handle.cancel()


class _Caller:
    """What a connection and a transaction have in common."""

    _session: core.Session
    _transport: _Transport

    def _run(self, operation: str, statement: Any, flow: core.Flow[T]) -> T:
        text = statement.name if isinstance(statement, core.Named) else statement
        span = _tracing.start(operation, text, self._session.options)
        try:
            result = self._drive(flow, span.metadata)
        except BaseException as error:
            span.end(error)
            raise
        span.end()
        return result

    def _drive(self, flow: core.Flow[T], metadata: Any) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, core.Sleep):
                    time.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    answer = self._transport.perform(step, metadata)
                except Error as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _deadline(self, timeout: Timeout) -> Deadline:
        return Deadline(self._session.timeout(timeout))


class Stream(Iterator[Row]):
    """The rows of a read as they come. Close it, or use it by `with`, where you stop early."""

    def __init__(
        self, caller: _Caller, statement: Statement, params: Sequence[Any], asked: Asked
    ) -> None:
        self._caller = caller
        self._statement = statement
        self._params = params
        self._asked = asked
        self._rows: Iterator[Row] = iter(())
        self._messages: Any = None
        self._span = _tracing.NO_SPAN
        self.columns: tuple[Column, ...] = ()
        """The columns of each row."""
        self.side: Side | None = None
        """The database that answered; known at the end."""
        self._begin()

    def _begin(self) -> None:
        text = self._statement if isinstance(self._statement, str) else self._statement.name
        self._span = _tracing.start("Query", text, self._caller._session.options)
        flow = self._opening()
        try:
            self._caller._drive(flow, self._span.metadata)
        except BaseException as error:
            self._span.end(error)
            raise

    def _opening(self) -> core.Flow[None]:
        """Opens it and reads the first message; that can be made again, later ones not."""
        session, asked = self._caller._session, self._asked

        def attempt() -> core.Flow[None]:
            opened = yield from core.open_query(session, self._statement, self._params, asked, True)
            self._messages, self._reader, self._brought = opened
            try:
                self._rows = iter(self._next_message() or [])
            except core.NotPackable:
                self._cancel()
                session.packable.learn(self._statement, False)
                yield from attempt()

        yield from core.repeated(session, asked.repeat_of_read(), asked.deadline, attempt)
        core.note_header(session, self._statement, self._reader, asked)
        self.columns = self._reader.columns

    def _next_message(self) -> list[Row] | None:
        """The rows of the next message; nothing at the end."""
        session, asked = self._caller._session, self._asked
        try:
            message = next(self._messages)
        except StopIteration:
            self._forget()
            footer = core.note_footer(session, self._reader, self._brought, asked)
            self.side = side_of(footer.side)
            return None
        except grpc.RpcError as failed:
            self._forget()
            error = of_rpc(failed, writes=asked.commits_writes())
            core.note_failure(session, self._brought, error)
            if asked.transaction is not None:
                asked.transaction.failed(error, asked.transaction.selector(asked.commit))
            raise error from None
        return self._reader.feed(message)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Row:
        while True:
            for row in self._rows:
                return row
            if self._messages is None:
                raise StopIteration
            try:
                rows = self._next_message()
            except BaseException as error:
                self._span.end(error)
                self._cancel()
                raise
            if rows is None:
                self._span.end()
                raise StopIteration
            self._rows = iter(rows)

    def _forget(self) -> None:
        self._caller._transport.forget(self._messages)
        self._messages = None

    def _cancel(self) -> None:
        if self._messages is not None:
            self._messages.cancel()
            self._forget()

    def close(self) -> None:
        """Stops the statement where rows are left. In a transaction this fails the statement."""
        if self._messages is not None:
            self._cancel()
            self._span.end()
        self._rows = iter(())

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Connection(_Caller):
    """A connection to a sidecar. Threads may share it."""

    def __init__(self, options: Options) -> None:
        self._session = core.Session(options)
        self._transport = _Transport(options)
        self._closed = False
        if options.connect_timeout:
            try:
                self._run("Info", "", core.connected(self._session, options.connect_timeout))
            except BaseException:
                self.close()
                raise

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

    def query(
        self,
        statement: Statement,
        *params: Any,
        timeout: Timeout = DEFAULT,
        routing_key: str = "",
    ) -> Result:
        """Runs a read: SQL with $1, $2, …, or `segue.named(…)`."""
        asked = Asked(self._deadline(timeout), routing_key=routing_key)
        return self._run("Query", statement, core.query(self._session, statement, params, asked))

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

    def execute(
        self,
        statement: Statement,
        *params: Any,
        timeout: Timeout = DEFAULT,
        idempotency_key: str = "",
    ) -> Result:
        """Runs a write, which is committed by itself.

        Without a key of the caller's it gets one, so that it can be repeated after a lost answer.
        """
        asked = Asked(self._deadline(timeout), idempotency_key=idempotency_key)
        flow = core.execute(self._session, statement, params, asked)
        return self._run("Execute", statement, flow)

    def batch(
        self,
        statements: Iterable[tuple[Statement, Sequence[Any]]],
        *,
        timeout: Timeout = DEFAULT,
        idempotency_key: str = "",
    ) -> BatchResult:
        """Runs several writes in one transaction, by one call: all or none."""
        asked = Asked(self._deadline(timeout), idempotency_key=idempotency_key)
        return self._run("Batch", "", core.batch(self._session, statements, asked))

    def transaction(
        self,
        *,
        isolation: str = "",
        read_only: bool = False,
        idle_timeout: float | None = None,
        total_timeout: float | None = None,
    ) -> Transaction:
        """A transaction; use it by `with`. Its first call begins it, so that this costs nothing."""
        options = core.transaction_options(isolation, read_only, idle_timeout, total_timeout)
        return Transaction(self, options)

    def run(
        self,
        function: Callable[[Transaction], T],
        *,
        isolation: str = "",
        read_only: bool = False,
        attempts: int = _ATTEMPTS_MAX,
    ) -> T:
        """Runs a function in a transaction and commits it.

        After a conflict it runs all again, with a random wait: the function must have no other
        effects. What fails after a commit, or after one whose outcome is unknown, is not run again.
        """
        attempt = 0
        while True:
            transaction = self.transaction(isolation=isolation, read_only=read_only)
            try:
                with transaction:
                    return function(transaction)
            except Error as error:
                attempt += 1
                again = error.retryable and error.outcome is Outcome.NOT_APPLIED
                if not again or transaction._state.took_effect or attempt >= attempts:
                    raise
                time.sleep(core.backoff(attempt, error.retry_delay))

    def describe(self, statement: Statement, *, timeout: Timeout = DEFAULT) -> list[Description]:
        """Tells the types of parameters and columns as each database prepares the statement."""
        flow = core.describe(self._session, statement, self._deadline(timeout))
        return self._run("Describe", statement, flow)

    def info(self, *, timeout: Timeout = DEFAULT) -> Info:
        """Asks the sidecar what it is and where the migration stands."""
        return self._run("Info", "", core.info(self._session, self._deadline(timeout)))

    def cancel(self) -> None:
        """Cancels all calls of this connection. Any thread may call it."""
        self._transport.cancel()

    def close(self) -> None:
        """Closes the connection; open transactions are rolled back when they were idle too long."""
        if not self._closed:
            self._closed = True
            self._transport.channel.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _drive(self, flow: core.Flow[T], metadata: Any) -> T:
        if self._closed:
            raise InterfaceError("the connection is closed")
        return super()._drive(flow, metadata)


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

    def query(
        self,
        statement: Statement,
        *params: Any,
        commit: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> Result:
        """Runs a read."""
        asked = Asked(self._deadline(timeout), self._state, commit)
        return self._run("Query", statement, core.query(self._session, statement, params, asked))

    def stream(
        self,
        statement: Statement,
        *params: Any,
        commit: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> Stream:
        """Runs a read whose rows come one by one. Read it to its end before the next call."""
        return Stream(self, statement, params, Asked(self._deadline(timeout), self._state, commit))

    def execute(
        self,
        statement: Statement,
        *params: Any,
        commit: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> Result:
        """Runs any statement."""
        asked = Asked(self._deadline(timeout), self._state, commit)
        flow = core.execute(self._session, statement, params, asked)
        return self._run("Execute", statement, flow)

    def batch(
        self,
        statements: Iterable[tuple[Statement, Sequence[Any]]],
        *,
        commit: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> BatchResult:
        """Runs several writes by one call."""
        asked = Asked(self._deadline(timeout), self._state, commit)
        return self._run("Batch", "", core.batch(self._session, statements, asked))

    @contextlib.contextmanager
    def savepoint(self, name: str = "segue_savepoint") -> Iterator[None]:
        """Undoes what stands in it where it raises; the transaction goes on."""
        quoted = '"' + name.replace('"', '""') + '"'
        self.execute(f"SAVEPOINT {quoted}")
        try:
            yield
        except BaseException:
            self.execute(f"ROLLBACK TO SAVEPOINT {quoted}")
            raise
        self.execute(f"RELEASE SAVEPOINT {quoted}")

    def commit(self, *, timeout: Timeout = DEFAULT) -> None:
        """Commits it. Where nothing was run, this makes no call."""
        self._run("Commit", "", core.commit(self._state, self._deadline(timeout)))

    def rollback(self, *, timeout: Timeout = DEFAULT) -> None:
        """Rolls it back."""
        self._run("Rollback", "", core.rollback(self._state, self._deadline(timeout)))

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._state.closed:
            return
        if kind is None:
            self.commit()
            return
        # The error that is on its way says more than that of a rollback.
        with contextlib.suppress(Error):
            self.rollback()
