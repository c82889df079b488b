"""Quantiles of a few thousand values, in plain Python: what measures starts without numpy."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of `ordered` lies below, linear between order statistics (numpy's default).

    Args:
        ordered: sorted, at least one.
    """
    position = (len(ordered) - 1) * share
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
