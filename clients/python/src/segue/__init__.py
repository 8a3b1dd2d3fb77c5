"""Client of segue, the sidecar that moves a live application from one database to another.

    import segue

    with segue.connect("segue://127.0.0.1:7400") as db:
        rows = db.query("SELECT id, total FROM orders WHERE customer = $1", 7)
        db.execute("UPDATE orders SET total = $1 WHERE id = $2", total, id)
        with db.transaction() as tx:
            tx.execute("…")
            tx.execute("…", commit=True)

`segue.aio` has the same for asyncio, `segue.dbapi` is PEP 249, and `postgresql+segue://` is a
dialect of SQLAlchemy.
"""

from segue._core import DEFAULT, Named, named
from segue._options import Options, loads_exact
from segue._results import BatchResult, Column, Description, Info, Result
from segue._sync import Connection, Stream, Transaction, connect
from segue.errors import (
    Cancelled,
    DatabaseError,
    DataError,
    DeadlineExceeded,
    DeadlockDetected,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    Outcome,
    OutcomeUnknown,
    ProgrammingError,
    SerializationFailure,
    Side,
    Unavailable,
    UniqueViolation,
    Warning,
)
from segue.types import Array, Date, Interval, Json, Opaque, Other, Range, Time, Timestamp

__version__ = "0.1.0"

__all__ = [
    "DEFAULT",
    "Array",
    "BatchResult",
    "Cancelled",
    "Column",
    "Connection",
    "DataError",
    "DatabaseError",
    "Date",
    "DeadlineExceeded",
    "DeadlockDetected",
    "Description",
    "Error",
    "Info",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "Interval",
    "Json",
    "Named",
    "NotSupportedError",
    "Opaque",
    "OperationalError",
    "Options",
    "Other",
    "Outcome",
    "OutcomeUnknown",
    "ProgrammingError",
    "Range",
    "Result",
    "SerializationFailure",
    "Side",
    "Stream",
    "Time",
    "Timestamp",
    "Transaction",
    "Unavailable",
    "UniqueViolation",
    "Warning",
    "connect",
    "loads_exact",
    "named",
]
