"""A load worker of this machine lets its load go while its session stands still, and takes it up when that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import pytest

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.load.here import WorkerFacts
from llmtop.load.messages import Close, Follow, Ping, WorkerSetup, facts, packed
from llmtop.load.pacer import Pacer
from llmtop.load.worker import LOOKS, work

PATIENCE_S = 30.0
LEASE_S = 1.0
SESSION = """
import asyncio, sys
from time import perf_counter_ns
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.load import pool
from llmtop.load.engine import LoadEngine
from llmtop.load.messages import WorkerSetup
from llmtop.load.pacer import Pacer

pool.LEASE_S, pool.PING_NS = 2.0, 200_000_000

async def main():
    setup = WorkerSetup(
        endpoint=Endpoint(base_url=sys.argv[1]), info=None, workload=Workload(), caps=Caps(stop_error_ratio=None),
        origin_ns=perf_counter_ns(), seed=0, api="chat", workers=2,
    )
    engine = LoadEngine(pool.Workers(setup), Pacer.hold(LoadPoint(concurrency=4)), setup.caps, setup.now)
    running = asyncio.create_task(engine.run())
    while not running.done():
        for event in engine.take().events:
            print(event.text, flush=True)
        await asyncio.sleep(0.05)
    running.result()

asyncio.run(main())
"""


class Held:
    """A server that takes every request and answers none; `open` are those whose client is still there."""

    def __init__(self) -> None:
        self.open = 0
        self.came = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.open, self.came = self.open + 1, self.came + 1
            try:
                while await reader.read(4096):
                    pass
            finally:
                self.open -= 1
                writer.close()

    async def holds(self, requests: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.open != requests:
                meanwhile()
                await asyncio.sleep(0.01)


async def test_a_session_that_is_stopped_has_no_load_and_has_it_again_when_it_goes_on() -> None:
    server = Held()
    async with await asyncio.start_server(server.take, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        session = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SESSION, url, stdout=asyncio.subprocess.PIPE
        )
        assert session.stdout is not None
        try:
            await server.holds(4)
            session.send_signal(signal.SIGSTOP)
            await server.holds(0)
            assert server.came == 4, "none is sent anew"
            session.send_signal(signal.SIGCONT)
            told = 0
            while told < 2:
                line = await asyncio.wait_for(session.stdout.readline(), PATIENCE_S)
                assert line
                told += b"let its load go; now it takes it up again" in line
            await server.holds(4)
        finally:
            session.kill()
            await session.wait()


class Out:
    """What a worker tells, taken apart."""

    def __init__(self) -> None:
        self.told: list[WorkerFacts] = []

    def write(self, body: bytes) -> None:
        self.told.append(facts.decode(body[4:]))

    async def drain(self) -> None: ...


@pytest.mark.parametrize("still", ["parent", "both"])
async def test_who_stood_still_as_well_has_missed_nothing(still: str) -> None:
    server, reader, out = Held(), asyncio.StreamReader(), Out()
    async with await asyncio.start_server(server.take, "127.0.0.1", 0) as listening:
        setup = WorkerSetup(
            endpoint=Endpoint(base_url=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"),
            info=None,
            workload=Workload(),
            caps=Caps(),
            origin_ns=perf_counter_ns(),
            seed=0,
            api="chat",
            lease_s=LEASE_S,
            waits=True,
        )

        def say(*orders: Any) -> None:
            for order in orders:
                reader.feed_data(packed(order))

        say(setup, Follow(Pacer.hold(LoadPoint(concurrency=2)), 0))
        working = asyncio.create_task(work(reader, out))  # type: ignore[arg-type]
        await server.holds(2, lambda: say(Ping(0)))
        if still == "both":
            time.sleep(1.5)  # noqa: ASYNC251 - nothing in this process goes on meanwhile
        else:
            await server.holds(0)
        await asyncio.sleep(3 * LEASE_S / LOOKS)  # it looks
        say(Ping(1))
        async with asyncio.timeout(PATIENCE_S):
            while not any(told.pong and told.pong[0] == 1 for told in out.told):
                await asyncio.sleep(0.01)
        assert any(told.let_go for told in out.told) is (still == "parent")
        assert server.open == (2 if still == "both" else 0)
        say(Close())
        await asyncio.wait_for(working, PATIENCE_S)
