"""The twin: a model of the very server that is measured, fitted to what the client saw, asked what is not tried yet.

The time of a step is fitted to the run's own levels; slots, queue and KV cache are those of the simulated engine. Pure:
no clock, and the same levels give the same twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from llmtop.simulator.engine.twin_fit import (
    LENGTH_APART,
    LOAD_APART,
    Fitted,
    Level,
    asked_of,
    clusters,
    fitted,
    ready,
    shape_of,
)
from llmtop.simulator.engine.twin_serving import Server, Shape, State
from llmtop.simulator.engine.twin_words import (
    LEAST_BAND,
    LEVELS,
    REACH,
    Asked,
    Band,
    Foreseen,
    Known,
    Measured,
    Outside,
)
from llmtop.wording import foreseen as words

__all__ = [
    "LEAST_BAND",
    "LEVELS",
    "REACH",
    "Asked",
    "Band",
    "Foreseen",
    "Known",
    "Measured",
    "Outside",
    "Twin",
    "fit",
]

LENGTH_SLACK = 1.05
"""Factor by which a length may lie beyond those that were measured: as far as means differ from level to level."""
UNEXPLAINED = 0.20
"""Share by which a level may miss the fit that it is part of."""
_LADDER = 24
"""Loads of a curve that nobody chose."""
_PAST = 1.5
"""Of the wall, that such a curve goes to."""
_CLOSE = 0.01
"""Share of the highest rate that is foreseen, to which a search among rates is done."""


class Twin:
    """A fitted server. Made by `fit`.

    Attributes:
        off: share by which the level that was left out is missed, the worse of TPOT and tokens/s.
        levels: it was fitted on so many.
        band: half of every band, as a share: `max(LEAST_BAND, 2 * off)`.
        measured: the most requests at once of those.
        known: what it was told of the server, completed by what the levels show.
    """

    def __init__(self, levels: Sequence[Level], known: Known, found: Fitted) -> None:
        self.off = found.off
        self.levels = len(levels)
        self.band = max(LEAST_BAND, 2.0 * found.off)
        self.measured = max(level.running for level in levels)
        self.known = known
        self._first_band = max(LEAST_BAND, 2.0 * found.first_off)
        self._found = found
        self._levels = tuple(levels)
        self._last = levels[-1].measured
        free = [level for level in levels if not level.queued] or list(levels)
        self._spreads = sorted((_spread(level) for level in free), key=lambda spread: spread.running)

    def at(self, load: float, asked: Asked | None = None) -> Foreseen | Outside:
        """One load, in closed form: microseconds, for sliders."""
        case = self._case(asked or Asked())
        return case if isinstance(case, Outside) else self._at(load, case)

    def curve(self, asked: Asked | None = None, *, loads: Sequence[float] = ()) -> tuple[Foreseen, ...] | Outside:
        """Those of `loads` that lie inside; without any, a ladder from 1 to past the wall or the edge of the box.

        Outside: none of them does.
        """
        case = self._case(asked or Asked())
        if isinstance(case, Outside):
            return case
        answers = [self._at(load, case) for load in loads or self._ladder(case)]
        found = tuple(answer for answer in answers if isinstance(answer, Foreseen))
        return found or next(answer for answer in answers if isinstance(answer, Outside))

    def users_at(self, limits: Sequence[tuple[str, str, float]], asked: Asked | None = None) -> Band | Outside:
        """The most users (or requests/s) with which the limits hold; 0 where they never do.

        Args:
            limits: (metric `ttft` or `tpot`, statistic `p50` or `p95`, seconds) of each.

        Returns:
            Between the loads at which the slower and the faster edge of the band holds them. Outside: they hold as far
            as the twin sees, or name what it does not foresee.
        """
        case = self._case(asked or Asked())
        if isinstance(case, Outside):
            return case
        names = [f"{metric}_{statistic}_s" for metric, statistic, _ in limits]
        for name, (metric, statistic, _) in zip(names, limits, strict=True):
            if name not in _LIMITED:
                return Outside(f"{statistic} of {metric} is not foreseen", "ask for p50 or p95 of ttft or tpot")
        seconds = [limit for _, _, limit in limits]

        def holds(load: float, side: str) -> bool:
            found = self._at(load, case)
            if isinstance(found, Outside):
                return False
            bands = [getattr(found, name) for name in names]
            return all(b is not None and getattr(b, side) <= s for b, s in zip(bands, seconds, strict=True))

        edge = self._edge(case)
        value = self._most(lambda load: holds(load, "value"), edge)
        if value >= edge:
            past = min(edge, case.server.cap)
            return Outside(words.holds_text(edge, self.known.axis), self._hold(2.0 * past, case))
        low = self._most(lambda load: holds(load, "high"), edge)
        high = self._most(lambda load: holds(load, "low"), edge)
        return Band(value, min(low, value), max(high, value))

    def wall(self, asked: Asked | None = None) -> Band | Outside:
        """The load from which a queue forms: the slots, or what the KV cache holds at once, whichever is less."""
        case = self._case(asked or Asked())
        if isinstance(case, Outside):
            return case
        cap = case.server.cap
        if cap == inf:
            return Outside(words.NO_WALL, words.hold_text(2.0 * self.measured, "concurrency"))
        if self.known.axis == "concurrency":
            off = 0.0 if case.by_slots else LEAST_BAND
            return Band(cap, cap * (1.0 - off), cap * (1.0 + off))
        if cap > REACH * self.measured:
            return self._far(cap, case)
        rates = [case.side(band, 0.0).most(case.shape).requests_per_s for band in (0.0, self.band, -self.band)]
        return Band(rates[0], rates[1], rates[2])

    def _case(self, asked: Asked) -> _Case | Outside:
        """The server as asked, or why it lies outside."""
        prompt = asked.prompt_tokens or self._last.prompt_tokens
        output = asked.output_tokens or self._last.output_tokens
        for what, tokens in (("prompt", prompt), ("output", output)):
            outside = self._length_outside(what, tokens)
            if outside is not None:
                return outside
        known = self.known
        if asked.kv_tokens is not None and known.kv_tokens is None:
            return Outside(*words.NO_KV)
        shape = shape_of(prompt, output, self._last.cached, known)
        slots = asked.slots or known.slots or inf
        kv_tokens = asked.kv_tokens or known.kv_tokens
        by_kv = kv_tokens / shape.held if kv_tokens else inf
        server = Server(self._found.step, self._found.first, min(float(slots), by_kv))
        return _Case(server, shape, output, kv_tokens, slots <= by_kv)

    def _length_outside(self, what: str, tokens: float) -> Outside | None:
        means = [getattr(level.measured, f"{what}_tokens") for level in self._levels]
        groups = [group for group in clusters(means, LENGTH_APART) if len(group) > 1]
        low, high = groups[0][0], groups[-1][-1]
        if low / LENGTH_SLACK <= tokens <= high * LENGTH_SLACK:
            return None
        return Outside(words.length_text(what, tokens, low, high), words.drag_text(what, tokens))

    def _at(self, load: float, case: _Case) -> Foreseen | Outside:
        if not 0.0 < load < inf:
            return Outside(f"{load} is no load", "ask for more than 0")
        state = self._state(case.server, load, case)
        if state.running > REACH * self.measured:
            return self._far(state.running, case)
        slow, fast = (
            self._state(case.side(sign * self.band, sign * self._first_band), load, case) for sign in (1.0, -1.0)
        )
        spread = self._spread(state.running)

        def tokens(of: State) -> float:
            return of.requests_per_s * case.output

        def tpot(ratio: float) -> Band:
            return Band(ratio * state.tpot_s, ratio * fast.tpot_s, ratio * slow.tpot_s)

        def ttft(ratio: float, late: float) -> Band | None:
            times = [
                ratio * of.first_s + of.wait_s + late * of.waiting**0.5 / of.requests_per_s
                for of in (state, fast, slow)
            ]
            return Band(*times) if slow.wait_s < inf else None

        return Foreseen(
            load=load,
            ttft_p50_s=ttft(spread.ttft_p50, 0.0),
            ttft_p95_s=ttft(spread.ttft_p95, _LATE),
            tpot_p50_s=tpot(spread.tpot_p50),
            tpot_p95_s=tpot(spread.tpot_p95),
            output_tokens_per_s=Band(tokens(state), tokens(slow), tokens(fast)),
            requests_per_s=Band(state.requests_per_s, slow.requests_per_s, fast.requests_per_s),
            running=state.running,
            waiting=state.waiting,
            kv_usage=min(1.0, state.running * case.shape.held / case.kv_tokens) if case.kv_tokens else None,
        )

    def _state(self, server: Server, load: float, case: _Case) -> State:
        return asked_of(server, load, case.shape, self.known)

    def _far(self, running: float, case: _Case) -> Outside:
        return Outside(words.far_text(running, self.measured, REACH), self._hold(running / REACH, case))

    def _hold(self, running: float, case: _Case) -> str:
        """The level that makes so many running known: by users, or by the rate that has them run."""
        users = ceil(max(running, LOAD_APART * self.measured))
        slots = users if self.known.slots is not None and users > self.known.slots else None
        load: float = users
        if self.known.axis == "rate":
            load = replace(case.server, cap=float(users)).most(case.shape).requests_per_s
        return words.hold_text(load, self.known.axis, slots)

    def _edge(self, case: _Case) -> float:
        """The most load that is foreseen."""
        cap, far = case.server.cap, REACH * self.measured
        if self.known.axis == "concurrency":
            return far if cap > far else _QUEUED * cap
        return replace(case.server, cap=min(cap, far)).most(case.shape).requests_per_s

    def _ladder(self, case: _Case) -> list[float]:
        edge = self._edge(case)
        if case.server.cap <= REACH * self.measured:
            wall = case.server.cap if self.known.axis == "concurrency" else edge
            edge = _PAST * wall
        least = 1.0 if self.known.axis == "concurrency" else min(1.0, edge / _LADDER)
        loads = [least * (edge / least) ** (i / (_LADDER - 1)) for i in range(_LADDER)]
        if self.known.axis == "concurrency":
            return [float(users) for users in sorted({int(load) for load in loads})]
        return [*loads[:-1], edge]

    def _most(self, holds: Callable[[float], bool], edge: float) -> float:
        """The most load up to `edge` that holds: halving, in whole users, or to a share of a rate."""
        if holds(edge):
            return edge
        grain = 1.0 if self.known.axis == "concurrency" else _CLOSE * edge
        low, high = 0, ceil(edge / grain)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle * grain) else (low, middle)
        return low * grain

    def _spread(self, running: float) -> _Spread:
        """How figures lie about their mean, between the levels beside."""
        below = [spread for spread in self._spreads if spread.running <= running]
        above = [spread for spread in self._spreads if spread.running > running]
        if not below or not above:
            return self._spreads[-1] if below else self._spreads[0]
        low, high = below[-1], above[0]
        share = (running - low.running) / (high.running - low.running)
        return _Spread(*(getattr(low, n) + share * (getattr(high, n) - getattr(low, n)) for n in _Spread.__slots__))


@dataclass(frozen=True, slots=True)
class _Case:
    """The server as it is asked about, and with what requests."""

    server: Server
    shape: Shape
    output: float
    kv_tokens: float | None
    by_slots: bool
    """It is the slots that let no more in."""

    def side(self, step: float, first: float) -> Server:
        """The server with steps and first tokens longer by these shares; shorter by as much below zero."""
        return self.server.slower(*(1.0 + off if off >= 0.0 else 1.0 / (1.0 - off) for off in (step, first)))


@dataclass(frozen=True, slots=True)
class _Spread:
    """Quantiles over the mean, of the requests of one level."""

    running: float
    ttft_p50: float
    ttft_p95: float
    tpot_p50: float
    tpot_p95: float


def _spread(level: Level) -> _Spread:
    m = level.measured
    return _Spread(
        level.running,
        (m.ttft_p50_s or m.ttft_s) / m.ttft_s,
        (m.ttft_p95_s or m.ttft_s) / m.ttft_s,
        (m.tpot_p50_s or m.tpot_s) / m.tpot_s,
        (m.tpot_p95_s or m.tpot_s) / m.tpot_s,
    )


_LIMITED = ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s")
_LATE = 1.645
"""Standard deviations above the mean of the 95th percentile of a wait for many departures."""
_QUEUED = 64.0
"""Users over the slots up to which a limit is looked for."""


def fit(levels: Sequence[Measured], known: Known) -> Twin | Outside:
    """The twin of what was measured, in less than 0.3 s.

    `Outside` where none can be made: fewer than `LEVELS` loads, a server that speculates, figures that no step time
    explains.
    """
    if known.speculates:
        return Outside(*words.SPECULATES)
    able = ready(levels, known)
    loads = len(clusters([level.seen.work.decoding for level in able], LOAD_APART))
    if loads < LEVELS:
        return Outside(*words.few_loads_text(loads, LEVELS))
    found = fitted(able, known)
    if found.unexplained > UNEXPLAINED:
        return Outside(words.UNEXPLAINED.format(off=found.unexplained), words.AGAIN)
    return Twin(able, known, found)
