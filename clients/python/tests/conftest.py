from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import segue
from harness import SCENARIOS, Migration, Servers


@pytest.fixture(scope="session")
def scenarios() -> Any:
    return json.loads(SCENARIOS.read_text())


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    pair = Servers()
    yield pair
    pair.close()


@pytest.fixture(scope="session")
def migration(servers: Servers, scenarios: Any) -> Iterator[Migration]:
    made = Migration(servers, scenarios["setup"] + MORE, scenarios["queries"])
    made.enter("dual_write")
    yield made
    made.kill()
    made.proxy.close()


@pytest.fixture(scope="module")
def fresh_of(servers: Servers, scenarios: Any) -> Iterator[Any]:
    """A migration for each client, since a scenario expects rows as `setup` made them."""
    made: dict[str, Migration] = {}

    def of(client: str) -> Migration:
        if client not in made:
            made[client] = Migration(servers, scenarios["setup"], scenarios["queries"])
        return made[client]

    yield of
    for migration in made.values():
        migration.kill()
        migration.proxy.close()


@pytest.fixture
def fresh(fresh_of: Any, client: str) -> Migration:
    migration: Migration = fresh_of(client)
    return migration


# Of this client's own tests.
MORE = [
    "CREATE TABLE notes (id bigint PRIMARY KEY, body text, at timestamptz, price numeric(12,2))",
    "CREATE TABLE dbapi20test_booze (name varchar(20), id uuid PRIMARY KEY"
    " DEFAULT gen_random_uuid())",
    "CREATE TABLE dbapi20test_barflys (name varchar(20), drink varchar(30), id uuid PRIMARY KEY"
    " DEFAULT gen_random_uuid())",
    "CREATE TABLE customers (id uuid PRIMARY KEY, name text NOT NULL, mood mood, data jsonb,"
    " tags text[], credit numeric(10,2), joined timestamptz, visits tstzrange, score float8,"
    " active boolean, age interval, photo bytea)",
    "CREATE TABLE purchases (id bigint PRIMARY KEY, customer uuid NOT NULL REFERENCES customers,"
    " item text NOT NULL, price numeric(10,2) NOT NULL)",
]


@pytest.fixture
def db(migration: Migration) -> Iterator[segue.Connection]:
    migration.ensure_runs()
    with segue.connect(migration.url) as connection:
        yield connection
