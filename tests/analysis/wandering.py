"""A hand that wanders: loads up and down with dwells of 2 to 15 s, judged every second as a live run is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from virtual import VirtualSession

from llmtop.domain.assessment import Assessment
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Bound, Kind
from llmtop.host.judging import Judge
from llmtop.simulator.engine import Preset, load_preset

SPAN_S = 240.0
DWELLS_S = (2.0, 15.0)
LONGER = (100.0, 140.0)
"""When prompts are twice as long."""
RIGHT = 0.10
LEVEL_S = 5.0
"""A load that lasts less than one E2E past the wall is no level."""


@dataclass(frozen=True)
class Wall:
    """A server, the loads that a hand tries on it, and what it can run out of."""

    preset: str
    knobs: dict[str, float]
    loads: tuple[int, int]
    bounds: frozenset[Bound]
    knee: float | None = None
    """At the shorter prompts; None: TTFT has no cliff within the loads."""


WALLS = {
    "slots": Wall("laptop", {"max_num_seqs": 16, "num_gpu_blocks": 3000}, (4, 48), frozenset({Bound.QUEUE}), 16.0),
    "kv": Wall("laptop", {"max_num_seqs": 256, "num_gpu_blocks": 400}, (4, 80), frozenset({Bound.KV}), 27.5),
    "compute": Wall(
        "laptop",
        {"max_num_seqs": 256, "num_gpu_blocks": 6000, "max_num_batched_tokens": 2048},
        (4, 64),
        frozenset({Bound.COMPUTE}),
    ),
    "none": Wall("h100-llama-3.1-8b", {}, (4, 64), frozenset()),
}


def preset_of(wall: Wall) -> Preset:
    return load_preset(wall.preset).with_knobs(dict(wall.knobs))


def steps(wall: Wall, seed: int) -> Iterator[tuple[float, LoadPoint]]:
    """(when, the load from then on): factors of 0.4 to 2.5 up and down, all over the loads of the wall."""
    rng = random.Random(1000 * seed + 7)
    low, high = wall.loads
    t_s, load = 0.0, float(low)
    while t_s < SPAN_S:
        prompt = 384 if LONGER[0] <= t_s < LONGER[1] else 192
        yield t_s, LoadPoint(concurrency=round(load), prompt_tokens=prompt, output_tokens=64)
        t_s += rng.uniform(*DWELLS_S)
        factor = rng.uniform(1.2, 2.5)
        up = rng.random() < 0.55
        if load * factor > high:
            up = False
        if load / factor < low:
            up = True
        load = load * factor if up else load / factor


@dataclass(frozen=True)
class Wander:
    """What was said each second, and of what."""

    wall: Wall
    said: tuple[Assessment, ...]
    commanded: tuple[tuple[float, LoadPoint], ...]

    @property
    def bound_changes(self) -> int:
        return _changes([each.diagnosis.bound for each in self.said])

    @property
    def headline_changes(self) -> int:
        return _changes([each.headline for each in self.said])

    @property
    def foreign_bounds(self) -> list[tuple[float, Bound]]:
        """When a bound was named that the server has not."""
        allowed = self.wall.bounds | {Bound.NONE}
        return [(each.t_s, each.diagnosis.bound) for each in self.said if each.diagnosis.bound not in allowed]

    @property
    def found_after_s(self) -> float | None:
        """Seconds from the arrival at the second level past the cliff to a cliff within 10 %; None: not found."""
        assert self.wall.knee is not None
        stops = [*(t_s for t_s, _ in self.commanded[1:]), self.said[-1].t_s]
        past = [
            t_s
            for (t_s, point), stop_s in zip(self.commanded, stops, strict=True)
            if point.value > (1 + RIGHT) * self.wall.knee and stop_s - t_s >= LEVEL_S and point.prompt_tokens == 192
        ]
        if len(past) < 2:
            return 0.0
        right = (each.t_s for each in self.said if self.is_right(each))
        at_s = next(right, None)
        return None if at_s is None else max(0.0, at_s - past[1])

    def is_right(self, said: Assessment) -> bool:
        knee, cliff = self.wall.knee, said.cliff
        if knee is None:
            return cliff.kind is not Kind.CLIFF
        return cliff.kind is Kind.CLIFF and cliff.at is not None and abs(cliff.at - knee) <= RIGHT * knee


def wander(name: str, seed: int, span_s: float = SPAN_S) -> Wander:
    """Drive a server of `WALLS` and judge it once a second."""
    wall = WALLS[name]
    plan = [each for each in steps(wall, seed) if each[0] < span_s]
    session = VirtualSession(preset_of(wall), plan[0][1], seed=seed)
    judge = Judge(parse_slo("ttft_p95<2s,tpot_p95<50ms"))
    said, left = [], plan[1:]
    for second in range(1, round(span_s) + 1):
        while left and left[0][0] < second:
            session.run_until(left[0][0])
            session.command(left.pop(0)[1])
        session.run_until(float(second))
        said.append(judge(session.facts, session.meta))
    return Wander(wall, tuple(said), tuple(plan))


def _changes(values: list[object]) -> int:
    return sum(a != b for a, b in pairwise(values))
