"""The gate: never more than so many inside, first come first served, and nobody is lost who is cancelled there."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.load import LoadPoint
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


@pytest.mark.parametrize(("gate", "workers"), [(16, 3), (3, 3), (7, 2)])
def test_workers_share_a_gate_that_is_as_wide_as_all_of_it(gate: int, workers: int) -> None:
    pacer = Pacer.hold(LoadPoint(concurrency=48, gate=gate))
    assert sum(pacer.shared(i, workers).own_gate(gate) or 0 for i in range(workers)) == gate


def test_no_worker_is_left_before_a_closed_gate() -> None:
    pacer = Pacer.hold(LoadPoint(concurrency=48, gate=1))
    assert [pacer.shared(i, 3).own_gate(1) for i in range(3)] == [1, 1, 1]
    assert pacer.own_gate(None) is None
