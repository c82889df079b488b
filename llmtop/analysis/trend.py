"""What a figure does over time: nothing, a slope, a step, or a warm-up that levels off.

One dictionary of shapes is held against the means of equal windows: a straight line, steps at every window, slopes that
begin later, and rises that level off at several speeds. The best of them counts as seen if noise of the same memory (an
AR(1) process whose coefficient is measured from what the best shape leaves over) would seldom be fitted as well by any
shape of the dictionary: the search for the best is part of the test. Which shape it is, is decided by Schwarz's
criterion with as many observations as the memory leaves: n (1 - phi) / (1 + phi). Reference: Schwarz, Ann. Stat. 6
(1978) 461.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.steps import Index
from llmtop.domain.over_time import Shape

MIN_WINDOWS = 20
MAX_WINDOWS = 120
EDGE = 3
"""Windows on either side of a step: fewer are an outlier, which is nothing that stays."""
_SPEEDS = np.geomspace(1 / 40, 1 / 2.5, 8)
"""Time constants of a rise that levels off, as shares of the run: slower ones cannot be told from a line."""
_DRAWS = 8000
"""Of noise: a few of them lie beyond the smallest chance that is asked for."""
_WARMED = 0.1
"""What changes in the first tenth and stays is a warm-up, however sharp."""
_PLAINLY = 6.0
"""Schwarz's criterion must be so much better for what is less plain (a step, a slope that begins later or after a
warm-up) than for a line or a warm-up: strong evidence. Reference: Kass and Raftery, JASA 90 (1995) 773."""
_ONSETS = 16
_PHI_STEP = 0.1
_MAX_PHI = 0.9
_Z = 1.959964
_POWER = 1.644854
"""A slope that would have been seen: with a chance of 95 %."""
_WILD = 4.0
"""Residuals beyond so many standard deviations (by their median) are pulled in: one wild window is no trend."""


@dataclass(frozen=True, slots=True)
class Trend:
    """What a series does, in its own unit; `slope`, `low`, `high` and `visible` a second."""

    shape: Shape
    """As it was best told by; `chance` says whether that means anything."""
    chance: float
    """Of noise being fitted as well."""
    first: float
    """Of the fitted shape, at the first window."""
    last: float
    slope: float
    low: float
    high: float
    since: int | None
    """Window in which a step came, or a slope began; None: it was there from the beginning."""
    visible: float
    """The smallest slope that would have been seen, at the chance asked for."""

    @property
    def change(self) -> float:
        return self.last - self.first


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """Unit vectors orthogonal to a constant, one a row, for a number of evenly spaced windows."""

    line: Array
    steps: Array
    onsets: Array
    """Flat first, then a slope."""
    rises: Array
    beyond: Array
    """Those of `rises` less what the line explains."""

    @property
    def all(self) -> Array:
        return np.concatenate([self.line[None], self.steps, self.onsets, self.rises])


class _Fit:
    """A series without its mean, told by orthogonal unit vectors, one a row."""

    def __init__(self, shape: Shape, y: Array, rows: Array, since: int | None = None) -> None:
        self.shape, self.rows, self.since = shape, rows, since
        along = rows @ y
        ends = (rows[:, -1] - rows[:, -2]) * (len(y) - 1)
        self.values: Array = along @ rows
        self.slope = float(along @ ends)
        """At its end, a length of the series."""
        self.reach = float(np.linalg.norm(ends))
        """Of the slope, for an uncertainty of 1 along each vector."""


@lru_cache(maxsize=64)
def _shapes(n: int) -> _Shapes:
    x = np.arange(n) / (n - 1)
    line = _unit(x[None])[0]
    steps = _unit((np.arange(n) >= np.arange(EDGE, n - EDGE + 1)[:, None]).astype(float))
    onsets = _unit(np.maximum(0.0, x - x[_onsets(n)][:, None]))
    rises = _unit(-np.exp(-x / _SPEEDS[:, None]))
    return _Shapes(line, steps, onsets, rises, _unit(rises - np.outer(rises @ line, line)))


def _onsets(n: int) -> Index:
    """Windows in which a slope may begin: at so many places, and early enough to be more than an outlier."""
    return np.unique(np.linspace(_WARMED * n, n - 2 * EDGE, _ONSETS).astype(int))


def _unit(rows: Array) -> Array:
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def trend_of(t_s: Array, values: Array, chance: float) -> Trend | None:
    """What a series of at least `MIN_WINDOWS` finite values does; None for a shorter one.

    Args:
        t_s: middles of evenly spaced windows; windows without a value are left out before.
        chance: what `visible` is told for.
    """
    n = len(values)
    if n < MIN_WINDOWS:
        return None
    span_s = float(t_s[-1] - t_s[0])
    shapes = _shapes(n)
    y = _tamed(values)
    mean, y = float(y.mean()), y - y.mean()
    total = float(y @ y)
    if total <= (1e-9 * max(abs(mean), 1e-300)) ** 2 * n:
        return Trend("none", 1.0, mean, mean, 0.0, 0.0, 0.0, None, 0.0)
    phi = _memory(min((y - each.values for each in _fits(y, shapes)), key=lambda left: float(left @ left)))
    odds, wall = _odds(y, shapes, phi, chance)
    fit = _chosen(y, shapes, phi)
    left = y - fit.values
    noise = math.sqrt(max(float(left @ left), 1e-12 * total) / (n - 3) * (1 + phi) / (1 - phi))
    ends = fit if fit.shape == "slope" else _Fit("slope", y, shapes.line[None])
    slope, half = ends.slope, _Z * noise * ends.reach
    rival = math.sqrt(n * wall / (1 - wall) * (1 - phi) / (1 + phi))
    return Trend(
        shape="levelling" if fit.shape == "slope" and len(fit.rows) > 1 and abs(slope) <= half else fit.shape,
        chance=odds,
        first=mean + float(fit.values[0]),
        last=mean + float(fit.values[-1]),
        slope=slope / span_s,
        low=(slope - half) / span_s,
        high=(slope + half) / span_s,
        since=fit.since,
        visible=(rival + _POWER) * noise * float(shapes.line[-1] - shapes.line[0]) / span_s,
    )


def median_of_five(values: Array) -> Array:
    """Each value replaced by the median of the five around it; fewer than five are left as they are."""
    if len(values) < 5:
        return values
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, 5), axis=1)
    return np.asarray(medians[np.clip(np.arange(len(values)) - 2, 0, len(medians) - 1)])


def _tamed(values: Array) -> Array:
    """Values with wild ones pulled in to where they are merely far from the median of those around them."""
    values = values.astype(float)
    around = median_of_five(values)
    far = _WILD * float(np.median(np.abs(values - around))) / 0.6745
    return np.clip(values, around - far, around + far) if far > 0 else values


def _memory(left: Array) -> float:
    """AR(1) coefficient of residuals of a fit with three parameters, rounded up to a step, 0 to `_MAX_PHI`.

    Such residuals show less memory than the noise has, by about (4 + 9 phi) / n, and the fewer they are the less is
    known of it: 4 / n more is taken. By simulation: with 20 windows of a memory of 0.6 one series in fifty still seems
    to move at a chance of 0.0025, with 50 windows one in a thousand.
    """
    n, power = len(left), float(left @ left)
    if power <= 0:
        return 0.0
    raw = float(left[1:] @ left[:-1]) / power
    phi = (n * raw + 4.0) / (n - 9.0) + 4.0 / n
    return float(np.clip(math.ceil(phi / _PHI_STEP - 1e-9) * _PHI_STEP, 0.0, _MAX_PHI))


def _odds(y: Array, shapes: _Shapes, phi: float, chance: float) -> tuple[float, float]:
    """The chance of noise being fitted as well, by the line alone or by any shape: half of it is each one's.

    Also the share of variance that the line must explain to have no more than `chance`.
    """
    by_line, by_any = _null(len(y), phi)
    along = (shapes.all @ y) ** 2 / float(y @ y)
    beaten = min(np.count_nonzero(by_line >= along[0]), np.count_nonzero(by_any >= np.max(along)))
    return min(1.0, float(2 * (1 + beaten) / (1 + _DRAWS))), float(np.quantile(by_line, 1 - chance / 2))


@lru_cache(maxsize=256)
def _null(n: int, phi: float) -> tuple[Array, Array]:
    """How much of the variance of AR(1) noise the line, and the best shape, explain, by simulation."""
    rng = np.random.default_rng(n)
    noise = rng.standard_normal((n, _DRAWS), dtype=np.float32)
    noise[0] /= math.sqrt(1 - phi * phi)
    for i in range(1, n):
        noise[i] += phi * noise[i - 1]
    noise -= noise.mean(axis=0)
    noise /= np.linalg.norm(noise, axis=0)
    along = (_shapes(n).all.astype(np.float32) @ noise) ** 2
    return along[0], np.max(along, axis=0)


def _fits(y: Array, shapes: _Shapes) -> tuple[_Fit, ...]:
    """The best line, warm-up, step, slope that begins later, and slope after a warm-up."""
    k, o, j, i = (
        int(np.argmax((rows @ y) ** 2)) for rows in (shapes.steps, shapes.onsets, shapes.rises, shapes.beyond)
    )
    since = k + EDGE
    early = since <= max(EDGE, _WARMED * len(y))
    return (
        _Fit("slope", y, shapes.line[None]),
        _Fit("levelling", y, shapes.rises[j : j + 1]),
        _Fit("levelling" if early else "step", y, shapes.steps[k : k + 1], None if early else since),
        _Fit("slope", y, shapes.onsets[o : o + 1], int(_onsets(len(y))[o])),
        _Fit("slope", y, np.stack([shapes.line, shapes.beyond[i]])),
    )


def _chosen(y: Array, shapes: _Shapes, phi: float) -> _Fit:
    """The fit that is best by Schwarz's criterion."""
    size = max(4.0, len(y) * (1 - phi) / (1 + phi))
    total = float(y @ y)

    def criterion(fit: tuple[_Fit, float]) -> float:
        left = y - fit[0].values
        return size * math.log(max(float(left @ left), 1e-12 * total)) + fit[1]

    each = math.log(size)
    costs = (each, 2 * each, 2 * each + _PLAINLY, 2 * each + _PLAINLY, 3 * each + _PLAINLY)
    return min(zip(_fits(y, shapes), costs, strict=True), key=criterion)[0]
