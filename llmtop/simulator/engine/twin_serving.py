"""What a server with a queue, slots and a KV cache does with a load, given how long its steps take: closed form.

Little's law does it: requests in flight are the rate times the time in flight, before the first token and after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from llmtop.domain.load import Axis
from llmtop.simulator.engine.twin_steps import Parts, StepTime, Work

_TURNS = 60
"""Of the search for the requests that decode; it settles in about eight."""
_CLOSE = 1e-5
"""Share of what is wanted, to which it is done."""
_MOST = 1e7
"""Requests at once beyond which no rate is looked for."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a request, on the mean. Tokens."""

    prompt: float
    """To compute: what no cache holds."""
    context: float
    """That a decoding request reads back at a step, on the mean over its steps."""
    steps: float
    """Between its first token and its last."""
    held: float
    """That the KV cache holds for it, on the mean while it runs."""
    held_cv: float
    """Deviation of that over its mean, from one to another."""
    alike: bool
    """Users who ask again when they are answered: a request is one of those that run. Else it comes beside them."""

    def work(self, decoding: float) -> Work:
        others = max(decoding - 1.0, 0.0) if self.alike else decoding
        return Work(others, self.prompt, self.context, self.steps)


@dataclass(frozen=True, slots=True)
class First:
    """Seconds from sending to the first token where nobody waits for a slot."""

    away_s: float
    """On the way there and back, and in the server's front."""
    rest: float
    """Of a running step that is waited for."""
    prompt: float
    """Over the steps of a prompt."""
    convoy: float = 0.0
    """Share of the others whose prompts are computed in the same steps."""

    def inside_s(self, parts: Parts) -> float:
        """With the engine."""
        return self.rest * parts.rest_s + self.prompt * parts.prompt_s + self.convoy * parts.convoy_s


@dataclass(frozen=True, slots=True)
class State:
    """What a load comes to, on the mean. Seconds; per second."""

    tpot_s: float
    first_s: float
    """To the first token, without the wait for a slot."""
    wait_s: float
    """For a slot; inf: longer for as long as the load lasts."""
    requests_per_s: float
    decoding: float
    """Of those that run, which are given tokens."""
    running: float
    waiting: float

    def slower(self, factor: float) -> State:
        """The same requests at once, all of it so many times as long."""
        tpot_s, first_s, wait_s = (factor * seconds for seconds in (self.tpot_s, self.first_s, self.wait_s))
        rate = self.requests_per_s / factor
        return replace(self, tpot_s=tpot_s, first_s=first_s, wait_s=wait_s, requests_per_s=rate)


class Server:
    """One kind of request on a server of so many slots, or of what its KV cache holds at once (inf: not known)."""

    def __init__(self, step: StepTime, first: First, cap: float, shape: Shape) -> None:
        self.cap = cap
        self._step, self._first, self._shape = step, first, shape
        self._full = self._at(_crossing(lambda b: self._at(b).running, cap)) if cap < inf else None

    def users(self, load: float) -> State:
        """Of so many users who ask again as soon as they are answered."""
        full = self._full
        if full is None or load <= self._flying(full):
            return self._at(_crossing(lambda b: self._flying(self._at(b)), load))
        waiting = load - self._flying(full)
        return replace(full, wait_s=waiting / full.requests_per_s, waiting=waiting)

    def rate(self, load: float) -> State:
        """Of so many requests/s, whoever is answered."""
        if self._full is not None and load > self._full.requests_per_s:
            return replace(self._full, wait_s=inf, waiting=inf)
        high = 1.0
        while self._at(high).requests_per_s < load:
            high *= 2.0
            if high > _MOST:
                return replace(self._at(high), wait_s=inf, waiting=inf)
        state = self._at(_crossing(lambda b: self._at(b).requests_per_s, load, high))
        return replace(state, requests_per_s=load)

    def full(self, axis: Axis) -> float:
        """The load with which every slot is taken and nobody waits; inf: the slots are not known."""
        if self._full is None:
            return inf
        return self._full.requests_per_s if axis == "rate" else self._flying(self._full)

    def marching_s(self, state: State, more: float) -> float:
        """To the first token, were so large a share more of the others prefilled in the same steps."""
        parts = self._step.parts(self._shape.work(state.decoding))
        return state.first_s + max(min(more, 1.0 - self._first.convoy), 0.0) * parts.convoy_s

    def prompt_share(self, state: State) -> float:
        """Of the engine's time, what is spent on prompts."""
        return self._step.prompt_share(self._shape.work(state.decoding))

    def _at(self, decoding: float) -> State:
        parts = self._step.parts(self._shape.work(decoding))
        rate = decoding / (self._shape.steps * parts.tpot_s)
        inside_s = self._first.inside_s(parts)
        running = decoding + rate * inside_s
        return State(parts.tpot_s, self._first.away_s + inside_s, 0.0, rate, decoding, running, 0.0)

    def _flying(self, state: State) -> float:
        return state.running + state.requests_per_s * self._first.away_s


def asked_of(server: Server, load: float, axis: Axis) -> State:
    """What a load on either axis comes to."""
    return server.rate(load) if axis == "rate" else server.users(load)


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
        if abs(off) <= _CLOSE * wanted:
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
