"""All numbers of slots on one server: a ramp up to each of them, then the best ones by gate, in rungs of 2, 4, 8 E2E.

A pure state machine, as the capacity search is: `next(facts, now_s)` looks at what the load did and says which load it
wants next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from llmtop.analysis.serving import Seen, carried, strain, tokens_at
from llmtop.analysis.tested import client_seconds
from llmtop.analysis.window import Window
from llmtop.domain.commands import SetLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo
from llmtop.domain.steering import Phase, Step
from llmtop.domain.tuning import Carried
from llmtop.meter.facts import Facts

RUNGS = (2.0, 4.0, 8.0)
"""E2E that each candidate is tried for, until one leads: tokens a second differ by 2.8, 2.2 and 1.5 % from window to
window then."""
ALONE = RUNGS[1]
"""E2E of the only one that is left: what the end of a tune is held against."""
MOST_S = 100.0
"""No further rung is begun after so long: the search that verifies the winner says more."""
LEAP = 4
"""No load is more than so many times the largest before: what a ramp says of the wait is not to flood a server."""
RIVAL = 0.85
"""Who seems to carry less than this share of the leader is tried only if the leader turns out to be worse."""
RAMP_E2ES = 2.0
RAMP_REQUESTS = 20
"""Fewer have no tail."""
PAST = 1.25
"""A level of the ramp that takes so much of a limit shows all it has to show of more."""
SAME = 0.03
"""A load as near as this to the one that was measured last is that one."""
CLIENT_S = 20
"""Seconds of the client after which a race that is void for its sake ends."""


@dataclass(frozen=True, slots=True)
class Raced:
    """What a race has found."""

    levels: tuple[Seen, ...]
    carried: tuple[tuple[int, Carried], ...]
    """(slots, users at the SLO), for each that could be told."""
    tokens: tuple[tuple[int, Carried], ...]
    """(slots, output tokens a second): with the users that were asked for, else with those that it carries."""
    dropped: tuple[int, ...] = ()
    """Slots that fell behind before they had a window of their own."""
    void: str = ""
    """Why nothing of it counts: `client`, or `stopped`."""


class Race:
    """Finds which number of slots carries most users at the SLO, or most tokens with `users` of them.

    Args:
        base: lengths of the load; its load and gate are not used.
        slots: what is tried; the server has the largest of them.
        users: how many the SLO must hold for; None: as many as it can.
        beat: what another server was found to carry (users at the SLO, or tokens): what lies surely below is dropped.
        most: largest load that may be driven.
    """

    def __init__(
        self,
        slo: Slo,
        base: LoadPoint,
        slots: Sequence[int],
        *,
        users: int | None = None,
        beat: Carried | None = None,
        most: int = 1024,
    ) -> None:
        self._slo, self._base = slo, replace(base, gate=None, think_time_s=0.0)
        self._slots, self._users, self._beat, self._most = tuple(sorted(set(slots))), users, beat, most
        self._ramp = [each for each in self._ramp_loads() if each <= most]
        self._levels: list[Seen] = []
        self._tried: dict[int, float] = dict.fromkeys(self._slots, 0.0)
        """E2E of the windows of each number of slots, beside the ramp."""
        self._newest: dict[int, Seen] = {}
        self._alive = list(self._slots)
        self._trying: int | None = None
        self._window: Window | None = None
        self._start_s: float | None = None
        self._void = ""
        self._done = False

    def _ramp_loads(self) -> list[int]:
        top = self._slots[-1] if self._users is None else min(self._slots[-1], self._users)
        return sorted({min(each, top) for each in self._slots})

    def next(self, facts: Facts, now_s: float) -> Step:
        """Look at the facts so far and say which load is wanted now. To be asked every 100 ms to 1 s."""
        if not self._done:
            self._advance(facts, now_s)
        if self._done or self._window is None:
            return Step(want=None, phase="done", done_levels=len(self._levels), left_s=0.0, text=self._text())
        want = SetLoad(self._window.point, "search")
        phase: Phase = "double" if self._trying is None else "confirm"
        return Step(want=want, phase=phase, done_levels=len(self._levels), text=self._text())

    @property
    def raced(self) -> Raced:
        """What is known by now."""
        told = {each: self._carried(each) for each in self._slots}
        users = [(each, found) for each, found in told.items() if found is not None]
        tokens = [(each, found) for each, _ in users if (found := self._tokens(each)) is not None]
        dropped = tuple(each for each in self._slots if each not in self._alive and not self._tried[each])
        return Raced(tuple(self._levels), tuple(users), tuple(tokens), dropped, self._void)

    @property
    def anchor(self) -> tuple[LoadPoint, float] | None:
        """The load at which the one that leads was measured last, and its output tokens a second there: what the same
        configuration is held against when all is done. None: nothing was measured."""
        if not self._levels:
            return None
        newest = self._newest.get(self._leader(), self._levels[-1])
        same = [seen for seen in self._levels if (seen.load, seen.gate) == (newest.load, newest.gate)]
        e2es = sum(seen.e2es for seen in same)
        point = replace(self._base.at("concurrency", newest.load), gate=newest.gate)
        return point, sum(seen.e2es * seen.tokens_per_s for seen in same) / e2es

    def _advance(self, facts: Facts, now_s: float) -> None:
        if self._start_s is None:
            self._start_s = now_s
            self._go_on(now_s)
            return
        if any(change.reason in ("hand", "stop") and change.t_s > self._start_s for change in facts.changes):
            self._end("stopped")
            return
        client = client_seconds(facts, self._start_s, now_s)
        if client.void and client.all >= CLIENT_S:
            self._end("client")
            return
        assert self._window is not None
        seen = self._window.look(facts, self._slo, now_s)
        if seen is None:
            return
        self._levels.append(seen)
        if self._trying is None:
            self._ramp = (
                [] if strain(seen, self._slo.felt) > PAST else [each for each in self._ramp if each > seen.load]
            )
        else:
            self._tried[self._trying] += seen.e2es
            self._newest[self._trying] = seen
        self._go_on(now_s)

    def _end(self, void: str = "") -> None:
        self._void, self._done = void, True

    def _go_on(self, now_s: float) -> None:
        if self._ramp:
            point = self._base.at("concurrency", self._ramp[0])
            self._window = Window(point, now_s, RAMP_E2ES, RAMP_REQUESTS)
            return
        self._drop()
        wanted = self._next_try(now_s)
        if wanted is None:
            self._end()
            return
        slots, rung = wanted
        before = self._window
        point = self._point_of(slots)
        near = before is not None and point.gate == before.point.gate and self._same(point, before.point)
        if near and before is not None:
            point = before.point
        self._trying = slots
        since_s = before.since_s if near and before is not None else now_s
        settle = 0.0 if near else 1.0
        self._window = Window(point, now_s, rung - self._tried[slots], RAMP_REQUESTS, settle, since_s)

    def _same(self, point: LoadPoint, other: LoadPoint) -> bool:
        return abs(point.value - other.value) <= max(1.0, SAME * other.value)

    def _point_of(self, slots: int) -> LoadPoint:
        """The load that decides over so many slots: what they are to carry, or seem to."""
        found = self._carried(slots)
        users = self._users or (slots if found is None else max(1, round(found.value)))
        users = min(users, LEAP * max(seen.load for seen in self._levels), self._most)
        gate = slots if users > slots and slots < self._slots[-1] else None
        return replace(self._base.at("concurrency", users), gate=gate)

    # ── Who leads ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _carried(self, slots: int) -> Carried | None:
        return carried(slots, self._levels, self._slo, self._most)

    def _tokens(self, slots: int) -> Carried | None:
        if self._users is not None:
            return tokens_at(self._users, slots, self._levels)
        found = self._carried(slots)
        return None if found is None else tokens_at(max(1, round(found.value)), slots, self._levels)

    def _worth(self, slots: int) -> Carried:
        """What is to be largest: users at the SLO; with `users`, tokens where these are carried, and less than any
        tokens where they are not."""
        found = self._carried(slots) or Carried(0.0, 0.0, math.inf)
        if self._users is None:
            return found
        tokens = self._tokens(slots) or Carried(0.0, 0.0, math.inf)
        short = [each / self._users - 1 for each in (found.value, found.low, found.high)]
        value, low, high = (
            told if lack >= 0 else lack
            for told, lack in zip((tokens.value, tokens.low, tokens.high), short, strict=True)
        )
        return Carried(value, low, high)

    def _drop(self) -> None:
        """Leave out who surely carries less than the one that leads."""
        leader = self._leader()
        bar = self._worth(leader)
        if self._beat is not None and self._beat.low > bar.low:
            bar = self._beat
        kept = [each for each in self._alive if each == leader or not bar.above(self._worth(each))]
        enough = next((each for each in kept if self._enough(each)), None)
        self._alive = [each for each in kept if enough is None or each <= enough]

    def _enough(self, slots: int) -> bool:
        """Whether a limit surely breaks before so many run: more slots would never be used."""
        found = self._carried(slots)
        return found is not None and found.high <= slots < self._most

    def _leader(self) -> int:
        """Of those that are as good as one another, the smallest: it leaves most memory to the cache."""
        best = max(self._worth(each).value for each in self._alive)
        return next(each for each in self._alive if self._worth(each).value >= best - 1e-9 * abs(best))

    def _next_try(self, now_s: float) -> tuple[int, float] | None:
        """(slots, rung) of the next window; None: it is decided, or the last rung is through."""
        leader = self._leader()
        if self._beat is not None and self._beat.above(self._worth(leader)):
            return None
        rung = ALONE if len(self._alive) == 1 else RUNGS[-1]
        near = RIVAL * self._worth(leader).value
        rivals = [each for each in self._alive if each == leader or self._worth(each).value >= near]
        short = [each for each in rivals if self._tried[each] < 0.95 * rung]
        if not short:
            return None
        if now_s - (self._start_s or 0.0) > MOST_S and all(self._tried[each] for each in rivals):
            return None
        slots = min(short, key=lambda each: (self._tried[each] >= 0.95 * RUNGS[0], self._tried[each], each != leader))
        return slots, next(each for each in RUNGS if self._tried[slots] < 0.95 * each)

    def _text(self) -> str:
        if self._done or self._window is None:
            return "decided"
        load = self._window.load
        if self._trying is None:
            return f"ramp: {load} in flight"
        return f"{self._trying} slots: {load} users"
