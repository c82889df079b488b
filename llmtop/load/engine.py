"""The load engine: live load against one endpoint, steered by a hand or a plan, guarded by a brake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol

from msgspec import Struct

from llmtop.domain.load import Caps, LoadPlan, LoadPoint
from llmtop.domain.request import RequestRecord
from llmtop.domain.run import Event, LoadChange
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.endpoint import EndpointClient
from llmtop.load.brake import Brake
from llmtop.load.crew import Crew, Haul
from llmtop.load.health import HealthProbe
from llmtop.load.pacer import Pacer
from llmtop.load.wheel import Wheel
from llmtop.meter import ClientJudge
from llmtop.workload import PromptSource

LOOK_S = 0.05


class Harvest(Struct, frozen=True):
    """Everything that became known since the harvest before."""

    bins: tuple[LoadBin, ...] = ()
    requests: tuple[RequestRecord, ...] = ()
    client: tuple[ClientSample, ...] = ()
    changes: tuple[LoadChange, ...] = ()
    events: tuple[Event, ...] = ()


class Hands(Protocol):
    """Who does the work: one crew in this process, or several in processes of their own."""

    @property
    def in_flight(self) -> int: ...
    def follow(self, pacer: Pacer, start_ns: int) -> None: ...
    def cut(self, keep: int = 0) -> None: ...
    def take(self) -> Haul: ...
    async def ready(self) -> None: ...
    async def run(self) -> None: ...
    def close(self) -> None: ...


class SteeredLoad:
    """A load with its wheel and its brake; `LoadEngine` and `WorkerPool` differ only in whose hands do the work.

    A record of a request is handed out with the bin in which it ended. At every harvest, over all bins so far:
    sent = ok + errors + cancelled + in_flight of the last bin (requests that a worker lost are among the errors).
    """

    def __init__(self, hands: Hands, pacer: Pacer, caps: Caps, origin_ns: int, clock: Callable[[], int]) -> None:
        self._hands = hands
        self._origin_ns, self._clock = origin_ns, clock
        self._wheel = Wheel(pacer, caps, self._now())
        self._brake = Brake(caps.stop_error_ratio, self._now())
        self._bins: list[LoadBin] = []
        self._requests: list[RequestRecord] = []
        self._client: list[ClientSample] = []
        self._events: list[Event] = []
        self._client_judge = ClientJudge()
        self._red = False
        self._begun = False
        self._running = False
        self._ended = asyncio.Event()

    @property
    def in_flight(self) -> int:
        return self._hands.in_flight

    @property
    def target(self) -> LoadPoint:
        return self._wheel.target(self._now())

    @property
    def stage(self) -> str | None:
        return self._wheel.stage(self._now())[0]

    @property
    def stage_left_s(self) -> float | None:
        return self._wheel.stage(self._now())[1]

    @property
    def finished(self) -> bool:
        """Whether the plan has ended (requests may still be in flight), or was cut short by the brake."""
        return self._wheel.finished(self._now())

    @property
    def braked(self) -> str | None:
        """Why the load was brought down by the brake; None: it was not."""
        return self._wheel.braked

    async def run(self) -> None:
        """Drive until `close`. Raises what a bug in the load itself raised."""
        self._begun = True
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._hands.run())
        ready = loop.create_task(self._hands.ready())
        try:
            await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED)
            self._running = True
            self._wheel.start(self._now())
            self._turned()
            while not work.done():
                self._look()
                await asyncio.wait({work}, timeout=LOOK_S)
        finally:
            ready.cancel()
            self._hands.close()
            try:
                await work
            finally:
                self._running = False
                self._absorb(self._hands.take())
                self._ended.set()

    def command(self, point: LoadPoint, reason: str = "hand") -> None:
        """This load from now on; takes the wheel from any plan."""
        self._wheel.command(point, self._now(), reason)
        self._turned()

    def play(self, plan: LoadPlan) -> None:
        """Follow this plan from its start."""
        self._wheel.play(plan, self._now())
        self._turned()

    def cut(self) -> None:
        """Cancel everything in flight now and send nothing more until the next command."""
        self._wheel.stop(self._now())
        self._turned()
        self._hands.cut()

    def drain(self) -> Harvest:
        """Everything since the last call."""
        self._absorb(self._hands.take())
        harvest = Harvest(
            tuple(self._bins),
            tuple(self._requests),
            tuple(self._client),
            tuple(self._wheel.changes),
            (*self._wheel.events, *self._events),
        )
        self._bins, self._requests, self._client, self._events = [], [], [], []
        self._wheel.changes, self._wheel.events = [], []
        return harvest

    async def close(self) -> None:
        """Cancel everything in flight and wait until it is gone; the last facts are in the next `drain`."""
        if self._begun:
            self._hands.close()
            await self._ended.wait()

    def _now(self) -> int:
        return self._clock() - self._origin_ns

    def _turned(self) -> None:
        self._brake.reset(self._now())
        if self._running:
            self._hands.follow(self._wheel.pacer, self._wheel.start_ns)

    def _look(self) -> None:
        self._absorb(self._hands.take())
        now = self._now()
        target, why = self._wheel.target(now), self._brake.verdict(now)
        if why is not None and (target.rate_rps is not None or (target.concurrency or 0) > 1):
            self._wheel.brake(why, now)
            self._turned()
            self._hands.cut(keep=1)
        if self._wheel.look(now, self._red):
            self._hands.follow(self._wheel.pacer, self._wheel.start_ns)

    def _absorb(self, haul: Haul) -> None:
        self._bins.extend(haul.bins)
        self._requests.extend(haul.records)
        self._client.extend(haul.client)
        self._events.extend(haul.events)
        for record in haul.records:
            self._brake.note(record)
        for second in self._client_judge.take(haul.client):
            self._red = second.health.state == "red"


class LoadEngine(SteeredLoad):
    """A load from this process and this event loop.

    Args:
        client: talks to the endpoint.
        prompts: what to send.
        pacer: what to follow at first.
        caps: where the load ends by itself.
        origin_ns: zero of the run clock, by `clock`.
        seed: of staggering and pauses.
        api: chat or completions.
        clock: nanoseconds, running like the loop's time.
        health: watches this process.
    """

    def __init__(
        self,
        client: EndpointClient,
        prompts: PromptSource,
        pacer: Pacer,
        caps: Caps,
        origin_ns: int,
        seed: int,
        api: str,
        *,
        clock: Callable[[], int] = perf_counter_ns,
        health: HealthProbe | None = None,
    ) -> None:
        crew = Crew(client, prompts, caps, origin_ns, seed, api, clock=clock, health=health)
        super().__init__(crew, pacer, caps, origin_ns, clock)
