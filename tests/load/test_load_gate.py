"""The gate: never more than so many inside, first come first served, and nobody is lost who is cancelled there."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Replay, Stage
from llmtop.domain.request import Outcome
from llmtop.load.gate import Gate
from llmtop.load.pacer import Pacer

STEPS = st.lists(
    st.one_of(
        st.just(("come", 0)),
        st.tuples(st.just("leave"), st.integers(0, 7)),
        st.tuples(st.just("cancel"), st.integers(0, 7)),
        st.tuples(st.just("set"), st.one_of(st.none(), st.integers(1, 4))),
    ),
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_so_many_are_inside_and_who_came_first_goes_first(steps: list[tuple[str, int | None]]) -> None:
    asyncio.run(_walk(steps))


async def _walk(steps: list[tuple[str, int | None]]) -> None:
    gate, came, entered = Gate(), list[asyncio.Task[None]](), list[int]()
    gate.most = 2
    gone: dict[int, asyncio.Event] = {}

    async def pass_through(number: int) -> None:
        await gate.enter()
        entered.append(number)
        try:
            await gone[number].wait()
        finally:
            gate.leave()

    widest = 2
    for verb, which in steps:
        if verb == "come":
            gone[len(came)] = asyncio.Event()
            came.append(asyncio.create_task(pass_through(len(came))))
        elif verb == "set":
            gate.most = which
            widest = max(widest, gate.inside if which is None else which)
        elif came and which is not None:
            task = came[which % len(came)]
            if verb == "cancel":
                task.cancel()
            else:
                gone[which % len(came)].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if gate.most is None:
            widest = max(widest, gate.inside)
            assert not gate.waiting
        assert gate.inside <= widest
        if gate.waiting:
            assert gate.most is not None
            assert gate.inside >= gate.most, "nobody waits before an open place"
    assert entered == sorted(entered)
    for task in came:
        task.cancel()
    for task in came:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert (gate.inside, gate.waiting) == (0, 0)


async def test_who_does_not_wait_is_told_so() -> None:
    gate = Gate()
    assert not await gate.enter()
    gate.most = 1
    waits = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    gate.leave()
    assert await waits


def test_a_gate_lets_no_more_through_and_its_wait_is_latency_and_no_slip(lab: Any) -> None:
    """Six users and two places: whoever is let through has waited for two answers of 1 s."""
    engine = lab.engine(LoadPoint(concurrency=6, output_tokens=10, gate=2), lambda _: lab.Answer(0.1, 0.1))
    records, samples = [], []

    async def script() -> None:
        for _ in range(40):
            await asyncio.sleep(0.5)
            batch = engine.take()
            records.extend(batch.requests)
            samples.extend(batch.client)
        assert engine.in_flight == 6
        engine.command(LoadPoint(concurrency=6, output_tokens=10))
        await asyncio.sleep(0.1)
        assert lab.client.running == 6, "a gate that opens lets all through at once"

    lab.drive(engine, script)
    full = [each for each in records if each.outcome is Outcome.OK and each.asked_output_tokens == 10][8:]
    assert len(full) > 10
    for each in full:
        assert each.held_ns == pytest.approx(2.2e9, rel=0.02)
        assert each.ttft_s == pytest.approx(2.3, rel=0.02)
        assert each.e2e_s == pytest.approx(3.2, rel=0.02)
        assert each.tpot_s == pytest.approx(0.1, rel=0.02)
        assert each.begun_ns - each.scheduled_ns < 1e6
    assert all(sample.send_slip_p99_ms is None or sample.send_slip_p99_ms < 1 for sample in samples)


def test_what_waits_at_a_gate_ends_with_the_load_and_is_accounted_for(lab: Any) -> None:
    engine = lab.engine(LoadPoint(concurrency=9, output_tokens=10, gate=1), lambda _: lab.Answer(0.1, 0.1))
    records, sent = [], [0]

    def drain() -> None:
        batch = engine.take()
        records.extend(batch.requests)
        sent[0] += sum(each.sent for each in batch.bins)

    async def script() -> None:
        await asyncio.sleep(3.0)
        drain()
        engine.cut()
        await asyncio.sleep(0.01)
        assert lab.client.running == 0

    lab.drive(engine, script)
    drain()
    assert engine.in_flight == 0
    assert len(records) == sent[0]
    assert all(each.outcome in (Outcome.OK, Outcome.CANCELLED) for each in records)
    assert lab.client.peak == 1


@pytest.mark.parametrize(("gate", "workers"), [(16, 3), (3, 3), (7, 2)])
def test_workers_share_a_gate_that_is_as_wide_as_all_of_it(gate: int, workers: int) -> None:
    pacer = Pacer.hold(LoadPoint(concurrency=48, gate=gate))
    assert sum(pacer.shared(i, workers).own(gate) for i in range(workers)) == gate


@given(st.integers(0, 300), st.integers(1, 64), st.integers(1, 7))
def test_users_are_shared_as_the_gate_is_so_that_all_wait_equally_long(users: int, gate: int, workers: int) -> None:
    shares = [Pacer.hold(LoadPoint(concurrency=users, gate=gate)).shared(i, workers) for i in range(workers)]
    own = [share.own(users, gate) for share in shares]
    assert sum(own) == users
    for share, here in zip(shares, own, strict=True):
        assert abs(here - users * share.own(gate) / gate) < 1
        assert here == 0 or share.own(gate) > 0, "nobody stands before a gate that never opens"
        assert users > gate or here <= share.own(gate), "nobody waits while there is room for all"


def test_a_stage_has_its_own_gate_and_what_is_repeated_goes_through_the_plans_unless_it_had_one() -> None:
    points = ((0.0, LoadPoint(concurrency=9)), (5.0, LoadPoint(concurrency=9, gate=2)))
    stages = (
        Stage(name="a", duration_s=10, shape=Hold(concurrency=9), gate=4),
        Stage(name="b", duration_s=10, shape=Hold(concurrency=9)),
        Stage(name="c", duration_s=10, shape=Replay(points)),
    )
    pacer = Pacer(LoadPlan(stages=stages, base=LoadPoint(concurrency=9, gate=7)))
    points_at = [pacer.target(at_s) for at_s in (5, 15, 22, 27)]
    assert [None if point is None else point.gate for point in points_at] == [4, 7, 7, 2]


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 40))
def test_arrivals_are_dealt_as_the_gate_is_each_to_one_worker(gate: int, workers: int, first: int) -> None:
    pacer = Pacer(LoadPlan(stages=(), base=LoadPoint(rate_rps=10.0, gate=gate, burstiness=math.inf)), first=first)
    shares = [pacer.shared(i, workers) for i in range(workers)]
    rounds = 3 * gate
    due = sorted((share.send_s(sent), i) for i, share in enumerate(shares) for sent in range(rounds))
    due = [(at_s, i) for at_s, i in due if math.isfinite(at_s)][:rounds]
    assert [at_s for at_s, _ in due] == pytest.approx([0.05 + 0.1 * number for number in range(rounds)])
    assert [sum(i == place for _, i in due) for place in range(workers)] == [3 * share.own(gate) for share in shares]
