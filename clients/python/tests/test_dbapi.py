"""PEP 249, as psycopg's users know it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import dbapi20  # type: ignore[import-not-found]
import pytest

import segue
from harness import Migration
from segue import dbapi
from segue._paramstyle import convert, looks_like_read


@pytest.fixture
def connection(migration: Migration) -> Iterator[dbapi.Connection]:
    migration.ensure_runs()
    made = dbapi.connect(migration.url)
    yield made
    made.close()


@pytest.fixture
def notes(migration: Migration) -> Migration:
    migration.ensure_runs()
    with dbapi.connect(migration.url, autocommit=True) as made:
        made.execute("DELETE FROM notes")
    return migration


@pytest.mark.parametrize(
    ("query", "params", "expected"),
    [
        ("SELECT 1 % 2", None, ("SELECT 1 % 2", [])),
        ("SELECT %s, %s, '%%'", (1, 2), ("SELECT $1, $2, '%'", [1, 2])),
        ("SELECT %(a)s, %(b)s, %(a)s", {"a": 1, "b": 2}, ("SELECT $1, $2, $1", [1, 2])),
        ("SELECT '%%'", (), ("SELECT '%'", [])),
    ],
)
def test_placeholders_become_those_of_postgresql(query: str, params: Any, expected: Any) -> None:
    assert convert(query, params) == expected


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("SELECT %s", ()),
        ("SELECT %s", (1, 2)),
        ("SELECT %(a)s", {"b": 1}),
        ("SELECT %(a)s", (1,)),
        ("SELECT %s", {"a": 1}),
        ("SELECT %s %(a)s", {"a": 1}),
        ("SELECT %d", (1,)),
        ("SELECT 5 %", (1,)),
        ("SELECT %s", "a"),
    ],
)
def test_wrong_placeholders_are_errors(query: str, params: Any) -> None:
    with pytest.raises(segue.ProgrammingError):
        convert(query, params)


def test_reads_are_told_from_writes_by_their_first_word() -> None:
    for sql in ("select 1", " -- a\n/* b */ (SELECT 1)", "WITH a AS (SELECT 1) TABLE a", "SHOW x"):
        assert looks_like_read(sql), sql
    for sql in ("INSERT INTO a SELECT 1", "-- select\nUPDATE a SET b = 1", "", "selected"):
        assert not looks_like_read(sql), sql


def test_nothing_is_there_before_commit_and_all_after(
    notes: Migration, connection: dbapi.Connection
) -> None:
    other = dbapi.connect(notes.url, autocommit=True)
    connection.execute("INSERT INTO notes (id, body) VALUES (%s, %s)", (1, "a"))
    assert connection.in_transaction
    assert other.execute("SELECT count(*) FROM notes").fetchall() == [(0,)]
    connection.commit()
    assert other.execute("SELECT count(*) FROM notes").fetchall() == [(1,)]
    connection.execute("DELETE FROM notes")
    connection.rollback()
    assert other.execute("SELECT count(*) FROM notes").fetchall() == [(1,)]
    other.close()


def test_what_writes_in_a_select_is_run_all_the_same(
    notes: Migration, connection: dbapi.Connection
) -> None:
    connection.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    for _ in range(2):
        locked = connection.execute("SELECT id FROM notes WHERE id = %s FOR UPDATE", (1,))
        assert locked.fetchall() == [(1,)]
    done = connection.execute(
        "WITH made AS (INSERT INTO notes (id) VALUES (%(id)s) RETURNING id) SELECT id FROM made",
        {"id": 2},
    )
    assert done.fetchone() == (2,)
    connection.rollback()


def test_executemany_writes_all_by_few_calls(
    notes: Migration, connection: dbapi.Connection
) -> None:
    cursor = connection.cursor()
    rows = [(i, f"note {i}", Decimal(i) / 4) for i in range(1, 1202)]
    cursor.executemany("INSERT INTO notes (id, body, price) VALUES (%s, %s, %s)", rows)
    assert cursor.rowcount == 1201
    connection.commit()
    cursor.execute("SELECT count(*), sum(price) FROM notes")
    assert cursor.fetchone() == (1201, Decimal("180450.25"))


def test_the_fetch_methods_and_the_description(connection: dbapi.Connection) -> None:
    cursor = connection.cursor()
    cursor.execute(
        "SELECT i, 'x'::varchar(5) AS t, 1.5::numeric(6,2) AS n, now() AS at"
        " FROM generate_series(1, 5) AS i"
    )
    assert cursor.description is not None
    names = [column[0] for column in cursor.description]
    assert names == ["i", "t", "n", "at"]
    assert cursor.description[1][3] == 5
    assert cursor.description[2][4:6] == (6, 2)
    codes = [column[1] for column in cursor.description]
    kinds = [dbapi.NUMBER, dbapi.STRING, dbapi.NUMBER, dbapi.DATETIME]
    assert all(code == kind for code, kind in zip(codes, kinds, strict=True))
    assert cursor.rowcount == 5
    assert [row[0] for row in cursor.fetchmany(2)] == [1, 2]
    row = cursor.fetchone()
    assert row is not None
    assert row[0] == 3
    assert [row[0] for row in cursor.fetchall()] == [4, 5]
    assert cursor.fetchone() is None
    cursor.execute("SAVEPOINT a")
    assert cursor.description is None
    with pytest.raises(segue.ProgrammingError):
        cursor.fetchone()


def test_a_stream_gives_rows_as_they_come(connection: dbapi.Connection) -> None:
    cursor = connection.cursor()
    rows = cursor.stream("SELECT i FROM generate_series(1, %s) AS i", (5000,))
    assert sum(row[0] for row in rows) == 5000 * 5001 // 2


def test_a_stream_of_what_writes_gives_its_rows(
    notes: Migration, connection: dbapi.Connection
) -> None:
    connection.execute("INSERT INTO notes (id) VALUES (1)")
    cursor = connection.cursor()
    assert list(cursor.stream("SELECT id FROM notes WHERE id = %s FOR UPDATE", (1,))) == [(1,)]
    assert list(cursor.stream("DELETE FROM notes RETURNING id")) == [(1,)]


def test_an_error_keeps_the_transaction_until_rollback(
    notes: Migration, connection: dbapi.Connection
) -> None:
    connection.execute("INSERT INTO notes (id) VALUES (1)")
    with pytest.raises(segue.UniqueViolation) as caught:
        connection.execute("INSERT INTO notes (id) VALUES (1)")
    assert caught.value.constraint == "notes_pkey"
    with pytest.raises(segue.InternalError) as aborted:
        connection.execute("SELECT 1")
    assert aborted.value.sqlstate == "25P02"
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM notes").fetchall() == [(0,)]


def test_a_block_commits_or_rolls_back_and_closes(notes: Migration) -> None:
    with dbapi.connect(notes.url) as made:
        made.execute(
            "INSERT INTO notes (id, at) VALUES (1, %s)", (dt.datetime.now(dt.timezone.utc),)
        )
    assert made.closed
    left = dbapi.connect(notes.url)
    left.execute("INSERT INTO notes (id) VALUES (2)")
    with pytest.raises(segue.DataError), left:
        left.execute("SELECT 1 / 0")
    assert left.closed
    with dbapi.connect(notes.url, autocommit=True) as made:
        assert made.execute("SELECT id FROM notes").fetchall() == [(1,)]


def test_the_isolation_level_reaches_the_database(migration: Migration) -> None:
    with dbapi.connect(migration.url, isolation_level="serializable") as made:
        assert made.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        with pytest.raises(segue.ProgrammingError):
            made.isolation_level = "read committed"


class TestCompliance(dbapi20.DatabaseAPI20Test):  # type: ignore[misc]
    """The public suite of PEP 249.

    Its tables are there already, since DDL does not go through a sidecar: they are emptied instead.
    """

    driver = dbapi
    connect_args = ()
    # There are no stored procedures that a client calls otherwise than by SQL.
    lower_func = ""
    ddl1 = xddl1 = "delete from dbapi20test_booze"
    ddl2 = xddl2 = "delete from dbapi20test_barflys"

    @pytest.fixture(autouse=True)
    def _sidecar(self, migration: Migration) -> None:
        migration.ensure_runs()
        self.connect_kw_args = {"url": migration.url}

    def test_non_idempotent_close(self) -> None:
        """As psycopg: closing twice is no error."""
        made = dbapi.connect(**self.connect_kw_args)
        made.close()
        made.close()

    def test_nextset(self) -> None:
        """Optional; a statement gives one set."""
        with dbapi.connect(**self.connect_kw_args) as made:
            assert made.execute("SELECT 1").nextset() is None

    def test_setoutputsize(self) -> None:
        """Does nothing, as the standard allows."""
        with dbapi.connect(**self.connect_kw_args) as made:
            cursor = made.cursor()
            cursor.setoutputsize(1)
            assert cursor.execute("SELECT 'long'::text").fetchone() == ("long",)
