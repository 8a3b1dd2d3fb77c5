"""One line that is written again and again on a terminal; plain lines elsewhere."""

import shutil
import sys
import time

PLAIN_EVERY_S = 5
GREEN, RED = 32, 31


class Display:
    """What the demo shows while it runs."""

    def __init__(self):
        self.begun = time.monotonic()
        self.live = sys.stdout.isatty()
        self._plain_last = 0.0
        self._open = False

    def say(self, text=""):
        """A line that stays."""
        if self._open:
            sys.stdout.write("\r\x1b[K")
            self._open = False
        print(text, flush=True)

    def step(self, text):
        """A line that stays, with the time."""
        self.say(f"[{self.seconds():4.0f} s] {text}")

    def verdict(self, holds, text):
        """A claim and whether it held."""
        word = "ok  " if holds else "FAIL"
        if self.live:
            word = f"\x1b[{GREEN if holds else RED}m{word}\x1b[0m"
        self.say(f"  {word}  {text}")

    def status(self, text):
        """The line that changes."""
        line = f"[{self.seconds():4.0f} s]   {text}"
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write("\r\x1b[K" + line[:width])
            sys.stdout.flush()
            self._open = True
        elif time.monotonic() - self._plain_last >= PLAIN_EVERY_S:
            self._plain_last = time.monotonic()
            print(line, flush=True)

    def seconds(self):
        return time.monotonic() - self.begun
