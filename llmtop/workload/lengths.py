"""Lengths drawn from a distribution, in tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise
from random import Random

from llmtop.domain.bounds import TOKENS
from llmtop.domain.profile import Fixed, LengthDistribution, LogNormal, Normal


def draw(distribution: LengthDistribution, mean: int, rng: Random) -> int:
    """One length, at least 1 token and no more than may be asked for.

    Args:
        distribution: of what shape.
        mean: the load point's length. A quantile table without `scale` has its own and does not look at it.
        rng: consumed once or twice.

    Formulas: normal N(mean, (cv mean)^2); log-normal with s^2 = ln(1 + cv^2) and m = ln(mean) - s^2 / 2, so that its
    mean is `mean`; a quantile table by the inverse of its piecewise linear distribution function.
    """
    if isinstance(distribution, Fixed):
        return max(1, mean)
    if isinstance(distribution, Normal):
        tokens = rng.gauss(mean, distribution.cv * mean)
    elif isinstance(distribution, LogNormal):
        variance = math.log1p(distribution.cv**2)
        tokens = rng.lognormvariate(math.log(max(1, mean)) - variance / 2, math.sqrt(variance))
    else:
        tokens = quantile(distribution.table, rng.random())
        if distribution.scale:
            tokens *= mean / table_mean(distribution.table)
    return max(1, round(min(tokens, TOKENS.most)))


def quantile(table: tuple[tuple[float, float], ...], share: float) -> float:
    """The length below which `share` of all lie; flat beyond the ends of the table."""
    place = bisect_right(table, share, key=lambda row: row[0])
    if place == 0:
        return table[0][1]
    if place == len(table):
        return table[-1][1]
    (left, low), (right, high) = table[place - 1], table[place]
    return low + (high - low) * (share - left) / (right - left)


def table_mean(table: tuple[tuple[float, float], ...]) -> float:
    """Mean of what `quantile` returns for a uniform share: the area under the table."""
    inner = sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairwise(table))
    return table[0][0] * table[0][1] + inner + (1 - table[-1][0]) * table[-1][1]
