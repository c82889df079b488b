"""One level of a capacity search: what it says about the SLO so far, and when that is enough.

Sending is what a search pays with, so nothing waits for requests to end that can be seen sooner. TTFT is read from the
bins, where every first token and the age of the oldest waiting request show; TPOT and E2E from the requests that ended,
if they spent enough of their life at this level. (A steady level may be sampled by the ends of its requests. By their
sending it must not be, unless one waits for the slowest.)

What was seen in seconds in which the client was the bottleneck, or that are not judged yet, is left out of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from llmtop.analysis.fits import Array
from llmtop.analysis.slo import MISS_SHARES
from llmtop.analysis.stats import Sprt, share_floor
from llmtop.domain.slo import LATENCIES, Slo, SloTarget, Stat
from llmtop.meter.facts import Facts

QUICK_REQUESTS = 15
"""First tokens, or ended requests, that show a clear pass or failure while the load is being doubled."""
QUICK_LIMIT = 30
CLEAR_MISSES = 0.2
"""Miss ratio from which a level fails clearly."""
TAIL = 1.4
"""A limit on TPOT holds without ended requests where the mean of all streams is so many times below it."""
RATES_FROM_S = 0.7
"""Rates are taken over at least so long: three bins."""
WITH_QUEUE = 0.93
"""In service over in flight below which a level has a queue."""
Flags = npt.NDArray[np.bool_]
_FAR = 0.15
_MIN_ERRORS = 4
_BINS_A_LIMIT = 4
"""A TTFT limit shorter than so many bins is judged by ended requests."""


@dataclass(slots=True)
class Trial:
    """The level under test.

    Args:
        load: requests in flight asked for.
        before: what was asked for before.
        start_s: when it was asked for.
        usual_s: E2E at the lowest level; None: not known yet.
        lived: share of its life that a request must have spent here, if this level is far from the one before.
        warm_up: requests that must have ended before it is judged.
        pool: (in service, TPOT) of other levels with a queue. Past a batch cap more load changes only the queue: where
            as many are in service, TPOT is the same, and one sample.
    """

    load: int
    before: int
    start_s: float
    usual_s: float | None = None
    lived: float = 0.9
    warm_up: int = 0
    pool: tuple[tuple[float, Array], ...] = ()
    sent: int = 0
    """Requests sent since it was asked for."""
    arrived_s: float | None = None
    warm_s: float | None = None
    ttft_s: Array = field(default_factory=lambda: np.empty(0))
    tpot_s: Array = field(default_factory=lambda: np.empty(0))
    e2e_s: Array = field(default_factory=lambda: np.empty(0))
    errors: int = 0
    ended: int = 0
    in_service: float | None = None
    """Requests in flight past their first token, mean of the last seconds: what the server serves at once."""
    requests_per_s: float | None = None
    tpot_mean_s: float | None = None
    """In service / output tokens a second: of all streams at once, long before any of them ends."""
    ttft_mean_s: float | None = None
    """By Little's law: requests without a first token / first tokens a second."""
    standing: bool = False
    """Requests wait past the TTFT limit in a queue that does not shrink."""

    @property
    def moved(self) -> float:
        """How far this level is from the one before, as a share of the higher one."""
        return abs(self.load - self.before) / max(self.load, self.before)

    @property
    def n(self) -> int:
        """Requests that its answer rests on: first tokens, or requests that ended."""
        return max(len(self.ttft_s), self.ended, self.errors)

    def watch(self, facts: Facts, slo: Slo, now_s: float) -> None:
        """Take in what happened since."""
        bins = facts.bins
        t_s, in_flight = bins.column("t_s"), bins.column("in_flight")
        first = int(np.searchsorted(t_s, self.start_s, side="right"))
        self.sent = int(bins.column("sent")[first:].sum())
        if self.arrived_s is None:
            there = np.flatnonzero(np.abs(in_flight[first:] - self.load) <= max(1.0, 0.03 * self.load))
            if len(there) == 0:
                self._take_failed(facts)
                return
            self.arrived_s = float(t_s[first + there[0]])
        self._settle(facts)
        clean = servers_own(facts, first)
        self._take_rates(facts, now_s, clean)
        self._look_for_a_standing_queue(facts, slo, clean)
        self._take_ended(facts)
        if self.warm_s is not None:
            self._take_first_tokens(facts, slo, clean)

    def _settle(self, facts: Facts) -> None:
        """Warm once the users that came have their first tokens and `warm_up` requests have ended.

        Until then first tokens belong to the burst of their coming, or to the level before.
        """
        if self.warm_s is not None or self.arrived_s is None:
            return
        self._settled(facts)
        if self.warm_s is not None:  # what was seen of the burst says nothing about the level
            self.requests_per_s = self.in_service = self.tpot_mean_s = self.ttft_mean_s = None

    def _settled(self, facts: Facts) -> None:
        assert self.arrived_s is not None
        bins = facts.bins
        t_s, oldest = bins.column("t_s"), np.nan_to_num(bins.column("oldest_prefill_s"))
        first = int(np.searchsorted(t_s, self.arrived_s))
        new = np.flatnonzero(oldest[first:] < t_s[first:] - self.arrived_s)
        if len(new) == 0:
            return
        settled_s = float(t_s[first + new[0]])
        end_s = facts.requests.column("end_s")
        ended = np.sort(end_s[end_s >= self.arrived_s])
        if len(ended) < self.warm_up:
            return
        self.warm_s = max(settled_s, float(ended[self.warm_up - 1])) if self.warm_up else settled_s

    def _take_rates(self, facts: Facts, now_s: float, clean: Flags) -> None:
        """Throughput and numbers in service and waiting over the last seconds, without the burst once it is over."""
        assert self.arrived_s is not None
        bins = facts.bins
        since_s = self.warm_s if self.warm_s is not None else self.arrived_s
        if now_s - since_s < RATES_FROM_S:
            return
        since_s = max(since_s, now_s - max(3.0, self.usual_s or 0.0))
        counts = clean & (bins.column("t_s") > since_s)
        span_s = float(bins.column("span_s")[counts].sum())
        lengths = facts.requests.column("output_tokens")[facts.requests.column("ok") > 0][-200:]
        if span_s <= 0 or len(lengths) == 0:
            return
        waiting = float(np.mean(bins.column("prefilling")[counts]))
        self.in_service = float(np.mean(bins.column("in_flight")[counts])) - waiting
        tokens_per_s = float(bins.column("output_tokens")[counts].sum()) / span_s
        if tokens_per_s > 0 and lengths.any():
            self.requests_per_s = tokens_per_s / float(lengths.mean())
            self.tpot_mean_s = self.in_service / tokens_per_s
            self.ttft_mean_s = waiting / self.requests_per_s
        elif not lengths.any():  # embeddings: what is in flight is in service, for all that can be told
            self.in_service = float(np.mean(bins.column("in_flight")[counts]))
            self.requests_per_s = float(bins.column("ok")[counts].sum()) / span_s or None

    def _look_for_a_standing_queue(self, facts: Facts, slo: Slo, clean: Flags) -> None:
        """Requests that wait past the TTFT limit in a queue that does not shrink fail it before any of them ends.

        A burst of new users is also queued, but its queue shrinks while the prompts are read.
        """
        target, seen = slo.target("ttft"), np.flatnonzero(clean)
        if target is None or self.arrived_s is None or len(seen) == 0:
            return
        bins = facts.bins
        t_s, waiting, oldest = bins.column("t_s"), bins.column("prefilling"), bins.column("oldest_prefill_s")
        last = seen[-1]
        if t_s[last] < self.arrived_s + target.limit:
            return
        back = int(np.searchsorted(t_s, t_s[last] - max(1.0, 0.5 * target.limit)))
        long = waiting[last] >= max(3.0, 0.1 * self.load) and oldest[last] > 1.2 * target.limit
        self.standing = self.standing or bool(long and clean[back] and waiting[last] >= 0.9 * waiting[back] > 0)

    def _take_failed(self, facts: Facts) -> None:
        """Errors of what was sent since: users who are refused at once are never in flight, so the level is never
        there."""
        table = facts.requests
        own = (table.column("sent_s") > self.start_s) & (table.column("client_limited") == 0)
        self.errors = int(np.sum(own & (table.column("error") > 0)))
        self.ended = int(np.sum(own & (table.column("ok") > 0)))

    def _take_ended(self, facts: Facts) -> None:
        """TPOT and E2E of requests that ended here and spent enough of their life here; TTFT, too, until bins tell."""
        assert self.arrived_s is not None
        table = facts.requests
        sent_s, end_s = table.column("sent_s"), table.column("end_s")
        rows = np.flatnonzero((end_s > self.arrived_s) & (table.column("client_limited") == 0))
        self.errors = int(np.sum(table.column("error")[rows] > 0))
        rows = rows[table.column("ok")[rows] > 0]
        life_s = np.maximum(end_s[rows] - sent_s[rows], 1e-9)
        since_s = self.arrived_s if self.warm_s is None else self.warm_s
        lived = np.clip((end_s[rows] - since_s) / life_s, 0.0, 1.0)
        rows = rows[lived >= self.lived * min(1.0, self.moved / _FAR)]
        self.tpot_s, self.e2e_s = table.column("tpot_s")[rows], table.column("e2e_s")[rows]
        self.ended = len(rows)
        self.ttft_s = table.column("ttft_s")[rows[sent_s[rows] >= self.arrived_s]]

    def _take_first_tokens(self, facts: Facts, slo: Slo, clean: Flags) -> None:
        """One TTFT a first token, read from the bins, if the limit spans enough of them.

        The requests that leave the queue in a bin are its oldest: the first leaves half a gap between two after the
        bin began, and those behind it are as old when they leave. Where the oldest is far older than Little's mean the
        queue is not served in order, and the mean is taken.
        """
        target = slo.target("ttft")
        assert self.warm_s is not None
        bins = facts.bins
        first = int(np.searchsorted(bins.column("t_s"), self.warm_s, side="right"))
        span_s = bins.column("span_s")[first:]
        waiting, oldest = bins.column("prefilling"), bins.column("oldest_prefill_s")
        if target is None or first < 1 or len(span_s) == 0 or not np.isfinite(oldest).any():
            return
        if target.limit < _BINS_A_LIMIT * float(np.median(span_s)) or self.ttft_mean_s is None:
            return
        came = bins.column("sent")[first:] - bins.column("errors")[first:]
        left = np.maximum(came + waiting[first - 1 : -1] - waiting[first:], 0).astype(int)
        age_s = np.nan_to_num(oldest[first - 1 : -1]) + span_s / (2 * np.maximum(left, 1))
        age_s = np.where(age_s > 2 * self.ttft_mean_s + 0.5, self.ttft_mean_s, age_s)
        self.ttft_s = np.repeat(age_s, np.where(clean[first:] & clean[first - 1 : -1], left, 0))

    def values(self, target: SloTarget) -> Array:
        column: Array = getattr(self, f"{target.metric}_s")
        if target.metric == "tpot" and self.in_service is not None and self.in_service < WITH_QUEUE * self.load:
            same = [other for served, other in self.pool if abs(served - self.in_service) <= 0.04 * self.in_service]
            column = np.concatenate([*same, column])
        return column[np.isfinite(column)]

    def failed(self, slo: Slo, quick: bool) -> tuple[str, ...] | None:
        """Names of the limits that fail; () when all pass; None while it cannot be said.

        Args:
            quick: a clear answer from 15 to 30 requests will do; otherwise Wald's test decides each limit.
        """
        ttft = slo.target("ttft")
        if self.standing and ttft is not None:
            return (ttft.name,)
        errors = slo.target("error_ratio")
        count = self.errors + self.ended
        if errors is not None and self.errors >= _MIN_ERRORS and share_floor(self.errors, count) > errors.limit:
            return (errors.name,)
        if self.warm_s is None or self.requests_per_s is None:
            return None
        answers = [(target, self._answer(target, quick)) for target in slo.targets if target.metric in LATENCIES]
        failed = tuple(target.name for target, passed in answers if passed is False)
        if failed:
            return failed
        return () if all(passed is True for _, passed in answers) else None

    def _answer(self, target: SloTarget, quick: bool) -> bool | None:
        values = self.values(target)
        if target.metric == "tpot" and len(values) == 0 and self.ended >= QUICK_REQUESTS:
            return True  # answers of a single token have no TPOT
        share = MISS_SHARES.get(target.stat or "p95")
        if share is None:
            return _mean_answer(values, target.limit, quick)
        misses, n = int((values > target.limit).sum()), len(values)
        roomy = self.tpot_mean_s is not None and self.tpot_mean_s * TAIL <= target.limit
        if target.metric == "tpot" and roomy and misses <= share * n:
            return True
        if not quick:
            return Sprt.of((values > target.limit).astype(np.float64), share).verdict
        if n < QUICK_REQUESTS:
            return None
        if misses > max(share, CLEAR_MISSES) * n and share_floor(misses, n) > share:
            return False
        return True if misses <= share * n or n >= QUICK_LIMIT else None


def servers_own(facts: Facts, first: int) -> Flags:
    """Of each bin from row `first` on, whether all of it lies in seconds in which the client was not the bottleneck;
    shape (len(facts.bins),), False before. Without samples of the client nothing is held against it."""
    own = np.zeros(len(facts.bins), dtype=bool)
    end_s, span_s = facts.bins.column("t_s")[first:], facts.bins.column("span_s")[first:]
    judged_s = facts.client.column("t_s")
    if len(judged_s) == 0:
        own[first:] = True
        return own
    fine = np.append(facts.client.column("red") == 0, False)  # what is not judged yet is not known to be fine
    begun_in = np.searchsorted(judged_s, end_s - span_s + 1e-6)
    own[first:] = fine[begun_in] & fine[np.searchsorted(judged_s, end_s - 1e-6)]
    return own


def _mean_answer(values: Array, limit: float, quick: bool) -> bool | None:
    n = len(values)
    if n < QUICK_REQUESTS:
        return None
    half = 1.96 * float(values.std()) / math.sqrt(n)
    mean = float(values.mean())
    if abs(mean - limit) > half or quick or n >= 200:
        return mean <= limit
    return None


def statistic(values: Sequence[float] | Array, stat: Stat) -> float | None:
    """The statistic of an SLO target over a sample; None without one."""
    if len(values) == 0:
        return None
    if stat == "mean":
        return float(np.mean(values))
    return float(np.quantile(values, 1 - MISS_SHARES[stat]))
