"""From Python's values to those of the protocol: exactly, or not at all."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import json
import math
import numbers
import uuid
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from segue.errors import DataError
from segue.types import (
    EPOCH,
    EPOCH_ORDINAL,
    EPOCH_UTC,
    MICROS_PER_SECOND,
    Array,
    Date,
    Interval,
    Json,
    Opaque,
    Other,
    Range,
    Time,
    Timestamp,
)
from segue.v1 import value_pb2 as pb

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_INFINITY = {
    0: pb.INFINITY_UNSPECIFIED,
    1: pb.INFINITY_POSITIVE,
    -1: pb.INFINITY_NEGATIVE,
}
_NULL = pb.Value(null="NULL_VALUE")


def dumps_exact(value: Any) -> str:
    """Writes JSON; a Decimal becomes a number with all its digits."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except TypeError:
        return "".join(_json_parts(value))
    except ValueError as error:
        raise DataError(f"the value cannot be written as JSON: {error}") from None


def _json_parts(value: Any) -> Iterable[str]:
    if isinstance(value, Decimal) and value.is_finite():
        yield str(value)
    elif isinstance(value, Mapping):
        yield "{"
        for index, (key, item) in enumerate(value.items()):
            # What `json` makes of keys that are no texts, without the braces and the zero.
            name = json.dumps({key: 0}, ensure_ascii=False)[1:-4]
            yield ("," if index else "") + name + ":"
            yield from _json_parts(item)
        yield "}"
    elif isinstance(value, (list, tuple)):
        yield "["
        for index, item in enumerate(value):
            if index:
                yield ","
            yield from _json_parts(item)
        yield "]"
    else:
        try:
            yield json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError(f"the value cannot be written as JSON: {error}") from None


def encode(value: Any) -> pb.Value:
    """A parameter of any type."""
    if value is None:
        return _NULL
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        encoder = _encoder_of(value)
    try:
        return encoder(value)
    except (UnicodeEncodeError, OverflowError) as error:
        raise DataError(f"the value {value!r:.60} cannot be sent: {error}") from None


def _encoder_of(value: Any) -> Callable[[Any], pb.Value]:
    if isinstance(value, enum.Enum) and not isinstance(value, (str, int)):
        return lambda member: pb.Value(text=member.name)
    for kind, encoder in _BY_BASE:
        if isinstance(value, kind):
            return encoder
    name = type(value).__qualname__
    hint = "cast it, or give its text as str or segue.Other"
    if isinstance(value, tuple):
        hint = "give a list for an array, and the text of a row as str"
    raise DataError(f"a parameter cannot be a {name}", hint=hint)


def _integer(value: Any) -> pb.Value:
    number = int(value)
    if INT64_MIN <= number <= INT64_MAX:
        return pb.Value(int64=number)
    return pb.Value(numeric=format(Decimal(number), "f"))


def _decimal(value: Decimal) -> pb.Value:
    if value.is_finite():
        return pb.Value(numeric=format(value, "f"))
    if value.is_snan():
        raise DataError("a signalling NaN cannot be sent", hint="give Decimal('NaN')")
    if value.is_nan():
        return pb.Value(numeric="NaN")
    return pb.Value(numeric="Infinity" if value > 0 else "-Infinity")


def _datetime(value: dt.datetime) -> pb.Value:
    zoned = value.utcoffset() is not None
    since = value - EPOCH_UTC if zoned else value.replace(tzinfo=None) - EPOCH
    at = pb.Timestamp(seconds=since.days * 86_400 + since.seconds, micros=since.microseconds)
    return pb.Value(timestamptz=at) if zoned else pb.Value(timestamp=at)


def _timestamp(value: Timestamp) -> pb.Value:
    seconds, micros = divmod(value.micros, MICROS_PER_SECOND)
    at = pb.Timestamp(seconds=seconds, micros=micros, infinity=_INFINITY[value.infinity])
    return pb.Value(timestamptz=at) if value.zoned else pb.Value(timestamp=at)


def _date(value: dt.date) -> pb.Value:
    return pb.Value(date=pb.Date(days=value.toordinal() - EPOCH_ORDINAL))


def _wide_date(value: Date) -> pb.Value:
    return pb.Value(date=pb.Date(days=value.days, infinity=_INFINITY[value.infinity]))


def _time(value: dt.time) -> pb.Value:
    if value.tzinfo is not None:
        return pb.Value(other=pb.Other(type_name="timetz", text=value.isoformat()))
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return pb.Value(time=seconds * MICROS_PER_SECOND + value.microsecond)


def _interval(value: Interval) -> pb.Value:
    return pb.Value(
        interval=pb.Interval(
            months=value.months,
            days=value.days,
            micros=value.micros,
            infinity=_INFINITY[value.infinity],
        )
    )


def _json(value: Json) -> pb.Value:
    return pb.Value(json=value.text if value.text is not None else dumps_exact(value.value))


def _array(value: list[Any]) -> pb.Value:
    lengths: list[int] = []
    level: Any = value
    while isinstance(level, list):
        lengths.append(len(level))
        level = level[0] if level else None
    if 0 in lengths:
        lengths = []
    flat: list[Any] = []
    _flatten(value, lengths, flat)
    elements = [encode(element) for element in flat]
    bounds = getattr(value, "lower_bounds", ()) or (1,) * len(lengths)
    if len(bounds) != len(lengths):
        raise DataError(f"the array has {len(lengths)} dimensions and {len(bounds)} lower bounds")
    dimensions = [
        pb.Dimension(length=length, lower_bound=bound)
        for length, bound in zip(lengths, bounds, strict=True)
    ]
    name = getattr(value, "element_type", "") or _element_type(elements)
    return pb.Value(array=pb.Array(element_type=name, dimensions=dimensions, elements=elements))


def _flatten(value: Any, lengths: list[int], flat: list[Any]) -> None:
    if not lengths:
        if isinstance(value, list) and any(value):
            raise DataError("the lists of an array have different lengths")
        if not isinstance(value, list):
            flat.append(value)
        return
    if not isinstance(value, list) or len(value) != lengths[0]:
        raise DataError(
            "the lists of an array have different lengths",
            hint="PostgreSQL's arrays are rectangular; use segue.Json for others",
        )
    for item in value:
        _flatten(item, lengths[1:], flat)


_ELEMENT_TYPES = {
    "bool": "bool",
    "int64": "int8",
    "double": "float8",
    "numeric": "numeric",
    "bytes": "bytea",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "date": "date",
    "time": "time",
    "interval": "interval",
    "uuid": "uuid",
    "json": "jsonb",
}


def _element_type(elements: list[pb.Value]) -> str:
    for element in elements:
        kind = element.WhichOneof("kind")
        if kind == "other":
            return element.other.type_name
        if kind != "null":
            return _ELEMENT_TYPES.get(str(kind), "text")
    return "text"


def _float(value: float) -> pb.Value:
    return pb.Value(double=math.nan if value != value else value)


def _text(value: Any) -> pb.Value:
    return pb.Value(text=str(value))


_ENCODERS: dict[type, Callable[[Any], pb.Value]] = {
    bool: lambda value: pb.Value(bool=value),
    int: _integer,
    float: _float,
    Decimal: _decimal,
    str: lambda value: pb.Value(text=value),
    bytes: lambda value: pb.Value(bytes=value),
    bytearray: lambda value: pb.Value(bytes=bytes(value)),
    memoryview: lambda value: pb.Value(bytes=value.tobytes()),
    dt.datetime: _datetime,
    dt.date: _date,
    dt.time: _time,
    dt.timedelta: lambda value: _interval(Interval.of(value)),
    uuid.UUID: lambda value: pb.Value(uuid=str(value)),
    dict: lambda value: pb.Value(json=dumps_exact(value)),
    list: _array,
    Array: _array,
    Json: _json,
    Interval: _interval,
    Timestamp: _timestamp,
    Date: _wide_date,
    Time: lambda value: pb.Value(time=value.micros),
    Other: lambda value: pb.Value(other=pb.Other(type_name=value.type_name, text=value.text)),
    Opaque: lambda value: pb.Value(opaque=pb.Opaque(type_name=value.type_name, data=value.data)),
    # Their text goes into any type that reads it: inet as well as cidr or text.
    Range: _text,
    ipaddress.IPv4Address: _text,
    ipaddress.IPv6Address: _text,
    ipaddress.IPv4Interface: _text,
    ipaddress.IPv6Interface: _text,
    ipaddress.IPv4Network: _text,
    ipaddress.IPv6Network: _text,
}

_BY_BASE: tuple[tuple[type, Callable[[Any], pb.Value]], ...] = (
    (str, lambda value: pb.Value(text=str.__str__(value))),
    (bool, lambda value: pb.Value(bool=bool(value))),
    (numbers.Integral, _integer),
    (float, _float),
    (Decimal, _decimal),
    (bytes, lambda value: pb.Value(bytes=bytes(value))),
    (dt.datetime, _datetime),
    (dt.date, _date),
    (dt.time, _time),
    (dt.timedelta, lambda value: _interval(Interval.of(value))),
    (uuid.UUID, lambda value: pb.Value(uuid=str(value))),
    (dict, lambda value: pb.Value(json=dumps_exact(value))),
    (list, _array),
)
