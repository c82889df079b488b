"""How a server serves: its times as straight lines over the requests that it runs at once, fitted to measured levels.

While nothing waits, time to first token, time per output token and the time in a slot grow in straight lines with the
requests that run: each of them adds its KV reads and its share of everybody's prefill to a step. Once the server runs
all that it can, these times stand still, and only the wait in the queue grows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import Level
from llmtop.domain.load import Axis
from llmtop.domain.slo import LATENCIES, Latency, Slo, SloTarget

MIN_SAMPLES = 10
"""Requests below which a level is no point of a line: a tail needs more, but a line has its tail from the busy levels,
and the low levels of a search are as thin as this."""
SPREAD = 1.5
"""Highest over lowest running from which two levels make a line: closer ones, and its slope is noise."""
WAIT_TAIL = 1.15
"""A statistic of the wait over its mean where no queue was measured: in a closed loop all wait about equally long."""
_MANY = 400.0
"""Requests from which a level counts no more: what is left is no noise of single requests."""
_CALM = 0.03
"""Share of E2E below which a mean wait is none."""
_SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds over running requests: a straight line, or one that bends upwards; never falls."""

    at_zero: float
    slope: float
    bend: float = 0.0

    def __call__(self, running: Array | float) -> Array:
        x = np.asarray(running, dtype=float)
        return np.asarray(self.at_zero + (self.slope + self.bend * x) * x)

    def times(self, factor: float) -> Line:
        return Line(self.at_zero * factor, self.slope * factor, self.bend * factor)

    def reaches(self, limit_s: float) -> float:
        """How many requests run when it reaches a limit; inf: never."""
        room = limit_s - self.at_zero
        if room < 0:
            return 0.0
        if self.bend > 0:
            return (math.sqrt(self.slope**2 + 4 * self.bend * room) - self.slope) / (2 * self.bend)
        return room / self.slope if self.slope > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Felt:
    """One latency limit: its statistic over running requests while nothing waits, and by how much a mean wait adds."""

    target: SloTarget
    line: Line
    wait: float
    """Seconds that the statistic grows by a second of mean wait; 0 for TPOT."""


@dataclass(frozen=True, slots=True)
class Service:
    """What the levels tell of the server."""

    felt: tuple[Felt, ...]
    slot_s: Line
    """Mean time that a request holds its slot."""
    outside_s: float
    """Mean time that it is neither in a slot nor in the queue: on the wire and in the server's front end."""
    most_running: float
    """Highest number of running requests that was measured."""
    plateau: float | None
    """Running requests while others wait: all that the server runs at once; None: nothing waited."""

    def rate(self, running: Array) -> Array:
        """Requests/s with so many running all the time."""
        return running / self.slot_s(running)


def service_of(levels: Sequence[Level], slo: Slo, axis: Axis, knee: float | None) -> Service | str:
    """The lines behind the levels of one curve; a text: which measurement is missing.

    Args:
        knee: where the queue surely begins, for servers that do not show what they run.
    """
    targets = [target for target in slo.targets if target.metric in LATENCIES]
    if not targets:
        return "the SLO has no latency limit"
    if any(level.thinking for level in levels):
        return "users who think are not all in flight"
    seen = [each for level in levels if (each := _seen(level, axis, knee)) is not None]
    if not seen and any(level.broken for level in levels):
        return "requests fail at every level"
    if not seen and any(level.n >= MIN_SAMPLES for level in levels):
        return f"how long single requests take: the levels have no e2e_s{'' if axis == 'concurrency' else ' and X_rps'}"
    if not seen:
        return f"no level has {MIN_SAMPLES} requests"
    if knee is None and all(each.level.running is None for each in seen):
        return "what the server runs at once: it shows no gauges, and no cliff is sure"
    running = np.array([each.running for each in seen])
    lower = max(1, round(running.min() / 2))
    if running.max() < SPREAD * running.min():
        return f"how latency grows with load: measure a level at {lower} in flight"
    calm = [each for each in seen if each.wait_s <= _CALM * each.e2e_s]
    if len(calm) < 2 or max(each.running for each in calm) < SPREAD * min(each.running for each in calm):
        return f"how latency grows while nothing waits: measure a level at {lower} in flight"
    queued = [each for each in seen if each.wait_s > _CALM * each.e2e_s]
    slots_s = [each.e2e_s - each.wait_s - each.outside_s for each in seen]
    return Service(
        felt=tuple(_felt(target, seen, calm, queued) for target in targets),
        slot_s=_fit([each.running for each in seen], slots_s, [each.n for each in seen]),
        outside_s=float(np.median([each.outside_s for each in seen])),
        most_running=float(running.max()),
        plateau=max((each.running for each in queued), default=None),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    level: Level
    running: float
    wait_s: float
    e2e_s: float
    outside_s: float
    n: int


def _seen(level: Level, axis: Axis, knee: float | None) -> _Seen | None:
    """One level as (running, mean wait, times); None where it says too little."""
    e2e_s = level.mean("e2e")
    if not level.has_samples or level.broken or level.n < MIN_SAMPLES or not e2e_s:
        return None
    closed = axis == "concurrency"
    rate = level.load / e2e_s if closed else level.requests_per_s
    if not rate:
        return None
    inside = rate * e2e_s
    if level.running is not None:
        running, waiting = level.running, level.waiting or 0.0
    else:
        running = min(inside, knee) if knee is not None and closed else inside
        waiting = inside - running
    if running <= 0:
        return None
    wait_s = min(waiting / rate, e2e_s)
    return _Seen(level, running, wait_s, e2e_s, max(0.0, e2e_s - wait_s - running / rate), level.n)


def _felt(target: SloTarget, seen: Sequence[_Seen], calm: Sequence[_Seen], queued: Sequence[_Seen]) -> Felt:
    if target.metric == "tpot":
        return Felt(target, _tpot_line(target, seen), 0.0)
    metric: Latency = "ttft" if target.metric == "ttft" else "e2e"
    line = _fit(*_points(target, metric, calm))
    tails = [(_of_level(each.level, metric, target) - float(line(each.running))) / each.wait_s for each in queued]
    return Felt(target, line, max(1.0, float(np.median(tails))) if tails else WAIT_TAIL)


def _points(target: SloTarget, metric: Latency, seen: Sequence[_Seen]) -> tuple[list[float], list[float], list[int]]:
    values = [(each.running, each.level, each.n) for each in seen]
    values = [each for each in values if len(each[1].samples(metric)) >= MIN_SAMPLES // 2]
    return (
        [running for running, _, _ in values],
        [_of_level(level, metric, target) for _, level, _ in values],
        [n for _, _, n in values],
    )


def _of_level(level: Level, metric: Latency, target: SloTarget) -> float:
    return level.remembered((metric, target.stat, "as limited"), lambda: statistic(level.samples(metric), target))


def _tpot_line(target: SloTarget, seen: Sequence[_Seen]) -> Line:
    """The line of the mean, times what the statistic is above it: a mean is known far better than a tail.

    The tail is that of the busier half: there the limit is reached.
    """
    running, means, counts = [], [], []
    for each in seen:
        samples = each.level.samples("tpot")
        if len(samples):
            running.append(each.running)
            means.append(float(samples.mean()))
            counts.append(len(samples))
    if not running:
        return Line(0.0, 0.0)
    line = _fit(running, means, counts)
    busy = [each.level.samples("tpot") for each in seen if each.running >= max(running) / 2]
    ratios = np.concatenate([samples / samples.mean() for samples in busy if len(samples)])
    tail = statistic(ratios, target)
    return line.times(tail)


def _fit(running: Sequence[float], values: Sequence[float], counts: Sequence[int]) -> Line:
    """Least squares, weighted by requests and by running: the line is asked about the busy end.

    Bent upwards where that fits better: compute takes over from memory bandwidth as a batch grows.
    """
    x, y = np.array(running, dtype=float), np.array(values, dtype=float)
    if len(x) == 0:
        return Line(0.0, 0.0)
    weights = np.sqrt(np.sqrt(np.minimum(np.array(counts, dtype=float), _MANY)) * x)
    for powers in ((0, 1, 2), (0, 1), (0, 2), (0,)):
        if len(np.unique(x)) < len(powers) + (2 in powers):
            continue
        columns = np.stack([x**power for power in powers], axis=1) * weights[:, None]
        found = dict(zip(powers, np.linalg.lstsq(columns, y * weights, rcond=None)[0].tolist(), strict=True))
        if min(found.values()) >= 0:
            return Line(found[0], found.get(1, 0.0), found.get(2, 0.0))
    return Line(float(np.median(y)), 0.0)


def statistic(values: Array, target: SloTarget) -> float:
    """The percentile that a limit is set for, or the mean."""
    share = _SHARES.get(target.stat or "p95")
    return float(values.mean()) if share is None else float(np.quantile(values, share))
