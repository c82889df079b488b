"""What keeps a load from hurting a server, from drifting off its plan and from losing count: one law for each guard."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Ramp, Replay, Sine, Spike, Stage, Steps
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.samples import LoadBin
from llmtop.load.brake import MOST_REQUESTS, Brake
from llmtop.load.merging import Merger, quiet
from llmtop.load.pacer import Pacer

SECOND = 1_000_000_000
EVEN = LoadPoint(rate_rps=0.0, burstiness=math.inf)


def ended(at_s: float, outcome: Outcome = Outcome.OK, status: int | None = 200, sent_s: float = 0.0) -> RequestRecord:
    return RequestRecord(
        scheduled_ns=0,
        dispatched_ns=round(sent_s * SECOND),
        sent_ns=None,
        connect_ns=None,
        headers_ns=None,
        first_token_ns=None,
        first_answer_ns=None,
        last_token_ns=None,
        end_ns=round(at_s * SECOND),
        started_at=0.0,
        asked_prompt_tokens=1,
        asked_output_tokens=1,
        prompt_tokens=1,
        output_tokens=0,
        outcome=outcome,
        status=status,
    )


def closed(concurrency: int, **more: float) -> LoadPoint:
    return LoadPoint(concurrency=concurrency, output_tokens=20, **more)  # type: ignore[arg-type]


def plan_of(*shapes: object, duration_s: float = 10.0, base: LoadPoint | None = None) -> LoadPlan:
    stages = tuple(Stage(name=f"s{i}", duration_s=duration_s, shape=shape) for i, shape in enumerate(shapes))  # type: ignore[arg-type]
    return LoadPlan(stages=stages, base=base or closed(1))


# ── Brake ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def braked(records: list[RequestRecord], at_s: float = 5.0, ratio: float | None = 0.05, since_s: float = 0.0) -> bool:
    brake = Brake(ratio, round(since_s * SECOND))
    for record in records:
        brake.note(record)
    return brake.verdict(round(at_s * SECOND)) is not None


def mixed(count: int, failures: int, at_s: float = 1.0, **more: float) -> list[RequestRecord]:
    """`count` requests that end at the same moment, of which so many fail."""
    return [ended(at_s, Outcome.TIMEOUT if i < failures else Outcome.OK, **more) for i in range(count)]


@pytest.mark.parametrize(("failures", "brakes"), [(5, False), (6, True)])
def test_a_share_of_failures_that_is_allowed_does_not_brake(failures: int, brakes: bool) -> None:
    assert braked(mixed(100, failures), ratio=0.05) == brakes
    assert not braked(mixed(100, 100), ratio=None)


@pytest.mark.parametrize(("count", "at_s", "brakes"), [(99, 9.9, False), (100, 9.9, True), (99, 10.0, True)])
def test_the_brake_waits_for_a_hundred_requests_or_ten_seconds(count: int, at_s: float, brakes: bool) -> None:
    assert braked(mixed(count, 50), at_s) == brakes


def test_one_failure_alone_never_brakes() -> None:
    assert not braked(mixed(1, 1), 20.0)
    assert braked(mixed(2, 2), 20.0)


def test_what_was_sent_under_an_earlier_load_is_no_reason_to_brake_this_one() -> None:
    assert not braked(mixed(200, 200, at_s=6.0, sent_s=4.999), 9.0, since_s=5.0)
    assert braked(mixed(200, 200, at_s=6.0, sent_s=5.0), 9.0, since_s=5.0)
    brake = Brake(0.05, 0)
    for record in mixed(200, 200):
        brake.note(record)
    brake.reset(2 * SECOND)
    assert brake.verdict(20 * SECOND) is None


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.LOST])
def test_what_llmtop_ended_itself_is_no_failure_of_the_server(outcome: Outcome) -> None:
    ours = [ended(1.0, outcome) for _ in range(500)]
    assert not braked(ours, 20.0)
    assert braked([*ours, *mixed(100, 6)])


def test_failures_of_more_than_ten_seconds_ago_are_forgotten_but_for_the_last_hundred() -> None:
    old, new = mixed(50, 50, at_s=1.0), mixed(100, 0, at_s=8.0)
    assert braked([*old, *new], 11.0)
    assert not braked([*old, *new], 11.001)
    assert braked([*old, *new[:98]], 11.001, ratio=0.01), "then two of the hundred are old, and none may be left out"
    assert braked(mixed(100, 100, at_s=1.0), 60.0)


def test_the_brake_weighs_no_more_than_the_last_thousand() -> None:
    assert braked([*mixed(51, 51), *mixed(MOST_REQUESTS - 51, 0)])
    assert not braked([*mixed(51, 51), *mixed(MOST_REQUESTS - 50, 0)])
    brake = Brake(0.05, 0)
    for record in mixed(2000, 2000):
        brake.note(record)
    assert (brake.verdict(SECOND) or "").startswith("1000 of the last 1000 requests failed")


def test_the_brake_names_the_three_commonest_failures_of_those_it_weighs() -> None:
    brake = Brake(0.01, 0)
    kinds = [(Outcome.HTTP_ERROR, 503, 5), (Outcome.HTTP_ERROR, None, 4), (Outcome.STREAM_ERROR, 200, 3)]
    for outcome, status, count in [(Outcome.EMPTY, 200, 7), *kinds, (Outcome.TIMEOUT, 200, 2)]:
        for _ in range(count):
            brake.note(ended(0.0 if outcome is Outcome.EMPTY else 4.0, outcome, status))
    for record in mixed(86, 0, at_s=4.0):
        brake.note(record)
    told = brake.verdict(12 * SECOND)
    assert told is not None
    assert told.startswith("14 of the last 100 requests failed (5 x HTTP 503, 4 x no connection, 3 x stream error)")
    assert told.endswith("more than 1 % of them")


@pytest.mark.parametrize(("point", "brakes"), [(closed(1), False), (closed(2), True), (LoadPoint(rate_rps=2.0), True)])
def test_a_load_of_one_is_as_low_as_the_brake_goes(lab, point: LoadPoint, brakes: bool) -> None:
    engine = lab.engine(point, lambda _: lab.Answer(0.3, 0.0, Outcome.TIMEOUT), Caps(stop_error_ratio=0.01))

    async def script() -> None:
        await asyncio.sleep(30.0)
        assert (engine.braked is not None) == brakes
        assert engine.target.rate_rps is None
        assert engine.target.concurrency == 1

    lab.drive(engine, script)
    assert [change.reason for change in engine.take().changes] == ["hand", "brake"][: 1 + brakes]


def test_the_brake_keeps_the_oldest_request_and_cancels_the_others(lab) -> None:
    engine = lab.engine(
        closed(50),
        lambda n: lab.Answer(100.0 if n < 10 else 0.1, 0.0, Outcome.OK if n < 10 else Outcome.TIMEOUT),
        Caps(stop_error_ratio=0.01),
    )

    async def script() -> None:
        while engine.braked is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.001)
        assert engine.in_flight == 1

    lab.drive(engine, script)
    cancelled = [r for r in engine.take().requests if r.outcome is Outcome.CANCELLED]
    kept = max(cancelled, key=lambda record: record.end_ns)
    assert kept.dispatched_ns == min(record.dispatched_ns for record in cancelled)
    assert sum(record.end_ns == kept.end_ns for record in cancelled) == 1


# ── Users ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def starts(lab, point: LoadPoint, answers: Callable[[int], object], until_s: float) -> list[float]:
    """When requests were sent until then."""
    engine = lab.engine(point, answers)

    async def script() -> None:
        await asyncio.sleep(until_s)

    lab.drive(engine, script)
    return lab.client.starts_s


def pauses(times: list[float]) -> list[float]:
    return [right - left for left, right in pairwise(times)]


@pytest.mark.parametrize(("asked_s", "least_s"), [(2.0, 2.0), (3600.0, 60.0)])
def test_a_server_may_ask_for_a_pause_but_not_for_an_hour(lab, asked_s: float, least_s: float) -> None:
    refused = lab.Answer(0.0, 0.0, Outcome.HTTP_ERROR, 429, retry_after_s=asked_s)
    waits = pauses(starts(lab, closed(1), lambda _: refused, 2.6 * least_s))
    assert len(waits) >= 2
    assert least_s <= min(waits) <= max(waits) <= 1.25 * least_s + 0.001
    assert len({round(wait, 6) for wait in waits}) == len(waits), "users that were refused together come back apart"


def test_a_failing_user_pauses_twice_as_long_each_time_up_to_five_seconds(lab) -> None:
    failing = lab.Answer(0.0, 0.0, Outcome.TIMEOUT)
    waits = pauses(starts(lab, closed(1), lambda _: failing, 70.0))
    for i, wait in enumerate(waits):
        middle = min(0.1 * 2**i, 5.0)
        assert 0.5 * middle <= wait <= 1.5 * middle + 0.001
    assert len(waits) > 12
    assert max(waits) > 5.5
    assert min(waits[6:]) < 4.5


def test_a_good_answer_ends_the_pauses(lab) -> None:
    times = starts(lab, closed(1), lambda n: lab.Answer(0.0, 0.0, Outcome.OK if n % 8 == 7 else Outcome.TIMEOUT), 60.0)
    waits = pauses(times)
    assert max(waits[7::8]) < 0.01
    assert max(waits[8::8]) <= 0.151


def test_a_user_that_thinks_and_fails_pauses_for_both(lab) -> None:
    waits = pauses(starts(lab, closed(1, think_time_s=20.0), lambda _: lab.Answer(0.0, 0.0, Outcome.TIMEOUT), 41.0))
    assert 20.05 <= waits[0] <= 20.151
    assert 20.1 <= waits[1] <= 20.301


def test_an_open_loop_asks_a_dead_server_at_growing_intervals(lab) -> None:
    """Up to three refusals in a row are sent at the commanded rate; then one at a time."""
    dead = lab.Answer(0.0, 0.0, Outcome.HTTP_ERROR, None)
    times = starts(lab, LoadPoint(rate_rps=100.0, burstiness=math.inf), lambda _: dead, 17.0)
    waits = pauses(times)
    assert waits[:2] == pytest.approx([0.01, 0.01], abs=0.002)
    wanted = [min(0.1 * 2**i, 5.0) for i in range(len(waits) - 2)]
    assert waits[2:] == pytest.approx(wanted, abs=0.03)
    assert len(waits) >= 9


@pytest.mark.parametrize("status", [429, 503])
def test_an_open_loop_goes_on_sending_while_a_server_answers_at_all(lab, status: int) -> None:
    times = starts(lab, LoadPoint(rate_rps=100.0), lambda _: lab.Answer(0.0, 0.0, Outcome.HTTP_ERROR, status), 5.0)
    assert len(times) == pytest.approx(500, rel=0.2)


def test_refusals_count_only_in_a_row(lab) -> None:
    def answer(n: int):
        return lab.Answer(0.0, 0.0, Outcome.OK if n % 3 == 2 else Outcome.HTTP_ERROR, None if n % 3 != 2 else 200)

    assert len(starts(lab, LoadPoint(rate_rps=100.0, output_tokens=1), answer, 5.0)) == pytest.approx(500, rel=0.2)


def test_any_answer_ends_the_wait_for_a_server_that_was_gone(lab) -> None:
    """The first request is answered well after two seconds, amid the wait after the fifth refusal in a row."""

    def answer(n: int):
        return lab.Answer(2.0, 0.0) if n == 0 else lab.Answer(0.0, 0.0, Outcome.HTTP_ERROR, None)

    times = starts(lab, LoadPoint(rate_rps=100.0, output_tokens=1, burstiness=math.inf), answer, 3.0)
    after = [at_s for at_s in times if at_s > 1.7]
    assert after[:3] == pytest.approx([2.01, 2.02, 2.03], abs=0.01)


def test_refusals_of_what_was_sent_before_a_wait_do_not_end_it(lab) -> None:
    late = lab.Answer(0.05, 0.0, Outcome.HTTP_ERROR, None)
    times = starts(lab, LoadPoint(rate_rps=100.0, burstiness=math.inf), lambda _: late, 0.5)
    assert [at_s for at_s in times if 0.085 < at_s < 0.17] == []
    assert len([at_s for at_s in times if at_s < 0.085]) == pytest.approx(8, abs=1)


def test_a_record_holds_what_the_server_counted_and_else_what_was_asked(lab) -> None:
    engine = lab.engine(closed(1), lambda n: lab.Answer(0.1, 0.01, Outcome.OK if n == 0 else Outcome.TIMEOUT))

    async def script() -> None:
        await asyncio.sleep(1.0)

    lab.drive(engine, script)
    good, failed = engine.take().requests[:2]
    assert (good.asked_prompt_tokens, good.prompt_tokens, good.output_tokens, good.chunks) == (192, 200, 20, 20)
    assert (failed.asked_prompt_tokens, failed.prompt_tokens, failed.output_tokens) == (192, 192, 0)
    assert (good.worker, good.stage, good.status) == (0, None, 200)


def test_arrivals_that_were_not_sent_are_told_every_five_seconds_with_their_number(lab) -> None:
    point = LoadPoint(rate_rps=10.0, burstiness=math.inf)
    engine = lab.engine(point, lambda _: None, Caps(max_concurrency=4, stop_error_ratio=None))

    async def script() -> None:
        await asyncio.sleep(13.0)

    lab.drive(engine, script)
    told = [event for event in engine.take().events if event.text.startswith("Open loop")]
    assert [event.t_s for event in told] == pytest.approx([0.45, 5.45, 10.45], abs=0.06)
    assert [int(event.text.split()[2]) for event in told] == [1, 50, 50]
    assert {(event.kind, event.severity) for event in told} == {("load", "warning")}


def test_users_who_are_called_up_together_start_within_a_tenth_of_a_second_in_order(lab) -> None:
    times = starts(lab, closed(40), lambda _: lab.Answer(5.0, 0.0), 3.0)
    assert len(times) == 40
    assert times[0] == 0.0
    assert 0.09 < times[-1] <= 0.1
    assert all(abs(at_s - place / 400) <= 0.5 / 400 + 1e-6 for place, at_s in enumerate(times))


def test_first_answers_are_cut_to_evenly_spread_shares_unless_lengths_vary_by_themselves(lab) -> None:
    starts(lab, LoadPoint(concurrency=4, output_tokens=100), lambda _: lab.Answer(5.0, 0.0), 1.0)
    assert lab.client.asked == [25, 50, 75, 100]


def test_users_who_follow_an_open_loop_stay_and_think(lab) -> None:
    engine = lab.engine(LoadPoint(rate_rps=20.0, output_tokens=20), lambda _: lab.Answer(0.1, 0.01))

    async def script() -> None:
        await asyncio.sleep(1.0)
        engine.command(closed(4, think_time_s=10.0))
        await asyncio.sleep(2.0)
        sent = lab.client.started
        await asyncio.sleep(2.0)
        assert (lab.client.started, engine.in_flight) == (sent, 0)

    lab.drive(engine, script)


def test_no_first_answer_is_cut_to_nothing(lab) -> None:
    starts(lab, LoadPoint(concurrency=8, output_tokens=1), lambda _: lab.Answer(5.0, 0.0), 1.0)
    assert lab.client.asked == [1] * 8


def test_a_prompt_whose_own_length_is_not_the_commanded_one_is_not_cut(lab) -> None:
    real = lab.prompts.next

    class Own:
        spent = again = False
        calibrate = lab.prompts.calibrate
        spent = again = False

        def next(self, point: LoadPoint, row: int | None = None):
            return real(LoadPoint(concurrency=1, output_tokens=30))

    lab.prompts = Own()
    starts(lab, LoadPoint(concurrency=4, output_tokens=100), lambda _: lab.Answer(5.0, 0.0), 1.0)
    assert lab.client.asked == [30] * 4


def test_a_request_was_due_when_the_one_before_it_ended_or_its_pause_did(lab) -> None:
    engine = lab.engine(closed(1, think_time_s=0.5), lambda _: lab.Answer(0.1, 0.0))

    async def script() -> None:
        await asyncio.sleep(3.0)

    lab.drive(engine, script)
    records = engine.take().requests
    for before, after in pairwise(records):
        assert after.scheduled_ns - before.end_ns == pytest.approx(0.5 * SECOND, abs=1e6)
        assert after.scheduled_ns <= after.dispatched_ns


def test_the_oldest_wait_is_that_of_the_oldest_request_without_a_token(lab) -> None:
    engine = lab.engine(closed(2), lambda n: lab.Answer(0.1, 0.05) if n == 0 else None)

    async def script() -> None:
        await asyncio.sleep(2.1)

    lab.drive(engine, script)
    bins = engine.take().bins
    assert [b.prefilling for b in bins[:8]] == [1, 1, 2, 2, 2, 2, 2, 2]
    assert bins[7].oldest_prefill_s == pytest.approx(2.0, abs=0.1)


def test_coming_down_the_resting_leave_first(lab) -> None:
    engine = lab.engine(closed(10, think_time_s=100.0), lambda n: lab.Answer(1.0 if n < 5 else 60.0, 0.0))

    async def script() -> None:
        await asyncio.sleep(10.0)
        assert engine.in_flight == 5
        engine.command(closed(5, think_time_s=100.0))
        await asyncio.sleep(1.0)
        assert engine.in_flight == 5, "those at work stay"
        engine.command(closed(7, think_time_s=100.0))
        await asyncio.sleep(1.0)
        assert engine.in_flight == 7

    lab.drive(engine, script)


@pytest.mark.parametrize(("asked", "counted", "learnt"), [(192, 44, True), (192, 43, False), (192, 1280, True)])
def test_a_count_of_tokens_is_believed_within_a_factor_of_four(lab, asked: int, counted: int, learnt: bool) -> None:
    starts(lab, closed(1), lambda _: lab.Answer(prompt_tokens=counted), 1.0)
    assert bool(lab.prompts.calibrated) == learnt
    assert all(pair == (asked, counted) for pair in lab.prompts.calibrated)


def test_a_count_far_above_what_was_asked_is_not_believed(lab) -> None:
    starts(lab, closed(1), lambda _: lab.Answer(prompt_tokens=4 * 192 + 513), 1.0)
    assert lab.prompts.calibrated == []


# ── Who drives ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_load_above_the_limit_is_cut_to_it_and_said_once(lab) -> None:
    engine = lab.engine(closed(4), caps=Caps(max_concurrency=8, stop_error_ratio=None))

    async def script() -> None:
        await asyncio.sleep(0.5)
        for concurrency in (8, 9):
            engine.command(closed(concurrency))
            await asyncio.sleep(0.5)
            assert engine.target.concurrency == engine.in_flight == 8

    lab.drive(engine, script)
    harvest = engine.take()
    assert [event.text.split()[0] for event in harvest.events] == ["9"]
    assert [change.point.concurrency for change in harvest.changes] == [4, 8]


def test_a_ramp_is_announced_twice_a_second_and_a_hand_at_once(lab) -> None:
    engine = lab.engine(plan_of(Ramp(0, 100), Hold(concurrency=3)))

    async def script() -> None:
        await asyncio.sleep(5.01)
        engine.command(closed(70))
        engine.command(closed(71))

    lab.drive(engine, script)
    changes = engine.take().changes
    ramp = [change for change in changes if change.reason == "stage"]
    assert all(0.5 <= after.t_s - before.t_s <= 0.56 for before, after in pairwise(ramp))
    assert [(c.reason, c.point.concurrency, c.stage) for c in changes[-2:]] == [("hand", 70, None), ("hand", 71, None)]
    assert {change.stage for change in ramp} == {"s0"}


def test_a_plan_tells_its_stage_and_how_long_it_lasts_and_a_hand_nothing(lab) -> None:
    engine = lab.engine(plan_of(Hold(concurrency=2), Hold(concurrency=3), duration_s=4.0))

    async def script() -> None:
        await asyncio.sleep(5.0)
        assert (engine.stage, engine.finished) == ("s1", False)
        assert engine.stage_left_s == pytest.approx(3.0, abs=0.01)
        await asyncio.sleep(3.1)
        assert (engine.stage, engine.finished, engine.target.concurrency) == (None, True, 0)
        engine.command(closed(1))
        assert (engine.stage, engine.stage_left_s, engine.finished) == (None, None, False)

    lab.drive(engine, script)
    assert [c.reason for c in engine.take().changes] == ["stage", "stage", "stage", "hand"]


@pytest.mark.parametrize("point", [LoadPoint(rate_rps=10.0), closed(10)], ids=["rate", "concurrency"])
def test_a_stop_is_no_load_at_all_in_either_loop(lab, point: LoadPoint) -> None:
    engine = lab.engine(point)

    async def script() -> None:
        await asyncio.sleep(1.0)
        engine.cut()
        assert engine.target == point.at(point.axis, 0)
        await asyncio.sleep(0.01)
        sent = lab.client.started
        await asyncio.sleep(5.0)
        assert lab.client.started == sent

    lab.drive(engine, script)


# ── Pacing ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def at(plan: LoadPlan, elapsed_s: float) -> float:
    point = Pacer(plan).target(elapsed_s)
    assert point is not None
    value = point.concurrency if point.rate_rps is None else point.rate_rps
    assert value is not None
    return value


@pytest.mark.parametrize("unit", ["concurrency", "rate_rps"])
def test_a_swing_starts_low_and_is_high_after_half_its_period(unit: str) -> None:
    plan = plan_of(Sine(10, 30, 8.0, unit))
    assert [at(plan, t) for t in (0, 2, 4, 6, 8)] == pytest.approx([10, 20, 30, 20, 10])


def test_a_swing_sends_less_at_first_and_its_mean_after_each_half() -> None:
    pacer = Pacer(plan_of(Sine(10, 30, 8.0, "rate_rps"), base=EVEN))
    lag = 10 * 8 / math.tau
    assert [pacer.integral(t) for t in (2, 4, 6, 8, 10)] == pytest.approx([40 - lag, 80, 120 + lag, 160, 200 - lag])


def test_shapes_of_rate() -> None:
    plan = plan_of(
        Ramp(10, 30, "rate_rps"), Steps((4, 8), "rate_rps"), Spike(2, 50, unit="rate_rps"), Hold(rate_rps=7.5), Hold()
    )
    assert [at(plan, t) for t in (0, 5, 10, 14.9, 15, 20, 23.3, 23.4, 26.6, 26.7)] == pytest.approx(
        [10, 20, 4, 4, 8, 2, 2, 50, 50, 2]
    )
    assert [at(plan, t) for t in (30, 39.9, 40)] == [7.5, 7.5, 1]
    assert Pacer(plan).target(50.0) is None


@pytest.mark.parametrize(
    "shape", [Ramp(5, 45, "rate_rps"), Ramp(45, 5, "rate_rps"), Sine(5, 45, 7, "rate_rps"), Hold(rate_rps=9)]
)
def test_the_nth_request_is_due_when_the_integral_reaches_it(shape: object) -> None:
    pacer = Pacer(plan_of(shape, base=EVEN))
    for sent in range(0, 80, 7):
        assert pacer.integral(pacer.send_s(sent)) == pytest.approx(sent + 0.5, abs=1e-6)
        assert pacer.arrivals(pacer.send_s(sent) + 1e-6) == sent + 1
        assert pacer.arrivals(pacer.send_s(sent) - 1e-6) == sent


def test_a_concurrency_between_two_rates_adds_no_requests_and_holds_none_back() -> None:
    pacer = Pacer(plan_of(Hold(rate_rps=1), Hold(concurrency=9), Hold(rate_rps=2), base=EVEN))
    assert [pacer.send_s(i) for i in (9, 10, 11, 29)] == pytest.approx([9.5, 20.25, 20.75, 29.75])
    assert pacer.send_s(30) == math.inf
    assert [pacer.integral(t) for t in (10, 20, 30, 99)] == pytest.approx([10, 10, 30, 30])


def test_a_rate_that_falls_to_nothing_ends_with_its_last_request() -> None:
    pacer = Pacer(plan_of(Ramp(2, 0, "rate_rps"), base=EVEN))
    assert pacer.send_s(9) == pytest.approx(10 - math.sqrt(5), abs=1e-6)
    assert pacer.send_s(10) == math.inf
    assert pacer.target(9.999).rate_rps >= 0.0


def test_next_send_counts_down_to_now_and_not_below() -> None:
    pacer = Pacer.hold(LoadPoint(rate_rps=0.5, burstiness=math.inf))
    assert [pacer.next_send(t, 0) for t in (0, 0.75, 1.0, 5.0)] == [1.0, 0.25, 0.0, 0.0]


def test_a_pacer_that_starts_within_a_plan_does_what_is_left_of_it() -> None:
    plan = plan_of(Hold(rate_rps=1), Hold(rate_rps=4), base=EVEN)
    late = Pacer(plan, start_s=8.0)
    assert [late.send_s(i) for i in range(3)] == pytest.approx([0.5, 1.5, 2.125])
    assert late.stage(1.0) == (plan.stages[0], pytest.approx(1.0))
    assert late.stage(2.0) == (plan.stages[1], pytest.approx(10.0))
    assert late.stage(12.0) == (None, None)
    assert late.target(11.9).rate_rps == 4
    assert late.target(12.0) is None


def test_a_replaced_pacer_keeps_the_distance_to_the_next_arrival_in_requests() -> None:
    slow = Pacer.hold(LoadPoint(rate_rps=1.0, burstiness=math.inf))
    fast = slow.replaced(LoadPlan(stages=(), base=LoadPoint(rate_rps=10.0, burstiness=math.inf)), 10.25)
    assert [fast.send_s(i) for i in range(2)] == pytest.approx([0.025, 0.125])
    parts = [slow.shared(i, 2).replaced(fast.plan, 10.25) for i in range(2)]
    assert [part.send_s(0) for part in parts] == pytest.approx([0.025, 0.125])


def test_shares_take_turns_from_where_the_whole_stood() -> None:
    whole = Pacer.hold(LoadPoint(rate_rps=10.0, burstiness=math.inf))
    moved = whole.replaced(whole.plan, 0.4)  # four are sent
    parts = [moved.shared(i, 3) for i in range(3)]
    assert [part.send_s(0) for part in parts] == pytest.approx([0.25, 0.05, 0.15]), "the fifth is share 1's turn"
    assert [part.send_s(1) for part in parts] == pytest.approx([0.55, 0.35, 0.45])


def test_arrivals_of_the_past_can_be_asked_again() -> None:
    pacer = Pacer.hold(LoadPoint(rate_rps=10.0), seed=3)
    counts = [pacer.arrivals(t) for t in (0.0, 1.0, 2.0, 5.0)]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert [pacer.arrivals(t) for t in (5.0, 2.0, 1.0, 0.0)] == counts[::-1]


def test_two_seeds_send_at_different_times_and_one_seed_at_the_same() -> None:
    point = LoadPoint(rate_rps=10.0)
    first, again, other = (Pacer.hold(point, seed).send_s(0) for seed in (1, 1, 2))
    assert first == again != other
    assert Pacer(plan_of(Hold(rate_rps=10.0))).send_s(0) == Pacer(plan_of(Hold(rate_rps=10.0)), 0).send_s(0)


def test_each_stage_has_its_own_lengths_and_bursts() -> None:
    base = LoadPoint(rate_rps=1.0, prompt_tokens=7, output_tokens=8, burstiness=math.inf)
    stages = (
        Stage(name="a", duration_s=1.0, shape=Hold(), prompt_tokens=70),
        Stage(name="b", duration_s=1.0, shape=Hold(rate_rps=3.0), output_tokens=80),
        Stage(name="c", duration_s=8.0, shape=Replay(((2.0, LoadPoint(rate_rps=5.0, prompt_tokens=9)),))),
    )
    pacer = Pacer(LoadPlan(stages=stages, base=base))
    seen = [pacer.target(t) for t in (0.5, 1.5, 3.9, 4.0)]
    assert [(p.rate_rps, p.concurrency, p.prompt_tokens, p.output_tokens) for p in seen] == [
        (1.0, None, 70, 8),
        (3.0, None, 7, 80),
        (None, 0, 7, 8),
        (5.0, None, 9, 64),
    ]


def test_a_replay_holds_its_last_point_and_leaves_out_what_comes_after_its_end() -> None:
    points = ((0.0, LoadPoint(concurrency=3)), (4.0, LoadPoint(concurrency=5)), (10.0, LoadPoint(concurrency=9)))
    plan = plan_of(Replay(points), Hold(concurrency=1))
    assert [at(plan, t) for t in (0, 3.9, 4, 9.9, 10)] == [3, 3, 5, 5, 1]


# ── Samples of several workers ────────────────────────────────────────────────────────────────────────────────────────


def told(t_s: float, **fields: float) -> LoadBin:
    return LoadBin(**{"t_s": t_s, "span_s": 0.25, "target": 4.0, "in_flight": 1, **fields})  # type: ignore[arg-type]


def test_nothing_is_handed_out_before_all_have_told_it_and_then_once() -> None:
    merger: Merger[LoadBin] = Merger(0.25, quiet)
    assert merger.take({0, 1}) == []
    merger.add(0, [told(0.25), told(0.5, sent=2)])
    assert merger.take({0, 1}) == []
    merger.add(1, [told(0.2500001, sent=3)])
    assert [sorted(group) for group in merger.take({0, 1})] == [[0, 1]]
    assert merger.take({0, 1}) == []
    assert [{worker: each.sent for worker, each in group.items()} for group in merger.take(set())] == [{0: 2, 1: 0}]
    assert merger.take(set()) == []


def test_two_samples_that_end_in_one_interval_are_both_kept() -> None:
    """A worker that was late closes two bins soon after one another."""
    merger: Merger[LoadBin] = Merger(0.25, quiet)
    merger.add(0, [told(0.26, sent=1), told(0.27, sent=2)])
    assert [group[0].sent for group in merger.take({0})] == [1, 2]


def test_a_sample_that_ends_a_hair_early_belongs_to_its_interval() -> None:
    merger: Merger[LoadBin] = Merger(0.25, quiet)
    merger.add(0, [told(0.75 - 1e-8)])
    merger.add(1, [told(0.75)])
    assert [sorted(group) for group in merger.take({0, 1})] == [[0, 1]]


def test_a_worker_that_skipped_an_interval_stands_in_with_what_it_has_and_nothing_that_happened() -> None:
    merger: Merger[LoadBin] = Merger(0.25, quiet)
    last = told(0.25, in_flight=7, prefilling=3, oldest_prefill_s=1.5, sent=2, ok=1, output_tokens=9)
    merger.add(0, [last, told(0.75)])
    merger.add(1, [told(0.25), told(0.5), told(0.75)])
    groups = merger.take({0, 1})
    assert groups[1][0] == LoadBin(t_s=0.25, span_s=0.0, target=4.0, in_flight=7, prefilling=3, oldest_prefill_s=1.5)
    assert groups[1][1] == told(0.5)


def test_a_worker_that_has_told_nothing_yet_has_no_stand_in() -> None:
    silent: Merger[LoadBin] = Merger(0.25, lambda last: None)
    for merger in (silent, Merger(0.25, quiet)):
        merger.add(0, [told(0.25), told(0.5)])
        merger.add(1, [told(0.5)])
        assert [sorted(group) for group in merger.take({0, 1})] == [[0], [0, 1]]
    silent.add(0, [told(1.0)])
    silent.add(1, [told(0.75), told(1.0)])
    assert [sorted(group) for group in silent.take({0, 1})] == [[1], [0, 1]]
