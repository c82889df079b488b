"""A session whose time is the test's, and whose server, client and load are told what to do."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo, RequestShape
from llmtop.domain.load import Caps, LoadPlan, LoadPoint
from llmtop.domain.profile import Profile, Workload
from llmtop.domain.request import REFUSALS, Outcome, RequestRecord
from llmtop.domain.run import Event, FactBatch
from llmtop.domain.samples import GpuSnapshot, LoadBin, ServerSnapshot
from llmtop.endpoint.access import Access
from llmtop.load import canary as canary_module
from llmtop.session import bank as bank_module
from llmtop.session import contact, finding, journal, scraping, turning
from llmtop.session import driving as driving_module
from llmtop.session import session as session_module
from llmtop.session.options import SessionOptions
from llmtop.session.session import Session
from llmtop.telemetry.replicas import ReplicaSeen
from llmtop.workload.prompts import Prompt

INFO = EndpointInfo(dialect=Dialect.VLLM, model="m", apis=("chat", "completions"), has_metrics=True)
BASE = LoadPoint(concurrency=2)


class Clock:
    """Time that stands until the test lets it go on; stands in for `time` and `asyncio` in the session's module."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def perf_counter_ns(self) -> int:
        return round(self.now_s * 1e9)

    def time(self) -> float:
        return 1.8e9 + self.now_s

    async def sleep(self, pause_s: float) -> None:
        waker = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + pause_s, next(self._order), waker))
        await waker

    async def to_thread(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        return call(*args, **named)

    async def go(self, until_s: float) -> None:
        """Let time go on to this second, waking who sleeps in order."""
        await settled()
        while self._sleepers and self._sleepers[0][0] <= until_s + 1e-9:
            due_s, _, waker = heapq.heappop(self._sleepers)
            self.now_s = max(self.now_s, due_s)
            if not waker.done():
                waker.set_result(None)
            await settled()
        self.now_s = max(self.now_s, until_s)


async def settled() -> None:
    """Everything that can go on without time has gone on."""
    for _ in range(12):
        await asyncio.sleep(0)


class World:
    """What is outside of a session: a server to probe and to scrape, GPUs, a load, and time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.found: Callable[[], EndpointInfo] = lambda: INFO
        """What a probe finds; raises what it raises."""
        self.knobs: Any = "nothing turns"
        """What `find` finds in a bank, or what makes it."""
        self.probed_s: list[float] = []
        self.scrapers: list[FakeScraper] = []
        self.clients: list[FakeClient] = []
        self.engines: list[FakeEngine] = []
        self.gpus: list[GpuSnapshot] = []
        """Of this machine."""
        self.served: Callable[[float], ServerSnapshot] = lambda t_s: ServerSnapshot(t_s=t_s, running=0.0)
        """What a scrape reads at a time."""
        self.arrivals_s: tuple[float, ...] = ()

    async def probe(self, endpoint: Endpoint, caps: Caps, reached: Any = None, wanted: Any = None) -> EndpointInfo:
        self.probed_s.append(self.clock.now_s)
        return self.found()

    async def find(self, endpoint: Endpoint, info: EndpointInfo, url: str | None) -> Any:
        return self.knobs() if callable(self.knobs) else self.knobs

    def session(self, path: Path, url: str = "http://10.0.0.1:8000", **fields: Any) -> Session:
        profile = Profile(
            name="p",
            plan=fields.pop("plan", LoadPlan(stages=(), base=BASE)),
            workload=fields.pop("workload", Workload()),
        )
        endpoint = Endpoint(base_url=url, dialect=fields.pop("dialect", None))
        return Session(
            SessionOptions(**{"profile": profile, "endpoint": endpoint, "run_file": str(path / "r.llmtop"), **fields})
        )

    async def ended(self, session: Session, drain_s: float | None = None) -> list[Event]:
        """Close it, letting as much time pass as that takes; all events of the run."""
        closing = asyncio.create_task(session.close() if drain_s is None else session.close(drain_s))
        await settled()
        while not closing.done():
            await self.clock.go(self.clock.now_s + 0.25)
        await closing
        return [event for batch in session.take_facts() for event in batch.events]


class FakeScraper:
    def __init__(self, world: World, dialect: Dialect) -> None:
        self.missing: str | None = None
        self.partly = False
        self.anew: tuple[str, ...] = ()
        self.seen: tuple[ReplicaSeen, ...] = ()
        self.fresh, self.restarted, self.in_turn, self.closed = True, False, False, False
        self.dialect = dialect
        self.gpus: tuple[GpuSnapshot, ...] = ()
        self.scraped_s: list[float] = []
        self.takes_s = 0.0
        self._world = world

    async def reach(self) -> None:
        pass

    async def scrape(self) -> ServerSnapshot:
        self.scraped_s.append(self._world.clock.now_s)
        if self.takes_s:
            await self._world.clock.sleep(self.takes_s)
        return self._world.served(self._world.clock.now_s)

    async def close(self) -> None:
        self.closed = True


class FakeClient:
    stamp_source = "kernel"

    counts = False

    def __init__(self) -> None:
        self.closed = False
        self.access = Access(Endpoint(base_url="http://127.0.0.1:1"))
        self.bodies = types.SimpleNamespace(model="m", shape=RequestShape(least_tokens=16))
        self.used: list[tuple[Dialect, str, RequestShape]] = []

    def use(self, dialect: Dialect, model: str, shape: RequestShape) -> None:
        self.used.append((dialect, model, shape))

    async def tokenize(self, text: str) -> int | None:
        return 2 * len(text.split()) if self.counts else None

    async def generate(self, text: str, output_tokens: int, api: str, trace: Any, sink: Any, **carried: Any) -> None:
        """Counts two tokens for each word, and eleven around a text."""
        trace.prompt_tokens = 2 * len(text.split()) + 11 if self.counts else None
        trace.outcome = Outcome.OK

    async def close(self) -> None:
        self.closed = True


class FakeEngine:
    """A load that tells the batches in `untold`, once."""

    stage: str | None = None
    stage_left_s: float | None = None
    braked: str | None = None
    finished = False

    def __init__(self, hands: Any, pacer: Any) -> None:
        self.hands, self.pacer = hands, pacer
        self.target = BASE
        self.untold: list[FactBatch] = []
        self.cuts = 0
        self.closed = False
        self.commands: list[tuple[LoadPoint, str]] = []

    def take(self) -> FactBatch:
        return self.untold.pop(0) if self.untold else FactBatch(t_s=0.0)

    def cut(self) -> None:
        self.cuts += 1
        self.target = self.target.at(self.target.axis, 0)

    def command(self, point: LoadPoint, reason: str) -> None:
        self.commands.append((point, reason))

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        self.closed = True


class FakePrompts:
    def __init__(self, world: World) -> None:
        self.arrivals_s = np.array(world.arrivals_s) if world.arrivals_s else None
        self.recorded = None
        self.notes: tuple[str, ...] = ()
        self.summary = ""
        self.sizes: Any = None
        self.drawn = True

    def next(self, point: LoadPoint, row: int | None = None) -> Prompt:
        return Prompt("word " * point.prompt_tokens, point.prompt_tokens, point.output_tokens, "tiktoken")

    def closes(self, tokens: int) -> bool:
        return tokens >= 36

    def settle(self, sizes: Any) -> None:
        self.sizes = sizes


def made(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world, put around the session's module."""
    clock = world.clock

    class Asyncio(types.SimpleNamespace):
        sleep, to_thread = staticmethod(clock.sleep), staticmethod(clock.to_thread)

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

    def kept(pile: list[Any], thing: Any) -> Any:
        pile.append(thing)
        return thing

    def here(setup: Any) -> Any:
        return ("here", setup)

    def several(shared: Any, crew: Any) -> Any:
        return ("workers", shared)

    fakes = {
        "time": clock,
        "asyncio": Asyncio(),
        "probe": world.probe,
        "reach": world.probe,
        "Scraper": lambda endpoint, dialect, origin_ns, kubectl: kept(world.scrapers, FakeScraper(world, dialect)),
        "EndpointClient": lambda *_: kept(world.clients, FakeClient()),
        "LoadEngine": lambda hands, pacer, caps, now: kept(world.engines, FakeEngine(hands, pacer)),
        "GpuReader": lambda: types.SimpleNamespace(read=lambda t_s: tuple(world.gpus)),
        "PromptSource": lambda *_, **__: FakePrompts(world),
        "Here": here,
        "Workers": several,
        "Setup": lambda **fields: types.SimpleNamespace(now=None, **fields),
    }
    monkeypatch.setattr(bank_module, "find", world.find)
    for module in (session_module, driving_module, canary_module, contact, finding, journal, scraping, turning):
        for name in fakes.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, fakes[name])
    return world


def ended(outcome: Outcome = Outcome.OK, status: int | None = 200, error: str | None = None) -> RequestRecord:
    """A request that came to this end."""
    return RequestRecord(
        scheduled_ns=0,
        dispatched_ns=0,
        sent_ns=None,
        connect_ns=None,
        headers_ns=None,
        first_token_ns=None,
        first_answer_ns=None,
        last_token_ns=None,
        end_ns=1,
        started_at=0.0,
        asked_prompt_tokens=1,
        asked_output_tokens=1,
        prompt_tokens=1,
        output_tokens=0,
        outcome=outcome,
        status=status,
        error=error,
    )


REFUSED = ended(Outcome.HTTP_ERROR, None, "connection refused")


def refusals(t_s: float) -> FactBatch:
    """As many as mean that nobody is there."""
    return FactBatch(t_s=t_s, requests=(REFUSED,) * REFUSALS)


def load_bin(t_s: float, in_flight: int) -> FactBatch:
    return FactBatch(t_s=t_s, bins=(LoadBin(t_s=t_s, span_s=0.25, target=in_flight, in_flight=in_flight),))
