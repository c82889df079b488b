"""Levels out of a session driven by hand: which load did each request really experience?

The load a request saw is the time-weighted number in flight over [sent - S, first token], S being the median time from
first to last token. Requests that saw it move (maximum above 1.4 minimum + 1) are transients and left out. In open loop
the level is the commanded rate, and windows in which an old queue drains are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY, MIN_REQUESTS, Level

STEADY_RATIO = 1.4
GRID = 3.0
"""Bins of the load a doubling."""
SHOWN_FROM = 5
_SNAP = 0.04
_HELD = 20
_MERGE = 0.08
"""Neighbouring bins closer than this are one level."""

Index = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


class StepFunction:
    """A step function of time: `values[i]` holds from `edges_s[i]` to `edges_s[i + 1]`, the last one for ever."""

    def __init__(self, edges_s: Array, values: Array) -> None:
        self.edges_s = edges_s
        self.values = values
        self._integral = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(edges_s))])
        self._low = _sparse(values, np.minimum)
        self._high = _sparse(values, np.maximum)

    @classmethod
    def of_intervals(cls, start_s: Array, stop_s: Array) -> StepFunction:
        """How many of the intervals hold at each time."""
        times = np.concatenate([start_s, stop_s])
        moves = np.concatenate([np.ones(len(start_s)), -np.ones(len(stop_s))])
        order = np.lexsort((moves, times))
        edges_s, first = np.unique(times[order], return_index=True)
        totals = np.add.reduceat(moves[order], first)
        return cls(edges_s, np.cumsum(totals))

    def at(self, t_s: Array) -> Array:
        return self.values[self._piece(t_s)]

    def mean(self, start_s: Array, stop_s: Array) -> Array:
        """Time-weighted mean over each [start, stop]; the value at `start` where the two are equal."""
        span = stop_s - start_s
        area = self._area(stop_s) - self._area(start_s)
        return np.where(span > 0, area / np.where(span > 0, span, 1.0), self.at(start_s))

    def bounds(self, start_s: Array, stop_s: Array) -> tuple[Array, Array]:
        """Smallest and largest value over each [start, stop]."""
        first, last = self._piece(start_s), self._piece(stop_s)
        power = np.frexp(last - first + 1)[1] - 1
        tail = last - (1 << power) + 1
        low = np.minimum(self._low[power, first], self._low[power, tail])
        high = np.maximum(self._high[power, first], self._high[power, tail])
        return low, high

    def _piece(self, t_s: Array) -> Index:
        return np.clip(np.searchsorted(self.edges_s, t_s, side="right") - 1, 0, len(self.edges_s) - 1)

    def _area(self, t_s: Array) -> Array:
        piece = self._piece(t_s)
        return np.asarray(self._integral[piece] + self.values[piece] * (t_s - self.edges_s[piece]))


def _sparse(values: Array, pick: np.ufunc) -> Array:
    """Sparse table: row p holds the extreme of each run of 2^p pieces."""
    rows = [values]
    size = 1
    while 2 * size <= len(values):
        before = rows[-1]
        row = before.copy()
        row[: len(values) - size] = pick(before[:-size], before[size:])
        rows.append(row)
        size *= 2
    return np.stack(rows)


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Finished requests as columns (seconds of the run clock), in order of sending."""

    sent_s: Array
    first_token_s: Array
    end_s: Array
    ttft_s: Array
    tpot_s: Array
    e2e_s: Array
    ok: Mask
    error: Mask
    prompt_tokens: Array
    output_tokens: Array

    def pick(self, chosen: Mask | Index) -> Requests:
        return Requests(*(getattr(self, name)[chosen] for name in self.__slots__))

    @property
    def service_s(self) -> float:
        """Median time from first to last token: S."""
        service = (self.e2e_s - self.ttft_s)[self.ok]
        service = service[np.isfinite(service)]
        return float(np.median(service)) if len(service) else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Gauges:
    """What the server showed, as columns over `t_s` (NaN: not known).

    `preemptions` are those since the sample before.
    """

    t_s: Array = field(default_factory=lambda: EMPTY)
    running: Array = field(default_factory=lambda: EMPTY)
    waiting: Array = field(default_factory=lambda: EMPTY)
    kv_usage: Array = field(default_factory=lambda: EMPTY)
    preemptions: Array = field(default_factory=lambda: EMPTY)

    def pick(self, chosen: Mask) -> Gauges:
        return Gauges(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """What the load did in each short interval that ended at `t_s`."""

    t_s: Array = field(default_factory=lambda: EMPTY)
    span_s: Array = field(default_factory=lambda: EMPTY)
    ok: Array = field(default_factory=lambda: EMPTY)
    output_tokens: Array = field(default_factory=lambda: EMPTY)

    def pick(self, chosen: Mask) -> Progress:
        return Progress(*(getattr(self, name)[chosen] for name in self.__slots__))


NO_GAUGES = Gauges()
NO_PROGRESS = Progress()


def session_levels(
    requests: Requests,
    in_flight: StepFunction,
    *,
    gauges: Gauges = NO_GAUGES,
    progress: Progress = NO_PROGRESS,
    censored_s: Array = EMPTY,
    now_s: float | None = None,
    jitter: float = 0.0,
    asked: StepFunction | None = None,
) -> tuple[Level, ...]:
    """Levels of a closed-loop session, lowest first.

    Args:
        requests: finished ones of one configuration.
        in_flight: requests in flight over time, those still unfinished included.
        censored_s: ages at `now_s` of requests that still wait for their first token.
        asked: requests in flight that were commanded; a level that is there within 4 % bears that number.
        jitter: times sqrt(load) that the number in flight may move by itself (users who think between requests).
    """
    if len(requests.sent_s) == 0:
        return ()
    service_s = requests.service_s
    begin = requests.sent_s - service_s
    until = np.where(np.isfinite(requests.first_token_s), requests.first_token_s, requests.end_s)
    low, high = in_flight.bounds(begin, until)
    load = in_flight.mean(begin, until)
    steady = (high <= STEADY_RATIO * low + 1 + jitter * np.sqrt(load)) & (begin >= in_flight.edges_s[0])
    kept, load = requests.pick(steady), load[steady]
    wanted = None if asked is None else asked.mean(begin[steady], until[steady])
    levels = []
    for chosen in _groups(load, wanted):
        middle = float(np.median(load[chosen]))
        command = None if wanted is None else float(np.median(wanted[chosen]))
        if command is not None and abs(middle - command) <= _SNAP * command:
            middle = command
        level = _level(middle, kept.pick(chosen))
        if level is not None:
            levels.append(replace(level, asked=command))
    levels.sort(key=lambda level: level.load)
    if not levels:
        return ()
    if len(censored_s) and now_s is not None:
        levels = _with_censored(levels, censored_s, in_flight, service_s, now_s)
    loads = np.array([level.load for level in levels])
    seen = _assigned(gauges.t_s, loads, in_flight, service_s, jitter)
    done = _assigned(progress.t_s, loads, in_flight, service_s, jitter)
    return tuple(
        with_progress(with_gauges(level, gauges.pick(seen == i)), progress.pick(done == i))
        for i, level in enumerate(levels)
    )


def _groups(load: Array, wanted: Array | None) -> list[Index]:
    """Members of each level: those of a load that was held, and the rest in bins of a 2^(1/3) grid.

    A load was held if it was commanded and there, within 4 %, for at least twenty requests. Requests on the way to or
    from such a load (within one bin of it) say less than it does, and are left out. Neighbouring bins of the same load
    are one.
    """
    groups: list[Index] = []
    rest = np.arange(len(load))
    if wanted is not None:
        there = np.abs(load - wanted) <= _SNAP * wanted
        commands, counts = np.unique(np.round(wanted[there], 6), return_counts=True)
        held = commands[counts >= _HELD]
        groups = [np.flatnonzero(there & (np.round(wanted, 6) == command)) for command in held]
        rest = np.flatnonzero(~(there & np.isin(np.round(wanted, 6), held)))
    cells = np.round(GRID * np.log2(np.maximum(load[rest], 0.5))).astype(int)
    bins: list[Index] = []
    last = 0.0
    for cell in np.unique(cells):
        members = rest[cells == cell]
        middle = float(np.median(load[members]))
        if bins and middle < (1 + _MERGE) * last:
            bins[-1] = np.concatenate([bins[-1], members])
        else:
            bins.append(members)
        last = middle
    loads = np.array([np.median(load[members]) for members in groups])
    return groups + [members for members in bins if not _near(float(np.median(load[members])), loads)]


def _near(load: float, others: Array) -> bool:
    return bool(np.any(np.abs(np.log(others / load)) < np.log(2) / GRID))


def _level(load: float, members: Requests) -> Level | None:
    ok = members.pick(members.ok)
    errors = int(members.error.sum())
    if len(ok.sent_s) + errors < MIN_REQUESTS or load <= 0:
        return None
    mean = float(np.mean(ok.e2e_s)) if len(ok.e2e_s) else 0.0
    rate = load / mean if mean > 0 else None
    answer = float(np.mean(ok.output_tokens)) if len(ok.output_tokens) else None
    return Level(
        load=load,
        ttft_s=ok.ttft_s,
        tpot_s=ok.tpot_s,
        e2e_s=ok.e2e_s,
        errors=errors,
        requests_per_s=rate,
        output_tokens_per_s=None if rate is None or answer is None else rate * answer,
        prompt_tokens=float(np.mean(ok.prompt_tokens)) if len(ok.prompt_tokens) else None,
        output_tokens=answer,
    )


def _assigned(t_s: Array, loads: Array, in_flight: StepFunction, service_s: float, jitter: float) -> Index:
    """Which level each instant belongs to: the nearest within half a bin, if the load was steady for S; else -1."""
    if len(t_s) == 0:
        return np.empty(0, dtype=np.intp)
    begin = t_s - service_s
    low, high = in_flight.bounds(begin, t_s)
    load = np.maximum(in_flight.mean(begin, t_s), 1e-9)
    distance = np.abs(np.log(load[:, None] / loads))
    nearest = np.argmin(distance, axis=1)
    near = distance[np.arange(len(load)), nearest] <= np.log(2) / (2 * GRID)
    steady = (high <= STEADY_RATIO * low + 1 + jitter * np.sqrt(load)) & (begin >= in_flight.edges_s[0])
    return np.where(near & steady, nearest, -1)


def with_gauges(level: Level, gauges: Gauges) -> Level:
    """The level with what the server showed meanwhile.

    Running is a median (pinned to the slots in most polls means the slots bind), waiting a mean, KV usage a 90th
    percentile.
    """
    if len(gauges.t_s) == 0:
        return level
    preemptions = gauges.preemptions
    kv_usage = gauges.kv_usage[np.isfinite(gauges.kv_usage)]
    return replace(
        level,
        running=_median(gauges.running),
        waiting=_mean(gauges.waiting),
        kv_usage=float(np.quantile(kv_usage, 0.9)) if len(kv_usage) else None,
        preemptions=float(np.nansum(preemptions)) if np.isfinite(preemptions).any() else None,
    )


def with_progress(level: Level, progress: Progress) -> Level:
    """The level with the throughput measured meanwhile, if that was long enough (three E2E) to hold no ends."""
    span_s = float(progress.span_s.sum())
    mean = level.mean("e2e")
    if mean is None or span_s < 3 * mean or progress.ok.sum() < MIN_REQUESTS:
        return level
    return replace(
        level,
        requests_per_s=float(progress.ok.sum()) / span_s,
        output_tokens_per_s=float(progress.output_tokens.sum()) / span_s,
    )


def _with_censored(
    levels: Sequence[Level], censored_s: Array, in_flight: StepFunction, service_s: float, now_s: float
) -> list[Level]:
    """Hand the ages of requests without a first token to the level that they are waiting in."""
    begin = np.array([now_s - censored_s.max() - service_s])
    load = float(in_flight.mean(begin, np.array([now_s]))[0])
    loads = np.array([level.load for level in levels])
    nearest = int(np.argmin(np.abs(np.log(max(load, 1e-9) / loads))))
    if not 1 / STEADY_RATIO < load / loads[nearest] < STEADY_RATIO:
        return list(levels)
    return [replace(level, censored_s=censored_s) if i == nearest else level for i, level in enumerate(levels)]


def _median(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _mean(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
