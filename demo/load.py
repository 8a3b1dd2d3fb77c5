"""Reads and writes from client threads, and the ledger of what was acknowledged.

Every thread does each piece of work twice: through segue, and directly on an equal
database of the same server that segue does not know. So both see the same machine at
the same moment, and their latencies can be compared.
"""

import random
import threading
import time
from dataclasses import dataclass

import grpc
import psycopg

from client import Json, Numeric, Sql

WRITERS = 4
READERS = 4
# Between two pieces of work of a thread: the demo shows segue, not the machine's limit.
PAUSE_S = 0.02
TRAP_PAUSE_S = 0.2
# The load writes customers up to this one; the rest stay as they were seeded.
WRITTEN_MAX = 150
QUIET_MIN, QUIET_MAX = 151, 199
PLANTED_CUSTOMER = 200
# The history; each writer has the events to itself whose number fits its own.
EVENTS = range(1, 250_001)
# Orders above this one are made by the load; a thread's ids begin at its number of these.
IDS_OF_A_THREAD = 10_000_000


@dataclass
class Planted:
    """A statement that answers differently on the target, and how the report must show it."""

    # What of the statement the report is known by: constants in it are replaced.
    mark: str
    reported: str
    statement: str
    params: tuple = ()


PLANTED = {
    "integer division": Planted(
        "qty /", "incompatible int_division",
        "SELECT id FROM orders WHERE id <= 2000 AND qty / 2 = 3 ORDER BY id"),
    "text of a JSON document": Planted(
        "md5(prefs", "incompatible json_as_text",
        "SELECT id, md5(prefs::text) AS digest FROM customers WHERE id BETWEEN $1 AND $2"
        " ORDER BY id", (QUIET_MIN, QUIET_MIN + 9)),
    "order of text": Planted(
        "order by name", "incompatible collation_order",
        "SELECT id, name FROM customers WHERE id BETWEEN $1 AND $2 ORDER BY name",
        (QUIET_MIN, QUIET_MAX)),
    "a function that the target lacks": Planted(
        "to_char(credit", "error unsupported_function",
        "SELECT id, to_char(credit, 'FM999990.00') AS credit FROM customers WHERE id = $1",
        (QUIET_MIN,)),
}

READS = [
    ("SELECT id, name, nick, credit, prefs, visits, seen_at FROM customers WHERE id = $1",
     lambda: (random.randint(1, QUIET_MAX),)),
    ("SELECT id, qty, price, placed_at, note FROM orders WHERE customer_id = $1 ORDER BY id",
     lambda: (random.randint(1, QUIET_MAX),)),
    ("SELECT count(*), sum(qty), max(price) FROM orders WHERE customer_id = $1",
     lambda: (random.randint(1, QUIET_MAX),)),
    ("SELECT id, title, token FROM tickets WHERE id = $1", lambda: (random.randint(1, 50),)),
    ("SELECT id, kind, amount, touched, at, detail FROM events WHERE id BETWEEN $1 AND $1 + 9"
     " ORDER BY id", lambda: (random.choice(EVENTS),)),
]
PLANTED_READ_MARK = "select credit from customers"
PLANTED_READ = "SELECT credit FROM customers WHERE id = $1"


class Ledger:
    """What the clients were told, and how long it took them. Shared by all threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self.orders = {}
        self.deleted = set()
        self.visits = {}
        self.credit_cents = {}
        self.tickets = {}
        self.touched = {}
        self.erased = set()
        self.acknowledged = {"read": 0, "write": 0, "repeat": 0}
        self.already_applied = 0
        # Of the program that goes round segue.
        self.fenced = 0
        # Calls of a function that leaves things behind in its session.
        self.trapped = 0
        self.errors = []
        self.latencies = {}

    def note(self, kind, way, part, seconds, change=None):
        """One answer; `change` writes it down."""
        with self._lock:
            self.latencies.setdefault((kind, way, part), []).append(seconds)
            if way == "segue":
                self.acknowledged[kind] += 1
            if change:
                change(self)

    def fail(self, what, error):
        with self._lock:
            self.errors.append(f"{what}: {error}")

    def percentiles(self, kind, way, parts):
        """p50 and p99 in ms, and the number of answers."""
        with self._lock:
            taken = sorted(value for part in parts
                           for value in self.latencies.get((kind, way, part), ()))
        if not taken:
            return None
        at = lambda share: taken[min(len(taken) - 1, int(len(taken) * share))] * 1000
        return at(0.50), at(0.99), len(taken)


class Load:
    """The threads. `part` names the part of the demo that answers are counted under."""

    def __init__(self, ledger, sql_ports, baseline_dsn, direct_dsn):
        self.ledger = ledger
        self.sql_ports = sql_ports
        self.baseline_dsn = baseline_dsn
        self.direct_dsn = direct_dsn
        self.part = "calm"
        self.reads = list(READS)
        self.planted = dict(PLANTED)
        self.reads_planted_row = True
        # In place of the first call's idempotency key, where it is not None.
        self.repeats_key = None
        self._stop = threading.Event()
        works = [(self._writer, number) for number in range(1, WRITERS + 1)]
        works += [(self._reader, number) for number in range(READERS)]
        works.append((self._goes_round, 0))
        works.append((self._leaves_things_behind, 0))
        self._threads = [threading.Thread(target=self._guarded, args=work, daemon=True)
                         for work in works]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)
        stuck = sum(thread.is_alive() for thread in self._threads)
        if stuck:
            self.ledger.fail("load", f"{stuck} threads did not end")

    def _guarded(self, work, number):
        try:
            work(number)
        except Exception as error:  # A thread that dies must show in the proof.
            self.ledger.fail(f"{work.__name__} {number}", repr(error))

    def mend(self):
        """The application's statements are rewritten as the report says."""
        self.planted = {}
        self.reads_planted_row = False

    def _sql(self, number):
        """Each client talks to the sidecar in its own pod."""
        return Sql(self.sql_ports[number % len(self.sql_ports)])

    def _writer(self, number):
        sql = self._sql(number)
        writer = Writer(number)
        with psycopg.connect(self.baseline_dsn, autocommit=True) as direct:
            while not self._stop.wait(PAUSE_S * random.uniform(0.5, 1.5)):
                work = writer.choose()
                self._timed("write", "segue", lambda: work(SegueWay(sql)))
                self._timed("write", "direct", lambda: work(DirectWay(direct)))
                repeat = writer.take_repeat(self.repeats_key)
                if repeat:
                    self._timed("repeat", "segue", lambda: repeat(sql))

    def _reader(self, number):
        sql = self._sql(number)
        with psycopg.connect(self.baseline_dsn, autocommit=True) as direct:
            while not self._stop.wait(PAUSE_S * random.uniform(0.5, 1.5)):
                planted = [(it.statement, it.params) for it in self.planted.values()]
                if self.reads_planted_row:
                    planted.append((PLANTED_READ, (PLANTED_CUSTOMER,)))
                if planted and random.random() < 0.1:
                    statement, params = random.choice(planted)
                else:
                    statement, make = random.choice(self.reads)
                    params = make()
                for way in (SegueWay(sql), DirectWay(direct)):
                    self._timed("read", way.name, lambda: way.query(statement, *params))

    def _goes_round(self, _):
        """A program that knows nothing of segue and writes to the source itself."""
        with psycopg.connect(self.direct_dsn, autocommit=True) as direct:
            while not self._stop.wait(0.5):
                customer = random.randint(1, WRITTEN_MAX)
                try:
                    direct.execute("UPDATE customers SET visits = visits + 1 WHERE id = %s",
                                   (customer,))
                except psycopg.errors.ReadOnlySqlTransaction:
                    # The source is not the primary.
                    self.ledger.fenced += 1
                    continue
                with self.ledger._lock:
                    _add(self.ledger.visits, customer, 1)

    def _leaves_things_behind(self, number):
        """Calls what changes its session, which segue hands to other callers afterwards."""
        sql = self._sql(number)
        while not self._stop.wait(TRAP_PAUSE_S):
            sql.execute("SELECT prepare_report()")
            self.ledger.trapped += 1

    def _timed(self, kind, way, work):
        part = self.part
        begun = time.perf_counter()
        try:
            change = work()
        except Exception as error:
            self.ledger.fail(f"{kind} {way} ({part})", _sentence(error))
            return
        change = change if callable(change) and way == "segue" else None
        self.ledger.note(kind, way, part, time.perf_counter() - begun, change)


class Writer:
    """Makes the writes of one thread. Each gives what the ledger must note once it is done."""

    def __init__(self, number):
        self.next_id = number * IDS_OF_A_THREAD
        self.own = []
        self.number = number
        self.erased = set()
        self._repeat = None

    def choose(self):
        makers = [self.order, self.order, self.visit, self.visit, self.transfer, self.ticket,
                  self.forget, self.both, self.touch, self.touch, self.erase]
        return random.choice(makers)()

    def order(self):
        self.next_id += 1
        order, customer = self.next_id, random.randint(1, WRITTEN_MAX)
        qty, price = random.randint(1, 9), f"{random.randint(1, 99_999)}.{random.randint(0, 9999):04}"
        twice = random.random() < 0.1
        self.own.append(order)

        def run(way):
            sql = "INSERT INTO orders (id, customer_id, qty, price, note) VALUES ($1, $2, $3, $4, $5)"
            params = (order, customer, qty, Numeric(price), "from the load")
            way.execute(sql, *params, key=f"order-{order}")
            if twice:
                self._repeat = sql, params, f"order-{order}"

            def note(ledger):
                ledger.orders[order] = (customer, qty, price)
            return note
        return run

    def take_repeat(self, key):
        """An acknowledged write, sent again as by a client that missed the answer."""
        if self._repeat is None:
            return None
        (sql, params, first_key), self._repeat = self._repeat, None

        def run(way):
            answer = way.execute(sql, *params, key=first_key if key is None else key)

            def note(ledger):
                ledger.already_applied += answer.already_applied
            return note
        return run

    def visit(self):
        customer = random.randint(1, WRITTEN_MAX)
        prefs = f'{{ "b" : {random.randint(0, 999)}, "a": [1.50, null, "ü"] }}'

        def run(way):
            way.execute("UPDATE customers SET visits = visits + 1, seen_at = clock_timestamp(),"
                        " prefs = $2 WHERE id = $1", customer, Json(prefs))
            return lambda ledger: _add(ledger.visits, customer, 1)
        return run

    def transfer(self):
        # Always the lower id first, so that two transfers never wait for each other.
        low, high = sorted(random.sample(range(1, WRITTEN_MAX + 1), 2))
        cents = random.randint(-500, 500)
        amount = f"{cents / 100:.2f}"

        def run(way):
            sql = "UPDATE customers SET credit = credit {} $2 WHERE id = $1"
            way.batch((sql.format("-"), low, Numeric(amount)),
                      (sql.format("+"), high, Numeric(amount)))

            def note(ledger):
                _add(ledger.credit_cents, low, -cents)
                _add(ledger.credit_cents, high, cents)
            return note
        return run

    def ticket(self):
        title = f"ticket of {self.next_id} at {random.random()}"

        def run(way):
            number = way.insert_returning_id(
                "INSERT INTO tickets (title) VALUES ($1) RETURNING id", title)

            def note(ledger):
                ledger.tickets[number] = title
            return note
        return run

    def forget(self):
        if len(self.own) < 20:
            return self.order()
        order = self.own.pop(random.randrange(10))

        def run(way):
            way.execute("DELETE FROM orders WHERE id = $1", order)
            return lambda ledger: ledger.deleted.add(order)
        return run

    def touch(self):
        event = self._event()

        def run(way):
            way.execute("UPDATE events SET touched = touched + 1 WHERE id = $1", event)
            return lambda ledger: _add(ledger.touched, event, 1)
        return run

    def erase(self):
        event = self._event()
        self.erased.add(event)

        def run(way):
            way.execute("DELETE FROM events WHERE id = $1", event)
            return lambda ledger: ledger.erased.add(event)
        return run

    def _event(self):
        """One of the history that is this thread's own and still there."""
        while True:
            event = random.choice(EVENTS)
            if event % WRITERS == self.number % WRITERS and event not in self.erased:
                return event

    def both(self):
        """An order and a visit in a transaction that spans calls."""
        self.next_id += 1
        order, customer = self.next_id, random.randint(1, WRITTEN_MAX)
        self.own.append(order)

        def run(way):
            way.transaction(
                ("INSERT INTO orders (id, customer_id, qty, price) VALUES ($1, $2, 1, $3)",
                 order, customer, Numeric("9.9900")),
                ("UPDATE customers SET visits = visits + 1 WHERE id = $1", customer))

            def note(ledger):
                ledger.orders[order] = (customer, 1, "9.9900")
                _add(ledger.visits, customer, 1)
            return note
        return run


def _sentence(error):
    """What gRPC's errors say, without the dump around it."""
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return str(error)


def _add(counts, key, amount):
    counts[key] = counts.get(key, 0) + amount


class SegueWay:
    """Work through segue."""

    name = "segue"

    def __init__(self, sql):
        self.sql = sql
        self.query, self.execute, self.batch = sql.query, sql.execute, sql.batch

    def insert_returning_id(self, sql, *params):
        return self.sql.execute(sql, *params).result.rows.typed.rows[0].values[0].int64

    def transaction(self, *statements):
        transaction = self.sql.begin()
        for sql, *params in statements:
            self.sql.execute(sql, *params, transaction=transaction)
        self.sql.commit(transaction)


class DirectWay:
    """The same work with a driver, as the application did it before."""

    name = "direct"

    def __init__(self, connection):
        self.connection = connection

    def query(self, sql, *params):
        return self._run(sql, params).fetchall()

    def execute(self, sql, *params, key=""):
        self._run(sql, params)

    def insert_returning_id(self, sql, *params):
        return self._run(sql, params).fetchone()[0]

    def batch(self, *statements):
        self.transaction(*statements)

    def transaction(self, *statements):
        with self.connection.transaction():
            for sql, *params in statements:
                self._run(sql, params)

    def _run(self, sql, params):
        cursor = psycopg.RawCursor(self.connection)
        return cursor.execute(sql, [str(value) if isinstance(value, str) else value
                                    for value in params])
