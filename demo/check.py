"""The demo's own look at both databases; nothing of segue takes part in it."""

import psycopg

from load import EVENTS

# One line a row in a form that both schemas can give: what the target holds of it.
IMAGES = {
    "customers": ("id", """
        SELECT id::int8, name, nick, pg_catalog.trim_scale(credit::numeric)::text,
               prefs::jsonb::text, visits::int8, seen_at::timestamp(3)::text
        FROM customers ORDER BY id"""),
    "orders": ("id", """
        SELECT id::int8, customer_id::int8, qty::int8, pg_catalog.trim_scale(price::numeric)::text,
               placed_at::timestamptz(3)::text, note
        FROM orders ORDER BY id"""),
    "events": ("id", """
        SELECT id::int8, customer_id::int8, kind::text, pg_catalog.trim_scale(amount::numeric)::text,
               touched::int8, at::timestamptz(3)::text, detail::jsonb::text
        FROM events ORDER BY id"""),
    "tickets": ("id", "SELECT id::int8, title, token::text FROM tickets ORDER BY id"),
}


def images(dsn):
    """Every row of every table, by table and key."""
    found = {}
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        for table, (_, sql) in IMAGES.items():
            rows = connection.execute(sql).fetchall()
            found[table] = {row[0]: row[1:] for row in rows}
    return found


def differences(source, target):
    """What is missing, extra or different: (table, key, source's row, target's row)."""
    found = []
    for table in IMAGES:
        for key in sorted(source[table].keys() | target[table].keys()):
            ours, theirs = source[table].get(key), target[table].get(key)
            if ours != theirs:
                found.append((table, key, ours, theirs))
    return found


def lost_writes(ledger, source, seeded_visits=0, seeded_cents=100_000):
    """Acknowledged writes that the source does not show, as sentences."""
    lost = []
    for order, (customer, qty, _) in ledger.orders.items():
        row = source["orders"].get(order)
        if order in ledger.deleted:
            if row is not None:
                lost.append(f"order {order} was deleted and is still there")
        elif row is None:
            lost.append(f"order {order} is missing")
        elif row[:2] != (customer, qty):
            lost.append(f"order {order} is {row}")
    for event in EVENTS:
        row = source["events"].get(event)
        if event in ledger.erased:
            if row is not None:
                lost.append(f"event {event} was erased and is still there")
        elif row is None:
            lost.append(f"event {event} is missing")
        elif row[3] != ledger.touched.get(event, 0):
            lost.append(f"event {event} was touched {row[3]} times,"
                        f" acknowledged {ledger.touched.get(event, 0)}")
    for number, title in ledger.tickets.items():
        row = source["tickets"].get(number)
        if row is None or row[0] != title:
            lost.append(f"ticket {number} is {row}")
    for customer, row in source["customers"].items():
        visits = seeded_visits + ledger.visits.get(customer, 0)
        if row[4] != visits:
            lost.append(f"customer {customer} has {row[4]} visits, acknowledged {visits}")
        cents = seeded_cents + ledger.credit_cents.get(customer, 0)
        if round(float(row[2]) * 100) != cents:
            lost.append(f"customer {customer} has credit {row[2]}, acknowledged {cents / 100}")
    return lost
