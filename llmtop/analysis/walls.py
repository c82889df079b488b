"""The walls of a configuration, computed together: what it carries at the SLO now, and with a knob turned.

A server that runs at most R requests at once carries, at the SLO, R + X(R)·W users: R in its slots, and as many in the
queue as X(R) requests/s serve within the wait W that the limits leave. R is the least of the slots, of the requests
that fit the KV cache and of those that the token budget feeds. Where TPOT breaks its limit with r < R running, no
queue may form and it carries only r: more slots than that lose users.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.judge import Limits
from llmtop.analysis.levels import Level
from llmtop.analysis.service import Service, service_of
from llmtop.domain.load import Axis
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Forecast, Turn

EACH = 100_000
"""Running requests up to which each number is tried; beyond, so many numbers."""
REACH = 2.0
"""Running requests over the most that were measured up to which a line is believed."""
MARGIN, MARGIN_BEYOND = 0.03, 0.06
"""Shares by which a limit is planned to be kept, as past it capacity falls at once and short of it only slowly: of what
was measured, and added to it at twice the running requests that were."""
FREE = 0.95
"""Share of the KV cache that is planned with: blocks are whole, and a prompt must fit at one go."""
RATE_SHARE = 0.95
"""An open loop is planned at this share of what the server can do: at all of it the queue has no end."""
NEAR = 0.8
"""Share of its slots that a server runs, at the least, while they bind: requests of one length leave together."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Users (or requests/s) at the SLO with at most `running` requests at once, and the limit that breaks next."""

    load: float
    running: float
    breaks: str
    """Name of the target; empty: none that was measured."""


@dataclass(frozen=True, slots=True)
class Walls:
    """How many requests each wall lets run at once (None: not known), and how the server serves them."""

    service: Service
    axis: Axis
    slots: float | None
    kv: float | None
    budget: float | None
    bound: Bound
    """Which of them stops the present configuration; NONE: none was reached."""
    behind: float = math.inf
    """The server's own slots, where `slots` are those of a gate before it."""

    @property
    def running(self) -> float:
        """All that runs at once now; inf: no wall is known."""
        walls = [wall for wall in (self.slots, self.kv, self.budget) if wall is not None]
        return min(walls, default=math.inf)

    @property
    def others(self) -> float:
        """All that would run at once with slots enough; inf: no such wall is known."""
        return min(wall for wall in (self.kv, self.budget, self.behind) if wall is not None)

    def capacity(self, most: Array, careful: bool = False) -> tuple[Array, Array]:
        """(load at the SLO, running at it) where at most `most` requests run at once, for each of `most`.

        Args:
            careful: with the margins that advice is given with.
        """
        service, keep = self.service, self._keep(most) if careful else np.ones(len(most))
        held = [np.array([felt.line.reaches(k * felt.target.limit) for k in keep]) for felt in service.felt]
        alone = np.min(held, axis=0)
        running = np.minimum(most, alone)
        if self.axis == "rate":
            return RATE_SHARE * service.rate(running), running
        waits = [(keep * each.target.limit - each.line(running)) / each.wait for each in service.felt if each.wait]
        wait_s = np.min(waits, axis=0) if waits else np.zeros(len(running))
        queue = np.where(most <= alone, service.rate(running) * np.maximum(0.0, wait_s + service.outside_s), 0.0)
        return running + queue, running

    def _keep(self, most: Array) -> Array:
        beyond = np.maximum(0.0, most / self.service.most_running - 1.0)
        return 1.0 - MARGIN - MARGIN_BEYOND * beyond

    def carried(self, running: float, careful: bool = False) -> Carried:
        """What is carried with at most so many running; `running` may be inf."""
        alone, name = self.alone()
        load, used = self.capacity(np.array([min(running, alone + 1.0)]), careful)
        if used[0] < running:
            return Carried(float(load[0]), float(used[0]), name)
        left = [
            ((each.target.limit - float(each.line(running))) / each.wait, each)
            for each in self.service.felt
            if each.wait
        ]
        waits = min(left, key=lambda each: each[0], default=None)
        return Carried(float(load[0]), float(used[0]), "" if waits is None else waits[1].target.name)

    def alone(self) -> tuple[float, str]:
        """How many may run with nothing waiting, and the limit that breaks with more."""
        reached = [(each.line.reaches(each.target.limit), each.target.name) for each in self.service.felt]
        return min(reached, default=(math.inf, ""))

    def best(self, most: float) -> Carried:
        """The number of running requests, up to `most`, that carries the most users at the SLO."""
        top = math.floor(min(most, REACH * self.service.most_running))
        tried = np.arange(1.0, max(2.0, top + 1.0)) if top <= EACH else np.geomspace(1.0, top, EACH).round()
        load, _ = self.capacity(tried, careful=True)
        return self.carried(float(tried[int(np.argmax(load))]), careful=True)


def walls_of(
    levels: Sequence[Level],
    limits: Limits,
    slo: Slo,
    axis: Axis = "concurrency",
    *,
    bound: Bound = Bound.NONE,
    knee: float | None = None,
) -> Walls | str:
    """The walls behind the levels of one curve; a text: which measurement is missing for them.

    A gate in the client stands for the slots, with the server's own slots as one more wall behind them.

    Args:
        bound: what stops the server where the levels queue.
        knee: where the queue begins, for servers that do not show what they run.
    """
    found = _walls_of(levels, limits, slo, axis, bound, knee)
    if isinstance(found, str) or limits.gate is None or limits.own_slots is None:
        return found
    return replace(found, behind=limits.own_slots)


def _walls_of(
    levels: Sequence[Level], limits: Limits, slo: Slo, axis: Axis, bound: Bound, knee: float | None
) -> Walls | str:
    service = service_of(levels, slo, axis, knee)
    if isinstance(service, str):
        return service
    plateau = None if service.plateau is None else float(round(service.plateau))
    slots = limits.max_num_seqs
    kv = _kv_wall(levels, limits)
    if plateau is None:
        return Walls(service, axis, slots, kv, None, Bound.NONE)
    if bound is Bound.KV:
        return Walls(service, axis, slots, plateau, None, bound)
    kv = None if kv is None else max(kv, plateau)
    if bound is Bound.TOKEN_BUDGET:
        return Walls(service, axis, slots, kv, plateau, bound)
    if slots is None or plateau < NEAR * slots:
        slots = plateau if bound is Bound.QUEUE else slots
    return Walls(service, axis, slots, kv, None, bound)


def _kv_wall(levels: Sequence[Level], limits: Limits) -> float | None:
    """How many requests the KV cache holds: by what the running ones take of it, else by their lengths."""
    shown = [(level.running, level.kv_usage) for level in levels if level.running and level.kv_usage and level.n]
    if shown:
        running, used = max(shown)
        return float(max(1.0, math.floor(FREE * running / used)))
    told = limits.kv_requests
    return None if told is None else float(max(1.0, math.floor(FREE * told)))


WORTH = 0.05
"""Gain in capacity from which a knob is worth a restart: less lies within what was measured."""


def forecast(walls: Walls, limits: Limits) -> Forecast:
    """The knobs to turn for the most capacity at the SLO, and what they give; no turns where none is worth it."""
    now = walls.carried(walls.running)
    options = [_with_slots(walls, walls.others)]
    if walls.bound is Bound.KV and walls.kv is not None:
        options.append(_with_slots(walls, 2 * walls.kv, Turn(knob="kv", now=walls.kv, then=2 * walls.kv)))
    if walls.bound is Bound.TOKEN_BUDGET and walls.budget is not None:
        options.append(_with_budget(walls, limits))
    kept = Forecast(capacity_now=now.load, capacity_then=now.load, next_wall=now.breaks)
    best = kept
    for option in options:
        if option is not None and option.capacity_then >= (1 + WORTH) * best.capacity_then:
            best = option
    return msgspec.structs.replace(best, capacity_now=now.load)


def _with_slots(walls: Walls, room: float, *turns: Turn) -> Forecast | None:
    """The best number of slots where the other walls let `room` run."""
    best = walls.best(room)
    if best.running < 1:  # not even one request keeps the limits: no number of slots does
        return None
    slots = walls.slots if walls.slots is not None else math.inf
    if best.running < min(slots, room) or best.running > slots:
        turns = (*turns, Turn(knob="slots", now=walls.slots, then=best.running))
    if not turns:
        return None
    return _gives(walls, best, room, turns)


def _with_budget(walls: Walls, limits: Limits) -> Forecast | None:
    assert walls.budget is not None
    tokens = limits.max_num_batched_tokens
    if tokens is None:
        return None
    slots = walls.slots if walls.slots is not None else math.inf
    room = min(slots, walls.kv or math.inf)
    best = walls.best(min(room, REACH * walls.budget))
    if best.running < 1:
        return None
    then = tokens * best.running / walls.budget
    return _gives(walls, best, room, (Turn(knob="token_budget", now=tokens, then=then),))


def _gives(walls: Walls, best: Carried, room: float, turns: tuple[Turn, ...]) -> Forecast:
    """What the knobs give, and what stops them: a limit, the wall that lets `room` run, or the reach of the lines."""
    alone, name = walls.alone()
    top = REACH * walls.service.most_running
    loses = alone < min(room, top)
    wall: str | None = name
    if not loses and best.running >= math.floor(min(room, top)):
        others = {"token_budget": walls.budget, "queue": walls.slots if math.isinf(walls.behind) else walls.behind}
        wall = None if top < room else next((each for each, at in others.items() if at == room), "kv")
    return Forecast(turns=turns, capacity_now=0.0, capacity_then=best.load, next_wall=wall, more_loses=loses)
