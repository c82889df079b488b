"""How many requests are in flight, and between which bounds that number stayed since any moment in the past."""

from __future__ import annotations

from bisect import bisect_left


class InFlight:
    """A counter that remembers suffix minima and maxima.

    Two monotonic stacks hold, for every value that is still an extreme of some suffix of the history, the number of the
    last change that led to it. A change costs amortised O(1), a question O(log n), and the stacks are never longer than
    the number of different values: a million requests take no more room than the first hundred.
    """

    def __init__(self) -> None:
        self.now = 0
        self.moment = 0
        """Number of the last change: what to ask `bounds` with later."""
        self._low_at, self._low = [0], [0]
        self._high_at, self._high = [0], [0]

    def change(self, by: int) -> None:
        self.now += by
        self.moment += 1
        while self._low and self._low[-1] >= self.now:
            self._low.pop()
            self._low_at.pop()
        while self._high and self._high[-1] <= self.now:
            self._high.pop()
            self._high_at.pop()
        self._low.append(self.now)
        self._low_at.append(self.moment)
        self._high.append(self.now)
        self._high_at.append(self.moment)

    def bounds(self, since: int) -> tuple[int, int]:
        """Least and largest value in force from the moment `since` until now."""
        return self._low[bisect_left(self._low_at, since)], self._high[bisect_left(self._high_at, since)]
