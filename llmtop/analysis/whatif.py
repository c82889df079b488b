"""What fewer slots would give, by the levels of one curve alone: nothing is tried for it.

A server with M slots is the present one with M requests in flight, while all others wait. So every level below the
present slots tells of a smaller server (`serving.carried`); of a number of slots that no level is near nothing is told.
Where the advice lowers the slots, what is told of that number is what the advice promises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from msgspec.structs import replace

from llmtop.analysis.advice import misses
from llmtop.analysis.judge import OWN, QUEUED, Limits, is_queued
from llmtop.analysis.levels import EMPTY, FAINT_BELOW, Level
from llmtop.analysis.service import MIN_SAMPLES, statistic
from llmtop.analysis.serving import TAIL_NOISE, Seen, Strains, carried, strains_of, waiting_limits
from llmtop.analysis.walls import NEAR as SLOTS_RUN
from llmtop.analysis.walls import WORTH
from llmtop.domain.foresight import Interval, WhatIf
from llmtop.domain.load import Axis
from llmtop.domain.slo import LATENCIES, Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Confidence, Diagnosis, Forecast
from llmtop.simulator.engine.twin_case import fewer_may_wait
from llmtop.wording.advice import fewer_slots

NEAR = 0.10
"""How far a number of slots may lie from a load that was measured: so far tokens and latency are straight lines."""
FEW = 16
"""Requests in flight below which a tail is known by how many requests ended, and not by how many E2E they were seen."""
Line = list[tuple[int, float]]
"""(requests that run, a figure with so many), the fewest first."""
_ELSEWHERE = (Bound.CLIENT, Bound.NETWORK)
"""What makes levels a measure of something else than the server."""


def what_ifs(
    levels: Sequence[Level],
    limits: Limits,
    slo: Slo,
    axis: Axis,
    cliff: CliffVerdict,
    capacity: Capacity,
    diagnosis: Diagnosis,
) -> tuple[WhatIf, ...]:
    """What each smaller number of slots gives that a level is near, the fewest first; one of them may have a text.

    () where levels are no measure of what the server carries: of an open loop, of users who think, with others on the
    server, where the client or what lies between binds; and where no limit counts the wait, so that slots bound nobody.

    Args:
        levels: of the current curve.
        diagnosis: with the advice that is shown: what it promises is not told otherwise here.
    """
    own = [level for level in levels if level.has_samples and level.n >= FAINT_BELOW and not level.broken]
    if axis == "rate" or diagnosis.bound in _ELSEWHERE or cliff.cause in _ELSEWHERE or not waiting_limits(slo):
        return ()
    if any(level.thinking or _shared(level) for level in own):
        return ()
    wall = _wall(own, limits, cliff)
    server = _Server.of(own, wall, slo, _most(levels, limits))
    now = _now(server, diagnosis.prediction)
    if now is not None and misses(now, capacity.at_slo, capacity.fails_at):
        return ()
    rows = {slots: row for slots in server.measured if (row := server.row(slots, now)) is not None}
    advised = _advised(server, diagnosis.prediction, rows, now)
    if advised is not None:
        rows[advised.slots] = advised
    told = advised or max(rows.values(), key=lambda each: each.users.value, default=None)
    if told is not None and now is not None and _agree(told, advised, diagnosis):
        rows[told.slots] = replace(told, text=fewer_slots(told, gate=limits.gate is not None))
    return tuple(rows[slots] for slots in sorted(rows))


@dataclass(frozen=True, slots=True)
class _Server:
    """The levels of one server, by what it ran at once."""

    seen: Sequence[Seen]
    strains: Strains
    token_s: Line
    """How long a token of all takes."""
    tpot_s: Line
    spread: dict[int, float]
    """Standard deviation of E2E over its mean while nothing waits, by the requests that run."""
    wall: int | None
    """What it runs at once at the most; None: as far as was driven, all."""
    slo: Slo
    most: int
    """The largest load that may be driven, or that is not refused."""

    @classmethod
    def of(cls, levels: Sequence[Level], wall: int | None, slo: Slo, most: int) -> _Server:
        seen = [level.remembered(("what if", slo, wall), partial(_seen, level, wall, slo)) for level in levels]
        figures = [level.remembered("what if", partial(_figures, level)) for level in levels]
        each = list(zip(seen, figures, strict=True))
        return cls(
            seen=seen,
            strains=strains_of(seen, slo),
            token_s=_line([(one.running, one.running / one.tokens_per_s) for one in seen if one.tokens_per_s]),
            tpot_s=_line([(one.running, told.tpot_p95_s) for one, told in each if told.tpot_p95_s is not None]),
            spread={one.running: told.spread for one, told in each if not one.queued},
            wall=wall,
            slo=slo,
            most=most,
        )

    @property
    def top(self) -> int:
        """Numbers of slots below it are fewer than now."""
        return max((each.running for each in self.seen), default=0) if self.wall is None else self.wall

    @property
    def measured(self) -> list[int]:
        return sorted({each.running for each in self.seen if 1 <= each.running < self.top})

    def row(self, slots: int, now: float | None) -> WhatIf | None:
        """What so many slots give beside what is carried now; None: the levels do not tell."""
        users = carried(slots, self.seen, self.slo, self.most, self.strains)
        if users is None or users.value < 1:
            return None
        uneven = fewer_may_wait(users.value - slots, self.spread.get(slots, 0.0))
        low = min(users.low, max(min(slots, users.value), users.value - uneven))
        return self.told(slots, Interval(users.value, low, users.high), now)

    def told(self, slots: int, users: Interval, now: float | None) -> WhatIf:
        tokens = self._tokens_per_s(min(users.value, slots))
        before = None if now is None else self._tokens_per_s(min(now, self.top))
        tpot_s = _at(min(users.value, slots), self.tpot_s)
        return WhatIf(
            slots=slots,
            users=users,
            tpot_p95_ms=None if tpot_s is None else 1e3 * tpot_s,
            output_tokens_per_s=tokens,
            users_change=None if not now else users.value / now - 1,
            worth=bool(now) and users.value >= (1 + WORTH) * (now or 0.0),
            tokens_change=tokens / before - 1 if tokens and before else None,
        )

    def _tokens_per_s(self, running: float) -> float | None:
        """By how long a token takes with so many running, which is nearly a straight line."""
        token_s = _at(running, self.token_s)
        return None if token_s is None else running / token_s


def _shared(level: Level) -> bool:
    """Whether somebody else's requests run on the server, too: then slots are not those of our users."""
    return level.running is not None and level.running > level.in_flight + max(QUEUED, OWN * level.in_flight)


def _wall(levels: Sequence[Level], limits: Limits, cliff: CliffVerdict) -> int | None:
    """What the server runs at once: its slots, or fewer where others wait while fewer run; by the cliff where it shows
    nothing of that. None: not known, and not reached."""
    queued = [level.running for level in levels if level.running and is_queued(level)]
    slots, plateau = limits.max_num_seqs, max(queued, default=None)
    if plateau is not None and (slots is None or plateau < SLOTS_RUN * slots):
        return max(1, round(plateau))
    blind = all(level.running is None for level in levels)
    if slots is None and blind and cliff.at is not None and cliff.confidence is Confidence.FIRM and not cliff.fails:
        return max(1, round(cliff.at))
    return None if slots is None else max(1, round(slots))


def _most(levels: Sequence[Level], limits: Limits) -> int:
    """Up to which load users may come: below the one from which requests fail, whatever runs behind that."""
    broken = [level.load for level in levels if level.broken]
    held = [level.load for level in levels if not level.broken]
    if not broken or max(held, default=0.0) > min(broken):
        return limits.max_concurrency
    return min(limits.max_concurrency, max(0, math.ceil(min(broken)) - 1))


def _now(server: _Server, forecast: Forecast | None) -> float | None:
    """Users at the SLO as it stands; None: no limit broke as far as was driven, so that more may be carried."""
    if forecast is not None:
        return min(forecast.capacity_now, server.most)
    found = carried(server.wall or server.top + 1, server.seen, server.slo, server.most)
    return None if found is None or found.value < 1 else found.value


def _seen(level: Level, wall: int | None, slo: Slo) -> Seen:
    load = max(1, round(level.load))
    told = [(each, level.samples(each.metric) if each.metric in LATENCIES else EMPTY) for each in slo.targets]
    return Seen(
        load=load,
        gate=wall,
        e2es=min(level.n / max(load, FEW), (TAIL_NOISE / max(_doubt(level, slo), 1e-9)) ** 2),
        requests_per_s=level.load / (level.mean("e2e") or math.inf),
        tokens_per_s=level.output_tokens_per_s or 0.0,
        figures=tuple(
            (target.name, statistic(values, target)) for target, values in told if len(values) >= MIN_SAMPLES
        ),
        n=level.n,
    )


def _doubt(level: Level, slo: Slo) -> float:
    """Standard error of the tails by the requests themselves, as a share of their limits: of the least sure of them."""
    told = [(each, level.statistic(each.metric, "p95")) for each in slo.targets if each.metric in LATENCIES]
    return max((tail.se * min(1.0, tail.y / target.limit) for target, tail in told if tail is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class _Figures:
    tpot_p95_s: float | None
    spread: float


def _figures(level: Level) -> _Figures:
    tpot_s, e2e_s = level.samples("tpot"), level.samples("e2e")
    return _Figures(
        tpot_p95_s=float(np.quantile(tpot_s, 0.95)) if len(tpot_s) >= FAINT_BELOW else None,
        spread=float(e2e_s.std() / e2e_s.mean()) if e2e_s.any() else 0.0,
    )


def _line(told: Sequence[tuple[int, float]]) -> Line:
    """Means of the values, by the requests that run."""
    by_running: dict[int, list[float]] = {}
    for running, value in told:
        by_running.setdefault(running, []).append(value)
    return [(running, sum(values) / len(values)) for running, values in sorted(by_running.items())]


def _at(running: float, line: Line) -> float | None:
    """A figure with so many running, on the straight line between the levels around; None: none is near enough."""
    if not line or running < (1 - NEAR) * line[0][0] or running > (1 + NEAR) * line[-1][0]:
        return None
    return float(np.interp(running, [at for at, _ in line], [value for _, value in line]))


def _lowered(forecast: Forecast | None) -> int | None:
    """To how many slots, and nothing else, the advice lowers them; None: it does not."""
    if forecast is None or len(forecast.turns) != 1 or forecast.turns[0].knob != "slots":
        return None
    (turn,) = forecast.turns
    return math.floor(turn.then) if turn.now is None or turn.then < turn.now else None


def _advised(server: _Server, forecast: Forecast | None, rows: dict[int, WhatIf], now: float | None) -> WhatIf | None:
    """What the advice promises, with the interval of the nearest row; None: it lowers nothing, or no level is near."""
    slots = _lowered(forecast)
    near = min(rows.values(), key=lambda row: abs(row.slots - (slots or 0)), default=None)
    if slots is None or forecast is None or near is None or abs(slots - near.slots) > NEAR * near.slots:
        return None
    value, scale = min(forecast.capacity_then, server.most), slots / near.slots
    users = Interval(value, min(value, scale * near.users.low), max(value, scale * near.users.high))
    return server.told(slots, users, now)


def _agree(told: WhatIf, advised: WhatIf | None, diagnosis: Diagnosis) -> bool:
    """Whether it may stand beside the advice: what both speak of is the same, or only one of them speaks."""
    if advised is not None or diagnosis.advice is None:
        return True
    return _lowered(diagnosis.prediction) is None and not told.worth
