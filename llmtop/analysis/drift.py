"""Drift over a soak, and what a spike left behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmtop.analysis.fits import Array
from llmtop.analysis.sessions import Requests, StepFunction
from llmtop.analysis.stats import theil_sen
from llmtop.domain.verdicts import Drift
from llmtop.wording.figures import TEXT

MIN_SPAN_S = 120.0
MIN_WINDOWS = 10
MAX_WINDOWS = 120
SETTLED = 1.10
"""TTFT within this of what it was before counts as recovered."""
_HOUR = 3600.0


def drift_of(name: str, t_s: Array, values: Array) -> Drift | None:
    """Theil-Sen slope of one figure, as a share of its median per hour, with Sen's 95 % interval.

    `t_s` in seconds, one value a window. None for too short a run, or a figure that is zero throughout.
    """
    known = np.isfinite(values)
    t_s, values = t_s[known], values[known]
    if len(t_s) < MIN_WINDOWS or t_s[-1] - t_s[0] < MIN_SPAN_S:
        return None
    level = float(np.median(np.abs(values)))
    if level <= 0:
        level = float(np.mean(np.abs(values)))
    if level <= 0:
        return None
    slope, low, high = (_HOUR * each / level for each in theil_sen(t_s, values))
    significant = low > 0 or high < 0
    proven = "" if significant else ": none proven"
    text = f"{name} {TEXT.change(slope)}/h ({TEXT.change(low)} to {TEXT.change(high)}){proven}"
    return Drift(metric=name, per_hour=slope, low=low, high=high, significant=significant, text=text)


def windowed(t_s: Array, values: Array, pick: str, start_s: float, stop_s: float) -> tuple[Array, Array]:
    """One value a window over [start, stop]: `median`, `low` (10th percentile) or `sum`; NaN for empty windows."""
    count = int(np.clip((stop_s - start_s) / (MIN_SPAN_S / MIN_WINDOWS), MIN_WINDOWS, MAX_WINDOWS))
    edges = np.linspace(start_s, stop_s, count + 1)
    cell = np.searchsorted(edges, t_s, side="right") - 1
    result = np.full(count, math.nan)
    order = np.argsort(cell, kind="stable")
    bounds = np.searchsorted(cell[order], np.arange(count + 1))
    for i in range(count):
        inside = values[order[bounds[i] : bounds[i + 1]]]
        inside = inside[np.isfinite(inside)]
        if len(inside) >= (1 if pick == "sum" else 3):
            result[i] = _PICKS[pick](inside)
    return (edges[1:] + edges[:-1]) / 2, result


_PICKS: dict[str, Callable[[Array], float]] = {
    "median": lambda values: float(np.median(values)),
    "low": lambda values: float(np.quantile(values, 0.1)),
    "sum": lambda values: float(values.sum()),
}


def anchored(requests: Requests, in_flight: StepFunction) -> tuple[Requests, float | None]:
    """Requests that ran at the load that most ran at (within 15 %): drift is told against one level, never a ramp."""
    if len(requests.sent_s) < MIN_WINDOWS:
        return requests, None
    until = np.where(np.isfinite(requests.first_token_s), requests.first_token_s, requests.end_s)
    load = np.maximum(in_flight.mean(requests.sent_s, until), 0.5)
    cells = np.round(4 * np.log2(load)).astype(int)
    values, counts = np.unique(cells, return_counts=True)
    anchor = float(np.median(load[cells == values[np.argmax(counts)]]))
    near = np.abs(np.log(load / anchor)) < math.log(1.15)
    return requests.pick(near), anchor


@dataclass(frozen=True, slots=True)
class LoadSpike:
    """A jump of the commanded load and its return: base until `up_s`, peak until `down_s`, base again."""

    up_s: float
    down_s: float
    base: float
    peak: float


def spikes(t_s: Array, target: Array) -> tuple[LoadSpike, ...]:
    """Times at which the commanded load rose by half or more and came back to within 15 % of where it was."""
    found = []
    edges = np.flatnonzero(np.diff(target) != 0) + 1
    held = [(float(t_s[i]), float(target[i])) for i in np.concatenate([[0], edges])] if len(t_s) else []
    i = 1
    while i < len(held):
        base = held[i - 1][1]
        if base > 0 and held[i][1] >= 1.5 * base:
            back = next((j for j in range(i + 1, len(held)) if held[j][1] <= 1.15 * base), None)
            if back is None:
                break
            if held[back][1] >= 0.85 * base:
                peak = max(load for _, load in held[i:back])
                found.append(LoadSpike(held[i][0], held[back][0], base, peak))
            i = back
        i += 1
    return tuple(found)


def recovery_text(
    spike: LoadSpike, requests: Requests, waiting: tuple[Array, Array], kv_usage: tuple[Array, Array]
) -> str | None:
    """How long until TTFT was within 10 % of before, the queue empty and KV back; None: nothing to compare."""
    before = _window(requests, spike.up_s - max(10.0, spike.down_s - spike.up_s), spike.up_s)
    if len(before) < 5:
        return None
    usual = float(np.median(before))
    times = [
        _first_calm(requests.first_token_s, requests.ttft_s, spike.down_s, SETTLED * usual, needed=5),
        _first_calm(*waiting, spike.down_s, 0.5, needed=1),
    ]
    calm = _between(*kv_usage, spike.up_s - 10.0, spike.up_s)
    if len(calm):
        times.append(_first_calm(*kv_usage, spike.down_s, SETTLED * float(np.median(calm)) + 0.02, needed=1))
    moved = f"spike {TEXT.exact(spike.base)} to {TEXT.exact(spike.peak)}"
    known = [time for time in times if time is not None]
    if any(time == math.inf for time in known):
        return f"{moved}: not recovered by the end"
    took = max(known) - spike.down_s
    after = _window(requests, max(known), max(known) + max(10.0, spike.down_s - spike.up_s))
    left = f", TTFT {TEXT.change(float(np.median(after)) / usual - 1)} after it" if len(after) >= 5 else ""
    return f"{moved}: recovered {TEXT.duration(took)} after it (TTFT within 10 %, queue empty, KV back){left}"


def _window(requests: Requests, start_s: float, stop_s: float) -> Array:
    return _between(requests.sent_s, requests.ttft_s, start_s, stop_s)


def _between(t_s: Array, values: Array, start_s: float, stop_s: float) -> Array:
    chosen = values[(t_s >= start_s) & (t_s < stop_s)]
    return chosen[np.isfinite(chosen)]


def _first_calm(t_s: Array, values: Array, since_s: float, limit: float, needed: int) -> float | None:
    """When the median of `needed` successive values fell to the limit; inf: never; None: no values at all."""
    chosen = (t_s >= since_s) & np.isfinite(values)
    t_s, values = t_s[chosen], values[chosen]
    if len(values) < needed:
        return None
    order = np.argsort(t_s, kind="stable")
    runs = np.median(np.lib.stride_tricks.sliding_window_view(values[order], needed), axis=1)
    calm: npt.NDArray[np.intp] = np.flatnonzero(runs <= limit)
    return float(t_s[order][calm[0] + needed - 1]) if len(calm) else math.inf
