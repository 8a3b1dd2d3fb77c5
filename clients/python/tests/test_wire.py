"""What both clients do with what a sidecar says, which a fake one says here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

import blocking
import segue
from segue._channel import REQUESTS, RESPONSES
from segue.v1 import error_pb2, value_pb2
from segue.v1 import sql_pb2 as pb

PASSING = {"outcome": error_pb2.OUTCOME_NOT_APPLIED, "retryable": True}
LOST = "lost"
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Fake:
    """A sidecar that does as a script says."""

    def __init__(self, script: Callable[[str, Any], Any]) -> None:
        self.calls: list[str] = []
        self._script = script
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers = {name: self._handler(name) for name in RESPONSES}
        generic = grpc.method_handlers_generic_handler("segue.v1.Sql", handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self.url = f"segue://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _handler(self, name: str) -> Any:
        def answered(request: Any, context: Any) -> Iterator[Any]:
            if name == "Info":
                yield pb.InfoResponse(features=[pb.FEATURE_IDEMPOTENCY_KEYS])
                return
            with self._lock:
                self.calls.append(name)
                answer = self._script(name, request)
            if answer is LOST:
                context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
            if isinstance(answer, status_pb2.Status):
                details = answer.SerializeToString()
                context.set_trailing_metadata((("grpc-status-details-bin", details),))
                context.abort(CODES[answer.code], answer.message)
            yield answer

        return grpc.unary_stream_rpc_method_handler(
            answered,
            request_deserializer=REQUESTS[name].FromString,
            response_serializer=RESPONSES[name].SerializeToString,
        )

    def count(self, name: str) -> int:
        return self.calls.count(name)

    def close(self) -> None:
        self._server.stop(None)


def failure(code: grpc.StatusCode, delay: bool = False, **fields: Any) -> status_pb2.Status:
    details = [error_pb2.SqlError(message="failed", **fields)]
    if delay:
        details.append(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=1000)))
    packed = [any_pb2.Any() for _ in details]
    for into, detail in zip(packed, details, strict=True):
        into.Pack(detail)
    return status_pb2.Status(code=code.value[0], message="failed", details=packed)


def answer_of(name: str) -> Any:
    """What a sidecar without errors answers."""
    if name == "Query":
        column = value_pb2.Column(name="n", type_name="int4", type_oid=23, type_modifier=-1)
        header = pb.Header(columns=[column], transaction_id="t")
        return pb.QueryResponse(header=header, footer=pb.Footer(write_id="w"))
    if name in ("Execute", "Batch"):
        return RESPONSES[name](transaction_id="t", write_id="w")
    return RESPONSES[name]()


@pytest.fixture(params=["sync", "asyncio"])
def connected(request: Any) -> Iterator[Any]:
    """Makes a fake sidecar of a script, and a connection to it."""
    made: list[Any] = []

    def connect(script: Callable[[str, Any], Any], **options: Any) -> tuple[Fake, Any]:
        fake = Fake(script)
        client = segue if request.param == "sync" else blocking
        db = client.connect(fake.url, **options)
        made.extend([db, fake])
        return fake, db

    yield connect
    for one in made:
        one.close()


def _executed(transaction: Any) -> None:
    transaction.execute("INSERT INTO x VALUES (1)", commit=True)


def _batched(transaction: Any) -> None:
    transaction.batch([("INSERT INTO x VALUES (1)", ())], commit=True)


def _queried(transaction: Any) -> None:
    transaction.execute("INSERT INTO x VALUES (1)")
    transaction.query("SELECT n", commit=True)


def _streamed(transaction: Any) -> None:
    transaction.execute("INSERT INTO x VALUES (1)")
    with transaction.stream("SELECT n", commit=True) as rows:
        assert list(rows) == []


def _left(transaction: Any) -> None:
    """Not read to its end: the commit may be under way."""
    transaction.execute("INSERT INTO x VALUES (1)")
    with transaction.stream("SELECT n", commit=True):
        pass


def _committed(transaction: Any) -> None:
    transaction.execute("INSERT INTO x VALUES (1)")
    transaction.commit()


@pytest.mark.parametrize(
    "committing", [_executed, _batched, _queried, _streamed, _left, _committed]
)
def test_what_fails_after_the_commit_is_not_run_again(connected: Any, committing: Any) -> None:
    fake, db = connected(lambda name, _: answer_of(name))
    passing = segue.OperationalError("it may pass", retryable=True)
    runs = []

    def function(transaction: Any) -> None:
        runs.append(1)
        committing(transaction)
        raise passing

    with pytest.raises(segue.OperationalError) as caught:
        db.run(function, attempts=2)
    assert caught.value is passing
    assert len(runs) == 1
    assert fake.count("Execute") + fake.count("Batch") == 1


CONFLICT = failure(grpc.StatusCode.ABORTED, sqlstate="40001", **PASSING)
APPLIED = failure(grpc.StatusCode.INTERNAL, outcome=error_pb2.OUTCOME_APPLIED)
CUT_SHORT = pb.QueryResponse(header=pb.Header(transaction_id="t"))


@pytest.mark.parametrize(
    ("committing", "call", "answer", "runs"),
    [
        (_executed, "Execute", LOST, 1),
        (_executed, "Execute", APPLIED, 1),
        (_executed, "Execute", CONFLICT, 2),
        (_batched, "Batch", LOST, 1),
        (_batched, "Batch", CONFLICT, 2),
        (_queried, "Query", LOST, 1),
        (_queried, "Query", CUT_SHORT, 1),
        (_queried, "Query", CONFLICT, 2),
        (_streamed, "Query", LOST, 1),
        (_streamed, "Query", CUT_SHORT, 1),
        (_streamed, "Query", CONFLICT, 2),
        (_committed, "Commit", LOST, 1),
        (_committed, "Commit", CONFLICT, 2),
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_commit_that_may_have_taken_effect_is_not_run_again(
    connected: Any, committing: Any, call: str, answer: Any, runs: int, hidden: bool
) -> None:
    """Also where the function hides its error behind another."""
    fake, db = connected(lambda name, _: answer if name == call else answer_of(name))
    ran = []

    def function(transaction: Any) -> None:
        ran.append(1)
        try:
            committing(transaction)
        except segue.Error:
            if not hidden:
                raise
            raise segue.OperationalError("it may pass", retryable=True) from None

    with pytest.raises(segue.Error):
        db.run(function, attempts=2)
    assert len(ran) == runs
    assert fake.count(call) == runs


NOT_APPLIED = error_pb2.OUTCOME_NOT_APPLIED


@pytest.mark.parametrize(
    ("repeat", "outcome"),
    [
        (
            failure(grpc.StatusCode.FAILED_PRECONDITION, outcome=NOT_APPLIED, reason="refused.x"),
            "unknown",
        ),
        (failure(grpc.StatusCode.CANCELLED, outcome=NOT_APPLIED, sqlstate="57014"), "unknown"),
        (failure(grpc.StatusCode.UNAVAILABLE, sqlstate="57P03", **PASSING), "unknown"),
        (
            failure(grpc.StatusCode.FAILED_PRECONDITION, outcome=NOT_APPLIED, sqlstate="23514"),
            "not_applied",
        ),
        (APPLIED, "applied"),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_a_repeat_that_is_refused_for_good_is_the_last_one(
    connected: Any, repeat: Any, outcome: str, batch: bool
) -> None:
    answers = [LOST, repeat]
    fake, db = connected(lambda name, _: answers.pop(0) if answers else answer_of(name))
    statement = "UPDATE x SET y = 1"
    with pytest.raises(segue.Error) as caught:
        db.batch([(statement, ())]) if batch else db.execute(statement)
    assert caught.value.outcome.value == outcome
    assert len(fake.calls) == 2
