"""The load engine: live load against one endpoint, steered by a hand or a plan, guarded by a brake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.run import ChangeReason, FactBatch, joined
from llmtop.load.brake import Brake
from llmtop.load.controller import Controller
from llmtop.load.pacer import Pacer
from llmtop.meter.client import ClientJudge

LOOK_S = 0.05


class Hands(Protocol):
    """Who does the work: this process (`Here`), or several of their own (`Workers`)."""

    @property
    def in_flight(self) -> int: ...
    @property
    def spent(self) -> bool:
        """Whether all rows of a file were sent and answered, where they do not come again."""

    def follow(self, pacer: Pacer, start_ns: int) -> None:
        """Do what `pacer` says, whose elapsed time counts from `start_ns` of the run clock."""

    def cut(self, keep: int = 0) -> None:
        """Cancel what is in flight, but for the `keep` oldest requests."""

    def renew(self) -> int | None:
        """Have the requests from now on open new connections, and keep none of those that are there.

        Returns:
            How many were kept until now; None: it cannot be said.
        """

    def take(self) -> FactBatch:
        """Everything to tell since the last call: bins, requests, samples of the client, events."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Work until `close`; `ready` is called once, when the load can begin."""

    def close(self) -> None:
        """End: cancels everything in flight; `run` returns when it is gone."""


class LoadEngine:
    """A load with its controller and its brake.

    A record of a request is told with the bin in which it ended. At every `take`, over all bins so far:
    sent = ok + errors + cancelled + in_flight of the last bin (requests that a worker lost are among the errors).

    Args:
        hands: do the work.
        pacer: what to follow at first.
        caps: where the load ends by itself.
        now: nanoseconds of the run clock.
    """

    def __init__(self, hands: Hands, pacer: Pacer, caps: Caps, now: Callable[[], int]) -> None:
        self._hands, self._now = hands, now
        self._controller = Controller(pacer, caps, now())
        self._brake = Brake(caps.stop_error_ratio, now())
        self._untold: list[FactBatch] = []
        self._client_judge = ClientJudge()
        self._red = False
        self._begun = self._started = False
        self._running = False
        self._ended = asyncio.Event()

    @property
    def in_flight(self) -> int:
        return self._hands.in_flight

    @property
    def target(self) -> LoadPoint:
        return self._controller.target(self._now())

    @property
    def stage(self) -> str | None:
        return self._controller.stage(self._now())[0]

    @property
    def stage_left_s(self) -> float | None:
        return self._controller.stage(self._now())[1]

    @property
    def finished(self) -> bool:
        """Whether the plan has ended (requests may still be in flight), or was cut short by the brake."""
        return self._started and self._controller.finished(self._now())

    @property
    def braked(self) -> str | None:
        """Why the load was brought down by the brake; None: it was not."""
        return self._controller.braked

    async def run(self) -> None:
        """Drive until `close`. Raises what a bug in the load itself raised."""
        self._begun = True
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        work = loop.create_task(self._hands.run(lambda: ready.set_result(None)))
        try:
            await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED)
            self._running = True
            self._started = True
            self._controller.start(self._now())
            self._turned()
            while not work.done():
                self._look()
                await asyncio.wait({work}, timeout=LOOK_S)
        finally:
            self._hands.close()
            try:
                await work
            finally:
                self._running = False
                self._absorb(self._hands.take())
                self._ended.set()

    def command(self, point: LoadPoint, reason: ChangeReason = "hand") -> None:
        """This load from now on, whatever any plan says."""
        self._controller.command(point, self._now(), reason)
        self._turned()

    def cut(self) -> None:
        """Cancel everything in flight now and send nothing more until the next command."""
        self._controller.stop(self._now())
        self._turned()
        self._hands.cut()

    def renew(self) -> int | None:
        """Have requests find their way anew: see `Hands.renew`."""
        return self._hands.renew() if self._running else 0

    def take(self) -> FactBatch:
        """Everything since the last call."""
        self._absorb(self._hands.take())
        t_s, controller = self._now() / 1e9, self._controller
        own = FactBatch(t_s=t_s, changes=tuple(controller.changes), events=tuple(controller.events))
        batch = joined(t_s, (own, *self._untold))
        self._untold, controller.changes, controller.events = [], [], []
        return batch

    async def close(self) -> None:
        """Cancel everything in flight and wait until it is gone; the last facts are in the next `take`."""
        if self._begun:
            self._hands.close()
            await self._ended.wait()

    def _turned(self) -> None:
        self._brake.reset(self._now())
        if self._running:
            self._hands.follow(self._controller.pacer, self._controller.start_ns)

    def _look(self) -> None:
        self._absorb(self._hands.take())
        now = self._now()
        target, why = self._controller.target(now), self._brake.verdict(now)
        if why is not None and (target.rate_rps is not None or (target.concurrency or 0) > 1):
            self._controller.brake(why, now)
            self._turned()
            self._hands.cut(keep=1)
        if self._hands.spent and not self._controller.spent:
            self._controller.end(now)
            self._turned()
        if self._controller.look(now, self._red):
            self._hands.follow(self._controller.pacer, self._controller.start_ns)

    def _absorb(self, batch: FactBatch) -> None:
        self._untold.append(batch)
        for record in batch.requests:
            self._brake.note(record)
        for second in self._client_judge.take(batch.client):
            self._red = second.health.state == "red"
