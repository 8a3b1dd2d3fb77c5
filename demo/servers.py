"""Two PostgreSQL servers and the sidecar, in one folder that does not outlive the demo."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from random import randint

REPOSITORY = Path(__file__).resolve().parent.parent
GUARD = REPOSITORY / "tests" / "support" / "guard.sh"
HOMES = {
    15: Path("/usr/lib/postgresql/15"),
    18: REPOSITORY / ".build" / "postgresql-18",
}
# The login that the sidecar's configuration names, for tables that are there.
ROLE = (REPOSITORY / "demo" / "role.sql").read_text()
START_LIMIT_S = 60
POLL_S = 0.05

SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 64MB
timezone = 'UTC'
lc_messages = 'C'
dynamic_shared_memory_type = mmap
"""


def free_port():
    """A port below those of outgoing connections: a stopped server finds it free again."""
    while True:
        port = randint(12_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def wait_until(what, limit_s, probe, every_s=POLL_S):
    """Asks until the probe says yes."""
    until = time.monotonic() + limit_s
    while not probe():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {limit_s} s: {what}")
        time.sleep(every_s)


class Folder:
    """A temporary folder; a guard process empties it of processes and removes it."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="segue-demo-"))
        self.path.chmod(0o755)
        self._guard = subprocess.Popen(
            ["sh", str(GUARD), str(self.path)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self):
        self._guard.stdin.close()
        self._guard.wait()


def _lent_account():
    """PostgreSQL refuses root, which lends it another account."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit("demo: as root it needs an account `postgres` or `nobody` for the servers")


class Server:
    """One PostgreSQL server, durable as in production."""

    def __init__(self, folder, name, major, port=None):
        self.account = _lent_account()
        self.home = folder.path / name
        self.home.mkdir()
        self.data = self.home / "data"
        self.major = major
        self.process = None
        self.port = port
        self._give_away(self.home)
        self.programs = self._reachable(folder, HOMES[major]) / "bin"
        if not (self.programs / "postgres").exists():
            raise SystemExit(f"demo: PostgreSQL {major} is missing; run scripts/setup")
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C.UTF-8", "--no-sync")
        settings = self.data / "postgresql.auto.conf"
        settings.write_text(SETTINGS + f"unix_socket_directories = '{self.home}'\n")
        self._give_away(settings)

    def dsn(self, database="postgres"):
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def start(self):
        self.port = self.port or free_port()
        log = (self.home / "server.log").open("ab")
        self.process = subprocess.Popen(
            self._command("postgres", "-D", self.data, "-p", self.port),
            cwd=self.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )
        wait_until(f"PostgreSQL {self.major} is ready", START_LIMIT_S, self._is_ready)

    def freeze(self):
        """Connections stay open, the system still takes new ones, and nothing answers."""
        # The parent first, so that it starts no child behind our back.
        self.process.send_signal(signal.SIGSTOP)
        self._signal_children(signal.SIGSTOP)

    def thaw(self):
        self._signal_children(signal.SIGCONT)
        self.process.send_signal(signal.SIGCONT)

    def crash(self):
        """Nothing is flushed: the next start recovers from the log."""
        self.process.send_signal(signal.SIGQUIT)
        self.thaw()
        self.process.wait()

    def _signal_children(self, number):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split():
            try:
                os.kill(int(child), number)
            except ProcessLookupError:
                pass

    def _is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError((self.home / "server.log").read_text()[-2000:])
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        own = lines[0].strip() == str(self.process.pid)
        return own and len(lines) > 7 and lines[7].strip() == "ready"

    def _lend(self):
        if not self.account:
            return []
        return ["setpriv", "--clear-groups", "--reuid", str(self.account.pw_uid),
                "--regid", str(self.account.pw_gid), "--"]

    def _command(self, program, *arguments):
        return [*self._lend(), str(self.programs / program), *map(str, arguments)]

    def _run(self, program, *arguments):
        done = subprocess.run(self._command(program, *arguments), cwd=self.home,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr}")

    def _give_away(self, path):
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def _reachable(self, folder, home):
        """A checkout below root's home is closed to other accounts: they get a copy."""
        # Asked by a shell, since setpriv itself still starts what the account cannot reach.
        probe = [*self._lend(), "sh", "-c", 'test -x "$0"', str(home / "bin" / "postgres")]
        if not home.exists() or subprocess.run(probe, cwd="/", check=False).returncode == 0:
            return home
        copy = folder.path / f"postgresql-{self.major}"
        shutil.copytree(home, copy, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
        return copy


CONFIG = """\
[source]
dsn = "{source}"
# Callers' statements run as the application's own role.
application = "user=shop_app"

[target]
dsn = "{target}"
application = "user=shop_app"

[listen]
sql = "127.0.0.1:{sql_port}"
admin = "127.0.0.1:{admin_port}"

[sampling]
rate = 0.5

[compare]
show_values = true

# Nothing is verified but when the story, or a benchmark, says so.
[verify]
sweep = false

[outbox]
backoff_max = "2s"

[control]
name = "{name}"
poll_interval = "250ms"
lease = "5s"

# What takes weeks in earnest takes seconds here.
[gates]
dual_write_min = "5s"
full_shift_min = "3s"
rehearsals_min = 1
samples_min = 100

[read_routing]
target_percentage = 5
escalation_schedule = [
  {{ after = "3s", percentage = 20 }},
  {{ after = "3s", percentage = 50 }},
  {{ after = "3s", percentage = 80 }},
  {{ after = "3s", percentage = 100 }},
]
rollback_trigger = {{ window = "3s", min_samples = 5 }}
"""


class Sidecar:
    """The `segue` command with its configuration."""

    def __init__(self, folder, name, program, source_dsn, target_dsn):
        self.home = folder.path / name
        self.home.mkdir()
        self.program = program
        self.sql_port, self.admin_port = free_port(), free_port()
        self.config = self.home / "segue.toml"
        self.config.write_text(CONFIG.format(
            name=name, source=source_dsn, target=target_dsn,
            sql_port=self.sql_port, admin_port=self.admin_port))
        self.process = None

    def run(self, *arguments, accepted=(0,)):
        """Runs a subcommand to its end; gives what it printed."""
        done = subprocess.run([self.program, *arguments, "--config", self.config],
                              cwd=self.home, env=self._environment(),
                              capture_output=True, text=True, check=False)
        if done.returncode not in accepted:
            raise RuntimeError(f"segue {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def show(self, display, *arguments):
        """Runs a subcommand and shows its lines as they come; gives its exit code and output."""
        process = subprocess.Popen(
            [self.program, *map(str, arguments), "--config", self.config], cwd=self.home,
            env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True)
        display.say(f"          $ segue {' '.join(map(str, arguments))}")
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            display.say(f"          {lines[-1]}")
        return process.wait(), lines

    def serve(self):
        log = (self.home / "segue.log").open("ab")
        self.process = subprocess.Popen(
            [self.program, "serve", "--config", self.config], cwd=self.home,
            env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)

    def is_up(self):
        if self.process.poll() is not None:
            raise RuntimeError("segue has ended:\n" + self.log_tail())
        for port in (self.sql_port, self.admin_port):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return False
        return True

    def enter_dual_write(self):
        """Sets both sides up, and lets the sidecar run for the step alone."""
        self.run("init")
        self.serve()
        wait_until("segue serves", START_LIMIT_S, self.is_up)
        self.run("phase", "advance", "--to", "dual_write")
        if not self.stop():
            raise RuntimeError("segue did not end well:\n" + self.log_tail())

    def stop(self):
        """SIGTERM; gives whether it drained and ended well."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=30) == 0
        except subprocess.TimeoutExpired:
            return False

    def log_tail(self):
        path = self.home / "segue.log"
        return path.read_text()[-3000:] if path.exists() else ""

    @staticmethod
    def _environment():
        """Without what the shell says to segue or to libpq."""
        ours = ("SEGUE_", "PG", "OTEL_")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
