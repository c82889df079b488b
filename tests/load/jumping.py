"""An event loop whose time jumps: what is due in an hour happens at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class JumpingSelector(selectors.SelectSelector):
    """Never waits: it moves the clock on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:  # somebody can go on without time, and nobody outside is waited for
            return []
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits and nothing is due"
            self.now_s += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = JumpingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now_s

    def clock_ns(self) -> int:
        return round(self.selector.now_s * 1e9)

    def run_in_executor(self, executor: object, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """At once: a thread would take real time."""
        done = self.create_future()
        try:
            done.set_result(function(*args))
        except Exception as error:
            done.set_exception(error)
        return done
