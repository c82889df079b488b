"""The load engine on virtual time: conservation, retargeting, plans, back-off, the brake, and leaving."""

from __future__ import annotations

import asyncio
import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Ramp, Stage
from llmtop.domain.request import Outcome
from llmtop.domain.run import FactBatch


def closed(concurrency: int, **more) -> LoadPoint:
    return LoadPoint(concurrency=concurrency, output_tokens=20, **more)


class Ledger:
    """Adds up batchs and checks the law at each of them."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.bins, self.requests, self.changes, self.events, self.client = [], [], [], [], []

    def drain(self) -> FactBatch:
        batch = self.engine.take()
        self.bins += batch.bins
        self.requests += batch.requests
        self.changes += batch.changes
        self.events += batch.events
        self.client += batch.client
        if self.bins:
            sent = sum(b.sent for b in self.bins)
            ended = sum(b.ok + b.errors + b.cancelled for b in self.bins)
            assert sent == ended + self.bins[-1].in_flight
        return batch

    def outcomes(self) -> dict[Outcome, int]:
        return {outcome: sum(r.outcome is outcome for r in self.requests) for outcome in Outcome}


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["concurrency", "rate", "cut", "think", "wait"]),
        st.integers(0, 40),
        st.floats(0.001, 1.5),
    ),
    min_size=1,
    max_size=12,
)


@given(MOVES, st.integers(0, 1000), st.booleans())
@settings(max_examples=15)
def test_sent_is_ended_plus_in_flight_whatever_the_server_and_the_hand_do(make_lab, moves, seed, stuck) -> None:
    lab = make_lab()
    rng = Random(seed)
    faults = [Outcome.OK] * 3 + [o for o in Outcome if o not in (Outcome.CANCELLED, Outcome.LOST)]

    def answers(_: int):
        if stuck and rng.random() < 0.05:
            return None
        return lab.Answer(
            rng.choice([0.0, 0.02, 0.3]), rng.choice([0.0, 0.01]), rng.choice(faults), rng.choice([None, 200, 429, 503])
        )

    engine = lab.engine(closed(3), answers)
    ledger = Ledger(engine)

    async def script() -> None:
        for verb, amount, pause_s in moves:
            if verb == "concurrency":
                engine.command(closed(amount))
            elif verb == "think":
                engine.command(closed(amount, think_time_s=0.05))
            elif verb == "rate":
                engine.command(LoadPoint(rate_rps=float(amount), output_tokens=5))
            elif verb == "cut":
                engine.cut()
            await asyncio.sleep(pause_s)
            ledger.drain()
            assert lab.client.running <= engine.in_flight

    lab.drive(engine, script)
    ledger.drain()
    assert engine.in_flight == 0
    assert lab.client.running == 0
    assert sum(b.sent for b in ledger.bins) == len(ledger.requests)
    assert ledger.bins[-1].in_flight == 0
    assert all(r.scheduled_ns <= r.dispatched_ns <= r.end_ns for r in ledger.requests)


def test_in_flight_follows_the_slider_up_at_once_and_down_as_requests_finish(lab) -> None:
    engine = lab.engine(closed(8), lambda _: lab.Answer(0.1, 0.02))
    seen = {}

    async def script() -> None:
        await asyncio.sleep(3.0)
        assert engine.in_flight == 8
        engine.command(closed(64))
        await asyncio.sleep(0.2)
        assert engine.in_flight == 64
        await asyncio.sleep(3.0)
        running = lab.client.running
        engine.command(closed(8))
        await asyncio.sleep(0.001)
        seen["kept"] = running - lab.client.running
        sent = lab.client.started
        levels = []
        while engine.in_flight > 8:
            levels.append(engine.in_flight)
            await asyncio.sleep(0.02)
        assert levels == sorted(levels, reverse=True)
        assert lab.client.started == sent
        assert len(levels) > 5
        await asyncio.sleep(3.0)
        assert engine.in_flight == 8

    lab.drive(engine, script)
    assert seen["kept"] <= 1
    assert lab.client.peak == 64


def test_a_debt_is_forgiven_when_the_slider_comes_back(lab) -> None:
    engine = lab.engine(closed(50), lambda _: lab.Answer(1.0, 0.05))

    async def script() -> None:
        await asyncio.sleep(0.5)
        for concurrency in (10, 40, 5, 50):
            engine.command(closed(concurrency))
        await asyncio.sleep(10.0)
        assert engine.in_flight == 50
        assert lab.client.peak == 50

    lab.drive(engine, script)


def test_cut_cancels_everything_at_once_and_lets_nothing_new_out(lab) -> None:
    engine = lab.engine(closed(30), lambda _: None)
    ledger = Ledger(engine)

    async def script() -> None:
        await asyncio.sleep(0.5)
        engine.cut()
        await asyncio.sleep(0.001)
        assert engine.in_flight == lab.client.running == 0
        await asyncio.sleep(2.0)
        assert lab.client.started == 30
        assert engine.target.concurrency == 0
        engine.command(closed(4))
        await asyncio.sleep(0.2)
        assert engine.in_flight == 4
        ledger.drain()

    lab.drive(engine, script)
    ledger.drain()
    assert ledger.outcomes()[Outcome.CANCELLED] == 34
    assert [change.reason for change in ledger.changes] == ["hand", "stop", "hand"]


def test_lengths_follow_the_slider_with_the_next_request(lab) -> None:
    engine = lab.engine(closed(1))

    async def script() -> None:
        await asyncio.sleep(1.0)
        engine.command(LoadPoint(concurrency=1, prompt_tokens=77, output_tokens=3))
        await asyncio.sleep(1.0)

    lab.drive(engine, script)
    asked = [(r.asked_prompt_tokens, r.asked_output_tokens) for r in engine.take().requests]
    assert asked[0] == (192, 20)
    assert asked[-2] == (77, 3)
    assert asked == sorted(asked, reverse=True)


def test_users_who_start_together_do_not_march_in_lock_step(lab) -> None:
    engine = lab.engine(LoadPoint(concurrency=32, output_tokens=100), lambda _: lab.Answer(0.1, 0.01))

    async def script() -> None:
        await asyncio.sleep(6.0)

    lab.drive(engine, script)
    starts = [at_s for at_s in lab.client.starts_s if at_s >= 3.0]
    busiest = max(sum(left <= at_s < left + 0.1 for at_s in starts) for left in starts)
    assert busiest <= 8
    assert lab.client.asked[0] < lab.client.asked[31] == 100
    assert set(lab.client.asked[32:]) == {100}


def test_thinking_users_send_later_and_are_not_in_flight(lab) -> None:
    engine = lab.engine(closed(10, think_time_s=1.0), lambda _: lab.Answer(0.1, 0.01))

    async def script() -> None:
        await asyncio.sleep(20.0)
        engine.command(closed(2, think_time_s=1.0))
        await asyncio.sleep(0.31)
        assert engine.in_flight <= 2

    lab.drive(engine, script)
    assert lab.client.started == pytest.approx(10 * 20 / 1.3, rel=0.1)
    requests = [r for r in engine.take().requests if r.outcome is Outcome.OK]
    assert max(r.sent_ns - r.scheduled_ns for r in requests) < 2_000_000


def test_an_open_loop_keeps_sending_when_nothing_returns(lab) -> None:
    engine = lab.engine(LoadPoint(rate_rps=20.0, burstiness=math.inf), lambda _: None)

    async def script() -> None:
        await asyncio.sleep(10.0)
        assert abs(lab.client.started - 200) <= 1
        assert engine.in_flight == lab.client.started

    lab.drive(engine, script)
    records = engine.take().requests
    due = [round(0.025 + 0.05 * i, 6) for i in range(len(records))]
    assert [round(r.scheduled_ns / 1e9, 6) for r in records] == due


def test_an_open_loop_says_what_it_did_not_send(lab) -> None:
    engine = lab.engine(LoadPoint(rate_rps=50.0), lambda _: None, Caps(max_concurrency=16, stop_error_ratio=None))

    async def script() -> None:
        await asyncio.sleep(5.0)
        assert engine.in_flight == 16

    lab.drive(engine, script)
    assert "16 are in flight" in engine.take().events[0].text


def test_changing_between_loops_hands_over_what_is_in_flight(lab) -> None:
    engine = lab.engine(LoadPoint(rate_rps=40.0, output_tokens=20), lambda _: lab.Answer(0.5, 0.01))

    async def script() -> None:
        await asyncio.sleep(3.0)
        engine.command(closed(6))
        await asyncio.sleep(2.0)
        assert engine.in_flight == 6
        engine.command(LoadPoint(rate_rps=0.0))
        await asyncio.sleep(2.0)
        assert engine.in_flight == 0

    lab.drive(engine, script)


def test_a_dead_server_is_not_hammered(lab) -> None:
    engine = lab.engine(closed(1), lambda _: lab.Answer(0.0, 0.0, Outcome.HTTP_ERROR, None))

    async def script() -> None:
        await asyncio.sleep(60.0)
        assert lab.client.started < 30
        engine.command(LoadPoint(rate_rps=25.0))
        before = lab.client.started
        await asyncio.sleep(40.0)
        assert lab.client.started - before < 40

    lab.drive(engine, script)


def test_an_open_loop_returns_with_the_server(lab) -> None:
    dead = [True]
    engine = lab.engine(
        LoadPoint(rate_rps=25.0, output_tokens=1),
        lambda _: lab.Answer(0.0, 0.0, Outcome.HTTP_ERROR if dead[0] else Outcome.OK, None if dead[0] else 200),
    )

    async def script() -> None:
        await asyncio.sleep(30.0)
        dead[0] = False
        await asyncio.sleep(6.0)
        before = lab.client.started
        await asyncio.sleep(10.0)
        assert lab.client.started - before == pytest.approx(250, rel=0.2)

    lab.drive(engine, script)


def test_retry_after_is_honoured(lab) -> None:
    engine = lab.engine(closed(4), lambda _: lab.Answer(0.01, 0.0, Outcome.HTTP_ERROR, 429, retry_after_s=5.0))

    async def script() -> None:
        await asyncio.sleep(24.0)

    lab.drive(engine, script)
    assert 4 * 4 <= lab.client.started <= 4 * 5
    assert {r.retry_after_s for r in engine.take().requests} == {5.0}


def test_the_brake_takes_the_wheel_and_says_why(lab) -> None:
    plan = LoadPlan(stages=(Stage(name="all", duration_s=60.0, shape=Hold(concurrency=40)),), base=closed(1))
    engine = lab.engine(
        plan,
        lambda n: lab.Answer(0.1, 0.01, Outcome.HTTP_ERROR if n > 200 and n % 10 == 0 else Outcome.OK, 500),
        Caps(stop_error_ratio=0.01),
    )
    ledger = Ledger(engine)

    async def script() -> None:
        await asyncio.sleep(10.0)
        ledger.drain()
        assert engine.target.concurrency == 1
        assert engine.in_flight <= 1
        assert "HTTP 500" in engine.braked
        assert engine.finished
        engine.command(closed(3))
        assert engine.braked is None
        await asyncio.sleep(0.3)
        assert engine.in_flight == 3

    lab.drive(engine, script)
    ledger.drain()
    assert [change.reason for change in ledger.changes] == ["stage", "brake", "hand"]
    assert [event.severity for event in ledger.events] == ["error"]


@pytest.mark.parametrize(("failures", "brakes"), [(1, False), (3, True)])
def test_the_brake_weighs_few_requests_over_ten_seconds(lab, failures: int, brakes: bool) -> None:
    engine = lab.engine(
        closed(2),
        lambda n: lab.Answer(0.7, 0.01, Outcome.TIMEOUT if n < failures else Outcome.OK),
        Caps(stop_error_ratio=0.05),
    )

    async def script() -> None:
        await asyncio.sleep(9.0)
        assert engine.braked is None
        await asyncio.sleep(3.0)
        assert (engine.braked is not None) == brakes

    lab.drive(engine, script)


def test_the_brake_does_not_wake_a_plan_that_has_ended(lab) -> None:
    plan = LoadPlan(stages=(Stage(name="all", duration_s=2.0, shape=Hold(concurrency=150)),), base=closed(1))
    engine = lab.engine(plan, lambda n: lab.Answer(3.0, 0.0, Outcome.TIMEOUT), Caps(stop_error_ratio=0.01))

    async def script() -> None:
        await asyncio.sleep(6.0)
        assert engine.braked is None
        assert engine.target.concurrency == engine.in_flight == 0

    lab.drive(engine, script)
    assert len(engine.take().requests) == 150


def test_too_few_open_files_are_told_at_the_start(lab) -> None:
    engine = lab.engine(closed(1), caps=Caps(max_concurrency=10_000_000))

    async def script() -> None:
        await asyncio.sleep(0.1)

    lab.drive(engine, script)
    assert "files may be open" in engine.take().events[0].text


def test_a_plan_announces_its_stages_and_its_ramps(lab) -> None:
    stages = (
        Stage(name="up", duration_s=4.0, shape=Ramp(1, 41)),
        Stage(name="top", duration_s=2.0, shape=Hold(concurrency=41), output_tokens=7),
    )
    engine = lab.engine(LoadPlan(stages=stages, base=closed(1)))
    ledger = Ledger(engine)

    async def script() -> None:
        while not engine.finished:
            await asyncio.sleep(0.2)
            ledger.drain()
            assert engine.in_flight <= 41
        assert engine.stage is None
        await asyncio.sleep(2.0)
        assert engine.in_flight == 0

    lab.drive(engine, script)
    ledger.drain()
    ramp = [change for change in ledger.changes if change.stage == "up"]
    levels = [change.point.concurrency for change in ramp]
    assert levels == sorted(levels)
    assert 6 <= len(ramp) <= 9
    assert [change.stage for change in ledger.changes[len(ramp) :]] == ["top", None]
    assert ledger.changes[-1].point.concurrency == 0
    assert {r.stage for r in ledger.requests} == {"up", "top"}
    assert {r.asked_output_tokens for r in ledger.requests if r.stage == "top"} <= set(range(1, 8))
    assert ledger.outcomes()[Outcome.CANCELLED] == 0


def test_a_bug_in_the_client_is_a_traceback(lab) -> None:
    def answers(number: int):
        if number == 20:
            raise ZeroDivisionError("a bug")
        return lab.Answer()

    engine = lab.engine(closed(2), answers)

    async def script() -> None:
        await asyncio.sleep(20.0)

    with pytest.raises(ZeroDivisionError, match="a bug"):
        lab.drive(engine, script)


def test_an_endpoint_that_answers_at_once_does_not_keep_the_loop(lab) -> None:
    engine = lab.engine(LoadPoint(concurrency=2, output_tokens=1), lambda n: lab.Answer(0.0, 0.0) if n < 5000 else None)

    async def script() -> None:
        await asyncio.sleep(0.1)
        assert lab.client.started == 5002

    lab.drive(engine, script)


@pytest.mark.parametrize(("counted", "learnt"), [(200, True), (700, True), (1, False), (5000, False)])
def test_prompts_learn_from_usage_that_can_be_true(lab, counted: int, learnt: bool) -> None:
    engine = lab.engine(closed(1), lambda _: lab.Answer(prompt_tokens=counted))

    async def script() -> None:
        await asyncio.sleep(1.0)

    lab.drive(engine, script)
    assert lab.prompts.calibrated[:1] == ([(192, counted)] if learnt else [])


def test_bins_end_at_quarter_seconds_and_count_every_token(lab) -> None:
    engine = lab.engine(closed(5))

    async def script() -> None:
        await asyncio.sleep(5.1)

    lab.drive(engine, script)
    batch = engine.take()
    assert [round(b.t_s, 3) for b in batch.bins[:20]] == [0.25 * i for i in range(1, 21)]
    assert sum(b.output_tokens for b in batch.bins) == sum(r.output_tokens for r in batch.requests)
    assert sum(len(b.ttft_ms) for b in batch.bins) == sum(r.first_token_ns is not None for r in batch.requests)
    assert all(b.target == 5 for b in batch.bins[:-1])
