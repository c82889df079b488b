"""A Dask scheduler and a load host, as processes of this machine, and a load that is driven through them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter_ns

import psutil
from msgspec.structs import replace

from llmtop.cluster import reach
from llmtop.domain.crew import parse_crew
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


def free_port() -> int:
    with socket.socket() as probe_:
        probe_.bind(("127.0.0.1", 0))
        port: int = probe_.getsockname()[1]
        return port


class Cluster:
    """A scheduler at `url`, and the load hosts that were started; what they print is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"dask://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder / "state"),
            "DASK_TEMPORARY_DIRECTORY": str(folder / "dask"),
        }
        self.started: list[subprocess.Popen[bytes]] = []
        self.hosts: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self, *options: str) -> subprocess.Popen[bytes]:
        arguments = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--dashboard-address", ":0")
        self.scheduler = self.start("scheduler", "distributed.cli.dask_scheduler", *arguments, *options)
        return self.scheduler

    def start_host(
        self, processes: int = 2, url: str = "", name: str = "", **environment: str
    ) -> subprocess.Popen[bytes]:
        number = str(len(self.hosts))
        words = ("worker", url or self.url, "--processes", str(processes), *(("--name", name) if name else ()))
        host = self.start(f"host{number}", "llmtop", *words, **environment)
        self.hosts.append(host)
        return host

    def start(self, name: str, module: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self.environment, **environment},
                cwd=self.folder,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def said(self, name: str = "host0") -> str:
        return (self.folder / f"{name}.log").read_text()

    def until(self, reached: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def close(self) -> None:
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Drive:
    """A load through the Dask workers of a scheduler, or through one process of this machine, and all it has told."""

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
        await self.engine.close()
        await self.running
        self.drain()


@asynccontextmanager
async def driven(url: str, crew: str | None, point: LoadPoint, **more: object) -> AsyncIterator[Drive]:
    """`crew`: as after --workers; None: one process of this machine. `more`: of the endpoint."""
    origin_ns = perf_counter_ns()
    endpoint = replace(endpoint_from_url(url), **more)
    found = None if crew is None else await reach(parse_crew(crew))
    setup = WorkerSetup(
        endpoint=endpoint,
        info=await probe(endpoint, Caps()),
        workload=Workload(),
        caps=Caps(stop_error_ratio=None),
        origin_ns=origin_ns,
        seed=0,
        api="chat",
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
