"""A dead man's switch: load that nobody can see ends by itself."""

from __future__ import annotations

from llmtop.domain.frame import Frame

UNSEEN_S = 60.0
"""Load that nobody can have seen for so long ends: the connection of the terminal hangs, the lid is closed, the command
was stopped. Shorter, and a line that stutters would end runs; longer, and it is a load that nobody answers for."""
LONGEST_LOOK_S = 1.0
"""Looks further apart than this mean that we stood still, not that nobody looked."""


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
