"""A program that writes on the target past segue."""

import psycopg

# Rows that no client of the demo reads or writes by these columns.
STATEMENTS = ("UPDATE public.orders SET note = 'loaded' WHERE customer_id = 200",
              "INSERT INTO public.orders (id, customer_id, qty, price, placed_at, note)"
              " VALUES (9001, 200, 1, 1, now(), 'loaded')")
ROWS = 11


def write_past_segue(target):
    """Writes as a program does that nobody has told of the migration."""
    with psycopg.connect(target.dsn("shop"), autocommit=True) as connection:
        connection.execute("CREATE ROLE etl LOGIN")
        connection.execute("GRANT SELECT, INSERT, UPDATE ON public.orders TO etl")
    with psycopg.connect(target.dsn("shop"), user="etl", application_name="nightly load",
                         autocommit=True) as connection:
        for statement in STATEMENTS:
            connection.execute(statement)


def rows_past_segue(target):
    """Rows of that program that are still there."""
    with psycopg.connect(target.dsn("shop")) as connection:
        return connection.execute(
            "SELECT id FROM public.orders WHERE note = 'loaded'").fetchall()
