"""Levels: the samples of one load, after transients, and the statistics a fit wants of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.domain.request import TURNED_AWAY
from llmtop.domain.slo import Latency, Stat
from llmtop.domain.verdicts import Bound

T = TypeVar("T")
EMPTY: Array = np.empty(0)
FAINT_BELOW = 20
"""A level with fewer requests is drawn faint."""
MIN_REQUESTS = 4
"""Fewer requests say nothing about a level."""
MIN_REQUESTS_P95 = 60
ERROR_WALL = 0.05
"""A level where more than this share of the requests failed lies beyond the cliff, whatever the survivors' latency."""


def bound_of(status: int | None) -> Bound:
    """What errors of this HTTP status say: somebody turns requests away, or they fail."""
    return Bound.REFUSED if status in TURNED_AWAY else Bound.FAILED


@dataclass(frozen=True, slots=True)
class Statistic:
    """One latency statistic of one level: `y` in seconds and the standard error of its logarithm."""

    y: float
    se: float
    n: int


_UNTOLD_SPREAD = 0.3
"""Standard deviation of the logarithm of a latency, where a table tells nothing of it: that of a server at work."""
_LEAST_SPREAD = 0.02
_NORMAL = {"p90": 1.2816, "p95": 1.6449, "p99": 2.3263}
"""How many standard deviations a percentile of a normal distribution lies above its middle."""
_SE_OF = {"mean": 1.0, "p50": 1.2533, "p90": 1.7094, "p95": 2.1132, "p99": 3.7331}
"""Standard error of a percentile of a normal distribution: sqrt(q (1 - q)) / density, in sd / sqrt(n)."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What a table tells of a level in place of its requests: statistics of latencies, each by itself."""

    n: int
    """Requests that ended well; 0: not told, so that nothing can be proven by them."""
    figures: Mapping[str, float]
    """Seconds by name, `ttft_p50` as in an SLO; `ttft_std` is a standard deviation. What is missing is not known."""

    def figure(self, metric: Latency, stat: str) -> float | None:
        return self.figures.get(f"{metric}_{stat}")

    def statistic(self, metric: Latency, stat: Stat) -> Statistic | None:
        """A statistic with the standard error of its logarithm, as that of log-normal requests; None: not known.

        The spread is taken from the standard deviation, else from the highest percentile over the median.
        """
        y = self.figure(metric, stat)
        if y is None or y <= 0 or self.n < (MIN_REQUESTS_P95 if stat == "p95" else MIN_REQUESTS):
            return None
        return Statistic(y, _SE_OF[stat] * max(self._spread(metric), _LEAST_SPREAD) / math.sqrt(self.n), self.n)

    def _spread(self, metric: Latency) -> float:
        mean, sd = self.figure(metric, "mean"), self.figure(metric, "std")
        if mean and sd is not None:
            return math.sqrt(math.log1p((sd / mean) ** 2))
        middle = self.figure(metric, "p50")
        tails = ((self.figure(metric, stat), z) for stat, z in reversed(_NORMAL.items()))
        told = next(((tail, z) for tail, z in tails if tail), None)
        if not middle or told is None:
            return _UNTOLD_SPREAD
        return max(0.0, math.log(told[0] / middle) / told[1])


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One load level. Latencies in seconds, one entry a request that ended well, in order of sending.

    TPOT and E2E are NaN where they were made at another load, after the first token.
    """

    load: float
    """Users as commanded, where they were there or think, else requests in flight that were delivered; or requests/s
    offered."""
    ttft_s: Array = field(default_factory=lambda: EMPTY)
    tpot_s: Array = field(default_factory=lambda: EMPTY)
    """NaN for requests with a single arrival, too."""
    e2e_s: Array = field(default_factory=lambda: EMPTY)
    censored_s: Array = field(default_factory=lambda: EMPTY)
    """Ages of requests still without a first token: lower bounds of their TTFT."""
    errors: int = 0
    textless: int = 0
    """Requests that ended well without any text: they have no latency, and are none that failed."""
    status: int | None = None
    """HTTP status of most of the errors; None: they had none, or it is not known."""
    requests_per_s: float | None = None
    output_tokens_per_s: float | None = None
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    preemptions: float | None = None
    iteration_tokens: float | None = None
    """Tokens of one step of the engine."""
    prefill_s: float | None = None
    """Mean time that the server tells of a request in its prefill."""
    power_w: float | None = None
    """Mean of what all GPUs that are read took together."""
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    thinking: float | None = None
    """Share of the users who think between two requests and are not in flight; None: they do not think."""
    asked: float | None = None
    """Load that was commanded, where it differs from what was delivered."""
    given: Statistic | None = None
    """Tables without raw samples: the statistic as given, whichever it is."""
    stated: Stated | None = None
    """Tables without raw samples: their statistics, by name."""
    sent_s: Array = field(default_factory=lambda: EMPTY)
    """When the requests of `ttft_s` were sent, on the clock of the run; empty, as the next two: not known."""
    prompt_lens: Array = field(default_factory=lambda: EMPTY)
    output_lens: Array = field(default_factory=lambda: EMPTY)
    """Their tokens."""
    ttft_mean_s: float | None = None
    e2e_mean_s: float | None = None
    """Where it is not the mean of the samples."""
    _said: dict[object, Any] = field(init=False, repr=False, default_factory=dict)

    def remembered(self, name: object, make: Callable[[], T]) -> T:
        """What `make` says of this level, which never changes: reckoned once."""
        if name not in self._said:
            self._said[name] = make()
        said: T = self._said[name]
        return said

    @property
    def n(self) -> int:
        told = self.given or self.stated
        return told.n if told else len(self.ttft_s)

    @property
    def has_samples(self) -> bool:
        """Whether it was measured request by request; else a table tells what came of it."""
        return self.given is None and self.stated is None

    @property
    def in_flight(self) -> float:
        """Requests in flight, in a closed loop: users without those who think."""
        return self.load * (1 - (self.thinking or 0.0))

    @property
    def cycle_s(self) -> float | None:
        """Mean time from one request of a user to the next: E2E and, where they think, what they think."""
        mean = self.mean("e2e")
        return None if mean is None else mean / (1 - (self.thinking or 0.0))

    @property
    def error_ratio(self) -> float:
        return self.errors / max(1, self.errors + self.textless + self.n)

    @property
    def broken(self) -> bool:
        """Whether its errors alone put it beyond the cliff (more than one, so that a single slip does not)."""
        return self.errors >= 2 and self.error_ratio > ERROR_WALL

    def samples(self, metric: Latency) -> Array:
        """Finite samples of ttft, tpot or e2e, in seconds."""
        column: Array = getattr(self, f"{metric}_s")
        return column[np.isfinite(column)]

    def mean(self, metric: Latency) -> float | None:
        """Mean of ttft or e2e in seconds, as given or from samples."""
        return self.remembered(("mean", metric), lambda: self._mean(metric))

    def _mean(self, metric: Latency) -> float | None:
        if metric == "e2e" and self.e2e_mean_s is not None:
            return self.e2e_mean_s
        column = self.samples(metric) if metric != "tpot" else EMPTY
        if len(column):
            return float(column.mean())
        if self.stated is not None:
            return self.stated.figure(metric, "mean")
        return self.ttft_mean_s if metric == "ttft" else None

    @property
    def little_residual(self) -> float | None:
        """X R / N: 1 in a closed loop that really keeps N requests in flight, whoever thinks beside."""
        mean = self.mean("e2e")
        if mean is None or self.requests_per_s is None or self.in_flight <= 0:
            return None
        return self.requests_per_s * mean / self.in_flight

    def statistic(self, metric: Latency, stat: Stat) -> Statistic | None:
        """p50, p95 or mean with the standard error of its logarithm; None with too few requests.

        p50: se(ln y) = 1.2533 max(1.4826 MAD, 0.6 sd, 0.02) / sqrt(n), over ln y. The sd keeps two-humped data (prefix
        cache hits and misses) honest, whose MAD may be tiny. p95: half the distance between the order statistics one
        binomial standard deviation to either side. Requests without a first token yet count with their age where it
        already exceeds the median.
        """
        return self.remembered((metric, stat), lambda: self._statistic(metric, stat))

    def _statistic(self, metric: Latency, stat: Stat) -> Statistic | None:
        if self.given is not None:
            return self.given
        if self.stated is not None:
            return self.stated.statistic(metric, stat)
        values = self.samples(metric)
        if metric == "ttft" and len(self.censored_s) and len(values):
            late = self.censored_s[self.censored_s > np.median(values)]
            values = np.concatenate([values, late])
        values = values[values > 0]
        n = len(values)
        if n < (MIN_REQUESTS_P95 if stat == "p95" else MIN_REQUESTS):
            return None
        logs = np.log(values)
        if stat == "p95":
            spread = np.sqrt(n * 0.95 * 0.05)
            ordered = np.sort(logs)
            low = ordered[max(0, int(np.floor(0.95 * n - spread)) - 1)]
            high = ordered[min(n - 1, int(np.ceil(0.95 * n + spread)) - 1)]
            return Statistic(float(np.exp(np.quantile(logs, 0.95))), max(float(high - low) / 2, 0.02 / np.sqrt(n)), n)
        sd = float(logs.std())
        if stat == "mean":
            return Statistic(float(values.mean()), max(sd, 0.02) / float(np.sqrt(n)), n)
        middle = float(np.median(logs))
        mad = 1.4826 * float(np.median(np.abs(logs - middle)))
        return Statistic(float(np.exp(middle)), 1.2533 * max(mad, 0.6 * sd, 0.02) / float(np.sqrt(n)), n)


def are_embeddings(levels: Sequence[Level]) -> bool:
    """Whether answers came whole at every level: they have an end and no first token."""
    ended = any(len(level.samples("e2e")) for level in levels)
    return ended and not any(len(level.samples("ttft")) for level in levels)
