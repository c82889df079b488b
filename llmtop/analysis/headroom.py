"""A fluid twin of a deployment that scales: what a lower threshold or more replicas kept would have missed.

Requests are a level in each pool of slots. What is beyond the slots waits as long as the pool takes to serve it. All of
that is measured: the rate and the slots of one replica while all were taken, and how long after the decision each
further one served.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from llmtop.domain.load import LoadPoint

MOST_STEPS = 1000
"""Of a run through the twin."""
STEP_S = 0.25
_STEPS_OF_SERVICE = 4
"""A request is served over so many steps at least."""
MOST_KEPT = 4
"""Times as many replicas as came are tried at most."""
MOST_FEWER = 8
"""With what the deployment adds by itself, so many fewer than are enough alone are tried at most."""
OFF, OFF_S = 0.25, 10.0
"""A twin that misses the measured debt by more than this share and more than so many seconds tells nothing."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the twin is of. Times are seconds after the rise."""

    loads: tuple[tuple[float, LoadPoint], ...]
    """(from when on, what is commanded), the first from the rise on."""
    until_s: float
    slots: float
    """Requests that one replica serves at once."""
    rate: float
    """Requests/s of one replica with all slots taken."""
    slack_s: float
    """Who waits longer misses the limit."""
    before: int
    serve_s: tuple[float, ...] = ()
    """After the decision, when each further replica served."""
    start: float = 0.0
    """Requests in service and in the queue as the load rose."""
    shared: bool = True
    """One queue for all replicas; else a request goes to the one with the fewest, and waits there."""

    def missed_s(
        self, *, decided_s: float | None = None, above: float | None = None, delay_s: float = 0.0, kept: int = 0
    ) -> float:
        """For how long those who were sent waited too long.

        Args:
            decided_s: when more replicas are wanted; None: see `above`.
            above: ... or `delay_s` after more than that wait for each replica; None: never.
            kept: so many replicas serve from the beginning on, if that is more than `before`.
        """
        step_s = max(self.until_s / MOST_STEPS, min(STEP_S, self.slots / self.rate / _STEPS_OF_SERVICE))
        first, size, came = max(self.before, kept), 1, 0
        pools = [(self.start, 1)] if self.shared else [(self.start / first, first)]
        crossed, at, ended, serve_s = decided_s is not None, 0, 0.0, sorted(self.serve_s)
        late, arrived, begun = [], [], []
        for step in range(int((self.until_s + (self.slack_s if self.shared else 0.0)) / step_s)):
            t_s = step * step_s
            while decided_s is not None and came < len(serve_s) and decided_s + serve_s[came] <= t_s:
                came += 1
            serving = max(first, self.before + came)
            if self.shared:
                size = serving
            elif serving > (there := sum(count for _, count in pools)):
                pools.insert(0, (0.0, serving - there))
            while at + 1 < len(self.loads) and self.loads[at + 1][0] <= t_s:
                at += 1
            sent = _sent(self.loads[at][1], sum([each * count for each, count in pools]), step_s)
            level = _pour(pools, sent) if sent > 0 else 0.0
            slots = size * self.slots
            if t_s < self.until_s:
                late.append(level - slots > self.slack_s * size * self.rate)
                arrived.append(ended + level if sent > 0 else 0.0)
            begun.append(ended + slots)
            if not crossed and above is not None:
                waiting = sum([(each - slots) * count for each, count in pools if each > slots])
                if waiting > above * serving:
                    crossed, decided_s = True, t_s + delay_s
            leaving = [min(each, slots) / self.slots * self.rate * step_s for each, _ in pools]
            ended += sum([gone * count for gone, (_, count) in zip(leaving, pools, strict=True)])
            pools = [(each - gone, count) for gone, (each, count) in zip(leaving, pools, strict=True)]
        if self.shared:  # who waits as more replicas come waits less long than the old ones would take
            waits = np.searchsorted(begun, arrived) - np.arange(len(arrived))
            return step_s * float(np.sum(waits * step_s > self.slack_s))
        return step_s * sum(late)


def _sent(point: LoadPoint, present: float, step_s: float) -> float:
    """Requests that are sent within a step."""
    if point.rate_rps is not None:
        return point.rate_rps * step_s
    idle = max(0.0, point.value - present)
    return idle * min(1.0, step_s / point.think_time_s) if point.think_time_s > 0 else idle


def _pour(pools: list[tuple[float, int]], sent: float) -> float:
    """Fill the lowest pools up to one level, which is returned.

    Args:
        pools: (level, how many have it), the lowest first; those that are filled become one entry.
    """
    total, count, filled = sent, 0, 0
    for level, alike in pools:
        if filled and total / count <= level:
            break
        total += level * alike
        count += alike
        filled += 1
    pools[:filled] = [(total / count, count)]
    return total / count


def reproduces(foreseen_s: float, measured_s: float) -> bool:
    """Whether a twin may be believed; one that foresees no debt at all says nothing of how to avoid it."""
    return foreseen_s > 0 and abs(foreseen_s - measured_s) <= max(OFF_S, OFF * measured_s)


def highest_threshold(fleet: Fleet, below: float, delay_s: float) -> int | None:
    """The highest whole queue for each replica below `below` at which nothing is missed; None: none is low enough."""
    return _last(lambda above: fleet.missed_s(above=above, delay_s=delay_s) == 0, range(int(-(-below // 1))))


def _last(holds: Callable[[int], bool], among: Sequence[int]) -> int | None:
    """The last of those that hold, which all stand before those that do not."""
    count = bisect.bisect_left(among, True, key=lambda each: not holds(each))
    return among[count - 1] if count else None


def fewest_kept(fleet: Fleet, above: float | None, delay_s: float) -> int | None:
    """The fewest replicas that miss nothing if they are kept and the deployment scales as it did; None: none do.

    Of more than these, none misses anything either: a deployment that decides later, as more replicas are kept, does
    not count as better.
    """
    most = MOST_KEPT * (fleet.before + len(fleet.serve_s) + 1)
    counts = range(most, fleet.before, -1)
    fewest = _last(lambda kept: fleet.missed_s(kept=kept) == 0, counts)
    if fewest is None or above is None or not fleet.serve_s:
        return fewest
    for fewer in range(fewest - 1, max(fleet.before, fewest - 1 - MOST_FEWER), -1):
        if fleet.missed_s(kept=fewer, above=above, delay_s=delay_s) > 0:
            break
        fewest = fewer
    return fewest
