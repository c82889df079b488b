"""What a server with a queue, slots and a KV cache does with a load, given how long its steps take: closed form.

Little's law does it: requests in flight are the rate times the time in flight, before the first token and after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmtop.simulator.engine.twin_steps import StepTime, Work

_TURNS = 60
"""Of the search for the requests that decode; it settles in about eight."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a request, on the mean. Tokens."""

    prompt: float
    """To compute: what no cache holds."""
    context: float
    """That a decoding request reads back at a step, on the mean over its steps."""
    output: float
    """Steps between its first token and its last."""
    held: float
    """That the KV cache holds for it, on the mean while it runs."""

    def work(self, decoding: float) -> Work:
        return Work(decoding, self.prompt, self.context, self.output)


@dataclass(frozen=True, slots=True)
class First:
    """Seconds from sending to the first token where nobody waits for a slot: `constant + P·(alone + crowd·B)`."""

    constant_s: float
    alone_s: float
    crowd_s: float

    def seconds(self, work: Work) -> float:
        return self.constant_s + work.prompt * (self.alone_s + self.crowd_s * work.decoding)


@dataclass(frozen=True, slots=True)
class State:
    """What a load comes to, on the mean. Seconds; per second."""

    tpot_s: float
    first_s: float
    """To the first token, without the wait for a slot."""
    wait_s: float
    """For a slot; inf: longer for as long as the load lasts."""
    requests_per_s: float
    running: float
    waiting: float


@dataclass(frozen=True, slots=True)
class Server:
    """Step time, time to the first token, and most requests at once (inf: not known)."""

    step: StepTime
    first: First
    cap: float

    def slower(self, factor: float, first: float) -> Server:
        """The same with every step, and the time to the first token, so many times as long."""
        return Server(_Slower(self.step, factor), self._first_by(first), self.cap)

    def _first_by(self, factor: float) -> First:
        first = self.first
        return First(factor * first.constant_s, factor * first.alone_s, factor * first.crowd_s)

    def users(self, load: float, shape: Shape) -> State:
        """Of so many users who ask again as soon as they are answered."""
        running = min(load, self.cap)
        decoding = _crossing(lambda b: self._in_flight(b, shape), running)
        tpot_s, rate = self._rate(decoding, shape)
        waiting = load - running
        first_s = self.first.seconds(shape.work(decoding))
        return State(tpot_s, first_s, waiting / rate, rate, running, waiting)

    def rate(self, load: float, shape: Shape) -> State:
        """Of so many requests/s, whoever is answered."""
        most = self.most(shape)
        if load > most.requests_per_s:
            return State(most.tpot_s, most.first_s, float("inf"), most.requests_per_s, self.cap, float("inf"))
        high = 1.0
        while self._rate(high, shape)[1] < load:
            high *= 2.0
            if high > 1e7:
                tpot_s, rate = self._rate(high, shape)
                return State(tpot_s, self.first.seconds(shape.work(high)), float("inf"), rate, high, float("inf"))
        decoding = _crossing(lambda b: self._rate(b, shape)[1], load, high)
        tpot_s, _ = self._rate(decoding, shape)
        first_s = self.first.seconds(shape.work(decoding))
        return State(tpot_s, first_s, 0.0, load, decoding + load * first_s, 0.0)

    def most(self, shape: Shape) -> State:
        """With every slot taken and nobody waiting; with a cap that is not known, what no load reaches."""
        if self.cap == float("inf"):
            return State(float("inf"), float("inf"), 0.0, float("inf"), self.cap, 0.0)
        return self.users(self.cap, shape)

    def _rate(self, decoding: float, shape: Shape) -> tuple[float, float]:
        tpot_s = self.step.seconds(shape.work(decoding))
        return tpot_s, decoding / (shape.output * tpot_s)

    def _in_flight(self, decoding: float, shape: Shape) -> float:
        return decoding + self._rate(decoding, shape)[1] * self.first.seconds(shape.work(decoding))


@dataclass(frozen=True, slots=True)
class _Slower:
    step: StepTime
    factor: float

    def seconds(self, work: Work) -> float:
        return self.factor * self.step.seconds(work)


def _crossing(rising: Callable[[float], float], wanted: float, high: float | None = None) -> float:
    """Where a rising function of 0 to `high` reaches `wanted` (Illinois: false position that does not stall)."""
    low, high = 0.0, wanted if high is None else high
    below, above = -wanted, rising(high) - wanted
    if above <= 0.0:
        return high
    side = 0
    at = high
    for _ in range(_TURNS):
        at = (low * above - high * below) / (above - below)
        off = rising(at) - wanted
        if abs(off) <= 1e-7 * wanted:
            break
        if off < 0.0:
            low, below = at, off
            above = above / 2.0 if side < 0 else above
            side = -1
        else:
            high, above = at, off
            below = below / 2.0 if side > 0 else below
            side = 1
    return at
