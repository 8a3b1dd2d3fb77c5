"""PostgreSQL's text of what the client gives."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any


def rendered(value: Any) -> str | None:
    """As `value::text` gives it, for the types that scenarios look at."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float) and value.is_integer() and math.isfinite(value):
        return str(int(value))
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    return str(value)


def rows(found: Any) -> list[list[str | None]]:
    """All rows of an answer."""
    return [[rendered(value) for value in row] for row in found]
