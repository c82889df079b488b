"""Load through real Dask workers on loopback: the laws of a load of this machine, and what happens when parts die."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import numpy as np
import psutil
import pytest

from llmtop.cluster import reach
from llmtop.domain.crew import parse_crew
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.errors import SessionLost
from llmtop.load import selftest

KNOWN = ("--ttft-ms=20", "--tpot-ms=10", "--tokens=20")
LONGER = ("--ttft-ms=20", "--tpot-ms=20", "--tokens=60")
POINT = LoadPoint(concurrency=8, output_tokens=20)


def waits_s(records) -> tuple[float, float]:
    """Median TTFT and time between tokens of those that came whole."""
    ok = [record for record in records if record.outcome is Outcome.OK]
    ttft = np.median([(each.first_token_ns - each.sent_ns) / 1e9 for each in ok])
    tpot = np.median([(each.last_token_ns - each.first_token_ns) / 19e9 for each in ok])
    return float(ttft), float(tpot)


async def test_two_dask_workers_measure_what_one_process_does_and_are_named_with_their_clocks(cluster, drive) -> None:
    figures = []
    async with selftest.known_times(*KNOWN) as url:
        for crew in (None, cluster.url):
            async with drive(url, crew, POINT) as load:
                await load.until(lambda load=load: load.ok >= 40)
                for worker in load.workers:
                    assert "llmtop.load.worker" in psutil.Process(load.pids[worker.worker]).cmdline()
                await load.end()
            figures.append(waits_s(load.requests))
            assert sum(b.sent for b in load.bins) == len(load.requests)
            assert load.bins[-1].in_flight == 0
    assert all(abs(worker.offset_s) <= worker.error_s < 0.1 for worker in load.workers)  # it is this machine
    assert {record.worker for record in load.requests} == {0, 1}
    assert {sample.worker for sample in load.client} == {0, 1}
    assert figures[1] == pytest.approx(figures[0], rel=0.1, abs=0.003)
    assert figures[1][1] == pytest.approx(0.010, rel=0.05)


async def test_load_turns_and_is_cut_within_a_second(cluster, drive) -> None:
    point = LoadPoint(concurrency=2, output_tokens=60)
    async with selftest.known_times(*LONGER) as url, drive(url, cluster.url, point) as load:
        await load.until(lambda: load.engine.in_flight == 2)
        load.engine.command(LoadPoint(concurrency=9, output_tokens=60))
        assert await load.until(lambda: load.engine.in_flight == 9) < 1
        load.engine.cut()
        assert await load.until(lambda: load.engine.in_flight == 0) < 1
        await load.end()


async def test_a_dask_worker_that_dies_is_told_of_and_its_share_goes_to_the_other(cluster, drive) -> None:
    async with selftest.known_times(*KNOWN) as url, drive(url, cluster.url, POINT) as load:
        await load.until(lambda: load.ok > 10 and set(load.pids) == {0, 1})
        dask_worker = psutil.Process(load.pids[1]).ppid()
        os.kill(dask_worker, signal.SIGKILL)
        assert await load.until(lambda: load.events) < 1
        assert await load.until(lambda: load.engine.in_flight == 8) < 2
        assert "left" in load.events[0].text
        assert load.events[0].severity == "error"
        await load.end()
    outcomes = Counter(record.outcome for record in load.requests)
    assert outcomes[Outcome.LOST] >= 1
    assert sum(b.sent for b in load.bins) == len(load.requests)
    cluster.until(lambda: "died by signal 9" in cluster.said())
    cluster.until(lambda: cluster.said().count("has joined") == 3)
    cluster.until(lambda: not psutil.pid_exists(load.pids[1]))


async def test_a_load_worker_that_dies_says_how(cluster, drive) -> None:
    async with selftest.known_times(*KNOWN) as url, drive(url, cluster.url, POINT) as load:
        await load.until(lambda: load.ok > 10 and set(load.pids) == {0, 1})
        os.kill(load.pids[0], signal.SIGKILL)
        assert await load.until(lambda: load.events) < 1
        assert "died by signal 9" in load.events[0].text
        await load.end()
    assert sum(b.sent for b in load.bins) == len(load.requests)


async def test_one_that_stands_still_is_named_while_the_other_goes_on(cluster, drive) -> None:
    async with selftest.known_times(*KNOWN) as url, drive(url, cluster.url, POINT) as load:
        await load.until(lambda: load.ok > 10 and set(load.pids) == {0, 1})
        dask_worker = psutil.Process(load.pids[1]).ppid()
        os.kill(dask_worker, signal.SIGSTOP)
        try:
            assert await load.until(lambda: load.events) < 2.5
            assert "Load worker 1" in load.events[0].text
            assert "silent" in load.events[0].text
            before = load.ok
            await load.until(lambda: load.ok > before + 5)
        finally:
            os.kill(dask_worker, signal.SIGCONT)
        await load.until(lambda: len(load.events) > 1)
        await load.until(lambda: load.engine.in_flight == 8)
        await load.end()
    assert sum(b.sent for b in load.bins) == len(load.requests)


async def test_nobody_else_can_drive_them_meanwhile(cluster, drive) -> None:
    async with selftest.known_times(*KNOWN) as url, drive(url, cluster.url, POINT) as load:
        await load.until(lambda: load.ok)
        with pytest.raises(SessionLost, match=rf"process {os.getpid()}\) drives a load from .* already"):
            await reach(parse_crew(cluster.url))
        await load.end()
    crew = await reach(parse_crew(cluster.url))  # it is over
    await crew.close()


async def test_without_its_scheduler_no_load_runs(own_cluster, drive, in_flight_at) -> None:
    own_cluster.start_scheduler()
    own_cluster.start_host(2)
    own_cluster.until(lambda: own_cluster.said().count("has joined") == 2)
    point = LoadPoint(concurrency=8, output_tokens=60)
    async with selftest.known_times(*LONGER) as url, drive(url, own_cluster.url, point) as load:
        await load.until(lambda: load.engine.in_flight == 8)
        assert in_flight_at(url) >= 8
        own_cluster.scheduler.kill()
        killed_s = time.monotonic()
        with pytest.raises(SessionLost, match=r"the scheduler dask://.* is gone.*there is no load any more"):
            await load.until(lambda: False)
        assert time.monotonic() - killed_s < 2
        await load.until(lambda: True)
        own_cluster.until(lambda: in_flight_at(url) == 0)
        assert time.monotonic() - killed_s < 4
        load.drain()
        assert load.bins[-1].in_flight == 0
        assert sum(b.sent for b in load.bins) == len(load.requests)
    own_cluster.until(lambda: "is gone: no load is sent from here" in own_cluster.said())
