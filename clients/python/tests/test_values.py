"""Every value goes in and out without loss, in both encodings."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest

import segue
from harness import SCENARIOS
from segue import _core as core
from segue import _packed
from segue.types import Array, Date, Interval, Json, Other, Range, Time, Timestamp

VALUES = [
    (entry["type"], text)
    for entry in json.loads(SCENARIOS.read_text())["values"]
    for text in entry["texts"]
]
UTC = dt.timezone.utc


def literal(text: str) -> str:
    if "\\" in text or "\n" in text:
        escaped = text.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
        return f"E'{escaped}'"
    return "'" + text.replace("'", "''") + "'"


def parameter(kind: str, value: Any) -> Any:
    """What an application would send back for a type whose value alone does not say it."""
    if kind in ("json", "jsonb") and not isinstance(value, dict):
        return Json(value)
    return value


@pytest.mark.parametrize("packed", [False, True], ids=["typed", "packed"])
@pytest.mark.parametrize(("kind", "text"), VALUES, ids=lambda part: str(part)[:40])
def test_a_value_of_each_type_makes_the_round_trip(
    db: segue.Connection, kind: str, text: str, packed: bool
) -> None:
    read = f"SELECT {literal(text)}::{kind} AS v"
    # Packed rows of a type that this client does not decode are asked for again as typed ones.
    db._session.packable.learn(read, packed)
    value = db.query(read).value()
    expected = db.query(f"SELECT ({literal(text)}::{kind})::text").value()
    sent = db.query(f"SELECT ($1::{kind})::text", parameter(kind, value)).value()
    if kind in ("json", "jsonb"):
        assert json.loads(sent, parse_float=Decimal) == json.loads(expected, parse_float=Decimal)
    else:
        assert sent == expected


NATIVE: list[tuple[str, str, Any]] = [
    ("bool", "t", True),
    ("int8", "9223372036854775807", 2**63 - 1),
    ("float8", "0.1", 0.1),
    ("numeric", "12.3400", Decimal("12.3400")),
    ("text", "Grüße", "Grüße"),
    ("bytea", "\\x00ff", b"\x00\xff"),
    ("timestamp", "2024-02-29 23:59:59.999999", dt.datetime(2024, 2, 29, 23, 59, 59, 999999)),
    ("timestamptz", "2024-02-29 12:00:00+02", dt.datetime(2024, 2, 29, 10, tzinfo=UTC)),
    ("timestamp", "infinity", Timestamp(infinity=1)),
    ("timestamptz", "-infinity", Timestamp(zoned=True, infinity=-1)),
    ("date", "2024-02-29", dt.date(2024, 2, 29)),
    ("date", "infinity", Date(infinity=1)),
    ("date", "0001-12-31 BC", Date(days=-719_163)),
    ("time", "23:59:59.999999", dt.time(23, 59, 59, 999999)),
    ("time", "24:00:00", Time(86_400_000_000)),
    ("timetz", "12:00:00-05:30",
     dt.time(12, tzinfo=dt.timezone(-dt.timedelta(hours=5, minutes=30)))),
    ("interval", "1 day 02:00:00", dt.timedelta(days=1, hours=2)),
    ("interval", "-00:30:00", dt.timedelta(minutes=-30)),
    ("interval", "1 mon", Interval(months=1)),
    ("interval", "30:00:00", Interval(micros=108_000_000_000)),
    ("uuid", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
     uuid.UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")),
    ("jsonb", '{"a": [1, 0.5, null]}', {"a": [1, 0.5, None]}),
    ("jsonb", "0.12345678901234567890123", Decimal("0.12345678901234567890123")),
    ("int4[]", "{{1,2},{3,NULL}}", [[1, 2], [3, None]]),
    ("int4[]", "[0:1]={7,8}", Array([7, 8], lower_bounds=(0,))),
    ("int4range", "[1,10)", Range(1, 10)),
    ("daterange", "[2024-01-01,)", Range(dt.date(2024, 1, 1), None)),
    ("numrange", "(1.5,2.50]", Range(Decimal("1.5"), Decimal("2.50"), "(]")),
    ("tstzrange", '["2024-01-01 00:00:00+00",)', Range(dt.datetime(2024, 1, 1, tzinfo=UTC), None)),
    ("inet", "10.1.2.3", ipaddress.ip_address("10.1.2.3")),
    ("inet", "10.1.2.3/8", ipaddress.ip_interface("10.1.2.3/8")),
    ("cidr", "10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8")),
    ("mood", "very happy", "very happy"),
    ("pair", '(1,"b c")', '(1,"b c")'),
]  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["typed", "packed"])
@pytest.mark.parametrize(("kind", "text", "native"), NATIVE, ids=lambda part: str(part)[:40])
def test_a_value_comes_as_the_type_that_the_readme_names(
    db: segue.Connection, kind: str, text: str, native: Any, packed: bool
) -> None:
    read = f"SELECT {literal(text)}::{kind} AS v"
    db._session.packable.learn(read, packed)
    value = db.query(read).value()
    assert value == native
    assert type(value) is type(native)
    assert str(value) == str(native)


def test_packed_rows_are_read_in_any_mixture_of_nulls(db: segue.Connection) -> None:
    sql = """
      SELECT CASE WHEN i % 2 = 0 THEN i END AS a, CASE WHEN i % 3 = 0 THEN i::int8 END AS b,
             CASE WHEN i % 5 = 0 THEN repeat('ü', i % 7) END AS c, i % 2 = 0 AS d,
             CASE WHEN i % 7 = 0 THEN i::numeric / 7 END AS e, i::float8 AS f
      FROM generate_series(1, 500) AS i"""
    db._session.packable.learn(sql, True)
    packed = db.query(sql)
    typed_sql = sql + " /* typed */"
    db._session.packable.learn(typed_sql, False)
    assert packed.rows == db.query(typed_sql).rows
    assert len(packed) == 500


def test_packed_rows_that_are_cut_are_an_error() -> None:
    read = _packed.decoder((23, 25), str)
    row = b"\0\0\0\4\0\0\0\7" + b"\0\0\0\2ab"
    assert read(row * 2, 2) == [(7, "ab"), (7, "ab")]
    for cut in (row[:-1], row[:9], row + b"\0", b"\0\0\0\3" + row[4:]):
        with pytest.raises((segue.InternalError, Exception)) as caught:
            read(cut, 1)
        assert "Error" in type(caught.value).__name__ or "error" in type(caught.value).__name__


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        object(),
        [[1], [2, 3]],
        [[1], 2],
        Decimal("sNaN"),
        "\ud800",
        {"a": float("nan")},
    ],
    ids=str,
)
def test_what_cannot_be_sent_is_an_error_of_data(value: Any) -> None:
    with pytest.raises(segue.DataError):
        core.statement_of("SELECT $1", [value])


def test_an_integer_above_64_bits_is_sent_as_numeric(db: segue.Connection) -> None:
    assert db.query("SELECT $1::numeric", 2**64).value() == Decimal(2**64)


def test_a_value_that_does_not_fit_is_refused_and_never_rounded(db: segue.Connection) -> None:
    with pytest.raises(segue.DataError):
        db.query("SELECT $1::int4", 2**31)
    with pytest.raises(segue.DataError):
        db.query("SELECT $1::timestamptz", dt.datetime(2024, 1, 1))


def test_another_type_is_sent_by_its_name(db: segue.Connection) -> None:
    assert db.query("SELECT $1::money::numeric", Other("money", "$1.50")).value() == Decimal("1.50")


def test_json_can_be_read_as_text(migration: Any) -> None:
    with segue.connect(migration.url, json_loads=str) as db:
        assert db.query("""SELECT '{"a":  1.10}'::json""").value() == '{"a":  1.10}'
