"""Two PostgreSQL servers, a sidecar between them, and a proxy before it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "demo"))

import servers  # noqa: E402
from servers import free_port, wait_until  # noqa: E402

servers.SETTINGS += "fsync = off\nsynchronous_commit = off\n"

PROGRAM = os.environ.get("SEGUE", str(REPOSITORY / "target" / "debug" / "segue"))
SCENARIOS = REPOSITORY / "clients" / "conformance" / "scenarios.json"
START_LIMIT_S = 120
AWAIT_LIMIT_S = 30

CONFIG = """\
[source]
dsn = "{source}"
[target]
dsn = "{target}"
[listen]
sql = "127.0.0.1:{sql_port}"
admin = "127.0.0.1:{admin_port}"
[queries]
paths = ["{queries}"]
[outbox]
poll_interval = "100ms"
[control]
poll_interval = "200ms"
[sampling]
rate = 0.1
[read_routing]
target_percentage = 100
escalation_schedule = []
[read_routing.rollback_trigger]
window = "10s"
latency_p99_threshold = "30s"
outbox_age_threshold = "1m"
mismatch_rate_threshold = 1.0
"""


class Servers:
    """A source and a target that all tests share."""

    def __init__(self) -> None:
        self.folder = servers.Folder()
        self.source = servers.Server(self.folder, "source", 15)
        self.target = servers.Server(self.folder, "target", 18)
        self.source.start()
        self.target.start()

    def close(self) -> None:
        """Ends all processes and removes the folder."""
        self.folder.close()


class Migration:
    """A database on each server, and the sidecar between them."""

    _count = 0

    def __init__(self, pair: Servers, setup: list[str], queries: dict[str, str]) -> None:
        Migration._count += 1
        self.name = f"shop_{Migration._count}"
        self.pair = pair
        for server in (pair.source, pair.target):
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {self.name}")
            with psycopg.connect(server.dsn(self.name), autocommit=True) as connection:
                for statement in setup:
                    if server is pair.source or not statement.startswith("INSERT"):
                        connection.execute(statement)
        self.home = pair.folder.path / self.name
        self.home.mkdir()
        (self.home / "queries").mkdir()
        for name, text in queries.items():
            (self.home / "queries" / name).write_text(text)
        self.sql_port, self.admin_port = free_port(), free_port()
        self.proxy = Proxy(self.sql_port)
        self.config = self.home / "segue.toml"
        self.config.write_text(
            CONFIG.format(
                source=pair.source.dsn(self.name),
                target=pair.target.dsn(self.name),
                sql_port=self.sql_port,
                admin_port=self.admin_port,
                queries=self.home / "queries",
            )
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.phase = "source_only"
        self.run("init")
        self.start()

    @property
    def url(self) -> str:
        """The client's way to it."""
        return f"segue://127.0.0.1:{self.proxy.port}"

    def dsn(self, side: str) -> str:
        """The direct way to one of the databases."""
        return str((self.pair.source if side == "source" else self.pair.target).dsn(self.name))

    def direct(self, side: str, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement without segue."""
        with psycopg.connect(self.dsn(side), autocommit=True) as connection:
            return connection.execute(sql).fetchall()

    def run(self, *arguments: str) -> str:
        """Runs a subcommand to its end."""
        done = subprocess.run(
            [PROGRAM, *arguments, "--config", str(self.config)],
            cwd=self.home, env=_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"segue {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Starts the sidecar and waits until it takes calls."""
        log = (self.home / "segue.log").open("ab")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--config", str(self.config)],
            cwd=self.home, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        wait_until("segue serves", START_LIMIT_S, self._serves)

    def kill(self) -> None:
        """Ends it as `kill -9` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ensure_runs(self) -> None:
        """Starts it where a test left it dead."""
        if self.process is None:
            self.start()

    def _serves(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError("segue has ended:\n" + (self.home / "segue.log").read_text()[-3000:])
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.sql_port)) == 0

    def status(self) -> Any:
        """What `segue status` says."""
        return json.loads(self.run("status", "--json"))

    def enter(self, phase: str) -> None:
        """Goes on to a phase."""
        order = ["source_only", "dual_write", "shadow_read", "shift"]
        while order.index(self.phase) < order.index(phase):
            self._wait(self._settled)
            self.phase = order[order.index(self.phase) + 1]
            self.run("phase", "advance", "--to", self.phase, "--force", "--reason", "a test")
            self._wait(lambda now: now["phase"] == self.phase and self._settled(now))
            if self.phase == "dual_write":
                self.run("backfill")
        if self.phase == "shift":
            self._wait(lambda now: now["fleet"]["target_percentage"] == 100.0)

    @staticmethod
    def _settled(now: Any) -> bool:
        fleet = now["fleet"]
        return isinstance(fleet.get("settled_at"), str) and fleet["settled"] is True

    def _wait(self, holds: Callable[[Any], bool]) -> None:
        wait_until("the fleet is there", START_LIMIT_S, lambda: holds(self.status()), 0.2)


class Proxy:
    """Passes bytes between clients and the sidecar, or swallows its answers."""

    def __init__(
        self,
        upstream: int,
        socket_file: Path | None = None,
    ) -> None:
        self.upstream = upstream
        self.swallows = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        if socket_file is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port: int = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(socket_file))
            self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.upstream))
            except OSError:
                client.close()
                continue
            for side in (client, server):
                if side.family == socket.AF_INET:
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((client, server))
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump, args=(source, sink, answers), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (answers and self.swallows):
                    sink.sendall(data)
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def set(self, mode: str) -> None:
        """`pass`, `swallow` or `cut`."""
        if mode != "cut":
            self.swallows = mode == "swallow"
            return
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for side in pair:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends it."""
        self._listener.close()
        self.set("cut")


def tls_proxy(upstream: int, context: ssl.SSLContext) -> int:
    """Takes TLS off for as long as the process lives; gives its port."""
    loop = asyncio.new_event_loop()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream)
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    port: int = server.sockets[0].getsockname()[1]
    return port


def _environment() -> dict[str, str]:
    """Without what the shell says to segue or to libpq."""
    ours = ("SEGUE_", "PG", "OTEL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def eventually(what: str, probe: Callable[[], bool]) -> None:
    """Asks until the probe says yes."""
    wait_until(what, AWAIT_LIMIT_S, probe)


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """What stands in it ends in time."""
    begin = time.monotonic()
    yield
    took = time.monotonic() - begin
    assert seconds is None or took <= seconds, f"took {took:.1f} s, more than {seconds} s"
