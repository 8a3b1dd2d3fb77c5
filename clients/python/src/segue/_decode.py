"""From the protocol's values to Python's, without loss."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from segue.errors import InternalError
from segue.types import (
    DAYS_MAX,
    DAYS_MIN,
    EPOCH,
    EPOCH_ORDINAL,
    EPOCH_UTC,
    MICROS_PER_DAY,
    MICROS_PER_SECOND,
    Array,
    Date,
    Interval,
    Opaque,
    Range,
    Time,
    Timestamp,
)
from segue.v1 import value_pb2 as pb

JsonLoads = Callable[[str], Any]

_SIGN = {
    pb.INFINITY_UNSPECIFIED: 0,
    pb.INFINITY_POSITIVE: 1,
    pb.INFINITY_NEGATIVE: -1,
}
# Microseconds since 1970 that datetime holds.
MICROS_MIN = DAYS_MIN * MICROS_PER_DAY
MICROS_MAX = (DAYS_MAX + 1) * MICROS_PER_DAY - 1


def date_of(days: int) -> dt.date | Date:
    """A day since 1970."""
    if DAYS_MIN <= days <= DAYS_MAX:
        return dt.date.fromordinal(days + EPOCH_ORDINAL)
    return Date(days)


def timestamp_of(micros: int) -> dt.datetime | Timestamp:
    """Microseconds since 1970 on the wall clock."""
    if MICROS_MIN <= micros <= MICROS_MAX:
        return EPOCH + dt.timedelta(microseconds=micros)
    return Timestamp(micros)


def timestamptz_of(micros: int) -> dt.datetime | Timestamp:
    """Microseconds since 1970 in UTC."""
    if MICROS_MIN <= micros <= MICROS_MAX:
        return EPOCH_UTC + dt.timedelta(microseconds=micros)
    return Timestamp(micros, zoned=True)


def time_of(micros: int) -> dt.time | Time:
    """Microseconds since midnight."""
    if not 0 <= micros < MICROS_PER_DAY:
        return Time(micros)
    seconds, fraction = divmod(micros, MICROS_PER_SECOND)
    return dt.time(seconds // 3600, seconds // 60 % 60, seconds % 60, fraction)


def interval_of(interval: Interval) -> dt.timedelta | Interval:
    """A timedelta where it says the same."""
    exact = interval.exact()
    return interval if exact is None else exact


def array_of(elements: list[Any], lengths: Sequence[int], bounds: Sequence[int]) -> list[Any]:
    """Nested lists from elements in row-major order."""
    for length in reversed(lengths[1:]):
        elements = [elements[at : at + length] for at in range(0, len(elements), length)]
    if any(bound != 1 for bound in bounds):
        return Array(elements, lower_bounds=tuple(bounds))
    return elements


_TIMETZ = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d+))?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?")


def timetz_of(text: str) -> dt.time | str:
    """A time with zone; 24:00 stays a text."""
    found = _TIMETZ.fullmatch(text)
    if not found or found[1] == "24":
        return text
    hour, minute, second, fraction, sign, *zone = found.groups()
    hours, minutes, seconds = (int(part or 0) for part in zone)
    offset = dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)
    zone_of = dt.timezone(-offset if sign == "-" else offset)
    micros = int((fraction or "0").ljust(6, "0"))
    return dt.time(int(hour), int(minute), int(second), micros, tzinfo=zone_of)


def inet_of(text: str) -> Any:
    """An address, or an interface where it has a netmask."""
    return ipaddress.ip_interface(text) if "/" in text else ipaddress.ip_address(text)


_DATE = re.compile(r"(\d{4,})-(\d\d)-(\d\d)( BC)?")
_TIMESTAMP = re.compile(
    r"(\d{4,}-\d\d-\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(\+00(?::00)?)?( BC)?"
)
_INFINITIES = {"infinity": 1, "-infinity": -1}


def _days_of(text: str) -> int:
    """The day of a date of any year."""
    found = _DATE.fullmatch(text)
    if not found:
        raise InternalError(f"{text!r} is no date as PostgreSQL writes it")
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    if found[4]:
        year = 1 - year
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + of_era - 719_468


def _date_text(text: str) -> dt.date | Date:
    if text in _INFINITIES:
        return Date(infinity=_INFINITIES[text])
    return date_of(_days_of(text))


def _timestamp_text(text: str, zoned: bool) -> dt.datetime | Timestamp:
    if text in _INFINITIES:
        return Timestamp(zoned=zoned, infinity=_INFINITIES[text])
    found = _TIMESTAMP.fullmatch(text)
    if not found:
        raise InternalError(f"{text!r} is no timestamp as PostgreSQL writes it")
    date, hour, minute, second, fraction, _, era = found.groups()
    seconds = (int(hour) * 60 + int(minute)) * 60 + int(second)
    micros = seconds * MICROS_PER_SECOND + int((fraction or "0").ljust(6, "0"))
    micros += _days_of(date + (era or "")) * MICROS_PER_DAY
    return timestamptz_of(micros) if zoned else timestamp_of(micros)


_BOUND = r'("(?:[^"\\]|\\.|"")*"|[^,"\[\]()]*)'
_RANGE = re.compile(rf"([\[(]){_BOUND},{_BOUND}([\])])", re.DOTALL)
_ESCAPED = re.compile(r'\\(.)|""', re.DOTALL)


def range_of(text: str, bound: Callable[[str], Any]) -> Range[Any]:
    """A range as PostgreSQL writes it."""
    if text == "empty":
        return Range(empty=True)
    found = _RANGE.fullmatch(text)
    if not found:
        raise InternalError(f"{text!r} is no range as PostgreSQL writes it")

    def read(part: str) -> Any:
        if part == "":
            return None
        if part.startswith('"'):
            part = _ESCAPED.sub(lambda escape: escape[1] or '"', part[1:-1])
        return bound(part)

    return Range(read(found[2]), read(found[3]), found[1] + found[4])


_OTHERS: dict[str, Callable[[str], Any]] = {
    "inet": inet_of,
    "cidr": ipaddress.ip_network,
    "timetz": timetz_of,
    "int4range": lambda text: range_of(text, int),
    "int8range": lambda text: range_of(text, int),
    "numrange": lambda text: range_of(text, Decimal),
    "daterange": lambda text: range_of(text, _date_text),
    "tsrange": lambda text: range_of(text, lambda bound: _timestamp_text(bound, False)),
    "tstzrange": lambda text: range_of(text, lambda bound: _timestamp_text(bound, True)),
}


def decode(value: pb.Value, json_loads: JsonLoads) -> Any:
    """One value of a typed row."""
    kind = value.WhichOneof("kind")
    if kind is None:
        raise InternalError("a value has no kind: the sidecar is newer than this client")
    decoder = _DECODERS.get(kind)
    if decoder is not None:
        return decoder(getattr(value, kind))
    if kind == "json":
        return json_loads(value.json)
    return _array(value.array, json_loads)


def _timestamp(value: pb.Timestamp, zoned: bool) -> dt.datetime | Timestamp:
    if value.infinity:
        return Timestamp(zoned=zoned, infinity=_SIGN[value.infinity])
    micros = value.seconds * MICROS_PER_SECOND + value.micros
    return timestamptz_of(micros) if zoned else timestamp_of(micros)


def _date(value: pb.Date) -> dt.date | Date:
    if value.infinity:
        return Date(infinity=_SIGN[value.infinity])
    return date_of(value.days)


def _interval(value: pb.Interval) -> dt.timedelta | Interval:
    return interval_of(
        Interval(value.months, value.days, value.micros, infinity=_SIGN[value.infinity])
    )


def _other(value: pb.Other) -> Any:
    read = _OTHERS.get(value.type_name)
    return read(value.text) if read else value.text


def _array(value: pb.Array, json_loads: JsonLoads) -> list[Any]:
    elements = [decode(element, json_loads) for element in value.elements]
    lengths = [dimension.length for dimension in value.dimensions]
    bounds = [dimension.lower_bound for dimension in value.dimensions]
    return array_of(elements, lengths, bounds)


def _same(value: Any) -> Any:
    return value


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "null": lambda _: None,
    "bool": _same,
    "int64": _same,
    "double": _same,
    "numeric": Decimal,
    "text": _same,
    "bytes": _same,
    "timestamp": lambda value: _timestamp(value, False),
    "timestamptz": lambda value: _timestamp(value, True),
    "date": _date,
    "time": time_of,
    "interval": _interval,
    "uuid": uuid.UUID,
    "other": _other,
    "opaque": lambda value: Opaque(value.type_name, value.data),
}


def typed_rows(rows: pb.TypedRows, json_loads: JsonLoads) -> list[tuple[Any, ...]]:
    """The rows of one message."""
    return [tuple([decode(value, json_loads) for value in row.values]) for row in rows.rows]
