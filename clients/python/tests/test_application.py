"""An application that is not ours, with its own tests, through a whole migration.

APScheduler 3 keeps its jobs by SQLAlchemy. What is changed in its tests: the URL of the database,
and that its table is emptied instead of its file removed. Its table is made on both databases
beforehand, since DDL does not go through a sidecar; it looks for the table and finds it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import Migration, Servers
from test_migration import change_of_primary

TABLE = (
    "CREATE TABLE apscheduler_jobs (id varchar(191) PRIMARY KEY, next_run_time float8,"
    " job_state bytea NOT NULL)"
)
# Unpacked by scripts/test.
SOURCES = Path(sys.prefix) / "apscheduler"
CHANGES = [
    (
        'store = sqlalchemy.SQLAlchemyJobStore(url=f"sqlite:///{db_path}")',
        'store = sqlalchemy.SQLAlchemyJobStore(url=__import__("os").environ["STORE_URL"])',
    ),
    (
        "    store.shutdown()\n    db_path.remove()",
        "    store.remove_all_jobs()\n    store.shutdown()",
    ),
]


# Among jobs of the same time the last one expects SQLite's order of rows.
CHOSEN = "sqlalchemy and not test_update_job_clear_next_runtime"


@pytest.fixture
def own_tests(tmp_path: Path) -> Path:
    text = (SOURCES / "tests" / "test_jobstores.py").read_text()
    for before, after in CHANGES:
        assert text.count(before) == 1, "APScheduler's tests are others than those that are changed"
        text = text.replace(before, after)
    # They name their own functions by this package.
    package = tmp_path / "tests"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "test_jobstores.py").write_text(text)
    (package / "conftest.py").write_text((SOURCES / "tests" / "conftest.py").read_text())
    return tmp_path


def run(own_tests: Path, migration: Migration) -> None:
    url = f"postgresql+segue://127.0.0.1:{migration.sql_port}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN],
        cwd=own_tests, env={**os.environ, "STORE_URL": url}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_the_tests_of_apscheduler_pass_in_each_phase(servers: Servers, own_tests: Path) -> None:
    migration = Migration(servers, [TABLE], {})
    try:
        for phase in ("source_only", "dual_write", "shift"):
            migration.enter(phase)
            run(own_tests, migration)
        change_of_primary(migration, "cutover")
        run(own_tests, migration)
        change_of_primary(migration, "rollback")
        run(own_tests, migration)
    finally:
        migration.kill()
        migration.proxy.close()
