"""Figures of one load on two sides, and how well each is known.

Requests of one level are not independent: users fall into step, and one long answer delays many. So the spread of a
figure is taken from blocks of requests that follow each other (delete-a-block jackknife; Miller, Biometrika 61, 1974).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Literal

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import Level, Stated
from llmtop.analysis.sides import Side
from llmtop.domain.slo import Latency, Stat

BLOCKS = 10
FEWEST = 5 * BLOCKS
"""Requests of a level; fewer on one side say nothing of a difference: with two or three in a block its spread is luck.
Of sixty pairs of equal runs of 20 s a level, compared from twenty requests on, six came out different."""
DEPENDENT = 2.0
"""Where only statistics are told: so much wider are they than those of requests of which none follows another, as if
one in four told something new. Users in step, and a queue that stands, are seen in the requests alone."""
FEWEST_P95 = 120

Kind = Literal["time", "rate", "share", "gauge"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that is compared: of times and shares less is better, of rates more."""

    name: str
    kind: Kind
    latency: Latency | None = None
    q: float = 0.5

    @property
    def sign(self) -> int:
        """Of a change for the better."""
        return 1 if self.kind == "rate" else -1

    @property
    def relative(self) -> bool:
        """Whether changes are shares of what was before; else they are points."""
        return self.kind in ("time", "rate")


METRICS = (
    Metric("ttft_p50", "time", "ttft"),
    Metric("ttft_p95", "time", "ttft", 0.95),
    Metric("tpot_p50", "time", "tpot"),
    Metric("tpot_p95", "time", "tpot", 0.95),
    Metric("e2e_p50", "time", "e2e"),
    Metric("output_tokens_per_s", "rate"),
    Metric("error_ratio", "share"),
    Metric("kv_usage", "gauge"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """Milliseconds, tokens/s or a share; `se` of its logarithm or of the share, None: not known."""

    value: float
    se: float | None = None
    n: int = 0
    """Requests that `se` rests on; 0: it needs no others."""
    freedom: float = math.inf
    """Degrees of it, that `se` is known by."""
    by_chance: bool = False
    """Without `se`, and no two runs have it alike."""


Pair = tuple[Figure | None, Figure | None]


@dataclass(frozen=True, slots=True)
class Row:
    load: float
    n: tuple[int, int]
    pairs: tuple[Pair, ...]
    """In the order of `METRICS`."""


def common_rows(before: Side, after: Side) -> tuple[Row, ...]:
    """Every load that both have, one of them perhaps between two that it measured."""
    known = [{level.load: level for level in side.levels} for side in (before, after)]
    chances = [_chance(side) for side in (before, after)]
    rows = []
    for load in sorted({*known[0], *known[1]}):
        found = [_figures(levels, load, chance) for levels, chance in zip(known, chances, strict=True)]
        if found[0] is None or found[1] is None:
            continue
        n = tuple(levels[load].n + levels[load].errors if load in levels else 0 for levels in known)
        rows.append(Row(load, (n[0], n[1]), tuple(zip(found[0], found[1], strict=True))))
    return tuple(rows)


def _chance(side: Side) -> float | None:
    """Variance of the number of arrivals, a request; None: users send when they were answered, theirs is no chance."""
    if side.axis == "concurrency":
        return None
    return 1.0 if side.point is None else 1 / side.point.burstiness


def _figures(levels: dict[float, Level], load: float, chance: float | None) -> tuple[Figure | None, ...] | None:
    """The figures at a load, in the order of `METRICS`; None: it was not measured, nor what lies on both sides."""
    if load in levels:
        return _measured(levels[load], chance)
    for low, high in pairwise(sorted(levels)):
        if low < load < high:
            share = (load - low) / (high - low)
            ends = zip(METRICS, _measured(levels[low], chance), _measured(levels[high], chance), strict=True)
            return tuple(_between(metric, one, other, share) for metric, one, other in ends)
    return None


def _measured(level: Level, chance: float | None) -> tuple[Figure | None, ...]:
    return level.remembered(("compared", chance), lambda: tuple(_figure(level, metric, chance) for metric in METRICS))


def steadied_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """With the spread of ten blocks, which is itself known to a quarter only, at least that of all levels together."""

    def steadied(figure: Figure | None, variance: float) -> Figure | None:
        if figure is None or figure.se is None or not figure.n:
            return figure
        of_all = math.sqrt(variance / figure.n)
        if of_all <= figure.se:
            return figure
        return dataclasses.replace(figure, se=of_all, freedom=figure.freedom * 2 * len(rows))

    variances = []
    for at in range(len(METRICS)):
        figures = [figure for row in rows for figure in row.pairs[at] if figure is not None and figure.se is not None]
        each = [figure.se**2 * figure.n for figure in figures if figure.se is not None and figure.n]
        variances.append(sum(each) / len(each) if each else 0.0)
    return tuple(
        Row(
            row.load,
            row.n,
            tuple((steadied(a, v), steadied(b, v)) for (a, b), v in zip(row.pairs, variances, strict=True)),
        )
        for row in rows
    )


def _between(metric: Metric, low: Figure | None, high: Figure | None, share: float) -> Figure | None:
    """A figure between two that were measured, on a straight line, of its logarithm where it has one.

    It is as little known as the worse of the two, and besides by how far it lies from both: figures bend between loads,
    most of all where a server has no free slot left, and all that is sure is that they lie between those at the ends.
    """
    if low is None or high is None:
        return None
    of_log = metric.relative and low.value > 0 and high.value > 0
    start, end = (math.log(low.value), math.log(high.value)) if of_log else (low.value, high.value)
    value = (1 - share) * start + share * end
    bend = max(share, 1 - share) * abs(end - start) / math.sqrt(3)  # the deviation of what is anywhere within
    se = None if low.se is None or high.se is None else math.hypot(max(low.se, high.se), bend)
    return Figure(math.exp(value) if of_log else value, se, 0, min(low.freedom, high.freedom), by_chance=True)


def _figure(level: Level, metric: Metric, chance: float | None) -> Figure | None:
    match metric.name:
        case "error_ratio":
            ended = level.n + level.textless + level.errors
            if level.given is not None or not ended:
                return None
            share = (level.errors + 0.5) / (ended + 1)
            return Figure(level.error_ratio, math.sqrt(share * (1 - share) / (ended + 1)))
        case "kv_usage":
            varies = chance is not None or bool(level.thinking)
            return None if level.kv_usage is None else Figure(level.kv_usage, by_chance=varies)
        case "output_tokens_per_s":
            return _tokens_per_s(level, chance)
    assert metric.latency is not None
    if level.stated is not None:
        return _stated(level.stated, metric.latency, "p95" if metric.q > 0.5 else "p50")
    values = level.samples(metric.latency)
    values = values[values > 0]
    if not len(values):
        return None
    q = metric.q
    value = float(np.quantile(values, q))
    known = level.statistic(metric.latency, "p95" if q > 0.5 else "p50")
    if known is None or len(values) < (FEWEST_P95 if q > 0.5 else FEWEST):
        return Figure(value * 1e3)
    spread = _jackknife(values, lambda part: math.log(float(np.quantile(part, q))))
    return Figure(value * 1e3, max(spread, known.se), len(values), BLOCKS - 1)


def _stated(stated: Stated, latency: Latency, stat: Stat) -> Figure | None:
    """What a table tells of a latency; its requests are gone, and with them how they hang together."""
    value = stated.figure(latency, stat)
    if value is None or value <= 0:
        return None
    known = stated.statistic(latency, stat)
    if known is None or stated.n < (FEWEST_P95 if stat == "p95" else FEWEST):
        return Figure(value * 1e3)
    return Figure(value * 1e3, DEPENDENT * known.se, stated.n)


def _tokens_per_s(level: Level, chance: float | None) -> Figure | None:
    """As it was counted by time; its spread is that of the tokens that a request makes in a second of its life.

    Where requests come by themselves it is what happened to come: their number and their tokens (a compound Poisson
    sum, or that of arrivals as regular as `chance`), whatever the server did.
    """
    value = level.output_tokens_per_s
    if value is None or value <= 0:
        return None
    e2e_s, tpot_s, ttft_s = level.e2e_s, level.tpot_s, level.ttft_s
    if not len(e2e_s) == len(tpot_s) == len(ttft_s):
        return Figure(value)
    whole = np.isfinite(e2e_s) & np.isfinite(tpot_s) & (tpot_s > 0)
    if whole.sum() < FEWEST:
        return Figure(value)
    tokens = 1 + (e2e_s[whole] - ttft_s[whole]) / tpot_s[whole]
    if chance is not None:
        relative = float(tokens.std() / tokens.mean())
        return Figure(value, math.sqrt((chance + relative**2) / len(tokens)), len(tokens))
    pairs = np.stack([tokens, e2e_s[whole]], axis=1)
    spread = _jackknife(pairs, lambda part: math.log(float(part[:, 0].sum() / part[:, 1].sum())))
    return Figure(value, spread, len(pairs), BLOCKS - 1)


def _jackknife(values: Array, statistic: Callable[[Array], float]) -> float:
    """Standard error of a statistic of dependent values, in the order in which they came."""
    blocks = np.array_split(np.arange(len(values)), BLOCKS)
    without = np.array([statistic(np.delete(values, block, axis=0)) for block in blocks])
    return math.sqrt((BLOCKS - 1) / BLOCKS * float(((without - without.mean()) ** 2).sum()))


def student(share: float, freedom: float) -> float:
    """Quantile of Student's t, by the expansion of Fisher and Cornish (Technometrics 2, 1960) around the normal one."""
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
