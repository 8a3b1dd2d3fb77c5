"""Ways to spoil the demo, each of which must make a claim fail: a proof that cannot fail is none."""

from dataclasses import dataclass
from typing import Callable

import psycopg


@dataclass
class Deed:
    """One thing to spoil, and when. A deed at `diverge` stands in the planted row's place."""

    text: str
    moment: str
    spoil: Callable


def _on(server, *statements):
    with psycopg.connect(server.dsn("shop"), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _error(story):
    story.load.reads.append(("SELECT no_such_column FROM orders", tuple))


def _surprise(story):
    story.load.reads.append(("SELECT count(*) FROM customers WHERE name < 'b'", tuple))


def _blind(story):
    story.load.planted.pop("order of text")


def _repeats(story):
    # The second call does not bring the key, so it is another write.
    story.load.repeats_key = ""


def _lost(story):
    order = next(it for it in story.ledger.orders if it not in story.ledger.deleted)
    _on(story.target, f"DELETE FROM public.orders WHERE id = {order}")
    story.drain()


def _row(story):
    # As a superuser can, past the fence.
    _on(story.source, "SELECT set_config('segue.copies', token, false) FROM segue.copy_token",
        "UPDATE orders SET qty = qty + 1 WHERE id = 7")


def _hole(story):
    # Others' writes would be noticed.
    _on(story.target, "SELECT set_config('segue.copies', token, false) FROM segue.copy_token",
        "DELETE FROM public.events WHERE id = (SELECT max(id) FROM public.events)")


def _unnamed(story):
    # By a role that says nothing of a nightly load.
    _on(story.target, "SET application_name = 'nightly load'",
        "UPDATE public.orders SET note = 'loaded' WHERE customer_id = 200")


def _stuck(story):
    _on(story.target, "ALTER TABLE public.tickets ADD CHECK (title = '') NOT VALID")


def _slow(story):
    _on(story.source,
        "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$",
        "CREATE TRIGGER pause AFTER INSERT ON tickets"
        " FOR EACH STATEMENT EXECUTE FUNCTION pause()")


def _stays(story):
    story.target.thaw()
    story.target.crash = lambda: None
    story.target.start = lambda: None


def _kill(story):
    story.sidecar.process.kill()


SABOTAGES = {
    "error": Deed("a client sends a statement that fails", "prepared", _error),
    "repeats": Deed("repeated writes come without their key", "prepared", _repeats),
    "blind": Deed("one of the planted statements is never run", "prepared", _blind),
    "surprise": Deed("a statement that differs and was not announced", "prepared", _surprise),
    "uncopied": Deed("the history is not copied", "copy", lambda _: None),
    "hole": Deed("one event is deleted on the target behind the copy", "copied", _hole),
    "stays": Deed("the target is not taken away", "away", _stays),
    "slow": Deed("writes become slow while the target is away", "away", _slow),
    "undiverged": Deed("the row of customer 200 stays as it is", "diverge", lambda _: None),
    "unnamed": Deed("a superuser writes in the nightly load's place", "drift", _unnamed),
    "lost": Deed("an acknowledged order is deleted on the primary", "drained", _lost),
    "row": Deed("a row is changed on the shadow", "drained", _row),
    "stuck": Deed("the target refuses new tickets", "back", _stuck),
    "kill": Deed("segue is killed at the end", "end", _kill),
}


class Sabotage:
    """The chosen deed, if any."""

    def __init__(self, name):
        self._deed = SABOTAGES.get(name)

    def at(self, moment, story):
        """Does the deed at its moment; says whether it did."""
        if self._deed is None or self._deed.moment != moment:
            return False
        story.display.step(f"SABOTAGE: {self._deed.text}")
        self._deed.spoil(story)
        return True
