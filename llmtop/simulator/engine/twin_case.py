"""A question put to a twin, and the figures of its answer: how requests lie about the means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, hypot, inf

from llmtop.simulator.engine.twin_levels import LENGTH_APART, LOAD_APART, Level, clusters, near
from llmtop.simulator.engine.twin_serving import Server, Shape, State
from llmtop.simulator.engine.twin_words import Measured


@dataclass(frozen=True, slots=True)
class Queue:
    """What makes one wait for a slot longer than another."""

    sway: float
    """Standard deviation of the requests at once: a KV cache holds more of short requests than of long ones."""
    irregular: float
    """Deviation over the mean, of the time between two departures."""

    def more(self, state: State, cap: float) -> float:
        """Departures that are waited for at the 95th percentile beyond the mean."""
        below = max(cap - state.running, 0.0)
        spread = hypot(self.irregular * state.waiting**0.5, self.sway)
        return max(_LATE * spread - below, 0.0)


_LATE = 1.645
"""Standard deviations over the mean, of the 95th percentile of a wait for many departures."""


_UNEVEN, _UNEVEN_LENGTHS = 0.9, 3.0
"""Roots of those who wait by which fewer of them may hold a limit, and so many for each standard deviation of E2E over
its mean: answers do not end in an even beat, and the tail of a short wait is far above its mean. By simulated servers,
with lengths of a cv of 0.3 and of 1.0."""


def fewer_may_wait(waiting: float, spread: float) -> float:
    """By how many of those who wait a number of users at a limit may be too high.

    Args:
        spread: standard deviation of E2E over its mean.
    """
    return float(max(_UNEVEN, _UNEVEN_LENGTHS * spread) * max(0.0, waiting) ** 0.5)


@dataclass(frozen=True, slots=True)
class Case:
    """The server as it is asked about, and with what requests."""

    server: Server
    fewer: Server
    more: Server
    """With what the KV cache may hold less or more than is reckoned; the same where it does not bind."""
    shape: Shape
    output: float
    kv_tokens: float | None
    slots: float
    by_slots: bool
    """It is the slots that let no more in."""
    seen: float
    """Requests at once that were measured, of such a length."""
    between: bool
    """Prompts of this length were not measured, but shorter and longer ones."""
    spreads: tuple[Spread, ...]
    queue: Queue


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles over the mean, of the requests of one level."""

    running: float
    ttft_p50: float
    ttft_p95: float
    tpot_p50: float
    tpot_p95: float


def spreads_of(levels: Sequence[Level]) -> tuple[Spread, ...]:
    """By how much ran at once; of levels where some waited only if there are no others."""
    free = [level for level in levels if not level.queued] or levels
    return tuple(sorted((_spread(level) for level in free), key=lambda spread: spread.running))


def _spread(level: Level) -> Spread:
    m = level.measured
    return Spread(
        level.running,
        (m.ttft_p50_s or m.ttft_s) / m.ttft_s,
        (m.ttft_p95_s or m.ttft_s) / m.ttft_s,
        (m.tpot_p50_s or m.tpot_s) / m.tpot_s,
        (m.tpot_p95_s or m.tpot_s) / m.tpot_s,
    )


@dataclass(frozen=True, slots=True)
class Side:
    """A state, and the times that requests see in it."""

    state: State
    tpot_s: float
    first_s: float
    cap: float
    spread: Spread
    queue: Queue

    def seconds(self, metric: str, statistic: str) -> float:
        ratio: float = getattr(self.spread, f"{metric}_{statistic}")
        if metric == "tpot":
            return ratio * self.tpot_s
        wait_s = self.state.wait_s
        if statistic == "p50" or wait_s == inf:
            return ratio * self.first_s + wait_s
        late_s = self.queue.more(self.state, self.cap) / self.state.requests_per_s
        return self.first_s + wait_s + hypot((ratio - 1.0) * self.first_s, late_s)


def of_length(levels: Sequence[Level], prompt: float) -> list[Level]:
    """Those with prompts of about that length."""
    pairs = ((level, level.measured.prompt_tokens) for level in levels)
    return [level for level, own in pairs if max(own, prompt) < LENGTH_APART * min(own, prompt)]


def seen_with(levels: Sequence[Level], shape: Shape) -> float:
    """The most requests at once that were measured; fewer of longer ones, which read back as many tokens."""
    busiest = max(levels, key=lambda level: level.running)
    if shape.context <= LENGTH_APART * busiest.shape.context:
        return busiest.running
    return max(level.running * min(level.shape.context / shape.context, 1.0) for level in levels)


def typical(levels: Sequence[Level]) -> Measured:
    """The last level, with the lengths that all levels of its kind have on the mean: those of one vary by chance."""
    last = levels[-1].measured
    same = [one for level in levels if near(one := level.measured, last)]
    requests = sum(one.n for one in same)
    prompt, output = (
        sum(one.n * getattr(one, name) for one in same) / requests for name in ("prompt_tokens", "output_tokens")
    )
    return replace(last, prompt_tokens=prompt, output_tokens=output)


def lengths_of(levels: Sequence[Level], name: str) -> tuple[float, float]:
    """The shortest and the longest mean that two loads were measured with."""
    means = [getattr(level.measured, name) for level in levels]
    wide = []
    for group in clusters(means, LENGTH_APART):
        loads = [level.decoding for level, mean in zip(levels, means, strict=True) if mean in group]
        if len(clusters(loads, LOAD_APART)) > 1:
            wide += group
    return (min(wide), max(wide)) if wide else (inf, -inf)


def spread_at(running: float, spreads: Sequence[Spread]) -> Spread:
    """Between the levels beside, of those in rising order; that of the first or the last where there is none."""
    after = next((i for i, spread in enumerate(spreads) if spread.running > running), len(spreads))
    if after in (0, len(spreads)):
        return spreads[min(after, len(spreads) - 1)]
    low, high = spreads[after - 1], spreads[after]
    share = (running - low.running) / (high.running - low.running)
    return Spread(*(getattr(low, n) + share * (getattr(high, n) - getattr(low, n)) for n in Spread.__slots__))


def most_that(holds: Callable[[float], bool], edge: float, grain: float) -> float:
    """The most load up to `edge` that holds, to a grain, by halving."""
    if holds(edge):
        return edge
    low, high = 0, ceil(edge / grain)
    while high - low > 1:
        halfway = (low + high) // 2
        low, high = (halfway, high) if holds(halfway * grain) else (low, halfway)
    return low * grain
