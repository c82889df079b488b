"""How good the advice is: its cause, what following it gives, and what a sweep in virtual time finds.

python tests/bench/bench_advice.py [NAME ...]    servers of `tests/analysis/advising.py` whose name holds one of NAME

`one` is the capacity at the SLO after following the advice once, `end` after measuring again and following it until it
stands (at most three times); `best` is the most that a sweep of the same knobs finds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "analysis")]

from advising import SERVERS, Knobs, Server, moves, ramp, right_cause, true_capacity, turned  # noqa: E402

from llmtop.domain.verdicts import Bound  # noqa: E402

ROUNDS = 3
FACTORS = (0.7, 0.85, 1.2, 1.5, 2.5)


def swept(server: Server, end: Knobs, bound: Bound, guess: float) -> float:
    """The best capacity over slots, and over the knob of the wall that binds, around where the advice ended."""
    config = server.deployed(end).config
    tries: list[Knobs] = [{"max_num_seqs": max(1, round(f * config.max_num_seqs))} for f in FACTORS]
    if guess < FACTORS[0] * config.max_num_seqs:
        tries += [{"max_num_seqs": max(1, round(f * guess))} for f in FACTORS[:3]]
    if bound is Bound.TOKEN_BUDGET:
        tries += [{"max_num_batched_tokens": round(f * config.max_num_batched_tokens)} for f in FACTORS]
    if bound is Bound.KV and "kv_bytes" not in end:
        more = {"num_gpu_blocks": 2 * config.num_gpu_blocks, "kv_bytes": 1.0}
        tries += [more | each for each in tries[: len(FACTORS)]]
    return max(true_capacity(server, end | each, guess) for each in tries)


def main(names: list[str]) -> None:
    chosen = [each for each in SERVERS if not names or any(name in each.name for name in names)]
    speed, room, harmed, near_one, near, unknown = 0, 0, 0, 0, 0, 0
    for server in chosen:
        began = time.perf_counter()
        found = ramp(server, {})
        diagnosis, at_slo = found.diagnosis, found.capacity.at_slo or 2.0
        base = true_capacity(server, {}, at_slo)
        faster, fuller = (right_cause(diagnosis.bound, gains) for gains in moves(server, 2 * max(base, 2.0)))
        knobs, one, told = {}, base, ""
        forecast = diagnosis.prediction
        for step in range(ROUNDS):
            if forecast is None or not forecast.turns:
                break
            knobs = turned(server, knobs, forecast)
            told = f"{told} {knobs}" if step == 0 else f"{told} -> {knobs}"
            if step == 0:
                one = true_capacity(server, knobs, forecast.capacity_then)
            forecast = ramp(server, knobs).diagnosis.prediction
        end = true_capacity(server, knobs, one) if knobs else base
        best = max(base, one, end, swept(server, knobs, diagnosis.bound, max(end, 2.0)))
        speed += faster
        room += fuller or faster
        unknown += diagnosis.prediction is None
        harmed += min(one, end) < 0.97 * base
        near_one += one >= 0.9 * best
        near += end >= 0.9 * best
        marks = ("" if faster else " SPEED" if fuller else " CAUSE") + (" HARM" if min(one, end) < 0.97 * base else "")
        marks += "" if end >= 0.9 * best else " LOW"
        print(
            f"{server.name:34} {diagnosis.bound:12} now {base:6.4g} one {one:6.4g} end {end:6.4g} best {best:6.4g}"
            f"{told}{marks}  {time.perf_counter() - began:.1f} s",
            flush=True,
        )
    print(f"{len(chosen)} servers: cause right by requests/s {speed}, or by what lets more run {room}")
    print(f"capacity lowered {harmed}; no number {unknown}")
    print(f"at least 90 % of the best after one step {near_one}, at the end {near}")


if __name__ == "__main__":
    main(sys.argv[1:])
