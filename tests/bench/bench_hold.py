"""How control at the edge of the limits finds and keeps it, in virtual time: `bench_hold.py [SEEDS] [SERVER ...]`.

Prints for each server and start, over the seeds: the capacity at the SLO as `predict` has it, seconds until the load is
within [0.85, 1.0] of that capacity, the share of the rest of the run that it is (and within [0.85, 1.1]), the longest
time above 1.1 after it was first below, the users held, also over the capacity, and the load from which latency turns
as the hold has it (--: nothing waits there). `laptop, slots 32 to 64` turns the slots of a laptop that is held: seconds
from the turn on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import median

from msgspec import Struct

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "analysis")]

from virtual import VirtualSession  # noqa: E402

from llmtop.analysis.hold import EdgeHold  # noqa: E402
from llmtop.domain.load import LoadPoint  # noqa: E402
from llmtop.domain.slo import LATENCIES, parse_slo  # noqa: E402
from llmtop.simulator.engine import load_preset, predict  # noqa: E402
from llmtop.simulator.engine.driver import Lengths  # noqa: E402

SLO = "ttft_p95<2s,tpot_p95<50ms"
SERVERS: dict[str, tuple[str, dict[str, int], str, int, int]] = {
    "laptop": ("laptop", {}, SLO, 192, 64),
    "laptop, ttft alone": ("laptop", {}, "ttft_p95<2s", 192, 64),
    "laptop, ttft 300 ms": ("laptop", {}, "ttft_p95<300ms", 192, 64),
    "h100 8b, 64 slots": ("h100-llama-3.1-8b", {"max_num_seqs": 64}, SLO, 192, 64),
    "a100 phi, 96 slots": ("a100-phi-4-mini", {"max_num_seqs": 96}, SLO, 512, 128),
    "laptop, e2e 6 s": ("laptop", {}, "e2e_p95<6s", 192, 64),
    "4090 8b, tpot": ("rtx4090-llama-3.1-8b", {}, SLO, 192, 64),
    "l4 8b, kv": ("l4-llama-3.1-8b", {}, "ttft_p95<5s,tpot_p95<200ms", 512, 128),
}
"""Preset, knobs, SLO, prompt and output tokens."""
CV = 0.3
STARTS = (0.0, 0.5, 2.0)
"""Shares of the capacity; 0: one user."""
RUN_S = 180.0
LOOK_S = 0.25
DWELL_S = 10.0
"""At the load of the start before the hold begins."""
BAND = (0.85, 1.0)
OVER = 1.1


class Course(Struct, frozen=True):
    """What a hold did, at each look: (seconds since it began, users)."""

    looks: tuple[tuple[float, int], ...]
    marks: tuple[tuple[float, str], ...]
    turns_at: float | None
    """From where requests wait, as the hold has seen it."""

    def enters_s(self, capacity: float, since_s: float = 0.0) -> float | None:
        low, high = BAND
        return next((t - since_s for t, n in self.looks if t >= since_s and low <= n / capacity <= high), None)

    def kept(self, capacity: float, from_s: float, high: float) -> float:
        """Share of the looks from then on inside the band, up to `high`."""
        later = [n / capacity for t, n in self.looks if t >= from_s]
        return sum(BAND[0] <= each <= high for each in later) / max(1, len(later))

    def over_s(self, capacity: float, since_s: float = 0.0) -> float:
        """The longest time above `OVER` times the capacity, after it was first below."""
        longest = lasts = 0.0
        below = False
        for t_s, users in self.looks:
            if t_s < since_s:
                continue
            below = below or users <= OVER * capacity
            lasts = lasts + LOOK_S if below and users > OVER * capacity else 0.0
            longest = max(longest, lasts)
        return longest


@cache
def capacity_of(name: str, slots: int | None = None) -> int:
    """The most users with whom a long run holds the SLO, to 1 %."""
    preset, knobs, text, prompt, output = SERVERS[name]
    server = load_preset(preset).with_knobs({**knobs, **({} if slots is None else {"max_num_seqs": slots})})
    lengths = Lengths(prompt_tokens=prompt, output_tokens=output, prompt_cv=CV, output_cv=CV)
    targets = [target for target in parse_slo(text).targets if target.metric in LATENCIES]

    def carries(users: int) -> bool:
        count = max(1500, 12 * users)
        point = predict(
            server, concurrency=[users], lengths=lengths, requests_per_level=count, stagger_s=None, seed=99
        ).points[0]
        found = {"ttft": point.ttft_ms.p95, "tpot": point.tpot_ms.p95, "e2e": point.e2e_ms.p95}
        return all((found[target.metric] or 0.0) <= 1e3 * target.limit for target in targets)

    low, high = 0, 16
    while carries(high):
        low, high = high, 2 * high
    while high - low > max(1, 0.01 * low):
        middle = (low + high) // 2
        low, high = (middle, high) if carries(middle) else (low, middle)
    return low


def held(name: str, start: int, seed: int, run_s: float = RUN_S, turn: tuple[float, int] | None = None) -> Course:
    """The course of one hold from so many users on. `turn`: (when, slots from then on)."""
    preset, knobs, text, prompt, output = SERVERS[name]
    point = LoadPoint(concurrency=start, prompt_tokens=prompt, output_tokens=output)
    server = load_preset(preset).with_knobs(knobs)
    session = VirtualSession(server, point, seed=seed, prompt_cv=CV, output_cv=CV, streamed=True)
    session.run_until(DWELL_S)
    hold = EdgeHold(parse_slo(text), point)
    looks, marks = [], []
    for look in range(round(run_s / LOOK_S)):
        t_s = look * LOOK_S
        if turn is not None and t_s == turn[0]:
            session.turn(max_num_seqs=turn[1])
        step = hold.next(session.facts, session.now_s)
        assert step.point is not None
        looks.append((t_s, int(step.point.value)))
        marks += [(t_s, mark) for mark in step.marks]
        session.command(step.point, "hold")
        session.run_until(DWELL_S + t_s + LOOK_S)
    return Course(tuple(looks), tuple(marks), hold._turns_at)


def shown(name: str, capacity: int, start: str, courses: Sequence[Course], since_s: float = 0.0) -> None:
    entered = [course.enters_s(capacity, since_s) for course in courses]
    known = [each for each in entered if each is not None]
    late = [RUN_S if each is None else each for each in entered]
    kept = [
        [course.kept(capacity, since_s + at_s, high) for course, at_s in zip(courses, late, strict=True)]
        for high in (BAND[1], OVER)
    ]
    over = max(course.over_s(capacity, since_s) for course in courses)
    users = [n for course in courses for t, n in course.looks if t >= max(120.0, since_s + 60.0)]
    turns = courses[0].turns_at
    enters = f"{median(late):5.1f} s (most {max(late):5.1f})" if known else "   never          "
    print(
        f"{name:20s} {capacity:4d}  from {start:7s} in band after {enters}  then {min(kept[0]):4.0%} (to 1.1: "
        f"{min(kept[1]):4.0%})  above 1.1 for {over:4.1f} s  holds {median(users):4.0f} "
        f"= {median(users) / capacity:.2f} [{min(users) / capacity:.2f}, {max(users) / capacity:.2f}]"
        f"  turns at {'--' if turns is None else f'{turns:.0f}'}",
        flush=True,
    )


def main(arguments: list[str]) -> None:
    seeds = range(int(arguments[0]) if arguments else 5)
    for name in [name for name in SERVERS if not arguments[1:] or name in arguments[1:]]:
        capacity = capacity_of(name)
        for share in STARTS:
            start = max(1, round(share * capacity))
            courses = [held(name, start, seed) for seed in seeds]
            shown(name, capacity, f"{start}", courses)
    if not arguments[1:] or "laptop, slots 32 to 64" in arguments[1:]:
        for name in ("laptop, ttft alone", "laptop"):
            after = capacity_of(name, 64)
            courses = [held(name, round(0.95 * capacity_of(name)), seed, turn=(60.0, 64)) for seed in seeds]
            shown(f"{name}: 32 to 64", after, "60 s on", courses, since_s=60.0)


if __name__ == "__main__":
    main(sys.argv[1:])
