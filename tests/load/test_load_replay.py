"""A trace drives the load arrival by arrival: exactly its requests, at its times, each with its own row."""

from __future__ import annotations

import asyncio
import socket
from time import perf_counter_ns

import numpy as np
import pytest

from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.run import FactBatch
from llmtop.endpoint.clock import StampingSelector
from llmtop.load.pacer import Pacer
from llmtop.traffic.table import Traffic
from llmtop.workload.prompts import PromptSource
from llmtop.workload.recorded import of_traffic, trace_plan
from llmtop.workload.script import OneShot

BASE = LoadPoint(rate_rps=0.0, output_tokens=3)
RECORDED_S = [0.0] * 6 + [3.0] * 6
"""Two bursts of six, as the case of other tools' bugs has it."""


def replaying(lab, times_s: list[float], caps: Caps | None = None):
    """An engine that replays requests of 10, 11, ... output tokens."""
    start_s = np.array(times_s)
    rows = np.arange(len(times_s))
    table = Traffic(source="a trace", start_s=start_s, prompt=np.full(len(rows), 200), output=10 + rows)
    lab.script = OneShot(PromptSource(Workload(source="trace", file="x"), recorded=of_traffic(table)))
    caps = caps or Caps(stop_error_ratio=None)
    return lab.engine(Pacer(trace_plan(start_s, BASE), times=start_s.tobytes()), caps=caps)


def played(lab, engine, seconds: float) -> FactBatch:
    lab.drive(engine, lambda: asyncio.sleep(seconds))
    return engine.take()


@pytest.mark.parametrize("times_s", [RECORDED_S, [0.0, 0.0137, 0.0138, 1.5, 1.5, 2.0]])
def test_a_trace_is_sent_at_its_times_and_then_the_plan_is_over(lab, times_s: list[float]) -> None:
    engine = replaying(lab, times_s)
    told = played(lab, engine, 5.0)
    assert lab.client.starts_s == pytest.approx(times_s, abs=5e-4)
    assert [record.scheduled_ns / 1e9 for record in told.requests] == pytest.approx(times_s, abs=1e-8)
    assert [record.asked_output_tokens for record in told.requests] == [10 + place for place in range(len(times_s))]
    assert engine.finished


def test_connections_of_a_burst_are_opened_just_before_it(lab) -> None:
    played(lab, replaying(lab, RECORDED_S), 2.9)
    assert max(lab.client.opened[1:], default=0) == 0, "six at once cannot be foreseen, and nothing is due for long"
    again = type(lab)()
    played(again, replaying(again, RECORDED_S), 2.999)
    assert again.client.opened[-1] == 6


def test_a_request_that_may_not_be_sent_takes_its_row_with_it(lab) -> None:
    engine = replaying(lab, [0.0] * 4 + [1.0], Caps(max_concurrency=2, stop_error_ratio=None))
    told = played(lab, engine, 2.0)
    assert [record.asked_output_tokens for record in told.requests] == [10, 11, 14]


def test_a_hand_that_takes_the_wheel_goes_on_with_the_rows_and_draws_the_arrivals(lab) -> None:
    engine = replaying(lab, [0.0, 0.5, 30.0, 31.0])

    async def taken() -> None:
        await asyncio.sleep(1.0)
        engine.command(LoadPoint(concurrency=1, output_tokens=3))
        await asyncio.sleep(0.5)

    lab.drive(engine, taken)
    asked = [record.asked_output_tokens for record in engine.take().requests]
    assert asked[:6] == [10, 11, 12, 13, 10, 11]
    assert not engine.finished


def test_a_punctual_selector_is_never_early_and_leaves_what_is_due_the_first_turn() -> None:
    selector = StampingSelector()
    ours, theirs = socket.socketpair()
    try:
        selector.register(ours, 1)
        selector.punctual = selector.may_gather = True
        for timeout in (0.0004, 0.0013, 0.0027):
            began_ns = perf_counter_ns()
            assert selector.select(timeout) == []
            assert perf_counter_ns() - began_ns >= timeout * 1e9
        theirs.send(b"x")
        assert selector.select(0.0027), "what is there already is not kept waiting"
        selector._nap_s = 0.004
        selector.returned_ns = perf_counter_ns()
        assert selector.select(0.001) == [], "a nap that ends with the timer"
        assert selector.select(0)
    finally:
        selector.close()
        ours.close()
        theirs.close()


def test_a_plan_is_not_over_before_it_has_begun(lab) -> None:
    engine = replaying(lab, [0.0, 1.0])
    lab.loop.selector.now_s += 60.0  # as long as workers may take to come up
    assert not engine.finished
    played(lab, engine, 2.5)
    assert engine.finished
    assert lab.client.starts_s == pytest.approx([60.0, 61.0], abs=1e-3)
