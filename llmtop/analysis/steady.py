"""What a tune drives besides races and searches: a warm-up with proof of the slots, and one load held for a while.

Pure state machines with the same verb as the capacity search: `next(facts, now_s)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from msgspec.structs import replace

from llmtop.analysis.serving import Seen
from llmtop.analysis.window import Window
from llmtop.domain.commands import SetLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo
from llmtop.domain.steering import Step
from llmtop.meter.facts import Facts

WARM_PROMPT = 32
WARM_TOKENS = 8
"""Of a request that only makes a server compile what it will need."""
OVER = 1.3
"""Load over slots that makes a queue, behind which the number of requests that run is the slots."""
SCRAPES = 4
"""Looks at a server with a queue that say how many it runs at once."""
NEAR = 0.1
"""Share by which the requests that run may differ from the slots that they prove."""
AGAIN_E2ES = (4.0, 16.0)
"""A first look, and what decides where that seems to have drifted: windows of 4 E2E differ by 2 %."""
AGAIN_REQUESTS = 40
"""A few users need more E2E for the same."""
AGAIN_SETTLE = 2.0
"""E2E after users came together until they are out of step."""


class Steerer(Protocol):
    """Looks at what the load did and says what it wants next; without a clock of its own."""

    def next(self, facts: Facts, now_s: float) -> Step:
        """Asked every 100 ms to 1 s, until its step wants nothing more."""
        ...


class InTurn:
    """Steerers one after another; each is made when the one before has ended; None: it is left out."""

    def __init__(self, makes: Sequence[Callable[[], Steerer | None]]) -> None:
        self._makes = list(makes)
        self._now: Steerer | None = None

    def next(self, facts: Facts, now_s: float) -> Step:
        while True:
            if self._now is not None:
                step = self._now.next(facts, now_s)
                if step.want is not None or not self._makes:
                    return step
                if step.learned:  # told once, so it must not be lost: what comes next is asked at the next look
                    self._now = None
                    return replace(step, want=SetLoad(facts.changes[-1].point, "search"))
            if not self._makes:
                return Step(want=None, phase="done", left_s=0.0)
            self._now = self._makes.pop(0)()


class Warm:
    """One short request a slot, as many at once as the busiest level has: the first batch after a start is late."""

    def __init__(self, base: LoadPoint, slots: int) -> None:
        self._point = replace(
            base.at("concurrency", slots),
            prompt_tokens=min(WARM_PROMPT, base.prompt_tokens),
            output_tokens=min(WARM_TOKENS, base.output_tokens),
            gate=None,
        )
        self._start_s: float | None = None

    def next(self, facts: Facts, now_s: float) -> Step:
        self._start_s = now_s if self._start_s is None else self._start_s
        ended = int(np.sum(facts.requests.column("end_s") > self._start_s))
        if ended >= self._point.value:
            return Step(want=None, phase="done")
        return Step(want=SetLoad(self._point, "search"), phase="double", text=f"warming up: {ended} requests")


class Overload:
    """More users than slots until the server has shown how many it runs at once."""

    def __init__(self, base: LoadPoint, slots: int, most: int) -> None:
        self._point = replace(base.at("concurrency", min(most, math.ceil(OVER * slots) + 1)), gate=None)
        self._start_s: float | None = None

    def next(self, facts: Facts, now_s: float) -> Step:
        self._start_s = now_s if self._start_s is None else self._start_s
        end_s = np.sort(facts.requests.column("end_s")[facts.requests.column("end_s") > self._start_s])
        half = math.ceil(self._point.value / 2)  # until then users who came together are still being let in
        settled = len(end_s) >= half and len(_queued(facts, float(end_s[half - 1]))) >= SCRAPES
        if settled or len(end_s) >= 2 * self._point.value:
            return Step(want=None, phase="done")
        return Step(want=SetLoad(self._point, "search"), phase="double", text="how many it runs at once")


class Hold:
    """One load for a number of E2E; longer where it differs from what it was by more than `drift`."""

    def __init__(
        self,
        slo: Slo,
        point: LoadPoint,
        *,
        e2es: Sequence[float] = AGAIN_E2ES[:1],
        was: float | None = None,
        drift: float = 0.0,
        settle: float = AGAIN_SETTLE,
    ) -> None:
        self._settle = settle
        self._slo, self._point, self._was, self._drift = slo, point, was, drift
        self._rungs = list(e2es)
        self._window: Window | None = None
        self.seen: Seen | None = None

    def next(self, facts: Facts, now_s: float) -> Step:
        if self._window is None:
            self._window = Window(self._point, now_s, self._rungs.pop(0), AGAIN_REQUESTS, self._settle)
        seen = self._window.look(facts, self._slo, now_s)
        if seen is not None:
            self.seen = seen
            same = self._was is None or abs(seen.tokens_per_s / self._was - 1) <= self._drift
            if same or not self._rungs or seen.broken:
                return Step(want=None, phase="done")
            self._window.lengthen(self._rungs.pop(0))
        return Step(want=SetLoad(self._point, "search"), phase="confirm", text=f"{self._point.value:g} users held")


def shows_slots(facts: Facts, slots: int, *, at_least: bool = False) -> bool | None:
    """Whether the requests that ran say that the server has so many slots. None: it does not show what runs, or was
    not driven to that.

    Args:
        at_least: more slots are as good.
    """
    running = facts.server.column("running")
    running = running[np.isfinite(running)]
    if len(running) == 0:
        return None
    most, room = float(running.max()), max(1.0, NEAR * slots)
    if most > slots + room:
        return at_least
    queued = _queued(facts, 0.0)
    if most >= slots - room:
        return True
    return False if len(queued) >= SCRAPES else None


def _queued(facts: Facts, since_s: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Requests that ran at each look at the server that found others waiting."""
    table = facts.server
    rows = (table.column("waiting") >= 1) & (table.column("t_s") > since_s) & np.isfinite(table.column("running"))
    return table.column("running")[rows]
