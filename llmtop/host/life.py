"""How long a run goes on: as long as the screen that began it; or, once that has left it, until nobody comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from llmtop.wording.running import NOT_BEGUN


class Life:
    """Of one run.

    Args:
        limit_s: so long may nobody who has the wheel have seen it, once it is detached.
        keep_on_hangup: a screen that began it and goes without a word has detached it.
        clock: seconds of a monotonic clock; tests give their own.
    """

    def __init__(
        self, limit_s: float, *, keep_on_hangup: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_s = limit_s
        self.detached = False
        self.ends = False
        """Who held it is gone, and it was not detached."""
        self.bound_by = NOT_BEGUN
        """Why it cannot be left; empty: it can."""
        self._keep = keep_on_hangup
        self._clock = clock
        self._seen_s = clock()

    @property
    def over(self) -> bool:
        """Nobody has come back in time."""
        return self.detached and self._clock() - self._seen_s >= self.limit_s

    def seen(self) -> None:
        """By somebody who can drive it."""
        self._seen_s = self._clock()

    def detach(self, for_s: float | None = None) -> str:
        """Whoever holds it leaves it. Returns why that cannot be; empty: it was left."""
        if self.bound_by:
            return self.bound_by
        self.limit_s = self.limit_s if for_s is None else for_s
        self.detached = True
        self.seen()
        return ""

    def lose(self) -> None:
        """Whoever held it is gone without a word."""
        self.ends = not (self._keep and not self.detach())

    def outlives(self, number: int) -> bool:
        """Whether it goes on when this signal ends the screen that holds it."""
        return self._keep and number == signal.SIGHUP and not self.bound_by
