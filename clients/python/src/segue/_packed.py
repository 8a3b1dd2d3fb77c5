"""Rows in PostgreSQL's binary format, read by a function made for their columns.

A row is, for each column, a big-endian int32 length (-1 for NULL) and so many bytes. Columns of a
fixed width that follow each other are read by one `struct`, together with the length of the next
column of variable width: in pure Python the number of calls decides.
"""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import struct
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from segue._decode import (
    MICROS_MAX,
    MICROS_MIN,
    JsonLoads,
    array_of,
    date_of,
    interval_of,
    time_of,
)
from segue.errors import InternalError
from segue.types import MICROS_PER_DAY, Date, Interval, Range, Timestamp

Row = tuple[Any, ...]
RowsDecoder = Callable[[bytes, int], list[Row]]

_INT4 = struct.Struct(">i")
_INTERVAL = struct.Struct(">qii")
# PostgreSQL counts from 2000-01-01.
_DAYS_TO_2000 = 10_957
_MICROS_TO_2000 = _DAYS_TO_2000 * MICROS_PER_DAY
_INT8_MIN, _INT8_MAX = -(2**63), 2**63 - 1
_INT4_MIN, _INT4_MAX = -(2**31), 2**31 - 1


_2000 = dt.datetime(2000, 1, 1)
_2000_UTC = _2000.replace(tzinfo=dt.timezone.utc)
# What datetime holds.
_FIRST, _LAST = MICROS_MIN - _MICROS_TO_2000, MICROS_MAX - _MICROS_TO_2000


def _timestamp(micros: int) -> Any:
    if _FIRST <= micros <= _LAST:
        return _2000 + dt.timedelta(0, 0, micros)
    return _wide_timestamp(micros, False)


def _timestamptz(micros: int) -> Any:
    if _FIRST <= micros <= _LAST:
        return _2000_UTC + dt.timedelta(0, 0, micros)
    return _wide_timestamp(micros, True)


def _wide_timestamp(micros: int, zoned: bool) -> Timestamp:
    if micros in (_INT8_MAX, _INT8_MIN):
        return Timestamp(zoned=zoned, infinity=1 if micros > 0 else -1)
    return Timestamp(micros + _MICROS_TO_2000, zoned=zoned)


def _date(days: int) -> Any:
    if days in (_INT4_MAX, _INT4_MIN):
        return Date(infinity=1 if days > 0 else -1)
    return date_of(days + _DAYS_TO_2000)


# By oid: the letter of `struct`, the width, and what the number becomes.
_FIXED: dict[int, tuple[str, int, Callable[[Any], Any] | None]] = {
    16: ("?", 1, None),
    20: ("q", 8, None),
    21: ("h", 2, None),
    23: ("i", 4, None),
    26: ("I", 4, None),
    700: ("f", 4, None),
    701: ("d", 8, None),
    1082: ("i", 4, _date),
    1083: ("q", 8, time_of),
    1114: ("q", 8, _timestamp),
    1184: ("q", 8, _timestamptz),
}


_NUMERIC_HEAD = struct.Struct(">HhHH").unpack_from
# By the number of groups of four digits, for numbers of a usual length.
_GROUPS = [struct.Struct(f">{count}H").unpack_from for count in range(32)]
_FOUR_DIGITS = [f"{group:04d}" for group in range(10_000)]
_SPECIAL = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
_MINUS = {0: "", 0x4000: "-"}


def _numeric(cell: bytes) -> Decimal:
    count, weight, sign, scale = _NUMERIC_HEAD(cell)
    minus = _MINUS.get(sign)
    if minus is None:
        if sign not in _SPECIAL:
            raise InternalError("a numeric has an unknown sign")
        return Decimal(_SPECIAL[sign])
    unpack = _GROUPS[count] if count < len(_GROUPS) else struct.Struct(f">{count}H").unpack_from
    digits = "".join([_FOUR_DIGITS[group] for group in unpack(cell, 8)])
    # Places behind the point: those of the last group, and those that are shown.
    surplus = (count - 1 - weight) * 4 - scale
    if surplus > 0:
        digits = digits[:-surplus]
    elif surplus < 0:
        digits += "0" * -surplus
    return Decimal(f"{minus}{digits or '0'}E-{scale}")


def _text(cell: bytes) -> str:
    return cell.decode()


def _same(cell: bytes) -> bytes:
    return cell


def _uuid(cell: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=cell)


def _interval(cell: bytes) -> Any:
    micros, days, months = _INTERVAL.unpack(cell)
    # PostgreSQL 17 and later write infinities as the ends of all three.
    if (micros, days, months) == (_INT8_MAX, _INT4_MAX, _INT4_MAX):
        return Interval(infinity=1)
    if (micros, days, months) == (_INT8_MIN, _INT4_MIN, _INT4_MIN):
        return Interval(infinity=-1)
    return interval_of(Interval(months, days, micros))


_INET_FAMILY_4 = 2
_INET_BITS = {4: 32, 16: 128}


def _inet(cell: bytes) -> Any:
    bits, address = cell[1], cell[4:]
    shown = ipaddress.ip_address(address)
    if bits == _INET_BITS[len(address)]:
        return shown
    return ipaddress.ip_interface((address, bits))


def _cidr(cell: bytes) -> Any:
    return ipaddress.ip_network((cell[4:], cell[1]))


def _jsonb_text(cell: bytes) -> str:
    if cell[:1] != b"\x01":
        raise InternalError("a jsonb has an unknown version")
    return cell[1:].decode()


_VARIABLE: dict[int, Callable[[bytes], Any]] = {
    17: _same,
    19: _text,
    25: _text,
    1042: _text,
    1043: _text,
    705: _text,
    869: _inet,
    650: _cidr,
    1186: _interval,
    1700: _numeric,
    2950: _uuid,
}
_JSON, _JSONB = 114, 3802

_RANGES = {3904: 23, 3906: 1700, 3908: 1114, 3910: 1184, 3912: 1082, 3926: 20}
# By the oid of the array: that of the element.
_ARRAYS = {
    1000: 16, 1001: 17, 1003: 19, 1005: 21, 1007: 23, 1009: 25, 1014: 1042, 1015: 1043, 1016: 20,
    1021: 700, 1022: 701, 1028: 26, 1041: 869, 651: 650, 1115: 1114, 1182: 1082, 1183: 1083,
    1185: 1184, 1187: 1186, 1231: 1700, 2951: 2950, 199: 114, 3807: 3802,
    3905: 3904, 3907: 3906, 3909: 3908, 3911: 3910, 3913: 3912, 3927: 3926,
}  # fmt: skip


def _cell_decoder(oid: int, json_loads: JsonLoads) -> Callable[[bytes], Any] | None:
    """What reads one cell; nothing where the type is not known here."""
    if oid in _FIXED:
        letter, _, convert = _FIXED[oid]
        read = struct.Struct(">" + letter)
        if convert is None:
            return lambda cell: read.unpack(cell)[0]
        made = convert
        return lambda cell: made(read.unpack(cell)[0])
    if oid == _JSON:
        return lambda cell: json_loads(cell.decode())
    if oid == _JSONB:
        return lambda cell: json_loads(_jsonb_text(cell))
    if oid in _RANGES:
        bound = _cell_decoder(_RANGES[oid], json_loads)
        return None if bound is None else functools.partial(_range, bound)
    if oid in _ARRAYS:
        element = _cell_decoder(_ARRAYS[oid], json_loads)
        return None if element is None else functools.partial(_array, element)
    return _VARIABLE.get(oid)


def _part(cell: bytes, at: int) -> tuple[bytes | None, int]:
    (length,) = _INT4.unpack_from(cell, at)
    at += 4
    if length < 0:
        return None, at
    if at + length > len(cell):
        raise InternalError("a cell ends early")
    return cell[at : at + length], at + length


def _range(bound: Callable[[bytes], Any], cell: bytes) -> Range[Any]:
    flags, at = cell[0], 1
    if flags & 0x01:
        return Range(empty=True)
    lower = upper = None
    if not flags & 0x08:
        part, at = _part(cell, at)
        lower = None if part is None else bound(part)
    if not flags & 0x10:
        part, at = _part(cell, at)
        upper = None if part is None else bound(part)
    return Range(lower, upper, ("[" if flags & 0x02 else "(") + ("]" if flags & 0x04 else ")"))


def _array(element: Callable[[bytes], Any], cell: bytes) -> list[Any]:
    (count,) = _INT4.unpack_from(cell)
    lengths: list[int] = []
    bounds: list[int] = []
    at = 12
    for _ in range(count):
        length, bound = struct.unpack_from(">ii", cell, at)
        lengths.append(length)
        bounds.append(bound)
        at += 8
    elements: list[Any] = []
    while at < len(cell):
        part, at = _part(cell, at)
        elements.append(None if part is None else element(part))
    return array_of(elements, lengths, bounds)


def decodable(oids: Sequence[int]) -> bool:
    """Whether packed rows with these columns can be read."""
    return all(_cell_decoder(oid, str) is not None for oid in oids)


@functools.lru_cache(maxsize=512)
def decoder(oids: tuple[int, ...], json_loads: JsonLoads) -> RowsDecoder:
    """A function that reads a buffer of rows with these columns."""
    scope: dict[str, Any] = {"Error": InternalError, "int4": _INT4.unpack_from}
    for index, oid in enumerate(oids):
        read = _cell_decoder(oid, json_loads)
        if read is None:
            raise InternalError(f"the client does not read packed cells of the type {oid}")
        scope[f"read{index}"] = read
        if oid in _FIXED and _FIXED[oid][2] is not None:
            scope[f"convert{index}"] = _FIXED[oid][2]
    exec(_source(oids, scope), scope)
    made: RowsDecoder = scope["decode"]
    return made


def _source(oids: tuple[int, ...], scope: dict[str, Any]) -> str:
    lines = [
        "def decode(buf, count):",
        "    rows, at, end = [], 0, len(buf)",
        "    append = rows.append",
        "    for _ in range(count):",
    ]
    index = 0
    while index < len(oids):
        run = index
        while run < len(oids) and oids[run] in _FIXED:
            run += 1
        if run > index:
            _write_run(lines, scope, oids, index, run)
        if run < len(oids):
            _write_variable(lines, oids, run)
            run += 1
        index = run
    values = "".join(f"v{column}, " for column in range(len(oids)))
    lines += [
        f"        append(({values}))",
        "    if at != end: raise Error('packed rows do not end where they should')",
        "    return rows",
    ]
    return "\n".join(lines)


def _write_run(
    lines: list[str], scope: dict[str, Any], oids: tuple[int, ...], begin: int, end: int
) -> None:
    """Columns of fixed widths, at once where none is NULL."""
    layout = struct.Struct(
        ">" + "".join("i" + _FIXED[oids[column]][0] for column in range(begin, end))
    )
    scope[f"run{begin}"] = layout.unpack_from
    targets = "".join(f"l{column}, v{column}, " for column in range(begin, end))
    fits = " and ".join(f"l{column} == {_FIXED[oids[column]][1]}" for column in range(begin, end))
    lines += [
        "        whole = False",
        f"        if at + {layout.size} <= end:",
        f"            {targets}= run{begin}(buf, at)",
        f"            whole = {fits}",
        "        if whole:",
        f"            at += {layout.size}",
    ]
    for column in range(begin, end):
        if _FIXED[oids[column]][2] is not None:
            lines.append(f"            v{column} = convert{column}(v{column})")
    lines.append("        else:")
    for column in range(begin, end):
        lines += [f"            {line}" for line in _one(column, _FIXED[oids[column]][1])]


def _write_variable(lines: list[str], oids: tuple[int, ...], column: int) -> None:
    lines += [f"        {line}" for line in _one(column, None, text=oids[column] in (25, 1043))]


def _one(column: int, width: int | None, text: bool = False) -> list[str]:
    read = "buf[at:stop].decode()" if text else f"read{column}(buf[at:stop])"
    wrong = "stop > end" if width is None else f"stop > end or stop - at != {width}"
    return [
        "stop = int4(buf, at)[0]",
        "at += 4",
        "if stop < 0:",
        f"    v{column} = None",
        "else:",
        "    stop += at",
        f"    if {wrong}: raise Error('a packed cell has another length than its type')",
        f"    v{column} = {read}",
        "    at = stop",
    ]
