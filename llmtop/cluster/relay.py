"""What runs in a Dask worker: it keeps one load worker beside it, and passes on what that is told and tells.

The load worker is a process without Dask, so that Dask's threads and heartbeats are in nothing that it measures. It
ends with the Dask worker, as its stdin does, and when the scheduler has gone, as nobody is left to steer it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from llmtop import channel
from llmtop.channel import Child, outward_environment
from llmtop.domain.plain import plain
from llmtop.load.messages import facts

if TYPE_CHECKING:
    from distributed import Worker

TOPIC = "llmtop"
"""Of the scheduler's events: what load workers tell. The scheduler keeps the last thousand, of whatever run."""
ORDERS = "llmtop-orders"
"""The message that brings a Dask worker what its load worker is to hear."""
TELL_S = 0.25
"""What can wait is passed on so late at most: with the bin that has closed meanwhile."""
LOOK_S = 0.25
GRACE_S = 2.0
"""How long a load worker may take to end when it is asked to."""
_KEY = "llmtop"
"""Where a Dask worker keeps its relay."""


class Begin(Struct, frozen=True):
    """Begin a load worker for `driver`."""

    run: str
    """No two runs have the same."""
    number: int
    driver: str
    """Who asks: user, host and process."""
    variables: tuple[str, ...] = ()
    """That it must find on its own machine."""


class Begun(Struct, frozen=True):
    """How that went."""

    pid: int = 0
    driver: str = ""
    """Somebody else who drives a load from here; nothing was begun."""
    missing: tuple[str, ...] = ()
    """Variables that are not set here; nothing was begun."""
    problem: str = ""


async def begin(task: Begin, dask_worker: Worker) -> Begun:
    """Raises nothing: Dask would log what it was called with."""
    if before := driver(dask_worker):
        return Begun(driver=before)
    if missing := tuple(name for name in task.variables if name not in os.environ):
        return Begun(missing=missing)
    try:
        relay = Relay(dask_worker, task)
        dask_worker.extensions[_KEY] = _Kept(relay)
        dask_worker.stream_handlers[ORDERS] = relay.deliver
        await relay.begin()
    except Exception as error:
        return Begun(problem=plain(str(error)))
    return Begun(pid=relay.pid)


def driver(dask_worker: Worker) -> str:
    """Who drives a load from here; empty: nobody."""
    kept = dask_worker.extensions.get(_KEY)
    return kept.relay.driver if kept is not None and kept.relay.alive else ""


async def end(run: str, dask_worker: Worker) -> None:
    """End the load worker of `run`, and wait until it is gone."""
    kept = dask_worker.extensions.get(_KEY)
    if kept is not None and kept.relay.run == run:
        await kept.relay.end()


def split(frames: bytes) -> Iterator[bytes]:
    """The messages that stand behind each other in what was passed on."""
    stream = io.BytesIO(frames)
    while (body := channel.read(stream)) is not None:
        yield body


class Relay:
    """One load worker's, from its begin to its end."""

    def __init__(self, worker: Worker, task: Begin) -> None:
        self._worker = worker
        self.run, self.driver, self._number = task.run, task.driver, task.number
        self._child = Child("llmtop.load.worker", environment=outward_environment(*task.variables))
        self._orders: asyncio.StreamWriter | None = None
        self._frames: list[bytes] = []
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._passing: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.alive

    async def begin(self) -> None:
        incoming, self._orders = await self._child.streams()
        self._passing = asyncio.create_task(self._pass_on(incoming))

    def deliver(self, run: str, orders: bytes) -> None:
        """Raises nothing: that would end the Dask worker."""
        if run == self.run and self._orders is not None and not self._orders.is_closing():
            with contextlib.suppress(OSError, RuntimeError):  # uvloop's way to say that a pipe is closed
                self._orders.write(orders)

    async def end(self) -> None:
        await self._child.close(GRACE_S)
        if self._passing is not None:
            await asyncio.wait({self._passing}, timeout=GRACE_S)

    async def _pass_on(self, incoming: asyncio.StreamReader) -> None:
        """Until the load worker is gone, or nobody is left to hear of it."""
        watching = asyncio.create_task(self._watch())
        try:
            while (body := await channel.receive(incoming)) is not None:
                self._add(body)
        finally:
            watching.cancel()
            code = await asyncio.to_thread(self._child.wait)
            said = plain(self._child.said().rpartition("\n")[2])
            await self._child.close(GRACE_S)
            self._tell({"code": code, "said": said})

    def _add(self, body: bytes) -> None:
        self._frames.append(channel.framed(body))
        if _is_urgent(body):
            self._tell({})
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_S, self._tell, {})

    def _tell(self, more: dict[str, Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        frames, self._frames = b"".join(self._frames), []
        told = {"run": self.run, "number": self._number, "sequence": self._sequence, "frames": frames, **more}
        self._sequence += 1
        with contextlib.suppress(OSError):  # the scheduler is gone, and `_watch` sees it
            self._worker.log_event(TOPIC, told)

    async def _watch(self) -> None:
        """End the load worker when this Dask worker has lost its scheduler, or ends itself."""
        stream = self._worker.batched_stream
        while self._worker.status.name == "running" and not stream.closed():  # noqa: ASYNC110 - Dask tells of neither
            await asyncio.sleep(LOOK_S)
        await self._child.close(GRACE_S)


class _Kept:
    """As a Dask worker keeps its extensions: closed with it."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    async def close(self) -> None:
        await self.relay.end()


def _is_urgent(body: bytes) -> bool:
    """Whether somebody waits for it: a bin that is complete, an answer, or the last word."""
    told = facts.decode(body)
    return bool(told.batch.bins) or told.fault is not None or told.pong is not None
