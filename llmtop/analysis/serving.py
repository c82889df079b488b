"""What one server would carry with fewer slots: users at the SLO for every number of slots, from levels of one server.

While nothing waits, a server with M slots and N < M users is the same as any other: its times depend on the requests
that run. With more users than slots M run all the time, X(M) of them end a second, and every further user adds 1 / X to
everybody's wait. So the levels of the server with the most slots tell all the smaller ones: with M slots

    users at the SLO = M + X(M) * (limit - latency at M users)      while the limits on what runs hold at M

and else the load at which those break, whatever the slots above it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmtop.analysis.service import WAIT_TAIL
from llmtop.domain.slo import Slo, SloTarget
from llmtop.domain.tuning import Carried

NOISE = 0.042
"""Relative standard deviation of tokens a second, credited by time, in a window of one E2E; falls with its root."""
TAIL_NOISE = 0.05
"""The same of a latency's tail: closed loops past their slots, lengths with a cv of 0.7, H100 and 4090."""
SURE = 2.0
"""Standard deviations to either side of an interval."""


Strains = Mapping[int, tuple[float, float]]
"""By the requests that run, the strain and the E2E that it rests on."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One load as it was measured, with `gate` requests let through at once; None: all of them."""

    load: int
    gate: int | None
    e2es: float
    """Length of the window: requests that ended in it over those in flight."""
    requests_per_s: float
    tokens_per_s: float
    figures: tuple[tuple[str, float], ...]
    """(name of the limit, statistic in seconds) of each latency limit of the SLO."""
    n: int
    errors: int = 0
    broken: bool = False
    """More requests fail than the SLO allows."""

    @property
    def running(self) -> int:
        """Requests that the server had at once."""
        return self.load if self.gate is None else min(self.load, self.gate)

    @property
    def queued(self) -> bool:
        return self.load > self.running

    def figure(self, target: SloTarget) -> float:
        """NaN where no request told it."""
        return dict(self.figures).get(target.name, math.nan)


def running_limits(slo: Slo) -> list[SloTarget]:
    """Limits that a wait does not move."""
    return [target for target in slo.targets if target.metric == "tpot"]


def waiting_limits(slo: Slo) -> list[SloTarget]:
    """Limits that a wait counts into."""
    return [target for target in slo.targets if target.metric in ("ttft", "e2e")]


def strain(seen: Seen, targets: Sequence[SloTarget]) -> float:
    """The largest share of its limit that a figure takes; inf where requests fail, 0 without limits."""
    if seen.broken:
        return math.inf
    shares = [seen.figure(target) / target.limit for target in targets]
    return max((share for share in shares if math.isfinite(share)), default=0.0)


def carried(slots: int, levels: Sequence[Seen], slo: Slo, most: int, known: Strains | None = None) -> Carried | None:
    """Users at the SLO with so many slots, by the levels of a server that has at least as many.

    None: no level tells. Not more than `most`, the largest load that may be driven.

    Args:
        known: the strains of these levels, where they are asked about again and again.
    """
    own = [seen for seen in levels if seen.running == slots]
    strains = strains_of(levels, slo) if known is None else known
    edge = _edge(strains, slots)
    if not own:
        return None if edge is None else _cut(edge, most)
    queue = _with_queue(own, slo, most)
    if queue is None:
        return None if edge is None else _cut(edge, most)
    service, e2es = strains[slots]
    doubt = SURE * TAIL_NOISE / math.sqrt(e2es)
    if edge is None or service <= 1 - doubt:
        return _cut(queue, most)
    if service > 1 + doubt:
        return _cut(edge, most)
    value = queue.value if service <= 1 else edge.value
    return _cut(Carried(value, min(edge.low, queue.low), max(edge.high, queue.high)), most)


def tokens_at(users: int, slots: int, levels: Sequence[Seen]) -> Carried | None:
    """Output tokens a second with so many users and slots; None: not measured with as many running."""
    own = [seen for seen in levels if seen.running == min(users, slots)]
    if not own:
        return None
    e2es = sum(seen.e2es for seen in own)
    value = sum(seen.e2es * seen.tokens_per_s for seen in own) / e2es
    half = SURE * NOISE / math.sqrt(e2es)
    return Carried(value, value * (1 - half), value * (1 + half))


def strains_of(levels: Sequence[Seen], slo: Slo) -> Strains:
    """(strain, E2E that it rests on) by the requests that run, without what a wait behind the slots adds."""
    found: dict[int, tuple[float, float]] = {}
    by_running: dict[int, list[Seen]] = {}
    for seen in levels:
        by_running.setdefault(seen.running, []).append(seen)
    for running, own in sorted(by_running.items()):
        free = [seen for seen in own if not seen.queued]
        parts = [_mean(own, running_limits(slo)), _mean(free, waiting_limits(slo))]
        found[running] = (max(parts), sum(seen.e2es for seen in own))
    return found


def _mean(levels: Sequence[Seen], targets: Sequence[SloTarget]) -> float:
    e2es = sum(seen.e2es for seen in levels)
    return sum(seen.e2es * strain(seen, targets) for seen in levels) / e2es if e2es else 0.0


def _edge(strains: Strains, slots: int) -> Carried | None:
    """How many may run at once before a limit breaks, on the straight line between the last level that held and the
    first that failed; None: none failed up to `slots`."""
    failed = next((running for running, (share, _) in sorted(strains.items()) if share > 1 and running <= slots), None)
    if failed is None:
        near = strains.get(slots)
        if near is None or near[0] <= 1 - SURE * TAIL_NOISE / math.sqrt(near[1]):
            return None
        return Carried(float(slots), slots * near[0] * 0.9, float(slots))
    share, e2es = strains[failed]
    below = [(running, *each) for running, each in strains.items() if running < failed and each[0] <= 1]
    low, low_share, low_e2es = max(below, default=(0, 0.0, e2es))
    reach = 1.0 if not math.isfinite(share) else (1 - low_share) / max(share - low_share, 1e-9)
    value = low + reach * (failed - low) if math.isfinite(share) else float(low)
    half = SURE * TAIL_NOISE / math.sqrt(min(e2es, low_e2es))
    return Carried(value, max(float(low) * (1 - half), value * (1 - half)), min(float(failed), value * (1 + half)))


def _with_queue(own: Sequence[Seen], slo: Slo, most: int) -> Carried | None:
    """Users at the SLO by the wait alone, from the levels with so many running; the nearer to it, the surer."""
    parts = []
    for seen in own:
        rooms = [
            ((target.limit - seen.figure(target)) / WAIT_TAIL, seen.figure(target)) for target in waiting_limits(slo)
        ]
        if not rooms:
            parts.append((float(most), 0.0, seen.e2es))
            continue
        rooms = [each for each in rooms if math.isfinite(each[0])]
        if not rooms:
            continue
        room_s, figure_s = min(rooms)
        more = seen.requests_per_s * room_s
        noise = NOISE * abs(more)
        tail = TAIL_NOISE * seen.requests_per_s * figure_s
        far = 0.1 * abs(more)  # how a tail grows with the wait is known so well
        parts.append((seen.load + more, math.hypot(noise, tail) / math.sqrt(seen.e2es) + far / 2, seen.e2es))
    if not parts:
        return None
    weights = [1 / max(error, 1e-3 * max(1.0, abs(value))) ** 2 for value, error, _ in parts]
    value = sum(weight * each[0] for weight, each in zip(weights, parts, strict=True)) / sum(weights)
    half = SURE / math.sqrt(sum(weights))
    return Carried(max(0.0, value), max(0.0, value - half), max(0.0, value + half))


def _cut(each: Carried, most: int) -> Carried:
    return Carried(min(each.value, most), min(each.low, most), min(each.high, most))
