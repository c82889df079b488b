"""Histograms against a plain count, and the buckets of a real /metrics page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.simulator.engine import EngineStatistics, Histogram
from llmtop.simulator.engine.statistics import one_two_five


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(1, 5))))
def test_a_histogram_counts_at_or_below_each_bound(values: list[tuple[float, int]]) -> None:
    histogram = Histogram((1.0, 5.0, 25.0))
    for value, times in values:
        histogram.observe(value, times)
    flat = [value for value, times in values for _ in range(times)]
    assert histogram.cumulated() == [sum(value <= bound for value in flat) for bound in (1.0, 5.0, 25.0, 1e9)]
    assert histogram.count == len(flat)
    assert histogram.sum == pytest.approx(sum(flat))


@pytest.mark.parametrize(
    ("limit", "buckets"),
    [(1, (1,)), (2048, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)), (5000, (*one_two_five(2048), 5000))],
)
def test_token_counts_go_one_two_five(limit: int, buckets: tuple[float, ...]) -> None:
    assert one_two_five(limit) == buckets


def test_every_histogram_has_its_name_on_the_page() -> None:
    statistics = EngineStatistics(2048)
    assert len(statistics.histograms) == 14
    assert statistics.histograms["time_to_first_token_seconds"] is statistics.ttft
    assert statistics.request_preemptions.bounds == (1, 2, 3, 4, 5, 10, 20)
