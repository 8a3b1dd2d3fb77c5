"""The claims, each of which holds or does not, and what shows it."""

import drift
from check import differences, images, lost_writes
from load import PLANTED, PLANTED_READ_MARK

DETAILS_MAX = 10
# A target that is away takes no key, so the backlog must have been seen to grow.
BACKLOG_MIN = 50
TO_FIX = ("data", "incompatible", "error")
CALM, AWAY = ["calm"], ["target frozen", "target down"]
PARTS = ["history copied", *CALM, *AWAY, "target back", "diverged", "reads shifted",
         "primary changing", "target primary", "source again", "moved"]
SHOWN = [it for it in PARTS if it not in ("target back", "diverged")]
EQUAL, DIFFERENT, REFUSED = 0, 3, 4
# Room for a shared machine, none for a wait: a frozen target lets one wait for seconds.
SLOWER_MAX = 2
SLOWER_MS_MAX = {"p50": 10, "p99": 250}



class Proof:
    """Claims that held and claims that did not."""

    def __init__(self, display):
        self.display = display
        self.held = self.failed = 0

    def claim(self, text, holds, detail=()):
        self.held += bool(holds)
        self.failed += not holds
        self.display.verdict(bool(holds), text)
        if not holds:
            for line in list(detail)[:DETAILS_MAX]:
                self.display.say(f"          {line}")


def prove(story):
    """Prints every claim; gives whether all of them held."""
    display = story.display
    proof = Proof(display)
    display.say()
    display.say("PROOF")
    _callers(proof, story)
    source = images(story.source.dsn("shop"))
    target = images(story.target.dsn("shop"))
    lost_anywhere = []
    for side, rows in (("source", source), ("target", target)):
        lost = lost_writes(story.ledger, rows)
        lost_anywhere += lost
        proof.claim(f"{story.ledger.acknowledged['write']} writes were acknowledged,"
                    f" missing on the {side}: {len(lost)}", not lost, lost)
    proof.claim("a function left a temporary table `orders`, a search path and replica mode in its"
                f" session {story.ledger.trapped} times; writes lost in it: {len(lost_anywhere)}",
                story.ledger.trapped > 0 and not lost_anywhere, lost_anywhere)
    _history(proof, story)
    _outbox(proof, story)
    _equality(proof, source, target)
    _report(proof, story)
    _phases(proof, story)
    _latencies(proof, story)
    proof.claim("segue drained and ended by SIGTERM", story.stop(),
                story.sidecar.log_tail().splitlines()[-DETAILS_MAX:])
    display.say()
    display.say("$ segue mismatches")
    for line in story.mismatches.splitlines():
        display.say(f"  {line}" if line else "")
    display.say()
    total = proof.held + proof.failed
    display.verdict(proof.failed == 0, f"{proof.held} of {total} claims held")
    return proof.failed == 0


def _callers(proof, story):
    ledger = story.ledger
    done = ledger.acknowledged
    proof.claim(f"{done['read']} reads and {done['write']} writes, errors of callers:"
                f" {len(ledger.errors)}", not ledger.errors, ledger.errors)
    proof.claim(f"{done['repeat']} writes were sent again with their idempotency key, got the first"
                f" answer: {ledger.already_applied}",
                0 < done["repeat"] == ledger.already_applied)


def _history(proof, story):
    code, lines = story.copied or (None, ["it was not copied"])
    proof.claim("the history was copied under load", code == EQUAL, lines[-DETAILS_MAX:])
    code, lines = story.verified
    proof.claim("segue verify found nothing different, with the clients writing all along",
                code == EQUAL, lines[-DETAILS_MAX:])
    code, lines = story.found
    told = [line for line in lines if "credit" in line]
    proof.claim("segue verify found the planted row, and exits with 3",
                code == DIFFERENT and told, lines[-DETAILS_MAX:])
    code, lines = story.repaired
    proof.claim("segue verify --repair made it equal", code == EQUAL, lines[-DETAILS_MAX:])
    _drift(proof, story)
    code, lines = story.proven
    proof.claim("segue verify found nothing different in the end", code == EQUAL,
                lines[-DETAILS_MAX:])


def _drift(proof, story):
    code, lines = story.drift_listed
    told = " ".join(lines)
    named = "role etl" in told and f"public.orders: {drift.ROWS} keys" in told
    proof.claim(f"a nightly load wrote {drift.ROWS} rows on the target, past segue; named by"
                f" `segue drift`, and left there: {len(story.drift_left)}",
                code == DIFFERENT and named and not story.drift_left, lines[-DETAILS_MAX:])
    code, lines = story.drift_refused
    shut = any(line.split()[:3] == ["foreign", "writes", "fail"] for line in lines)
    resolved, _ = story.drift_resolved
    proof.claim("the gate *foreign writes* failed until an operator had resolved it",
                code == REFUSED and shut and resolved == EQUAL, lines[-DETAILS_MAX:])


def _outbox(proof, story):
    back = story.caught_up_after_s
    proof.claim(f"while the target was away {story.backlog_max} keys waited; worked off"
                + (f" {back:.0f} s after it was back" if back is not None else ": never"),
                story.backlog_max >= BACKLOG_MIN and back is not None)
    # The list has a limit, the count has none.
    waiting, count = story.migration.outbox(), story.migration.status().outbox.pending
    proof.claim(f"keys left in the outbox: {count}", count == 0 and not waiting,
                [f"{it.table} {list(it.key)}: {it.last_error}" for it in waiting])


def _equality(proof, source, target):
    rows = sum(len(table) for table in source.values())
    found = differences(source, target)
    proof.claim(f"{rows} rows compared one by one, unlike each other: {len(found)}", not found,
                [f"{table} {key}: {ours} on the source, {theirs} on the target"
                 for table, key, ours, theirs in found])


def _report(proof, story):
    # Those of the end: what came after the repair would be among them.
    verdict = story.migration.verdict
    left = [it for it in story.migration.mismatches() if verdict(it) in TO_FIX]
    planted = [(fault, it.mark, it.reported) for fault, it in PLANTED.items()]
    planted.append(("another value in one row", PLANTED_READ_MARK, "data"))
    for fault, mark, expected in planted:
        found = [it for it in left if mark in _plain(it.statement)]
        left = [it for it in left if it not in found]
        # A plain difference has no category besides itself.
        reported = ", ".join(f"{verdict(it)} {it.category}".removesuffix(" data") for it in found)
        proof.claim(f"planted: {fault}, reported as {reported or 'nothing'}",
                    reported == expected, [f"expected: {expected}"])
    proof.claim(f"reported besides: {len(left)}", not left,
                [f"{it.count} times {verdict(it)} {it.category}: {it.statement} · {it.example}"
                 for it in left])


def _phases(proof, story):
    code, lines = story.refused
    proof.claim("with differences found, the gate to `shift` was shut, and exits with 4",
                code == REFUSED, lines[-DETAILS_MAX:])
    shares = [f"{share:.0f} %" for share in story.shares]
    proof.claim(f"reads went to the target by degrees: {', '.join(shares)}",
                shares[-1:] == ["100 %"] and len(story.shares) >= 10, shares)
    code, lines = story.rehearsed or (None, ["it was not rehearsed"])
    proof.claim("the cutover was rehearsed", code == EQUAL, lines[-DETAILS_MAX:])
    for command, code, lines in story.changes:
        held = next((line.rpartition("held for ")[2] for line in lines if "held for" in line), "?")
        proof.claim(f"{command}: writes were held for {held}", code == EQUAL, lines[-DETAILS_MAX:])
    wanted = ["cutover", "rollback", "cutover"]
    proof.claim("the target is the primary, as all sidecars say",
                [it[0] for it in story.changes] == wanted and story.phases() == {"reversed"},
                story.phases())
    proof.claim(f"a program that goes round segue was refused {story.ledger.fenced} times while"
                " the source was not the primary", story.ledger.fenced > 0)
    history = story.sidecar.run("history")
    proof.claim("the history says who went on without a gate, and why",
                "the findings are mended" in history, history.splitlines())


def _latencies(proof, story):
    percentiles = story.ledger.percentiles
    say = proof.display.say
    say()
    say("  latency in ms, as the Python clients saw it   with segue           without segue")
    say("  (the same work, server and moment)           p50      p99         p50      p99")
    for kind in ("read", "write"):
        for name, parts in (*((part, [part]) for part in SHOWN), ("the whole run", PARTS)):
            ours, direct = (percentiles(kind, way, parts) for way in ("segue", "direct"))
            if ours and direct:
                say(f"    {kind:5} · {name:14} {ours[2]:6} calls   {ours[0]:12.2f} {ours[1]:8.2f}"
                    f"    {direct[0]:8.2f} {direct[1]:8.2f}")
    say()
    for kind in ("read", "write"):
        calm, away = (percentiles(kind, "segue", parts) for parts in (CALM, AWAY))
        direct_calm, direct_away = (percentiles(kind, "direct", parts) for parts in (CALM, AWAY))
        if not (calm and away and direct_calm and direct_away):
            proof.claim(f"{kind}s were measured in every part", False)
            continue
        holds, told = True, []
        for at, (name, ms) in enumerate(SLOWER_MS_MAX.items()):
            # Where the whole machine became slower, the calls beside segue show it.
            slower = max(1, direct_away[at] / direct_calm[at])
            holds &= away[at] < SLOWER_MAX * slower * calm[at] + ms
            told.append(f"{name} {calm[at]:.1f} ms → {away[at]:.1f} ms")
        proof.claim(f"{kind}s do not wait for a target that is away: {', '.join(told)}", holds)


def _plain(statement):
    return " ".join(statement.replace('"', "").split()).lower()
