"""The twin: a model of the very server that is measured, fitted to what the client saw, asked what is not tried yet.

The time of a step is fitted to the run's own levels; slots, queue and KV cache are those of the simulated engine. Pure:
no clock, and the same levels give the same twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, inf
from statistics import median as middle

from llmtop.domain.foresight import Interval
from llmtop.simulator.engine.twin_case import (
    Case,
    Queue,
    Side,
    fewer_may_wait,
    lengths_of,
    most_that,
    of_length,
    seen_with,
    spread_at,
    spreads_of,
    typical,
)
from llmtop.simulator.engine.twin_fit import Fitted, alike, fitted
from llmtop.simulator.engine.twin_levels import (
    LOAD_APART,
    Level,
    by_kv,
    completed,
    kept,
    loads_of,
    ready,
    shape_of,
)
from llmtop.simulator.engine.twin_serving import Server, Shape, State, asked_of
from llmtop.simulator.engine.twin_words import (
    FAR,
    FAR_BAND,
    FAR_OFF,
    FIRST_BAND,
    LEAST_BAND,
    LEVELS,
    REACH,
    Asked,
    Foreseen,
    Known,
    Measured,
    Outside,
)
from llmtop.wording import foreseen as words

__all__ = [
    "FAR",
    "FAR_BAND",
    "FAR_OFF",
    "FIRST_BAND",
    "LEAST_BAND",
    "LEVELS",
    "REACH",
    "Asked",
    "Foreseen",
    "Known",
    "Measured",
    "Outside",
    "Twin",
    "fit",
]

LENGTH_SLACK = 1.05
"""Factor by which a length may lie beyond those that were measured: as far as means differ from level to level."""
IN_STEP = (0.25, 0.5)
"""Share more of the users that may have come to march in step, at twice what was measured and at four times: in closed
loops that are simulated up to 0.21 and 0.34 more did. It comes all at once, and no level below tells of it."""
KV_BAND = 0.10
"""Share by which what a KV cache holds at once may differ from what the mean lengths make it."""
UNEXPLAINED = 0.20
"""Share by which a level may miss the fit that it is part of."""
UNFORETOLD = 0.25
"""Share by which the level left out may be missed: bands would be half of their figures and more."""
_REGULAR = 0.1
"""Deviation of the times between departures over their mean, where all answers are of one length."""
_THRASH = 2.0
"""Times as much as lengths alone would make it, the number sways that a KV cache holds: who is put out of it comes back
first, none are let in meanwhile, and a long prompt at the head of the line keeps shorter ones waiting."""
_CASES = 32
"""That are kept ready: a slider asks one over and over."""
_LADDER = 24
"""Loads of a curve that nobody chose."""
_PAST = 1.5
"""Of the wall, that such a curve goes to."""
_QUEUED = 64.0
"""Users over the slots up to which a limit is looked for."""
_GRAIN = 1.001
"""Factor by which what runs at once is known from a load, where a box ends."""
_CLOSE = 0.005
"""Share of the highest rate that is foreseen, to which a search among rates is done."""


class Twin:
    """A fitted server. Made by `fit`.

    Attributes:
        off: share by which the level that was left out is missed, the worse of TPOT and tokens/s.
        levels: it was fitted on so many.
        band: half of every band, as a share: `max(LEAST_BAND, 2 * off)`; `FAR_BAND` and more past `REACH`.
        measured: the most requests at once of those.
        reach: times that many are foreseen: `REACH`, or `FAR` where a level left out proves it.
        known: what it was told of the server.
    """

    def __init__(self, levels: Sequence[Level], known: Known, found: Fitted) -> None:
        self.off = found.off
        self.levels = len(levels)
        self.band = max(LEAST_BAND, 2.0 * found.off)
        self.measured = max(level.running for level in levels)
        self.reach = FAR if found.far_off is not None and found.far_off <= FAR_OFF else REACH
        self.known = known
        self._found = found
        self._first_band = max(LEAST_BAND, 2.0 * found.first_off)
        self._levels = tuple(levels)
        self._lengths = {name: lengths_of(levels, f"{name}_tokens") for name in ("prompt", "output")}
        self._typical = typical(levels)
        self._steps = middle(level.shape.steps / (level.measured.output_tokens - 1.0) for level in levels)
        self._tokens = middle(
            level.measured.output_tokens_per_s / level.measured.requests_per_s / level.measured.output_tokens
            for level in levels
        )
        self._kept = kept(levels, known)
        self._case = lru_cache(_CASES)(self._new_case)

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

    def users_at(self, limits: Sequence[tuple[str, str, float]], asked: Asked | None = None) -> Interval | Outside:
        """The most users (or requests/s) with which the limits hold; 0 where they never do.

        Args:
            limits: (metric `ttft` or `tpot`, statistic `p50` or `p95`, seconds) of each.

        Returns:
            Between the loads at which the slower and the faster edge of the band holds them, at most to where the twin
            sees; of a queue still fewer, as its beat is uneven. Outside: they hold that far, or name what it does not
            foresee.
        """
        case = self._case(asked or Asked())
        if isinstance(case, Outside):
            return case
        for metric, statistic, _ in limits:
            if metric not in ("ttft", "tpot") or statistic not in ("p50", "p95"):
                return Outside(*words.not_foreseen_text(metric, statistic))

        def most(side: int) -> float:
            def holds(load: float) -> bool:
                three = self._three(load, case)
                if isinstance(three, Outside):
                    return False
                return all(three[side].seconds(metric, statistic) <= limit for metric, statistic, limit in limits)

            return most_that(holds, edge, 1.0 if self.known.axis == "concurrency" else _CLOSE * edge)

        edge = self._edge(case)
        value = most(0)
        if value >= edge:
            if self.known.axis == "rate" and case.server.cap <= self.reach * case.seen:
                return self.wall(asked)
            return Outside(words.holds_text(edge, self.known.axis), self._hold(REACH * self.measured, case))
        low, cap = most(1), case.server.cap
        if self.known.axis == "concurrency" and value > cap:
            low = min(low, max(cap, value - fewer_may_wait(value - cap, self.known.output_cv)))
        return Interval(value, low, most(2))

    def prompt_share(self, load: float, asked: Asked | None = None) -> float | None:
        """Of the engine's time at a load, what is spent on prompts; None: it lies outside."""
        case = self._case(asked or Asked())
        if isinstance(case, Outside):
            return None
        three = self._three(load, case)
        return None if isinstance(three, Outside) else case.server.prompt_share(three[0].state)

    def wall(self, asked: Asked | None = None) -> Interval | Outside:
        """The load from which a queue forms: the slots, or what the KV cache holds at once, whichever is less.

        On the axis of users these need no step time, and so no box; in requests/s they do.
        """
        case = self._case(asked or Asked())
        if isinstance(case, Outside):
            return case
        cap, far = case.server.cap, self.reach * case.seen
        if cap == inf:
            return Outside(words.NO_WALL, self._hold(REACH * self.measured, case))
        if cap > far:
            by_users = self.known.axis == "concurrency"
            return _within(cap, 0.0 if case.by_slots else KV_BAND) if by_users else self._far(cap, case)
        load = case.server.full(self.known.axis)
        if self.known.axis == "rate":
            return _within(load, self._band(cap, case))
        return _within(load, 0.0 if case.by_slots else KV_BAND)

    def _new_case(self, asked: Asked) -> Case | Outside:
        """The server as asked, or why it lies outside."""
        prompt = asked.prompt_tokens or self._typical.prompt_tokens
        output = asked.output_tokens or self._typical.output_tokens
        for what, tokens in (("prompt", prompt), ("output", output)):
            low, high = self._lengths[what]
            if low == inf:
                return Outside(words.one_load_text(what), words.drag_text(what, tokens))
            if not low / LENGTH_SLACK <= tokens <= high * LENGTH_SLACK:
                return Outside(words.length_text(what, tokens, low, high), words.drag_text(what, tokens))
        known = self.known
        if asked.kv_tokens is not None and known.kv_tokens is None:
            return Outside(*words.NO_KV)
        shape = shape_of(prompt, output, self._typical.cached, known, self._steps * (output - 1.0))
        if asked.slots is not None and asked.slots < 1:
            return Outside(*words.NO_SLOTS)
        if asked.kv_tokens is not None and not asked.kv_tokens >= prompt + output:
            return Outside(*words.small_kv_text(asked.kv_tokens, prompt + output))
        slots = float(asked.slots or known.slots or inf)
        kv_tokens = asked.kv_tokens or known.kv_tokens
        held = by_kv(kv_tokens, shape)
        caps = [min(slots, share * held) for share in (1.0, 1.0 / (1.0 + KV_BAND), 1.0 + KV_BAND)]
        servers = {cap: self._server(cap, shape) for cap in set(caps)}
        server, fewer, more = (servers[cap] for cap in caps)
        by_slots = slots <= held
        sway = 0.0 if by_slots else _THRASH * shape.held_cv * held**0.5
        queue = Queue(sway, max(known.output_cv, _REGULAR) if by_slots else 1.0)
        seen, same = seen_with(self._levels, shape), of_length(self._levels, prompt)
        spreads = spreads_of(same or self._levels)
        return Case(server, fewer, more, shape, output, kv_tokens, slots, by_slots, seen, not same, spreads, queue)

    def _server(self, cap: float, shape: Shape) -> Server:
        return Server(self._found.step, self._found.first, cap, shape)

    def _at(self, load: float, case: Case) -> Foreseen | Outside:
        three = self._three(load, case)
        if isinstance(three, Outside):
            return three
        state, slow, _fast = (side.state for side in three)
        rate, least, most = (side.state.requests_per_s for side in three)
        if self.known.axis == "rate":
            by = 1.0 + self._band(state.running, case)
            least, most = min(least, rate / by), max(most, rate * by)
        tokens = self._tokens * case.output

        def band(metric: str, statistic: str) -> Interval:
            value, high, low = (side.seconds(metric, statistic) for side in three)
            return Interval(value, low, high)

        ends = slow.wait_s < inf
        return Foreseen(
            load=load,
            ttft_p50_s=band("ttft", "p50") if ends else None,
            ttft_p95_s=band("ttft", "p95") if ends else None,
            tpot_p50_s=band("tpot", "p50"),
            tpot_p95_s=band("tpot", "p95"),
            output_tokens_per_s=Interval(tokens * rate, tokens * least, tokens * most),
            requests_per_s=Interval(rate, least, most),
            running=state.running,
            waiting=state.waiting,
            kv_usage=min(1.0, state.running * case.shape.held / case.kv_tokens) if case.kv_tokens else None,
            assumed=self._assumed(state, case),
        )

    def _assumed(self, state: State, case: Case) -> str | None:
        """More than ran so far run only if slots and KV cache suffice."""
        if state.running <= LOAD_APART * case.seen:
            return None
        return words.assumed_text(slots=case.slots < inf, kv=case.kv_tokens is not None)

    def _three(self, load: float, case: Case) -> tuple[Side, Side, Side] | Outside:
        """The load as it is most likely, and at the edges of the band: as by a clock that runs slower, or faster."""
        if not 0.0 < load < inf:
            return Outside(*words.no_load_text(load))
        state = asked_of(case.server, self._kept * load, self.known.axis)
        if state.running > _GRAIN * self.reach * case.seen:
            return self._far(state.running, case)
        spread = spread_at(state.running, case.spreads)
        slower = 1.0 + self._band(state.running, case)
        soon_s, late_s = self._firsts(state, case)

        def side(server: Server, pace: float, first_s: float) -> Side:
            if self.known.axis == "rate":
                paced = server.rate(pace * self._kept * load).slower(pace)
                return Side(paced, paced.tpot_s, first_s, server.cap, spread, case.queue)
            paced = (state if server is case.server else server.users(load)).slower(pace)
            return Side(paced, pace * state.tpot_s, first_s, server.cap, spread, case.queue)

        return (
            side(case.server, 1.0, state.first_s),
            side(case.fewer, slower, late_s),
            side(case.more, 1.0 / slower, soon_s),
        )

    def _firsts(self, state: State, case: Case) -> tuple[float, float]:
        """Between what the time to the first token lies, without the wait for a slot."""
        seen = state.running <= LOAD_APART * case.seen and not case.between
        far = state.running > _GRAIN * REACH * case.seen
        later = 1.0 + max(self._first_band, 0.0 if seen else 2.0 * FIRST_BAND if far else FIRST_BAND)
        late_s = state.first_s * later
        if not seen and alike(self.known):
            late_s = max(late_s, case.server.marching_s(state, IN_STEP[far]))
            later *= 2.0 if far else 1.0
        return state.first_s / later, late_s

    def _band(self, running: float, case: Case) -> float:
        """Half of the band, as a share, with so many at once."""
        return self.band if running <= _GRAIN * REACH * case.seen else max(FAR_BAND, 2.0 * self.band)

    def _far(self, running: float, case: Case) -> Outside:
        reason = words.far_text(running, case.seen, self.reach)
        return Outside(reason, self._hold(running / REACH, case))

    def _hold(self, running: float, case: Case) -> str:
        """The level that makes so many running known: by users, or by the rate that has them run."""
        users = float(ceil(max(running, LOAD_APART * case.seen) / _GRAIN))
        slots = users if self.known.slots is not None and users > self.known.slots else None
        load = users if self.known.axis == "concurrency" else self._server(users, case.shape).full("rate")
        return words.hold_text(load, self.known.axis, slots)

    def _edge(self, case: Case) -> float:
        """The most load that is foreseen."""
        cap, far = case.server.cap, self.reach * case.seen
        if self.known.axis == "rate":
            return self._server(min(cap, far), case.shape).full("rate")
        return _QUEUED * cap if cap <= far else far

    def _ladder(self, case: Case) -> list[float]:
        edge = self._edge(case)
        if case.server.cap <= self.reach * case.seen:
            edge = _PAST * case.server.full(self.known.axis)
        least = 1.0 if self.known.axis == "concurrency" else min(1.0, edge / _LADDER)
        loads = [least * (edge / least) ** (i / (_LADDER - 1)) for i in range(_LADDER)]
        if self.known.axis == "concurrency":
            return [float(users) for users in sorted({int(load + 1e-9) for load in loads})]
        return loads


def _within(value: float, share: float) -> Interval:
    return Interval(value, value / (1.0 + share), value * (1.0 + share))


def fit(levels: Sequence[Measured], known: Known) -> Twin | Outside:
    """The twin of what was measured, in less than 0.3 s.

    `Outside` where none can be made: fewer than `LEVELS` loads, a server that speculates, figures that no step time
    explains.
    """
    if known.speculates:
        return Outside(*words.SPECULATES)
    able = ready(levels, known)
    loads = loads_of(able)
    if loads < LEVELS:
        behind = max((at.measured.slots or known.slots or ceil(at.running) for at in able if at.queued), default=None)
        return Outside(*words.few_loads_text(loads, LEVELS, behind))
    found = fitted(able, known)
    if found.unexplained > UNEXPLAINED:
        return Outside(words.UNEXPLAINED.format(off=found.unexplained), words.AGAIN)
    if found.off == inf:
        return Outside(words.NOT_FORETOLD, words.few_loads_text(loads, loads + 1)[1])
    if found.off > UNFORETOLD:
        return Outside(words.UNFORETOLD.format(off=found.off), words.AGAIN)
    return Twin(able, completed(known, able), found)
