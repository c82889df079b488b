"""How near the capacity search comes to the truth, in virtual time: `bench_search.py [SEEDS] [SERVER ...]`.

Prints for each server the truth, what was found over the seeds, the share within 10 %, how often the interval covers
the truth, the searches that found no load that fails, and the seconds and requests that they took.
`bench_search.py truth [SERVER ...]` finds the truths again: the largest load whose long run holds the SLO.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "analysis")]

from capacities import noted_search  # noqa: E402
from virtual import VirtualSession  # noqa: E402

from llmtop.domain.load import LoadPoint  # noqa: E402
from llmtop.domain.slo import parse_slo  # noqa: E402
from llmtop.simulator.engine import load_preset  # noqa: E402

SERVERS: dict[str, tuple[str, dict[str, int], str, int, int, int]] = {
    "laptop": ("laptop", {}, "ttft_p95<2s,tpot_p95<50ms", 192, 64, 51),
    "laptop, long prompts": ("laptop", {}, "ttft_p95<3s,tpot_p95<100ms", 700, 64, 25),
    "a100 phi, 96 slots": ("a100-phi-4-mini", {"max_num_seqs": 96}, "ttft_p95<2s,tpot_p95<50ms", 512, 128, 138),
    "l4 8b, kv": ("l4-llama-3.1-8b", {}, "ttft_p95<5s,tpot_p95<200ms", 512, 128, 68),
    "h100 8b, 64 slots": ("h100-llama-3.1-8b", {"max_num_seqs": 64}, "ttft_p95<2s,tpot_p95<50ms", 512, 128, 124),
    "h100 8b, 192 slots": ("h100-llama-3.1-8b", {"max_num_seqs": 192}, "ttft_p95<2s,tpot_p95<50ms", 192, 64, 410),
}
"""Preset, knobs, SLO, prompt and output tokens, and the capacity."""
OUTPUT_CV = 0.3
LONG_S = 240.0


def session_of(name: str, seed: int) -> tuple[VirtualSession, LoadPoint]:
    preset, knobs, _, prompt_tokens, output_tokens, _ = SERVERS[name]
    base = LoadPoint(concurrency=0, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    server = load_preset(preset).with_knobs(knobs)
    return VirtualSession(server, base, seed=seed, prompt_cv=0.0, output_cv=OUTPUT_CV), base


def carries(name: str, users: int) -> bool:
    """Whether a long run with so many in flight, who come by and by, holds the SLO."""
    session, base = session_of(name, 5)
    for part in (0.25, 0.5, 0.75, 1.0):
        session.command(base.at("concurrency", max(1, round(part * users))))
        session.run_until(session.now_s + 4.0)
    from_s = session.now_s + 20.0
    session.run_until(from_s + LONG_S)
    table = session.facts.requests
    counted = table.column("sent_s") > from_s
    worst = {metric: np.nanquantile(table.column(f"{metric}_s")[counted], 0.95) for metric in ("ttft", "tpot")}
    return all(worst[target.metric] <= target.limit for target in parse_slo(SERVERS[name][2]).targets)


def truth(name: str) -> int:
    low, high = 0, 8
    while carries(name, high):
        low, high = high, 2 * high
    while high - low > max(1, 0.01 * low):
        middle = (low + high) // 2
        low, high = (middle, high) if carries(name, middle) else (low, middle)
    return low


def searched(name: str, seeds: int) -> tuple[int, int]:
    """(searches within 10 %, intervals that cover the truth)."""
    known = SERVERS[name][5]
    found, took_s, sent, runs = [], [], [], []
    for seed in range(seeds):
        session, base = session_of(name, seed)
        runs.append(noted_search(session, parse_slo(SERVERS[name][2]), base).capacity)
        found.append(runs[-1].at_slo or 0.0)
        took_s.append(session.now_s)
        sent.append(session.sent_total)
    near = sum(abs(each - known) <= 0.1 * known + 0.5 for each in found)
    covers = sum((run.low or 0.0) <= known <= (run.high or 1e9) for run in runs)
    open_ended = sum(run.fails_at is None for run in runs)
    width = median((run.high - run.low) / known / 2 for run in runs if run.high is not None and run.low is not None)
    over = sum(each > 1.05 * known for each in found)
    print(
        f"{name:22s} truth {known:3d}  found {median(found):.0f} [{min(found):.0f}, {max(found):.0f}]"
        f"  within 10 %: {near / seeds:.2f}  over by 5 %: {over / seeds:.2f}"
        f"  covered: {covers / seeds:.2f} (+-{width:.1%})  at least: {open_ended}"
        f"  {median(took_s):.0f} s (most {max(took_s):.0f} s), {median(sent):.0f} requests",
        flush=True,
    )
    return near, covers


def main(arguments: list[str]) -> None:
    names = [name for name in SERVERS if not arguments[1:] or name in arguments[1:]]
    if arguments[:1] == ["truth"]:
        for name in names:
            print(f"{name:22s} {truth(name)}", flush=True)
        return
    seeds = int(arguments[0]) if arguments else 20
    near, covers = (sum(column) for column in zip(*(searched(name, seeds) for name in names), strict=True))
    count = seeds * len(names)
    print(f"within 10 %: {near / count:.3f} (bar 0.95); covered: {covers / count:.3f} (bar 0.93)")


if __name__ == "__main__":
    main(sys.argv[1:])
