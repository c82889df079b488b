"""The search for the capacity at an SLO: double to the first clear failure, predict by Little, confirm by Wald's test.

A pure state machine: `next(facts, now_s)` looks at what the load did and says which load it wants next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from llmtop.analysis.capacity import recommended_and_soak
from llmtop.analysis.cliff import QUEUE_SHARE, QUEUED_TTFT
from llmtop.analysis.fits import Array
from llmtop.analysis.trial import CONFIRM_REQUESTS, QUICK_REQUESTS, WITH_QUEUE, Trial, statistic
from llmtop.domain.commands import SetLoad
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.slo import LATENCIES, Slo, SloTarget
from llmtop.domain.steering import Phase, Step
from llmtop.domain.verdicts import Capacity
from llmtop.meter.facts import Facts
from llmtop.wording.figures import TEXT
from llmtop.wording.names import target_name
from llmtop.wording.sentences import advised, breaks, driven, felt, listed, pass_and_fail, supports

BRACKET = 1.06
"""Failing level over passing level from which the bracket is narrow enough."""
STEP = 0.05
LOOK_AHEAD = 1.5
"""The budget is watched so many looks ahead: what is sent until the next one."""
QUADRUPLE_UP_TO = 16
"""Small levels far from every limit are skipped two doublings at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """A level that was judged: `failed` names the limits that it broke, () if it held."""

    load: int
    failed: tuple[str, ...]
    in_service: float | None
    requests_per_s: float | None
    ttft_mean_s: float | None
    worst: dict[str, float]
    """The statistic of each latency limit."""
    tpot_s: Array


class CapacitySearch:
    """Finds the largest number of requests in flight that holds the SLO.

    Args:
        slo: its latency and error limits count; queue and KV limits are causes and do not.
        base: lengths and think time of the load; its concurrency is not used.
        first: the level to start at.
        max_concurrency: where the load ends.
        max_requests: requests it may send; it ends with what it knows when they are used up.
    """

    def __init__(
        self,
        slo: Slo,
        base: LoadPoint,
        *,
        first: int = 4,
        max_concurrency: int = 1024,
        max_requests: int = 900,
    ) -> None:
        self._slo = slo
        self._base = base
        self._max = max_concurrency
        self._budget = max_requests
        self._sent = 0
        self._usual_s: float | None = None
        self._trial: Trial | None = None
        self._wanted = min(first, max_concurrency)
        self._phase: Phase = "double"
        self._stopped: str | None = None
        self._tail = 1.2
        self._rate = 0.0
        self._looked_s = 0.0
        self._unsettled = 0.0
        self.tested: list[Tested] = []

    def stop(self, reason: str = "stopped by hand") -> None:
        """End now; what was learned stays."""
        if self._stopped is None:
            self._stopped = reason
            self._phase = "done"

    def next(self, facts: Facts, now_s: float) -> Step:
        """Look at the facts so far and say which load is wanted now. To be asked every 100 ms to 1 s."""
        if self._stopped is None:
            self._advance(facts, now_s)
        if self._stopped is not None:
            return Step(
                want=None, phase="done", done_levels=len(self.tested), requests_left=0, text=self.capacity.sentence
            )
        assert self._trial is not None
        left = self._trial.remaining(self._slo, self._quick) + self._ahead()
        point = self._base.at("concurrency", self._trial.load)
        return Step(
            want=SetLoad(point, "search"),
            phase=self._phase,
            done_levels=len(self.tested),
            requests_left=min(left, max(0, self._budget - self._sent - self._trial.sent)),
            text=self._text(),
        )

    @property
    def capacity(self) -> Capacity:
        """What is known by now."""
        low, high = self._low, self._high
        knee = next((t.in_service for t in self.tested if t.failed and "ttft" in "".join(t.failed)), None)
        at_slo = None if low is None else float(low.load)
        recommended, soak = recommended_and_soak(at_slo, knee, "concurrency")
        limit = None if high is None else f"{listed([target_name(name) for name in high.failed])} SLO"
        capacity = Capacity(
            at_slo=at_slo,
            fails_at=None if high is None else float(high.load),
            knee=knee,
            limited_by=limit,
            recommended=recommended,
            soak=soak,
        )
        return msgspec.structs.replace(capacity, sentence=self._sentence(capacity))

    @property
    def _quick(self) -> bool:
        return self._phase == "double"

    @property
    def _low(self) -> Tested | None:
        high = self._high
        held = [t for t in self.tested if not t.failed and (high is None or t.load < high.load)]
        return max(held, key=lambda t: t.load, default=None)

    @property
    def _high(self) -> Tested | None:
        return min((t for t in self.tested if t.failed), key=lambda t: t.load, default=None)

    def _advance(self, facts: Facts, now_s: float) -> None:
        if self._trial is None:
            self._trial = Trial(self._wanted, 0, now_s, warm_up=math.ceil(1.5 * self._wanted))
            return
        trial = self._trial
        trial.watch(facts, self._slo, now_s)
        failed = trial.failed(self._slo, self._quick)
        spent = self._sent + trial.sent
        self._rate = trial.requests_per_s or self._rate
        look_s, self._looked_s = now_s - self._looked_s, now_s
        left = self._budget - spent - math.ceil(LOOK_AHEAD * min(look_s, 1.0) * self._rate)
        if failed is None and left > 0:
            return
        if failed is None:
            failed = trial.failed(self._slo, quick=True)
        if failed is not None:
            self._keep(trial, failed)
        self._sent = spent
        wanted = self._choose() if self.tested else None
        if wanted is None or left < self._price(wanted, trial):
            self.stop("done" if wanted is None and left > 0 else f"{spent} of {self._budget} requests used")
            return
        came = max(0, wanted - trial.load)
        self._unsettled = max(0.0, self._unsettled - trial.ended) + 1.5 * came
        pool = tuple(
            (t.in_service, t.tpot_s)
            for t in self.tested
            if t.in_service is not None and t.in_service < WITH_QUEUE * t.load
        )
        lived = 0.9 if wanted <= 0.1 * self._budget else 0.6  # waiting costs as many requests as are in flight
        self._trial = Trial(wanted, trial.load, now_s, self._usual_s, lived, self._warm_up(), pool)

    def _warm_up(self) -> int:
        """Requests to let pass before a level is judged: 1.5 a user that came, but no more than a tenth of the budget.

        Users that came together go on in step for some time. While the load is being doubled an answer need not be
        exact, and what was not waited for then is made up for by the first level to be confirmed.
        """
        return 0 if self._quick else math.ceil(min(self._unsettled, 0.1 * self._budget))

    def _price(self, wanted: int, trial: Trial) -> float:
        """Requests that a level costs at least: the users that come, their first tokens, and a few to judge."""
        waiting = 0.0 if trial.ttft_mean_s is None else trial.ttft_mean_s * (trial.requests_per_s or 0.0)
        return max(0, wanted - trial.load) + min(waiting, 0.5 * wanted) + QUICK_REQUESTS

    def _keep(self, trial: Trial, failed: tuple[str, ...]) -> None:
        if self._usual_s is None and len(trial.e2e_s):
            self._usual_s = float(sorted(trial.e2e_s)[len(trial.e2e_s) // 2])
        tpot_s = trial.tpot_s[np.isfinite(trial.tpot_s)]
        if trial.tpot_mean_s and len(tpot_s) >= QUICK_REQUESTS:
            self._tail = float(np.quantile(tpot_s, 0.95)) / trial.tpot_mean_s
        worst = {}
        for target in self._latency_targets():
            values = trial.values(target)
            value = statistic(values, target.stat or "p95")
            if target.metric == "tpot" and len(values) < QUICK_REQUESTS and trial.tpot_mean_s is not None:
                value = self._tail * trial.tpot_mean_s
            if value is not None:
                worst[target.name] = value
        self.tested = [t for t in self.tested if t.load != trial.load]
        self.tested.append(
            Tested(trial.load, failed, trial.in_service, trial.requests_per_s, trial.ttft_mean_s, worst, tpot_s)
        )

    def _latency_targets(self) -> list[SloTarget]:
        return [target for target in self._slo.targets if target.metric in LATENCIES]

    def _choose(self) -> int | None:
        """The next level; None: the bracket is narrow enough, or the load ends here."""
        low, high = self._low, self._high
        if high is None:
            assert low is not None
            return None if low.load >= self._max else min(self._max, self._above(low))
        self._phase = "confirm"
        floor = 0 if low is None else low.load
        if high.load - floor <= 1 or (low is not None and high.load <= BRACKET * low.load):
            return None
        guess = self._between(low, high)
        if floor < 0.9 * guess:
            guess *= 1 - STEP
        margin = max(1, round(0.6 * STEP * high.load)) if high.load > 8 else 1
        if low is not None:
            guess = max(guess, low.load + max(1.0, 0.6 * STEP * low.load))
        return max(1, min(round(guess), high.load - margin))

    def _above(self, low: Tested) -> int:
        """Nothing failed yet: twice the load, or the load at which a limit is forecast to be met, if that is nearer."""
        forecast = self._forecast(low)
        if forecast is None or forecast >= 2 * low.load:
            self._phase = "double"
            far = low.load <= QUADRUPLE_UP_TO and (forecast is None or forecast >= 8 * low.load)
            return 4 * low.load if far and self._roomy(low) else 2 * low.load
        self._phase = "confirm"
        return max(math.ceil(low.load * (1 + STEP)), round(forecast * (1 - STEP / 2)))

    def _roomy(self, low: Tested) -> bool:
        """Whether every limit is four times as high as what was measured."""
        return all(low.worst.get(target.name, math.inf) <= target.limit / 4 for target in self._latency_targets())

    def _forecast(self, low: Tested) -> float | None:
        """Where the first limit is met, by what the levels that held say; None: it is out of sight.

        TTFT of a level with a queue: in service + 0.95 X (limit - base p95), X being requests/s. Others, and TTFT
        before there is a queue: out of sight unless the straight line through the last two levels gets there.
        """
        guesses = []
        before = max((t for t in self.tested if t.load <= low.load / 1.4), key=lambda t: t.load, default=None)
        for target in self._latency_targets():
            queue = self._queue_forecast(target, low)
            if queue is not None:
                guesses.append(queue)
            elif target.metric != "ttft" and before is not None:
                top, bottom = low.worst.get(target.name), before.worst.get(target.name)
                if top is not None and bottom is not None and top > bottom:
                    slope = (top - bottom) / (low.load - before.load)
                    guesses.append(low.load + (target.limit - top) / slope)
        return min(guesses, default=None)

    def _queue_forecast(self, target: SloTarget, tested: Tested) -> float | None:
        """Little's forecast from a level with a queue; None: it has none, or the limit is not on TTFT or E2E."""
        if not self._queues(tested) or not tested.in_service or not tested.requests_per_s:
            return None
        if target.metric == "e2e":
            return 0.95 * target.limit * tested.requests_per_s
        if target.metric != "ttft":
            return None
        base = self._calm(target, tested.load)
        return tested.in_service + 0.95 * tested.requests_per_s * max(0.0, target.limit - base)

    def _queues(self, tested: Tested) -> bool:
        """Whether a queue makes its TTFT: by its share of E2E and by TTFT over that of the lowest level."""
        first = self.tested[0]
        if tested.ttft_mean_s is None or not tested.requests_per_s or first.ttft_mean_s is None:
            return False
        share = (tested.ttft_mean_s - first.ttft_mean_s) * tested.requests_per_s / tested.load
        return share > QUEUE_SHARE and tested.ttft_mean_s > QUEUED_TTFT * first.ttft_mean_s

    def _between(self, low: Tested | None, high: Tested) -> float:
        """Where the first broken limit is just met, between a level that held and one that failed."""
        floor = low.load if low else 0
        middle = math.sqrt(max(1, floor) * high.load)
        guesses = []
        for target in self._latency_targets():
            if target.name in high.failed:
                guesses.append(self._queue_crossing(target, low, high) or _interpolated(target, low, high))
        guess = min(guesses, default=middle)
        return guess if floor < guess < high.load else middle

    def _ahead(self) -> int:
        """Requests that levels after this one will need, about."""
        if self._phase == "double":
            return 3 * CONFIRM_REQUESTS
        low, high = self._low, self._high
        if low is None or high is None:
            return 2 * CONFIRM_REQUESTS
        steps = max(0, math.ceil(math.log(high.load / low.load) / math.log(BRACKET)) - 1)
        return min(3, steps) * CONFIRM_REQUESTS

    def _text(self) -> str:
        assert self._trial is not None
        low, high = self._low, self._high
        held, broke = (None if each is None else each.load for each in (low, high))
        known = pass_and_fail(held, broke, "concurrency")
        what = "doubling" if self._phase == "double" else "confirming"
        return f"{what}: {self._trial.load} in flight, {len(self._trial.ttft_s)} judged" + (
            f" · {known}" if known else ""
        )

    def _sentence(self, found: Capacity) -> str:
        axis: Axis = "concurrency"
        objective, how = felt(self._slo), driven(axis, self._base)
        if found.at_slo is None:
            if found.fails_at is None:
                return "nothing learned yet"
            return breaks(found.fails_at, axis, objective=objective, how=how)
        promise = supports(found.at_slo, found.fails_at, axis, objective=objective, how=how)
        parts = [f"{promise}: {pass_and_fail(found.at_slo, found.fails_at, axis)}"]
        if found.limited_by is not None:
            parts.append(f"limited by {found.limited_by}")
        if found.knee is not None:
            parts.append(f"in service {TEXT.load(found.knee, axis)}")
        if found.recommended is not None and found.soak is not None:
            parts.append(advised(found.recommended, found.soak, axis))
        if self._stopped not in (None, "done"):
            parts.append(str(self._stopped))
        return "; ".join(parts)

    def _queue_crossing(self, target: SloTarget, low: Tested | None, high: Tested) -> float | None:
        """Where TTFT meets its limit in a queue, in which it grows with load in a straight line.

        The line starts at the level that held, if that had a queue, or where requests in service end and TTFT is still
        that of no queue. A level that failed before a first token told how badly gives Little's forecast.
        """
        if target.metric != "ttft" or not self._queues(high) or not high.in_service:
            return None
        top = high.worst.get(target.name)
        if top is None or top <= target.limit:
            return self._queue_forecast(target, high)
        start, base = high.in_service, self._calm(target, high.load)
        if low is not None and self._queues(low):
            start, base = float(low.load), low.worst.get(target.name, base)
        if top <= base or start >= high.load:
            return None
        return start + (high.load - start) * (target.limit - base) / (top - base)

    def _calm(self, target: SloTarget, below: int) -> float:
        """The statistic at the highest level without a queue; 0 before there is one."""
        calm = [t for t in self.tested if not t.failed and not self._queues(t) and t.load < below]
        return max(calm, key=lambda t: t.load).worst.get(target.name, 0.0) if calm else 0.0


def _interpolated(target: SloTarget, low: Tested | None, high: Tested) -> float:
    """Load at which the limit is met, on a straight line in log-log through the two levels."""
    top = high.worst.get(target.name)
    bottom = None if low is None else low.worst.get(target.name)
    if low is None or top is None or bottom is None or top <= bottom:
        return math.sqrt((low.load if low else 1) * high.load)
    share = math.log(target.limit / bottom) / math.log(top / bottom)
    share = min(0.95, max(0.05, share))
    return float(low.load * (high.load / low.load) ** share)
