"""The search for the capacity at an SLO: double to the first clear failure, predict by Little, confirm by Wald's test.

A pure state machine: `next(facts, now_s)` looks at what the load did and says which load it wants next.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from llmtop.analysis import buffering
from llmtop.analysis.bracket import Bracket
from llmtop.analysis.fits import Array
from llmtop.analysis.tested import ClientSeconds, capacity_of_tested, client_seconds, newest_of_each
from llmtop.analysis.trial import QUICK_REQUESTS, WITH_QUEUE, Trial, statistic
from llmtop.domain.commands import SetLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import ChangeReason, JudgedLevel, SearchEnded
from llmtop.domain.slo import LATENCIES, Slo
from llmtop.domain.steering import Phase, Step
from llmtop.domain.verdicts import Capacity
from llmtop.meter.facts import Facts
from llmtop.wording.between import no_verdict
from llmtop.wording.sentences import searching

REQUESTS = 900
"""What a search is worth: it ends when so many could have been answered at the present rate."""
LEAST_S = 90.0
"""A fast server answers them before anything has settled: it is given so long."""
MOST_S = 600.0
"""Nobody waits longer for a capacity, however slow the server."""
NEAR = 1.15
"""A level that failed by a quick answer is proved as soon as so little below it has held."""
VOID_FROM_S = 30
"""Seconds of the client after which a search that is void for its sake gives up."""


class CapacitySearch:
    """Finds the largest number of requests in flight that holds the SLO, within a time that it promises.

    The promise is `most_s` until a level was judged, and then as long as the rest of `requests` takes at the rate of
    that level, but `least_s` in all. It is only ever shortened.

    Args:
        slo: its latency and error limits count; queue and KV limits are causes and do not.
        base: lengths and think time of the load; its concurrency is not used.
        first: the level to start at.
        max_concurrency: where the load ends.
    """

    def __init__(
        self,
        slo: Slo,
        base: LoadPoint,
        *,
        first: int = 4,
        max_concurrency: int = 1024,
        requests: int = REQUESTS,
        least_s: float = LEAST_S,
        most_s: float = MOST_S,
    ) -> None:
        self._slo = slo
        self._base = base
        self._first = min(first, max_concurrency)
        self._max = max_concurrency
        self._requests, self._least_s, self._most_s = requests, least_s, most_s
        self._start_s: float | None = None
        self._ends_s = math.inf
        self._sent = 0
        self._usual_s: float | None = None
        self._trial: Trial | None = None
        self._phase: Phase = "double"
        self._ended: SearchEnded | None = None
        self._client = ClientSeconds()
        self._void = ""
        """Why its limits cannot be judged, whatever the load."""
        self._statuses: tuple[int, ...] = ()
        self._chapters = 0
        self._tail = 1.2
        self._rate = 0.0
        self._looked_s = 0.0
        self._unsettled = 0.0
        self._tpot_s: dict[int, Array] = {}
        self._unproved: set[int] = set()
        self._faulted: set[int] = set()
        """Levels that failed by errors: a fault passes, so such a border is tried once more."""
        self._untold: list[JudgedLevel | SearchEnded] = []
        self.tested: list[JudgedLevel] = []

    def stop(self, reason: Literal["done", "budget", "limit", "hand", "client"] = "hand") -> None:
        """End now; what was learned stays."""
        if self._ended is None:
            self._ended = SearchEnded(self._looked_s, reason)
            self._untold.append(self._ended)
            self._phase = "done"

    def next(self, facts: Facts, now_s: float) -> Step:
        """Look at the facts so far and say which load is wanted now. To be asked every 100 ms to 1 s."""
        if self._ended is None:
            self._advance(facts, now_s)
        learned, self._untold = tuple(self._untold), []
        if self._ended is not None:
            return Step(
                want=None,
                phase="done",
                done_levels=len(self.tested),
                left_s=0.0,
                text=self.capacity.sentence,
                learned=learned,
            )
        assert self._trial is not None
        left_s = max(0.0, self._ends_s - now_s)
        return Step(
            want=SetLoad(self._base.at("concurrency", self._trial.load), "search"),
            phase=self._phase,
            done_levels=len(self.tested),
            left_s=left_s,
            text=self._text(self._trial, left_s),
            learned=learned,
        )

    @property
    def capacity(self) -> Capacity:
        """What is known by now."""
        if self._void:
            return Capacity(sentence=self._void)
        return capacity_of_tested(self.tested, self._ended, self._slo, self._base, self._client, self._statuses)

    @property
    def void(self) -> bool:
        """Whether the client was the bottleneck."""
        return self._client.void or (self._ended is not None and self._ended.reason == "client")

    @property
    def _quick(self) -> bool:
        return self._phase == "double"

    @property
    def _worth(self) -> float:
        """Requests that there is time for, about."""
        return max(float(self._requests), self._least_s * self._rate)

    def _advance(self, facts: Facts, now_s: float) -> None:
        look_s, self._looked_s = now_s - self._looked_s, now_s
        if self._start_s is None:
            self._start_s, self._ends_s, look_s = now_s, now_s + self._most_s, 0.0
        if self._trial is None or len(facts.chapters) > self._chapters:
            self._begin(facts, now_s)
            return
        self._client, self._statuses = client_seconds(facts, self._start_s, now_s), facts.failures.statuses
        if self._client.void and self._client.all >= VOID_FROM_S:
            self.stop("client")
            return
        self._void = _why_void(facts, self._slo)
        if self._void:
            self.stop("done")
            return
        trial = self._trial
        taken = _taken(facts, trial.start_s)
        if taken == "stop":
            self.stop("hand")
            return
        trial.watch(facts, self._slo, now_s)
        failed = ("error_ratio",) if taken == "brake" else trial.failed(self._slo, self._quick)
        self._rate = trial.requests_per_s or self._rate
        up = now_s + look_s > self._ends_s
        if failed is None and not up:
            return
        if failed is None:
            failed = trial.failed(self._slo, quick=True)
        if failed is not None:
            self._keep(trial, failed, now_s)
        self._sent += trial.sent
        self._go_on(trial, now_s, up)

    def _begin(self, facts: Facts, now_s: float) -> None:
        """From the first level on: what was tested before is of another configuration."""
        self._chapters = len(facts.chapters)
        self.tested, self._tpot_s, self._usual_s, self._unsettled = [], {}, None, 0.0
        self._unproved.clear()
        self._faulted.clear()
        self._phase = "double"
        self._trial = Trial(self._first, 0, now_s, warm_up=math.ceil(1.5 * self._first))

    def _go_on(self, trial: Trial, now_s: float, up: bool) -> None:
        """To the next level, if there is one and time for it."""
        wanted = None
        if self.tested:
            wanted, self._phase = self._choose()
        if up or (wanted is not None and now_s + self._price_s(wanted, trial) > self._ends_s):
            self.stop("budget")
        elif wanted is None:
            self.stop("done" if any(each.failed for each in self.tested) else "limit")
        else:
            self._try(wanted, trial, now_s)

    def _choose(self) -> tuple[int | None, Phase]:
        """(the next level, what it is for). A quick answer that would be a border of the bracket is proved first: users
        that came together make a level look worse than it is."""
        bracket = Bracket(self.tested, self._slo)
        wanted, phase = bracket.choose(self._max)
        low, high = bracket.low, bracket.high
        near = low is not None and high is not None and high.load <= NEAR * low.load
        borders = [each.load for each in (high, low) if each is not None and each.load in self._unproved]
        if borders and (wanted is None or (near and low is not None and low.load not in self._unproved)):
            return borders[0], "confirm"
        return wanted, phase

    def _try(self, wanted: int, before: Trial, now_s: float) -> None:
        came = max(0, wanted - before.load)
        self._unsettled = max(0.0, self._unsettled - before.ended) + 1.5 * came
        pool = tuple(
            (t.in_service, self._tpot_s[t.load])
            for t in self.tested
            if t.in_service is not None and t.in_service < WITH_QUEUE * t.load
        )
        lived = 0.9 if wanted <= 0.1 * self._worth else 0.6  # waiting costs as many requests as are in flight
        self._trial = Trial(wanted, before.load, now_s, self._usual_s, lived, self._warm_up(), pool)

    def _warm_up(self) -> int:
        """Requests to let pass before a level is judged: 1.5 a user that came, but no more than a tenth of what there
        is time for.

        Users that came together go on in step for some time. While the load is being doubled an answer need not be
        exact, and what was not waited for then is made up for by the first level to be confirmed.
        """
        return 0 if self._quick else math.ceil(min(self._unsettled, 0.1 * self._worth))

    def _price_s(self, wanted: int, trial: Trial) -> float:
        """Time that a level costs at least: for the users that come, their first tokens, and a few to judge."""
        if not trial.requests_per_s:
            return 0.0
        waiting = 0.0 if trial.ttft_mean_s is None else trial.ttft_mean_s * trial.requests_per_s
        requests = max(0, wanted - trial.load) + min(waiting, 0.5 * wanted) + QUICK_REQUESTS
        return requests / trial.requests_per_s

    def _keep(self, trial: Trial, failed: tuple[str, ...], now_s: float) -> None:
        if self._usual_s is None and len(trial.e2e_s):
            self._usual_s = float(sorted(trial.e2e_s)[len(trial.e2e_s) // 2])
        tpot_s = trial.tpot_s[np.isfinite(trial.tpot_s)]
        if trial.tpot_mean_s and len(tpot_s) >= QUICK_REQUESTS:
            self._tail = float(np.quantile(tpot_s, 0.95)) / trial.tpot_mean_s
        level = JudgedLevel(
            t_s=now_s,
            load=trial.load,
            slo=str(self._slo),
            failed=failed,
            n=trial.n,
            in_service=trial.in_service,
            requests_per_s=trial.requests_per_s,
            ttft_mean_s=trial.ttft_mean_s,
            worst=tuple(self._worst(trial).items()),
        )
        self._tpot_s[trial.load] = tpot_s
        first_fault = failed == ("error_ratio",) and trial.load not in self._faulted
        self._faulted |= {trial.load} if first_fault else set()
        (self._unproved.add if self._quick or first_fault else self._unproved.discard)(trial.load)
        self.tested = newest_of_each([*self.tested, level])
        self._untold.append(level)
        if trial.requests_per_s:
            assert self._start_s is not None
            left_s = (self._requests - self._sent - trial.sent) / trial.requests_per_s
            self._ends_s = min(self._ends_s, max(self._start_s + self._least_s, now_s + left_s))

    def _worst(self, trial: Trial) -> dict[str, float]:
        """The statistic of each latency limit, as far as it is known."""
        worst = {}
        for target in self._slo.targets:
            if target.metric not in LATENCIES:
                continue
            values = trial.values(target)
            value = statistic(values, target.stat or "p95")
            if target.metric == "tpot" and len(values) < QUICK_REQUESTS and trial.tpot_mean_s is not None:
                value = self._tail * trial.tpot_mean_s
            if value is not None:
                worst[target.name] = value
        return worst

    def _text(self, trial: Trial, left_s: float) -> str:
        bracket = Bracket(self.tested, self._slo)
        held, broke = (None if each is None else each.load for each in (bracket.low, bracket.high))
        return searching(trial.load, 0 if trial.warm_s is None else trial.n, held, broke, left_s)


def _why_void(facts: Facts, slo: Slo) -> str:
    """Why figures that the limits are on say nothing of the server: a path keeps the answers back; empty: they do."""
    if buffering.judged_by(slo, buffering.Arrival.LUMPS) == slo:
        return ""
    arrival = buffering.arrival_of(facts)
    spoilt = buffering.spoilt_limits(slo, arrival)
    return no_verdict(spoilt, arrival is buffering.Arrival.WHOLE) if spoilt else ""


def _taken(facts: Facts, since_s: float) -> ChangeReason | None:
    """Why the load is no longer the one that the search commanded after `since_s`; None: it is, or is not there yet."""
    changes = [change.reason for change in facts.changes if change.t_s > since_s]
    later = changes[changes.index("search") + 1 :] if "search" in changes else []
    return next((reason for reason in later if reason in ("stop", "brake")), None)
