"""Where a bend lies, how sure that is, and what is noted beside it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from facts_by_hand import facts_of
from test_analysis_guards_assess import two_loads
from test_analysis_guards_cliff import NINE, place, series
from virtual import meta_of

from llmtop.analysis import Level
from llmtop.analysis.cliff import Sweep, _interval, find, prepare, resampled
from llmtop.analysis.measured import measured_curves
from llmtop.analysis.readings import finished_requests
from llmtop.domain.load import LoadPoint
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.verdicts import Kind

LOADS = [4.0, 8.0, 16.0, 24.0, 48.0, 64.0]


def test_a_power_bends_where_its_elasticity_passes_one() -> None:
    """0.1 + 30 u^2: the square is as much as the base at u = sqrt(0.1 / 30)."""
    x = [1.0, 2, 4, 8, 16, 24, 32, 40, 48]
    found = find(series(x, [0.1 + 30 * (n / 48) ** 2 for n in x]), replicates=0)
    assert (found.kind, found.form) == (Kind.GRADUAL, "power")
    assert found.at == pytest.approx(48 * np.sqrt(0.1 / 30), rel=0.01)
    assert (found.low, found.high) == pytest.approx((0.95 * found.at, 1.05 * found.at))


def test_an_interval_holds_95_percent_of_the_draws_and_five_percent_at_least() -> None:
    assert _interval(50.0, np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert _interval(50.0, np.full(9, 50.0)) == pytest.approx((47.5, 52.5))
    assert _interval(50.0, np.empty(0)) == pytest.approx((47.5, 52.5))


def test_throughput_that_stands_still_from_the_start_is_a_plateau_of_its_first_level() -> None:
    found = find(series(NINE, [1.0] * 9, output_tokens_per_s=[6.0] * 9), replicates=0)
    assert (found.kind, found.at, found.low, found.high) == (Kind.GRADUAL, 1.0, 1.0, 2.0)
    assert found.notes == ("throughput stands still past 1: more load only adds latency",)
    tokens = series(NINE, [1.0] * 9, output_tokens_per_s=[6.0] * 9, metric="tpot")
    assert find(tokens, replicates=0).kind is Kind.NONE, "TPOT is not judged by it"


# -- Little's law -----------------------------------------------------------------------------------------------------


def queued(served: list[float], base: list[float]) -> Sweep:
    """Levels of which so many are in service for 3 s; those below the bend have these first tokens."""
    ttft = [
        known if n <= 24 else 0.1 + (n / there - 1) * 3.1 for n, there, known in zip(LOADS, served, base, strict=True)
    ]
    return series(LOADS, ttft, e2e_mean_s=[each + 3 for each in ttft])


CALM = [0.1] * 6


def test_the_base_is_the_median_of_the_last_three_levels_below() -> None:
    known = place(queued([32.0] * 6, CALM), 25.0)
    assert known == pytest.approx(32.0, rel=0.01)
    assert place(queued([32.0] * 6, [9.0, 0.1, 0.1, 0.1, 0.1, 0.1]), 25.0) == known, "the fourth is not asked"
    assert place(queued([32.0] * 6, [0.1, 0.1, 0.9, 0.1, 0.1, 0.1]), 25.0) == known, "one is spoiled"


def test_levels_near_the_knee_tell_the_place_more_than_those_far_beyond() -> None:
    """At 48 a third waits, at 64 55 %: weights of 1 / (q^2 + 0.02)."""
    apart = place(queued([4, 8, 16, 24, 32.0, 28.8], CALM), 25.0)
    share = [1 - 32 / 48, 1 - 28.8 / 64]
    weights = [1 / (each**2 + 0.02) for each in share]
    assert apart == pytest.approx(np.average([32.0, 28.8], weights=weights), rel=0.005)


# -- draws ------------------------------------------------------------------------------------------------------------


def drawn(level: Level, metric: str = "ttft", stat: str = "p50") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    levels = [dataclasses.replace(level, load=float(i + 1)) for i in range(2)]
    curve = prepare(levels, axis="concurrency", metric=metric, stat=stat)
    return resampled(curve, 8, np.random.default_rng(0))


@pytest.mark.parametrize(("metric", "share"), [("ttft", 1.0), ("tpot", 0.25), ("e2e", 4.0)])
def test_a_draw_is_of_the_judged_latency_and_scaled_with_its_level(metric: str, share: float) -> None:
    """Requests that are all alike: what differs between draws is the level's scale, which E2E means do not bear."""
    alike = Level(1.0, np.ones(20), np.full(20, 0.25), np.full(20, 4.0))
    y, ttft, e2e = drawn(alike, metric)
    assert y == pytest.approx(share * ttft)
    assert e2e == pytest.approx(np.full((2, 8), 4.0))
    assert np.ptp(y, axis=1).min() > 0


@pytest.mark.parametrize("n", [512, 513])
def test_many_requests_are_drawn_by_the_normal_approximation(n: int) -> None:
    alike = Level(1.0, np.ones(n), np.ones(n), np.ones(n))
    y, ttft, _ = drawn(alike)
    assert np.allclose(y, ttft) is (n <= 512)


def test_levels_with_waiting_requests_or_of_a_tail_are_drawn_by_the_normal_approximation() -> None:
    alike = Level(1.0, np.ones(90), np.ones(90), np.ones(90))
    for level, stat in ((dataclasses.replace(alike, censored_s=np.ones(1)), "p50"), (alike, "p95")):
        y, ttft, _ = drawn(level, stat=stat)
        assert not np.allclose(y, ttft)
    odd = dataclasses.replace(alike, ttft_s=np.append(np.ones(89), np.nan))
    assert not np.allclose(*drawn(odd)[:2])


def test_a_request_whose_end_is_not_known_is_drawn_for_what_is_known_of_it() -> None:
    """TPOT and E2E of 40 of 90 requests: theirs are drawn again, and E2E is TTFT and what follows it."""
    ends = np.append(np.full(50, np.nan), np.full(40, 3.0))
    cut = Level(1.0, np.ones(90), ends - 2.5, ends)
    y, ttft, e2e = drawn(cut, "tpot")
    assert y == pytest.approx(0.5 * ttft)
    assert e2e == pytest.approx(np.full((2, 8), 3.0))


# -- what is noted ----------------------------------------------------------------------------------------------------


def test_a_load_that_was_asked_for_and_never_came_is_noted() -> None:
    def noted(there: float, asked: float) -> tuple[str, ...]:
        levels = [Level(n, np.ones(9), np.ones(9), np.ones(9)) for n in NINE[:3]]
        levels.append(Level(there, np.ones(9), np.ones(9), np.ones(9), asked=asked))
        return prepare(levels, axis="concurrency", metric="ttft", stat="p50").notes

    assert noted(59.0, 100.0) == ("delivered 59 of 100 in flight",)
    assert noted(60.0, 100.0) == ()


def test_requests_a_second_are_the_rate_where_every_level_has_them() -> None:
    both = {"requests_per_s": NINE, "output_tokens_per_s": [64 * n for n in NINE]}
    assert series(NINE, NINE, axis="rate", **both).rate.tolist() == NINE
    gap = series(NINE, NINE, axis="rate", **both | {"requests_per_s": [None, *NINE[1:]]})
    assert gap.rate.tolist() == both["output_tokens_per_s"]
    assert not gap.has_requests_per_s


@pytest.mark.parametrize(
    "snapshots",
    [{"requests_total": (500.0, 3.0)}, {"generation_tokens_total": (9.0, 8.0)}, {"process_start_s": (1.0, 2.1)}],
    ids=["requests", "tokens", "start"],
)
def test_a_restart_is_told_in_the_label(snapshots: dict[str, tuple[float, float]]) -> None:
    facts = two_loads(LoadPoint(concurrency=4))
    told = [
        ServerSnapshot(t_s=float(t), **{name: values[t >= 90] for name, values in snapshots.items()})
        for t in range(120)
    ]
    facts.server = facts_of(server=told).server
    labels = [curve.label for curve in measured_curves(facts, meta_of(), finished_requests(facts), 120.0)]
    assert labels == ["192/64 tok · start 1", "192/64 tok · start 2"]
