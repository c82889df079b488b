"""A loop whose clock goes on only when nothing is left to do: waiting costs no time, and all comes in its order."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

LOOK_S = 0.02
"""So long a key or a look takes, as with `textual.pilot`: longer than a screen waits to be drawn."""
SHORT_S = 1e-6
MONOTONIC = time.monotonic


class _Moments(selectors.DefaultSelector):
    """Where there is nothing to read, what is due next is due now."""

    passed_s = 0.0
    waits = False
    """For threads, which take their time."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout if timeout is None or self.waits else 0)
        if not found and timeout is not None:
            self.passed_s += max(0.0, timeout)
        return found


class MomentLoop(asyncio.SelectorEventLoop):
    """The loop of one app without a terminal."""

    def __init__(self) -> None:
        self.moments = _Moments()
        super().__init__(self.moments)

    def time(self) -> float:
        return self.moments.passed_s

    def run_in_executor(self, *args: object) -> asyncio.Future[object]:  # type: ignore[override]
        self.moments.waits = True
        return super().run_in_executor(*args)  # type: ignore[arg-type]


def moment() -> float:
    """The time of the loop that runs here; of the machine where none of these does."""
    loop = asyncio._get_running_loop()
    return loop.time() if isinstance(loop, MomentLoop) else MONOTONIC()


async def look(*_: float) -> None:
    """Until all that was begun is done and drawn."""
    await asyncio.sleep(LOOK_S)


async def heard(*_: object) -> bool:
    """Until no message waits, which takes no message to each widget."""
    await asyncio.sleep(SHORT_S)
    return True


@contextmanager
def by_moments() -> Iterator[None]:
    """Loops that are begun meanwhile are of this kind, and apps on them, Textual's timers too, know no other time."""
    with (
        patch("asyncio.events.new_event_loop", MomentLoop),
        patch("time.monotonic", moment),
        patch("textual._time.get_time", moment),
        patch("textual.app.wait_for_idle", look),
        patch("textual.pilot.wait_for_idle", look),
        patch("textual.pilot.Pilot._wait_for_screen", heard),
    ):
        yield
