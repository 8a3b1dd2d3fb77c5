"""What goes wrong, as the classes of PEP 249.

Each error says what is known: the database's SQLSTATE and its fields, which of the two databases
refused, segue's own reason, whether the same call may be made again, and whether it had an effect.
"""

from __future__ import annotations

import enum

__all__ = [
    "Cancelled",
    "DataError",
    "DatabaseError",
    "DeadlineExceeded",
    "DeadlockDetected",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "Outcome",
    "OutcomeUnknown",
    "ProgrammingError",
    "SerializationFailure",
    "Side",
    "Unavailable",
    "UniqueViolation",
    "Warning",
]


class Side(enum.Enum):
    """One of the two databases of a migration."""

    SOURCE = "source"
    TARGET = "target"


class Outcome(enum.Enum):
    """What is known about the effect of a call that failed."""

    NOT_APPLIED = "not_applied"
    """Nothing was changed."""
    APPLIED = "applied"
    """The change was made and committed; only the answer could not be given."""
    UNKNOWN = "unknown"
    """It is not known. Look before you repeat the call, or repeat it with its idempotency key."""


class Warning(Exception):
    """Never raised; PEP 249 asks for it."""


class Error(Exception):
    """All errors of this package."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        sqlstate: str = "",
        detail: str = "",
        hint: str = "",
        position: int = 0,
        constraint: str = "",
        schema: str = "",
        table: str = "",
        column: str = "",
        side: Side | None = None,
        reason: str = "",
        retryable: bool = False,
        retry_delay: float | None = None,
        outcome: Outcome = Outcome.NOT_APPLIED,
        consistency_token: str = "",
        answered: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        """What went wrong."""
        self.code = code
        """The gRPC status, such as "ABORTED"; empty where the client itself refused."""
        self.sqlstate = sqlstate
        """Five characters; empty where the error did not come from a database."""
        self.detail = detail
        """The database's DETAIL."""
        self.hint = hint
        """The database's HINT, or what to do."""
        self.position = position
        """The place in the statement, in characters from 1; 0 where it is not known."""
        self.constraint = constraint
        """The constraint that the database named."""
        self.schema = schema
        """The schema that the database named."""
        self.table = table
        """The table that the database named."""
        self.column = column
        """The column that the database named."""
        self.side = side
        """The database that the error came from; nothing where it came from neither."""
        self.reason = reason
        """The stable name of an error of segue's own, such as "refused.ddl"."""
        self.retryable = retryable
        """Whether the same call, or the same transaction, may succeed when it is run again."""
        self.retry_delay = retry_delay
        """Seconds to wait before that; nothing where the call is not to be repeated as it is."""
        self.outcome = outcome
        """Whether the call had an effect."""
        self.consistency_token = consistency_token
        """What a later read must bring; the connection keeps it by itself."""
        self.answered = answered
        """Whether the sidecar answered; false where only the connection failed."""
        self.idempotency_key = ""
        """The key of a write of its own: pass it to repeat the write safely."""

    def __str__(self) -> str:
        lines = [self.message]
        if self.detail:
            lines.append(f"DETAIL: {self.detail}")
        if self.hint:
            lines.append(f"HINT: {self.hint}")
        return "\n".join(lines)


class InterfaceError(Error):
    """The package was used in a way that cannot work."""


class DatabaseError(Error):
    """A database, or segue, refused or failed."""


class DataError(DatabaseError):
    """A value does not fit."""


class OperationalError(DatabaseError):
    """Something outside of the program's control."""


class IntegrityError(DatabaseError):
    """A constraint was violated."""


class InternalError(DatabaseError):
    """The database is in a state that does not allow the statement."""


class ProgrammingError(DatabaseError):
    """The statement is wrong."""


class NotSupportedError(DatabaseError):
    """The database or segue does not have it, such as DDL through the sidecar."""


class UniqueViolation(IntegrityError):
    """SQLSTATE 23505."""


class SerializationFailure(OperationalError):
    """SQLSTATE 40001: run the whole transaction again."""


class DeadlockDetected(OperationalError):
    """SQLSTATE 40P01: run the whole transaction again."""


class Cancelled(OperationalError):
    """The call was cancelled."""


class DeadlineExceeded(OperationalError):
    """The call took longer than its deadline."""


class Unavailable(OperationalError):
    """The sidecar, or the database behind it, cannot be reached."""


class OutcomeUnknown(OperationalError):
    """It is not known whether the write was made. Look before you repeat it."""


_BY_SQLSTATE: dict[str, type[DatabaseError]] = {
    "23505": UniqueViolation,
    "40001": SerializationFailure,
    "40P01": DeadlockDetected,
    "57014": Cancelled,
}

_BY_SQLSTATE_CLASS: dict[str, type[DatabaseError]] = {
    "0A": NotSupportedError,
    "20": ProgrammingError,
    "21": ProgrammingError,
    "22": DataError,
    "23": IntegrityError,
    "24": InternalError,
    "25": InternalError,
    "26": ProgrammingError,
    "2B": InternalError,
    "2D": InternalError,
    "34": ProgrammingError,
    "3D": ProgrammingError,
    "3F": ProgrammingError,
    "42": ProgrammingError,
    "44": ProgrammingError,
    "P0": ProgrammingError,
    "XX": InternalError,
}

_BY_REASON: dict[str, type[DatabaseError]] = {
    "refused.outside_transaction": ProgrammingError,
    "refused.write_in_query": ProgrammingError,
    "refused.empty": ProgrammingError,
    "refused.multiple": ProgrammingError,
    "invalid.parameter": DataError,
}

_BY_REASON_FAMILY: dict[str, type[DatabaseError]] = {
    "refused": NotSupportedError,
    "invalid": ProgrammingError,
    "unavailable": Unavailable,
    "transaction": OperationalError,
}

_BY_CODE: dict[str, type[DatabaseError]] = {
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "UNAVAILABLE": Unavailable,
}

_BY_CODE_AT_LAST: dict[str, type[DatabaseError]] = {
    "INVALID_ARGUMENT": ProgrammingError,
    "NOT_FOUND": ProgrammingError,
    "UNIMPLEMENTED": NotSupportedError,
    "INTERNAL": InternalError,
    "DATA_LOSS": InternalError,
}


def class_of(*, code: str, sqlstate: str, reason: str, unknown: bool) -> type[DatabaseError]:
    """The class of an error by what is known of it."""
    if code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded
    if code == "CANCELLED":
        return Cancelled
    if unknown:
        return OutcomeUnknown
    found = _BY_SQLSTATE.get(sqlstate) or _BY_SQLSTATE_CLASS.get(sqlstate[:2])
    found = found or _BY_REASON.get(reason) or _BY_REASON_FAMILY.get(reason.partition(".")[0])
    return found or _BY_CODE.get(code) or _BY_CODE_AT_LAST.get(code) or OperationalError
