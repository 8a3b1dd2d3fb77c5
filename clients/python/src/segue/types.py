"""Values that Python's own types cannot hold, or cannot tell apart.

Python's types are used wherever they hold the value exactly. Where they do not, the value comes as
one of these and is never rounded: dates before year 1 or after 9999, infinities, 24:00, intervals
with months, arrays whose indexes do not begin at 1.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from segue.errors import DataError

__all__ = [
    "Array",
    "Date",
    "Interval",
    "Json",
    "Opaque",
    "Other",
    "Range",
    "Time",
    "Timestamp",
]

MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
EPOCH = dt.datetime(1970, 1, 1)
EPOCH_UTC = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
EPOCH_ORDINAL = EPOCH.toordinal()
# Days since 1970 that datetime.date holds.
DAYS_MIN = dt.date.min.toordinal() - EPOCH_ORDINAL
DAYS_MAX = dt.date.max.toordinal() - EPOCH_ORDINAL

_T = TypeVar("_T")


def _civil(days: int) -> str:
    """The date of a day since 1970, of any year, as PostgreSQL writes it; BC apart."""
    # The algorithm counts from 0000-03-01 in eras of 400 years.
    shifted = days + 719_468
    era, of_era = divmod(shifted, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    shown = year if year > 0 else 1 - year
    return f"{shown:04d}-{month:02d}-{day:02d}"


def _is_bc(days: int) -> bool:
    # 0001-01-01.
    return days < -719_162


def _clock(micros: int) -> str:
    seconds, fraction = divmod(micros, MICROS_PER_SECOND)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


_INFINITE = {1: "infinity", -1: "-infinity"}


@dataclasses.dataclass(frozen=True)
class Date:
    """A date that `datetime.date` cannot hold."""

    days: int = 0
    """Days since 1970-01-01."""
    infinity: int = 0
    """1 for 'infinity', -1 for '-infinity', 0 for a finite date."""

    def __str__(self) -> str:
        if self.infinity:
            return _INFINITE[self.infinity]
        return _civil(self.days) + (" BC" if _is_bc(self.days) else "")


@dataclasses.dataclass(frozen=True)
class Timestamp:
    """A point in time that `datetime.datetime` cannot hold."""

    micros: int = 0
    """Microseconds since 1970-01-01, in UTC or on the wall clock."""
    zoned: bool = False
    """Whether it is a timestamp with time zone."""
    infinity: int = 0
    """1 for 'infinity', -1 for '-infinity', 0 for a finite time."""

    def __str__(self) -> str:
        if self.infinity:
            return _INFINITE[self.infinity]
        days, micros = divmod(self.micros, MICROS_PER_DAY)
        zone = "+00" if self.zoned else ""
        return f"{_civil(days)} {_clock(micros)}{zone}" + (" BC" if _is_bc(days) else "")


@dataclasses.dataclass(frozen=True)
class Time:
    """A time of the day that `datetime.time` cannot hold: 24:00."""

    micros: int
    """Microseconds since midnight."""

    def __str__(self) -> str:
        return _clock(self.micros)


@dataclasses.dataclass(frozen=True)
class Interval:
    """A span of time in PostgreSQL's three units, which do not convert into each other."""

    months: int = 0
    """Months; twelve for a year."""
    days: int = 0
    """Days."""
    micros: int = 0
    """Microseconds."""
    infinity: int = 0
    """1 for 'infinity', -1 for '-infinity', 0 for a finite span."""

    @classmethod
    def of(cls, span: dt.timedelta) -> Interval:
        """A timedelta; days and time get the same sign."""
        micros = (span.days * 86_400 + span.seconds) * MICROS_PER_SECOND + span.microseconds
        days, rest = divmod(abs(micros), MICROS_PER_DAY)
        sign = -1 if micros < 0 else 1
        return cls(days=sign * days, micros=sign * rest)

    def exact(self) -> dt.timedelta | None:
        """The timedelta that stands for the same interval, if there is one."""
        alike = (self.days >= 0 and self.micros >= 0) or (self.days <= 0 and self.micros <= 0)
        if self.months or self.infinity or not alike or abs(self.micros) >= MICROS_PER_DAY:
            return None
        try:
            return dt.timedelta(days=self.days, microseconds=self.micros)
        except OverflowError:
            return None

    def timedelta(self) -> dt.timedelta:
        """As a timedelta, a day being 24 hours. An interval with months has none."""
        if self.months or self.infinity:
            raise DataError(f"the interval {self} has no number of days: use its parts")
        return dt.timedelta(days=self.days, microseconds=self.micros)

    def __str__(self) -> str:
        if self.infinity:
            return _INFINITE[self.infinity]
        sign = "-" if self.micros < 0 else ""
        return f"{self.months} mons {self.days} days {sign}{_clock(abs(self.micros))}"


@dataclasses.dataclass(frozen=True)
class Json:
    """A parameter that is JSON. A dict is taken for JSON by itself, a list for an array."""

    value: Any
    """What is written as JSON; `text` takes precedence."""
    text: str | None = None
    """The document itself."""


@dataclasses.dataclass(frozen=True)
class Other:
    """PostgreSQL's text of a value of another type: as a parameter, by the type's name."""

    type_name: str
    """The type's name without its schema."""
    text: str
    """What `value::text` gives."""

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A value of a type that segue does not decode."""

    type_name: str
    """The type's name without its schema."""
    data: bytes
    """PostgreSQL's binary form."""


class Array(list[Any]):
    """A list that knows what a list does not: other lower bounds, or the type of its elements."""

    def __init__(
        self,
        elements: Iterable[Any] = (),
        *,
        lower_bounds: tuple[int, ...] = (),
        element_type: str = "",
    ) -> None:
        super().__init__(elements)
        self.lower_bounds = lower_bounds
        self.element_type = element_type

    def __eq__(self, other: object) -> bool:
        bounds = getattr(other, "lower_bounds", ())
        return list.__eq__(self, other) is True and self.lower_bounds == bounds

    __hash__ = None

    def __repr__(self) -> str:
        return f"Array({list.__repr__(self)}, lower_bounds={self.lower_bounds})"


@dataclasses.dataclass(frozen=True)
class Range(Generic[_T]):
    """A range; a bound that is None is unbounded."""

    lower: _T | None = None
    """The lower bound."""
    upper: _T | None = None
    """The upper bound."""
    bounds: str = "[)"
    """Which bounds belong to it: "[" and "]" do, "(" and ")" do not."""
    empty: bool = False
    """Holds nothing; the other fields do not count then."""

    def __contains__(self, value: Any) -> bool:
        if self.empty:
            return False
        if self.lower is not None and (
            value < self.lower or (value == self.lower and self.bounds[0] == "(")
        ):
            return False
        return self.upper is None or not (
            value > self.upper or (value == self.upper and self.bounds[1] == ")")
        )

    def __str__(self) -> str:
        if self.empty:
            return "empty"
        return f"{self.bounds[0]}{_bound(self.lower)},{_bound(self.upper)}{self.bounds[1]}"


_QUOTED = frozenset('()[],"\\ \t\n')


def _bound(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    if text and not _QUOTED.intersection(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
