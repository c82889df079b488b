"""Real time and virtual time are the same engine: same arrivals, same seed, same tokens at the same engine times."""

from __future__ import annotations

import asyncio
import random
from time import perf_counter_ns
from typing import Any

import pytest

from llmtop.simulator.engine import Engine, SimRequest, load_preset
from llmtop.simulator.server.replica import Lateness, Replica

PRESET = load_preset("laptop").with_knobs(
    {
        "step_ms": 1.0,
        "bandwidth_gb_s": 1e4,
        "peak_tflops": 100.0,
        "max_num_seqs": 4,
        "num_gpu_blocks": 129,
        "jitter": 0.2,
    }
)
OUT_NS = 2_000_000


class Listener:
    """Stands where a generation would: notes when the tokens of one request came."""

    def __init__(self, log: list[tuple[str, int]], request_id: str, answer: Any = None) -> None:
        self.log = log
        self.id = request_id
        self.answer = answer or self
        self.cached_tokens = 0
        self.tokens = 0
        self.finished = asyncio.Event()
        self.dropped = False

    def token(self) -> None:
        self.log.append((self.id, self.tokens))
        self.tokens += 1

    def last_token(self, reason: str, *, has_token: bool = True) -> None:
        self.token()
        self.finished.set()

    def drop(self) -> None:
        self.dropped = True
        self.finished.set()


class WatchedEngine(Engine):
    """Notes every step: when it began and how long it took."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.steps: list[tuple[int, int]] = []

    def plan(self, now_ns: int) -> Any:
        plan = super().plan(now_ns)
        if plan is not None:
            self.steps.append((plan.start_ns, plan.duration_ns))
        return plan


def new_engine() -> WatchedEngine:
    return WatchedEngine(PRESET.config, PRESET.step_model, 7)


async def run_in_real_time(count: int) -> tuple[list[SimRequest], WatchedEngine, list[tuple[str, int]]]:
    """Requests at random moments: what arrived when, the engine, and the tokens in the order in which they came."""
    engine, log, spacing = new_engine(), [], random.Random(3)
    replica = Replica(engine, OUT_NS, lambda: True)
    requests, listeners = [], []
    for number in range(count):
        request = SimRequest(
            id=str(number),
            arrival_ns=perf_counter_ns() + 500_000,
            prompt_tokens=spacing.randrange(1, 700),
            max_tokens=spacing.randrange(1, 40),
        )
        requests.append(request)
        listeners.append(Listener(log, request.id))
        replica.start(request, listeners[-1])  # type: ignore[arg-type]
        await asyncio.sleep(spacing.expovariate(200))
    for listener in listeners:
        await asyncio.wait_for(listener.finished.wait(), 20)
    replica.close()
    return requests, engine, log


def run_in_virtual_time(requests: list[SimRequest]) -> tuple[WatchedEngine, list[tuple[str, int]]]:
    engine, log = new_engine(), []
    waiting = sorted(requests, key=lambda request: request.arrival_ns)
    now_ns = waiting[0].arrival_ns
    while waiting or engine.has_work:
        while waiting and waiting[0].arrival_ns <= now_ns:
            engine.submit(waiting.pop(0))
        plan = engine.plan(now_ns)
        if plan is None:
            now_ns = waiting[0].arrival_ns
            continue
        log += [(event.request_id, event.index) for event in engine.commit(plan)]
        now_ns = plan.end_ns
    return engine, log


async def test_real_time_is_virtual_time_step_for_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtop.simulator.server.replica.MAX_BEHIND_NS", 10**15)  # A busy machine may be slow.
    requests, real, tokens = await run_in_real_time(40)
    virtual, same_tokens = run_in_virtual_time(requests)
    assert tokens == same_tokens
    assert real.steps == virtual.steps
    assert len(tokens) == sum(request.max_tokens for request in requests)
    assert real.statistics.finished["length"] == 40
    assert real.statistics.preemptions == virtual.statistics.preemptions


async def test_no_token_leaves_before_its_step_has_ended() -> None:
    engine, log = new_engine(), []
    replica = Replica(engine, OUT_NS, lambda: True)
    listeners = []
    for number in range(30):
        listener = Listener(log, str(number))
        listeners.append(listener)
        request = SimRequest(id=str(number), arrival_ns=perf_counter_ns(), prompt_tokens=9, max_tokens=20)
        replica.start(request, listener)  # type: ignore[arg-type]
    ends: list[int] = []
    original = engine.commit

    def commit(plan: Any) -> Any:
        ends.append(perf_counter_ns() - plan.end_ns)
        return original(plan)

    engine.commit = commit  # type: ignore[method-assign]
    for listener in listeners:
        await asyncio.wait_for(listener.finished.wait(), 20)
    replica.close()
    assert min(ends) >= 0


async def test_an_abort_before_during_and_after_frees_everything() -> None:
    engine, log = new_engine(), []
    replica = Replica(engine, OUT_NS, lambda: True)
    early, running, done = (Listener(log, name) for name in ("early", "running", "done"))
    now_ns = perf_counter_ns()
    request = SimRequest(id="done", arrival_ns=now_ns, prompt_tokens=9, max_tokens=1)
    replica.start(request, done)  # type: ignore[arg-type]
    request = SimRequest(id="running", arrival_ns=now_ns, prompt_tokens=90, max_tokens=1000)
    replica.start(request, running)  # type: ignore[arg-type]
    request = SimRequest(id="early", arrival_ns=now_ns + 10**12, prompt_tokens=9, max_tokens=1)
    replica.start(request, early)  # type: ignore[arg-type]
    await asyncio.wait_for(done.finished.wait(), 20)
    assert replica.load == 2
    for name in ("early", "running", "done", "never"):
        replica.abort(name)
    assert replica.load == 0
    assert not engine.has_work
    assert engine.kv_usage == 0.0
    seen = running.tokens
    await asyncio.sleep(0.02)
    assert running.tokens == seen
    replica.close()


async def test_an_abort_lets_in_who_waited_for_its_blocks() -> None:
    engine, log = new_engine(), []
    replica = Replica(engine, OUT_NS, lambda: True)
    listeners = [Listener(log, str(number)) for number in range(2)]
    for number, listener in enumerate(listeners):
        request = SimRequest(
            id=str(number), arrival_ns=perf_counter_ns(), prompt_tokens=1900, max_tokens=100 - 90 * number
        )
        replica.start(request, listener)  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        while (engine.running, engine.waiting) != (1, 1):
            await asyncio.sleep(0)
    replica.abort("0")
    assert not listeners[0].finished.is_set()
    await asyncio.wait_for(listeners[1].finished.wait(), 20)
    replica.close()


async def test_a_clock_that_stood_still_is_moved_on_instead_of_caught_up_with() -> None:
    """After ten seconds of a suspended machine the engine does not do ten seconds of steps in one go."""
    skipped_ns = 0
    engine, log = new_engine(), []
    replica = Replica(engine, OUT_NS, lambda: True, lambda: perf_counter_ns() + skipped_ns)
    listener = Listener(log, "a")
    request = SimRequest(id="a", arrival_ns=perf_counter_ns(), prompt_tokens=9, max_tokens=2000)
    replica.start(request, listener)  # type: ignore[arg-type]
    await asyncio.sleep(0.02)
    before_ns, skipped_ns = engine.steps[-1][0], 10_000_000_000
    await asyncio.sleep(0.02)
    jumps = [b - a for (a, _), (b, _) in zip(engine.steps, engine.steps[1:], strict=False)]
    assert max(jumps) > 8_000_000_000
    assert engine.steps[-1][0] > before_ns + 8_000_000_000
    replica.close()


def test_lateness_is_the_p99_of_the_last_second() -> None:
    lateness = Lateness()
    for index in range(100):
        lateness.add(1_000_000_000 + index, index * 1_000_000)
    assert lateness.p99_ms(1_500_000_000) == 0.0
    assert lateness.p99_ms(2_000_000_000) == 99.0
    lateness.add(2_100_000_000, -3_000_000)
    assert lateness.p99_ms(3_000_000_000) == 3.0
    assert lateness.p99_ms(5_000_000_000) == 0.0


@pytest.mark.parametrize("gone", [True, False])
async def test_dropping_breaks_what_is_open(gone: bool) -> None:
    engine, log = new_engine(), []
    replica = Replica(engine, OUT_NS, lambda: True)
    listener = Listener(log, "a")
    request = SimRequest(id="a", arrival_ns=perf_counter_ns(), prompt_tokens=9, max_tokens=2000)
    replica.start(request, listener)  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    if gone:
        replica.abort("a")
    replica.drop()
    assert listener.dropped is not gone
    seen = listener.tokens
    await asyncio.sleep(0.02)
    assert listener.tokens == seen
