"""SLO verdicts and capacity."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llmtop.analysis import Level, Limits, judge
from llmtop.analysis.capacity import capacity_of, judge_level
from llmtop.analysis.slo import Sample, attainment, judge_slo, judge_target
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo, SloTarget, parse_slo
from llmtop.domain.verdicts import CliffVerdict, Kind

POINT = LoadPoint(concurrency=1, prompt_tokens=512, output_tokens=128)


def sample(n: int, *, ttft_s: float = 0.5, slow: int = 0, errors: int = 0, **more: object) -> Sample:
    values = np.full(n, ttft_s)
    values[:slow] = 10.0
    return Sample(values, np.full(n, 0.02), values + 2.0, errors=errors, **more)


def test_all_limits_hold():
    verdict = judge_slo(sample(200, waiting=0.0, kv_usage=0.5, span_s=10.0), Slo())
    assert verdict.ok is True
    assert verdict.attainment == 1.0
    assert verdict.goodput_rps == pytest.approx(20.0)


def test_failures_are_misses_and_slow_ones_too():
    assert attainment(sample(90, slow=10, errors=10), Slo()) == pytest.approx(0.8)
    assert attainment(sample(0), Slo()) is None


def test_too_few_requests_say_nothing_good_but_may_say_something_bad():
    target = SloTarget("ttft", 2.0, "p95")
    few = judge_target(sample(20), target)
    assert few.ok is None
    assert few.value is None
    assert "unbounded" in few.text
    assert judge_target(sample(20, slow=10), target).ok is False
    assert judge_slo(sample(20), Slo()).ok is None


def test_errors_are_told_with_what_they_can_prove():
    clean = judge_target(sample(480), SloTarget("error_ratio", 0.01))
    assert clean.ok is True
    assert "0 of 480: at most 0.62 % at 95 %" in clean.text
    assert judge_target(sample(99, errors=1), SloTarget("error_ratio", 0.01)).ok is True
    assert judge_target(sample(30, errors=1), SloTarget("error_ratio", 0.01)).ok is None
    assert judge_target(sample(96, errors=4), SloTarget("error_ratio", 0.01)).ok is False


def test_requests_waiting_past_the_limit_are_misses_already():
    target = SloTarget("ttft", 2.0, "p95")
    waiting = sample(100, censored_s=np.linspace(0.1, 30, 50))
    assert judge_target(waiting, target).ok is False


def test_gauges_that_the_server_does_not_show_judge_nothing():
    verdict = judge_slo(sample(200), Slo())
    assert verdict.ok is True
    assert {each.name: each.ok for each in verdict.targets}["queue"] is None
    full = judge_slo(sample(200, waiting=20.0, kv_usage=0.95), Slo())
    assert full.ok is False


def level(load: float, ttft_s: float, **more: object) -> Level:
    served = min(load, 32.0)
    values = np.full(100, ttft_s)
    return Level(
        load,
        values,
        np.full(100, 0.02),
        values + 2.5,
        requests_per_s=served / 3,
        output_tokens_per_s=served * 40,
        **more,
    )


def test_a_level_is_held_against_what_users_feel():
    slo = parse_slo("ttft_p95<2s,tpot_p95<50ms,queue<10,kv<80%")
    assert judge_level(level(40, 1.0, waiting=30.0, kv_usage=0.99), slo).ok is True
    assert judge_level(level(64, 3.0), slo).failed == ("TTFT p95",)
    assert judge_level(Level(4, np.ones(10), np.ones(10) / 100, np.ones(10) * 2), slo).ok is None


def test_capacity_names_the_wall_and_recommends_the_smaller_of_knee_and_slo():
    levels = [level(8, 0.2), level(16, 0.2), level(32, 0.2), level(48, 1.6), level(64, 3.1)]
    cliff = CliffVerdict(kind=Kind.CLIFF, at=32.5, low=31, high=34, cause="queue")
    found = capacity_of(levels, Slo(), cliff, Limits(max_num_seqs=32, kv_capacity_tokens=80000), POINT)
    assert found.at_slo == 48
    assert found.fails_at == 64
    assert found.limited_by == "max_num_seqs"
    assert found.recommended == 32
    assert found.soak == 25
    assert found.best_tokens_at == 32
    assert "most output tokens/s 1 280 at 32" in found.sentence
    for part in (
        "supports 48 (45 to 64) concurrent users",
        "TTFT p95 < 2 s, TPOT p95 < 50 ms and errors < 1 %, then TTFT binds: pass 48, fail 64",
        "concurrent users (512/128 tokens) at",
        "knee 32 (batch slots); run it at 32",
        "pass 48, fail 64",
        "run it at 32 (max_num_seqs), soak it at 25 (80 % of that)",
    ):
        assert part in found.sentence
    assert "past 32 a doubling gains < 5 %" in found.sentence


def test_users_are_whole_and_the_interval_is_no_narrower_than_runs_differ() -> None:
    levels = [level(15.999999999999996, 0.2), level(31.2, 1.9), level(33.4, 2.1)]
    found = capacity_of(levels, Slo(), CliffVerdict(kind=Kind.NONE), Limits(), POINT)
    assert (found.at_slo, found.fails_at, found.low, found.high) == (31.0, 34.0, 29.0, 34.0)
    alone = capacity_of(levels[:1], Slo(), CliffVerdict(kind=Kind.NONE), Limits(), POINT)
    assert (alone.at_slo, alone.high) == (16.0, None)


def test_an_interval_reaches_as_far_as_the_samples_leave_it_open() -> None:
    """Of 60 requests the slowest is the upper bound of p95: at 3 s, the capacity may lie below 32."""
    few = dataclasses.replace(level(32, 1.0), ttft_s=np.append(np.full(59, 1.0), 3.0))
    levels = [level(16, 0.2), few, level(64, 4.0)]
    found = capacity_of(levels, Slo(), CliffVerdict(kind=Kind.NONE), Limits(), POINT)
    assert (found.at_slo, found.low) == (32.0, 24.0), "from 40 % of the TPOT limit at 16 to 150 % of TTFT at 32"
    assert found.high == 64.0, "latency may bend anywhere below the level that surely failed"


def test_an_interval_ends_where_requests_surely_failed() -> None:
    refusing = dataclasses.replace(level(40, 1.2), errors=20)
    levels = [level(16, 0.2), level(32, 1.0), refusing, level(64, 4.0)]
    found = capacity_of(levels, Slo(), CliffVerdict(kind=Kind.NONE), Limits(), POINT)
    assert (found.at_slo, found.fails_at, found.high) == (32.0, 40.0, 40.0), "whatever their latency"
    thin = dataclasses.replace(level(40, 3.0), ttft_s=np.append(np.full(60, 0.5), [3.0] * 5))
    found = capacity_of([*levels[:2], thin, levels[3]], Slo(), CliffVerdict(kind=Kind.NONE), Limits(), POINT)
    assert (found.at_slo, found.fails_at, found.high) == (32.0, 40.0, 64.0), "5 of 65 may be chance"


def test_an_outlier_at_a_low_load_does_not_open_the_interval_downwards() -> None:
    odd = dataclasses.replace(level(8, 0.2), ttft_s=np.append(np.full(59, 0.2), 3.0))
    levels = [odd, level(16, 0.2), level(32, 1.0), level(64, 4.0)]
    found = capacity_of(levels, Slo(), CliffVerdict(kind=Kind.NONE), Limits(), POINT)
    assert (found.at_slo, found.low) == (32.0, 30.0)


def test_a_limit_on_the_queue_that_breaks_at_the_capacity_is_said() -> None:
    levels = [level(16, 0.2), dataclasses.replace(level(32, 1.5), waiting=11.0, kv_usage=0.5), level(64, 4.0)]
    found = capacity_of(levels, Slo(), CliffVerdict(kind=Kind.NONE), Limits(), POINT)
    assert "at 32 queue 11 > 10" in found.sentence
    assert "KV" not in found.sentence


def test_capacity_before_any_failure_is_a_lower_bound():
    found = capacity_of([level(8, 0.2), level(16, 0.2)], Slo(), CliffVerdict(kind=Kind.NONE), Limits(), POINT)
    assert found.at_slo == 16
    assert found.fails_at is None
    assert "at least 16" in found.sentence


def test_capacity_when_even_the_lowest_level_fails():
    found = capacity_of([level(4, 5.0)], Slo(), CliffVerdict(kind=Kind.NONE), Limits(), POINT)
    assert found.at_slo is None
    assert found.recommended is None
    assert "even at 4" in found.sentence


def test_a_pass_above_a_failure_is_told():
    levels = [level(8, 0.2), level(16, 3.0), level(32, 0.2)]
    found = capacity_of(levels, Slo(), judge(levels, replicates=0), Limits(), POINT)
    assert found.at_slo == 8
    assert "contradict" in found.sentence
