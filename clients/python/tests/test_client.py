"""What an application does with the native client."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import threading
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import segue
import segue.aio
from harness import Migration, Proxy, eventually, tls_proxy

ROOT = Path(__file__).resolve().parents[1]


def test_a_result_gives_rows_values_and_dicts(db: segue.Connection) -> None:
    found = db.query("SELECT i, i::text AS t FROM generate_series(1, 2) AS i")
    assert list(found) == [(1, "1"), (2, "2")]
    assert found.first() == found[0] == (1, "1")
    assert found.dicts() == [{"i": 1, "t": "1"}, {"i": 2, "t": "2"}]
    assert found.side is segue.Side.SOURCE
    with pytest.raises(segue.ProgrammingError, match="found 2"):
        found.one()
    with pytest.raises(segue.ProgrammingError, match="same name"):
        db.query("SELECT 1 AS a, 2 AS a").dicts()


def test_describe_tells_how_both_databases_prepare_it(db: segue.Connection) -> None:
    sides = db.describe("SELECT balance FROM accounts WHERE id = $1")
    assert [one.side for one in sides] == [segue.Side.SOURCE, segue.Side.TARGET]
    assert all(one.parameter_types == ("int8",) for one in sides)
    assert all(one.error is None for one in sides)


def test_info_tells_where_the_migration_stands(db: segue.Connection) -> None:
    info = db.info()
    assert info.phase == "dual_write"
    assert "packed_rows" in info.features
    assert info.limits["max_parameters"] == 32767


def test_run_gives_what_the_function_gives_and_rolls_back_when_it_raises(
    db: segue.Connection,
) -> None:
    assert db.run(lambda tx: tx.query("SELECT 7::int4").value()) == 7

    def fails(tx: segue.Transaction) -> None:
        tx.execute("INSERT INTO notes (id, body) VALUES (70001, 'gone')")
        raise KeyError

    with pytest.raises(KeyError):
        db.run(fails)
    assert db.query("SELECT count(*) FROM notes WHERE id = 70001").value() == 0


def test_savepoints(db: segue.Connection) -> None:
    with db.transaction() as tx:
        tx.execute("INSERT INTO notes (id) VALUES (70002)")
        with pytest.raises(segue.UniqueViolation), tx.savepoint('a"b'):
            tx.execute("INSERT INTO notes (id) VALUES (70002)")
        tx.execute("UPDATE notes SET body = 'kept' WHERE id = 70002")
    assert db.query("SELECT body FROM notes WHERE id = 70002").value() == "kept"


def test_a_transaction_that_has_ended_takes_no_calls(db: segue.Connection) -> None:
    with db.transaction() as tx:
        tx.query("SELECT 1")
    with pytest.raises(segue.InterfaceError, match="ended"):
        tx.query("SELECT 1")


def test_a_closed_connection_takes_no_calls(migration: Migration) -> None:
    db = segue.connect(migration.url)
    db.close()
    with pytest.raises(segue.InterfaceError, match="closed"):
        db.query("SELECT 1")


def test_threads_share_a_connection(db: segue.Connection) -> None:
    found: list[Any] = []

    def body(number: int) -> None:
        found.append(db.query("SELECT $1::int4", number).value())

    threads = [threading.Thread(target=body, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(16))


def test_a_stream_asks_again_for_columns_that_it_does_not_read_packed(
    db: segue.Connection,
) -> None:
    rows = list(db.stream("SELECT 'ok'::mood AS m, i FROM generate_series(1, 3000) AS i"))
    assert rows[-1] == ("ok", 3000)


def test_a_transaction_reads_columns_that_it_does_not_read_packed(db: segue.Connection) -> None:
    moody = "INSERT INTO customers (id, name, mood) VALUES ($1, 'moody', 'ok')"
    key = uuid.uuid4()
    db.execute(moody, key)
    with db.transaction() as tx:
        found = tx.query("SELECT mood, id FROM customers WHERE id = $1", key)
        assert found.rows == [("ok", key)]
        began = tx.id
        assert tx.query("SELECT id, mood FROM customers WHERE id = $1", key).rows == [(key, "ok")]
        assert tx.id == began
    with db.transaction() as tx:
        once = tx.query("SELECT mood, name FROM customers WHERE id = $1", key, commit=True)
        assert once.rows == [("ok", "moody")]


def test_a_cancelled_task_ends_its_statement(migration: Migration) -> None:
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND query LIKE '%/* task */%' AND pid <> pg_backend_pid()"
    )

    def count() -> Any:
        return migration.direct("source", running)[0][0]

    async def body() -> None:
        async with await segue.aio.connect(migration.url) as db:
            task = asyncio.create_task(db.query("SELECT pg_sleep(60) /* task */"))
            await asyncio.to_thread(eventually, "it runs", lambda: count() == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(eventually, "it has ended", lambda: count() == 0)
            assert (await db.query("SELECT 1::int4")).value() == 1

    asyncio.run(body())


def test_a_call_is_a_span_and_the_sidecar_gets_its_context(db: segue.Connection) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    seen: list[Any] = []
    perform: Any = db._transport.perform

    def recorded(call: Any, metadata: Any) -> Any:
        seen.append(dict(metadata))
        return perform(call, metadata)

    db._transport.perform = recorded  # type: ignore[method-assign]
    with trace.get_tracer("test").start_as_current_span("parent") as parent:
        db.query("SELECT $1::text", "secret")
        with pytest.raises(segue.DataError):
            db.query("SELECT 1 / 0")
    first, second, _ = exporter.get_finished_spans()
    assert first.attributes is not None
    assert first.attributes["db.system.name"] == "postgresql"
    assert first.attributes["db.query.text"] == "SELECT $1::text"
    assert "secret" not in str(dict(first.attributes))
    assert first.parent is not None
    assert first.parent.span_id == parent.get_span_context().span_id
    assert second.attributes is not None
    assert second.attributes["error.type"] == "22012"
    assert first.context is not None
    assert f"{first.context.span_id:016x}" in seen[0]["traceparent"]


def test_a_unix_socket_leads_to_the_sidecar(migration: Migration, tmp_path: Path) -> None:
    proxy = Proxy(migration.sql_port, socket_file=tmp_path / "sql.sock")
    with segue.connect(f"segue+unix://{tmp_path}/sql.sock") as db:
        assert db.query("SELECT 1::int4").value() == 1
    proxy.close()


def test_tls_is_checked_against_the_given_certificate(migration: Migration, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert,
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    port = tls_proxy(migration.sql_port, context)
    with segue.connect(f"segue+tls://localhost:{port}?ca_file={cert}") as db:
        assert db.query("SELECT 1::int4").value() == 1
    with pytest.raises(segue.Unavailable):
        segue.connect(f"segue+tls://localhost:{port}", connect_timeout=2)


def test_a_stream_that_nobody_holds_ends_its_statement(
    db: segue.Connection, migration: Migration
) -> None:
    stream = db.stream(
        "SELECT i, repeat('x', 1000) FROM generate_series(1, 900000) AS i /* lost */"
    )
    next(stream)
    del stream
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND query LIKE '%/* lost */%' AND pid <> pg_backend_pid()"
    )
    eventually("it has ended", lambda: migration.direct("source", running) == [(0,)])


def test_the_example_runs(migration: Migration) -> None:
    migration.ensure_runs()
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "transfer.py"), migration.url],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "moved 5" in done.stdout


def test_a_batch_tells_what_each_statement_did(db: segue.Connection) -> None:
    done = db.batch(
        [
            ("INSERT INTO notes (id, price) VALUES ($1, $2)", (70010, Decimal("1.25"))),
            ("UPDATE notes SET body = 'b' WHERE id = $1 RETURNING price", (70010,)),
        ]
    )
    assert [one.affected_rows for one in done] == [1, 1]
    assert done[1].rows == [(Decimal("1.25"),)]
    assert done.write_id
