"""What the synchronous and the asyncio client have in common: all but the input and output.

A *flow* is a generator that yields calls to make and times to wait, is sent the answers, and
returns what the caller gets. It decides what is repeated, keeps the tokens, and reads the rows.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import random
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

from google.protobuf import duration_pb2

from segue import _packed
from segue._decode import typed_rows
from segue._encode import encode
from segue._options import Options
from segue._results import BatchResult, Column, Description, Info, Result, Row
from segue._status import of_status, side_of
from segue.errors import (
    Cancelled,
    DeadlineExceeded,
    Error,
    InterfaceError,
    InternalError,
    Outcome,
    Unavailable,
)
from segue.v1 import phase_pb2, value_pb2
from segue.v1 import sql_pb2 as pb

T = TypeVar("T")

# Statements whose columns are remembered.
_STATEMENTS_KNOWN_MAX = 2048
# The sidecar takes 256 in a call.
_TOKENS_MAX = 256
# A conflict that goes on for so long is not left to chance any more.
_CONFLICTS_MAX = 10
_BACKOFF_FIRST_S = 0.02
_BACKOFF_MAX_S = 1.0
# How long calls are repeated where the caller gave no deadline.
_PATIENCE_S = 30.0


@dataclasses.dataclass(frozen=True)
class Named:
    """A statement of the sidecar's query files."""

    name: str


Statement = str | Named


def named(name: str) -> Named:
    """A statement of the sidecar's query files, in place of SQL."""
    return Named(name)


@dataclasses.dataclass
class Call:
    """A call to make. The answer is the list of its messages, or an open stream.

    With `collect`, that function takes each message as it comes instead: while it reads the rows of
    one, the sidecar makes the next.
    """

    method: str
    request: Any
    timeout: float | None
    writes: bool
    stream: bool = False
    collect: Callable[[Any], None] | None = None
    wait_for_ready: bool = False


@dataclasses.dataclass
class Sleep:
    """A time to wait."""

    seconds: float


Flow = Generator[Call | Sleep, Any, T]


class Repeat(enum.Enum):
    """When a call may be made again by itself."""

    READ = enum.auto()
    """Whenever it failed for a passing reason: it has no effect."""
    KEYED = enum.auto()
    """Also after a lost answer: its key makes it have effect once."""
    UNAPPLIED = enum.auto()
    """Where the sidecar says that nothing was applied."""
    NEVER = enum.auto()
    """It stands in an open transaction."""


class Deadline:
    """When a caller stops waiting."""

    def __init__(self, timeout: float | None) -> None:
        self.given = timeout is not None
        self._until = time.monotonic() + (_PATIENCE_S if timeout is None else timeout)

    def left(self) -> float:
        """Seconds that are left, for waiting between calls."""
        return self._until - time.monotonic()

    def timeout(self) -> float | None:
        """What the next call may take."""
        return max(self.left(), 0.0) if self.given else None


class Tokens:
    """The consistency tokens of answers whose writes the next call must see."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, None] = {}

    def brought(self) -> list[str]:
        """What a call brings."""
        if not self._held:
            return []
        with self._lock:
            return list(self._held)

    def replace(self, brought: Iterable[str], token: str) -> None:
        """An answer's token, even an empty one, replaces all that its call brought."""
        if not token and not self._held:
            return
        with self._lock:
            for old in brought:
                self._held.pop(old, None)
            if token:
                self._held[token] = None

    def add(self, tokens: Iterable[str]) -> None:
        """Takes over tokens of another connection."""
        with self._lock:
            self._held.update(dict.fromkeys(token for token in tokens if token))


class Memory:
    """What was learned of statements: bounded, the oldest goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: collections.OrderedDict[Any, bool] = collections.OrderedDict()

    def get(self, key: Any) -> bool | None:
        """What is known, or None."""
        return self._known.get(key)

    def learn(self, key: Any, fact: bool) -> None:
        """Remembers it."""
        if self._known.get(key) is fact:
            return
        with self._lock:
            self._known[key] = fact
            if len(self._known) > _STATEMENTS_KNOWN_MAX:
                self._known.popitem(last=False)


class Session:
    """The state of one connection."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.tokens = Tokens()
        self.packable = Memory()
        """Whether the client reads packed rows of a statement."""
        self.writing = Memory()
        """Whether a statement that looks like a read has to go by Execute."""
        self.features: frozenset[str] | None = None

    def has(self, feature: str) -> bool:
        """Whether the sidecar can do it; until it was asked, it is taken for a present one."""
        return self.features is None or feature in self.features

    def timeout(self, given: float | Default | None) -> float | None:
        """The timeout of a call that gave one, or not."""
        return self.options.timeout if isinstance(given, Default) else given


class Default(enum.Enum):
    """Stands for what the connection's options say."""

    DEFAULT = enum.auto()

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = Default.DEFAULT
Timeout = float | None | Default


def backoff(attempt: int, least: float | None) -> float:
    """Seconds to wait before the next attempt: exponential, with full jitter."""
    top = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0 ** min(attempt, 16))
    return (least or 0.0) + random.uniform(0, top)


def may_repeat(error: Error, repeat: Repeat) -> bool:
    """Whether a call that failed so may be made again."""
    if repeat is Repeat.NEVER or isinstance(error, (Cancelled, DeadlineExceeded)):
        return False
    if error.outcome is Outcome.NOT_APPLIED and error.retryable and error.retry_delay is not None:
        return True
    passing = error.retryable or not error.answered
    if repeat is Repeat.READ:
        return passing
    return repeat is Repeat.KEYED and error.outcome is Outcome.UNKNOWN


def settles(error: Error) -> bool:
    """Whether the error of a repeat tells what the attempts before it came to.

    The database has run the statement and refused it, which it does not do to one whose key it has
    seen. What may pass, and what stopped the repeat before its end, tells nothing of them.
    """
    if not error.answered or error.outcome is Outcome.UNKNOWN:
        return False
    if error.outcome is Outcome.APPLIED:
        return True
    passing = error.retryable or error.code in ("CANCELLED", "DEADLINE_EXCEEDED")
    return bool(error.sqlstate) and not passing


def repeated(
    session: Session, repeat: Repeat, deadline: Deadline, attempt: Callable[[], Flow[T]]
) -> Flow[T]:
    """Makes an attempt, which is a flow, again while that is safe."""
    count = conflicts = 0
    unknown = False
    while True:
        try:
            return (yield from attempt())
        except Error as error:
            # Asked before what earlier attempts came to is put into it: a repeat that is refused
            # for good is the last one.
            again = may_repeat(error, repeat)
            if unknown and not settles(error):
                # What the last attempt says of itself is not true of the first.
                error.outcome = Outcome.UNKNOWN
            unknown = unknown or error.outcome is Outcome.UNKNOWN
            conflicts += error.code == "ABORTED"
            wait = backoff(count, error.retry_delay)
            tired = conflicts >= _CONFLICTS_MAX or wait >= deadline.left()
            if not session.options.retry or tired or not again:
                raise
        count += 1
        yield Sleep(wait)


def statement_of(statement: Statement | pb.Statement, params: Sequence[Any]) -> pb.Statement:
    """A statement with its parameters; one that was made already stays as it is."""
    if isinstance(statement, pb.Statement):
        return statement
    values = [encode(value) for value in params]
    if isinstance(statement, Named):
        return pb.Statement(name=statement.name, params=values)
    if not isinstance(statement, str):
        raise InterfaceError(f"a statement is a str or segue.named(…), not {statement!r:.60}")
    return pb.Statement(sql=statement, params=values)


def columns_of(columns: Iterable[value_pb2.Column]) -> tuple[Column, ...]:
    """Columns of an answer."""
    return tuple(
        Column(column.name, column.type_name, column.type_oid, column.type_modifier)
        for column in columns
    )


class NotPackable(Exception):
    """The packed rows have a column that the client does not read."""


class Reader:
    """Reads the messages of one answer to Query."""

    def __init__(self, session: Session, effect: bool = False) -> None:
        self._session = session
        self._effect = effect
        """Whether the call may commit writes."""
        self._decode: Any = None
        self._oids: tuple[int, ...] = ()
        self.columns: tuple[Column, ...] = ()
        self.transaction_id = ""
        self.footer: pb.Footer | None = None
        self.rows: list[Row] = []
        """What `collect` has read."""
        self.packable = True
        """Whether `collect` could read the rows."""
        self._count = 0

    def collect(self, message: pb.QueryResponse) -> None:
        """Reads the rows of the next message, and goes on to the end if it cannot."""
        try:
            if self.packable:
                self.rows.extend(self.feed(message))
        except NotPackable:
            self.packable = False
        except Error as error:
            # Another call would have the same rows.
            error.answered = True
            if self._effect:
                error.outcome = Outcome.UNKNOWN
            raise

    def feed(self, message: pb.QueryResponse) -> list[Row]:
        """The rows of the next message."""
        if message.HasField("header"):
            self.columns = columns_of(message.header.columns)
            self.transaction_id = message.header.transaction_id
            self._oids = tuple(column.type_oid for column in self.columns)
        rows = rows_of(message.rows, self._oids, self._session) if message.HasField("rows") else []
        self._count += len(rows)
        if message.HasField("footer"):
            self.footer = message.footer
        return rows

    def end(self) -> pb.Footer:
        """The footer; an error where the answer is not whole."""
        footer = self.footer
        if footer is None or footer.row_count != self._count:
            raise InternalError(
                "the answer ended early without saying so",
                retryable=not self._effect,
                retry_delay=None if self._effect else 0.0,
                outcome=Outcome.UNKNOWN if self._effect else Outcome.NOT_APPLIED,
            )
        return footer


def rows_of(rows: value_pb2.Rows, oids: tuple[int, ...], session: Session) -> list[Row]:
    """Rows of either encoding."""
    loads = session.options.json_loads
    kind = rows.WhichOneof("encoding")
    if kind == "typed":
        return typed_rows(rows.typed, loads)
    if kind == "packed":
        if not _packed.decodable(oids):
            raise NotPackable
        return _packed.decoder(oids, loads)(rows.packed.cells, rows.packed.row_count)
    return []


# Transactions.


class Transacted:
    """The state of one transaction."""

    def __init__(self, session: Session, options: pb.TransactionOptions) -> None:
        self.session = session
        self.options = options
        self.id = ""
        self.closed = False
        self.write_id = ""
        self.wrote = False
        """Whether a call was made that may write: Query never does."""
        self.took_effect = False
        """Whether it was committed, or may have been: its writes must not be run again."""

    def selector(self, commit: bool) -> pb.TransactionSelector:
        """What a call says of its transaction."""
        if self.closed:
            raise InterfaceError("the transaction has ended")
        if self.id:
            return pb.TransactionSelector(id=self.id, commit=commit)
        return pb.TransactionSelector(begin=self.options, commit=commit)

    def began(self, transaction_id: str) -> None:
        """A call began it."""
        if transaction_id:
            self.id = transaction_id

    def committing(self) -> None:
        """A call that commits what was written is about to be made."""
        self.took_effect = True

    def committed(self, write_id: str) -> None:
        """A call, or Commit, ended it."""
        self.closed = self.took_effect = True
        self.write_id = write_id

    def commit_failed(self, error: Error) -> None:
        """A call that was to commit it failed."""
        if error.reason == "transaction.in_use":
            return
        self.closed = True
        self.took_effect = error.outcome is not Outcome.NOT_APPLIED

    def failed(self, error: Error, selector: pb.TransactionSelector) -> None:
        """A call with `begin` or `commit` that fails leaves no transaction open."""
        if error.reason == "transaction.in_use":
            return
        if selector.commit:
            self.commit_failed(error)
        elif not self.id:
            # Nothing was begun: the next call begins.
            self.id = ""


_ISOLATION = {
    "": pb.ISOLATION_UNSPECIFIED,
    "read committed": pb.ISOLATION_READ_COMMITTED,
    "repeatable read": pb.ISOLATION_REPEATABLE_READ,
    "serializable": pb.ISOLATION_SERIALIZABLE,
}


def transaction_options(
    isolation: str = "",
    read_only: bool = False,
    idle_timeout: float | None = None,
    total_timeout: float | None = None,
) -> pb.TransactionOptions:
    """Options of a transaction."""
    level = isolation.replace("_", " ").lower()
    if level not in _ISOLATION:
        known = ", ".join(repr(name) for name in _ISOLATION if name)
        raise InterfaceError(f"there is no isolation level {isolation!r}: there are {known}")
    return pb.TransactionOptions(
        isolation=_ISOLATION[level],
        read_only=read_only,
        idle_timeout=_duration(idle_timeout),
        total_timeout=_duration(total_timeout),
    )


def _duration(seconds: float | None) -> duration_pb2.Duration | None:
    if seconds is None:
        return None
    whole = int(seconds)
    return duration_pb2.Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


# Flows of the calls.


@dataclasses.dataclass
class Asked:
    """What a caller asks of one statement or several."""

    deadline: Deadline
    transaction: Transacted | None = None
    commit: bool = False
    idempotency_key: str = ""
    routing_key: str = ""

    def selector(self) -> pb.TransactionSelector | None:
        """What the request says of its transaction."""
        return self.transaction.selector(self.commit) if self.transaction else None

    def commits_writes(self) -> bool:
        """Whether a read that fails may have committed what stood before it."""
        return self.commit and self.transaction is not None and self.transaction.wrote

    def repeat_of_read(self) -> Repeat:
        """A call that begins a transaction leaves none open when it fails."""
        if self.transaction is None:
            return Repeat.READ
        return Repeat.NEVER if self.transaction.id or self.commit else Repeat.READ

    def repeat_of_write(self) -> Repeat:
        """The same for what may write."""
        if self.transaction is None:
            return Repeat.KEYED if self.idempotency_key else Repeat.UNAPPLIED
        return Repeat.NEVER if self.transaction.id or self.commit else Repeat.READ


def _encoding(session: Session, statement: Statement, unknown: bool) -> value_pb2.Encoding:
    known = session.packable.get(statement)
    packed = unknown if known is None else known
    if packed and session.has("packed_rows"):
        return value_pb2.ENCODING_PACKED
    return value_pb2.ENCODING_TYPED


def open_query(
    session: Session, statement: Statement, params: Sequence[Any], asked: Asked, stream: bool
) -> Flow[tuple[Any, Reader, list[str]]]:
    """Makes a Query; gives the open stream, if it is one, and what reads or has read the rows."""
    made = statement_of(statement, params)
    # Packed rows that the client does not read are asked for again as typed ones. Inside a
    # transaction that is done only where no function can be run twice, and not after a commit.
    plain = isinstance(statement, str) and "(" not in statement
    can_be_made_again = asked.transaction is None or (plain and not stream and not asked.commit)

    def attempt() -> Flow[tuple[Any, Reader, list[str]]]:
        yield from folded(session, asked.deadline)
        selector = asked.selector()
        brought = session.tokens.brought()
        request = pb.QueryRequest(
            statement=made,
            transaction=selector,
            encoding=_encoding(session, statement, unknown=can_be_made_again),
            routing_key=asked.routing_key or session.options.routing_key,
            consistency_tokens=brought,
        )
        reader = Reader(session, asked.commits_writes())
        if asked.transaction is not None and asked.commits_writes():
            asked.transaction.committing()
        try:
            answer = yield Call(
                "Query",
                request,
                asked.deadline.timeout(),
                writes=asked.commits_writes(),
                stream=stream,
                collect=None if stream else reader.collect,
            )
        except Error as error:
            note_failure(session, brought, error)
            if asked.transaction is not None and selector is not None:
                asked.transaction.failed(error, selector)
            raise
        return answer, reader, brought

    return (yield from repeated(session, asked.repeat_of_read(), asked.deadline, attempt))


def folded(session: Session, deadline: Deadline) -> Flow[None]:
    """Makes one token of many: after very many calls at the same time a call cannot bring all."""
    while len(session.tokens.brought()) > _TOKENS_MAX:
        some = session.tokens.brought()[:_TOKENS_MAX]
        request = pb.QueryRequest(statement=pb.Statement(sql="SELECT 1"), consistency_tokens=some)
        messages = yield Call("Query", request, deadline.timeout(), writes=False)
        token = messages[-1].footer.consistency_token
        session.tokens.replace(some, token)


def note_failure(session: Session, brought: list[str], error: Error) -> None:
    """Keeps the token of an error."""
    if error.consistency_token:
        session.tokens.replace(brought, error.consistency_token)


def note_header(session: Session, statement: Statement, reader: Reader, asked: Asked) -> None:
    """Learns from the first message."""
    oids = [column.type_oid for column in reader.columns]
    session.packable.learn(statement, _packed.decodable(oids))
    if asked.transaction is not None:
        asked.transaction.began(reader.transaction_id)


def note_footer(session: Session, reader: Reader, brought: list[str], asked: Asked) -> pb.Footer:
    """Learns from the last one."""
    footer = reader.end()
    session.tokens.replace(brought, footer.consistency_token)
    if asked.transaction is not None and asked.commit:
        asked.transaction.committed(footer.write_id)
    return footer


def query(
    session: Session, statement: Statement, params: Sequence[Any], asked: Asked
) -> Flow[Result]:
    """A read, all rows at once."""

    def attempt() -> Flow[Result]:
        _, reader, brought = yield from open_query(session, statement, params, asked, False)
        if not reader.packable:
            # See `open_query`. The answer was read to its end: a transaction that it began is open.
            session.packable.learn(statement, False)
            if asked.transaction is not None:
                asked.transaction.began(reader.transaction_id)
            return (yield from attempt())
        note_header(session, statement, reader, asked)
        footer = note_footer(session, reader, brought, asked)
        return Result(
            columns=reader.columns,
            rows=reader.rows,
            affected_rows=footer.row_count,
            side=side_of(footer.side),
            write_id=footer.write_id,
        )

    return (yield from attempt())


def _result(result: pb.StatementResult, session: Session, **more: Any) -> Result:
    columns = columns_of(result.columns)
    oids = tuple(column.type_oid for column in columns)
    rows = rows_of(result.rows, oids, session) if result.HasField("rows") else []
    return Result(columns=columns, rows=rows, affected_rows=result.affected_rows, **more)


def _written(
    session: Session,
    asked: Asked,
    method: str,
    request_of: Any,
) -> Flow[Any]:
    """Execute or Batch."""
    if asked.transaction is not None and asked.idempotency_key:
        raise InterfaceError(
            "an idempotency key cannot be given inside a transaction",
            hint="use Connection.run, which repeats the whole transaction",
        )
    automatic = session.options.idempotency and session.has("idempotency_keys")
    if asked.transaction is None and not asked.idempotency_key and automatic:
        asked.idempotency_key = secrets.token_hex(16)

    def attempt() -> Flow[Any]:
        yield from folded(session, asked.deadline)
        selector = asked.selector()
        brought = session.tokens.brought()
        request = request_of(selector, brought)
        if asked.transaction is not None:
            asked.transaction.wrote = not asked.transaction.options.read_only
            if asked.commits_writes():
                asked.transaction.committing()
        # What an open transaction did is undone unless it is committed.
        effect = selector is None or asked.commit
        try:
            (answer,) = yield Call(method, request, asked.deadline.timeout(), writes=effect)
        except Error as error:
            note_failure(session, brought, error)
            error.idempotency_key = asked.idempotency_key
            if asked.transaction is not None and selector is not None:
                asked.transaction.failed(error, selector)
            raise
        session.tokens.replace(brought, answer.consistency_token)
        if asked.transaction is not None:
            asked.transaction.began(answer.transaction_id)
            if asked.commit:
                asked.transaction.committed(answer.write_id)
        return answer

    return (yield from repeated(session, asked.repeat_of_write(), asked.deadline, attempt))


def execute(
    session: Session, statement: Statement, params: Sequence[Any], asked: Asked
) -> Flow[Result]:
    """A write, or any statement inside a transaction."""
    made = statement_of(statement, params)
    # A write is not made again to read its rows in another encoding.
    encoding = _encoding(session, statement, unknown=False)

    def request_of(selector: Any, brought: list[str]) -> pb.ExecuteRequest:
        return pb.ExecuteRequest(
            statement=made,
            transaction=selector,
            encoding=encoding,
            idempotency_key=asked.idempotency_key,
            consistency_tokens=brought,
        )

    answer = yield from _written(session, asked, "Execute", request_of)
    if answer.result.columns:
        oids = [column.type_oid for column in answer.result.columns]
        session.packable.learn(statement, _packed.decodable(oids))
    try:
        return _result(
            answer.result, session, write_id=answer.write_id, already_applied=answer.already_applied
        )
    except NotPackable:
        # The table was changed since the statement was last run.
        session.packable.learn(statement, False)
        done = asked.transaction is None or asked.commit
        raise InternalError(
            "the statement was run, and its rows cannot be read: its columns have other types now",
            outcome=Outcome.APPLIED if done else Outcome.NOT_APPLIED,
            answered=True,
        ) from None


def batch(
    session: Session,
    statements: Iterable[tuple[Statement, Sequence[Any]]],
    asked: Asked,
) -> Flow[BatchResult]:
    """Several writes: all or none."""
    made = [statement_of(statement, params) for statement, params in statements]

    def request_of(selector: Any, brought: list[str]) -> pb.BatchRequest:
        return pb.BatchRequest(
            statements=made,
            transaction=selector,
            encoding=value_pb2.ENCODING_TYPED,
            idempotency_key=asked.idempotency_key,
            consistency_tokens=brought,
        )

    answer = yield from _written(session, asked, "Batch", request_of)
    return BatchResult(
        results=tuple(_result(result, session) for result in answer.results),
        write_id=answer.write_id,
        already_applied=answer.already_applied,
    )


def commit(transaction: Transacted, deadline: Deadline) -> Flow[None]:
    """Commits what was begun."""
    if transaction.closed:
        raise InterfaceError("the transaction has ended")
    if not transaction.id:
        transaction.closed = True
        return
    session = transaction.session
    yield from folded(session, deadline)
    brought = session.tokens.brought()
    request = pb.CommitRequest(transaction_id=transaction.id, consistency_tokens=brought)
    writes = transaction.wrote
    if writes:
        transaction.committing()
    try:
        (answer,) = yield Call("Commit", request, deadline.timeout(), writes=writes)
    except Error as error:
        note_failure(session, brought, error)
        transaction.commit_failed(error)
        raise
    session.tokens.replace(brought, answer.consistency_token)
    transaction.committed(answer.write_id)


def rollback(transaction: Transacted, deadline: Deadline) -> Flow[None]:
    """Rolls back what was begun."""
    if transaction.closed or not transaction.id:
        transaction.closed = True
        return
    transaction.closed = True
    request = pb.RollbackRequest(transaction_id=transaction.id)
    try:
        yield Call("Rollback", request, deadline.timeout(), writes=False)
    except Error as error:
        # It is gone already, which is what was wanted.
        if error.reason != "transaction.not_found":
            raise


def connected(session: Session, timeout: float) -> Flow[Info]:
    """Asks the sidecar what it is, and waits for one that is not up yet."""
    try:
        return (yield from info(session, Deadline(timeout), wait=True))
    except DeadlineExceeded as error:
        raise Unavailable(
            f"no sidecar answered at {session.options.target} within {timeout:g} s",
            code="UNAVAILABLE",
            hint="check the address, and that `segue serve` runs there (`listen.sql`)",
        ) from error


def info(session: Session, deadline: Deadline, wait: bool = False) -> Flow[Info]:
    """Asks the sidecar what it is."""

    def attempt() -> Flow[Info]:
        call = Call("Info", pb.InfoRequest(), deadline.timeout(), writes=False, wait_for_ready=wait)
        (answer,) = yield call
        known = pb.Feature.DESCRIPTOR.values_by_number
        features = frozenset(
            known[number].name.removeprefix("FEATURE_").lower()
            for number in answer.features
            if number in known
        )
        session.features = features
        return Info(
            version=answer.version,
            phase=_phase(answer.phase),
            epoch=answer.epoch,
            features=features,
            limits={field.name: _limit(value) for field, value in answer.limits.ListFields()},
        )

    return (yield from repeated(session, Repeat.READ, deadline, attempt))


def _phase(number: int) -> str:
    found = phase_pb2.Phase.DESCRIPTOR.values_by_number.get(number)
    return found.name.removeprefix("PHASE_").lower() if found else str(number)


def _limit(value: Any) -> Any:
    if isinstance(value, duration_pb2.Duration):
        return value.seconds + value.nanos / 1e9
    return value


def describe(session: Session, statement: Statement, deadline: Deadline) -> Flow[list[Description]]:
    """Asks how each database prepares a statement."""

    def attempt() -> Flow[list[Description]]:
        request = pb.DescribeRequest(statement=statement_of(statement, ()))
        (answer,) = yield Call("Describe", request, deadline.timeout(), writes=False)
        found = []
        for side in answer.sides:
            of_side = side_of(side.side)
            if of_side is None:
                raise InternalError("a description names no database")
            failed = side.HasField("error")
            found.append(
                Description(
                    side=of_side,
                    parameter_types=tuple(side.parameter_types),
                    columns=columns_of(side.columns),
                    error=of_status(side.error, writes=False) if failed else None,
                )
            )
        return found

    return (yield from repeated(session, Repeat.READ, deadline, attempt))
