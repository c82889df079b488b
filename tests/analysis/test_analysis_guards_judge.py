"""What binds above a knee, how firm it is, and where failing requests put it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_analysis_cliff_laws import LOADS, capped
from test_analysis_guards_cliff import NINE, series

from llmtop.analysis import Level, Limits, judge
from llmtop.analysis.cliff import Bend, find, prepare, provisional
from llmtop.analysis.judge import cause_of, is_pinned
from llmtop.analysis.levels import Statistic
from llmtop.domain.verdicts import Bound, Confidence, Kind

FLAT = [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0]
AT_FIVE = Bend(Kind.CLIFF, 5.0, 4.5, 5.5, "hinge")


@pytest.mark.parametrize(
    ("running", "slots", "pinned"),
    [
        (7.0, 8.0, True),
        (6.9, 8.0, False),
        (38.0, 40.0, True),
        (37.9, 40.0, False),
        (3.5, 4.0, True),
        (3.4, 4.0, False),
        (None, 4.0, False),
        (4.0, None, False),
    ],
)
def test_running_sticks_to_the_slots_within_one_or_five_percent(
    running: float | None, slots: float | None, pinned: bool
) -> None:
    assert is_pinned(running, slots) is pinned


def cause(limits: Limits | None = None, finding: Bend = AT_FIVE, **gauges: float) -> tuple[Bound, str]:
    """The cause, if the levels past 5 show these gauges and those below none."""
    curve = series(NINE, FLAT)
    levels = [dataclasses.replace(each, **gauges) if each.load > 5 else each for each in curve.levels]
    bound, evidence = cause_of(finding, curve, levels, Limits() if limits is None else limits)
    return bound, "; ".join(evidence)


def test_gauges_past_the_knee_tell_the_cause() -> None:
    assert cause(waiting=0.9)[0] is Bound.COMPUTE
    assert cause(waiting=1.0)[0] is Bound.QUEUE
    assert cause(waiting=9.0, kv_usage=0.9)[0] is Bound.KV
    assert cause(waiting=9.0, kv_usage=0.89)[0] is Bound.QUEUE
    assert cause(waiting=9.0, preemptions=1.0)[0] is Bound.KV
    assert cause(waiting=9.0, preemptions=0.0)[0] is Bound.QUEUE
    slots = Limits(max_num_seqs=8.0)
    assert cause(slots, waiting=9.0, kv_usage=0.95, running=8.0)[0] is Bound.QUEUE, "running sticks to the slots"
    assert cause(slots, waiting=9.0, kv_usage=0.95, running=5.0)[0] is Bound.KV
    assert cause(finding=Bend(Kind.NONE), waiting=9.0) == (Bound.NONE, "")
    assert cause(finding=Bend(Kind.CLIFF), waiting=9.0) == (Bound.NONE, "")


def test_slots_are_suspected_only_where_the_server_does_not_tell_them() -> None:
    assert "max_num_seqs suspected 8" in cause(waiting=9.0, running=8.0)[1]
    assert "suspected" not in cause(Limits(max_num_seqs=8.0), waiting=9.0, running=8.0)[1]
    assert "suspected" not in cause(waiting=9.0)[1]


@pytest.mark.parametrize(("told", "confirmed"), [(8.0, True), (8.8, True), (8.9, False), (7.2, False)])
def test_readings_confirm_each_other_within_a_tenth(told: float, confirmed: bool) -> None:
    text = cause(Limits(max_num_seqs=told), waiting=9.0, running=8.0)[1]
    assert ("confirmed two ways" in text) is confirmed
    assert "running gauge 8" in text


@pytest.mark.parametrize(
    ("told", "readings"),
    [
        (None, "confirmed two ways: in service by Little 30, running gauge 30"),
        (30.0, "confirmed three ways: in service by Little 30, running gauge 30, server's limit 30"),
        (33.3, "in service by Little 30, running gauge 30, server's limit 33.3"),
    ],
)
def test_what_little_tells_is_a_reading_of_its_own(told: float | None, readings: str) -> None:
    loads = [8.0, 16.0, 24.0, 32.0, 48.0, 64.0]
    ttft = [0.1 + max(0.0, load / 30 - 1) * 3.1 for load in loads]
    curve = series(loads, ttft, e2e_mean_s=[each + 3 for each in ttft])
    levels = [dataclasses.replace(each, waiting=9.0, running=30.0) for each in curve.levels]
    knee = Bend(Kind.CLIFF, 30.0, 28.0, 32.0, "hinge")
    assert cause_of(knee, curve, levels, Limits(max_num_seqs=told))[1][-1] == readings
    offered = dataclasses.replace(curve, axis="rate")
    assert "Little" not in cause_of(knee, offered, levels, Limits(max_num_seqs=told))[1][-1], "of a closed loop"


def by_latency(ttft: float, e2e: float) -> Bound:
    """Past 5 TTFT grows by `ttft` and E2E by `e2e` over 10 s."""
    curve = series(NINE, FLAT)
    past = curve.x > 5
    shaped = dataclasses.replace(
        curve, ttft_mean=np.where(past, 1 + ttft, 1.0), e2e_mean=np.where(past, 10 + e2e, 10.0)
    )
    return cause_of(AT_FIVE, shaped, curve.levels, Limits())[0]


def test_without_gauges_added_time_before_the_first_token_is_a_queue() -> None:
    assert by_latency(6.1, 10.0) is Bound.QUEUE
    assert by_latency(5.9, 10.0) is Bound.COMPUTE
    assert by_latency(1.0, 0.0) is Bound.QUEUE, "nothing added after it"


def test_growth_that_was_there_before_the_knee_is_no_added_time() -> None:
    curve = series(NINE, FLAT)
    e2e = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9])
    shaped = dataclasses.replace(curve, ttft_mean=np.where(curve.x > 5, 2.0, 1.0), e2e_mean=e2e)
    late = dataclasses.replace(AT_FIVE, at=5.5)
    assert cause_of(late, shaped, curve.levels, Limits())[1][0].startswith("50.0 % of the added time")


def test_slow_tokens_bend_by_compute() -> None:
    assert cause_of(AT_FIVE, series(NINE, FLAT, metric="tpot"), (), Limits())[0] is Bound.COMPUTE


# -- failing requests -------------------------------------------------------------------------------------------------


def with_failures(cap: float, broken_from: float) -> tuple[Level, ...]:
    levels = capped(cap, LOADS)
    return tuple(dataclasses.replace(each, errors=9 if each.load >= broken_from else 0) for each in levels)


def test_a_cliff_of_latency_below_the_failures_is_the_cliff() -> None:
    assert judge(with_failures(30, 96.0), replicates=0).at == pytest.approx(30, rel=0.1)
    early = judge(with_failures(1000, 48.0), replicates=0)
    assert (early.low, early.high) == (32.0, 48.0)
    assert early.at == pytest.approx(np.sqrt(32 * 48))
    assert early.confidence is Confidence.PROVISIONAL
    assert "18.4 % of requests failed at 48" in early.evidence
    first = judge(with_failures(1000, 4.0), replicates=0)
    assert (first.low, first.high) == (2.0, 4.0)
    assert judge(with_failures(1000, 2.0), replicates=0).at is None, "no level held"


def test_the_same_levels_give_the_same_interval() -> None:
    levels = series(NINE, [0.1 + each**2 for each in NINE], se=0.1).levels
    same, other = (judge(levels, replicates=6, seed=seed) for seed in (0, 1))
    assert judge(levels, replicates=6) == same != other


def test_a_wide_interval_is_no_firm_place() -> None:
    levels = capped(30, LOADS)
    assert judge(levels).confidence is Confidence.FIRM
    far_apart = judge(capped(30, [1.0, 2.0, 4.0, 8.0, 64.0, 512.0]))
    assert far_apart.kind is Kind.CLIFF
    assert far_apart.confidence is Confidence.PROVISIONAL
    assert judge(levels[:4]).confidence is Confidence.PROVISIONAL
    assert judge(capped(1000, LOADS)).confidence is Confidence.FIRM


# -- few levels -------------------------------------------------------------------------------------------------------


def early(y: list[float], **more: object) -> Bend:
    loads = [8.0, 16.0, 32.0, 48.0][: len(y)]
    return provisional(series(loads, y, e2e_mean_s=[each + 3 for each in y], **more))  # type: ignore[arg-type]


def test_the_first_overloaded_level_tells_how_many_were_in_service() -> None:
    """A queue share of 1.5 / 4.6 at 32: 21.6 were served."""
    found = early([0.1, 0.1, 1.6])
    assert (found.kind, found.form) == (Kind.CLIFF, "little")
    assert found.at == pytest.approx(32 * (1 - 1.5 / 4.6))
    assert (found.low, found.high) == (16.0, 32.0)
    assert early([0.1, 0.1, 0.5]).kind is Kind.INSUFFICIENT, "11 % of E2E"
    assert early([0.1, 0.1, 0.55]).kind is Kind.CLIFF, "13 %"
    assert early([1.0, 1.0, 1.7]).kind is Kind.INSUFFICIENT, "not 1.8 times as slow"
    assert early([1.0, 1.0, 1.9]).kind is Kind.CLIFF
    assert early([0.1]).kind is Kind.INSUFFICIENT
    assert early([0.1, 0.1, 1.6], axis="rate").kind is Kind.INSUFFICIENT, "an open loop has no number in flight"
    assert early([0.1, 0.1, 1.6], metric="e2e").kind is Kind.INSUFFICIENT


def test_a_convoy_is_no_queue() -> None:
    slow = [0.1, 0.1, 1.6, 3.0]
    assert early(slow, waiting=[0.0, 0.0, 0.9, 0.9]).kind is Kind.INSUFFICIENT
    assert early(slow, waiting=[0.0, 0.0, 1.0, 9.0]).kind is Kind.CLIFF
    assert early(slow, output_tokens_per_s=[8.0, 16.0, 20.0, 23.1]).high == 48.0, "throughput still grows past 32"
    assert early(slow, output_tokens_per_s=[8.0, 16.0, 20.0, 22.9]).high == 32.0


def test_levels_to_try_are_told_with_ttft_in_a_closed_loop() -> None:
    levels = capped(30, LOADS[:4])
    assert judge(levels, replicates=0).next_levels == (32,)
    assert judge(levels, metric="e2e", replicates=0).next_levels == ()
    assert judge(levels, axis="rate", replicates=0).next_levels == ()


# -- a plateau, and what was never delivered --------------------------------------------------------------------------


def flat_rate(rate: list[float], x: list[float] | None = None) -> Kind:
    return find(series(NINE if x is None else x, [1.0] * 9, output_tokens_per_s=rate), replicates=0).kind


def test_throughput_that_stands_still_is_a_plateau() -> None:
    assert flat_rate([1, 2, 3, 4, 5, 6, 6, 6, 6]) is Kind.GRADUAL
    assert flat_rate([1, 2, 3, 4, 5, 6, 7, 7, 7]) is Kind.NONE, "9 is not 1.4 times 7"
    assert flat_rate([1, 2, 3, 4, 5, 6, 7, 8, 8]) is Kind.NONE, "one level past it"
    assert flat_rate([1, 2, 3, 4, 5, 6, 6, 6, 6.3]) is Kind.NONE, "it still grows"
    assert flat_rate([0, 2, 3, 4, 5, 6, 6, 6, 6]) is Kind.NONE
    found = find(series(NINE, [1.0] * 9, output_tokens_per_s=[1, 2, 3, 4, 5, 6, 6, 6, 6]), replicates=0)
    assert (found.at, found.low, found.high) == (6.0, 5.0, 7.0)


def test_a_plateau_is_two_levels_long_and_goes_on_to_1_4_times_its_first() -> None:
    assert flat_rate([1, 2, 3, 4, 5, 6, 7, 7, 7], [*NINE[:7], 10.0, 12.0]) is Kind.GRADUAL
    assert flat_rate([1, 2, 3, 4, 5, 5, 5, 5, 5], [1, 2, 3, 4, 5, 5.5, 6, 6.5, 7.0]) is Kind.GRADUAL, "7 is 1.4 times 5"
    assert flat_rate([1, 2, 3, 4, 5, 5, 5, 5, 5], [1, 2, 3, 4, 5, 5.5, 6, 6.5, 6.9]) is Kind.NONE


def held(tokens_per_s: float) -> list[float]:
    """Levels left where only output tokens/s tell: 30 a second for each of two seconds' requests, and the last so."""
    levels = [
        Level(x, given=Statistic(1.0, 0.1, 50), e2e_mean_s=2.0, output_tokens_per_s=30 * x) for x in (1.0, 2.0, 4.0)
    ]
    levels.append(Level(8.0, given=Statistic(1.0, 0.1, 50), e2e_mean_s=2.0, output_tokens_per_s=tokens_per_s))
    return prepare(levels, axis="concurrency", metric="ttft", stat="p50").x.tolist()


def test_tokens_stand_for_requests_where_these_are_not_known() -> None:
    assert held(240 * 0.61) == [1.0, 2.0, 4.0, 8.0]
    assert held(240 * 0.59) == [1.0, 2.0, 4.0]
    slower = [
        Level(x, given=Statistic(1.0, 0.1, 50), e2e_mean_s=x, output_tokens_per_s=30.0) for x in (1.0, 2.0, 4.0, 8.0)
    ]
    assert len(prepare(slower, axis="concurrency", metric="ttft", stat="p50").x) == 4, "slower, and as many tokens"


def delivered(share: float, count: int = 6) -> list[float]:
    """Levels left of those whose last one really held `share` of its load, by Little's law."""
    levels = [
        Level(load, given=Statistic(1.0, 0.1, 50), e2e_mean_s=2.0, requests_per_s=load / 2) for load in NINE[:count]
    ]
    levels[-1] = dataclasses.replace(levels[-1], requests_per_s=share * NINE[count - 1] / 2)
    return prepare(levels, axis="concurrency", metric="ttft", stat="p50").x.tolist()


def test_a_load_that_was_not_in_flight_is_no_level() -> None:
    assert delivered(0.61) == NINE[:6]
    assert delivered(0.59) == NINE[:5]


def stuck(load: float, rate: float, ttft_s: float, count: int = 6) -> bool:
    """Whether a last level of so much load, tokens/s and latency is left out, after five to 5 of 1 s."""
    levels = [Level(x, given=Statistic(1.0, 0.1, 50), output_tokens_per_s=10 * x) for x in NINE[: count - 1]]
    levels.append(Level(load, given=Statistic(ttft_s, 0.1, 50), output_tokens_per_s=rate))
    return load not in prepare(levels, axis="concurrency", metric="ttft", stat="p50").x


def test_without_throughput_nobody_knows_what_was_delivered() -> None:
    levels = [Level(x, given=Statistic(1.0, 0.1, 50)) for x in (*NINE[:5], 9.0)]
    assert prepare(levels, axis="concurrency", metric="ttft", stat="p50").x[-1] == 9.0


def test_a_last_level_that_changed_nothing_was_not_delivered() -> None:
    assert stuck(9.0, 52.0, 1.04)
    assert not stuck(8.2, 52.0, 1.04), "not so much more load"
    assert not stuck(9.0, 53.0, 1.04), "more tokens"
    assert not stuck(9.0, 52.0, 1.06), "slower"
    assert not stuck(9.0, 52.0, 1.04, count=5), "four levels before it"
