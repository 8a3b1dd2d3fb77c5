"""The scenarios of clients/conformance, run by both clients."""

from __future__ import annotations

import contextlib
import json
import resource
import threading
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

import blocking
import segue
from harness import SCENARIOS, Migration, eventually, within
from rendering import rows as rendered_rows

_ALL = json.loads(SCENARIOS.read_text())["scenarios"]

KINDS: dict[str, type[segue.Error]] = {
    "unique": segue.UniqueViolation,
    "integrity": segue.IntegrityError,
    "data": segue.DataError,
    "programming": segue.ProgrammingError,
    "not_supported": segue.NotSupportedError,
    "deadline": segue.DeadlineExceeded,
    "cancelled": segue.Cancelled,
    "unavailable": segue.Unavailable,
    "outcome_unknown": segue.OutcomeUnknown,
}
VERBS = {"run", "query", "execute", "batch", "stream", "connect", "commit", "increments"}


class Started:
    """A call that runs beside the next steps."""

    def __init__(self, run: Any) -> None:
        self.result: Any = None
        self.error: BaseException | None = None

        def body() -> None:
            try:
                self.result = run()
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=body, daemon=True)
        self.thread.start()

    def finish(self) -> Any:
        self.thread.join(60)
        assert not self.thread.is_alive(), "the call does not end"
        if self.error is not None:
            raise self.error
        return self.result


class Runner:
    """Runs one scenario."""

    def __init__(self, migration: Migration, connect: Any) -> None:
        self.connect = connect
        self.migration = migration
        self.db = connect(migration.url)
        self.keyless = connect(migration.url, idempotency=False)
        self.transactions: dict[str, Any] = {}
        self.started: dict[str, Started] = {}
        self.locks: list[psycopg.Connection[Any]] = []
        self.round = 0
        self.calls: Counter[str] = Counter()
        transport: Any = self.db._transport
        perform = transport.perform

        def counted(call: Any, metadata: Any) -> Any:
            self.calls[call.method] += 1
            return perform(call, metadata)

        transport.perform = counted

    def close(self) -> None:
        for lock in self.locks:
            lock.close()
        self.db.close()
        self.keyless.close()

    def run(self, steps: list[Any]) -> None:
        for step in steps:
            self.step(step)

    def step(self, step: Any) -> None:
        if "repeat" in step:
            for self.round in range(1, step["repeat"] + 1):
                self.run(step["steps"])
        elif "together" in step:
            for started in [
                Started(lambda call=call: self.call(call)) for call in step["together"]
            ]:
                started.finish()
        elif "begin" in step:
            options = {name: value for name, value in step.items() if name != "begin"}
            self.transactions[step["begin"]] = self.db.transaction(**options)
        elif "rollback" in step:
            self.transactions[step["rollback"]].rollback()
        elif "proxy" in step:
            self.migration.proxy.set(step["proxy"])
        elif "sidecar" in step:
            self.migration.kill() if step["sidecar"] == "kill" else self.migration.start()
        elif "direct" in step:
            assert rendered_rows(self.direct(step["direct"])) == step["rows"]
        elif "await" in step:
            wanted = step["await"]["rows"]
            eventually(str(step), lambda: rendered_rows(self.direct(step["await"])) == wanted)
        elif "lock" in step:
            lock = psycopg.connect(self.migration.dsn(step["lock"]["side"]))
            lock.execute(step["lock"]["sql"])
            self.locks.append(lock)
        elif "unlock" in step:
            self.locks.pop().close()
        elif "start" in step:
            self.started[step["start"]] = Started(lambda: self.call(step))
        elif "cancel" in step:
            self.db.cancel()
        elif "finish" in step:
            self.expect(step, self.started[step["finish"]].finish)
        else:
            self.expect(step, lambda: self.call(step))

    def direct(self, wanted: Any) -> Any:
        return self.migration.direct(wanted["side"], wanted["sql"])

    def call(self, step: Any) -> Any:
        (verb,) = VERBS & {name for name, value in step.items() if value is not True}
        given = step[verb]
        if verb == "increments":
            return self.increments(given)
        if verb == "run":
            return self.transact(given, step)
        if verb == "connect":
            return self.connect(self.migration.url, connect_timeout=given["timeout"]).close()
        if verb == "commit" or (verb == "execute" and step.get("key") is False):
            return self.odd(verb, given)
        more: dict[str, Any] = {}
        if "timeout" in step:
            more["timeout"] = step["timeout"]
        if "key" in step:
            more["idempotency_key"] = step["key"]
        where: Any = self.db
        if "in" in step:
            where = self.transactions[step["in"]]
            more["commit"] = step.get("commit", False)
        if verb == "batch":
            made = [(one["sql"], self.params(one)) for one in given["statements"]]
            return where.batch(made, **more)
        statement = given["sql"] if "sql" in given else segue.named(given["name"])
        params = self.params(given)
        if verb == "stream":
            return self.stream(where.stream(statement, *params, **more), step.get("read"))
        return getattr(where, verb)(statement, *params, **more)

    def odd(self, verb: str, given: Any) -> Any:
        if verb == "commit":
            return self.transactions[given].commit()
        return self.keyless.execute(given["sql"], *self.params(given))

    def params(self, given: Any) -> list[Any]:
        def one(value: Any) -> Any:
            if isinstance(value, dict):
                return self.round if "round" in value else Decimal(value["numeric"])
            return value

        return [one(value) for value in given.get("params", [])]

    def stream(self, stream: Any, limit: int | None) -> int:
        count = 0
        with stream:
            for _ in stream:
                count += 1
                if count == limit:
                    break
        return count

    def transact(self, name: str, step: Any) -> None:
        def function(transaction: Any) -> None:
            self.transactions[name] = transaction
            self.run(step["steps"])
            if step.get("fail"):
                raise segue.OperationalError("it may pass", retryable=True)

        self.db.run(function)

    def increments(self, given: Any) -> None:
        def one(transaction: Any) -> None:
            value = transaction.query(given["read"]).value()
            transaction.execute(given["write"], value + 1)

        def caller() -> None:
            for _ in range(given["each"]):
                self.db.run(one, isolation=given["isolation"], attempts=100)

        for started in [Started(caller) for _ in range(given["callers"])]:
            started.finish()

    def expect(self, step: Any, call: Any) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with within(step.get("within")):
            if "error" in step:
                with pytest.raises(segue.Error) as caught:
                    call()
                self.expect_error(step["error"], caught.value)
                return
            result = call()
        if "rows" in step:
            assert rendered_rows(result) == step["rows"]
        if "affected" in step:
            assert result.affected_rows == step["affected"]
        if "already_applied" in step:
            assert result.already_applied is step["already_applied"]
        if "count" in step:
            assert result == step["count"]
        for expected, found in (
            zip(step.get("results", []), result, strict=True) if "results" in step else ()
        ):
            assert found.affected_rows == expected["affected"]
            assert "rows" not in expected or rendered_rows(found) == expected["rows"]
        if "memory_mb_max" in step:
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown <= step["memory_mb_max"] * 1024, f"grew by {grown} kB"

    def expect_error(self, expected: Any, found: segue.Error) -> None:
        for name, value in expected.items():
            if name == "kind":
                assert isinstance(found, KINDS[value]), repr(found)
            elif name in ("outcome", "side"):
                assert getattr(found, name).value == value, vars(found)
            else:
                assert getattr(found, name) == value, vars(found)


@contextlib.contextmanager
def runner(migration: Migration, connect: Any) -> Iterator[Runner]:
    made = Runner(migration, connect)
    try:
        yield made
    finally:
        migration.proxy.set("pass")
        made.close()
        migration.ensure_runs()


CLIENTS: dict[str, Any] = {"sync": segue.connect, "aio": blocking.connect}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("scenario", _ALL, ids=lambda scenario: scenario["name"])
def test_scenario(fresh: Migration, scenario: Any, client: str) -> None:
    fresh.enter(scenario["phase"])
    fresh.ensure_runs()
    with runner(fresh, CLIENTS[client]) as made:
        made.run(scenario["steps"])
        calls = {name: made.calls[name] for name in scenario.get("calls", {})}
        assert calls == scenario.get("calls", {})
