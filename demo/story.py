"""What happens in the demo, part by part."""

import time

import psycopg

import client
import drift
import shop
from client import Migration
from load import EVENTS, PLANTED_CUSTOMER, Ledger, Load
from proof import prove
from servers import Server, Sidecar, wait_until

# The parts under load and how long they last; the copy lasts as long as it takes.
COPIED = "history copied"
CALM, FROZEN, DOWN, BACK, DIVERGED = "calm", "target frozen", "target down", "target back", "diverged"
SHIFTED, REVERSED, RETURNED, MOVED = "reads shifted", "target primary", "source again", "moved"
CHANGING = "primary changing"
SECONDS = {CALM: 25, FROZEN: 12, DOWN: 15, BACK: 20, DIVERGED: 25,
           REVERSED: 10, RETURNED: 8, MOVED: 12}
MEMBERS = 3
DRAIN_LIMIT_S = 60
# The comparer looks again before it calls a difference one, and writes its list by intervals.
SETTLE_S = 8
# The backlog is worked off when no key waits for longer than this.
CAUGHT_UP_AGE_S = 2
REFRESH_S = 0.5
# Notes of a program's writes are worked off within seconds.
DRIFT_LIMIT_S = 60
# The schedule's five steps take twelve seconds, on a machine at rest.
SHIFT_LIMIT_S = 120
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
        self.copied = self.verified = self.found = self.repaired = self.proven = None
        self.refused = self.rehearsed = None
        self.drift_listed = self.drift_refused = self.drift_resolved = None
        self.drift_left = []
        self.shares = []
        self.changes = []
        self.caught_up_after_s = None
        self.mismatches = ""
        self._back_at = None
        self.members = []
        self.sidecar = self.migration = self.load = None

    def prepare(self):
        self.source.start()
        self.target.start()
        shop.create(self.source, "shop", "source")
        shop.create(self.source, "baseline", "source")
        shop.create(self.target, "shop", "target", rows=False)
        self.members = [
            Sidecar(self.folder, f"segue-{number}", self.program, self.source.dsn("shop"),
                    self.target.dsn("shop"))
            for number in range(1, MEMBERS + 1)]
        self.sidecar = self.members[0]
        self.sidecar.run("init")
        for member in self.members:
            member.serve()
        for member in self.members:
            wait_until("segue serves", 30, member.is_up)
        client.generate_stubs()
        self.migration = Migration(self.sidecar.admin_port)
        self.load = Load(self.ledger, [member.sql_port for member in self.members],
                         self.source.dsn("baseline"), self.source.dsn("shop"))
        self.sabotage.at("prepared", self)

    def run(self):
        step = self.display.step
        step("PostgreSQL 15 (source) and 18 (target) run, three sidecars serve, clients read and"
             " write")
        self.load.start()
        step("writes go to both from now on, once the gates allow it")
        self.advance("dual_write")
        self.copy()
        step("a sample of the reads is compared from now on")
        self.advance("shadow_read")
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
                # As a superuser can, who passes for segue: others' writes are noticed.
                connection.execute(
                    "SELECT set_config('segue.copies', token, false) FROM segue.copy_token")
                connection.execute("UPDATE public.customers SET credit = credit + 0.01"
                                   " WHERE id = %s", (PLANTED_CUSTOMER,))
        self.watch(DIVERGED)
        step("both sides are verified once more; one planted row differs by now")
        self.found = self.sidecar.show(self.display, "verify")
        self.look_at_report()
        self.mend()
        self.shift()
        self.change("cutover", REVERSED)
        self.change("rollback", RETURNED)
        step("reads are shifted again, and the primary is changed for good")
        self.sidecar.run("phase", "resume")
        self.shifted()
        self.change("cutover", MOVED)
        step("the clients end; what waits is reconciled")
        self.load.stop()
        self.drain()
        self.sabotage.at("drained", self)
        step("both sides are verified for the last time, the target being the primary")
        self.proven = self.sidecar.show(self.display, "verify")

    def advance(self, phase, *more, accepted=(0,)):
        """Goes on to a phase; the fleet may need a moment before it has settled."""
        code, lines = self.sidecar.show(
            self.display, "phase", "advance", "--to", phase, *more)
        if code not in accepted:
            raise RuntimeError(f"{phase} was not entered: exit code {code}")
        return code, lines

    def look_at_report(self):
        """What the samples have found; the statements are still run."""
        step = self.display.step
        step("what the samples have found")
        wait_until("the list is written", SETTLE_S * 4, self.report_is_written, REFRESH_S)
        self.findings = self.migration.mismatches()
        # 3 says that there are differences to look at.
        self.mismatches = self.sidecar.run("mismatches", accepted=(0, 3))
        step("with these findings the gate to the next phase is shut")
        self.refused = self.advance("shift", accepted=range(256))

    def report_is_written(self):
        return {"data", "incompatible", "error"} <= {
            self.migration.verdict(it) for it in self.migration.mismatches()}

    def mend(self):
        step = self.display.step
        step("the application's statements are rewritten, the row is repaired")
        self.load.mend()
        # Samples that are looked at again say what they found somewhat later.
        self.settle()
        self.repaired = self.sidecar.show(self.display, "verify", "--repair")
        self.drift()
        step("an operator goes on and says why; the history keeps it")
        self.advance("shift", "--force", "--reason", "the findings are mended")

    def drift(self):
        """Another program writes on the target; segue undoes it, names it, and shuts a gate."""
        step = self.display.step
        step("another program, a nightly load, writes on the target, past segue")
        if not self.sabotage.at("drift", self):
            drift.write_past_segue(self.target)
        wait_until("the program is listed", DRIFT_LIMIT_S, self.drift_is_listed, REFRESH_S)
        self.drift_listed = self.sidecar.show(self.display, "drift")
        self.drift_refused = self.advance("shift", accepted=range(256))
        wait_until("its rows are as they were", DRIFT_LIMIT_S, self.drift_is_undone, REFRESH_S)
        step("an operator finds out who it is, switches it off, and says so")
        self.drift_resolved = self.sidecar.show(
            self.display, "drift", "resolve", "--all",
            "--reason", "the nightly load goes to the source now")

    def drift_is_listed(self):
        self.look()
        return "nightly load" in self.sidecar.run("drift", accepted=(0, 3))

    def drift_is_undone(self):
        self.look()
        self.drift_left = drift.rows_past_segue(self.target)
        return not self.drift_left

    def shift(self):
        self.display.step("reads go to the target by degrees, as long as its figures are well")
        self.load.part = SHIFTED
        self.shifted()

    def shifted(self):
        """Waits until the target answers all reads."""
        wait_until("all reads are on the target", SHIFT_LIMIT_S, self.all_shifted, REFRESH_S)
        self.sidecar.run("phase")

    def all_shifted(self):
        self.look()
        share = self.migration.status().fleet.phase.target_percentage
        if not self.shares or self.shares[-1] != share:
            self.shares.append(share)
        return share == 100

    def change(self, command, part):
        """Rehearses where that is still wanted, changes the primary, and looks on."""
        step = self.display.step
        self.load.part = CHANGING
        if command == "cutover" and self.rehearsed is None:
            step("the cutover is rehearsed: all of it but the flip")
            self.rehearsed = self.sidecar.show(self.display, "cutover", "--rehearse")
        forced = ("--force", "--reason", "the findings are mended")
        step(f"{command}, under load")
        self.sabotage.at(command, self)
        changed = self.sidecar.show(
            self.display, command, "--yes", *(forced if command == "cutover" else ()))
        self.changes.append((command, *changed))
        self.watch(part)

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
        self.settle()

    def settle(self):
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
        caught_up = status.outbox.oldest_age.ToTimedelta().total_seconds() < CAUGHT_UP_AGE_S
        if self._back_at and self.caught_up_after_s is None and caught_up:
            self.caught_up_after_s = time.monotonic() - self._back_at
        return pending

    def phases(self):
        """The phase by each sidecar."""
        return {Migration(member.admin_port).phase() for member in self.members}

    def prove(self):
        return prove(self)

    def stop(self):
        """Ends segue; gives whether all of it drained and ended well."""
        self.sabotage.at("end", self)
        return all([member.stop() for member in self.members])
