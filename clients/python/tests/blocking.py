"""The asyncio client as a synchronous one, so that both run the same scenarios."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

from segue import aio

_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, daemon=True).start()


def wait(coroutine: Any) -> Any:
    """Runs a coroutine on the loop's thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop).result()


def connect(url: str, **options: Any) -> Any:
    return Blocking(wait(aio.connect(url, **options)))


class Blocking:
    """A connection or a transaction."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name == "transaction":
            return lambda **options: Blocking(found(**options))
        if name == "stream":
            return lambda *args, **options: BlockingStream(found(*args, **options))
        if name == "cancel":
            return lambda: _loop.call_soon_threadsafe(found)
        if name == "run":
            return lambda function, **options: wait(found(_awaited(function), **options))
        if asyncio.iscoroutinefunction(found):
            return lambda *args, **options: wait(found(*args, **options))
        return found


def _awaited(function: Any) -> Any:
    async def run(transaction: Any) -> Any:
        # In a thread of its own, since it waits for the loop.
        return await asyncio.to_thread(function, Blocking(transaction))

    return run


class BlockingStream:
    def __init__(self, inner: aio.Stream) -> None:
        self.inner = inner

    def __enter__(self) -> BlockingStream:
        wait(self.inner.open())
        return self

    def __exit__(self, *_: Any) -> None:
        wait(self.inner.close())

    def __iter__(self) -> Iterator[Any]:
        # By chunks, since each wait goes through two threads.
        while rows := wait(self._some()):
            yield from rows

    async def _some(self) -> list[Any]:
        rows: list[Any] = []
        async for row in self.inner:
            rows.append(row)
            if len(rows) == 1000:
                break
        return rows
