"""Pacing: how much load a plan wants, and when its next request is due, as pure functions of elapsed time.

A plan is compiled into pieces, one for each straight line or swing of its shapes; a piece knows its value, the integral
of its value and the inverse of that integral in closed form (a swing inverts by bisection). Nothing is unrolled into a
list of requests, so that a plan can be replaced at any moment and an hour of it costs as much as a second.

Open-loop arrivals are a renewal process in *operational* time, the integral of the planned rate: gaps of mean 1 are
drawn there and mapped back through the inverse (time-rescaling theorem; Brown et al., Neural Computation 14, 2002). So
arrivals follow a rate that changes, and the number of requests sent by `t` is the integral of the plan up to `t`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Ramp, Replay, Sine, Spike, Stage, Steps

_BISECTIONS = 48
"""Halvings of a span of at most a day: to below a nanosecond."""


class _Piece(Struct, frozen=True):
    """One straight line (from `first` to `last`) or one swing (`period_s`, from `first` up to `last` and back)."""

    start_s: float
    stop_s: float
    first: float
    last: float
    rate: bool
    """Whether the value is a rate; else it is a concurrency and adds nothing to the integral."""
    point: LoadPoint
    stage: int
    period_s: float | None = None

    def value(self, at_s: float) -> float:
        if self.period_s is not None:
            middle, swing = (self.first + self.last) / 2, (self.last - self.first) / 2
            return middle - swing * math.cos(math.tau * at_s / self.period_s)
        return self.first + self._slope * at_s

    def area(self, at_s: float) -> float:
        if not self.rate:
            return 0.0
        if self.period_s is not None:
            middle, swing = (self.first + self.last) / 2, (self.last - self.first) / 2
            return middle * at_s - swing * self.period_s / math.tau * math.sin(math.tau * at_s / self.period_s)
        return self.first * at_s + self._slope * at_s * at_s / 2

    def when(self, area: float) -> float:
        """The inverse of `area`."""
        if self.period_s is None:
            root = self.first + math.sqrt(max(0.0, self.first * self.first + 2 * self._slope * area))
            return 2 * area / root if root > 0 else 0.0
        low, high = 0.0, self.stop_s - self.start_s
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if self.area(middle) < area:
                low = middle
            else:
                high = middle
        return high

    @property
    def _slope(self) -> float:
        return 0.0 if self.first == self.last else (self.last - self.first) / (self.stop_s - self.start_s)

    def load(self, at_s: float) -> LoadPoint:
        value = self.value(at_s)
        if self.rate:
            return self.point.at("rate", max(0.0, value))
        return self.point.at("concurrency", max(0, math.floor(value + 0.5)))


class Pacer(Struct, dict=True):
    """Asked, again and again, what load a plan wants now and when the next request is due.

    Its fields are all that it is made of, so it travels between processes as it stands.
    """

    plan: LoadPlan
    """What to follow. Without stages: its base point, for ever (a hand on the slider)."""
    seed: int = 0
    """Of the arrivals."""
    start_s: float = 0.0
    """Where in the plan to start; `elapsed_s` counts from there."""
    first: int = 0
    """How many arrivals there were before; with `ahead` it says which stretch of random numbers to draw from."""
    ahead: float | None = None
    """Requests of operational time until the first arrival; None: drawn, or 1/2 for constant pacing."""
    share: tuple[int, int] = (0, 1)
    """(i, n): answer only for the arrivals whose number is i modulo n and for the i-th share of the concurrency, so
    that n workers with the same pacer are together exactly one. With a gate each has its share of the gate, and of
    arrivals and users so many as go through it: all wait equally long."""
    times: bytes = b""
    """When the requests of a trace are due, in seconds into the plan, in order, as they lie in memory (float64):
    exactly these are sent, and the plan's rate only says how much that is. Empty: arrivals are drawn."""

    def __post_init__(self) -> None:
        self.times_s = memoryview(self.times).cast("d")
        self._pieces = tuple(_pieces(self.plan))
        self._starts = [piece.start_s for piece in self._pieces]
        self._areas = [0.0]
        for piece in self._pieces[:-1]:
            self._areas.append(self._areas[-1] + piece.area(piece.stop_s - piece.start_s))
        self._end_s = self._pieces[-1].stop_s
        self._gate = min((piece.point.gate for piece in self._pieces if piece.point.gate is not None), default=None)
        self._origin = self._area(self.start_s)
        self._rewind()

    @classmethod
    def hold(cls, point: LoadPoint, seed: int = 0) -> Pacer:
        """One load, for ever: what a hand on the slider sets."""
        return cls(LoadPlan(stages=(), base=point), seed)

    def target(self, elapsed_s: float) -> LoadPoint | None:
        """The load wanted at `elapsed_s`, of all shares together; None: the plan has ended."""
        at_s = self.start_s + elapsed_s
        if at_s >= self._end_s:
            return None
        piece = self._piece(at_s)
        return piece.load(at_s - piece.start_s)

    def own(self, amount: int, gate: int | None = None) -> int:
        """This share's part of a concurrency, or of a gate: parts differ by at most 1 and add up.

        Args:
            gate: that users wait at: parts are then as large as the shares of the gate are.
        """
        index, count = self.share
        if gate is None:
            whole, rest = divmod(amount, count)
            return whole + (index < rest)
        whole, rest = divmod(gate, count)
        before = whole * index + min(index, rest)
        return amount * (before + self.own(gate)) // gate - amount * before // gate

    def stage(self, elapsed_s: float) -> tuple[Stage | None, float | None]:
        """The stage at `elapsed_s` and the seconds that it still lasts; (None, None) by hand and after the end."""
        at_s = self.start_s + elapsed_s
        if not self.plan.stages or at_s >= self._end_s:
            return None, None
        index = self._piece(at_s).stage
        end_s = sum(stage.duration_s for stage in self.plan.stages[: index + 1])
        return self.plan.stages[index], end_s - at_s

    def integral(self, elapsed_s: float) -> float:
        """Requests that the planned rate adds up to by `elapsed_s`, all shares together."""
        return self._area(self.start_s + elapsed_s) - self._origin

    def arrivals(self, elapsed_s: float) -> int:
        """How many requests were due by `elapsed_s`, all shares together."""
        if self.times_s:
            return max(0, bisect_right(self.times_s, self.start_s + elapsed_s) - self.first)
        due = self.integral(elapsed_s)
        if due < self._position:
            self._rewind()
        while self._position <= due:
            self._advance()
        return self._number - 1

    def send_s(self, sent: int) -> float:
        """When this share's next request is due after it has sent `sent`; infinite: never."""
        number = self._own_number(sent)
        if number is None:
            return math.inf
        if self.times_s:
            place = self.first + number - 1
            return self.times_s[place] - self.start_s if place < len(self.times_s) else math.inf
        if number < self._number:
            self._rewind()
        while self._number < number:
            self._advance()
        return self._when(self._origin + self._position) - self.start_s

    def soon(self, elapsed_s: float, within_s: float) -> int:
        """How many requests of a trace are due from `elapsed_s` on within so long, of this share; 0: none, or drawn."""
        if not self.times_s:
            return 0
        own, size = self.dealt
        return -(-(self.arrivals(elapsed_s + within_s) - self.arrivals(elapsed_s)) * own // size)

    def row(self, sent: int) -> int | None:
        """Which request of a trace is this share's next after it has sent `sent`, from 0; None: arrivals are drawn."""
        number = self._own_number(sent) if self.times_s else None
        return None if number is None else self.first + number - 1

    @property
    def dealt(self) -> tuple[int, int]:
        """(own, all): of so many arrivals in a row so many are this share's: one each, or its part of the gate."""
        return (1, self.share[1]) if self._gate is None else (self.own(self._gate), self._gate)

    def _own_number(self, sent: int) -> int | None:
        """Number, from `first` on, of the arrival that is this share's after `sent` of them; None: none is."""
        index, count = self.share
        own, size = self.dealt
        if own == 0:
            return None
        rounds, dealt = divmod(self.first, size)
        nth = rounds * own + max(0, -(-(dealt - index) // count)) + sent
        return nth // own * size + index + nth % own * count - self.first + 1

    def next_send(self, elapsed_s: float, sent: int) -> float:
        """Seconds until this share's next request is due; 0: now, or overdue; infinite: never."""
        return max(0.0, self.send_s(sent) - elapsed_s)

    def replaced(self, plan: LoadPlan, elapsed_s: float, start_s: float = 0.0) -> Pacer:
        """A pacer for `plan`, from `elapsed_s` on. Another plan than a trace's own draws its arrivals.

        The next arrival stays as far away, counted in requests: a slider that is dragged over a rate does not push it
        along, and no move sends an extra one.
        """
        due = self.arrivals(elapsed_s)
        if self.times_s:
            times = self.times if plan == self.plan else b""
            return replace(self, plan=plan, start_s=start_s, first=self.first + due, times=times)
        ahead = self._position - self.integral(elapsed_s)
        return replace(self, plan=plan, start_s=start_s, first=self.first + due, ahead=ahead)

    def shared(self, index: int, count: int) -> Pacer:
        """The same pacer for one of `count` workers."""
        return replace(self, share=(index, count))

    def _piece(self, at_s: float) -> _Piece:
        return self._pieces[max(0, bisect_right(self._starts, at_s) - 1)]

    def _area(self, at_s: float) -> float:
        index = max(0, bisect_right(self._starts, at_s) - 1)
        piece = self._pieces[index]
        return self._areas[index] + piece.area(min(at_s, piece.stop_s) - piece.start_s)

    def _when(self, area: float) -> float:
        """When in the plan the integral reaches `area`; infinite: never."""
        index = max(0, bisect_left(self._areas, area) - 1)
        piece = self._pieces[index]
        if math.isinf(piece.stop_s):
            reached = piece.rate and piece.first > 0
        else:
            reached = self._areas[index] + piece.area(piece.stop_s - piece.start_s) >= area
        return piece.start_s + piece.when(area - self._areas[index]) if reached else math.inf

    def _rewind(self) -> None:
        """Back to the first arrival; `_position` is where arrival `_number` lies in operational time."""
        self._rng = Random(f"arrivals {self.seed} {self.first} {self.ahead}")  # `ahead` was drawn from another stretch
        self._number = 1
        burstiness = self._burstiness(0.0)
        self._position = self._gap(burstiness) if self.ahead is None else self.ahead
        if self.ahead is None and math.isinf(burstiness):
            self._position = 0.5

    def _advance(self) -> None:
        self._position += self._gap(self._burstiness(self._position))
        self._number += 1

    def _burstiness(self, position: float) -> float:
        return self._pieces[max(0, bisect_left(self._areas, self._origin + position) - 1)].point.burstiness

    def _gap(self, burstiness: float) -> float:
        """Between two arrivals, with mean 1: Gamma with shape `burstiness`."""
        if math.isinf(burstiness):
            return 1.0
        if burstiness == 1:
            return self._rng.expovariate(1.0)
        return self._rng.gammavariate(burstiness, 1 / burstiness)


def _pieces(plan: LoadPlan) -> Iterator[_Piece]:
    if not plan.stages:
        yield _line(0.0, math.inf, plan.base)
        return
    start_s = 0.0
    for index, stage in enumerate(plan.stages):
        point = plan.base
        if stage.prompt_tokens is not None:
            point = replace(point, prompt_tokens=stage.prompt_tokens)
        if stage.output_tokens is not None:
            point = replace(point, output_tokens=stage.output_tokens)
        if stage.gate is not None:
            point = replace(point, gate=stage.gate)
        yield from _stage_pieces(stage, start_s, point, index)
        start_s += stage.duration_s


def _stage_pieces(stage: Stage, start_s: float, point: LoadPoint, index: int) -> Iterator[_Piece]:
    shape, stop_s = stage.shape, start_s + stage.duration_s
    if isinstance(shape, Replay):
        yield from _replayed(shape, start_s, stop_s, point, index)
    elif isinstance(shape, Hold):
        if shape.concurrency is not None or shape.rate_rps is not None:
            point = replace(point, concurrency=shape.concurrency, rate_rps=shape.rate_rps)
        yield _line(start_s, stop_s, point, index)
    elif isinstance(shape, Ramp):
        yield _Piece(start_s, stop_s, shape.start, shape.stop, shape.unit == "rate_rps", point, index)
    elif isinstance(shape, Sine):
        rate = shape.unit == "rate_rps"
        yield _Piece(start_s, stop_s, shape.low, shape.high, rate, point, index, shape.period_s)
    else:
        borders, values = _levels(shape)
        times = [start_s + border * stage.duration_s for border in borders]
        for (left_s, right_s), value in zip(pairwise(times), values, strict=True):
            if right_s > left_s:
                yield _Piece(left_s, right_s, value, value, shape.unit == "rate_rps", point, index)


def _levels(shape: Steps | Spike) -> tuple[list[float], tuple[float, ...]]:
    """Borders as shares of the stage, from 0 to 1, and the value between each two."""
    if isinstance(shape, Spike):
        return [0.0, shape.rise, shape.fall, 1.0], (shape.base, shape.peak, shape.base)
    count = len(shape.levels)
    return [i / count for i in range(count + 1)], shape.levels


def _replayed(shape: Replay, start_s: float, stop_s: float, point: LoadPoint, index: int) -> Iterator[_Piece]:
    """Each point until the next; before the first one, no load."""
    moves = [(start_s, point.at("concurrency", 0))]
    moves += [(start_s + at_s, moved) for at_s, moved in shape.points if start_s + at_s < stop_s]
    for (left_s, moved), (right_s, _) in pairwise([*moves, (stop_s, point)]):
        if right_s > left_s:
            yield _line(left_s, right_s, replace(moved, gate=moved.gate or point.gate), index)


def _line(start_s: float, stop_s: float, point: LoadPoint, stage: int = 0) -> _Piece:
    if point.rate_rps is not None:
        return _Piece(start_s, stop_s, point.rate_rps, point.rate_rps, True, point, stage)
    level = float(point.concurrency or 0)
    return _Piece(start_s, stop_s, level, level, False, point, stage)
