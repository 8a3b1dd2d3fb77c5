"""A whole migration, there and back, under the load of both clients: no caller sees an error."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

import segue
import segue.aio
from harness import Migration, Servers, eventually

WRITE = "UPDATE accounts SET balance = balance + 1 WHERE id = $1"
READ = "SELECT balance FROM accounts WHERE id = $1"
SUM = "SELECT sum(balance)::bigint FROM accounts"


class Load:
    """Callers that write, read what they wrote, and write down what went wrong."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stopped = threading.Event()
        self.problems: list[str] = []
        self.written = [0] * 4
        bodies: list[Callable[[], None]] = [
            self.writes,
            self.batches,
            self.transactions,
            lambda: asyncio.run(self.awaits()),
        ]
        self.threads = [threading.Thread(target=self.guarded, args=(body,)) for body in bodies]
        for thread in self.threads:
            thread.start()

    def guarded(self, body: Callable[[], None]) -> None:
        try:
            body()
        except Exception as error:
            self.problems.append(f"{vars(error)} {traceback.format_exc()}")

    def look(self, account: int, found: Any, wanted: int) -> None:
        if found != wanted:
            self.problems.append(f"account {account} is read as {found}, not {wanted}")

    def writes(self) -> None:
        with segue.connect(self.url) as db:
            while not self.stopped.is_set():
                db.execute(WRITE, 1)
                self.written[0] += 1
                self.look(1, db.query(READ, 1).value(), 100 + self.written[0])

    def batches(self) -> None:
        with segue.connect(self.url) as db:
            while not self.stopped.is_set():
                db.batch([(WRITE, (2,)), (WRITE, (3,))])
                self.written[1] += 2
                self.look(3, db.query(READ, 3).value(), 100 + self.written[1] // 2)

    def transactions(self) -> None:
        def both(tx: segue.Transaction) -> None:
            # By a read: one that waits while the primary changes must not stay on the old one.
            value = tx.query(READ, 5).value()
            tx.execute(WRITE, 4)
            tx.execute("UPDATE accounts SET balance = $1 WHERE id = 5", value + 1)

        with segue.connect(self.url) as db:
            while not self.stopped.is_set():
                db.run(both, isolation="serializable", attempts=100)
                self.written[2] += 2
                self.look(5, db.query(READ, 5).value(), 100 + self.written[2] // 2)

    async def awaits(self) -> None:
        async with await segue.aio.connect(self.url) as db:
            while not self.stopped.is_set():
                await asyncio.gather(db.execute(WRITE, 6), db.execute(WRITE, 7))
                self.written[3] += 2
                found = (await db.query(READ, 7)).value()
                self.look(7, found, 100 + self.written[3] // 2)

    def total(self) -> int:
        return sum(self.written)

    def goes_on(self) -> None:
        """Waits until each caller has written more."""
        before = list(self.written)

        def more() -> bool:
            assert not self.problems, self.problems
            return all(now > then for now, then in zip(self.written, before, strict=True))

        eventually("all callers go on", more)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def change_of_primary(migration: Migration, command: str) -> None:
    """A change that is called off, because a backlog has grown, is made again."""

    def changed() -> bool:
        try:
            migration.run(command, "--yes", "--force", "--reason", "a test")
        except RuntimeError as error:
            refusals.append(str(error))
            return False
        return True

    refusals: list[str] = []
    try:
        eventually(command, changed)
    except TimeoutError:
        pytest.fail("\n".join(refusals[-2:]))


def test_no_caller_sees_an_error_in_a_whole_migration(servers: Servers, scenarios: Any) -> None:
    migration = Migration(servers, scenarios["setup"], {})
    load = Load(migration.url)
    try:
        load.goes_on()
        for phase in ("dual_write", "shadow_read", "shift"):
            migration.enter(phase)
            load.goes_on()
        change_of_primary(migration, "cutover")
        assert migration.status()["phase"] == "reversed"
        load.goes_on()
        change_of_primary(migration, "rollback")
        assert migration.status()["phase"] != "reversed"
        load.goes_on()
    finally:
        load.stop()
    try:
        assert load.problems == []
        wanted = [(50 * 100 + load.total(),)]
        assert migration.direct("source", SUM) == wanted
        eventually("the target has all", lambda: migration.direct("target", SUM) == wanted)
    finally:
        migration.kill()
        migration.proxy.close()
