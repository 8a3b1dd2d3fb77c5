"""From a gRPC status to an error."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from segue.errors import Error, Outcome, Side, class_of
from segue.v1 import error_pb2

_SIDES: dict[int, Side] = {error_pb2.SIDE_SOURCE: Side.SOURCE, error_pb2.SIDE_TARGET: Side.TARGET}
_OUTCOMES: dict[int, Outcome] = {
    error_pb2.OUTCOME_NOT_APPLIED: Outcome.NOT_APPLIED,
    error_pb2.OUTCOME_APPLIED: Outcome.APPLIED,
}
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_DETAILS_KEY = "grpc-status-details-bin"
# What gRPC says where it had no connection, so that nothing was sent.
_NEVER_SENT = "failed to connect to all addresses"
_RETRY_UNANSWERED_S = 0.05


def side_of(side: int) -> Side | None:
    """A side of the protocol."""
    return _SIDES.get(side)


def of_rpc(error: Any, *, writes: bool) -> Error:
    """The error of a call that failed. `writes` says whether the call can have had an effect."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            return of_status(status_pb2.Status.FromString(value), writes=writes)
    code = error.code().name
    text = error.details() or ""
    never_sent = code == "UNAVAILABLE" and text.startswith(_NEVER_SENT)
    unknown = writes and not never_sent
    kind = class_of(code=code, sqlstate="", reason="", unknown=unknown)
    lost = code in ("UNAVAILABLE", "UNKNOWN", "INTERNAL")
    message = {
        "DEADLINE_EXCEEDED": "the call was not answered within its deadline",
        "CANCELLED": "the call was cancelled",
    }.get(code, f"the sidecar did not answer: {text}")
    if unknown:
        message += "; no one can tell whether the write was made"
    return kind(
        message,
        code=code,
        retryable=lost and not unknown,
        retry_delay=_RETRY_UNANSWERED_S if lost and not unknown else None,
        outcome=Outcome.UNKNOWN if unknown else Outcome.NOT_APPLIED,
    )


def of_status(status: Any, *, writes: bool) -> Error:
    """The error of a status with its details."""
    found = error_pb2.SqlError()
    retry = error_details_pb2.RetryInfo()
    has_retry = has_error = False
    for detail in status.details:
        if detail.Is(error_pb2.SqlError.DESCRIPTOR):
            has_error = detail.Unpack(found)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            has_retry = detail.Unpack(retry)
    unstated = Outcome.UNKNOWN if writes else Outcome.NOT_APPLIED
    outcome = _OUTCOMES.get(found.outcome, unstated) if has_error else unstated
    code = _CODES.get(status.code, "UNKNOWN")
    kind = class_of(
        code=code,
        sqlstate=found.sqlstate,
        reason=found.reason,
        unknown=outcome is Outcome.UNKNOWN and writes,
    )
    delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 if has_retry else None
    return kind(
        status.message or found.message,
        code=code,
        sqlstate=found.sqlstate,
        detail=found.detail,
        hint=found.hint,
        position=found.position,
        constraint=found.constraint,
        schema=found.schema,
        table=found.table,
        column=found.column,
        side=_SIDES.get(found.side),
        reason=found.reason,
        retryable=found.retryable,
        retry_delay=delay,
        outcome=outcome,
        consistency_token=found.consistency_token,
        answered=True,
    )
