"""A laboratory for load: an event loop whose time jumps, and an endpoint that answers by a schedule."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from jumping import VirtualLoop

from llmtop.domain.load import Caps, LoadPlan, LoadPoint, Start
from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.clock import LagSample
from llmtop.load.engine import LoadEngine
from llmtop.load.health import HealthProbe
from llmtop.load.here import Here
from llmtop.load.pacer import Pacer
from llmtop.load.setup import Setup
from llmtop.load.visits import Visits
from llmtop.workload.prompts import Prompt
from llmtop.workload.script import OneShot, Script


class Prompts:
    """Prompts of the commanded length."""

    spent = again = False

    def __init__(self) -> None:
        self.calibrated: list[tuple[int, int]] = []

    def next(self, point: LoadPoint, row: int | None = None) -> Prompt:
        return Prompt("hello", point.prompt_tokens, point.output_tokens, "tiktoken")

    def calibrate(self, asked_tokens: int, counted_tokens: int) -> None:
        self.calibrated.append((asked_tokens, counted_tokens))


class Answer:
    """What becomes of one request."""

    def __init__(
        self,
        ttft_s: float = 0.05,
        tpot_s: float = 0.01,
        outcome: Outcome = Outcome.OK,
        status: int | None = 200,
        retry_after_s: float | None = None,
        prompt_tokens: int = 200,
    ) -> None:
        self.ttft_s, self.tpot_s, self.outcome, self.status = ttft_s, tpot_s, outcome, status
        self.retry_after_s, self.prompt_tokens = retry_after_s, prompt_tokens


class FakeClient:
    """Answers the n-th request as `answers(n)` says. None: never."""

    stamp_source = "kernel"
    apis = ("chat", "completions")

    def __init__(self, clock: Callable[[], int], answers: Callable[[int], Answer | None]) -> None:
        self.clock, self.answers = clock, answers
        self.started = 0
        self.running = 0
        self.peak = 0
        self.starts_s: list[float] = []
        self.asked: list[int] = []
        self.said: list[object] = []
        self.carried: list[dict[str, object]] = []
        self.opened: list[int] = []
        self.opening_s = 0.0
        self.lag = LagSample(1000, 0, 0.1, 0.3, 0.5)

    def take_lag(self) -> LagSample:
        return self.lag

    async def open(self, count: int) -> None:
        self.opened.append(count)
        await asyncio.sleep(self.opening_s)

    async def generate(self, prompt, output_tokens, api, trace, sink, caller=None, **carried) -> None:
        answer = self.answers(self.started)
        self.started += 1
        self.starts_s.append(self.clock() / 1e9)
        self.asked.append(output_tokens)
        self.said.append(prompt)
        self.carried.append(carried)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            trace.sent_ns = self.clock()
            if answer is None:
                await asyncio.Event().wait()
            await self._answer(answer, output_tokens, trace, sink)
            if carried.get("words") is not None and trace.outcome is Outcome.OK:
                carried["words"].pieces.append(f"answer {self.started}")
        except asyncio.CancelledError:
            trace.outcome = Outcome.CANCELLED
            raise
        finally:
            self.running -= 1
            trace.end_ns = self.clock()

    async def _answer(self, answer, output_tokens, trace, sink) -> None:
        if answer.ttft_s:
            await asyncio.sleep(answer.ttft_s)
        trace.status, trace.retry_after_s, trace.outcome = answer.status, answer.retry_after_s, answer.outcome
        if answer.outcome is not Outcome.OK:
            return
        gap_ns = None
        for _ in range(output_tokens):
            now = self.clock()
            if trace.first_token_ns is None:
                trace.first_token_ns = trace.first_answer_ns = now
                sink.first_token(trace)
            else:
                gap_ns = now - trace.last_token_ns
            trace.last_token_ns = now
            trace.chunks += 1
            trace.tokens_seen += 1
            sink.tokens(trace, 1, now, gap_ns)
            if answer.tpot_s:
                await asyncio.sleep(answer.tpot_s)
        trace.output_tokens, trace.prompt_tokens = output_tokens, answer.prompt_tokens
        trace.token_source = TokenSource.USAGE


class Lab:
    """One engine on a loop of virtual time."""

    Answer = Answer

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.prompts = Prompts()
        self.script: Script | None = None
        """None: one prompt after the other."""
        self.visits: Visits | None = None

    def engine(
        self,
        point: LoadPoint | LoadPlan | Pacer,
        answers: Callable[[int], Answer | None] | None = None,
        caps: Caps | None = None,
        seed: int = 0,
        start: Start = "staggered",
    ) -> LoadEngine:
        self.client = FakeClient(self.loop.clock_ns, answers or (lambda _: Answer()))
        if isinstance(point, LoadPoint):
            point = Pacer.hold(point, seed)
        pacer = Pacer(point, seed) if isinstance(point, LoadPlan) else point
        caps = caps or Caps(stop_error_ratio=None)
        health = HealthProbe(clock=self.loop.clock_ns, cpu_clock=lambda: 0)
        setup = Setup(
            client=self.client,
            script=self.script or OneShot(self.prompts),
            visits=self.visits,
            caps=caps,
            origin_ns=0,
            seed=seed,
            api="chat",
            start=start,
            clock=self.loop.clock_ns,
        )
        return LoadEngine(Here(setup, health), pacer, caps, setup.now)

    def drive(self, engine: LoadEngine, script: Callable[[], Awaitable[None]]) -> None:
        """Run the engine while `script` plays with it, then close it."""

        async def both() -> None:
            running = asyncio.create_task(engine.run())
            await asyncio.sleep(0)
            await script()
            await engine.close()
            await running

        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(both())


@pytest.fixture(autouse=True, scope="session")
def _no_spring_cleaning() -> Iterator[None]:
    """A load begins with a full collection: 70 ms among all that a test run holds, at each of 500 beginnings."""
    quick = SimpleNamespace(**{name: getattr(gc, name) for name in ("freeze", "unfreeze", "get_threshold")})
    quick.collect, quick.set_threshold = lambda: 0, gc.set_threshold
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmtop.load.here.gc", quick)
        yield


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.loop.close()


@pytest.fixture(scope="session")
def make_lab() -> type[Lab]:
    """For tests that need a fresh one for each example."""
    return Lab
