"""What passes with psycopg must pass through the sidecar, but for what is named here.

python compare.py PSYCOPG.json SEGUE.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

# A pattern of the test's name, one of what it says, and why it is left out.
LEFT_OUT = [
    ("", "cached plan must not change result type",
     "the suite drops tables and makes others of the same name behind the sidecar's back"),
    ("ServerSideCursorsTest", "assert",
     "the suite knows the cursors of a list of drivers, and takes those of others for plain ones;"
     " tests/test_sqlalchemy.py shows that rows are streamed"),
    ("temp_table|TempTable", "",
     "temporary tables are state of a session, which callers share"),
]  # fmt: skip
SHARE_MIN = 0.95


def main(theirs: str, ours: str) -> int:
    """Prints what differs; gives the exit code."""
    psycopg = json.loads(Path(theirs).read_text())
    segue = json.loads(Path(ours).read_text())
    passed = [name for name, (outcome, _) in psycopg.items() if outcome == "passed"]
    also = [name for name in passed if segue.get(name, ("missing", ""))[0] == "passed"]
    print(f"psycopg passes {len(passed)}; of these {len(also)} pass through the sidecar"
          f" ({len(also) / len(passed):.1%})")  # fmt: skip
    unexcused = 0
    counts: dict[str, int] = {}
    for name in sorted(set(passed) - set(also)):
        outcome, text = segue.get(name, ("missing", ""))
        for where, says, reason in LEFT_OUT:
            if re.search(where, name) and re.search(says, text):
                counts[reason] = counts.get(reason, 0) + 1
                break
        else:
            unexcused += 1
            last = text.strip().splitlines()[-1] if text else ""
            print(f"  {outcome}: {name}: {last}")
    for reason, count in counts.items():
        print(f"  {count} left out: {reason}")
    enough = len(passed) > 500 and len(also) >= SHARE_MIN * len(passed)
    return 0 if enough and not unexcused else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
