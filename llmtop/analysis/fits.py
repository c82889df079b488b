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
_PAIRS = {2: (np.array([0]), np.array([1])), 3: (np.array([0, 0, 1]), np.array([1, 2, 2]))}
"""Of so many columns, all pairs."""


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
    return fit_powers(x, y[:, None], w)[0]


def fit_powers(x: Array, y: Array, w: Array) -> list[Shape]:
    """M2 of each bootstrap replicate; `y` has the shape (levels, replicates)."""
    count, replicates = len(POWERS), y.shape[1]
    bent = np.tile((x / x[-1])[:, None] ** np.array(POWERS), replicates)
    coefficients, chi2 = _fit([np.ones_like(bent), bent], np.repeat(y, count, axis=1), w[:, None])
    best = np.argmin(chi2.reshape(replicates, count), axis=1)
    at = np.arange(replicates) * count + best
    base, slope = coefficients[:, at]
    return [Shape(float(chi2[at[j]]), float(base[j]), float(slope[j]), at=POWERS[best[j]]) for j in range(replicates)]


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
    scale = np.exp(np.mean(np.log(y), axis=0))
    y = y / scale
    log_y = np.log(y)
    f = np.broadcast_to(y, np.broadcast_shapes(y.shape, columns[-1].shape))
    parts = np.empty((len(columns), *f.shape))
    for part, column in zip(parts, columns, strict=True):
        part[:] = column
    for _ in range(_GAUSS_NEWTON_STEPS):
        target = f * (1.0 + log_y - np.log(f))
        coefficients = _nonnegative(parts, target, w / f**2)
        f = np.maximum(np.einsum("ib,inb->nb", coefficients, parts), 1e-6 * y)
    return coefficients * scale, np.sum(w * (log_y - np.log(f)) ** 2, axis=0)


def _nonnegative(columns: Array, z: Array, w: Array) -> Array:
    """Weighted least squares with coefficients >= 0: of all active sets the feasible one that explains most.

    Args:
        columns: two or three, of shape (columns, levels, batch); `z` and `w` are (levels, batch).

    Returns: coefficients, shape (columns, batch).
    """
    count, _, batch = columns.shape
    weighted = w * columns
    gram = np.einsum("inb,jnb->ijb", weighted, columns)
    right = np.einsum("inb,nb->ib", weighted, z)
    alone = np.arange(count)
    i, j = _PAIRS[count]
    pairs = count + np.arange(len(i))
    solutions = np.zeros((count + len(i) + (count == 3), count, batch))
    regular = np.empty((len(solutions), batch), dtype=bool)
    own, shared = gram[alone, alone], gram[i, j]
    solutions[alone, alone] = right / np.maximum(own, _TINY)
    regular[:count] = own > _TINY
    scale = own[i] * own[j]
    det = scale - shared**2
    regular[pairs] = det > _TINY * scale
    safe = np.where(regular[pairs], det, np.inf)
    solutions[pairs, i] = (right[i] * own[j] - right[j] * shared) / safe
    solutions[pairs, j] = (right[j] * own[i] - right[i] * shared) / safe
    if count == 3:
        solutions[-1], regular[-1] = _cramer(gram, right)
    explained = np.einsum("sib,ib->sb", solutions, right)
    feasible = regular & (explained > 0) & np.all(solutions >= 0, axis=1)
    best = np.argmax(np.where(feasible, explained, 0.0), axis=0)
    each = np.arange(batch)
    return np.where(feasible[best, each], solutions[best, :, each].T, 0.0)


def _cramer(gram: Array, right: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Solution of the 3 x 3 normal equations, and where they are regular."""
    a, b, c = gram[0]
    _, d, e = gram[1]
    f = gram[2, 2]
    c00, c01, c02 = d * f - e * e, c * e - b * f, b * e - c * d
    c11, c12, c22 = a * f - c * c, b * c - a * e, a * d - b * b
    det = a * c00 + b * c01 + c * c02
    regular = det > 1e-10 * a * d * f
    safe = np.where(regular, det, np.inf)
    r0, r1, r2 = right
    solution = (c00 * r0 + c01 * r1 + c02 * r2, c01 * r0 + c11 * r1 + c12 * r2, c02 * r0 + c12 * r1 + c22 * r2)
    return np.array(solution) / safe, regular
