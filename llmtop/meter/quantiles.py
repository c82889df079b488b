"""Quantiles of a few thousand values, in plain Python: what measures starts without numpy."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

BUCKETS_A_DOUBLING = 16
"""Of the gaps between chunks. The middle of a bucket is within 2.2 % of whatever lies in it; buckets add up over any
time and any number of processes (as in DDSketch: Masson, Rim and Lee, VLDB 12, 2019)."""


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of `ordered` lies below, linear between order statistics (numpy's default).

    Args:
        ordered: sorted, at least one.
    """
    position = (len(ordered) - 1) * share
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def bucketed(ordered_ns: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(bucket, how many) of sorted nanoseconds. Bucket k begins at 2^(k / 16) us; what is shorter than 1 us is in 0."""
    counts = []
    place, size = 0, len(ordered_ns)
    while place < size:
        bucket = _bucket(ordered_ns[place])
        after = bisect_left(ordered_ns, _start_ns(bucket + 1), place + 1)
        counts.append((bucket, after - place))
        place = after
    return tuple(counts)


def bucket_ms(bucket: int) -> float:
    """What stands for the gaps in a bucket: its geometric middle, in milliseconds."""
    return float(2 ** ((bucket + 0.5) / BUCKETS_A_DOUBLING)) / 1e3


def _bucket(gap_ns: int) -> int:
    near = max(0, math.floor(BUCKETS_A_DOUBLING * math.log2(max(gap_ns, 1) / 1e3)))
    return max(0, near + (gap_ns >= _start_ns(near + 1)) - (gap_ns < _start_ns(near)))


def _start_ns(bucket: int) -> int:
    return math.ceil(2 ** (bucket / BUCKETS_A_DOUBLING) * 1e3)
