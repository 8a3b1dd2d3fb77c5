"""From psycopg's placeholders (%s, %(name)s) to PostgreSQL's ($1)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from segue.errors import ProgrammingError

# %b and %t are psycopg's ways to ask for a format, which makes no difference here.
_PLACEHOLDER = re.compile(r"%(?:(%)|\(([^)]+)\)[sbt]|([sbt])|(.|$))", re.DOTALL)


@functools.lru_cache(maxsize=1024)
def _converted(query: str) -> tuple[str, tuple[str, ...] | None, int]:
    """The SQL, the names of its parameters if they have names, and their number."""
    names: dict[str, int] = {}
    count = 0

    def one(found: re.Match[str]) -> str:
        nonlocal count
        if found[1]:
            return "%"
        if found[2]:
            return f"${names.setdefault(found[2], len(names) + 1)}"
        if found[3]:
            count += 1
            return f"${count}"
        raise ProgrammingError(
            f"'%{found[4]}' is no placeholder: there are %s and %(name)s",
            hint="write %% for a percent sign",
            position=found.start() + 1,
        )

    sql = _PLACEHOLDER.sub(one, query)
    if names and count:
        raise ProgrammingError("a statement has parameters with names or without, not both")
    return sql, tuple(names) if names else None, count or len(names)


def convert(query: str, params: Sequence[Any] | Mapping[str, Any] | None) -> tuple[str, list[Any]]:
    """The SQL with $1, $2, … and the parameters in that order."""
    if params is None:
        return query, []
    sql, names, count = _converted(query)
    if isinstance(params, (str, bytes)):
        raise ProgrammingError("the parameters are a sequence or a mapping, not a text")
    if names is not None:
        if not isinstance(params, Mapping):
            raise ProgrammingError("the parameters have names: give a mapping")
        missing = [name for name in names if name not in params]
        if missing:
            raise ProgrammingError(f"the parameters lack {', '.join(missing)}")
        return sql, [params[name] for name in names]
    if isinstance(params, Mapping):
        if count:
            raise ProgrammingError("the parameters have no names: give a sequence")
        return sql, []
    values = list(params)
    if len(values) != count:
        raise ProgrammingError(f"the statement has {count} parameters, {len(values)} were given")
    return sql, values


_SPACE_OR_COMMENT = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|\()*", re.DOTALL)
_READS = re.compile(r"(?:SELECT|VALUES|TABLE|SHOW|WITH|EXPLAIN)\b", re.IGNORECASE)


@functools.lru_cache(maxsize=1024)
def looks_like_read(sql: str) -> bool:
    """Whether to try Query first. The sidecar knows for sure: what writes, it refuses there."""
    begin = _SPACE_OR_COMMENT.match(sql)
    return _READS.match(sql, begin.end() if begin else 0) is not None
