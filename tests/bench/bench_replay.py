"""A trace replayed arrival by arrival: how late its requests are sent, and what a million rows cost.

    python tests/bench/bench_replay.py [dispatch] [million] [--rate 200] [--seconds 20] [--rows 1000000]

dispatch  Poisson arrivals, and bursts of ten, against a loopback server with known times, in one process and in two:
          scheduled to sent of every record (bar: p99 below 2 ms), and that exactly the trace's requests were sent
million   an Azure trace of so many rows: seconds from its file until the load could begin, and the largest resident
          size of the process that reads it and of each of two workers (bars: 10 s, 300 MB)
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import psutil

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.request import RequestRecord
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.clock import StampingLoop
from llmtop.endpoint.probe import probe
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.load.engine import LoadEngine
from llmtop.load.here import Here
from llmtop.load.messages import WorkerSetup
from llmtop.load.pacer import Pacer
from llmtop.load.pool import Workers
from llmtop.load.selftest import known_times
from llmtop.load.setup import Setup
from llmtop.workload.prompts import PromptSource
from llmtop.workload.recorded import trace_plan
from llmtop.workload.script import OneShot

BASE = LoadPoint(rate_rps=0.0)
BAR_MS = 2.0
BEGAN = datetime(2024, 5, 10)


def written(path: Path, start_s: np.ndarray, prompt: int, output: int) -> Workload:
    """An Azure trace."""
    with path.open("w") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for at_s in start_s.tolist():
            file.write(f"{(BEGAN + timedelta(seconds=at_s)).isoformat(' ', 'microseconds')},{prompt},{output}\n")
    return Workload(source="trace", file=str(path))


async def loaded(workload: Workload, url: str, workers: int) -> tuple[LoadEngine, EndpointClient, float]:
    """The load of a trace as a session makes it, and its length."""
    origin_ns = perf_counter_ns()
    caps = Caps(max_concurrency=4096)
    endpoint = endpoint_from_url(url)
    info = await probe(endpoint, caps)
    client = EndpointClient(endpoint, info, caps, origin_ns)
    prompts = PromptSource(workload)
    assert prompts.recorded is not None
    start_s = prompts.recorded.start_s
    plan = trace_plan(start_s, BASE)
    pacer = Pacer(plan, 0, times=start_s.tobytes())
    common = {"caps": caps, "origin_ns": origin_ns, "seed": 0, "api": "chat"}
    if workers > 1:
        common |= {"workload": workload, "recorded": prompts.recorded.packed()}
        shared = WorkerSetup(endpoint=endpoint, info=info, workers=workers, **common)
        return LoadEngine(Workers(shared), pacer, caps, shared.now), client, plan.duration_s
    setup = Setup(client=client, script=OneShot(prompts), **common)
    return LoadEngine(Here(setup), pacer, caps, setup.now), client, plan.duration_s


async def dispatch(rate: float, seconds: float) -> None:
    rng = np.random.default_rng(1)
    count = int(rate * seconds)
    poisson = np.sort(rng.uniform(0, seconds, count))
    bursts = np.repeat(np.sort(rng.uniform(0, seconds, count // 10)), 10)
    with tempfile.TemporaryDirectory() as folder:
        for name, start_s in (("Poisson", poisson), ("bursts of 10", bursts)):
            workload = written(Path(folder) / "t.csv", start_s, 128, 16)
            for workers in (1, 2):
                async with known_times("--ttft-ms=50", "--tpot-ms=20", "--tokens=16") as url:
                    records = await replayed(workload, url, workers)
                    tell(f"{name}, {workers} process{'es' * (workers > 1)}", start_s, records)


async def replayed(workload: Workload, url: str, workers: int) -> list[RequestRecord]:
    engine, client, lasts_s = await loaded(workload, url, workers)
    running = asyncio.create_task(engine.run())
    records: list[RequestRecord] = []
    until_s = time.monotonic() + lasts_s + 2.0 * workers
    while time.monotonic() < until_s:
        await asyncio.sleep(0.25)
        records += engine.take().requests
    await engine.close()
    await running
    await client.close()
    return records + list(engine.take().requests)


def tell(name: str, start_s: np.ndarray, records: list[RequestRecord]) -> None:
    scheduled = np.sort([record.scheduled_ns for record in records])
    late_ms = np.array([(record.begun_ns - record.scheduled_ns) / 1e6 for record in records if record.begun_ns])
    taken_ms = np.array([(record.dispatched_ns - record.scheduled_ns) / 1e6 for record in records])
    off_us = np.abs((scheduled - scheduled[0]) / 1e3 - (np.sort(start_s) - start_s.min()) * 1e6).max()
    p50, p99, worst = (*np.percentile(late_ms, (50, 99)), late_ms.max())
    sent = f"{len(records)} of {len(start_s)} requests, their times off by {off_us:.1f} us"
    print(f"{name:>28}: sent late by p50 {p50:.2f}, p99 {p99:.2f}, at most {worst:.2f} ms", end="")
    print(f" (taken up: p99 {np.percentile(taken_ms, 99):.2f}); {sent}{'' if p99 < BAR_MS else '  ✖ bar 2 ms'}")


async def million(rows: int) -> None:
    rng = np.random.default_rng(1)
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        workload = written(Path(folder) / "t.csv", np.cumsum(rng.exponential(0.02, rows)), 128, 16)
        before = process.memory_info().rss / 1e6
        async with known_times("--ttft-ms=50", "--tpot-ms=20", "--tokens=16") as url:
            for workers in (1, 2):
                began = time.perf_counter()
                engine, client, _ = await loaded(workload, url, workers)
                running = asyncio.create_task(engine.run())
                while not engine.in_flight:
                    await asyncio.sleep(0.005)
                took_s, largest = time.perf_counter() - began, process.memory_info().rss / 1e6
                told = f"{workers} process{'es' * (workers > 1)}: first request after {took_s:.1f} s"
                print(
                    f"{told}, resident {before:.0f} MB before, {largest:.0f} MB then; peak {peak_mb():.0f} MB", end=""
                )
                workers_mb = [child.memory_info().rss / 1e6 for child in process.children()[1:]]
                print(f"; children {' '.join(f'{size:.0f}' for size in workers_mb)} MB")
                await engine.close()
                await running
                await client.close()


def peak_mb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", default=["dispatch", "million"])
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    for what in asked.what:
        print(f"── {what}")
        with asyncio.Runner(loop_factory=StampingLoop) as runner:
            runner.run(million(asked.rows) if what == "million" else dispatch(asked.rate, asked.seconds))


if __name__ == "__main__":
    main()
