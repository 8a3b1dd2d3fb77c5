"""This client beside psycopg 3, on the same databases in the same run.

    scripts/bench [SECONDS]

psycopg talks to the source directly, this client through a sidecar in `dual_write`. Build it
with `cargo build --release`, and name it in $SEGUE, for figures that mean something.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import psycopg

import segue
from harness import Migration, Servers
from segue import dbapi

SETUP = [
    "CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL, price numeric(12,2) NOT NULL,"
    " at timestamptz NOT NULL, count int NOT NULL, score float8 NOT NULL, active boolean NOT NULL,"
    " note text)",
    "INSERT INTO items SELECT i, 'item ' || i, i / 100.0, now(), i % 1000, i / 7.0, i % 2 = 0,"
    " CASE WHEN i % 5 = 0 THEN 'a note' END FROM generate_series(1, 100000) AS i",
    "CREATE TABLE written (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), body text)",
]
POINT = "SELECT name, price FROM items WHERE id = %s"
SOME = "SELECT * FROM items WHERE id <= %s"
INSERT = "INSERT INTO written (body) VALUES (%s)"
CALLERS = (1, 16)

Operation = tuple[str, Callable[[Any], Any]]
OPERATIONS: list[Operation] = [
    ("point read", lambda c: c.execute(POINT, (4711,)).fetchall()),
    ("100 rows", lambda c: c.execute(SOME, (100,)).fetchall()),
    ("10,000 rows", lambda c: c.execute(SOME, (10_000,)).fetchall()),
    ("100,000 rows of 8 columns", lambda c: c.execute(SOME, (100_000,)).fetchall()),
    ("insert", lambda c: c.execute(INSERT, ("x" * 100,))),
]


def measured(connect: Callable[[], Any], run: Any, callers: int, seconds: float) -> list[float]:
    """Seconds of each call of all callers."""
    times: list[float] = []
    begin = threading.Barrier(callers)

    def caller() -> None:
        connection = connect()
        run(connection)
        begin.wait()
        until = time.perf_counter() + seconds
        own = []
        while not own or time.perf_counter() < until:
            start = time.perf_counter()
            run(connection)
            own.append(time.perf_counter() - start)
        times.extend(own)
        connection.close()

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def main(seconds: float) -> None:
    """Prints a table."""
    servers = Servers()
    try:
        migration = Migration(servers, SETUP, {})
        migration.enter("dual_write")

        def ours() -> Any:
            return dbapi.connect(f"segue://127.0.0.1:{migration.sql_port}", autocommit=True)

        def theirs() -> Any:
            return psycopg.connect(migration.dsn("source"), autocommit=True)

        print(f"psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), segue {segue.__version__}")
        print("| operation | callers | psycopg, ms | segue, ms | ratio | added, ms |")
        print("|---|---|---|---|---|---|")
        for name, run in OPERATIONS:
            for callers in CALLERS:
                if callers > 1 and name.startswith(("10,", "100,")):
                    continue
                direct = statistics.median(measured(theirs, run, callers, seconds)) * 1000
                through = statistics.median(measured(ours, run, callers, seconds)) * 1000
                print(
                    f"| {name} | {callers} | {direct:.2f} | {through:.2f} | {through / direct:.2f}"
                    f" | {through - direct:.2f} |",
                    flush=True,
                )
        migration.kill()
    finally:
        servers.close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
