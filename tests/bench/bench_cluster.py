"""Two Dask workers of this machine against one load worker without Dask: same load, same server with known times.

    flock /tmp/llmtop-bench.lock python tests/bench/bench_cluster.py [figures] [times] [--streams 1000] [--rounds 5]

figures  TTFT p95, time between tokens and throughput of both, one after the other in each round; their ratios are the
         medians of all rounds (bars: within 1 %)
times    until a turned load is as it was commanded, until a cut has cancelled all, and until the death of a Dask worker
         is told, its share redistributed: medians (bars: all below 1 s)

`--streams` are those of each worker: two of them send twice as many, and one without Dask as many as both together.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path[:0] = [str(Path(__file__).parents[2])]

from llmtop.domain.load import LoadPoint  # noqa: E402
from llmtop.domain.request import Outcome  # noqa: E402
from llmtop.load.selftest import known_times  # noqa: E402
from tests.cluster.dask_hosts import Cluster  # noqa: E402
from tests.cluster.drives import Drive, driven  # noqa: E402

TTFT_MS, TPOT_MS, TOKENS = 200, 100, 40
SETTLE_S, MEASURE_S = 6.0, 12.0
KNOWN = (f"--ttft-ms={TTFT_MS}", f"--tpot-ms={TPOT_MS}", f"--tokens={TOKENS}")


def point(streams: int) -> LoadPoint:
    return LoadPoint(concurrency=streams, output_tokens=TOKENS)


async def measured(url: str, crew: str | None, streams: int, seconds: float) -> tuple[float, float, float]:
    """(TTFT p95 in ms, time between tokens in ms, tokens/s)."""
    async with driven(url, crew, point(streams)) as load:
        await load.until(lambda: load.engine.in_flight >= streams)
        await _for(load, SETTLE_S)
        before, began_s = len(load.requests), time.monotonic()
        await _for(load, seconds)
        took_s = time.monotonic() - began_s
        ok = [record for record in load.requests[before:] if record.outcome is Outcome.OK]
        await load.end()
    ttft_ms = np.percentile([(each.first_token_ns - each.sent_ns) / 1e6 for each in ok], 95)
    gaps_ms = [(each.last_token_ns - each.first_token_ns) / 1e6 / (TOKENS - 1) for each in ok]
    return float(ttft_ms), statistics.mean(gaps_ms), len(ok) * TOKENS / took_s


async def _for(load: Drive, seconds: float) -> None:
    ends_s = time.monotonic() + seconds
    await load.until(lambda: time.monotonic() > ends_s)


async def figures(url: str, cluster: Cluster, streams: int, rounds: int, seconds: float) -> None:
    names, ratios = ("TTFT p95", "TPOT mean", "tokens/s"), []
    for _ in range(rounds):
        here = await measured(url, None, 2 * streams, seconds)
        dask = await measured(url, cluster.url, 2 * streams, seconds)
        ratios.append([one / other for one, other in zip(dask, here, strict=True)])
        print("  here  ", *(f"{name} {value:9.2f}" for name, value in zip(names, here, strict=True)), flush=True)
        print("  dask  ", *(f"{name} {value:9.2f}" for name, value in zip(names, dask, strict=True)), flush=True)
    for name, values in zip(names, zip(*ratios, strict=True), strict=True):
        print(f"{name:>10}: two Dask workers / one here  {statistics.median(values):.4f}")


async def times(url: str, cluster: Cluster, streams: int, rounds: int) -> None:
    taken: dict[str, list[float]] = {"retarget": [], "cut": [], "death told": [], "redistributed": []}
    for _ in range(rounds):
        async with driven(url, cluster.url, point(streams)) as load:
            await load.until(lambda load=load: load.engine.in_flight >= streams)
            load.engine.command(point(2 * streams))
            taken["retarget"].append(await load.until(lambda load=load: load.engine.in_flight >= 2 * streams))
            await _for(load, 2.0)
            died_s, joined = time.monotonic(), cluster.said().count("has joined")
            os.kill(psutil.Process(load.pids[1]).ppid(), signal.SIGKILL)
            await load.until(lambda load=load: load.events)
            taken["death told"].append(time.monotonic() - died_s)
            await load.until(lambda load=load: load.engine.in_flight >= 2 * streams)
            taken["redistributed"].append(time.monotonic() - died_s)
            load.engine.cut()
            taken["cut"].append(await load.until(lambda load=load: load.engine.in_flight == 0))
            await load.end()
        cluster.until(lambda joined=joined: cluster.said().count("has joined") > joined)
    for name, values in taken.items():
        print(f"{name:>14}: median {statistics.median(values):.3f} s, longest {max(values):.3f} s")


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start_scheduler()
            cluster.start_host(2)
            cluster.until(lambda: cluster.said().count("has joined") == 2)
            async with known_times(*KNOWN) as url:
                if "figures" in arguments.what:
                    await figures(url, cluster, arguments.streams, arguments.rounds, arguments.seconds)
                if "times" in arguments.what:
                    await times(url, cluster, arguments.streams, arguments.rounds)
        finally:
            cluster.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["figures", "times"])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=MEASURE_S)
    asyncio.run(main(parser.parse_args()))
