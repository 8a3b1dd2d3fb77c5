"""What happens in the demo, part by part."""

import time

import psycopg

import client
import shop
from client import Migration
from load import EVENTS, PLANTED_CUSTOMER, Ledger, Load
from proof import prove
from servers import Server, Sidecar, wait_until

# The parts under load and how long they last; the copy lasts as long as it takes.
COPIED = "history copied"
CALM, FROZEN, DOWN, BACK, DIVERGED = "calm", "target frozen", "target down", "target back", "diverged"
SECONDS = {CALM: 25, FROZEN: 12, DOWN: 15, BACK: 20, DIVERGED: 25}
DRAIN_LIMIT_S = 60
# The comparer looks again before it calls a difference one, and writes its list by intervals.
SETTLE_S = 8
# The backlog is worked off when no key waits for longer than this.
CAUGHT_UP_AGE_S = 2
REFRESH_S = 0.5
# Polite, so that the copy can be watched and the load goes on beside it.
COPY_ROWS_PER_S = 20_000


class Story:
    """Two servers, segue between them, a load, and what befalls them."""

    def __init__(self, folder, display, program, pace, sabotage):
        self.display = display
        self.folder = folder
        self.program = program
        self.pace = pace
        self.sabotage = sabotage
        self.source = Server(folder, "source", 15)
        self.target = Server(folder, "target", 18)
        self.ledger = Ledger()
        self.backlog_max = 0
        self.copied = self.verified = self.found = None
        self.caught_up_after_s = None
        self.mismatches = ""
        self._back_at = None
        self.sidecar = self.migration = self.load = None

    def prepare(self):
        self.source.start()
        self.target.start()
        shop.create(self.source, "shop", "source")
        shop.create(self.source, "baseline", "source")
        shop.create(self.target, "shop", "target", rows=False)
        self.sidecar = Sidecar(self.folder, self.program, self.source.dsn("shop"),
                               self.target.dsn("shop"))
        self.sidecar.run("init", "--phase", "dual_write")
        self.sidecar.serve()
        wait_until("segue serves", 30, self.sidecar.is_up)
        client.generate_stubs()
        self.migration = Migration(self.sidecar.admin_port)
        self.load = Load(self.ledger, self.sidecar.sql_port, self.source.dsn("baseline"),
                         self.source.dsn("shop"))
        self.sabotage.at("prepared", self)

    def run(self):
        step = self.display.step
        step("PostgreSQL 15 (source) and 18 (target) run, segue serves, clients read and write")
        self.load.start()
        self.copy()
        step("a sample of the reads is compared from now on")
        self.sidecar.run("init", "--phase", "shadow_read")
        self.watch(CALM)
        step("the target freezes: it takes connections and answers nothing")
        self.target.freeze()
        self.sabotage.at("away", self)
        self.watch(FROZEN)
        step("the target crashes; nobody listens there")
        self.target.crash()
        self.watch(DOWN)
        step("the target comes back, and recovers from its log")
        self.target.start()
        self._back_at = time.monotonic()
        self.sabotage.at("back", self)
        self.watch(BACK)
        step(f"behind everybody's back the target's customer {PLANTED_CUSTOMER} gets one cent")
        if not self.sabotage.at("diverge", self):
            with psycopg.connect(self.target.dsn("shop"), autocommit=True) as connection:
                connection.execute("UPDATE public.customers SET credit = credit + 0.01"
                                   " WHERE id = %s", (PLANTED_CUSTOMER,))
        self.watch(DIVERGED)
        step("the clients end; what waits is reconciled")
        self.load.stop()
        self.drain()
        self.sabotage.at("drained", self)
        step("both sides are verified once more; one planted row differs by now")
        self.found = self.sidecar.show(self.display, "verify")

    def copy(self):
        """Brings the history to the target while the clients write, and has it verified."""
        self.load.part = COPIED
        step = self.display.step
        step(f"the history of {len(EVENTS)} events is copied, at most {COPY_ROWS_PER_S} rows/s")
        if not self.sabotage.at("copy", self):
            self.copied = self.sidecar.show(
                self.display, "backfill", "--max-rows-per-s", COPY_ROWS_PER_S)
        self.sabotage.at("copied", self)
        step("both sides are verified, still under load")
        self.verified = self.sidecar.show(self.display, "verify")

    def watch(self, part):
        """Lets the load go on and shows how it does."""
        self.load.part = part
        until = time.monotonic() + SECONDS[part] * self.pace
        while time.monotonic() < until:
            self.look()
            time.sleep(REFRESH_S)

    def drain(self):
        try:
            wait_until("the outbox is empty", DRAIN_LIMIT_S, lambda: self.look() == 0, REFRESH_S)
        except TimeoutError as error:
            self.display.step(str(error))
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            self.look()
            time.sleep(REFRESH_S)

    def look(self):
        """Shows how things stand; gives the number of keys that wait."""
        done, part = self.ledger.acknowledged, self.load.part
        took = self.ledger.percentiles("write", "segue", [part])
        times = f"p50 {took[0]:.0f} p99 {took[1]:.0f} ms" if took else "…"
        calls = f"{part}: {done['read']} reads, {done['write']} writes ({times})"
        calls += f", {len(self.ledger.errors)} errors"
        try:
            status = self.migration.status()
        except Exception as error:
            self.display.status(f"{calls}, no status ({type(error).__name__})")
            return None
        counts = {it.verdict: it.count for it in status.verdicts}
        pending = status.outbox.pending
        self.display.status(f"{calls}, {pending} keys wait,"
                            f" {sum(counts.values())} compared")
        if part in (FROZEN, DOWN):
            self.backlog_max = max(self.backlog_max, pending)
        caught_up = status.outbox.oldest_age_s < CAUGHT_UP_AGE_S
        if self._back_at and self.caught_up_after_s is None and caught_up:
            self.caught_up_after_s = time.monotonic() - self._back_at
        return pending

    def prove(self):
        return prove(self)

    def stop(self):
        """Ends segue; gives whether it drained and ended well."""
        self.sabotage.at("end", self)
        return self.sidecar.stop()
