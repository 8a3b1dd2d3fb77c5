"""What is repeated, and which tokens are kept: without a sidecar."""

from __future__ import annotations

from typing import Any

import pytest

import segue
from segue import _core as core
from segue._core import Repeat


def error(**fields: Any) -> segue.Error:
    return segue.OperationalError("failed", **fields)


UNKNOWN = segue.Outcome.UNKNOWN
LOST = {"outcome": UNKNOWN, "answered": False}
CONFLICT = {"retryable": True, "retry_delay": 0.0, "answered": True, "code": "ABORTED"}


@pytest.mark.parametrize(
    ("fields", "repeats"),
    [
        (CONFLICT, {Repeat.READ, Repeat.KEYED, Repeat.UNAPPLIED}),
        ({"retryable": True, "answered": True}, {Repeat.READ}),
        ({"answered": True}, set()),
        (LOST, {Repeat.READ, Repeat.KEYED}),
        ({"outcome": UNKNOWN, "answered": True}, {Repeat.KEYED}),
        ({"outcome": segue.Outcome.APPLIED, "answered": True}, set()),
    ],
)
def test_only_what_is_safe_is_repeated(fields: Any, repeats: set[Repeat]) -> None:
    assert {repeat for repeat in Repeat if core.may_repeat(error(**fields), repeat)} == repeats


@pytest.mark.parametrize("kind", [segue.Cancelled, segue.DeadlineExceeded])
def test_what_the_caller_stopped_is_never_repeated(kind: type[segue.Error]) -> None:
    assert not any(core.may_repeat(kind("x", **CONFLICT), repeat) for repeat in Repeat)


def run(flow: Any, answers: list[Any]) -> Any:
    """Drives a flow with answers and errors; gives its value."""
    left = list(answers)
    try:
        step = next(flow)
        while True:
            if isinstance(step, core.Sleep):
                step = flow.send(None)
                continue
            assert left, f"another call is made: {step}"
            answer = left.pop(0)
            step = flow.throw(answer) if isinstance(answer, Exception) else flow.send([answer])
    except StopIteration as end:
        assert not left
        return end.value


def written(token: str = "") -> Any:
    return core.pb.ExecuteResponse(consistency_token=token)


def session() -> core.Session:
    return core.Session(segue.Options())


def write(of: core.Session, **asked: Any) -> Any:
    return core.execute(of, "UPDATE a SET b = 1", (), core.Asked(core.Deadline(30), **asked))


def test_a_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    keys = []
    flow = write(session())
    step: Any = next(flow)
    keys.append(step.request.idempotency_key)
    step = flow.throw(error(**LOST))
    assert isinstance(step, core.Sleep)
    step = next(flow)
    keys.append(step.request.idempotency_key)
    with pytest.raises(StopIteration):
        flow.send([written()])
    assert keys[0] == keys[1] != ""


def test_a_write_of_unknown_outcome_stays_so_when_its_repeat_finds_nobody() -> None:
    class Short(core.Deadline):
        """Over after the second call."""

        calls = 0

        def left(self) -> float:
            self.calls += 1
            return 30.0 if self.calls <= 3 else 0.0

    away = error(retryable=True, answered=False, code="UNAVAILABLE")
    flow = core.execute(session(), "UPDATE a SET b = 1", (), core.Asked(Short(30)))
    with pytest.raises(segue.Error) as caught:
        run(flow, [error(**LOST), away])
    assert caught.value is away
    assert caught.value.outcome is UNKNOWN
    assert caught.value.idempotency_key


def test_what_the_database_says_of_the_repeat_is_believed() -> None:
    refused = error(sqlstate="23514", answered=True)
    with pytest.raises(segue.Error) as caught:
        run(write(session()), [error(**LOST), refused])
    assert caught.value.outcome is segue.Outcome.NOT_APPLIED


def test_conflicts_are_not_repeated_for_ever() -> None:
    with pytest.raises(segue.Error):
        run(write(session()), [error(**CONFLICT) for _ in range(core._CONFLICTS_MAX)])


def test_without_retries_the_first_error_is_the_last() -> None:
    made = core.Session(segue.Options(retry=False))
    with pytest.raises(segue.Error):
        run(write(made), [error(**CONFLICT)])


def test_an_answers_token_replaces_those_that_its_call_brought() -> None:
    made = session()
    run(write(made), [written("a")])
    first, second = write(made), write(made)
    assert list(next(first).request.consistency_tokens) == ["a"]
    assert list(next(second).request.consistency_tokens) == ["a"]
    for flow, token in ((first, "b"), (second, "c")):
        with pytest.raises(StopIteration):
            flow.send([written(token)])
    assert made.tokens.brought() == ["b", "c"]
    run(write(made), [written("")])
    assert made.tokens.brought() == []


def test_an_errors_token_is_kept_and_none_is_lost() -> None:
    made = session()
    made.tokens.add(["a"])
    with pytest.raises(segue.Error):
        run(write(made), [error(answered=True)])
    assert made.tokens.brought() == ["a"]
    with pytest.raises(segue.Error):
        run(write(made), [error(answered=True, consistency_token="b")])
    assert made.tokens.brought() == ["b"]


def test_a_key_inside_a_transaction_is_refused() -> None:
    made = session()
    transaction = core.Transacted(made, core.transaction_options())
    with pytest.raises(segue.InterfaceError):
        run(write(made, transaction=transaction, idempotency_key="k"), [])


def test_an_answer_without_a_footer_is_an_error() -> None:
    reader = core.Reader(session())
    reader.feed(core.pb.QueryResponse(header=core.pb.Header()))
    with pytest.raises(segue.InternalError):
        reader.end()


def test_an_isolation_level_that_is_none_is_refused() -> None:
    with pytest.raises(segue.InterfaceError, match="serializable"):
        core.transaction_options("chaos")


def test_more_tokens_than_a_call_may_bring_are_folded_first() -> None:
    made = session()
    made.tokens.add(f"t{i}" for i in range(300))
    flow = write(made)
    step = next(flow)
    assert step.method == "Query"
    assert len(step.request.consistency_tokens) == core._TOKENS_MAX
    footer = core.pb.Footer(consistency_token="all")
    step = flow.send([core.pb.QueryResponse(header=core.pb.Header(), footer=footer)])
    assert step.method == "Execute"
    assert set(step.request.consistency_tokens) == {"all", *(f"t{i}" for i in range(256, 300))}
