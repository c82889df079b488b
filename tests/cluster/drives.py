"""A load that is driven through a crew, of whatever kind, and all that it has told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter_ns

import psutil
from msgspec.structs import replace

from llmtop.cluster import reach
from llmtop.domain.crew import parse_crew
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome
from llmtop.endpoint.probe import probe
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.load.engine import LoadEngine
from llmtop.load.messages import WorkerSetup
from llmtop.load.pacer import Pacer
from llmtop.load.pool import Workers

PATIENCE_S = 30.0
ROOT = Path(__file__).parents[2]
SETUP = WorkerSetup(
    endpoint=Endpoint(base_url="http://h"),
    info=None,
    workload=Workload(),
    caps=Caps(stop_error_ratio=None),
    origin_ns=0,
    seed=0,
    api="chat",
)
"""What a load worker is set up with that is to drive nothing."""


class Drive:
    """A load, and all it has told."""

    def __init__(self, engine: LoadEngine, running: asyncio.Task[None]) -> None:
        self.engine, self.running = engine, running
        self.bins, self.requests, self.events, self.workers, self.client = [], [], [], [], []

    def drain(self) -> None:
        batch = self.engine.take()
        self.bins += batch.bins
        self.requests += batch.requests
        self.events += batch.events
        self.workers += batch.workers
        self.client += batch.client
        if self.bins:
            ended = sum(b.ok + b.errors + b.cancelled for b in self.bins)
            assert sum(b.sent for b in self.bins) == ended + self.bins[-1].in_flight

    async def until(self, reached: Callable[[], object]) -> float:
        """Seconds until that was so."""
        began_s = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                self.drain()
                if self.running.done():
                    self.running.result()
                await asyncio.sleep(0.01)
        return time.monotonic() - began_s

    @property
    def ok(self) -> int:
        return sum(record.outcome is Outcome.OK for record in self.requests)

    @property
    def pids(self) -> dict[int, int]:
        """Of the load workers, by their numbers."""
        return {each.worker: int(each.name.rpartition(":")[2]) for each in self.workers}

    async def end(self) -> None:
        """Nothing is in flight afterwards, and every request that was sent has become something."""
        await self.engine.close()
        await self.running
        self.drain()
        assert self.bins[-1].in_flight == 0
        assert sum(b.sent for b in self.bins) == len(self.requests)


@asynccontextmanager
async def driven(url: str, crew: str | None, point: LoadPoint, **more: object) -> AsyncIterator[Drive]:
    """`crew`: as after --workers; None: one process of this machine. `more`: of the endpoint."""
    endpoint = replace(endpoint_from_url(url), **more)
    found = None if crew is None else await reach(parse_crew(crew))
    setup = replace(
        SETUP,
        endpoint=endpoint,
        info=await probe(endpoint, Caps()),
        origin_ns=perf_counter_ns(),
        workers=1 if found is None else found.size,
    )
    engine = LoadEngine(Workers(setup, found), Pacer.hold(point), setup.caps, setup.now)
    drive = Drive(engine, asyncio.create_task(engine.run()))
    try:
        yield drive
    finally:
        await engine.close()
        await asyncio.wait({drive.running})
        if not drive.running.cancelled():
            drive.running.exception()


def connections(url: str) -> int:
    """Open at a server on this machine: its requests in flight, at least."""
    port = int(url.rpartition(":")[2])
    return sum(
        each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED for each in psutil.net_connections("tcp")
    )
