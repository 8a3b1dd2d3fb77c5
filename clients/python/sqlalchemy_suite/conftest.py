"""SQLAlchemy's own suite over the sidecar: `scripts/sqlalchemy-suite`.

The suite makes and drops its tables as it goes, which a sidecar refuses. The dialect of this folder
runs such statements on the source directly; all others go through the sidecar, in `source_only`.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import registry

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

_DDL = re.compile(r"\s*(CREATE|DROP|ALTER|COMMENT|TRUNCATE)\b", re.IGNORECASE)
_SCHEMAS = ["CREATE SCHEMA test_schema", "CREATE SCHEMA test_schema_2", "CREATE EXTENSION hstore"]

if os.environ.get("SUITE_DRIVER") != "psycopg":
    import psycopg

    from harness import Migration, Servers
    from segue.sqlalchemy import SegueDialect

    _servers = Servers()
    atexit.register(_servers.close)
    _migration = Migration(_servers, _SCHEMAS, {})
    _direct = psycopg.connect(_migration.dsn("source"), autocommit=True)
    _direct.execute("SET lock_timeout = '10s'")

    class SuiteDialect(SegueDialect):
        """Runs DDL directly."""

        supports_statement_cache = True

        @classmethod
        def load_provisioning(cls) -> None:
            importlib.import_module("sqlalchemy.dialects.postgresql.provision")

        def do_execute(
            self, cursor: Any, statement: str, parameters: Any, context: Any = None
        ) -> None:
            if _DDL.match(statement):
                try:
                    _direct.execute(statement.encode())
                except psycopg.Error as error:
                    raise self.loaded_dbapi.ProgrammingError(str(error)) from error
                return
            super().do_execute(cursor, statement, parameters, context)

        def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
            self.do_execute(cursor, statement, (), context)

    sys.modules["segue_suite_dialect"] = sys.modules[__name__]
    registry.register("postgresql.segue", "segue_suite_dialect", "SuiteDialect")
    _uri = f"postgresql+segue://127.0.0.1:{_migration.sql_port}"
else:
    from harness import Servers

    _servers = Servers()
    atexit.register(_servers.close)
    import psycopg

    with psycopg.connect(_servers.source.dsn(), autocommit=True) as _made:
        for _statement in _SCHEMAS:
            _made.execute(_statement)
    _uri = f"postgresql+psycopg://postgres@127.0.0.1:{_servers.source.port}/postgres"

from sqlalchemy.testing.plugin import pytestplugin as _plugin
from sqlalchemy.testing.plugin.pytestplugin import *

_outcomes: dict[str, tuple[str, str]] = {}


def pytest_runtest_logreport(report: Any) -> None:
    name = re.sub(r"_postgresql\+\w+_[\d_]+(?=::)", "", report.nodeid)
    if report.failed:
        _outcomes[name] = ("failed", str(report.longrepr))
    elif report.when == "call":
        _outcomes.setdefault(name, (report.outcome, ""))


def pytest_sessionfinish() -> None:
    if "SUITE_RESULTS" in os.environ:
        Path(os.environ["SUITE_RESULTS"]).write_text(json.dumps(_outcomes))


def pytest_configure(config: Any) -> None:
    config.option.dburi = [_uri]
    _plugin.pytest_configure(config)
