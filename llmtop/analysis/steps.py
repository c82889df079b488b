"""Step functions of time: how a number that moves in steps stood over any number of windows at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmtop.analysis.fits import Array

Index = npt.NDArray[np.intp]


class StepFunction:
    """A step function of time: `values[i]` holds from `edges_s[i]` to `edges_s[i + 1]`, the last one for ever."""

    def __init__(self, edges_s: Array, values: Array) -> None:
        self.edges_s = edges_s
        self.values = values
        self._integral = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(edges_s))])
        self._low = _sparse(values, np.minimum)
        self._high = _sparse(values, np.maximum)

    @classmethod
    def of_intervals(cls, start_s: Array, stop_s: Array) -> StepFunction:
        """How many of the intervals hold at each time."""
        times = np.concatenate([start_s, stop_s])
        moves = np.concatenate([np.ones(len(start_s)), -np.ones(len(stop_s))])
        order = np.lexsort((moves, times))
        edges_s, first = np.unique(times[order], return_index=True)
        totals = np.add.reduceat(moves[order], first)
        return cls(edges_s, np.cumsum(totals))

    def at(self, t_s: Array) -> Array:
        return self.values[self._piece(t_s)]

    def mean(self, start_s: Array, stop_s: Array) -> Array:
        """Time-weighted mean over each [start, stop]; the value at `start` where the two are equal."""
        span = stop_s - start_s
        area = self._area(stop_s) - self._area(start_s)
        return np.where(span > 0, area / np.where(span > 0, span, 1.0), self.at(start_s))

    def bounds(self, start_s: Array, stop_s: Array) -> tuple[Array, Array]:
        """Smallest and largest value over each [start, stop]."""
        first, last = self._piece(start_s), self._piece(stop_s)
        power = np.frexp(last - first + 1)[1] - 1
        tail = last - (1 << power) + 1
        low = np.minimum(self._low[power, first], self._low[power, tail])
        high = np.maximum(self._high[power, first], self._high[power, tail])
        return low, high

    def _piece(self, t_s: Array) -> Index:
        return np.clip(np.searchsorted(self.edges_s, t_s, side="right") - 1, 0, len(self.edges_s) - 1)

    def _area(self, t_s: Array) -> Array:
        piece = self._piece(t_s)
        return np.asarray(self._integral[piece] + self.values[piece] * (t_s - self.edges_s[piece]))


def _sparse(values: Array, pick: np.ufunc) -> Array:
    """Sparse table: row p holds the extreme of each run of 2^p pieces."""
    rows = [values]
    size = 1
    while 2 * size <= len(values):
        before = rows[-1]
        row = before.copy()
        row[: len(values) - size] = pick(before[:-size], before[size:])
        rows.append(row)
        size *= 2
    return np.stack(rows)
