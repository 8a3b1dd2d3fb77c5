"""The example application's database: its tables as each side has them."""

from pathlib import Path

import psycopg

HERE = Path(__file__).resolve().parent


def create(server, database, schema, rows=True):
    """Makes the database; `schema` is `source` or `target`, `rows` whether it has any."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
    with psycopg.connect(server.dsn(database), autocommit=True) as connection:
        connection.execute((HERE / f"{schema}.sql").read_text())
        connection.execute((HERE / "role.sql").read_text())
    if not rows:
        return
    # A new connection, which has the search path that the schema set.
    with psycopg.connect(server.dsn(database), autocommit=True) as connection:
        connection.execute((HERE / "seed.sql").read_text())
