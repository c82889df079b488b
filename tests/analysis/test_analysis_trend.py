"""What a series does: lines, steps, warm-ups and noise of known shape, and the numbers that decide between them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llmtop.analysis.trend import EDGE, trend_of
from llmtop.domain.over_time import Shape

CHANCE = 0.001
N = 50
T_S = np.arange(N) * 12.0
X = np.arange(N) / (N - 1)


def noise(seed: int, n: int = N, memory: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(n)
    values[0] /= math.sqrt(1 - memory**2)
    for i in range(1, n):
        values[i] += memory * values[i - 1]
    return values


@pytest.mark.parametrize(
    ("shape", "signal"),
    [
        ("slope", 10 * X),
        ("slope", -10 * X),
        ("step", 10.0 * (X > 0.4)),
        ("step", -10.0 * (X > 0.7)),
        ("levelling", -10 * np.exp(-X / 0.1)),
        ("levelling", 10 * np.exp(-X / 0.2)),
        ("slope", 10 * X - 20 * np.exp(-X / 0.05)),
        ("slope", 20 * np.maximum(0, X - 0.5)),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_plain_shape_is_seen_as_what_it_is(shape: Shape, signal: np.ndarray, seed: int) -> None:
    found = trend_of(T_S, 100 + signal + noise(seed), CHANCE)
    assert found is not None
    assert found.chance <= CHANCE
    assert found.shape == shape


def test_noise_is_seldom_taken_for_a_shape_however_long_its_memory() -> None:
    """Of 100 series two may be: more than the chance asked for, as so few windows tell little of a memory."""
    for memory in (0.0, 0.6):
        found = [trend_of(T_S, 100 + noise(seed, memory=memory), CHANCE) for seed in range(100)]
        assert sum(each is not None and each.chance <= CHANCE for each in found) <= 2, memory


def test_the_interval_of_a_slope_holds_the_truth() -> None:
    inside = 0
    for seed in range(120):
        found = trend_of(T_S, 100 + 20 * X + noise(seed, memory=0.3), CHANCE)
        assert found is not None
        inside += found.low <= 20 / T_S[-1] <= found.high
    assert inside / 120 >= 0.90


def test_what_would_have_been_seen_is_seen() -> None:
    calm = trend_of(T_S, 100 + noise(1), CHANCE)
    assert calm is not None
    total = calm.visible * T_S[-1]
    seen = [trend_of(T_S, 100 + total * X + noise(seed), CHANCE) for seed in range(60)]
    assert sum(each is not None and each.chance <= CHANCE for each in seen) >= 0.85 * 60
    less = [trend_of(T_S, 100 + total / 3 * X + noise(seed), CHANCE) for seed in range(60)]
    assert sum(each is not None and each.chance <= CHANCE for each in less) <= 0.3 * 60


def test_a_slope_that_begins_later_knows_when() -> None:
    found = trend_of(T_S, 100 + 0.01 * noise(0) + np.maximum(0, T_S - T_S[25]), CHANCE)
    assert found is not None
    assert found.shape == "slope"
    assert found.slope == pytest.approx(1.0, rel=0.1)
    assert found.since == pytest.approx(25, abs=2)


def test_a_step_knows_its_window_and_its_height() -> None:
    values = 100 + 0.01 * noise(0)
    values[20:] += 50
    found = trend_of(T_S, values, CHANCE)
    assert found is not None
    assert (found.shape, found.since) == ("step", 20)
    assert found.change == pytest.approx(50, abs=0.1)


@pytest.mark.parametrize(("window", "shape"), [(5, "levelling"), (6, "step")])
def test_what_steps_in_the_first_tenth_is_a_warm_up(window: int, shape: Shape) -> None:
    values = 100 + 0.1 * noise(3)
    values[:window] += 5
    found = trend_of(T_S, values, CHANCE)
    assert found is not None
    assert (found.shape, found.since) == (shape, None if shape == "levelling" else window)


def test_a_wild_window_or_two_are_no_trend() -> None:
    for at in ([30], [48, 49], [10, 40]):
        values = 100 + noise(4)
        values[at] += 60
        found = trend_of(T_S, values, CHANCE)
        assert found is not None
        assert found.chance > CHANCE, at
    assert EDGE == 3, "three at an end are a step"
    values[-3:] += 60
    found = trend_of(T_S, values, CHANCE)
    assert found is not None
    assert found.chance <= CHANCE


def test_twenty_windows_are_needed() -> None:
    assert trend_of(np.arange(19.0), np.arange(19.0), CHANCE) is None
    found = trend_of(np.arange(20.0), 100 + np.arange(20.0), CHANCE)
    assert found is not None
    assert (found.shape, found.slope) == ("slope", pytest.approx(1.0))


def test_what_never_moves_does_nothing() -> None:
    found = trend_of(T_S, np.full(N, 7.0), CHANCE)
    assert found is not None
    assert (found.shape, found.chance, found.change, found.visible) == ("none", 1.0, 0.0, 0.0)


def test_a_slope_is_not_told_as_a_step_for_a_little_noise() -> None:
    """A creep of ten standard deviations: a step in its middle fits nearly as well."""
    shapes = [trend_of(T_S, 100 + 4 * X + noise(seed), CHANCE) for seed in range(40)]
    steps = sum(each is not None and each.chance <= CHANCE and each.shape == "step" for each in shapes)
    assert steps <= 4
