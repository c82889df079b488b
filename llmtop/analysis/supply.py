"""What one endpoint gives over its loads, by the levels that were measured, or as a twin foresees it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import MIN_REQUESTS, Level, are_embeddings
from llmtop.domain.bounds import GPUS
from llmtop.domain.foresight import Foresight
from llmtop.domain.load import Axis
from llmtop.meter.facts import Facts

Split = Literal["steps", "server", "ttft", "whole"]
"""By what the cost of input and output is told apart, as in `Costs`."""
_GPUS_TOLD = ("tensor_parallel_size", "tp_size")
"""Flags by which servers tell over how many GPUs each layer lies."""


@dataclass(frozen=True, slots=True)
class Served:
    """What one endpoint gives at one load; NaN: not known."""

    load: float
    requests_per_s: float
    output_per_s: float
    """Tokens of requests that ended well, as the next."""
    input_per_s: float
    e2e_s: float
    thinking: float
    """Share of the users who think."""

    def times(self, factor: float) -> Served:
        """The same at rates so many times as high."""
        rates = ("requests_per_s", "output_per_s", "input_per_s")
        return dataclasses.replace(self, **{rate: factor * getattr(self, rate) for rate in rates})

    def users(self, axis: Axis, think_time_s: float | None) -> float:
        """Real users: N (1 + Z / R) for N requests in flight, an E2E of R and a pause of Z."""
        if think_time_s is None:
            return self.load if axis == "concurrency" else math.nan
        in_flight = self.load * (1 - self.thinking) if axis == "concurrency" else self.load * self.e2e_s
        return in_flight * (1 + think_time_s / self.e2e_s)


@dataclass(frozen=True, slots=True, eq=False)
class Supply:
    """What one endpoint gives over its loads, as columns, the lowest load first; NaN: not known.

    It is interpolated between the levels, and never told beyond them.
    """

    load: Array
    requests_per_s: Array
    output_per_s: Array
    input_per_s: Array
    e2e_s: Array
    thinking: Array
    input_share: Array
    """Of the engine's time, what prompts take; more than 1: what was measured can not be that."""
    split: Split | None = None
    power_w: Array = field(default_factory=lambda: np.empty(0))
    gpus: int | None = None
    """That the server tells; None: it does not."""
    gpus_each: int = 1
    """Of one replica."""
    engines: Array = field(default_factory=lambda: np.empty(0))
    """Engines or replicas that shared the load."""
    scaled: bool = False
    """Their number changed while it was driven."""
    gpus_read: int = 0
    gpus_seen: int = 0
    cached: float | None = None

    def at(self, load: float) -> Served:
        """Rates go up from nothing in a straight line, and are flat past the highest load that was measured."""
        columns = (self.requests_per_s, self.output_per_s, self.input_per_s)
        requests, output, prompt = (self._rate(column, load) for column in columns)
        return Served(load, requests, output, prompt, self.mean("e2e_s", load), self.mean("thinking", load))

    def _rate(self, column: Array, load: float) -> float:
        known = np.isfinite(column)
        if not known.any():
            return math.nan
        return float(np.interp(load, np.append(0.0, self.load[known]), np.append(0.0, column[known])))

    def knows(self, name: str, load: float) -> bool:
        """Whether a column is known at the level nearest to a load."""
        known = np.isfinite(getattr(self, name))
        return bool(len(known) and known[np.argmin(np.abs(self.load - load))])

    def replicas(self, load: float | None) -> int | None:
        """How many carried a load, if their number changed; None: it did not, or it is not known."""
        if load is None or not self.scaled or not self.knows("engines", load):
            return None
        return int(self.engines[np.argmin(np.abs(self.load - load))])

    def mean(self, name: str, load: float) -> float:
        """What is no rate, on the straight line between the levels around."""
        column: Array = getattr(self, name)
        known = np.isfinite(column)
        return float(np.interp(load, self.load[: len(column)][known], column[known])) if known.any() else math.nan


def gpus_told(facts: Facts, traits: Sequence[tuple[str, str]]) -> int | None:
    """How many GPUs a server tells that it runs on, all its replicas together; None: it does not.

    A replica that does not say so runs on one.
    """
    told = next((text for name, text in traits if name in _GPUS_TOLD), "")
    each = int(told) if told.isascii() and told.isdecimal() and GPUS.holds(int(told)) else None
    replicas = _replicas(facts)
    return replicas * (each or 1) if each is not None or replicas > 1 else None


def _replicas(facts: Facts) -> int:
    """Engines or replicas that showed figures at the last scrape; one where nothing tells of several."""
    t_s = facts.server.column("t_s")
    return max(1, int((facts.replicas.column("t_s") == t_s[-1]).sum())) if len(t_s) else 1


def supply_of_run(facts: Facts, levels: Sequence[Level], gpus: int | None, *, by_ttft: bool = True) -> Supply:
    """What the levels of one configuration of a run tell.

    Args:
        gpus: that the server tells; None: it does not.
        by_ttft: whether TTFT is that of the server.
    """
    read, seen = (int(facts.power.column(name).max(initial=0)) for name in ("read", "gpus"))
    told = supply_of(
        levels, gpus=gpus, by_ttft=by_ttft, cached=_cached(facts), read=(read, seen), engines=partial(_engines, facts)
    )
    scaled = any(step.kind in ("ready", "gone") and not step.since for step in facts.scaling)
    return dataclasses.replace(told, scaled=scaled, gpus_each=(gpus or 1) // _replicas(facts) or 1)


def _engines(facts: Facts, level: Level) -> float:
    """Engines or replicas that showed figures while the requests of a level were sent; NaN: that is not known."""
    t_s, shown_s = facts.server.column("t_s"), facts.replicas.column("t_s")
    if not len(shown_s):
        return math.nan if any(step.replicas > 1 for step in facts.scaling) else 1.0
    there = np.searchsorted(shown_s, t_s, side="right") - np.searchsorted(shown_s, t_s, side="left")
    if len(level.sent_s):
        there = there[np.minimum(np.searchsorted(t_s, level.sent_s), len(t_s) - 1)]
    least, most = np.quantile(np.maximum(there, 1), (0.1, 0.9), method="nearest")
    return float(most) if least == most else math.nan


def supply_of(
    levels: Sequence[Level],
    *,
    gpus: int | None = None,
    by_ttft: bool = True,
    cached: float | None = None,
    read: tuple[int, int] = (0, 0),
    engines: Callable[[Level], float] = lambda _: 1.0,
) -> Supply:
    """What the levels of one configuration tell.

    Args:
        engines: that shared the load of a level, replicas too; NaN: not known.
        read: how many GPUs told their power, and of how many.
    """
    own = sorted((level for level in levels if level.n >= MIN_REQUESTS), key=lambda level: level.load)
    embeds = are_embeddings(own)
    shared = _column(engines(level) for level in own)
    split, shares = _shares(own, shared, embeds, by_ttft)
    return Supply(
        load=np.array([level.load for level in own]),
        requests_per_s=_column([level.requests_per_s for level in own]),
        output_per_s=_column([None if embeds else _sold(level) for level in own]),
        input_per_s=_column([_product(level.requests_per_s, level.prompt_tokens) for level in own]),
        e2e_s=_column([level.mean("e2e") for level in own]),
        thinking=np.array([level.thinking or 0.0 for level in own]),
        input_share=shares,
        split=split,
        engines=shared,
        power_w=_column([level.power_w for level in own]),
        gpus=gpus,
        gpus_read=read[0],
        gpus_seen=read[1],
        cached=cached,
    )


def _sold(level: Level) -> float | None:
    """Output tokens/s of requests that ended well: what a failed one has streamed is among those that were counted."""
    good = _product(level.requests_per_s, level.output_tokens)
    told = level.output_tokens_per_s
    if told is None or good is None or not level.errors:
        return told if told is not None else good
    return min(told, good)


def _shares(levels: Sequence[Level], engines: Array, embeds: bool, by_ttft: bool) -> tuple[Split | None, Array]:
    """By what the cost is split, and the share of the input at each level: seconds that prompts take a second, of those
    that the engines have.
    """
    if embeds:
        return "whole", np.ones(len(levels))
    split: Split = "server" if any(level.prefill_s is not None for level in levels) else "ttft"
    found = (_prompt_s(level, level.prefill_s) for level in levels)
    if split == "ttft":
        found = (_prompt_s(level, level.mean("ttft") if by_ttft else None) for level in levels)
    alone = next((prompt_s for prompt_s in found if prompt_s is not None), None)
    shares = _column(_product(level.requests_per_s, alone) for level in levels) / engines
    return (split if np.isfinite(shares).any() else None), shares


def _prompt_s(level: Level, prefill_s: float | None) -> float | None:
    """What a prompt adds to a step of the engine; at the lowest load few share it and nobody waits. None: not known."""
    tpot_s = level.samples("tpot")
    step_s = float(np.median(tpot_s)) if len(tpot_s) else 0.0
    return prefill_s - step_s if prefill_s is not None and prefill_s > step_s else None


def _cached(facts: Facts) -> float | None:
    """Share of the input tokens that came from the prefix cache: by the usage of requests, else as the server shows."""
    prompts, cached, ok = (facts.requests.column(name) for name in ("prompt_tokens", "cached_tokens", "ok"))
    known = (ok > 0) & np.isfinite(cached) & (prompts > 0)
    if known.any():
        return float(cached[known].sum() / prompts[known].sum())
    shown = facts.server.column("prefix_hit_ratio")
    shown = shown[np.isfinite(shown)]
    return float(shown.mean()) if len(shown) else None


def supply_foreseen(told: Foresight, gpus: int | None) -> Supply:
    """The same of what a twin foresees: of figures that nobody has measured."""
    points = sorted(told.points, key=lambda point: point.load)
    output = told.output_tokens or 0.0
    waits = [None if point.ttft_p50_ms is None else point.ttft_p50_ms.value / 1e3 for point in points]
    adds = (wait - point.tpot_p50_ms.value / 1e3 for wait, point in zip(waits, points, strict=True) if wait is not None)
    alone = next((prompt_s for prompt_s in adds if prompt_s > 0), None)
    paces = [(output - 1) * point.tpot_p50_ms.value / 1e3 for point in points]
    e2es = [None if wait is None else wait + pace for wait, pace in zip(waits, paces, strict=True)]
    rates = [point.requests_per_s.value for point in points]
    return Supply(
        load=np.array([point.load for point in points]),
        requests_per_s=np.array(rates),
        output_per_s=np.array([point.output_tokens_per_s.value for point in points]),
        input_per_s=_column([_product(rate, told.prompt_tokens) for rate in rates]),
        e2e_s=_column(e2es),
        thinking=np.zeros(len(points)),
        input_share=_column(_product(rate, alone) for rate in rates),
        split="ttft",
        gpus=gpus,
    )


def _product(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other


def _column(values: Iterable[float | None]) -> Array:
    return np.array([math.nan if value is None else value for value in values], dtype=float)
