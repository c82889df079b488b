"""Laws of the quantiles that are counted without numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.meter.quantiles import quantile

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
