"""Shape fits of a load-latency curve: hinge, step, power and straight line, all with non-negative parts.

Latency spans decades, so residuals are taken on its logarithm: chi2 = sum w (ln y - ln f)^2 with w = 1/(se^2 + TAU^2).
Each fit is four Gauss-Newton steps on f; a step is a weighted non-negative least squares over at most three columns,
solved exactly by trying every active set. All hinge positions, and all bootstrap replicates, are solved at once:
arrays carry the batch as their last axis (shape (levels, batch)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TAU = 0.07
"""Level-to-level scatter of ln y that no number of requests averages out (host noise, other tenants)."""
POWERS = (1.2, 1.5, 2.0, 2.5, 3.0)
_GAUSS_NEWTON_STEPS = 4
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Shape:
    """One fitted form: parts of y at x = x_m scaled to 1, its chi2, and where it bends."""

    chi2: float
    base: float
    slope: float
    extra: float = 0.0
    """Slope past the hinge, or height of the step."""
    at: float = 0.0
    """Hinge position or exponent."""
    index: int = 0
    """Step: the last level before it."""


def weights(se: Array) -> Array:
    """Weight of each level from the standard error of its ln y."""
    return 1.0 / (se**2 + TAU**2)


def fit_line(x: Array, y: Array, w: Array) -> Shape:
    """M0: a + b x."""
    u = x / x[-1]
    coefficients, chi2 = _fit([np.ones_like(u)[:, None], u[:, None]], y[:, None], w[:, None])
    return Shape(float(chi2[0]), float(coefficients[0, 0]), float(coefficients[1, 0]))


def fit_hinge(x: Array, y: Array, w: Array, points: int = 48) -> Shape:
    """M1: a + b x + s (x - k)+, k on a log grid between the second level and just below the last, then refined."""
    low, high = x[1], x[-2] + 0.9 * (x[-1] - x[-2])
    grid = np.geomspace(low, high, points)
    coarse = _hinges(x, y, w, grid)
    i = int(np.argmin(coarse[1]))
    fine_grid = np.geomspace(grid[max(i - 1, 0)], grid[min(i + 1, points - 1)], 13)
    coefficients, chi2 = _hinges(x, y, w, fine_grid)
    j = int(np.argmin(chi2))
    a, b, s = (float(part[j]) for part in coefficients)
    return Shape(float(chi2[j]), a, b, s, float(fine_grid[j]))


def hinge_positions(x: Array, y: Array, w: Array, points: int = 24) -> Array:
    """Best hinge of each bootstrap replicate.

    Args:
        x: levels, shape (levels,), or (levels, replicates) when they differ.
        y: latencies, shape (levels, replicates).

    Returns: hinge positions, shape (replicates,).
    """
    replicates = y.shape[1]
    low, high = x[1], x[-2] + 0.9 * (x[-1] - x[-2])
    grid = np.geomspace(low, high, points)
    k = np.tile(grid, replicates)
    u = (x / x[-1])[:, None]
    bent = np.maximum(u - k / x[-1], 0.0)
    ones = np.ones_like(bent)
    _, chi2 = _fit([ones, np.broadcast_to(u, bent.shape), bent], np.repeat(y, points, axis=1), w[:, None])
    return np.asarray(grid[np.argmin(chi2.reshape(replicates, points), axis=1)])


def fit_power(x: Array, y: Array, w: Array) -> Shape:
    """M2: a + b x^p over the exponents POWERS."""
    u = x / x[-1]
    bent = u[:, None] ** np.array(POWERS)
    coefficients, chi2 = _fit([np.ones_like(bent), bent], y[:, None], w[:, None])
    i = int(np.argmin(chi2))
    return Shape(float(chi2[i]), float(coefficients[0, i]), float(coefficients[1, i]), at=POWERS[i])


def fit_step(x: Array, y: Array, w: Array) -> Shape | None:
    """M3: a + b x + J [x > x_i] with at least two levels on each side; None with fewer than four levels."""
    last = np.arange(1, len(x) - 2)
    if len(last) == 0:
        return None
    u = x / x[-1]
    above = (np.arange(len(x))[:, None] > last).astype(np.float64)
    coefficients, chi2 = _fit(
        [np.ones_like(above), np.broadcast_to(u[:, None], above.shape), above], y[:, None], w[:, None]
    )
    j = int(np.argmin(chi2))
    a, b, height = (float(part[j]) for part in coefficients)
    return Shape(float(chi2[j]), a, b, height, index=int(last[j]))


def isotonic_chi2(y: Array, w: Array) -> float:
    """chi2 of the best non-decreasing curve through ln y (pool adjacent violators)."""
    log_y = np.log(y)
    means: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for value, mass in zip(log_y.tolist(), w.tolist(), strict=True):
        means.append(value)
        masses.append(mass)
        sizes.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            total = masses[-2] + masses[-1]
            means[-2] = (means[-2] * masses[-2] + means[-1] * masses[-1]) / total
            masses[-2] = total
            sizes[-2] += sizes[-1]
            del means[-1], masses[-1], sizes[-1]
    return float(np.sum(w * (log_y - np.repeat(means, sizes)) ** 2))


def _hinges(x: Array, y: Array, w: Array, grid: Array) -> tuple[Array, Array]:
    u = (x / x[-1])[:, None]
    bent = np.maximum(u - grid / x[-1], 0.0)
    return _fit([np.ones_like(bent), np.broadcast_to(u, bent.shape), bent], y[:, None], w[:, None])


def _fit(columns: Sequence[Array], y: Array, w: Array) -> tuple[Array, Array]:
    """Gauss-Newton on the log residuals. Returns coefficients (columns, batch) and chi2 (batch,)."""
    scale = np.exp(np.mean(np.log(y)))
    y = y / scale
    log_y = np.log(y)
    f = np.broadcast_to(y, np.broadcast_shapes(y.shape, columns[-1].shape))
    coefficients = np.zeros((len(columns), f.shape[1]))
    for _ in range(_GAUSS_NEWTON_STEPS):
        target = f * (1.0 + log_y - np.log(f))
        coefficients = _nonnegative(columns, target, w / f**2)
        f = sum((c * column for c, column in zip(coefficients, columns, strict=True)), start=np.zeros(f.shape))
        f = np.maximum(f, 1e-6 * y)
    return coefficients * scale, np.sum(w * (log_y - np.log(f)) ** 2, axis=0)


def _nonnegative(columns: Sequence[Array], z: Array, w: Array) -> Array:
    """Weighted least squares with coefficients >= 0: the best feasible of all active sets (at most three columns)."""
    count = len(columns)
    weighted = [w * column for column in columns]
    gram = {(i, j): np.sum(weighted[i] * columns[j], axis=0) for i in range(count) for j in range(i, count)}
    right = [np.sum(weighted[i] * z, axis=0) for i in range(count)]
    best = np.zeros((count, z.shape[1]))
    gain = np.zeros(z.shape[1])
    for i in range(count):
        _keep(best, gain, {i: right[i] / np.maximum(gram[i, i], _TINY)}, right, gram[i, i] > _TINY)
    for i in range(count):
        for j in range(i + 1, count):
            scale = gram[i, i] * gram[j, j]
            det = scale - gram[i, j] ** 2
            safe = np.where(det > _TINY * scale, det, np.inf)
            ci = (right[i] * gram[j, j] - right[j] * gram[i, j]) / safe
            cj = (right[j] * gram[i, i] - right[i] * gram[i, j]) / safe
            _keep(best, gain, {i: ci, j: cj}, right, np.isfinite(safe))
    if count == 3:
        _keep(best, gain, *_cramer(gram, right))
    return best


def _cramer(
    gram: dict[tuple[int, int], Array], right: list[Array]
) -> tuple[dict[int, Array], list[Array], npt.NDArray[np.bool_]]:
    """Solution of the 3 x 3 normal equations, and where they are regular."""
    a, b, c = gram[0, 0], gram[0, 1], gram[0, 2]
    d, e, f = gram[1, 1], gram[1, 2], gram[2, 2]
    c00, c01, c02 = d * f - e * e, c * e - b * f, b * e - c * d
    c11, c12, c22 = a * f - c * c, b * c - a * e, a * d - b * b
    det = a * c00 + b * c01 + c * c02
    regular = det > 1e-10 * a * d * f
    safe = np.where(regular, det, np.inf)
    r0, r1, r2 = right
    solution = {
        0: (c00 * r0 + c01 * r1 + c02 * r2) / safe,
        1: (c01 * r0 + c11 * r1 + c12 * r2) / safe,
        2: (c02 * r0 + c12 * r1 + c22 * r2) / safe,
    }
    return solution, right, regular


def _keep(
    best: Array, gain: Array, solution: dict[int, Array], right: list[Array], regular: npt.NDArray[np.bool_]
) -> None:
    """Take a solution over where it is feasible and explains more: the explained sum of squares is c . r."""
    explained = sum((c * right[i] for i, c in solution.items()), start=np.zeros_like(gain))
    better = regular & (explained > gain)
    for c in solution.values():
        better = better & (c >= 0)
    best[:, better] = 0.0
    for i, c in solution.items():
        best[i, better] = c[better]
    gain[better] = explained[better]
