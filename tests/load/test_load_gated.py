"""Users at a gate, in virtual time: the laws of the load hold, and the wait is theirs and not the client's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.samples import LoadBin
from llmtop.load.engine import LoadEngine
from llmtop.load.health import HealthProbe
from llmtop.load.here import Here
from llmtop.load.pacer import Pacer
from llmtop.load.setup import Setup
from llmtop.meter.client import ClientJudge
from llmtop.workload.script import OneShot

POINT = LoadPoint(concurrency=12, output_tokens=10, gate=4)


class Told:
    """All that an engine has told."""

    def __init__(self, engine: LoadEngine) -> None:
        self._engine, self._judge = engine, ClientJudge()
        self.bins: list[LoadBin] = []
        self.requests: list[RequestRecord] = []
        self.health: list[str] = []

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        batch = self._engine.take()
        self.bins += batch.bins
        self.requests += batch.requests
        self.health += [second.health.state for second in self._judge.take(batch.client)]
        if not self.bins:
            return
        ended = sum(each.ok + each.errors + each.cancelled for each in self.bins)
        assert sum(each.sent for each in self.bins) == ended + self.bins[-1].in_flight


def test_users_wait_for_their_turn_and_that_wait_is_theirs_and_not_the_clients(lab) -> None:
    engine = lab.engine(POINT, lambda _: lab.Answer(ttft_s=0.05, tpot_s=0.01))
    told = Told(engine)

    async def play() -> None:
        await told.wait(5.0)

    lab.drive(engine, play)
    assert lab.client.peak == 4
    assert {each.in_flight for each in told.bins[4:]} == {12}
    settled = [each for each in told.requests if each.outcome is Outcome.OK and each.scheduled_ns > 2e9]
    held_s = [each.held_ns / 1e9 for each in settled]
    assert held_s == pytest.approx([0.3] * len(settled), abs=0.02), "two rounds of 150 ms"
    for each in settled:
        assert each.ttft_s == pytest.approx(each.held_ns / 1e9 + 0.05)
        assert each.e2e_s == pytest.approx(each.held_ns / 1e9 + 0.14)
        assert each.begun_ns is not None
        assert each.begun_ns - each.scheduled_ns < 1e6
    assert set(told.health) == {"green"}


def test_whoever_came_first_is_sent_first_however_long_answers_are(lab) -> None:
    rng = random.Random(3)
    engine = lab.engine(POINT, lambda _: lab.Answer(ttft_s=rng.uniform(0.01, 0.2), tpot_s=0.01))
    told = Told(engine)

    async def play() -> None:
        await told.wait(5.0)

    lab.drive(engine, play)
    records = [each for each in told.requests if each.sent_ns is not None]
    by_arrival = sorted(records, key=lambda each: each.begun_ns or 0)
    assert [each.sent_ns for each in by_arrival] == sorted(each.sent_ns or 0 for each in records)


def test_a_gate_that_moves_takes_effect_at_once_and_loses_nobody(lab) -> None:
    engine = lab.engine(POINT, lambda _: lab.Answer(ttft_s=0.05, tpot_s=0.01))
    told = Told(engine)
    running: list[int] = []

    async def play() -> None:
        for gate in (4, 9, 2, None, 3):
            engine.command(replace(POINT, gate=gate))
            await told.wait(0.03)
            running.append(lab.client.running)
            await told.wait(1.0)
            running.append(lab.client.running)

    lab.drive(engine, play)
    narrowed = (4, 8)  # those that are inside are not thrown out
    assert [count for i, count in enumerate(running) if i not in narrowed] == [4, 4, 9, 9, 2, 12, 12, 3]
    assert 2 < running[4] <= 9


def test_a_cut_and_fewer_users_reach_those_at_the_gate_as_those_at_the_server(lab) -> None:
    engine = lab.engine(POINT, lambda _: lab.Answer(ttft_s=0.05, tpot_s=0.01))
    told = Told(engine)

    async def play() -> None:
        await told.wait(1.0)
        engine.command(replace(POINT, concurrency=2))
        await told.wait(1.0)
        assert engine.in_flight == lab.client.running == 2
        engine.command(POINT)
        await told.wait(1.0)
        engine.cut()
        await told.wait(0.01)
        assert engine.in_flight == lab.client.running == 0
        await told.wait(0.5)

    lab.drive(engine, play)
    cancelled = [each for each in told.requests if each.outcome is Outcome.CANCELLED]
    assert len(cancelled) == 12
    assert sum(each.sent_ns is None for each in cancelled) == 8


def test_arrivals_wait_at_the_gate_and_count_against_the_most_allowed(lab) -> None:
    point = LoadPoint(rate_rps=50.0, output_tokens=10, gate=3)
    engine = lab.engine(point, lambda _: lab.Answer(ttft_s=0.05, tpot_s=0.01), caps=Caps(max_concurrency=20))
    told = Told(engine)

    async def play() -> None:
        await told.wait(5.0)

    lab.drive(engine, play)
    assert lab.client.peak == 3
    assert max(each.in_flight for each in told.bins) == 20
    assert told.bins[-1].in_flight == 20


def _three(lab, point: LoadPoint, seconds: float, then: LoadPoint | None = None) -> list[Here]:
    """Three processes' load on one loop against one server."""
    engine = lab.engine(point, lambda _: lab.Answer(ttft_s=0.05, tpot_s=0.01))
    del engine
    clock: Callable[[], int] = lab.loop.clock_ns

    def part(worker: int) -> Here:
        setup = Setup(
            client=lab.client,
            script=OneShot(lab.prompts),
            caps=Caps(),
            origin_ns=0,
            seed=0,
            api="chat",
            worker=worker,
            clock=clock,
        )
        return Here(setup, HealthProbe(clock=clock, cpu_clock=lambda: 0))

    parts = [part(worker) for worker in range(3)]

    async def play() -> None:
        tasks = [asyncio.create_task(each.run(lambda: None)) for each in parts]
        for wanted in (point, then or point):
            for place, each in enumerate(parts):
                each.follow(Pacer.hold(wanted).shared(place, 3), clock())
            await asyncio.sleep(seconds)
            lab.running = lab.client.running
            lab.shares = [each.in_flight for each in parts]
        for each in parts:
            each.close()
        await asyncio.gather(*tasks)

    with asyncio.Runner(loop_factory=lambda: lab.loop) as runner:
        runner.run(play())
    return parts


@pytest.mark.parametrize(("gate", "shares"), [(4, [6, 3, 3]), (7, [5, 3, 4]), (2, [6, 6, 0]), (1, [12, 0, 0])])
def test_workers_let_together_through_what_one_would(lab, gate: int, shares: list[int]) -> None:
    parts = _three(lab, replace(POINT, gate=gate), 3.0)
    assert lab.client.peak == gate
    assert lab.shares == shares
    held = [record.held_ns / 1e9 for part in parts for record in part.take().requests if record.scheduled_ns > 2e9]
    assert held
    assert max(held) <= 0.14 * 12 / gate + 0.15


def test_who_waits_where_a_gate_has_closed_goes_on_one_by_one(lab) -> None:
    parts = _three(lab, replace(POINT, gate=6), 3.0, then=replace(POINT, gate=1))
    assert lab.shares == [12, 0, 0]
    assert lab.running == 1
    records = [record for part in parts for record in part.take().requests]
    assert all(record.outcome in (Outcome.OK, Outcome.CANCELLED) for record in records)
