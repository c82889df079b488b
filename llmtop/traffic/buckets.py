"""Lengths and rates of which only counts are known: a histogram's buckets, and how many came in each ten minutes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from llmtop.domain.traffic import FEWEST_IN_WINDOW, WINDOW_S, BusiestSpan, LengthBin, TokenLengths
from llmtop.traffic.figures import SHARES
from llmtop.traffic.table import Floats


def lengths_in(buckets: Sequence[tuple[float, float]], mean: float | None = None) -> TokenLengths | None:
    """Lengths by a cumulative histogram, interpolated on a logarithmic axis inside of each bucket.

    Args:
        buckets: (upper bound in tokens, how many are no longer), the last bound may be infinite. Counts that fall, as
            those of counters that were read at different moments do, count as they were before.
        mean: where it is known by itself; None: it is that of the buckets.

    None: nothing is in them. What lies in the last, open bucket has the longest bound that there is.
    """
    ordered = sorted((bound, count) for bound, count in buckets if bound > 0 and math.isfinite(count))
    finite = [bound for bound, _ in ordered if math.isfinite(bound)]
    if not finite or ordered[-1][1] <= 0:
        return None
    total = max(count for _, count in ordered)
    logs = np.log2([min(1.0, finite[0]), *(max(1.0, min(bound, finite[-1])) for bound, _ in ordered)])
    shares = np.maximum.accumulate([0.0, *(max(0.0, count) / total for _, count in ordered)])
    shares[-1] = 1.0
    table = _quantiles(logs, shares, np.array(SHARES))
    p50, p90, p95, p99 = _quantiles(logs, shares, np.array((0.5, 0.9, 0.95, 0.99)))
    octaves = np.arange(math.floor(logs[0]), math.floor(logs[-1]) + 2)
    below = np.interp(octaves, logs, shares)
    below[0] = 0.0
    within = np.diff(below) * total
    wide = [high / max(1.0, low) for (low, before), (high, after) in pairwise(((1.0, 0.0), *ordered)) if after > before]
    return TokenLengths(
        requests=round(total),
        mean=float(np.mean(_quantiles(logs, shares, (np.arange(1000) + 0.5) / 1000))) if mean is None else mean,
        p50=float(p50),
        p90=float(p90),
        p95=float(p95),
        p99=float(p99),
        table=tuple((share, float(tokens)) for share, tokens in zip(SHARES, table, strict=True)),
        histogram=tuple(
            LengthBin(2.0**low, 2.0 ** (low + 1), round(float(count)))
            for low, count in zip(octaves[:-1].tolist(), within.tolist(), strict=True)
        ),
        coarse=max((each for each in wide if math.isfinite(each)), default=None),
    )


def _quantiles(logs: Floats, shares: Floats, asked: Floats) -> Floats:
    """The lengths that so large shares are no longer than."""
    asked = np.maximum(asked, 1e-9)  # the shortest are in the first bucket that has any
    place = np.clip(np.searchsorted(shares, asked, side="left"), 1, len(shares) - 1)
    low, high = shares[place - 1], shares[place]
    part = np.where(high > low, (asked - low) / np.maximum(high - low, 1e-300), 1.0)
    lengths: Floats = 2.0 ** (logs[place - 1] + np.clip(part, 0.0, 1.0) * (logs[place] - logs[place - 1]))
    return lengths


def busiest_in(counts: Floats, windows: int) -> BusiestSpan | None:
    """The `windows` of ten minutes in a row with most requests; None: there are not so many, or too few came in them.

    Args:
        counts: of each ten minutes, one after the other; nan where none is known.
    """
    if len(counts) < windows:
        return None
    sums = np.convolve(np.nan_to_num(counts), np.ones(windows), "valid")
    place = int(np.argmax(sums))
    if sums[place] < FEWEST_IN_WINDOW:
        return None
    return BusiestSpan(
        rate_rps=float(sums[place]) / (windows * WINDOW_S),
        requests=round(float(sums[place])),
        begins_s=place * WINDOW_S,
    )
