"""The twin against simulated servers as truth: what it foretells at loads, slots and KV caches that it never saw.

    python tests/bench/bench_twin.py [--quick] [--only loads,walls,box,real] [--seeds 20] [--first 0] [--presets laptop]

`loads`  levels up to L users, short as a ramp's; TPOT and tokens/s at 2 L within 10 % in 90 % of all, at 4 L in 20 %.
`walls`  most at once, and users within 1 s of TTFT p95, at other slots and KV caches, within 10 %.
`box`    questions outside of what was measured: none may be given a number.
`real`   a measured server of 128 slots: its own levels within 5 %.
Every fit takes less than 0.3 s.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "simulator_engine")]

from twinning import h100_levels, known_of, measured  # noqa: E402

from llmtop.domain.foresight import Interval  # noqa: E402
from llmtop.simulator.engine import Lengths, Preset, load_preset  # noqa: E402
from llmtop.simulator.engine.twin import Asked, Foreseen, Known, Measured, Outside, Twin, fit  # noqa: E402

PRESETS = {
    "laptop": {"max_num_seqs": 256, "num_gpu_blocks": 8192},
    "h100-llama-3.1-8b": {},
    "rtx4090-qwen2.5-7b": {"num_gpu_blocks": 20_000},
    "a100-phi-4-mini": {},
}
LENGTHS = (
    Lengths(prompt_tokens=192, output_tokens=64),
    Lengths(prompt_tokens=256, output_tokens=96, prompt_cv=0.5, output_cv=0.5),
    Lengths(prompt_tokens=512, output_tokens=128, prompt_cv=0.3, output_cv=0.5),
    Lengths(prompt_tokens=900, output_tokens=64, prompt_cv=0.2),
)
TOPS = (16, 32)
TTFT_S = 1.0
slowest_fit_s = 0.0


def twin_of(levels: Sequence[Measured], known: Known) -> Twin:
    global slowest_fit_s
    began = time.process_time()
    twin = fit(levels, known)
    slowest_fit_s = max(slowest_fit_s, time.process_time() - began)
    assert isinstance(twin, Twin), twin
    return twin


def ladder(top: int, chance: random.Random) -> list[int]:
    """3 to 6 loads up to `top`, as a hand or a ramp would leave them."""
    below = [users for users in (1, 2, 4, 6, 8, 12, 16, 24) if users <= top / 1.3]
    return [*sorted(chance.sample(below, chance.randint(2, min(5, len(below))))), top]


def ramp(preset: Preset, loads: Sequence[int], lengths: Lengths, chance: random.Random) -> list[Measured]:
    counts = [chance.randint(216, 582) for _ in loads]
    pairs = zip(loads, counts, strict=True)
    return [measured(preset, load, lengths, count=count, seed=chance.randrange(10**6)) for load, count in pairs]


def table(title: str, rows: dict[str, list[float]], limit: float) -> None:
    for name, misses in rows.items():
        if misses:
            inside = sum(miss <= limit for miss in misses) / len(misses)
            mean = sum(misses) / len(misses)
            print(f"{title:26} {name:9} n {len(misses):3}  mean {mean:6.1%}  worst {max(misses):6.1%}  ", end="")
            print(f"within {limit:.0%}: {inside:.0%}")


def loads(presets: Sequence[str], seeds: range) -> None:
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    covered, refused = {"TPOT": [0, 0], "tokens/s": [0, 0], "TTFT": [0, 0]}, [0, 0]
    for name in presets:
        preset = load_preset(name).with_knobs(PRESETS[name])
        truths: dict[tuple[int, int], Measured] = {}
        for seed in seeds:
            chance = random.Random(f"{name} {seed}")
            kind, top = seed % len(LENGTHS), TOPS[seed // len(LENGTHS) % len(TOPS)]
            lengths = LENGTHS[kind]
            twin = twin_of(ramp(preset, ladder(top, chance), lengths, chance), known_of(preset, lengths))
            for times in (2, 4):
                key = (kind, times * top)
                truth = truths.get(key) or measured(preset, times * top, lengths, count=8 * times * top, seed=10**7)
                truths[key] = truth
                foreseen = twin.at(times * top)
                refused[1] += 1
                if isinstance(foreseen, Outside):
                    refused[0] += 1
                    continue
                tpot, tokens = foreseen.tpot_p50_s, foreseen.output_tokens_per_s
                rows = found.setdefault((name, times), {"TPOT": [], "tokens/s": [], "TTFT": []})
                for figure, band, true in (
                    ("TPOT", tpot, truth.tpot_p50_s),
                    ("tokens/s", tokens, truth.output_tokens_per_s),
                    ("TTFT", foreseen.ttft_p50_s, truth.ttft_p50_s),
                ):
                    assert band is not None
                    assert true is not None
                    rows[figure].append(abs(band.value / true - 1.0))
                    covered[figure][0] += band.low <= true <= band.high
                    covered[figure][1] += 1
    for times, limit in ((2, 0.10), (4, 0.20)):
        for (name, at), rows in found.items():
            if at == times:
                table(f"{name} at {times}x", rows, limit)
        same = [rows for (_, at), rows in found.items() if at == times]
        every = {key: [miss for rows in same for miss in rows[key]] for key in ("TPOT", "tokens/s")}
        table(f"all at {times}x", every, limit)
    held = ", ".join(f"{figure} {inside} of {of}" for figure, (inside, of) in covered.items())
    print(f"truths within their bands: {held}; no number: {refused[0]} of {refused[1]}")


def most_within(preset: Preset, lengths: Lengths, guess: float, seed: int) -> int:
    """Users up to which TTFT p95 stays within its limit."""

    def holds(users: int) -> bool:
        level = measured(preset, users, lengths, count=max(300, 5 * users), seed=seed)
        return (level.ttft_p95_s or 0.0) <= TTFT_S

    low, high = 0, max(2, round(1.3 * guess))
    while holds(high):
        low, high = high, round(1.3 * high) + 1
    low = max(low, round(0.7 * guess)) if holds(max(1, round(0.7 * guess))) else low
    while high - low > max(1, 0.02 * guess):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def walls(presets: Sequence[str], seeds: range) -> None:
    walls_off: dict[str, list[float]] = {"slots": [], "KV": []}
    users_off: dict[str, list[float]] = {"slots": [], "KV": []}
    for name in presets:
        preset = load_preset(name).with_knobs(PRESETS[name])
        for seed in seeds[:2]:
            chance = random.Random(f"walls {name} {seed}")
            lengths = LENGTHS[(1, 2)[seed % 2]]
            twin = twin_of(ramp(preset, ladder(32, chance), lengths, chance), known_of(preset, lengths))
            held = lengths.prompt_tokens + lengths.output_tokens / 2 * (1 + lengths.output_cv**2)
            for what, asked, knob in (
                ("slots", Asked(slots=20), {"max_num_seqs": 20}),
                ("slots", Asked(slots=56), {"max_num_seqs": 56}),
                ("KV", Asked(kv_tokens=held * 22), {"num_gpu_blocks": round(held * 22 / 16) + 1}),
                ("KV", Asked(kv_tokens=held * 52), {"num_gpu_blocks": round(held * 52 / 16) + 1}),
            ):
                other = preset.with_knobs(knob | {"max_model_len": 2048})
                wall, most = twin.wall(asked), twin.users_at([("ttft", "p95", TTFT_S)], asked)
                assert isinstance(wall, Interval), wall
                assert isinstance(most, Interval), most
                full = measured(other, round(1.5 * wall.value), lengths, count=600, seed=seed)
                assert full.running is not None
                true = most_within(other, lengths, most.value, seed)
                walls_off[what].append(abs(wall.value / full.running - 1.0))
                users_off[what].append(abs(most.value / true - 1.0))
                print(
                    f"{name:20} {what:5} {next(iter(knob.values())):5}: wall {wall.value:5.1f} true {full.running:5.1f}"
                    f"   users within {TTFT_S:.0f} s {most.value:4.0f} ({most.low:.0f}-{most.high:.0f}) true {true}"
                )
    table("most at once", walls_off, 0.10)
    table("users within the limit", users_off, 0.10)


def box() -> None:
    preset, lengths = load_preset("h100-llama-3.1-8b"), LENGTHS[2]
    levels = ramp(preset, [4, 8, 16], lengths, random.Random(1))
    known = known_of(preset, lengths)
    twin, unknown = twin_of(levels, known), twin_of(levels, replace(known, kv_tokens=None))
    longer = Asked(prompt_tokens=1024)
    answers = [
        *(twin.at(load) for load in (65, 100, 1000, 0, -1, float("inf"), float("nan"))),
        *(twin.at(8, asked) for asked in (longer, Asked(prompt_tokens=256), Asked(output_tokens=256))),
        twin.curve(longer),
        twin.wall(longer),
        twin.users_at([("ttft", "p95", 1.0)], longer),
        unknown.at(8, Asked(kv_tokens=20_000)),
        fit(levels[:2], known),
        fit(levels, replace(known, speculates=True)),
    ]
    print(f"outside of the box: {sum(not isinstance(answer, Outside) for answer in answers)} numbers of {len(answers)}")


def real() -> None:
    levels = h100_levels()
    for what, given in (("all levels", levels), ("those below the cliff", levels[:4])):
        twin = twin_of(given, Known(slots=128, axis="rate"))
        misses: dict[str, list[float]] = {"TPOT": [], "tokens/s": []}
        for level in levels:
            foreseen = twin.at(level.load)
            assert isinstance(foreseen, Foreseen)
            misses["TPOT"].append(abs(foreseen.tpot_p50_s.value / level.tpot_s - 1.0))
            misses["tokens/s"].append(abs(foreseen.output_tokens_per_s.value / level.output_tokens_per_s - 1.0))
        table(f"h100, 128 slots: {what}", misses, 0.05)
        print(f"  left-out level {twin.off:.1%} off; wall {twin.wall()}; with 192 slots {twin.wall(Asked(slots=192))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 seeds")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--only", default="loads,walls,box,real")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + (4 if arguments.quick else arguments.seeds))
    parts, presets = arguments.only.split(","), arguments.presets.split(",")
    if "loads" in parts:
        loads(presets, seeds)
    if "walls" in parts:
        walls(presets, seeds)
    if "box" in parts:
        box()
    if "real" in parts:
        real()
    print(f"slowest fit {slowest_fit_s * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
