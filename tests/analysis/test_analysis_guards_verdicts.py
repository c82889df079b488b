"""Guards of the verdicts: what keeps a false bend, a false cause or too high a recommendation from the screen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_analysis_cliff_laws import LOADS, capped
from test_analysis_diagnosis import busy
from test_analysis_slo import level

from llmtop.analysis import Level, Limits, judge
from llmtop.analysis.capacity import capacity_of
from llmtop.analysis.cliff import prepare
from llmtop.analysis.diagnosis import diagnose
from llmtop.analysis.levels import Statistic
from llmtop.analysis.slo import Sample, judge_target
from llmtop.analysis.stats import Sprt, effective_size
from llmtop.domain.slo import Slo, SloTarget
from llmtop.domain.verdicts import Bound, CliffVerdict, Kind


def given(first_s: float, se: float, count: int = 9) -> tuple[Level, ...]:
    """Levels of 1 s each, but for the first."""
    return tuple(Level(load, given=Statistic(1.0 if i else first_s, se, 20)) for i, load in enumerate(LOADS[:count]))


@pytest.mark.parametrize(
    ("first_s", "se", "count", "left_out"),
    [(1.3, 0.05, 9, True), (1.2, 0.05, 9, False), (1.3, 0.1, 9, False), (1.3, 0.05, 6, True), (1.3, 0.05, 5, False)],
    ids=["slower", "a fifth slower", "within the noise", "six levels", "five levels"],
)
def test_a_first_level_that_is_slower_than_the_second_is_a_cold_start(
    first_s: float, se: float, count: int, left_out: bool
) -> None:
    series = prepare(given(first_s, se, count), axis="concurrency", metric="ttft", stat="p50")
    assert series.x.tolist() == LOADS[left_out:count]
    assert any("cold start at 2" in note for note in series.notes) is left_out


def test_tpot_past_the_ttft_knee_bends_nothing() -> None:
    """Past the knee the batch is full: what TPOT does there is not what one more user does to it."""
    levels = tuple(
        dataclasses.replace(each, tpot_s=each.tpot_s * 0 + (0.03 if each.load <= 48 else 0.03 * each.load / 20))
        for each in capped(48, [2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0])
    )
    assert judge(levels, metric="ttft", replicates=0).kind is Kind.CLIFF
    assert judge(levels, metric="tpot", replicates=0).kind is Kind.NONE
    unqueued = tuple(dataclasses.replace(each, ttft_s=each.ttft_s * 0 + 0.1) for each in levels)
    assert judge(unqueued, metric="tpot", replicates=0).kind is Kind.GRADUAL


def test_a_stray_eviction_is_no_shortage_of_memory() -> None:
    calm = {"waiting": 0.0, "waiting_share": 0.0, "in_flight": 64.0}
    assert diagnose(busy(preemptions=1.0, requests=10_000.0, **calm), Limits(), (), "vllm").bound is Bound.NONE
    assert diagnose(busy(preemptions=1.0, requests=100.0, **calm), Limits(), (), "vllm").bound is Bound.KV
    assert diagnose(busy(preemptions=1.0, requests=None, **calm), Limits(), (), "vllm").bound is Bound.KV
    assert diagnose(busy(preemptions=0.0, requests=0.0, **calm), Limits(), (), "vllm").bound is Bound.NONE


@pytest.mark.parametrize(
    ("knee", "limits", "recommended"),
    [
        (20.4, Limits(), 20),
        (None, Limits(), 48),
        (60.0, Limits(), 48),
        (0.3, Limits(), 1),
        (32.5, Limits(max_num_seqs=31), 31),
    ],
    ids=["the knee", "the SLO", "a knee past the SLO", "one user at least", "the limit behind the knee"],
)
def test_no_load_past_the_knee_is_recommended(knee: float | None, limits: Limits, recommended: float) -> None:
    levels = [level(8, 0.2), level(16, 0.2), level(32, 0.2), level(48, 1.6), level(64, 3.1)]
    cliff = CliffVerdict(kind=Kind.NONE)
    if knee is not None:
        cliff = CliffVerdict(kind=Kind.CLIFF, at=knee, low=knee - 1, high=knee + 1, cause=Bound.QUEUE)
    assert capacity_of(levels, Slo(), cliff, limits, None).recommended == recommended


def test_an_unstable_place_is_no_knee() -> None:
    found = capacity_of(
        [level(8, 0.2), level(16, 0.2)], Slo(), CliffVerdict(kind=Kind.UNSTABLE, at=4.0), Limits(), None
    )
    assert found.knee is None
    assert found.recommended == 16


def test_clumped_latencies_bound_a_mean_less_tightly() -> None:
    target = SloTarget("ttft", 2.0, "mean")
    rng = np.random.default_rng(1)
    clumped = np.repeat(rng.uniform(0.1, 1.9, 20), 20)
    loose = judge_target(Sample(clumped, clumped, clumped), target)
    mixed = rng.permutation(clumped)
    tight = judge_target(Sample(mixed, mixed, mixed), target)
    assert loose.value == pytest.approx(tight.value)
    assert loose.high is not None
    assert tight.high is not None
    assert loose.value is not None
    assert loose.high - loose.value > 2 * (tight.high - loose.value)


def test_clumped_misses_take_longer_to_decide() -> None:
    """One outage of ten requests in 100 is one event; ten misses spread evenly are ten."""
    clumped, even = np.zeros(100), np.zeros(100)
    clumped[:10] = 1.0
    even[::10] = 1.0
    assert Sprt.of(clumped, 0.05).inflation == 4.0
    assert Sprt.of(even, 0.05).inflation == 1.0
    assert Sprt.of(clumped, 0.05).score < 0.5 * Sprt.of(even, 0.05).score
    assert Sprt.of(even[:39], 0.05).inflation == 3.0
    assert Sprt.of(np.zeros(39), 0.05).inflation == 1.0
    some = np.zeros(100)
    some[[3, 4, 50, 90]] = 1.0
    assert Sprt.of(some, 0.05).inflation == pytest.approx(min(4.0, max(1.0, 100 / effective_size(some))))
