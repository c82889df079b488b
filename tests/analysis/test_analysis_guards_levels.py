"""Guards of levels, of an SLO's verdict on them and of the walls that a capacity names."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from facts_by_hand import requests_of
from test_analysis_slo import POINT, level, sample

from llmtop.analysis import Level, Limits
from llmtop.analysis.capacity import capacity_of, judge_level
from llmtop.analysis.levels import Statistic
from llmtop.analysis.sessions import Gauges, Progress, Requests, session_levels
from llmtop.analysis.slo import Sample, good_requests, holds, judge_slo, judge_target
from llmtop.analysis.steps import StepFunction
from llmtop.domain.slo import Slo, SloTarget, parse_slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Kind

NO_CLIFF = CliffVerdict(kind=Kind.NONE)


# -- one level --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("errors", "n", "broken"), [(2, 37, True), (2, 38, False), (1, 3, False), (0, 0, False)])
def test_a_level_is_broken_by_two_failures_past_five_percent(errors: int, n: int, broken: bool) -> None:
    assert Level(1.0, np.ones(n), errors=errors).broken is broken


@pytest.mark.parametrize(("stat", "n"), [("p50", 4), ("mean", 4), ("p95", 60)])
def test_a_statistic_wants_enough_requests(stat: str, n: int) -> None:
    assert Level(1.0, np.ones(n)).statistic("ttft", stat) is not None
    assert Level(1.0, np.ones(n - 1)).statistic("ttft", stat) is None


def test_the_error_of_a_median_is_honest_with_two_humps_and_with_none() -> None:
    """1.2533 / sqrt(n) of the largest of 1.4826 MAD, 0.6 sd and 2 %."""
    same = Level(1.0, np.ones(25)).statistic("ttft", "p50")
    assert same == Statistic(1.0, 1.2533 * 0.02 / 5, 25)
    spread = Level(1.0, np.exp(np.linspace(-1, 1, 101))).statistic("ttft", "p50")
    assert spread is not None
    assert spread.se == pytest.approx(1.2533 * 1.4826 * 0.5 / np.sqrt(101), rel=1e-6)
    humps = Level(1.0, np.exp(np.repeat([0.0, 1.0], [80, 20]))).statistic("ttft", "p50")
    assert humps is not None
    assert humps.se == pytest.approx(1.2533 * 0.6 * 0.4 / 10)
    mean = Level(1.0, np.exp(np.repeat([0.0, 1.0], [50, 50]))).statistic("ttft", "mean")
    assert mean == Statistic(pytest.approx((1 + np.e) / 2), pytest.approx(0.05), 100)


def test_the_error_of_a_p95_is_half_the_way_between_its_neighbours_in_rank() -> None:
    """n 100: the 93rd and the 98th, one binomial standard deviation (2.18) to either side of the 95th."""
    found = Level(1.0, np.exp(np.arange(100.0) / 100)).statistic("ttft", "p95")
    assert found is not None
    assert found.y == pytest.approx(np.exp(0.95 * 0.99))
    assert found.se == pytest.approx((0.97 - 0.91) / 2)


def test_ages_of_those_who_wait_say_nothing_of_tpot() -> None:
    waiting = Level(1.0, np.ones(9), np.full(9, 0.02), np.ones(9), censored_s=np.full(9, 30.0))
    tpot, ttft = waiting.statistic("tpot", "p50"), waiting.statistic("ttft", "p50")
    assert tpot is not None
    assert ttft is not None
    assert (tpot.y, tpot.n, ttft.n) == (pytest.approx(0.02), 9, 18)


def test_littles_residual_is_one_where_the_load_was_really_there() -> None:
    held = Level(8.0, np.ones(4), e2e_s=np.full(4, 2.0), requests_per_s=4.0)
    assert held.little_residual == 1.0
    assert dataclasses.replace(held, load=0.0).little_residual is None
    assert dataclasses.replace(held, load=0.5).little_residual == 16.0
    assert dataclasses.replace(held, requests_per_s=None).little_residual is None


# -- levels of a session ----------------------------------------------------------------------------------------------


def session(load: float, count: int = 40, **more: object) -> tuple[Level, ...]:
    requests = requests_of(np.arange(2.0, 2.0 + count / 4, 0.25))
    return session_levels(requests, StepFunction(np.array([0.0]), np.array([load])), **more)


def test_four_requests_are_a_level_and_three_are_none() -> None:
    assert len(session(8.0, 4)) == 1
    assert session(8.0, 3) == ()
    shown = Gauges(*(np.full(9, 1.0) for _ in range(5)))
    assert session(8.0, 3, gauges=shown, censored_s=np.ones(2), now_s=9.0) == (), "nor do gauges make one"


def test_requests_that_saw_the_load_move_are_in_no_level() -> None:
    """More than 1.4 times and one: 8 to 12 is steady, 8 to 13 is not. Four of 72 see the change."""
    requests = requests_of(np.arange(2.0, 20.0, 0.25))
    for after, seen in ((12.0, True), (13.0, False)):
        steps = StepFunction(np.array([0.0, 10.0]), np.array([8.0, after]))
        assert (sum(each.n for each in session_levels(requests, steps)) > 68) is seen
    swaying = StepFunction(np.array([0.0, 10.0]), np.array([8.0, 14.0]))
    assert sum(each.n for each in session_levels(requests, swaying, jitter=1.0)) > 68, "by a root of it"


def test_requests_before_the_first_known_load_are_in_no_level() -> None:
    requests = requests_of(np.arange(2.0, 12.0, 0.25))
    (found,) = session_levels(requests, StepFunction(np.array([5.0]), np.array([8.0])))
    assert found.n == np.sum(requests.sent_s - 0.9 >= 5.0)


def ramped(first: float, held: float, *, steps: int, asked: float | None = None) -> list[tuple[float, int]]:
    """(load, requests) of each level: ten seconds at `first`, then `steps` requests, four a second, at `held`."""
    requests = requests_of(np.append(np.arange(2.0, 10.0, 0.25), 12.0 + np.arange(steps) / 4), ttft_s=0.01)
    edges_s = np.array([0.0, 10.5])
    commands = None if asked is None else StepFunction(edges_s, np.array([999.0, asked]))
    found = session_levels(requests, StepFunction(edges_s, np.array([first, held])), asked=commands)
    return [(round(each.load, 3), each.n) for each in found]


def test_requests_on_the_way_to_a_load_that_was_held_say_less_than_it_does() -> None:
    """Within a bin, a third of a doubling: 8 and 10 are, 7.9 is not. Held is what was there for ten requests."""
    assert ramped(8.0, 10.0, steps=10, asked=10.0) == [(10.0, 10)]
    assert ramped(7.9, 10.0, steps=10, asked=10.0) == [(8.0, 32), (10.0, 10)]
    assert ramped(8.0, 10.0, steps=9, asked=10.0) == [(8.0, 32), (10.0, 9)], "not held"
    assert ramped(8.0, 10.0, steps=10, asked=10.3) == [(10.0, 10)], "there within 4 %"
    assert ramped(8.0, 10.0, steps=10, asked=10.5) == [(8.0, 32), (10.0, 10)], "not there"
    assert ramped(8.0, 10.0, steps=10) == [(8.0, 32), (10.0, 10)], "nobody asked"
    assert ramped(13.0, 10.0, steps=10, asked=10.0) == [(10.0, 10), (13.0, 32)]


@pytest.mark.parametrize(("there", "told"), [(31.0, 32.0), (33.0, 32.0), (30.4, 30.0), (33.6, 34.0)])
def test_a_level_bears_the_number_that_was_asked_for_if_it_was_there_or_the_nearest_whole_one(
    there: float, told: float
) -> None:
    (found,) = session(there, asked=StepFunction(np.array([0.0]), np.array([32.0])))
    assert (found.load, found.asked) == (told, 32.0)


def test_neighbouring_bins_of_one_load_are_one_level() -> None:
    """Bins meet at 7.13: 7.0 and 7.3 are one load, 7.0 and 7.9 are two."""
    requests = requests_of(np.arange(2.0, 40.0, 0.25))
    for other, count in ((7.3, 1), (7.9, 2)):
        found = session_levels(requests, StepFunction(np.array([0.0, 20.0]), np.array([7.0, other])))
        assert len(found) == count


def test_rates_of_a_session_follow_littles_law_until_they_are_measured() -> None:
    (found,) = session(8.0)
    assert found.requests_per_s == pytest.approx(8.0)
    assert found.output_tokens_per_s == pytest.approx(800.0)
    bins = np.arange(3.0, 11.0, 0.25)
    done = Progress(bins, np.full(32, 0.25), np.full(32, 1.0), np.full(32, 90.0))
    (measured,) = session(8.0, progress=done)
    assert (measured.requests_per_s, measured.output_tokens_per_s) == (4.0, 360.0)
    short = done.pick(np.arange(32) < 11)
    assert session(8.0, progress=short)[0].requests_per_s == pytest.approx(8.0), "less than three E2E"
    few = Progress(bins, done.span_s, np.where(bins < 3.75, 1.0, 0.0), done.output_tokens)
    assert session(8.0, progress=few)[0].requests_per_s == pytest.approx(8.0), "three requests"


def test_gauges_of_a_level_are_median_mean_and_ninth_decile() -> None:
    t_s = np.arange(3.0, 13.0)
    values = np.array([0.0, 0, 0, 0, 0, 0, 0, 0, 0, 10.0])
    gauges = Gauges(t_s, values + 5, values, values / 10, np.append(np.zeros(9), 3.0))
    (found,) = session(8.0, gauges=gauges)
    assert (found.running, found.waiting, found.preemptions) == (5.0, 1.0, 3.0)
    assert found.kv_usage == pytest.approx(0.1)
    unknown = Gauges(t_s, *(np.full(10, np.nan) for _ in range(4)))
    (bare,) = session(8.0, gauges=unknown)
    assert (bare.running, bare.waiting, bare.kv_usage, bare.preemptions) == (None, None, None, None)


def test_gauges_of_another_load_belong_to_no_level() -> None:
    """Half a bin is a sixth of a doubling: 8.9 is near 8, 9.1 is not."""
    requests = requests_of(np.arange(2.0, 12.0, 0.25))
    for other, seen in ((8.9, 1.0), (9.1, None)):
        steps = StepFunction(np.array([0.0, 20.0]), np.array([8.0, other]))
        gauges = Gauges(*(np.array([each]) for each in (30.0, 1.0, 1.0, 1.0, 0.0)))
        assert session_levels(requests, steps, gauges=gauges)[0].waiting == seen


def test_gauges_belong_to_a_level_one_service_time_after_it_came() -> None:
    requests = requests_of(np.arange(2.0, 38.0, 0.25))
    steps = StepFunction(np.array([0.0, 20.0]), np.array([8.0, 16.0]))
    for t_s, seen in ((20.5, [None, None]), (19.9, [7.0, None]), (20.95, [None, 7.0])):
        gauges = Gauges(*(np.array([each]) for each in (t_s, 1.0, 7.0, 1.0, 0.0)))
        levels = session_levels(requests, steps, gauges=gauges)
        assert [level.waiting for level in levels if level.load in (8.0, 16.0)] == seen


def test_those_who_wait_wait_in_the_nearest_level() -> None:
    requests = requests_of(np.arange(2.0, 38.0, 0.25))
    steps = StepFunction(np.array([0.0, 20.0]), np.array([8.0, 16.0]))
    levels = session_levels(requests, steps, censored_s=np.ones(3), now_s=40.0)
    assert [len(level.censored_s) for level in levels if level.load in (8.0, 16.0)] == [0, 3]


def test_ages_of_those_who_wait_go_to_the_level_they_wait_in() -> None:
    ages_s = np.array([0.5, 1.0])
    requests = requests_of(np.arange(2.0, 12.0, 0.25))
    for now_load, count in ((8.0, 2), (11.0, 2), (11.5, 0), (5.8, 2), (5.6, 0)):
        steps = StepFunction(np.array([0.0, 13.5]), np.array([8.0, now_load]))
        (found,) = session_levels(requests, steps, censored_s=ages_s, now_s=20.0)
        assert len(found.censored_s) == count, now_load


# -- an SLO on a sample -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stat", "n"), [("mean", 11), ("p50", 11), ("p90", 29), ("p95", 59), ("p99", 299)])
def test_a_limit_holds_from_so_many_requests_on(stat: str, n: int) -> None:
    target = SloTarget("ttft", 2.0, stat)
    assert holds(sample(n), target) is True
    assert holds(sample(n - 1), target) is None


def test_the_value_of_a_limit_is_its_own_statistic() -> None:
    values = np.append(np.full(90, 1.0), np.full(10, 11.0))
    shown = {
        stat: judge_target(Sample(values, values, values), SloTarget("ttft", 99.0, stat)) for stat in ("mean", "p50")
    }
    assert {stat: each.value for stat, each in shown.items()} == {"mean": 2.0, "p50": 1.0}
    tail = judge_target(Sample(values, values, values), SloTarget("ttft", 2.0, "p95"))
    assert (tail.value, tail.ok, tail.n) == (11.0, False, 100)
    plain = judge_target(Sample(values, values, values), SloTarget("ttft", 2.0))
    assert plain.text == tail.text, "a latency without a statistic is judged by its p95"


def test_a_limit_is_met_at_the_limit_itself() -> None:
    at = np.full(100, 2.0)
    limited = Slo((SloTarget("ttft", 2.0, "p95"),))
    assert judge_slo(Sample(at, at, at), limited).ok is True
    assert good_requests(Sample(at, at, at), limited).all()
    assert not good_requests(Sample(at + 1e-6, at, at), limited).any()


def test_gauges_hold_up_to_their_limit() -> None:
    for metric, field in (("queue", "waiting"), ("kv", "kv_usage")):
        target = SloTarget(metric, 0.5)
        assert judge_target(sample(9, **{field: 0.5}), target).ok is True
        assert judge_target(sample(9, **{field: 0.51}), target).ok is False


def test_answers_of_one_token_have_no_tpot_to_break() -> None:
    nan = np.full(59, np.nan)
    target = SloTarget("tpot", 0.05, "p95")
    assert holds(Sample(np.ones(59), nan, np.ones(59)), target) is True
    assert holds(Sample(np.ones(58), nan[:58], np.ones(58)), target) is None


def test_a_column_of_another_length_is_not_in_the_joint_rule() -> None:
    mixed = Sample(np.full(10, 0.5), np.full(8, 9.0), np.full(10, 2.5))
    assert good_requests(mixed, Slo()).all()


def test_an_unknown_latency_leaves_the_verdict_open_and_a_broken_one_does_not() -> None:
    slo = parse_slo("ttft_p95<2s,e2e_p99<9s")
    assert judge_slo(sample(100), slo).ok is None
    assert judge_slo(sample(100, slow=50), slo).ok is False
    assert judge_slo(sample(300), slo).ok is True
    assert judge_slo(sample(0), parse_slo("queue<9")).ok is None


# -- capacity ---------------------------------------------------------------------------------------------------------


def cap(
    levels: list[Level], cliff: CliffVerdict = NO_CLIFF, limits: Limits | None = None, slo: str = "ttft_p95<2s"
) -> Capacity:
    return capacity_of(levels, parse_slo(slo), cliff, Limits() if limits is None else limits, POINT)


HELD = [level(8, 0.2), level(16, 0.2), level(32, 1.0)]


def knee(at: float, cause: Bound = Bound.QUEUE) -> CliffVerdict:
    return CliffVerdict(kind=Kind.CLIFF, at=at, low=at - 1, high=at + 1, cause=cause)


@pytest.mark.parametrize(
    ("cliff", "limits", "limited_by"),
    [
        (knee(20), Limits(), "the cliff (batch slots)"),
        (knee(20, Bound.NONE), Limits(), "the cliff"),
        (knee(20), Limits(max_num_seqs=22.9), "max_num_seqs"),
        (knee(20), Limits(max_num_seqs=23.1), "the cliff (batch slots)"),
        (knee(20, Bound.COMPUTE), Limits(max_num_seqs=19), "the cliff (compute)"),
        (knee(20, Bound.KV), Limits(kv_capacity_tokens=2000, prompt_tokens=90, output_tokens=20), "the KV cache"),
        (knee(20), Limits(kv_capacity_tokens=1000, prompt_tokens=90, output_tokens=20), "the cliff (batch slots)"),
        (NO_CLIFF, Limits(max_num_seqs=64, kv_capacity_tokens=1000, prompt_tokens=90, output_tokens=20), None),
        (NO_CLIFF, Limits(), None),
    ],
)
def test_the_first_wall_is_named(cliff: CliffVerdict, limits: Limits, limited_by: str | None) -> None:
    assert cap(HELD, cliff, limits).limited_by == limited_by


def test_an_slo_that_failed_is_a_wall_at_the_last_level_that_held() -> None:
    failing = [*HELD, level(48, 3.0)]
    assert cap(failing).limited_by == "TTFT p95 SLO"
    assert cap(failing, limits=Limits(max_num_seqs=31)).limited_by == "TTFT p95 SLO", "told, and not seen"
    assert cap(failing, limits=Limits(max_num_seqs=33)).limited_by == "TTFT p95 SLO"
    assert cap([level(8, 3.0)], limits=Limits(max_num_seqs=9)).limited_by == "TTFT p95 SLO"


def test_limits_in_requests_say_nothing_of_an_open_loop() -> None:
    cliff = CliffVerdict(kind=Kind.CLIFF, axis="rate", at=10.123, low=9, high=11, cause=Bound.QUEUE)
    found = cap([level(8, 0.2), level(10.5, 0.2), level(12, 0.2)], cliff, Limits(max_num_seqs=1))
    assert (found.at_slo, found.fails_at) == (8, 10.5), "past 95 % of the knee"
    assert "requests/s (open loop, 512/128 tokens)" in found.sentence
    assert "concurrent users (512/128 tokens)" in cap(HELD).sentence
    assert (found.recommended, found.soak) == (8.0, 6.4)
    assert found.limited_by == "the cliff (batch slots)"


def test_errors_break_a_level_and_too_few_requests_leave_it_open() -> None:
    slo = parse_slo("ttft_p95<2s,error_ratio<1%")
    assert judge_level(level(8, 0.2, errors=10), slo).failed == ("errors",)
    assert judge_level(level(8, 0.2, errors=2), slo).ok is True, "2 of 102 prove nothing"
    assert judge_level(level(8, 0.2), parse_slo("queue<5")).ok is None


def test_saturation_is_told_where_a_doubling_gains_less_than_5_percent() -> None:
    def rated(*rates: float) -> str:
        levels = [dataclasses.replace(level(8.0 * 2**i, 0.2), output_tokens_per_s=rate) for i, rate in enumerate(rates)]
        return cap(levels).sentence

    assert "past 16 a doubling" in rated(100, 200, 209)
    assert "doubling" not in rated(100, 200, 211)
    assert "most output tokens/s" not in rated(100)


def test_requests_keep_their_order_when_they_are_picked() -> None:
    picked: Requests = requests_of(np.arange(4.0)).pick(np.array([True, False, True, False]))
    assert picked.sent_s.tolist() == [0.0, 2.0]
    assert picked.service_s == pytest.approx(0.9)
    assert requests_of([]).service_s == 0.0
