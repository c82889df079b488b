"""The load engine: memory over a million requests, cost of a request, and how fast the load follows the slider.

    flock /tmp/llmtop-bench.lock python tests/bench/bench_load.py [memory] [retarget] [workers] [--requests 1000000]

memory    a client that answers within 3 ms, some 10 000 times a second: resident size after all requests against that
          after a tenth of them (bar: within 10 %), and the engine's own cost of a request
retarget  8 -> 64 -> 8 -> cut against a loopback server with known times (bars: up and cut within 200 ms), 5 rounds
workers   the same through two worker processes
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from time import perf_counter_ns, process_time

import psutil

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.clock import LagSample
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
from llmtop.workload.script import OneShot

ROUNDS = 5


ANSWER_S = 0.003


class QuickClient:
    """Answers with two tokens, soon."""

    stamp_source = "kernel"

    def __init__(self, origin_ns: int) -> None:
        self.origin_ns = origin_ns

    def take_lag(self) -> LagSample:
        return LagSample()

    async def generate(self, prompt, output_tokens, api, trace, sink, caller=None, **carried) -> None:
        await asyncio.sleep(ANSWER_S)
        now = perf_counter_ns() - self.origin_ns
        trace.sent_ns = trace.first_token_ns = trace.first_answer_ns = now
        sink.first_token(trace)
        sink.tokens(trace, 1, now, None)
        sink.tokens(trace, 1, now + 1000, 1000)
        trace.chunks = trace.output_tokens = trace.tokens_seen = 2
        trace.last_token_ns = trace.end_ns = now + 1000
        trace.status, trace.outcome, trace.token_source = 200, Outcome.OK, TokenSource.USAGE


async def memory(requests: int) -> None:
    origin_ns = perf_counter_ns()
    client, script = QuickClient(origin_ns), OneShot(PromptSource(Workload()))
    setup = Setup(client=client, script=script, caps=Caps(), origin_ns=origin_ns, seed=0, api="chat")
    engine = LoadEngine(Here(setup), Pacer.hold(LoadPoint(concurrency=64)), setup.caps, setup.now)
    running = asyncio.create_task(engine.run())
    process = psutil.Process()
    sizes, marks, done = [], [requests // 10, requests], 0
    started, cpu = time.perf_counter(), process_time()
    while marks:
        await asyncio.sleep(0.1)
        done += sum(closed.ok for closed in engine.take().bins)
        if done >= marks[0]:
            marks.pop(0)
            sizes.append(process.memory_info().rss / 2**20)
    each_us = (process_time() - cpu) / done * 1e6
    print(f"{done} requests in {time.perf_counter() - started:.1f} s, {each_us:.0f} us of CPU each (prompt included)")
    first, last = sizes
    print(f"resident: {first:.1f} MiB after a tenth, {last:.1f} MiB after all: x{last / first:.3f} (bar: 1.10)")
    await engine.close()
    await running


async def retarget(workers: int) -> None:
    origin_ns = perf_counter_ns()
    async with known_times("--ttft-ms=50", "--tpot-ms=20", "--tokens=64") as url:
        endpoint = endpoint_from_url(url)
        info = await probe(endpoint, Caps())
        client = EndpointClient(endpoint, info, Caps(), origin_ns)
        pacer = Pacer.hold(LoadPoint(concurrency=8))
        common = {"caps": Caps(), "origin_ns": origin_ns, "seed": 0, "api": "chat"}
        if workers:
            shared = WorkerSetup(endpoint=endpoint, info=info, workload=Workload(), workers=workers, **common)
            engine = LoadEngine(Workers(shared), pacer, shared.caps, shared.now)
        else:
            setup = Setup(client=client, script=OneShot(PromptSource(Workload())), **common)
            engine = LoadEngine(Here(setup), pacer, setup.caps, setup.now)
        running = asyncio.create_task(engine.run())
        await reached(engine, 8)
        times: dict[str, list[float]] = {"8 -> 64": [], "64 -> 8": [], "cut": []}
        for _ in range(ROUNDS):
            for name, concurrency, pause_s in (("8 -> 64", 64, 1.5), ("64 -> 8", 8, 0.5)):
                engine.command(LoadPoint(concurrency=concurrency))
                times[name].append(await reached(engine, concurrency))
                await asyncio.sleep(pause_s)
            engine.command(LoadPoint(concurrency=64))
            await reached(engine, 64)
            engine.cut()
            times["cut"].append(await reached(engine, 0))
            engine.command(LoadPoint(concurrency=8))
            await reached(engine, 8)
            engine.take()
        await engine.close()
        await running
        await client.close()
    for name, taken in times.items():
        note = "  (a request lasts 1310 ms)" if name == "64 -> 8" else "  (bar: 200 ms)"
        print(f"{name:>8}: median {statistics.median(taken) * 1e3:.0f} ms, worst {max(taken) * 1e3:.0f} ms{note}")


async def reached(engine, in_flight: int) -> float:
    started = time.perf_counter()
    while engine.in_flight != in_flight:
        await asyncio.sleep(0.001)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", default=["memory", "retarget", "workers"])
    parser.add_argument("--requests", type=int, default=1_000_000)
    asked = parser.parse_args()
    for what in asked.what:
        print(f"── {what}")
        asyncio.run(memory(asked.requests) if what == "memory" else retarget(2 if what == "workers" else 0))


if __name__ == "__main__":
    main()
