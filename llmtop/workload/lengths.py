"""Lengths drawn from a distribution, in tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from random import Random

from llmtop.domain.bounds import TOKENS
from llmtop.domain.profile import Fixed, LengthDistribution, LogNormal, Normal, length_means


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


MOST_PAIRS = 10_000
"""Of one sample: to put them into a new order takes 5 ms of the loop that sends."""


class Pairs:
    """Prompt and answer lengths that are drawn together, in a new order each lap: after a lap each was drawn once, so
    that even a short load has the quantiles of the sample.

    Args:
        pairs: of prompt and output tokens, one at least.
        seed: of the orders.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]], seed: int) -> None:
        self._pairs = pairs
        self._seed = seed
        self._means = length_means(pairs)
        self._order: list[int] = []
        self._lap = -1

    def too_long(self, most: int | None) -> tuple[str, ...]:
        """What is to be said where some are longer than the `most` tokens of a model; None: it has no bound."""
        count = 0 if most is None else sum(prompt + output > most for prompt, output in self._pairs)
        if not count:
            return ()
        return (f"{count:,} of {len(self._pairs):,} pairs of lengths are cut to the {most:,} tokens of the model",)

    def draw(self, index: int, prompt_tokens: int, output_tokens: int) -> tuple[int, int]:
        """The pair of the `index`th request, scaled as the load point's lengths are to the sample's means."""
        lap, place = divmod(index, len(self._pairs))
        if lap != self._lap:
            self._lap, self._order = lap, list(range(len(self._pairs)))
            Random(f"lengths {self._seed} {lap}").shuffle(self._order)
        prompt, output = self._pairs[self._order[place]]
        return _scaled(prompt, prompt_tokens, self._means[0]), _scaled(output, output_tokens, self._means[1])


def _scaled(tokens: int, asked: int, mean: int) -> int:
    return round(min(max(1, tokens * asked / mean), TOKENS.most)) if asked != mean else tokens
