"""How near a load is to the limits of an SLO, known within seconds of a change of it.

A request tells its TPOT and E2E when it ends, one E2E after its load was set. Little's law tells the means at once, of
all requests in flight: those without a first token over the rate at which requests pass are the mean TTFT, the others
over the same rate the time from the first token to the last. What a limit is on, a percentile, stands above the mean by
a ratio that moves slowly, and is taken from requests that told theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.slo import MISS_SHARES
from llmtop.analysis.trial import servers_own
from llmtop.domain.slo import LATENCIES, Latency, Slo, SloTarget
from llmtop.meter.facts import Facts

WINDOWS = 6
"""Of one E2E each, from which a tail is pooled: six times the requests in flight, and no older."""
QUEUED = 4.0
"""Requests without a first token from which Little's law tells their mean wait better than the first tokens of the
window do: of fewer, a count at the end of each bin is too coarse."""
BEHIND_QUEUE = 3.0
"""A user more behind a full server lengthens TPOT by less than a third of its share: the queue's prompts come a little
more often between tokens, and no more run at once."""
QUEUE = 0.1
"""Share of the users that wait for a first token, from which those that do not are what the server serves at once."""
LENGTHS = 200
"""Requests that tell how long answers are."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Requests in flight, and how they pass, as means of one window."""

    in_flight: float
    waiting: float
    """Of them without a first token."""
    requests_per_s: float
    tokens: float
    """Output tokens of a request."""

    @property
    def served(self) -> float:
        """Requests in flight past their first token."""
        return self.in_flight - self.waiting

    @property
    def queued(self) -> bool:
        """Whether the server is full, by the requests that wait."""
        return self.waiting >= max(QUEUED, QUEUE * self.in_flight)

    @property
    def ttft_s(self) -> float:
        return self.waiting / self.requests_per_s

    @property
    def tpot_s(self) -> float:
        return self.served / (self.requests_per_s * max(1.0, self.tokens - 1))

    @property
    def e2e_s(self) -> float:
        return self.in_flight / self.requests_per_s


def flow_of(facts: Facts, since_s: float) -> Flow | None:
    """Of the bins that began after `since_s` and in which the client was quick. None: nothing has passed yet."""
    bins = facts.bins
    first = int(np.searchsorted(bins.column("t_s") - bins.column("span_s"), since_s - 1e-6))
    clean = servers_own(facts, first)
    span_s = float(bins.column("span_s")[clean].sum())
    answered = (facts.requests.column("ok") > 0) & (facts.requests.column("output_tokens") > 0)
    lengths = facts.requests.column("output_tokens")[answered][-LENGTHS:]
    tokens = float(bins.column("output_tokens")[clean].sum())
    if span_s <= 0 or tokens <= 0 or len(lengths) == 0:
        return None
    length = float(lengths.mean())
    return Flow(
        in_flight=float(bins.column("in_flight")[clean].mean()),
        waiting=float(bins.column("prefilling")[clean].mean()),
        requests_per_s=tokens / span_s / length,
        tokens=length,
    )


class Tails:
    """How many times its mean each percentile is, pooled over windows. Each is taken relative to the mean at its load:
    a load that moves widens nothing."""

    def __init__(self) -> None:
        self._pool: dict[Latency, deque[tuple[int, Array]]] = {metric: deque(maxlen=WINDOWS) for metric in LATENCIES}

    def add(self, metric: Latency, load: int, values_s: Array) -> None:
        """Of one window at `load`; fewer than two values tell nothing."""
        if len(values_s) > 1 and values_s.mean() > 0:
            self._pool[metric].append((load, values_s))

    def of(self, target: SloTarget) -> float:
        """1 for a mean, and while nothing is known."""
        assert target.metric in LATENCIES
        pool, share = self._pool[target.metric], MISS_SHARES.get(target.stat or "p95")
        if share is None or not pool:
            return 1.0
        by_load: dict[int, list[Array]] = {}
        for load, values_s in pool:
            by_load.setdefault(load, []).append(values_s)
        joined = [np.concatenate(windows) for windows in by_load.values()]
        return float(np.quantile(np.concatenate([values_s / values_s.mean() for values_s in joined]), 1 - share))


@dataclass(frozen=True, slots=True)
class Nearness:
    """One limit, where its figure stands, and at which load it would stand where it is to be kept."""

    target: SloTarget
    figure_s: float
    load: float
    edge: float | None = None
    """The load at which the limit itself breaks; None: that is not in sight."""

    @property
    def share(self) -> float:
        """Of the limit."""
        return self.figure_s / self.target.limit


def latency_limits(slo: Slo) -> list[SloTarget]:
    return [target for target in slo.targets if target.metric in LATENCIES]


def nearness(
    target: SloTarget, load: int, flow: Flow, tail: float, aim: float, *, wait_s: float, tpot_s: float
) -> Nearness:
    """Of one limit on a latency, with its figure to be kept at the share `aim` of it.

    Behind a full server every further user adds 1 / X to everybody's TTFT and E2E, so that the load at which they stand
    somewhere is known from where they stand now. What a server that is not full gives grows less than the load does, as
    TPOT always does: a load in proportion never goes too far, and comes nearer step by step.

    Args:
        load: users commanded.
        tail: the statistic over the mean.
        wait_s, tpot_s: mean TTFT and TPOT.
    """
    goal_s, rate = aim * target.limit, flow.requests_per_s
    if target.metric == "tpot":
        figure_s = tail * tpot_s
        times = goal_s / figure_s if figure_s > 0 else np.inf
        if flow.queued:  # what runs is what the server can run, whatever the users: nothing to mend short of the limit
            times = max(times, min(1.0, target.limit / figure_s)) ** BEHIND_QUEUE
        return Nearness(target, figure_s, load * times)
    mean_s = wait_s if target.metric == "ttft" else flow.e2e_s
    if not flow.queued and 0 < tail * mean_s < goal_s:
        return Nearness(target, tail * mean_s, load * goal_s / (tail * mean_s))
    edge = load + rate * (target.limit / tail - mean_s) if flow.queued else None
    return Nearness(target, tail * mean_s, load + rate * (goal_s / tail - mean_s), edge)


def nearest(found: Sequence[Nearness]) -> Nearness:
    """The limit that allows the least load."""
    return min(found, key=lambda each: each.load)
