"""Intervals that hold for few samples, tests that stop early, and how many of dependent samples count."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.domain.verdicts import Quantile

LEVEL = 0.95
BATCHES = 10
FEWEST = {"mean": 11, "p50": 11, "p90": 29, "p95": 59, "p99": 299}
"""Fewest samples with which a statistic is shown and taken at its word.

For p90, p95 and p99 these are the smallest n whose largest sample is an upper 95 % bound whatever the distribution,
1 - q^n >= 0.95: with fewer, nothing bounds the percentile from above; as many clean ones prove a limit at the level of
every other verdict here. (MLPerf's 64, 130 and 662 ask the same of the second largest, at 99 %.)
Alone that would let five samples tell a median, so p50 and the mean wait for 11, where the second largest bounds the
median at 99 %: 12 / 2^11 = 0.6 %.
"""
_EXACT_UP_TO = 2000
_LOG_FACTORIAL = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, _EXACT_UP_TO + 1)))])


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(at most k of n), exact up to 2000, normal with continuity correction above."""
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    if p <= 0 or p >= 1:
        return 1.0 if p <= 0 else 0.0
    if n > _EXACT_UP_TO:
        return 0.5 * math.erfc(-(k + 0.5 - n * p) / math.sqrt(2 * n * p * (1 - p)))
    i = np.arange(k + 1)
    log_pmf = _LOG_FACTORIAL[n] - _LOG_FACTORIAL[i] - _LOG_FACTORIAL[n - i] + i * math.log(p) + (n - i) * math.log1p(-p)
    return min(1.0, float(np.exp(log_pmf).sum()))


@functools.lru_cache(maxsize=16384)
def share_bound(k: int, n: int) -> float:
    """Upper 95 % bound of a share (Clopper-Pearson, one-sided); for k = 0 the rule of three, 1 - 0.05^(1/n)."""
    if n <= 0 or k >= n:
        return 1.0
    low, high = k / n, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if binomial_cdf(k, n, middle) > 1 - LEVEL:
            low = middle
        else:
            high = middle
    return high


def share_floor(k: int, n: int) -> float:
    """Lower 95 % bound of a share (Clopper-Pearson, one-sided)."""
    return 1.0 - share_bound(n - k, n) if k > 0 else 0.0


def quantile_with_bounds(values: Array, q: float) -> Quantile:
    """Sample quantile with one-sided 95 % bounds from order statistics; a bound is None where n gives none."""
    n = len(values)
    if n == 0:
        return Quantile(None)
    ordered = np.sort(values)
    upper = _rank(n, q)
    lower = _rank(n, 1 - q)
    return Quantile(
        value=float(np.quantile(ordered, q)),
        low=None if lower is None else float(ordered[n - lower]),
        high=None if upper is None else float(ordered[upper - 1]),
    )


@functools.lru_cache(maxsize=4096)
def _rank(n: int, q: float) -> int | None:
    """Smallest r with P(r-th order statistic >= quantile q) >= 0.95, that is P(Bin(n, q) <= r - 1) >= 0.95."""
    if 1 - q**n < LEVEL:
        return None
    low, high = 1, n
    while low < high:
        middle = (low + high) // 2
        if binomial_cdf(middle - 1, n, q) >= LEVEL:
            high = middle
        else:
            low = middle + 1
    return low


def effective_size(values: Array) -> float:
    """Samples that count: n / max(1, variance of batch means over what independence gives), ten batches in order."""
    n = len(values)
    size = n // BATCHES
    variance = float(np.var(values)) if n else 0.0
    if size < 2 or variance == 0:
        return float(n)
    batches = values[n - size * BATCHES :].reshape(BATCHES, size).mean(axis=1)
    return n / max(1.0, float(np.var(batches, ddof=1)) * size / variance)


@dataclass(slots=True)
class Sprt:
    """Wald's sequential test of a miss ratio: half against one and a half times `share`, alpha = beta = 0.05.

    For 5 %: ln 3 a miss, ln(0.925 / 0.975) a hit, stop at +-2.944. Mean length 56 without misses, 161 at 5 %.
    """

    share: float = 0.05
    cap: int = 400
    """So many samples without a decision are "on the line"."""
    inflation: float = 1.0
    """Variance of the miss ratio over what independent samples give: the score counts so much less."""
    score: float = 0.0
    n: int = 0
    misses: int = 0

    def add(self, misses: int, hits: int) -> None:
        good, bad = 0.5 * self.share, min(0.999, 1.5 * self.share)
        gain = misses * math.log(bad / good) + hits * math.log((1 - bad) / (1 - good))
        self.score += gain / self.inflation
        self.n += misses + hits
        self.misses += misses

    @classmethod
    def of(cls, missed: Array, share: float) -> Sprt:
        """The test after `missed` (0 or 1 a sample, in order). Misses come in clumps: their inflation is measured by
        batch means, at least 1, at most 4, and taken as 3 below 40 samples; samples without a miss have none."""
        misses, n = int(missed.sum()), len(missed)
        inflation = 1.0
        if misses:
            inflation = 3.0 if n < 40 else min(4.0, max(1.0, n / effective_size(missed)))
        test = cls(share, inflation=inflation)
        test.add(misses, n - misses)
        return test

    @property
    def verdict(self) -> bool | None:
        """True: passes, False: fails, None: go on."""
        wall = math.log(LEVEL / (1 - LEVEL))
        if self.score <= -wall:
            return True
        if self.score >= wall:
            return False
        if self.n >= self.cap:
            return self.misses <= self.share * self.n
        return None
