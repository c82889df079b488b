"""Where load workers are had, and the way to one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from llmtop.channel import Child, outward_environment
from llmtop.domain.plain import plain
from llmtop.load.here import WorkerFacts
from llmtop.load.messages import Order, WorkerSetup, facts, packed, receive
from llmtop.wording.crew import HERE, died

LEAVE_S = 5.0
"""How long a worker may take to end before it is killed."""


class Post(Protocol):
    """The way to one load worker, wherever it runs."""

    @property
    def name(self) -> str:
        """Who it is: `h2:4711`, host and process."""

    def send(self, *orders: Order) -> None:
        """Tell it, in this order, some time soon; nothing happens when it is gone."""

    async def told(self) -> WorkerFacts | None:
        """What it tells next; None: it is gone."""

    async def fate(self) -> str:
        """Of one that is gone, how it came to its end: `died by signal 9`, and its last words."""

    async def close(self) -> None:
        """See to it that it is gone, within `LEAVE_S`."""


class Crew(Protocol):
    """Where load workers are had: this machine's processes (`Children`), or other machines."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def elsewhere(self) -> bool:
        """Whether they are on other machines: with clocks of their own, and a lease that keeps their load up."""

    async def post(self, setup: WorkerSetup) -> Post:
        """Begin the worker `setup.worker`, which is told nothing yet. Raises SessionLost."""

    async def more(self) -> Mapping[int, str]:
        """Wait for others to join: the host of each by its number, from `size` on. Raises SessionLost: one cannot."""

    async def close(self) -> None:
        """All posts are closed, or were cancelled while they began: end what was there for all of them."""


async def nobody() -> Mapping[int, str]:
    """Of a crew that nobody joins."""
    never: asyncio.Future[Mapping[int, str]] = asyncio.get_running_loop().create_future()
    return await never


class Children:
    """Load workers that are processes of this machine and end with this one."""

    elsewhere = False

    def __init__(self, size: int) -> None:
        self.size = size

    async def post(self, setup: WorkerSetup) -> Post:
        child = Child("llmtop.load.worker", environment=outward_environment(*setup.endpoint.secret_variables))
        return Pipes(child, *await child.streams())

    async def more(self) -> Mapping[int, str]:
        return await nobody()

    async def close(self) -> None:
        pass


class Pipes:
    """The way to a child."""

    def __init__(self, child: Child, facts: asyncio.StreamReader, orders: asyncio.StreamWriter) -> None:
        self._child, self._facts, self._orders = child, facts, orders
        self.name = f"{HERE}:{child.pid}"

    def send(self, *orders: Order) -> None:
        self._orders.write(b"".join(map(packed, orders)))

    async def told(self) -> WorkerFacts | None:
        return await receive(self._facts, facts)

    async def fate(self) -> str:
        code = await asyncio.to_thread(self._child.wait)
        return died(code, plain(self._child.said().rpartition("\n")[2]))

    async def close(self) -> None:
        await self._child.close(LEAVE_S)
