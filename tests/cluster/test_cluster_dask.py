"""Load through real Dask workers on loopback: the laws of a load of this machine, and what happens when parts die."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter

import psutil
import pytest

from llmtop.cluster import reach
from llmtop.domain.crew import parse_crew
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.errors import SessionLost
from llmtop.load import selftest
from llmtop.load.pool import LEASE_S
from tests.cluster.dask_hosts import Cluster
from tests.cluster.drives import Drive, connections, driven
from tests.waiting import until_gone

TTFT_S, TPOT_S = 0.020, 0.010
KNOWN = ("--ttft-ms=20", "--tpot-ms=10", "--tokens=20")
POINT = LoadPoint(concurrency=8, output_tokens=20)
ENDLESS = ("--ttft-ms=20", "--tpot-ms=20", "--tokens=6000")
"""Longer than any patience: what is over of it was cut."""


def waits_s(load: Drive) -> tuple[float, float]:
    """Until the first token and until the last, the least of those that came whole: a busy machine only adds."""
    ok = [record for record in load.requests if record.outcome is Outcome.OK]
    return tuple(
        min((getattr(each, end) - each.sent_ns) / 1e9 for each in ok) for end in ("first_token_ns", "last_token_ns")
    )


async def test_two_dask_workers_measure_what_one_process_does_and_obey_one_driver(cluster: Cluster) -> None:
    async with selftest.known_times(*KNOWN) as url:
        async with driven(url, None, POINT) as alone:
            await alone.until(lambda: alone.ok >= 40)
            await alone.end()
        async with driven(url, cluster.url, POINT) as load:
            await load.until(lambda: load.ok >= 40)
            for worker in load.workers:
                assert "llmtop.load.worker" in psutil.Process(load.pids[worker.worker]).cmdline()
            with pytest.raises(SessionLost, match=rf"process {os.getpid()}\) drives a load from .* already"):
                await reach(parse_crew(cluster.url))
            load.engine.command(LoadPoint(concurrency=15, output_tokens=20))
            await load.until(lambda: load.engine.in_flight == 15)
            assert all(record.outcome is Outcome.OK for record in load.requests)
            load.engine.cut()
            await load.until(lambda: load.engine.in_flight == 0)
            await load.until(lambda: load.bins[-1].in_flight == 0)
            assert {record.outcome for record in load.requests} == {Outcome.OK, Outcome.CANCELLED}
            await load.end()
    assert all(abs(worker.offset_s) <= worker.error_s < 0.5 for worker in load.workers)  # it is this machine
    assert {record.worker for record in load.requests} == {0, 1}
    assert {sample.worker for sample in load.client} == {0, 1}
    assert waits_s(load) == pytest.approx(waits_s(alone), rel=0.1, abs=0.003)
    assert waits_s(load)[1] == pytest.approx(TTFT_S + 19 * TPOT_S, rel=0.05)
    crew = await reach(parse_crew(cluster.url))  # it is over
    await crew.close()


async def test_a_load_host_that_joins_while_a_run_goes_on_gets_its_share(cluster: Cluster) -> None:
    async with selftest.known_times(*KNOWN) as url, driven(url, cluster.url, POINT) as load:
        first = {0, 1}
        await load.until(lambda: {record.worker for record in load.requests} == first)
        host = cluster.start_host(2, name="h3")
        try:
            await load.until(lambda: any("joined" in event.text for event in load.events))
            assert {record.worker for record in load.requests} == first, "no load before it is said"
            await load.until(lambda: len({record.worker for record in load.requests}) == len(first) + 2)
            await load.until(lambda: load.engine.in_flight == 8)
            await load.end()
        finally:
            host.terminate()
            host.wait()
    joined = [event.text for event in load.events if "joined" in event.text]
    assert all(text.startswith("load host h3 joined: ") for text in joined)
    assert sum(int(text.split()[4]) for text in joined) == 2, "at once, or one after the other"
    met = {worker.worker: worker for worker in load.workers}
    assert met.keys() == first | {len(first), len(first) + 1}
    assert all(abs(worker.offset_s) <= worker.error_s for worker in met.values()), "it is this machine"
    assert sum(b.sent for b in load.bins) == len(load.requests)
    assert load.bins[-1].in_flight == 0


async def test_one_that_stands_still_and_one_that_dies_are_named_while_the_other_goes_on(cluster: Cluster) -> None:
    async with selftest.known_times(*KNOWN) as url, driven(url, cluster.url, POINT) as load:
        await load.until(lambda: load.ok > 10 and set(load.pids) == {0, 1})
        dask_worker = psutil.Process(load.pids[1]).ppid()
        os.kill(dask_worker, signal.SIGSTOP)
        try:
            await load.until(lambda: load.events)
            assert "Load worker 1" in load.events[0].text
            assert "silent" in load.events[0].text
            before = load.ok
            await load.until(lambda: load.ok > before + 5)
        finally:
            os.kill(dask_worker, signal.SIGCONT)
        await load.until(lambda: len(load.events) > 1)
        await load.until(lambda: load.engine.in_flight == 8)
        os.kill(load.pids[0], signal.SIGKILL)
        await load.until(lambda: any("died by signal 9" in event.text for event in load.events))
        await load.end()


async def test_a_share_goes_to_the_other_when_a_dask_worker_dies_and_without_a_scheduler_no_load_runs(
    own_cluster: Cluster,
) -> None:
    own_cluster.start_host(2, name="wA")
    own_cluster.until(lambda: "no scheduler listens there" in own_cluster.said())
    own_cluster.start_scheduler()
    own_cluster.joined(2)
    assert all(f"worker wA-{number} has joined" in own_cluster.said() for number in (0, 1))
    async with selftest.known_times(*ENDLESS) as url, driven(url, own_cluster.url, POINT) as load:
        await load.until(lambda: load.engine.in_flight == 8 and set(load.pids) == {0, 1})
        assert [worker.name.rpartition(":")[0] for worker in sorted(load.workers, key=lambda each: each.worker)] == [
            "wA-0",
            "wA-1",
        ]
        os.kill(psutil.Process(load.pids[1]).ppid(), signal.SIGKILL)
        await load.until(lambda: load.events)
        assert "left" in load.events[0].text
        assert load.events[0].severity == "error"
        await load.until(lambda: load.engine.in_flight == 8)
        assert Counter(record.outcome for record in load.requests) == {Outcome.LOST: 4}, "its half"
        assert connections(url) >= 8
        await asyncio.to_thread(own_cluster.until, lambda: "died by signal 9" in own_cluster.said())
        await asyncio.to_thread(own_cluster.joined, 3)
        own_cluster.scheduler.kill()
        killed_s = time.monotonic()
        with pytest.raises(SessionLost, match=r"the scheduler dask://.* is gone.*there is no load any more"):
            await load.until(lambda: False)
        own_cluster.until(lambda: connections(url) == 0)
        assert time.monotonic() - killed_s < 3 * LEASE_S, "far sooner than any patience"
        load.drain()
        assert load.bins[-1].in_flight == 0
        assert sum(b.sent for b in load.bins) == len(load.requests)
    own_cluster.until(lambda: "is gone: no load is sent from here" in own_cluster.said())
    until_gone(*load.pids.values())
