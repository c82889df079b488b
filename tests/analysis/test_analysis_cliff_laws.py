"""Laws of the detector: what it must not see, and what must not change its mind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llmtop.analysis import Level, Limits, judge
from llmtop.analysis.capacity import capacity_of
from llmtop.analysis.cliff import prepare
from llmtop.analysis.judge import suggest
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Confidence, Kind


def line(rng: np.random.Generator) -> tuple[Level, ...]:
    """y = a + bN with log-normal noise of 0.3 and 20 requests a level; a and b over five decades."""
    a, b = 10.0 ** rng.uniform(-3, 1), 10.0 ** rng.uniform(-5, 0)
    loads = np.unique(np.round(np.geomspace(1, rng.uniform(60, 400), rng.integers(6, 14))))
    levels = []
    for load in loads:
        ttft_s = (a + b * load) * rng.lognormal(0, 0.3, 20)
        e2e_s = ttft_s + 2.0 * rng.lognormal(0, 0.1, 20)
        levels.append(Level(load, ttft_s, e2e_s / 100, e2e_s, requests_per_s=load / e2e_s.mean()))
    return tuple(levels)


def capped(cap: float, loads: list[float], *, n: int = 40, seed: int = 0, base_s: float = 0.1) -> tuple[Level, ...]:
    """A server that serves `cap` requests at once, each for about 3 s: TTFT = base + (N - cap) / X past the cap."""
    rng = np.random.default_rng(seed)
    levels = []
    for load in loads:
        served = min(load, cap)
        rate = served / (base_s + 3.0)
        ttft_s = (base_s + max(0.0, load - cap) / rate) * rng.lognormal(0, 0.15, n)
        e2e_s = ttft_s + 3.0 * rng.lognormal(0, 0.1, n)
        waiting = max(0.0, load - cap)
        levels.append(
            Level(load, ttft_s, e2e_s / 100, e2e_s, requests_per_s=rate, running=served, waiting=waiting, kv_usage=0.3)
        )
    return tuple(levels)


LOADS = [2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0]


def test_a_straight_line_is_never_a_cliff():
    rng = np.random.default_rng(5)
    kinds = [judge(line(rng), replicates=0).kind for _ in range(60)]
    assert kinds.count(Kind.CLIFF) == 0


@pytest.mark.parametrize("factor", [1e-3, 0.1, 7.0, 1e4])
def test_scaling_time_scales_nothing_but_time(factor):
    levels = capped(30, LOADS)
    scaled = tuple(
        dataclasses.replace(
            level,
            ttft_s=level.ttft_s * factor,
            tpot_s=level.tpot_s * factor,
            e2e_s=level.e2e_s * factor,
            requests_per_s=level.requests_per_s / factor,
        )
        for level in levels
    )
    before, after = judge(levels, replicates=20), judge(scaled, replicates=20)
    assert after.kind is before.kind is Kind.CLIFF
    assert after.at == pytest.approx(before.at, rel=1e-6)
    assert after.low == pytest.approx(before.low, rel=1e-6)


@pytest.mark.parametrize("factor", [0.25, 3.0, 50.0])
def test_scaling_load_moves_the_knee_with_it(factor):
    levels = capped(30, LOADS)
    scaled = tuple(
        dataclasses.replace(level, load=level.load * factor, requests_per_s=level.requests_per_s * factor)
        for level in levels
    )
    before, after = judge(levels, replicates=20), judge(scaled, replicates=20)
    assert after.kind is before.kind
    assert after.at == pytest.approx(factor * before.at, rel=1e-6)


def test_the_order_of_levels_and_requests_does_not_matter():
    rng = np.random.default_rng(1)
    levels = capped(30, LOADS)
    shuffled = []
    for level in rng.permutation(np.array(levels, dtype=object)):
        order = rng.permutation(level.n)
        shuffled.append(
            dataclasses.replace(level, ttft_s=level.ttft_s[order], tpot_s=level.tpot_s[order], e2e_s=level.e2e_s[order])
        )
    before, after = judge(levels, replicates=0), judge(shuffled, replicates=0)
    assert after.kind is before.kind
    assert after.at == pytest.approx(before.at, rel=1e-9)


@pytest.mark.parametrize("cap", [10.0, 21.0, 35.0, 60.0])
def test_a_cap_is_found_and_named(cap):
    verdict = judge(capped(cap, LOADS, seed=int(cap)), limits=Limits(max_num_seqs=cap))
    assert verdict.kind is Kind.CLIFF
    assert verdict.at == pytest.approx(cap, rel=0.1)
    assert verdict.low <= cap <= verdict.high
    assert verdict.cause == "queue"
    assert verdict.confidence is Confidence.FIRM
    assert any("confirmed three ways" in text for text in verdict.evidence)


def test_two_to_four_levels_give_a_provisional_place():
    verdict = judge(capped(32, [8.0, 24.0, 48.0]))
    assert verdict.kind is Kind.CLIFF
    assert verdict.confidence is Confidence.PROVISIONAL
    assert verdict.at == pytest.approx(32, rel=0.1)
    assert verdict.low <= 32 <= verdict.high
    assert verdict.next_levels


def test_slow_prompts_without_a_queue_are_no_cliff():
    """TTFT that grows because prompts arrive together, while nothing waits and throughput grows with load."""
    levels = capped(1000, [4.0, 8.0, 12.0])
    slower = tuple(dataclasses.replace(level, ttft_s=level.ttft_s * (1 + i)) for i, level in enumerate(levels))
    assert judge(slower).kind is Kind.INSUFFICIENT


def test_a_load_generator_that_delivers_less_is_said_so():
    levels = list(capped(1000, [4.0, 8.0, 16.0, 32.0, 64.0, 100.0]))
    stuck = dataclasses.replace(levels[-1], load=200.0)
    verdict = judge([*levels, stuck])
    assert verdict.kind is Kind.NONE
    assert any("delivered only" in text and "of 200" in text for text in verdict.evidence)


def test_failing_requests_are_a_cliff_of_their_own():
    levels = list(capped(1000, [4.0, 8.0, 16.0, 32.0, 64.0]))
    broken = dataclasses.replace(levels[-1], load=128.0, errors=20)
    verdict = judge([*levels, broken])
    assert verdict.kind is Kind.CLIFF
    assert 64 < verdict.at < 128
    assert any("failed at 128" in text for text in verdict.evidence)


def test_requests_still_waiting_count_as_lower_bounds():
    level = capped(30, [64.0])[0]
    young = dataclasses.replace(level, censored_s=np.full(40, 0.01))
    old = dataclasses.replace(level, censored_s=np.full(40, 30.0))
    assert young.statistic("ttft", "p50").y == pytest.approx(level.statistic("ttft", "p50").y)
    assert old.statistic("ttft", "p50").y > 1.1 * level.statistic("ttft", "p50").y


def test_suggestions_double_until_a_queue_and_then_close_in():
    def ask(levels: tuple[Level, ...], top: int = 1024) -> tuple[int, ...]:
        series = prepare(levels, axis="concurrency", metric="ttft", stat="p50")
        return suggest(series, Limits(max_concurrency=top))

    assert ask(()) == (4, 8)
    assert ask(capped(32, [4.0])) == (8, 16)
    assert ask(capped(32, [4.0, 8.0, 16.0])) == (32,)
    assert ask(capped(32, [4.0, 8.0, 16.0]), top=20) == (20,)
    assert ask(capped(32, [4.0, 8.0, 20.0]), top=20) == ()
    wanted = ask(capped(32, [8.0, 16.0, 64.0]))
    assert any(24 <= level <= 30 for level in wanted)
    assert any(33 <= level <= 40 for level in wanted)


def test_p95_is_judged_only_with_enough_requests():
    few, many = capped(30, LOADS, n=40), capped(30, LOADS, n=80)
    assert judge(few, stat="p95").kind is Kind.INSUFFICIENT
    assert judge(many, stat="p95").kind is Kind.CLIFF


def test_an_open_loop_shows_its_capacity():
    """Past 10 requests/s throughput stays there and TTFT grows with every second."""
    rng = np.random.default_rng(2)
    levels = []
    for rate in (1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 12.0, 15.0, 20.0):
        over = max(0.0, 1 - 10.0 / rate)
        ttft_s = (0.1 + 30 * over) * rng.lognormal(0, 0.2, 80)
        levels.append(Level(rate, ttft_s, ttft_s / 100, ttft_s + 2, requests_per_s=min(rate, 10.0)))
    verdict = judge(levels, axis="rate")
    assert verdict.kind is Kind.CLIFF
    assert verdict.at == pytest.approx(10.0, rel=0.1)
    capacity = capacity_of(levels, parse_slo("ttft_p95<60s"), verdict, Limits(), None)
    assert capacity.at_slo == 9.0, "past its capacity an open loop holds for as long as the run is short"
    assert capacity.limited_by is not None
    assert "cliff" in capacity.limited_by
