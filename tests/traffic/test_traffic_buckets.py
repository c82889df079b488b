"""Lengths out of a histogram's buckets: interpolated, in order, and never outside of what the buckets say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.traffic.buckets import busiest_in, lengths_in

BOUNDS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, math.inf]


@settings(max_examples=40)
@given(
    counts=st.lists(st.floats(0, 1e9), min_size=len(BOUNDS), max_size=len(BOUNDS)).filter(lambda each: sum(each) > 1)
)
def test_percentiles_rise_and_stay_within_the_buckets(counts: list[float]) -> None:
    told = lengths_in(list(zip(BOUNDS, np.cumsum(counts).tolist(), strict=True)))
    assert told is not None
    rows = [told.p50, told.p90, told.p95, told.p99]
    assert rows == sorted(rows)
    assert 1 <= rows[0] <= rows[-1] <= 50_000 * 1.000001
    tokens = [each for _, each in told.table]
    assert tokens == sorted(tokens)
    assert sum(each.requests for each in told.histogram) == pytest.approx(sum(counts), abs=20)


def test_log_normal_lengths_are_found_within_a_bucket() -> None:
    lengths = np.random.default_rng(1).lognormal(6, 1, 200_000)
    told = lengths_in([(bound, float((lengths <= bound).sum())) for bound in BOUNDS])
    assert told is not None
    for share, found in ((0.5, told.p50), (0.9, told.p90), (0.99, told.p99)):
        assert found == pytest.approx(np.quantile(lengths, share), rel=0.15)
    assert told.mean == pytest.approx(lengths.mean(), rel=0.1)
    assert told.coarse == pytest.approx(2.5)


def test_counts_of_different_moments_do_not_fall() -> None:
    told = lengths_in([(10, 5.0), (20, 4.9), (math.inf, 10.0)])
    assert told is not None
    assert told.p50 <= 20.001
    assert told.p99 == pytest.approx(20), "what lies in the open bucket has the longest bound that there is"


@pytest.mark.parametrize(
    "buckets", [[], [(math.inf, 5.0)], [(10, 0.0), (math.inf, 0.0)], [(10, math.nan)], [(-1, 5.0)]]
)
def test_of_nothing_nothing_is_told(buckets: list[tuple[float, float]]) -> None:
    assert lengths_in(buckets) is None


def test_the_busiest_hour_is_six_windows_in_a_row_and_gaps_count_nothing() -> None:
    counts = np.array([10.0, 50, 60, math.nan, 70, 80, 90, 5, 5])
    hour = busiest_in(counts, 6)
    assert hour is not None
    assert (hour.requests, hour.begins_s, hour.rate_rps) == (350, 600.0, pytest.approx(350 / 3600))
    peak = busiest_in(counts, 1)
    assert peak is not None
    assert (peak.requests, peak.begins_s) == (90, 3600.0)
    assert busiest_in(counts, 10) is None
    assert busiest_in(np.array([29.0]), 1) is None
