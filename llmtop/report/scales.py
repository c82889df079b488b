"""Axes: from values to places between 0 and 1, and round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable

from llmtop.wording.figures import nice_above


class Scale:
    """One axis from `low` to `high`, linear or logarithmic."""

    def __init__(self, low: float, high: float, *, log: bool = False) -> None:
        self.log = log
        self.low = low
        self.high = high if high > low else low + 1

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`; values beyond are put on the edge."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)

    def holds(self, value: float) -> bool:
        """Whether it lies on the axis, and not beyond."""
        return self.low <= value <= self.high

    def ticks(self, most: int = 6) -> list[float]:
        """At most about `most` round values: steps of 1, 2 or 5 times a power of ten; on a log axis the coarsest
        of 1-2-5, 1-10 that fits."""
        if not self.log:
            step = nice_above((self.high - self.low) / most)
            first = math.ceil(self.low / step - 1e-9)
            return [place * step for place in range(first, math.floor(self.high / step + 1e-9) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        finest: list[float] = []
        for digits in ((1, 2, 5), (1, 3), (1,)):
            values = [digit * 10.0**decade for decade in decades for digit in digits]
            inside = [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]
            finest = finest or inside
            if 0 < len(inside) <= most:
                return inside
        return finest[:: math.ceil(len(finest) / most) or 1]


def latency_scale(values: Iterable[float], *, log: bool | None = None) -> Scale:
    """A latency axis in milliseconds that holds all `values`: logarithmic when they span more than a factor of ten."""
    known = [value for value in values if value > 0]
    if not known:
        return Scale(0, 1)
    low, high = min(known), max(known)
    if log or (log is None and high > 10 * low):
        return Scale(low / 1.3, high * 1.3, log=True)
    return zero_scale(known)


def zero_scale(values: Iterable[float | None], least: float = 0.0) -> Scale:
    """A linear axis from 0 to a little above the largest value, and to `least` at least."""
    high = max([value for value in values if value is not None and math.isfinite(value)], default=0.0)
    high = max(high * 1.08, least)
    return Scale(0, high or 1.0)


def load_scale(loads: Iterable[float]) -> Scale:
    """The axis of the load: logarithmic when levels span more than a factor of eight. Room for labels at the left."""
    known = sorted(load for load in loads if load > 0)
    if not known:
        return Scale(0, 1)
    low, high = known[0], known[-1]
    if high > 8 * low:
        margin = (high / low) ** 0.03
        return Scale(low / margin**3, high * margin, log=True)
    margin = (high - low) * 0.03 or high * 0.1
    return Scale(max(0.0, low - 3 * margin), high + margin)


def load_ticks(scale: Scale, most: int = 9) -> list[float]:
    """Powers of two on a log axis, round numbers on a linear one."""
    if not scale.log:
        return scale.ticks(most)
    first = math.ceil(math.log2(scale.low) - 1e-9)
    powers = [2.0**power for power in range(first, math.floor(math.log2(scale.high) + 1e-9) + 1)]
    return powers[:: math.ceil(len(powers) / most)] if powers else scale.ticks(most)
