"""A dead man's switch: load that nobody can see ends by itself. And the times in which we saw nothing ourselves."""

from __future__ import annotations

from llmtop.domain.frame import Frame

UNSEEN_S = 60.0
"""Load that nobody can have seen for so long ends: the connection of the terminal hangs, the lid is closed, the command
was stopped. Shorter, and a line that stutters would end runs; longer, and it is a load that nobody answers for."""
LONGEST_LOOK_S = 1.0
"""Looks further apart than this mean that we stood still, not that nobody looked."""
STILL_S = 3.0
"""We are said to have stood still from here on: as long as load workers wait for a word."""


class Sight:
    """For how long load has been on without a word that somebody can see it. `lost` is asked several times a second."""

    def __init__(self, limit_s: float = UNSEEN_S) -> None:
        self._limit_s = limit_s
        self._unseen_s = 0.0
        self._looked_s: float | None = None

    def seen(self) -> None:
        self._unseen_s = 0.0

    def lost(self, frame: Frame, now_s: float) -> bool:
        """Whether the load is to end.

        Args:
            frame: the newest: without load in it there is nothing to be seen.
            now_s: of a monotonic clock.
        """
        passed_s = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        if frame.in_flight or frame.target.value:
            self._unseen_s += min(max(0.0, passed_s), LONGEST_LOOK_S)
        else:
            self._unseen_s = 0.0
        return self._unseen_s >= self._limit_s


class Stillness:
    """Notices that this process, or the whole machine, has stood still. `look` is asked several times a second."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def look(self, awake_s: float, always_s: float) -> tuple[float, bool] | None:
        """For how long it was, and whether the machine slept; None: it was not.

        Args:
            awake_s: of a clock that stands while the machine sleeps.
            always_s: of one that never stands.
        """
        before, self._before = self._before, (awake_s, always_s)
        if before is None or always_s - before[1] < STILL_S:
            return None
        passed_s = always_s - before[1]
        return passed_s, passed_s - (awake_s - before[0]) > passed_s / 2
