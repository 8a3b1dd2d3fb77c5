"""Answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, overload

from segue.errors import ProgrammingError, Side

Row = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of an answer."""

    name: str
    """The column's name."""
    type_name: str
    """The type's name without its schema, "int4", "_text" for an array."""
    type_oid: int
    """The type's oid on the database that answered."""
    type_modifier: int
    """PostgreSQL's type modifier; -1 where the type has none."""


@dataclasses.dataclass(frozen=True)
class Result(Sequence[Row]):
    """The rows of an answer, and what is known of it."""

    columns: tuple[Column, ...] = ()
    """The columns of each row; none where the statement returns no rows."""
    rows: list[Row] = dataclasses.field(default_factory=list)
    """The rows."""
    affected_rows: int = 0
    """Rows inserted, updated or deleted; of a read, those that it returned."""
    side: Side | None = None
    """The database that answered a read."""
    write_id: str = ""
    """The id of what was committed, as traces and the outbox have it."""
    already_applied: bool = False
    """An earlier call with the same idempotency key made the write: this is its answer."""

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __bool__(self) -> bool:
        return bool(self.rows)

    def one(self) -> Row:
        """The only row; an error where there is none or another."""
        if len(self.rows) != 1:
            raise ProgrammingError(f"expected one row, found {len(self.rows)}")
        return self.rows[0]

    def first(self) -> Row | None:
        """The first row, or None."""
        return self.rows[0] if self.rows else None

    def value(self) -> Any:
        """The only value of the only row."""
        row = self.one()
        if len(row) != 1:
            raise ProgrammingError(f"expected one column, found {len(row)}")
        return row[0]

    def dicts(self) -> list[dict[str, Any]]:
        """The rows by the names of their columns."""
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ProgrammingError("two columns have the same name: give them others by AS")
        return [dict(zip(names, row, strict=True)) for row in self.rows]


@dataclasses.dataclass(frozen=True)
class BatchResult(Sequence[Result]):
    """What the statements of a batch did, in their order."""

    results: tuple[Result, ...] = ()
    """One for each statement."""
    write_id: str = ""
    """The id of what was committed."""
    already_applied: bool = False
    """An earlier call with the same idempotency key made the writes."""

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Result]: ...
    def __getitem__(self, index: int | slice) -> Result | Sequence[Result]:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)


@dataclasses.dataclass(frozen=True)
class Info:
    """What the sidecar is and where the migration stands."""

    version: str
    """The sidecar's version."""
    phase: str
    """Where the migration is: "source_only", "dual_write", …"""
    epoch: int
    """Rises with every change of the phase or of the share of reads."""
    features: frozenset[str]
    """What the sidecar can do: "pipeline", "packed_rows", …"""
    limits: dict[str, Any]
    """The sidecar's limits by their names; times in seconds."""


@dataclasses.dataclass(frozen=True)
class Description:
    """How one database prepares a statement."""

    side: Side
    """Which database."""
    parameter_types: tuple[str, ...]
    """Type names in the order of $1, $2, …"""
    columns: tuple[Column, ...]
    """The columns of its rows."""
    error: Exception | None
    """Set where this database cannot prepare the statement."""
