"""A gate of M in the client against a server with M slots, at three users a slot: in real time over loopback, or in
virtual time.

    python tests/bench/bench_gate.py [--virtual] [--answers 6] [--presets laptop,rtx4090-qwen2.5-7b] [--gates 16,32,64]
                                  [--rounds 1] [--workers 1] [--tokens 64]

Bars: TTFT p50 and p95 within 5 % of each other, TPOT p50 within 3 %, output tokens/s within 2 %; one that is missed is
marked, and makes the exit code 1. Both run in turns, until everybody has had so many answers after the first two, which
do not count: in real time some half an hour in all. There a busy machine hands a slot over late, which a server's own
queue does not: `uptime` first.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from msgspec.structs import replace

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.load.engine import Hands, LoadEngine
from llmtop.load.here import Here
from llmtop.load.messages import WorkerSetup
from llmtop.load.pacer import Pacer
from llmtop.load.pool import Workers
from llmtop.load.setup import Setup
from llmtop.simulator.engine import load_preset
from llmtop.simulator.server.process import SimulatorProcess
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot

sys.path.insert(0, str(Path(__file__).parent.parent / "analysis"))

from virtual import VirtualSession

USERS_A_SLOT = 3
WARM_UP = 2.0
"""Answers to each user that do not count."""
LIMIT_S = 600.0
WIDE = 256
"""Slots of the server behind a gate: more than any."""
BARS = {"TTFT p50 s": 0.05, "TTFT p95 s": 0.05, "TPOT p50 ms": 0.03, "tokens/s": 0.02}


async def measured(url: str, point: LoadPoint, answers: float, workers: int) -> list[RequestRecord]:
    """All requests until every user has had so many answers and those of the warm-up."""
    endpoint, origin_ns = endpoint_from_url(url), perf_counter_ns()
    caps = Caps(stop_error_ratio=None)
    info = await probe(endpoint, caps)
    client = EndpointClient(endpoint, info, caps, origin_ns)
    common = {"caps": caps, "origin_ns": origin_ns, "seed": 1, "api": "chat"}
    hands: Hands
    if workers > 1:
        hands = Workers(WorkerSetup(endpoint=endpoint, info=info, workload=Workload(), workers=workers, **common))
    else:
        hands = Here(Setup(client=client, script=OneShot(PromptSource(Workload())), **common))
    engine = LoadEngine(hands, Pacer.hold(point), caps, lambda: perf_counter_ns() - origin_ns)
    running = asyncio.create_task(engine.run())
    records: list[RequestRecord] = []
    while len(records) < enough(point, answers) and perf_counter_ns() - origin_ns < LIMIT_S * 1e9:
        await asyncio.sleep(1.0)
        records += engine.take().requests
    await engine.close()
    await running
    await client.close()
    return records


def enough(point: LoadPoint, answers: float) -> float:
    return (WARM_UP + answers) * (point.concurrency or 0)


def figures(records: list[RequestRecord], users: int) -> list[float]:
    ok = sorted((each for each in records if each.outcome is Outcome.OK), key=lambda each: each.end_ns)
    start_ns, stop_ns = ok[round(WARM_UP * users)].end_ns, ok[-1].end_ns
    late = [each for each in ok if each.end_ns > start_ns]
    ttft_s = np.array([each.ttft_s for each in late])
    tpot_s = np.array([each.tpot_s for each in late if each.tpot_s is not None])
    tokens = sum(each.output_tokens for each in late) / (stop_ns - start_ns) * 1e9
    return [float(np.median(ttft_s)), float(np.quantile(ttft_s, 0.95)), float(np.median(tpot_s)) * 1e3, tokens]


async def one(preset: str, slots: int, point: LoadPoint, answers: float, workers: int, seed: int) -> list[float]:
    server = await SimulatorProcess.start(preset, {"max_num_seqs": slots}, seed)
    try:
        return figures(await measured(server.base_url, point, answers, workers), point.concurrency or 0)
    finally:
        await server.close()


def virtually(preset: str, slots: int, point: LoadPoint, answers: float, seed: int) -> list[float]:
    """The same without a clock, a socket and a scheduler of the operating system between."""
    session = VirtualSession(load_preset(preset).with_knobs({"max_num_seqs": slots}), point, seed=seed)
    while session.finished < enough(point, answers):
        session.run_until(session.now_s + 1.0)
    records = [record for batch in session.batches for record in batch.requests]
    return figures(records, point.concurrency or 0)


async def compared(preset: str, most: int, asked: argparse.Namespace) -> bool:
    """Tell one preset with one number of slots; whether all bars hold."""
    open_ = LoadPoint(concurrency=USERS_A_SLOT * most, output_tokens=asked.tokens)
    told: dict[str, list[list[float]]] = {"slots": [], "gate": []}
    for seed in range(asked.rounds):
        for name, slots, point in (("slots", most, open_), ("gate", WIDE, replace(open_, gate=most))):
            if asked.virtual:
                told[name].append(virtually(preset, slots, point, asked.answers, seed))
            else:
                told[name].append(await one(preset, slots, point, asked.answers, asked.workers, seed))
    slots, gate = (np.mean(told[name], axis=0) for name in ("slots", "gate"))
    off = [b / a - 1 for a, b in zip(slots, gate, strict=True)]
    missed = [abs(each) > bar for each, bar in zip(off, BARS.values(), strict=True)]
    rows = zip(slots, gate, off, missed, strict=True)
    cells = [f"{a:8.4g} {b:8.4g} {each:+6.1%}{'!' if miss else ' '}" for a, b, each, miss in rows]
    print(f"{preset:24s} {most:3d}  " + "  ".join(f"{cell:>24s}" for cell in cells), flush=True)
    return not any(missed)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--virtual", action="store_true")
    parser.add_argument("--answers", type=float, default=6.0)
    parser.add_argument("--presets", default="laptop,rtx4090-qwen2.5-7b,l4-llama-3.1-8b")
    parser.add_argument("--gates", default="16,32,64")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64)
    asked = parser.parse_args()
    print(f"{'preset':24s} {'M':>3s}  " + "  ".join(f"{name:>24s}" for name in BARS))
    pairs = [(preset, most) for preset in asked.presets.split(",") for most in map(int, asked.gates.split(","))]
    held = [await compared(preset, most, asked) for preset, most in pairs]
    print(f"{sum(held)} of {len(held)} within the bars")
    sys.exit(not all(held))


if __name__ == "__main__":
    asyncio.run(main())
