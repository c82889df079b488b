"""A gate of M in the client against a server with M slots: 48 users at both, in real time over loopback.

    python tests/bench/bench_gate.py [--seconds 30] [--presets laptop,rtx4090-qwen2.5-7b] [--gates 4,8,16] [--rounds 1]
                                  [--workers 1] [--tokens 64]

Bars: TTFT p50 and p95, TPOT p50 and output tokens/s within 4 % of each other. Both run in turns, and
the figures are of all requests that ended once everybody has had an answer and a half. A busy machine hands a slot over
late, which a server's own queue does not: `uptime` first.
"""

from __future__ import annotations

import argparse
import asyncio
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
from llmtop.simulator.server.process import SimulatorProcess
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot

USERS, WIDE = 48, 64
NAMES = ("TTFT p50 s", "TTFT p95 s", "TPOT p50 ms", "tokens/s")


async def measured(url: str, point: LoadPoint, seconds: float, workers: int) -> list[RequestRecord]:
    """All requests of so many seconds of one load."""
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
    for _ in range(round(seconds)):
        await asyncio.sleep(1.0)
        records += engine.take().requests
    await engine.close()
    await running
    await client.close()
    return records


def figures(records: list[RequestRecord]) -> list[float]:
    ok = sorted((each for each in records if each.outcome is Outcome.OK), key=lambda each: each.end_ns)
    start_ns, stop_ns = ok[3 * USERS // 2].end_ns, ok[-1].end_ns
    late = [each for each in ok if each.end_ns > start_ns]
    ttft_s = np.array([each.ttft_s for each in late])
    tpot_s = np.array([each.tpot_s for each in late if each.tpot_s is not None])
    tokens = sum(each.output_tokens for each in late) / (stop_ns - start_ns) * 1e9
    return [float(np.median(ttft_s)), float(np.quantile(ttft_s, 0.95)), float(np.median(tpot_s)) * 1e3, tokens]


async def one(preset: str, slots: int, point: LoadPoint, seconds: float, workers: int, seed: int) -> list[float]:
    server = await SimulatorProcess.start(preset, {"max_num_seqs": slots}, seed)
    try:
        return figures(await measured(server.base_url, point, seconds, workers))
    finally:
        await server.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--presets", default="laptop,rtx4090-qwen2.5-7b,l4-llama-3.1-8b")
    parser.add_argument("--gates", default="4,8,16")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64)
    asked = parser.parse_args()
    print(f"{'preset':24s} {'M':>3s}  " + "  ".join(f"{name:>24s}" for name in NAMES))
    for preset in asked.presets.split(","):
        for most in map(int, asked.gates.split(",")):
            open_ = LoadPoint(concurrency=USERS, output_tokens=asked.tokens)
            gated = replace(open_, gate=most)
            told: dict[str, list[list[float]]] = {"slots": [], "gate": []}
            for seed in range(asked.rounds):
                told["slots"].append(await one(preset, most, open_, asked.seconds, asked.workers, seed))
                told["gate"].append(await one(preset, WIDE, gated, asked.seconds, asked.workers, seed))
            slots, gate = (np.mean(told[name], axis=0) for name in ("slots", "gate"))
            cells = [f"{a:8.4g} {b:8.4g} {b / a - 1:+6.1%}" for a, b in zip(slots, gate, strict=True)]
            print(f"{preset:24s} {most:3d}  " + "  ".join(f"{cell:>24s}" for cell in cells), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
