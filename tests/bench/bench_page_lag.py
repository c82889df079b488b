"""How late the loop of a load is while pages of /metrics are scraped every second beside 50 streams.

Prints for each page the longest time that the loop took for one turn, CPU time and wall time, and the p99 of the wall
time. On a machine of its own the first and the second are alike. Bound: no page makes a turn of more than 20 ms CPU.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter_ns

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.load import Caps
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.clock import StampingLoop
from llmtop.endpoint.trace import Trace
from llmtop.load.here import GC_THRESHOLDS
from llmtop.telemetry.scraper import Scraper

sys.path[:0] = [str(Path(__file__).parents[1] / "faults"), str(Path(__file__).parent)]

from bench_telemetry import eight_engines  # noqa: E402
from trying import METRICS, Server, says, streams  # noqa: E402

STREAMS = 50
SECONDS = 5.0
BOUND_MS = 20.0
MIB = 1 << 20


def page(line: str, size: int) -> bytes:
    lines, length = [METRICS], len(METRICS)
    while length < size:
        lines.append((line % len(lines)).encode() if "%" in line else line.encode())
        length += len(lines[-1])
    return b"".join(lines)


PAGES = {
    "none": b"",
    "eight engines": eight_engines(),
    "3.9 MB foreign": page('foreign_total{id="%d"} 1\n', int(3.9 * MIB)),
    "3.9 MB of comments": page("# HELP vllm:x y\n", int(3.9 * MIB)),
    "3.9 MB of blank lines": page("\n", int(3.9 * MIB)),
    "3.9 MB of buckets": page('vllm:time_to_first_token_seconds_bucket{le="%d"} 1\n', int(3.9 * MIB)),
    "4,900 wanted": page('vllm:num_requests_running{engine="%d"} 1\n', 196_000),
    "100,000 wanted": page('vllm:num_requests_running{e="%d"} 1\n', int(3.9 * MIB)),
    "10 MB": page("foreign_total 1\n", 10 * MIB),
}


class Ignored:
    def first_token(self, trace: Trace) -> None: ...
    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None: ...


def serve(pipe: Connection, body: bytes) -> None:
    tokens = streams(*["x"] * 200, pause_s=0.02)
    server = Server({"/metrics": says(200, body, kind="text/plain"), "/v1/chat/completions": tokens})
    pipe.send(server.url)
    pipe.recv()


async def measure(url: str, scrapes: bool) -> tuple[float, float, float, str]:
    endpoint = Endpoint(base_url=url, model="m", dialect=Dialect.VLLM)
    client = EndpointClient(endpoint, EndpointInfo(dialect=Dialect.VLLM, model="m"), Caps(), perf_counter_ns())
    scraper = Scraper(endpoint, Dialect.VLLM, perf_counter_ns())
    cpu, wall = [0.0], [0.0]

    async def stream() -> None:
        while True:
            await client.generate("x", 200, "chat", Trace(), Ignored())

    async def turns() -> None:
        while True:
            began, began_cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            cpu.append(time.thread_time() - began_cpu)
            wall.append(time.perf_counter() - began - 0.001)

    async def scrape() -> None:
        while True:
            await scraper.scrape()
            await asyncio.sleep(1.0)

    tasks = [asyncio.create_task(stream()) for _ in range(STREAMS)] + [asyncio.create_task(turns())]
    tasks += [asyncio.create_task(scrape())] if scrapes else []
    await asyncio.sleep(SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()
    await scraper.close()
    wall.sort()
    return max(cpu) * 1e3, wall[-1] * 1e3, wall[len(wall) * 99 // 100] * 1e3, scraper.missing or ""


def main() -> None:
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as the load does
    worst = 0.0
    print(f"{'page':24}{'longest, CPU':>14}{'longest':>10}{'p99':>8}")
    for name, body in PAGES.items():
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=serve, args=(theirs, body), daemon=True)
        process.start()
        with asyncio.Runner(loop_factory=StampingLoop) as runner:
            cpu, wall, p99, missing = runner.run(measure(ours.recv(), bool(body)))
        worst = max(worst, cpu if body else 0.0)
        print(f"{name:24}{cpu:11.1f} ms{wall:7.0f} ms{p99:5.1f} ms  {missing.partition('/metrics: ')[2]}")
        process.terminate()
        process.join()
    print(f"bound {BOUND_MS:g} ms: {'met' if worst <= BOUND_MS else 'MISSED'}")


if __name__ == "__main__":
    main()
