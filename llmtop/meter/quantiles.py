"""Quantiles of a few thousand values, in plain Python: what measures starts without numpy."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import chain

BUCKETS_A_DOUBLING = 16
"""Of the gaps between chunks. The middle of a bucket is within 2.2 % of whatever lies in it; buckets add up over any
time and any number of processes (as in DDSketch: Masson, Rim and Lee, VLDB 12, 2019)."""

FEW = 256
"""Values that are put in order at once."""


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of `ordered` lies below, linear between order statistics (numpy's default).

    Args:
        ordered: sorted, at least one.
    """
    position = (len(ordered) - 1) * share
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def quantile_of_runs(runs: Sequence[Sequence[float]], share: float) -> float:
    """As `quantile` of all values of `runs` together, at least one; each of them is sorted, and all together never are.

    What is too small or too large for the place in question is cut off from all runs until little is left.
    """
    size = sum(map(len, runs))
    position = (size - 1) * share
    below = int(position)
    starts, ends = [0] * len(runs), [len(run) for run in runs]
    while sum(ends) - sum(starts) > FEW:
        longest = max(range(len(runs)), key=lambda at: ends[at] - starts[at])
        pivot = runs[longest][(starts[longest] + ends[longest]) // 2]
        cuts = [bisect_left(run, pivot, *span) for run, *span in zip(runs, starts, ends, strict=True)]
        if cuts == starts:  # nothing that is left is smaller: all that equal it go together
            cuts = [bisect_right(run, pivot, *span) for run, *span in zip(runs, starts, ends, strict=True)]
            if below < sum(cuts):
                ends = cuts
                break
        if below < sum(cuts):
            ends = cuts
        else:
            starts = cuts
    left = sorted(chain.from_iterable(run[start:end] for run, start, end in zip(runs, starts, ends, strict=True)))
    low = left[below - sum(starts)]
    beyond = (run[end] for run, end in zip(runs, ends, strict=True) if end < len(run))
    high = min(left[below - sum(starts) + 1 :][:1] or beyond, default=low)
    return low + (high - low) * (position - below)


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
