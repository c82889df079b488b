"""Which load a capacity search tries next: double to the first clear failure, then close in by Little's law. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmtop.analysis.cliff import QUEUE_SHARE, QUEUED_TTFT
from llmtop.analysis.trial import WITH_QUEUE
from llmtop.domain.run import JudgedLevel
from llmtop.domain.slo import LATENCIES, Slo, SloTarget
from llmtop.domain.steering import Phase

NARROW = 1.05
"""Failing level over passing level from which the bracket is narrow enough."""
STEP = 0.05
QUADRUPLE_UP_TO = 16
"""Small levels far from every limit are skipped two doublings at a time."""


def highest_held(tested: Sequence[JudgedLevel]) -> JudgedLevel | None:
    """The highest level that held below every failure."""
    broke = lowest_broken(tested)
    held = (each for each in tested if not each.failed and (broke is None or each.load < broke.load))
    return max(held, key=lambda each: each.load, default=None)


def lowest_broken(tested: Sequence[JudgedLevel]) -> JudgedLevel | None:
    """The lowest level that failed."""
    return min((each for each in tested if each.failed), key=lambda each: each.load, default=None)


class Bracket:
    """Levels that were tested, and where the SLO is met between or above them.

    Args:
        tested: in the order in which they were tested, one a load.
    """

    def __init__(self, tested: Sequence[JudgedLevel], slo: Slo) -> None:
        self.tested = tuple(tested)
        self.low, self.high = highest_held(tested), lowest_broken(tested)
        self._targets = [target for target in slo.targets if target.metric in LATENCIES]

    def choose(self, most: int) -> tuple[int | None, Phase]:
        """(the next level, what it is for); None: the bracket is narrow enough, or `most` has held.

        At least one level must have been tested.
        """
        low, high = self.low, self.high
        if high is None:
            assert low is not None
            wanted, phase = self._above(low)
            return (None if low.load >= most else min(most, wanted)), phase
        floor = 0 if low is None else low.load
        if high.load - floor <= 1 or (low is not None and high.load <= NARROW * low.load):
            return None, "confirm"
        guess = self.between(low, high)
        if floor < 0.9 * guess:
            guess *= 1 - STEP
        margin = max(1, round(0.6 * STEP * high.load)) if high.load > 8 else 1
        if low is not None:
            guess = max(guess, low.load + max(1.0, 0.6 * STEP * low.load))
        return max(1, min(round(guess), high.load - margin)), "confirm"

    def _above(self, low: JudgedLevel) -> tuple[int, Phase]:
        """Nothing failed yet: twice the load, or the load at which a limit is forecast to be met, if that is nearer."""
        forecast = self._forecast(low)
        if forecast is None or forecast >= 2 * low.load:
            far = low.load <= QUADRUPLE_UP_TO and (forecast is None or forecast >= 8 * low.load)
            return (4 if far and self._roomy(low) else 2) * low.load, "double"
        return max(math.ceil(low.load * (1 + STEP)), round(forecast * (1 - STEP / 2))), "confirm"

    def _roomy(self, low: JudgedLevel) -> bool:
        """Whether every limit is four times as high as what was measured."""
        worst = dict(low.worst)
        return all(worst.get(target.name, math.inf) <= target.limit / 4 for target in self._targets)

    def _forecast(self, low: JudgedLevel) -> float | None:
        """Where the first limit is met, by what the levels that held say; None: it is out of sight.

        TTFT of a level with a queue: in service + 0.95 X (limit - base p95), X being requests/s. Others, and TTFT
        before there is a queue: out of sight unless the straight line through the last two levels gets there.
        """
        guesses = []
        before = max((t for t in self.tested if t.load <= low.load / 1.4), key=lambda t: t.load, default=None)
        for target in self._targets:
            queue = self._queue_forecast(target, low)
            if queue is not None:
                guesses.append(queue)
            elif target.metric == "tpot" and low.in_service is not None and low.in_service < WITH_QUEUE * low.load:
                continue  # as many are served at once whatever the load: more users only wait longer
            elif target.metric != "ttft" and before is not None:
                top, bottom = dict(low.worst).get(target.name), dict(before.worst).get(target.name)
                if top is not None and bottom is not None and top > bottom:
                    slope = (top - bottom) / (low.load - before.load)
                    guesses.append(low.load + (target.limit - top) / slope)
        return min(guesses, default=None)

    def _queue_forecast(self, target: SloTarget, tested: JudgedLevel) -> float | None:
        """Little's forecast from a level with a queue; None: it has none, or the limit is not on TTFT or E2E."""
        if not self.queues(tested) or not tested.in_service or not tested.requests_per_s:
            return None
        if target.metric == "e2e":
            return 0.95 * target.limit * tested.requests_per_s
        if target.metric != "ttft":
            return None
        base = self._calm(target, tested.load)
        return tested.in_service + 0.95 * tested.requests_per_s * max(0.0, target.limit - base)

    def queues(self, tested: JudgedLevel) -> bool:
        """Whether a queue makes its TTFT: by its share of E2E and by TTFT over that of the lowest level."""
        first = self.tested[0]
        if tested.ttft_mean_s is None or not tested.requests_per_s or first.ttft_mean_s is None:
            return False
        share = (tested.ttft_mean_s - first.ttft_mean_s) * tested.requests_per_s / tested.load
        return share > QUEUE_SHARE and tested.ttft_mean_s > QUEUED_TTFT * first.ttft_mean_s

    def between(self, low: JudgedLevel | None, high: JudgedLevel) -> float:
        """Where the first broken limit is just met, between a level that held and one that failed."""
        floor = low.load if low else 0
        middle = math.sqrt(max(1, floor) * high.load)
        guesses = []
        for target in self._targets:
            if target.name in high.failed:
                guesses.append(self._queue_crossing(target, low, high) or _interpolated(target, low, high))
        guess = min(guesses, default=middle)
        return guess if floor < guess < high.load else middle

    def _queue_crossing(self, target: SloTarget, low: JudgedLevel | None, high: JudgedLevel) -> float | None:
        """Where TTFT meets its limit in a queue, in which it grows with load in a straight line.

        The line starts at the level that held, if that had a queue, or where requests in service end and TTFT is still
        that of no queue. A level that failed before a first token told how badly gives Little's forecast.
        """
        if target.metric != "ttft" or not self.queues(high) or not high.in_service:
            return None
        top = dict(high.worst).get(target.name)
        if top is None or top <= target.limit:
            return self._queue_forecast(target, high)
        start, base = high.in_service, self._calm(target, high.load)
        if low is not None and self.queues(low):
            start, base = float(low.load), dict(low.worst).get(target.name, base)
        if top <= base or start >= high.load:
            return None
        return start + (high.load - start) * (target.limit - base) / (top - base)

    def _calm(self, target: SloTarget, below: int) -> float:
        """The statistic at the highest level without a queue; 0 before there is one."""
        calm = [t for t in self.tested if not t.failed and not self.queues(t) and t.load < below]
        return dict(max(calm, key=lambda t: t.load).worst).get(target.name, 0.0) if calm else 0.0


def _interpolated(target: SloTarget, low: JudgedLevel | None, high: JudgedLevel) -> float:
    """Load at which the limit is met, on a straight line in log-log through the two levels."""
    top = dict(high.worst).get(target.name)
    bottom = None if low is None else dict(low.worst).get(target.name)
    if low is None or top is None or bottom is None or top <= bottom:
        return math.sqrt((low.load if low else 1) * high.load)
    share = math.log(target.limit / bottom) / math.log(top / bottom)
    share = min(0.95, max(0.05, share))
    return float(low.load * (high.load / low.load) ** share)
