"""Each form is fitted exactly by itself, in the units it promises."""

from __future__ import annotations

import numpy as np
import pytest

from llmtop.analysis import fits

X = np.array([1.0, 2, 4, 8, 16, 24, 32, 48, 64])
W = np.full(9, 200.0)


def test_a_line_gives_its_parts_at_the_last_level() -> None:
    found = fits.fit_line(X, 2 + 0.5 * X, W)
    assert (found.base, found.slope, found.chi2) == pytest.approx((2.0, 32.0, 0.0), abs=1e-6)
    falling = fits.fit_line(X, 40 - 0.5 * X, W)
    assert falling.slope == 0.0, "latency does not fall with load"


@pytest.mark.parametrize("at", [3.0, 20.0, 40.0])
def test_a_hinge_gives_its_place_and_its_slopes(at: float) -> None:
    found = fits.fit_hinge(X, 2 + 0.1 * X + 0.5 * np.maximum(0, X - at), W)
    assert found.at == pytest.approx(at, rel=0.02)
    assert (found.base, found.slope, found.extra) == pytest.approx((2.0, 6.4, 32.0), rel=0.06)
    assert found.chi2 < 0.1


def test_a_fit_is_the_least_of_weighted_squares_of_logarithms() -> None:
    """No line a percent off in either part is better, whatever the weights."""
    y = (2 + 0.5 * X) * np.exp(0.3 * (-1.0) ** np.arange(9))
    w = np.where(X < 10, 400.0, 20.0)

    def chi2(base: float, slope: float) -> float:
        return float(np.sum(w * (np.log(y) - np.log(base + slope * X / 64)) ** 2))

    found = fits.fit_line(X, y, w)
    assert found.chi2 == pytest.approx(chi2(found.base, found.slope))
    for base, slope in ((1.01, 1.0), (0.99, 1.0), (1.0, 1.01), (1.0, 0.99)):
        assert chi2(base * found.base, slope * found.slope) > found.chi2


@pytest.mark.parametrize("at", [3.0, 20.0, 40.0])
def test_replicates_find_the_hinge_within_their_grid(at: float) -> None:
    y = 1 + 0.5 * np.maximum(0, X - at)
    places = fits.hinge_positions(X, np.stack([y, 7 * y], axis=1), W)
    assert places == pytest.approx(np.full(2, at), rel=0.09)


@pytest.mark.parametrize("power", fits.POWERS)
def test_a_power_gives_its_exponent(power: float) -> None:
    found = fits.fit_power(X, 2 + 3 * (X / 64) ** power, W)
    assert (found.at, found.base, found.slope) == pytest.approx((power, 2.0, 3.0), rel=1e-3)


def test_each_replicate_has_the_power_that_it_has_alone() -> None:
    y = np.stack([2 + 3 * (X / 64) ** power for power in fits.POWERS] + [9 - X / 64], axis=1)
    assert fits.fit_powers(X, y, W) == [fits.fit_power(X, each, W) for each in y.T]


@pytest.mark.parametrize("last", [1, 4, 6])
def test_a_step_gives_its_height_and_the_level_before_it(last: int) -> None:
    found = fits.fit_step(X, 2 + 0.1 * X + 5 * (np.arange(9) > last), W)
    assert found is not None
    assert found.index == last
    assert (found.base, found.slope, found.extra) == pytest.approx((2.0, 6.4, 5.0), rel=1e-3)


def test_a_step_wants_two_levels_on_either_side() -> None:
    assert fits.fit_step(X[:3], X[:3], W[:3]) is None
    assert fits.fit_step(X[:4], np.array([1.0, 1, 9, 9]), W[:4]) is not None


def test_the_best_curve_that_never_falls_pools_what_does() -> None:
    assert fits.isotonic_chi2(np.exp([1.0, 2, 3]), np.ones(3)) == 0.0
    assert fits.isotonic_chi2(np.exp([1.0, 3, 2]), np.ones(3)) == pytest.approx(0.5)
    assert fits.isotonic_chi2(np.exp([1.0, 3, 0]), np.array([1.0, 1, 2])) == pytest.approx(6.0)
    assert fits.isotonic_chi2(np.exp([1.0, 2, -2]), np.ones(3)) == pytest.approx(26 / 3), "what was pooled weighs both"


@pytest.mark.parametrize("weight", [1.0, 200.0, 1e4])
@pytest.mark.parametrize("share", [1.0, 1 / 3, 0.7])
def test_a_column_that_is_a_multiple_of_another_is_not_fitted_beside_it(weight: float, share: float) -> None:
    """Rounding leaves a determinant of 1e-16 of its scale, which solves to any figure."""
    u = X / 64
    columns = np.array([np.ones_like(u), u, share * u])
    gram = weight * np.sum(columns[:, None] * columns, axis=2)
    right = weight * np.sum(columns * (2 + 3 * u), axis=1)
    assert not fits._cramer(gram[..., None], right[:, None])[1].any()
    found = fits._nonnegative(columns[..., None], (2 + 3 * u)[:, None], np.full((9, 1), weight))
    assert columns.T @ found[:, 0] == pytest.approx(2 + 3 * u)
