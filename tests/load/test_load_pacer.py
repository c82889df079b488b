"""Pacing: integral of the plan = sends, order, shares, and replacement under way."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Ramp, Replay, Sine, Spike, Stage, Steps
from llmtop.load.pacer import Pacer

RATES = st.floats(0.0, 200.0).map(lambda rate: round(rate, 3))


@st.composite
def rate_shapes(draw):
    kind = draw(st.sampled_from(["hold", "ramp", "steps", "spike", "sine", "replay", "concurrency"]))
    if kind == "hold":
        return Hold(rate_rps=draw(RATES))
    if kind == "ramp":
        return Ramp(draw(RATES), draw(RATES), "rate_rps")
    if kind == "steps":
        return Steps(tuple(draw(st.lists(RATES, min_size=1, max_size=5))), "rate_rps")
    if kind == "spike":
        return Spike(draw(RATES), draw(RATES), unit="rate_rps")
    if kind == "sine":
        low = draw(RATES)
        return Sine(low, low + draw(RATES), draw(st.floats(0.5, 20.0)), "rate_rps")
    if kind == "replay":
        times = sorted(draw(st.lists(st.floats(0.0, 4.0), min_size=1, max_size=4)))
        return Replay(tuple((at_s, LoadPoint(rate_rps=draw(RATES), burstiness=math.inf)) for at_s in times))
    return Hold(concurrency=draw(st.integers(0, 50)))


@st.composite
def rate_plans(draw, burstiness=math.inf):
    shapes = draw(st.lists(rate_shapes(), min_size=1, max_size=4))
    stages = tuple(
        Stage(name=str(i), duration_s=draw(st.floats(0.2, 4.0)), shape=shape) for i, shape in enumerate(shapes)
    )
    return LoadPlan(stages=stages, base=LoadPoint(concurrency=1, burstiness=burstiness))


def sends(pacer: Pacer, until_s: float) -> list[float]:
    times: list[float] = []
    while (at_s := pacer.send_s(len(times))) < until_s:
        times.append(at_s)
    return times


def midpoint_integral(plan: LoadPlan, until_s: float, steps: int = 20_000) -> float:
    """The plan's rate added up point by point: what the closed forms must agree with."""
    pacer = Pacer(plan)
    width = until_s / steps
    points = (pacer.target((i + 0.5) * width) for i in range(steps))
    return sum(width * (point.rate_rps or 0.0) for point in points if point is not None)


@given(rate_plans())
@settings(max_examples=40)
def test_constant_pacing_sends_the_integral_of_the_plan(plan: LoadPlan) -> None:
    pacer = Pacer(plan)
    times = sends(Pacer(plan), plan.duration_s)
    for share in (0.3, 0.7, 1.0):
        until_s = share * plan.duration_s
        assert abs(bisect_left(times, until_s) - pacer.integral(until_s)) <= 1
        assert abs(pacer.arrivals(until_s) - pacer.integral(until_s)) <= 1


@given(rate_plans())
@settings(max_examples=15)
def test_the_integral_is_that_of_the_target(plan: LoadPlan) -> None:
    until_s = 0.9 * plan.duration_s
    assert Pacer(plan).integral(until_s) == pytest.approx(midpoint_integral(plan, until_s, 5000), rel=0.02, abs=0.5)


@given(rate_plans(burstiness=0.5), st.integers(0, 5))
@settings(max_examples=25)
def test_sends_never_go_back_in_time_and_ask_the_same_whatever_the_order(plan: LoadPlan, seed: int) -> None:
    pacer = Pacer(plan, seed)
    times = sends(pacer, plan.duration_s)
    assert times == sorted(times)
    again = Pacer(plan, seed)
    picked = range(0, len(times), max(1, len(times) // 10))
    assert [again.send_s(i) for i in reversed(picked)] == [times[i] for i in reversed(picked)]
    assert all(pacer.next_send(at_s, i) == 0 for i, at_s in enumerate(times))


@given(rate_plans(burstiness=2.0), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=40)
def test_workers_with_shares_send_together_what_one_would(plan: LoadPlan, workers: int, seed: int) -> None:
    whole = Pacer(plan, seed)
    parts = [sends(whole.shared(i, workers), plan.duration_s) for i in range(workers)]
    assert sorted(at_s for part in parts for at_s in part) == sends(whole, plan.duration_s)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(rate_plans(burstiness=2.0), st.integers(0, 3), st.floats(0.0, 5.0))
def test_a_pacer_leads_on_in_another_process_as_it_would_have_here(plan: LoadPlan, seed: int, at_s: float) -> None:
    here = Pacer(plan, seed).replaced(plan, at_s, at_s).shared(1, 2)
    there = msgpack.decode(msgpack.encode(here), type=Pacer)
    assert there == here
    assert sends(there, plan.duration_s) == sends(here, plan.duration_s)


@given(st.integers(0, 1000), st.integers(1, 16))
def test_concurrency_is_shared_by_largest_remainder(concurrency: int, workers: int) -> None:
    parts = [Pacer.hold(LoadPoint(concurrency=concurrency)).shared(i, workers).own(concurrency) for i in range(workers)]
    assert sum(parts) == concurrency
    assert max(parts) - min(parts) <= 1


@given(st.lists(st.tuples(RATES, st.floats(0.01, 2.0)), min_size=1, max_size=12), st.sampled_from([math.inf, 1.0, 0.3]))
@settings(max_examples=40)
def test_a_dragged_slider_neither_loses_nor_adds_requests(moves: list[tuple[float, float]], burstiness: float) -> None:
    """The rate is replaced under way; sends follow the integral of what was commanded, as with one pacer."""
    pacer = Pacer.hold(LoadPoint(rate_rps=0.0, burstiness=burstiness), seed=1)
    total, integral, elapsed_s, positions = 0, 0.0, 0.0, []
    for rate, span_s in moves:
        point = LoadPoint(rate_rps=rate, burstiness=burstiness)
        pacer = pacer.replaced(LoadPlan(stages=(), base=point), elapsed_s)
        positions += [integral + rate * at_s for at_s in sends(pacer, span_s)]
        total += pacer.arrivals(span_s)
        integral += rate * span_s
        elapsed_s = span_s
    assert total == len(positions)
    assert positions == sorted(positions)
    if math.isinf(burstiness):
        assert abs(total - integral) <= 1


def test_a_replaced_pacer_draws_fresh_gaps() -> None:
    first = Pacer.hold(LoadPoint(rate_rps=1.0), seed=4)
    second = first.replaced(first.plan, 0.0)
    assert second.send_s(0) == first.send_s(0)
    assert second.send_s(1) != pytest.approx(first.send_s(1))
    assert second.send_s(1) != pytest.approx(2 * second.send_s(0))


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_have_the_mean_and_the_spread_of_a_gamma(burstiness: float) -> None:
    pacer = Pacer.hold(LoadPoint(rate_rps=10.0, burstiness=burstiness), seed=3)
    times = sends(pacer, 1000.0)
    gaps = [right - left for left, right in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(0.1, rel=0.05)
    assert variance == pytest.approx(0.01 / burstiness, rel=0.15)


def test_arrivals_follow_a_rate_that_changes() -> None:
    up = Stage(name="up", duration_s=100.0, shape=Ramp(0.0, 100.0, "rate_rps"))
    plan = LoadPlan(stages=(up,), base=LoadPoint(concurrency=0))
    times = sends(Pacer(plan, 5), 100.0)
    assert len(times) == pytest.approx(5000, rel=0.05)
    assert len([at_s for at_s in times if at_s < 50.0]) == pytest.approx(1250, rel=0.1)


def test_an_hour_costs_no_more_than_a_second() -> None:
    pacer = Pacer.hold(LoadPoint(rate_rps=0.001, burstiness=math.inf))
    assert pacer.next_send(0.0, 0) == pytest.approx(500.0)
    assert pacer.next_send(499.0, 0) == pytest.approx(1.0)
    assert Pacer.hold(LoadPoint(rate_rps=0.0)).next_send(0.0, 0) == math.inf
    assert Pacer.hold(LoadPoint(concurrency=5)).next_send(0.0, 0) == math.inf


def test_shapes_of_concurrency() -> None:
    stages = (
        Stage(name="hold", duration_s=10, shape=Hold(concurrency=4), prompt_tokens=1000),
        Stage(name="ramp", duration_s=10, shape=Ramp(0, 100)),
        Stage(name="steps", duration_s=10, shape=Steps((8, 16)), output_tokens=5),
        Stage(name="spike", duration_s=9, shape=Spike(2, 50)),
        Stage(name="sine", duration_s=10, shape=Sine(10, 20, 10)),
        Stage(name="replay", duration_s=10, shape=Replay(((2.0, LoadPoint(concurrency=7, output_tokens=9)),))),
    )
    pacer = Pacer(LoadPlan(stages=stages, base=LoadPoint(concurrency=1, output_tokens=64)))

    def at(elapsed_s: float) -> int | None:
        point = pacer.target(elapsed_s)
        assert point is not None
        return point.concurrency

    assert [at(t) for t in (0, 9.9)] == [4, 4]
    assert pacer.target(0).prompt_tokens == 1000
    assert [at(t) for t in (10, 15, 19.99)] == [0, 50, 100]
    assert [at(t) for t in (20, 24.9, 25, 29.9)] == [8, 8, 16, 16]
    assert pacer.target(20).output_tokens == 5
    assert [at(t) for t in (30, 32.9, 33.1, 35.9, 36.1)] == [2, 2, 50, 50, 2]
    assert [at(t) for t in (39, 44, 48.99)] == [10, 20, 10]
    assert [at(t) for t in (50, 51.5, 58.9)] == [0, 7, 7]
    assert pacer.target(52).output_tokens == 9
    assert pacer.target(59.0) is None
    assert pacer.stage(31)[0].name == "spike"
    assert pacer.stage(31)[1] == pytest.approx(8.0)
    assert pacer.stage(59.0) == (None, None)


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=40).map(sorted), st.integers(1, 4), st.floats(0.0, 60.0))
@settings(max_examples=60)
def test_a_trace_is_its_requests_at_its_times_whoever_shares_them(
    times_s: list[float], count: int, at_s: float
) -> None:
    plan = LoadPlan(stages=(Stage(name="trace", duration_s=51.0, shape=Hold(rate_rps=1.0)),))
    pacer = Pacer(plan, times=array("d", times_s).tobytes())

    def sends_s(part: Pacer) -> list[float]:
        sent = [part.send_s(number) for number in range(len(times_s) + 1)]
        return [send_s for send_s in sent if send_s < math.inf]

    assert sends_s(pacer) == times_s
    assert sorted(send_s for i in range(count) for send_s in sends_s(pacer.shared(i, count))) == times_s
    assert pacer.arrivals(at_s) == sum(time_s <= at_s for time_s in times_s)
    assert pacer.next_send(at_s, len(times_s)) == math.inf
    later = pacer.replaced(plan, at_s, at_s)
    left_s = [later.start_s + send_s for i in range(count) for send_s in sends_s(later.shared(i, count))]
    assert sorted(left_s) == pytest.approx([time_s for time_s in times_s if time_s > at_s])
    shares = [later.shared(index, count) for index in range(count)]
    rows = [share.row(number) for share in shares for number in range(len(sends_s(share)))]
    assert sorted(row for row in rows if row is not None) == list(range(len(times_s) - len(left_s), len(times_s)))
    assert msgpack.decode(msgpack.encode(pacer), type=Pacer).times_s == pacer.times_s
    drawn = pacer.replaced(LoadPlan(stages=(), base=LoadPoint(concurrency=1)), at_s)
    assert (len(drawn.times_s), drawn.row(0)) == (0, None)
