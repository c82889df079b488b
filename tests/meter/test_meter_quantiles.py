"""Laws of the quantiles that are counted without numpy."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.meter import quantiles
from llmtop.meter.quantiles import BUCKETS_A_DOUBLING, bucket_ms, bucketed, quantile, quantile_of_runs

VALUES = st.lists(st.integers(0, 10**12) | st.floats(0, 1e9), min_size=1, max_size=200)
SHARES = st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0]) | st.floats(0, 1)


@given(VALUES, SHARES)
def test_a_quantile_is_numpys(values: list[float], share: float) -> None:
    expected = float(np.quantile(np.array(values, dtype=float), share))
    assert quantile(sorted(values), share) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(VALUES)
def test_the_ends_are_the_least_and_the_largest(values: list[float]) -> None:
    ordered = sorted(values)
    assert (quantile(ordered, 0.0), quantile(ordered, 1.0)) == (ordered[0], ordered[-1])


def test_between_two_values_a_quantile_is_on_the_line() -> None:
    assert quantile([10.0, 20.0], 0.25) == 12.5


@given(st.lists(st.integers(0, 10**12), max_size=200))
def test_what_lies_in_a_bucket_is_within_2_per_cent_of_its_middle(values: list[int]) -> None:
    ordered = sorted(values)
    counts = bucketed(ordered)
    assert [bucket for bucket, _ in counts] == sorted({bucket for bucket, _ in counts})
    middles = [bucket_ms(bucket) for bucket, count in counts for _ in range(count)]
    assert middles == pytest.approx([gap_ns / 1e6 for gap_ns in ordered], rel=0.0221, abs=1.1e-3)


def test_a_bucket_begins_where_it_says() -> None:
    edges_ns = [math.ceil(2 ** (bucket / BUCKETS_A_DOUBLING) * 1e3) for bucket in range(600)]
    for bucket, edge_ns in enumerate(edges_ns):
        assert bucketed([edge_ns]) == ((bucket, 1),)
        assert bucketed([edge_ns - 1]) == ((max(0, bucket - 1), 1),)


RUNS = st.lists(st.lists(st.floats(0, 50) | st.integers(0, 3), max_size=40), min_size=1, max_size=8).filter(any)


@given(RUNS, SHARES, st.sampled_from((1, 4, 256)))
def test_a_quantile_of_runs_is_to_the_digit_that_of_all_their_values(
    runs: list[list[float]], share: float, few: int
) -> None:
    runs = [sorted(run) for run in runs]
    with patch.object(quantiles, "FEW", few):
        found = quantile_of_runs(runs, share)
    assert found == quantile(sorted(value for run in runs for value in run), share)
