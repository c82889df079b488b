"""Intervals and sequential tests against known values and known laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.analysis import stats
from llmtop.analysis.slo import MISS_SHARES


@given(st.integers(1, 60), st.floats(0.01, 0.99))
@settings(max_examples=60)
def test_binomial_tail_is_the_sum_of_its_terms(n, p):
    for k in range(n + 1):
        exact = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
        assert stats.binomial_cdf(k, n, p) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("stat", ["p90", "p95", "p99"])
def test_so_many_clean_requests_prove_a_percentile_and_one_fewer_does_not(stat: str) -> None:
    n, share = stats.FEWEST[stat], MISS_SHARES[stat]
    assert stats.share_bound(0, n) <= share < stats.share_bound(0, n - 1)


def test_no_error_in_480_is_still_0_62_percent():
    assert stats.share_bound(0, 480) == pytest.approx(0.0062, abs=5e-5)
    assert stats.share_floor(0, 480) == 0.0


@pytest.mark.parametrize(("n", "rank"), [(59, 59), (100, 99), (200, 196), (500, 484)])
def test_upper_bound_of_p95_is_an_order_statistic(n, rank):
    values = np.arange(1.0, n + 1)
    assert stats.quantile_with_bounds(values, 0.95).high == rank


def test_p95_is_unbounded_below_59():
    assert stats.quantile_with_bounds(np.arange(58.0), 0.95).high is None
    assert stats.quantile_with_bounds(np.empty(0), 0.95).value is None


def test_bounds_hold_as_often_as_they_say():
    rng = np.random.default_rng(3)
    true = math.exp(1.6449 * 0.5)
    held = np.mean([stats.quantile_with_bounds(rng.lognormal(0, 0.5, 150), 0.95).high >= true for _ in range(600)])
    assert 0.92 <= held <= 0.99


def test_clumped_misses_count_for_less():
    rng = np.random.default_rng(4)
    independent = (rng.random(1000) < 0.1).astype(float)
    clumped = np.repeat(rng.random(50) < 0.1, 20).astype(float)
    assert stats.effective_size(independent) > 400
    assert stats.effective_size(clumped) < 250


def test_sequential_test_is_short_and_right():
    clean = stats.Sprt(0.05)
    while clean.verdict is None:
        clean.add(0, 1)
    assert clean.verdict is True
    assert clean.n == 56
    bad = stats.Sprt(0.05)
    while bad.verdict is None:
        bad.add(1, 1)
    assert bad.verdict is False
    assert bad.n <= 8
    rng = np.random.default_rng(6)
    passed = []
    for _ in range(300):
        test = stats.Sprt(0.05)
        while test.verdict is None:
            miss = int(rng.random() < 0.10)
            test.add(miss, 1 - miss)
        passed.append(test.verdict)
    assert np.mean(passed) <= 0.05
